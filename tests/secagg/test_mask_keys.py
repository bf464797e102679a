"""No AES key is ever used for two things: every key that reaches the cipher in a run of many attempts is recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from math import comb

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from room import JOB, Attempt, Room, Words, make_parties

from hansa.secagg import masks, prekeys
from hansa.secagg.masks import HE_PRIME

# Modulo 2^31 + 11 every second word comes from the refill stream: of 128 words surely one.
MODULI = {"update": HE_PRIME, "evaluation": 2**32, "statistics": 2**31 + 11}
SIZES = {"update": 6, "evaluation": 6, "statistics": 128}
# `main` of each segment and `refill` of one.
STREAMS = len(SIZES) + 1


class Recorder:
    """Every key handed to a cipher, with the place where that happened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.where = ("", 0, "")
        self.used: dict[bytes, list[tuple[str, int, str]]] = {}
        self.sealed: list[bytes] = []
        monkeypatch.setattr(masks, "AES256", self._stream)
        monkeypatch.setattr(prekeys, "AESGCM", lambda key: Sealing(AESGCM(key), key, self.sealed))

    def _stream(self, key: bytes) -> AES256:
        self.used.setdefault(key, []).append(self.where)
        return AES256(key)

    @contextmanager
    def at(self, attempt: Attempt, who: str) -> Iterator[None]:
        self.where = (attempt.order.job, attempt.order.attempt, who)
        yield
        self.where = ("nowhere", 0, "")


class Sealing:
    """AES-GCM that notes the keys it encrypts with."""

    def __init__(self, cipher: AESGCM, key: bytes, sealed: list[bytes]) -> None:
        self._cipher, self._key, self._sealed = cipher, key, sealed

    def encrypt(self, nonce: bytes, data: bytes, associated: None) -> bytes:
        self._sealed.append(self._key)
        return self._cipher.encrypt(nonce, data, associated)

    def decrypt(self, nonce: bytes, data: bytes, associated: None) -> bytes:
        return self._cipher.decrypt(nonce, data, associated)


def ones() -> dict[str, Words]:
    return {segment: np.ones(size, dtype=np.uint32) for segment, size in SIZES.items()}


def run(
    recorder: Recorder, attempt: Attempt, dropped: tuple[str, ...] = (), late: tuple[str, ...] = ()
) -> None:
    """A whole attempt: `dropped` never upload, the uploads of `late` come after the active set is closed."""
    cohort = attempt.order.cohort
    for name in cohort:
        if name not in dropped:
            with recorder.at(attempt, name):
                attempt.upload(name, ones(), MODULI)
    active = [name for name in cohort if name not in dropped + late]
    summation, unmasking = attempt.summation(active, MODULI), attempt.unmasking(active)
    papers = attempt.papers(active)
    for name in active:
        unmasking.receive(name, attempt.give(name, active, papers))
    with recorder.at(attempt, "server"):
        unmasking.unmask(summation)
    for circle in unmasking.circles:
        for values in summation.of(circle).values():
            assert (values == len(set(circle) & set(active))).all()


def test_no_key_recurs_over_segments_pairs_self_masks_moduli_streams_attempts_jobs_and_groups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorder = Recorder(monkeypatch)
    room = Room(make_parties(7, audit_groups=3))
    everybody = room.parties.names
    groups = (everybody[:3], everybody[3:])
    made = 0
    secrets = 0
    for attempt, dropped, late in (
        (room.begin(1), (), ()),
        (room.begin(2), ("a",), ()),
        (room.begin(3), ("b",), ("e",)),
        (room.begin(4, cohort=everybody[1:]), ("c",), ()),
        (room.begin(1, job="cd" * 16), (), ()),
        (room.begin(2, job="cd" * 16), ("a",), ("g",)),
        (room.begin(5, groups=groups), (), ()),
        (room.begin(6, groups=groups), ("d",), ()),
    ):
        run(recorder, attempt, dropped, late)
        made += len(attempt.order.cohort)
        # A mask whose two ends never upload is not made; no case above drops two.
        for circle in attempt.order.circles:
            secrets += comb(len(circle), 2) + len(circle) - len(set(dropped) & set(circle))
    assert len(recorder.used) == secrets * STREAMS
    for places in recorder.used.values():
        assert len({(job, attempt) for job, attempt, _ in places}) == 1
        assert max(Counter(who for _, _, who in places).values()) == 1, "one party derived the key twice"
        # Two ends of a pair, and the server where it took that mask off.
        assert len({who for _, _, who in places} - {"server"}) <= 2
    assert len(recorder.sealed) == len(set(recorder.sealed)) == made * len(everybody)
    assert not set(recorder.sealed) & set(recorder.used)


def test_a_retry_of_the_same_job_and_attempt_number_after_a_restart_uses_other_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A server that forgot an attempt asks for it again under the same numbers; the prekeys are others."""
    recorder = Recorder(monkeypatch)
    for label in ("before", "after"):
        room = Room(make_parties(3), label)
        run(recorder, room.begin(1, job=JOB))
    assert len(recorder.used) == 2 * (comb(3, 2) + 3) * STREAMS


def test_the_server_opens_only_self_masks_where_nobody_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder(monkeypatch)
    run(recorder, Room(make_parties(4)).begin())
    by_server = [places for places in recorder.used.values() if "server" in {who for _, _, who in places}]
    assert len(by_server) == 4 * STREAMS
    assert all(len(places) == 2 for places in by_server)
