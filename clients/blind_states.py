"""A model state as bytes: what members keep, seal for each other, and tag."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from hansa.contract.errors import RefusalError
from hansa.strategies.apply import ModelState

_NUMBERS = ("weights", "first", "second", "tail")


def state_bytes(state: ModelState) -> bytes:
    """A state's arrays; those that are nothing but zero bits are left out."""
    arrays = state.arrays()
    return save({name: np.ascontiguousarray(it) for name, it in arrays.items() if it.view(np.uint8).any()})


def read_state(content: bytes, parameters: int) -> ModelState:
    """What `state_bytes` wrote.

    Parameters
    ----------
    parameters : coordinates of the charter's model

    Raises
    ------
    RefusalError : `bad-size`, not the state of such a model
    """
    try:
        found = load(content)
    except (SafetensorError, ValueError, KeyError):
        raise RefusalError("bad-size", "a sealed state holds no arrays") from None
    zero: dict[str, NDArray[Any]] = {name: np.zeros(parameters) for name in _NUMBERS}
    zero |= {name: np.zeros(1, dtype=np.int64) for name in ("round", "tail_count")}
    wrong = set(found) - set(zero) - {"preparation"}
    wrong |= {
        name
        for name, array in found.items()
        if name in zero and (array.shape, array.dtype) != (zero[name].shape, zero[name].dtype)
    }
    beside = found.get("preparation")
    if wrong or (beside is not None and (beside.ndim != 1 or beside.dtype != np.float64)):
        raise RefusalError("bad-size", "a sealed state is not one of the charter's model")
    return ModelState.from_arrays({**zero, **found})


def state_digest(state: ModelState) -> bytes:
    """SHA-256 over every bit of a state, in one order; what a tag is made of."""
    hashed = hashlib.sha256(b"hansa/state/1\x00")
    for name in ("round", *_NUMBERS, "tail_count", "preparation"):
        array = np.ascontiguousarray(state.arrays().get(name, np.zeros(0)))
        hashed.update(f"{name} {array.dtype.str} {array.size}\x00".encode())
        hashed.update(array.tobytes())
    return hashed.digest()
