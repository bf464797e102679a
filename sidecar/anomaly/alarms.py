"""What the watch is told and what it says: readings in, alarms out. Plain facts that go through JSON unchanged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, Literal

Severity = Literal["notice", "warning", "critical"]
Direction = Literal["up", "down"]
Kind = Literal["spike", "step", "novelty", "not-a-number"]

# Of the median absolute deviation, for the standard deviation of a normal law.
TO_SIGMA = 1.4826


@dataclass(frozen=True)
class Reading:
    """One value of one metric.

    Parameters
    ----------
    at : number of the round, or seconds since the epoch; orders the readings of a metric
    value : None where it is missing
    error : standard error of the value, in its unit; None where it is not known
    members : whom the value is about, where that is known
    """

    metric: str
    at: float
    value: float | None
    error: float | None = None
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class Alarm:
    """One alarm: what was seen where, how bad, about whom, and why.

    Parameters
    ----------
    severity : `notice` where the change is for the better, `critical` where somebody should look now
    evidence : numbers behind the decision, by name; never empty
    sentence : the evidence for people
    """

    metric: str
    at: float
    kind: Kind
    severity: Severity
    direction: Direction | None
    members: tuple[str, ...]
    sentence: str
    evidence: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """For a JSON body; numbers that JSON does not have are None."""
        numbers = {name: value if math.isfinite(value) else None for name, value in self.evidence.items()}
        return asdict(self) | {"evidence": numbers, "members": list(self.members)}


def standing_out(values: Mapping[str, float], beyond: float = 3.5) -> tuple[str, ...]:
    """Members whose value is far from the others', by robust z-score (Iglewicz and Hoaglin 1993); sorted by name.

    Parameters
    ----------
    values : one number a member; what is not finite stands out
    beyond : in standard deviations; at least four finite values are needed for a scale
    """
    finite = [value for value in values.values() if math.isfinite(value)]
    odd = {name for name, value in values.items() if not math.isfinite(value)}
    if len(finite) >= 4:
        middle = median(finite)
        scale = TO_SIGMA * median(abs(value - middle) for value in finite)
        scale = max(scale, 1e-9 * abs(middle))
        odd |= {name for name, value in values.items() if abs(value - middle) > beyond * scale}
    return tuple(sorted(odd))
