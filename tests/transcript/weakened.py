"""Builds with one protection taken out, by patching the real code. An attacker worth the name wins against each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
from numpy.typing import NDArray

from hansa.clients import membership
from hansa.clients.attempt_log import AttemptLog
from hansa.contract.messages import Receipt
from hansa.secagg import masks, member, prekeys, server
from hansa.secagg.masks import MaskSecret
from hansa.secagg.member import MemberAttempt
from hansa.secagg.prekeys import SEED_BYTES

Randomness = Callable[[int], bytes]


@contextmanager
def no_self_masks() -> Iterator[None]:
    """Uploads carry the masks of pairs alone."""

    def add(
        values: NDArray,
        secrets: Sequence[tuple[MaskSecret, int]],
        *place: object,  # type: ignore[type-arg]
    ) -> None:
        pairs = [(secret, sign) for secret, sign in secrets if secret.prekeys[0] != secret.prekeys[1]]
        masks.add_masks(values, pairs, *place)  # type: ignore[arg-type]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(member, "add_masks", add)
        patch.setattr(server, "add_masks", add)
        yield


@contextmanager
def no_agreement() -> Iterator[None]:
    """Members give shares for any active set, signed by nobody, as often as they are asked."""
    give = MemberAttempt.give

    def forgetful(
        self: MemberAttempt,
        active: Sequence[str],
        dropped: Sequence[str],
        *,
        receipts: Mapping[str, Receipt],
        signatures: Mapping[str, str],
    ) -> dict[str, bytes]:
        held, self.state, self._active = dict(self._shares), "uploaded", frozenset()
        given = give(self, active, dropped, receipts=receipts, signatures=signatures)
        self._shares = held
        return given

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(member, "check_signatures", lambda *_: None)
        patch.setattr(MemberAttempt, "give", forgetful)
        patch.setattr(AttemptLog, "agree", lambda *_: True)
        yield


@contextmanager
def one_shared_key() -> Iterator[None]:
    """Every prekey of every member has the same secret key."""
    scalar = prekeys._scalar(os.urandom)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prekeys, "_scalar", lambda _: scalar)
        yield


@contextmanager
def seeds_from(seed: Callable[[], bytes]) -> Iterator[None]:
    """Self-mask seeds come from there instead of the operating system's generator."""

    def randomness(count: int) -> bytes:
        return seed() if count == SEED_BYTES else os.urandom(count)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(membership, "os", SimpleNamespace(urandom=randomness))
        yield


def short_seed() -> bytes:
    """16 random bits."""
    return os.urandom(2) + bytes(SEED_BYTES - 2)
