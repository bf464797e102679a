"""Class weights: public constants that say what a record of each class counts for in training.

A record's loss, and so its gradient, is multiplied by the weight of its class, and clipped after that: whatever the
weights, one entity moves a sum by at most the clip. Only their ratios count: the largest is taken as 1, so that the
clip, which fits unweighted gradients, does not cut the weights off again.

A weight w moves what a model is drawn to from the odds p / (1 - p) to w p / (1 - p). Because it is known, predictions
take it off again (log w from the outputs): they are probabilities of records as they are, not as they were weighted.
Source: Elkan 2001, "The foundations of cost-sensitive learning".
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from hansa.contract.errors import InputError
from hansa.contract.features import BinaryLabel, Label, MulticlassLabel
from hansa.models.losses import initial_outputs, losses, predictions, residuals

Array = NDArray[np.float64]

OPTION = "class_weights"
LEAST, MOST = 1e-3, 1e3


class Weighting:
    """A label's loss with class weights; without the option the label's own.

    Parameters
    ----------
    options : of the model; `class_weights` is [negative, positive], or one for each class in their order

    Raises
    ------
    InputError : weights for a number, too few of them, or out of range
    """

    def __init__(self, label: Label, options: Mapping[str, object]) -> None:
        self._label = label
        self._weights = None if OPTION not in options else _checked(label, options[OPTION])

    @property
    def prior(self) -> Array:
        """What weights add to the outputs of a model that has learnt them; predictions take it off. Shape [k]."""
        if self._weights is None:
            return np.zeros(len(initial_outputs(self._label)))
        # By the C library, as the start's other numbers: the same bits at every member.
        logs = np.array([math.log(it) for it in self._weights])
        found: Array = logs[1:] - logs[:1] if isinstance(self._label, BinaryLabel) else logs - logs.mean()
        return found

    def initial_outputs(self) -> Array:
        """Outputs to start from. Shape [k]."""
        return initial_outputs(self._label) + self.prior

    def predictions(self, outputs: Array) -> Array:
        """What a person reads, of raw outputs [n, k]; see `losses.predictions`."""
        return predictions(outputs if self._weights is None else outputs - self.prior, self._label)

    def residuals(self, outputs: Array, y: Array) -> Array:
        """d weighted loss / d outputs. Shape of `outputs`."""
        delta = residuals(outputs, y, self._label)
        if self._weights is not None:
            delta *= self._weights[y.astype(np.intp)][:, None]
        return delta

    def losses(self, outputs: Array, y: Array) -> Array:
        """The weighted loss of each record. Shape [n]."""
        found = losses(outputs, y, self._label)
        return found if self._weights is None else found * self._weights[y.astype(np.intp)]


def _checked(label: Label, given: object) -> Array:
    wanted = (
        2
        if isinstance(label, BinaryLabel)
        else len(label.classes)
        if isinstance(label, MulticlassLabel)
        else 0
    )
    if not wanted:
        raise InputError(f"option '{OPTION}': a number has no classes; leave it out")
    numbers = isinstance(given, list | tuple) and all(
        isinstance(it, int | float) and not isinstance(it, bool) and LEAST <= it <= MOST for it in given
    )
    if not numbers or not isinstance(given, list | tuple) or len(given) != wanted:
        order = "[negative, positive]" if isinstance(label, BinaryLabel) else "one for each class"
        raise InputError(
            f"option '{OPTION}': expected {wanted} numbers from {LEAST:g} to {MOST:g}, {order} (got {given})"
        )
    weights = np.array(given, dtype=np.float64)
    ratios: Array = weights / weights.max()
    return ratios
