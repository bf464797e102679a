"""What a job's next attempt starts from: a model, or in mode `he` what the members sealed of theirs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from hansa.contract.charter import Charter
from hansa.models.model import Model
from hansa.strategies.apply import ModelState
from hansa.strategies.blind_state import BlindState

# In mode `he` the members hold the model, the server what they sealed.
State = ModelState | BlindState


def resumed(charter: Charter, model: Model, seed: int, kept: Mapping[str, NDArray[Any]] | None) -> State:
    """The state that a checkpoint keeps; round 0 where there is none.

    Parameters
    ----------
    seed : of the public initial weights
    """
    if charter.protection.blind:
        return BlindState.start() if kept is None else BlindState.from_arrays(kept)
    return ModelState.start(model.initial(seed)) if kept is None else ModelState.from_arrays(kept)
