"""What the members of a job in mode `he` have and the server never: the job's keys, and the state of every round."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from hansa.clients import blind
from hansa.secagg.key_setup import JobKeys
from hansa.strategies.apply import ModelState

_KEY_BYTES = 32


@dataclass
class HeldTruth:
    """Noted where it comes into being; nothing in any other mode."""

    keys: list[JobKeys] = field(default_factory=list)
    # Every distinct state, in the order in which they came.
    states: list[ModelState] = field(default_factory=list)
    # 32 random bytes each: the group key, and what sealed the keys.
    drawn: list[bytes] = field(default_factory=list)

    def state(self, round: int) -> ModelState:
        """The newest state of that round."""
        return next(it for it in reversed(self.states) if it.round == round)


@contextmanager
def noted_by_members(truth: HeldTruth) -> Iterator[None]:
    """While this lasts, keys that a maker makes and states that a member comes to go into `truth`."""
    make, apply, draw = JobKeys.make, blind.apply, blind.os.urandom

    def made(*args: object) -> JobKeys:
        truth.keys.append(make(*args))  # type: ignore[arg-type]
        return truth.keys[-1]

    def applied(*args: object, **named: object) -> ModelState:
        state = apply(*args, **named)  # type: ignore[arg-type]
        if all(it.weights.tobytes() != state.weights.tobytes() for it in truth.states):
            truth.states.append(state)
        return state

    def drew(count: int) -> bytes:
        content = draw(count)
        if count == _KEY_BYTES:
            truth.drawn.append(content)
        return content

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(JobKeys, "make", staticmethod(made))
        patch.setattr(blind, "apply", applied)
        patch.setattr(blind, "os", SimpleNamespace(urandom=drew))
        yield
