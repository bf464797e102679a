"""Attempts of a room in mode `he`: uploads with check words, masks and envelope, the server's sum, and its opening."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray
from room import JOB, Attempt, Words, dice

from hansa.secagg.check_words import CHECK_WORDS, add_check_words, check_sum
from hansa.secagg.envelope import EnvelopeSum
from hansa.secagg.key_setup import JobKeys
from hansa.secagg.masks import HE_PRIME
from hansa.secagg.server import Summation, Unmasking

MODULI = {"update": HE_PRIME}
Bytes = NDArray[np.uint8]


@cache
def job_keys() -> JobKeys:
    """The keys of the job of these tests."""
    return JobKeys.make(JOB, dice("group key"))


def uniform(count: int, seed: int) -> Words:
    """Words of [0, p)."""
    return np.random.default_rng(seed).integers(0, HE_PRIME, size=count, dtype=np.uint32)


def total(parts: Collection[Words]) -> Words:
    """The sum modulo p."""
    found = sum(part.astype(np.uint64) for part in parts) % np.uint64(HE_PRIME)
    return np.asarray(found, dtype=np.uint32)


def closed(content: Bytes) -> Bytes:
    """Ciphertexts with the checksum that somebody computed anew."""
    return np.append(content, np.frombuffer(zlib.crc32(content.tobytes()).to_bytes(4, "little"), np.uint8))


def envelope_upload(attempt: Attempt, name: str, values: Words) -> Bytes:
    """A member's update as it leaves."""
    keys = job_keys()
    words = add_check_words(values, keys.group, attempt.order.attempt, "update", name)
    masked = attempt.members[name].mask({"update": words}, MODULI)
    return keys.envelope.encrypt(masked["update"])


def ready(attempt: Attempt, active: Collection[str]) -> Unmasking:
    """The server's last step, with the shares that it needs."""
    listed, unmasking = sorted(active), attempt.unmasking(active)
    papers = attempt.papers(listed)
    for name in listed[: attempt.room.parties.threshold]:
        unmasking.receive(name, attempt.give(name, listed, papers))
    return unmasking


def masks_off(attempt: Attempt, active: Collection[str], length: int) -> Words:
    """What takes the masks off a sum: on zeros, nothing else is there."""
    attempt.uploads = {name: {"update": np.zeros(length + CHECK_WORDS, np.uint32)} for name in active}
    summation = attempt.summation(sorted(active), MODULI)
    ready(attempt, active).unmask(summation)
    return summation.of(attempt.order.cohort)["update"]


def envelope_sum(attempt: Attempt, uploads: Mapping[str, Bytes], length: int) -> EnvelopeSum:
    """The server's sum of those uploads, masks off."""
    found = EnvelopeSum(length + CHECK_WORDS)
    for upload in uploads.values():
        found.add(upload)
    ready(attempt, uploads).unmask(Summation(attempt.order.circles, encrypted={"update": found}))
    return found


def opened_sum(attempt: int, content: Bytes, active: Collection[str], length: int) -> Words | None:
    """What a member takes a sum for; None where it says `bad-sum`."""
    keys = job_keys()
    try:
        opened = keys.envelope.decrypt(content, length + CHECK_WORDS)
    except ValueError:
        return None
    if not check_sum(opened, keys.group, attempt, "update", active):
        return None
    return opened[:-CHECK_WORDS]
