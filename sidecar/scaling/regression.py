"""Recursive least squares with forgetting: a linear forecast that learns from one sample at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from .packed import Floats, packed, unpacked

# A sample counts half after 1,400 later ones: five days at five minutes.
FORGETTING = 0.9995
# Forgetting without news makes the matrix grow; above this mean of its diagonal it is halved.
_LARGEST = 1e4


class Regression:
    """Weights of a linear forecast (Ljung, System Identification, section 11.2).

    Parameters
    ----------
    weights : to start from, shape (features,)
    """

    def __init__(self, weights: Floats) -> None:
        self.weights = weights.astype(np.float64)
        self._inverse: Floats = np.eye(len(weights))

    def predict(self, features: Floats) -> float:
        """The forecast from features of shape (features,)."""
        return float(features @ self.weights)

    def learn(self, features: Floats, error: float) -> None:
        """Take in by how much the truth exceeded the forecast that the present weights make from these features."""
        reach = self._inverse @ features
        gain = reach / (FORGETTING + features @ reach)
        self.weights = self.weights + gain * error
        self._inverse = (self._inverse - gain[:, None] * reach) / FORGETTING
        if self._inverse.trace() > _LARGEST * len(self.weights):
            self._inverse *= 0.5

    def state(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return {"weights": packed(self.weights), "inverse": packed(self._inverse.ravel())}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Regression:
        """What `state` gave."""
        found = cls(unpacked(state["weights"]))
        found._inverse = unpacked(state["inverse"]).reshape(len(found.weights), -1)
        return found
