"""What the server says of a job, as recovery reads it: rounds that stand, failed attempts, and where it stands."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

FailureKind = Literal["not-finite", "dropped", "other"]

# Figures that are looked at, whatever the label is; first found counts.
LOSSES, SCORES = ("log_loss", "rmse"), ("auc", "accuracy")


@dataclass(frozen=True)
class Figure:
    """A released figure; `error` is its standard error, None where no noise was added.

    `name` says which figure it is, so that an AUC is compared with none but another.
    """

    value: float
    error: float | None = None
    name: str = ""


@dataclass(frozen=True)
class RoundFact:
    """A round that stands.

    Parameters
    ----------
    attempt : the one that became this round; rises for ever, while a round's number comes again after going back
    loss, score : of the model after the round; None where it was not evaluated, or noise hides the figure
    rate : the server's rate in that attempt, where it is known
    step : how far the round moved the weights, Euclidean
    slope : squared length of the mean gradient at the model before the round, what noise adds taken off, with its error
        (`slope_of`). Both are functions of noised sums, so they tell nothing new, and are known in rounds without
        evaluation too; None where the server sees no sums (`he`)
    """

    round: int
    attempt: int
    loss: Figure | None = None
    score: Figure | None = None
    rate: float | None = None
    step: float | None = None
    slope: Figure | None = None

    @property
    def judged(self) -> bool:
        """Whether anything is known by which a round could have gone wrong."""
        return self.loss is not None or self.step is not None or self.slope is not None


@dataclass(frozen=True)
class FailedAttempt:
    """An attempt that became no round: a model with values that are not finite, one that a probe dropped, another."""

    attempt: int
    kind: FailureKind
    rate: float | None = None


@dataclass(frozen=True)
class Seen:
    """What the server says of a job now.

    Parameters
    ----------
    rounds : rounds that stand, 40 of the newest are enough; round 0 as attempt 0 where it was evaluated
    failures : failed attempts, in any order
    kept : rounds whose states can be gone back to
    rate : the server's rate of the next attempt; None where nobody may move it
    low : least that the charter lets it be
    status : the job's, as `contract.jobs.JobStatus` has it
    """

    rounds: tuple[RoundFact, ...]
    failures: tuple[FailedAttempt, ...] = ()
    kept: tuple[int, ...] = ()
    rate: float | None = None
    low: float = 0.0
    status: str = "running"

    @property
    def newest(self) -> int:
        """The newest attempt that is over."""
        return max((*(it.attempt for it in self.rounds), *(it.attempt for it in self.failures)), default=0)


def slope_of(square: float, noise: float, length: int) -> Figure:
    """What a noised mean update says of the gradient's squared length.

    Parameters
    ----------
    square : its own squared length
    noise, length : standard deviation of the noise on each of so many coordinates
    """
    value = square - length * noise**2
    error = noise * math.sqrt(2.0 * length * noise**2 + 4.0 * max(value, 0.0))
    return Figure(value, error if noise > 0 else None)


def figures_of(metrics: Mapping[str, Figure]) -> tuple[Figure | None, Figure | None]:
    """Loss and score among a round's figures."""
    loss = next((metrics[name] for name in LOSSES if name in metrics), None)
    return loss, next((metrics[name] for name in SCORES if name in metrics), None)


def in_order(seen: Seen) -> Seen:
    """Rounds rising, each once however often it was read."""
    known: dict[int, RoundFact] = {}
    for it in sorted(seen.rounds, key=lambda it: (it.round, it.attempt)):
        other = known.get(it.attempt)
        known[it.attempt] = it if other is None or other.loss is None else other
    return replace(seen, rounds=tuple(known.values()))
