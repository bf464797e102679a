"""What the tuner decides: plain facts with a key, so that the same decision is never made twice."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class KnobState:
    """One knob: its value in force, the charter's range, and whether a person holds it."""

    name: str
    value: float
    low: float
    high: float
    pinned: bool = False

    def at(self, value: float) -> float:
        """The value, moved into the range; the one in force where the value is no number."""
        return min(max(value, self.low), self.high) if math.isfinite(value) else self.value


@dataclass(frozen=True)
class Decision:
    """One knob gets a value after a round, or a probe is asked for.

    Parameters
    ----------
    round : the last round whose figures it was made from
    value : None where nothing is set and a probe is asked for
    sentence : why, for people
    inputs : the numbers behind it, by name
    """

    job: str
    round: int
    knob: str
    by: str
    value: float | None
    sentence: str
    inputs: Mapping[str, float] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Job, round and knob: there is one decision of each."""
        return f"{self.job}/{self.round}/{self.knob}"

    def as_json(self) -> dict[str, Any]:
        """For a JSON body; numbers that JSON does not have are None."""
        numbers = {name: value if math.isfinite(value) else None for name, value in self.inputs.items()}
        return asdict(self) | {"key": self.key, "inputs": numbers}


def decided(decision: Decision | None, keys: Collection[str], knob: KnobState) -> Decision | None:
    """The decision, where it may still be made: its key is new, the knob is not pinned, and something changes."""
    if decision is None or decision.key in keys or knob.pinned:
        return None
    return None if decision.value == knob.value else decision
