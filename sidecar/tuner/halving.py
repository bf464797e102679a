"""Successive halving (Jamieson and Talwalkar 2016, 1502.07943) over values of a knob, from evaluations due anyway.

Values take turns, one segment of rounds between two evaluations each; when all that are left had as many turns, the
better half goes on. The fall-back where nobody may probe: it costs no evaluation, only rounds at values that lose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from .decisions import Decision, KnobState


@dataclass(frozen=True)
class Segment:
    """Rounds at one value, between two evaluations.

    Parameters
    ----------
    end : the last of its rounds
    before, after : loss at its ends, lower is better; `after` not finite where the model broke
    error : standard error of their difference
    """

    value: float
    end: int
    rounds: int
    before: float
    after: float
    error: float = 0.0

    @property
    def gain(self) -> float:
        """By how much the loss fell a round."""
        return (self.before - self.after) / self.rounds if math.isfinite(self.after) else -math.inf


def halve(job: str, values: Sequence[float], segments: Sequence[Segment], knob: KnobState) -> Decision | None:
    """Which value the next segment is at; None where the knob is pinned or stays, or there is nothing to choose.

    Parameters
    ----------
    values : candidates within the range, the first one's turn comes first; others are moved into it
    segments : so far, in order; those of other values are passed over
    """
    alive = list(dict.fromkeys(knob.at(it) for it in values))
    if knob.pinned or not alive:
        return None
    left, rung = [it for it in segments if it.value in alive], 0
    while len(alive) > 1:
        turns = {value: [it for it in left if it.value == value] for value in alive}
        waiting = [value for value in alive if len(turns[value]) <= rung]
        if waiting:
            return _decision(job, segments, knob, waiting[0], f"turn {rung + 1} of {len(alive)} values")
        gains = {value: _gain(turns[value]) for value in alive}
        order = sorted(alive, key=lambda value: (-gains[value], alive.index(value)))
        alive = [value for value in alive if value in order[: math.ceil(len(alive) / 2)]]
        rung += 1
    return _decision(
        job, segments, knob, alive[0], f"the best of {len(values)} values after {rung} turns each"
    )


def _gain(turns: Sequence[Segment]) -> float:
    """Mean of all turns, those with small errors first."""
    if any(math.isinf(it.gain) for it in turns):
        return -math.inf
    weights = [1.0 / (it.error / it.rounds) ** 2 if it.error > 0 else 1.0 for it in turns]
    return math.fsum(w * it.gain for w, it in zip(weights, turns, strict=True)) / math.fsum(weights)


def _decision(
    job: str, segments: Sequence[Segment], knob: KnobState, value: float, why: str
) -> Decision | None:
    if value == knob.value:
        return None
    return Decision(
        job=job,
        round=segments[-1].end if segments else 0,
        knob=knob.name,
        by="halving",
        value=value,
        sentence=f"{why}: {knob.name} {knob.value:.3g} -> {value:.3g}",
        inputs={f"gain at {it.value:.3g} up to round {it.end}": it.gain for it in segments[-9:]},
    )
