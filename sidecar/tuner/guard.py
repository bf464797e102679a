"""The guard: a loss that rises beyond its noise asks for a probe.

As a policy a trend is too slow, so that it sets nothing: the probe that it asks for does.
"""

from __future__ import annotations

from collections.abc import Sequence

from hansa.sidecar.anomaly.alarms import Reading

from .decisions import Decision
from .trends import trend

# A loss must be this sure to rise, over this many evaluations: one false probe in several thousand.
SURE, WINDOW = 0.9995, 6
# Rounds in which no second probe is asked for.
REST = 5


def guard(job: str, losses: Sequence[Reading], knob: str, *, asked: Sequence[int] = ()) -> Decision | None:
    """A probe, where the loss rises; None where it does not, or one was asked for a short while ago.

    Parameters
    ----------
    losses : of the evaluated rounds, lower is better
    asked : rounds at which a probe was asked for already
    """
    found = trend(losses, window=WINDOW)
    if found.direction != "rising" or found.confidence < SURE:
        return None
    last = max(int(it.at) for it in losses if it.value is not None)
    if any(last - REST < it <= last for it in asked):
        return None
    return Decision(
        job=job,
        round=last,
        knob=knob,
        by="guard",
        value=None,
        sentence=f"the loss is {found.sentence}: a probe is asked for",
        inputs={"slope": found.slope, "error": found.error, "confidence": found.confidence},
    )
