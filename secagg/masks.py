"""Masks: streams of words modulo m that two members, or one member and its seed, derive alike (PROTOCOL section 3).

Every mask has an AES-256-CTR key of its own, from its secret, both prekeys, the segment, the modulus
and the stream's purpose; the counter starts at 0 and is never continued.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from hansa.contract.messages import PROTOCOL
from hansa.contract.segments import HE_PRIME as HE_PRIME
from hansa.contract.typed import canonical_json
from hansa.secagg.fixed_point import MODULUS, add_words, subtract_words
from hansa.secagg.prekeys import Prekey

_KEY_BYTES = 32
# Words worked on at a time: the sum's part, the stream's part and the cipher stay in the processor's cache.
_CHUNK = 32_768
_PAIR_DOMAIN = b"hansa/pair/1\x00"
_MASK_DOMAIN = b"hansa/mask/1\x00"
_ZEROS = bytes(4 * _CHUNK)


@dataclass(frozen=True)
class MaskSecret:
    """A secret that masks come from: a pair's key or a member's seed, with the prekeys it belongs to.

    Parameters
    ----------
    secret : a pair key (32 bytes) or a self-mask seed (31 bytes)
    prekeys : ids of the two prekeys, the lower member's first; twice the same for a self mask
    """

    secret: bytes = field(repr=False)
    prekeys: tuple[bytes, bytes]

    def key(self, segment: str, modulus: int, stream: str, protocol: int = PROTOCOL) -> bytes:
        """The AES key of one stream, `main` or `refill`, of one segment's mask. 32 bytes."""
        info = _MASK_DOMAIN + canonical_json(
            [protocol, self.prekeys[0].hex(), self.prekeys[1].hex(), segment, modulus, stream]
        )
        return HKDF(SHA256(), _KEY_BYTES, salt=None, info=info).derive(self.secret)

    def words(self, segment: str, modulus: int) -> Words:
        """The mask of one segment, from its first word."""
        return Words(self, segment, modulus)


@dataclass(frozen=True)
class Masked:
    """Words under masks modulo m. What may be done with masked words only takes them in this form.

    Whoever makes one says that its words are uniform to anybody without the masks: `MemberAttempt.mask` does.
    """

    words: NDArray[np.uint32] = field(repr=False)
    modulus: int


class StreamKeys(Protocol):
    """Gives each stream of words its key."""

    def key(self, segment: str, modulus: int, stream: str) -> bytes:
        """The AES key of one stream. 32 bytes."""
        ...


class Words:
    """Uniform words of [0, m), in order. For m below 2^32 by rejection: see PROTOCOL section 3."""

    def __init__(self, secret: StreamKeys, segment: str, modulus: int) -> None:
        if not 2**31 < modulus <= MODULUS:
            raise ValueError(f"masks are made modulo 2^31 < m <= 2^32, not {modulus}")
        self._secret, self._segment, self._modulus = secret, segment, modulus
        self._main = _Keystream(secret.key(segment, modulus, "main"))
        self._refill: _Keystream | None = None

    def next(self, count: int, room: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """The next `count` words, at most a chunk, written into `room` (see `new_room`). Shape (count,)."""
        words = self._main.into(room, count)
        if self._modulus == MODULUS:
            return words
        rejected = np.flatnonzero(words >= self._modulus)
        if rejected.size:
            words[rejected] = self._accepted(rejected.size)
        return words

    def _accepted(self, count: int) -> NDArray[np.uint32]:
        """Words of the refill stream below m, one after the other."""
        if self._refill is None:
            self._refill = _Keystream(self._secret.key(self._segment, self._modulus, "refill"))
        accepted = np.empty(count, dtype="<u4")
        found = 0
        word = new_room(1)
        while found < count:
            value = self._refill.into(word, 1)[0]
            if value < self._modulus:
                accepted[found] = value
                found += 1
        return accepted


def new_room(words: int = _CHUNK) -> NDArray[np.uint32]:
    """Room for words of a stream: the cipher wants one block more than it writes."""
    return np.empty(words + 4, dtype="<u4")


def pair_secret(
    mine: X25519PrivateKey,
    my_prekey: Prekey,
    peer: Prekey,
    *,
    job: str,
    attempt: int,
    circle: Sequence[str],
    names: Sequence[str],
) -> MaskSecret:
    """The key of two members in one attempt, the same from either side.

    Parameters
    ----------
    circle : members that mask with each other: the order's cohort, or one group of it
    names : the charter's members, by index

    Raises
    ------
    ValueError : the peer's public key is one of the few that give the same secret with every key
    """
    shared = mine.exchange(X25519PublicKey.from_public_bytes(peer.public))
    low, high = sorted((my_prekey, peer), key=lambda prekey: names[prekey.maker])
    together = hashlib.sha256(canonical_json(sorted(circle))).hexdigest()
    info = _PAIR_DOMAIN + canonical_json([job, attempt, names[low.maker], names[high.maker], together])
    return MaskSecret(HKDF(SHA256(), 32, salt=None, info=info).derive(shared), (low.id, high.id))


def pair_sign(me: str, peer: str) -> int:
    """Of two members the lower name adds the pair's mask, the higher subtracts it."""
    return 1 if me < peer else -1


def self_secret(seed: bytes, prekey: Prekey) -> MaskSecret:
    """A member's self mask, from the seed of the prekey it uses in this attempt."""
    return MaskSecret(seed, (prekey.id, prekey.id))


def add_masks(
    values: NDArray[np.uint32], masks: Sequence[tuple[MaskSecret, int]], segment: str, modulus: int = MODULUS
) -> None:
    """values += sum of sign * mask modulo m, in place. Each sign is +1 or -1. Shape (d,)."""
    streams = [(secret.words(segment, modulus), sign) for secret, sign in masks]
    room = new_room()
    for start in range(0, values.size, _CHUNK):
        part = values[start : start + _CHUNK]
        for words, sign in streams:
            _add(part, words.next(part.size, room), sign, modulus)


def _add(part: NDArray[np.uint32], words: NDArray[np.uint32], sign: int, modulus: int) -> None:
    if modulus == MODULUS:
        # uint32 wraps at 2^32 by itself
        (np.add if sign > 0 else np.subtract)(part, words, out=part)
        return
    (add_words if sign > 0 else subtract_words)(part, words, modulus)


class _Keystream:
    """AES-256-CTR over zeros."""

    def __init__(self, key: bytes) -> None:
        self._encryptor = Cipher(AES256(key), CTR(bytes(16))).encryptor()

    def into(self, buffer: NDArray[np.uint32], count: int) -> NDArray[np.uint32]:
        """The next `count` words, little-endian, written to the buffer's beginning."""
        if count > _CHUNK:
            raise ValueError(f"{count} words at once; a chunk has {_CHUNK}")
        self._encryptor.update_into(memoryview(_ZEROS)[: 4 * count], buffer.data.cast("B"))
        return buffer[:count]
