"""A job's state at the server in mode `he`: its round, its tag, and copies that members sealed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
# Bytes of a sealed state beyond its numbers: names, shapes, nonce and tag.
_ROOM = 4096


def largest_sealed_state(parameters: int, preparation: int) -> int:
    """Bytes of the largest sealed state: weights, two moments and their mean, so long a preparation beside them."""
    return 8 * (4 * parameters + preparation) + _ROOM


@dataclass(frozen=True)
class BlindState:
    """What members hold between two rounds, as the server knows it.

    Parameters
    ----------
    round : applied updates
    tag : HMAC of the state under the members' group key; empty before round 1, when it is public
    sealed : copies of the state, each sealed by another member, u8
    preparation : what the contract check made of the columns, f64; known to everybody
    """

    round: int
    tag: str = ""
    sealed: tuple[Array, ...] = ()
    preparation: Array = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def start(cls, preparation: Array | None = None) -> BlindState:
        """Round 0: every member makes it from the plan and the preparation."""
        return cls(0, preparation=np.zeros(0) if preparation is None else preparation)

    @property
    def prepared(self) -> bool:
        """Whether the contract check is behind this state."""
        return self.preparation.size > 0

    def followed_by(self, tag: str, sealed: tuple[Array, ...]) -> BlindState:
        """The state of the next round."""
        return replace(self, round=self.round + 1, tag=tag, sealed=sealed)

    def arrays(self) -> dict[str, Array]:
        """Flat arrays for a checkpoint: nothing of the model is in them."""
        found: dict[str, Array] = {"round": np.array([self.round], dtype=np.int64)}
        if self.prepared:
            found["preparation"] = self.preparation
        found["sealed-tag"] = np.frombuffer(bytes.fromhex(self.tag), dtype=np.uint8)
        for number, copy in enumerate(self.sealed):
            found[f"sealed-{number}"] = copy
        return found

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array]) -> BlindState:
        """What `arrays` wrote; older checkpoints hold copies of the round before, too, which nothing needs."""
        copies = sum(name.startswith("sealed-") for name in arrays) - 1
        return cls(
            round=int(arrays["round"][0]),
            tag=np.asarray(arrays["sealed-tag"], dtype=np.uint8).tobytes().hex(),
            sealed=tuple(np.asarray(arrays[f"sealed-{number}"], dtype=np.uint8) for number in range(copies)),
            preparation=np.asarray(arrays.get("preparation", np.zeros(0)), dtype=np.float64),
        )
