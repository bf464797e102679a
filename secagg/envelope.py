"""Mode `he`: an envelope of homomorphic encryption around masked words (PROTOCOL section 5).

BFV (Brakerski 2012, Fan and Vercauteren 2012) as TenSEAL has it, plaintexts modulo the prime that masks are made by,
so that a sum of ciphertexts is the ciphertext of the masked sum. The members have the key; the server, which adds
ciphertexts and takes masks off by adding plaintexts, has none.

What the envelope rests on. BFV has no circuit privacy: whoever has the key may learn from a sum's noise more than
the sum. It is safe because every plaintext under it is a uniform masked vector, of which the sum tells nothing else.
Hence `encrypt` takes `Masked` words only, which `MemberAttempt.mask` gives out.

What it does not do. Ciphertexts are malleable, and one that was damaged decrypts to some words without an error:
check words (`check_words`) tell. A change in the lower 20 of a coefficient's 54 bits is lost in the noise: the words
stay what they were. A checksum tells damage of that kind, too, on the way or in store; against a server that computes
it anew it does nothing, and need not. The noise of one upload leaves 17 bits, of 1,000 uploads 12 bits; a server
that adds a sum to itself for ever destroys it, and check words tell. Whether a member took a sum with a little more
noise says something of its key: few such answers may be had, hence the job stops after three bad sums.

    ciphertexts of `CHUNK_BYTES`, the last one padded with zeros | CRC-32 u32, little-endian
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa.secagg.ciphertexts import (
    CHUNK_BYTES,
    SLOTS,
    Decryptor,
    add_chunk,
    add_values,
    coefficients_of,
    context_with,
    encode_key,
    encrypt_chunk,
    keyless_context,
    new_context,
)
from hansa.secagg.masks import HE_PRIME, Masked

_CHECKSUM_BYTES = 4


def envelope_bytes(words: int) -> int:
    """Length of so many words in their envelope: whole ciphertexts of `SLOTS` words, and a checksum."""
    return -(-words // SLOTS) * CHUNK_BYTES + _CHECKSUM_BYTES


class Envelope:
    """The secret key of one job at a member. Made once per job: a context takes some 10 ms."""

    def __init__(self, context: Any) -> None:
        self._context = context

    @classmethod
    def new(cls) -> Envelope:
        """A new key, from the operating system's generator: TenSEAL takes no other randomness."""
        return cls(new_context())

    @classmethod
    def load(cls, key: bytes) -> Envelope:
        """The envelope of an encoded key; raises `ValueError` for bytes that are none."""
        return cls(context_with(key))

    def noise_budget(self, content: NDArray[np.uint8]) -> int:
        """Bits of noise that the fullest ciphertext has room for; at 0 it may decrypt to other words."""
        decryptor = Decryptor(self._context)
        return min(decryptor.noise_budget(chunk) for chunk in _chunks(content))

    @property
    def key(self) -> bytes:
        """The secret key, encoded: `ciphertexts.KEY_BYTES`."""
        return encode_key(self._context)

    def encrypt(self, masked: Masked) -> NDArray[np.uint8]:
        """Masked words modulo p in their envelope. Shape (envelope_bytes(d),).

        Raises
        ------
        ValueError : words that were not masked modulo p
        """
        if masked.modulus != HE_PRIME:
            raise ValueError(f"the envelope is for words modulo {HE_PRIME}, not {masked.modulus}")
        content = np.empty(envelope_bytes(masked.words.size), dtype=np.uint8)
        for chunk, words in zip(_chunks(content), _slots(masked.words), strict=True):
            chunk[:] = encrypt_chunk(self._context, _centred(words))
        return _closed(content)

    def decrypt(self, content: NDArray[np.uint8], words: int) -> NDArray[np.uint32]:
        """So many words modulo p out of their envelope. Shape (words,).

        Raises
        ------
        ValueError : not as long as that many words, damaged, or no ciphertexts
        """
        _check(content, words)
        decryptor, opened = Decryptor(self._context), np.empty(words, dtype=np.uint32)
        for chunk, part in zip(_chunks(content), _slots(opened), strict=True):
            part[:] = decryptor.words(chunk)[: part.size]
        return opened


class EnvelopeSum:
    """A sum of uploads in their envelopes, at the server: without any key, and never more than the sum kept.

    Parameters
    ----------
    words : in each upload
    """

    def __init__(self, words: int) -> None:
        self.words = words
        self._content: NDArray[np.uint8] | None = None

    @property
    def content(self) -> NDArray[np.uint8]:
        """The sum as it travels; raises `ValueError` where there is none."""
        if self._content is None:
            raise ValueError("no upload is in the sum")
        return _closed(self._content)

    def add(self, upload: NDArray[np.uint8]) -> None:
        """Take one upload, or nothing of it.

        Raises
        ------
        ValueError : of another length than the sum's words have, damaged, or no ciphertexts
        """
        _check(upload, self.words)
        for chunk in _chunks(upload):
            coefficients_of(chunk)
        if self._content is None:
            self._content = upload.copy()
            return
        for total, chunk in zip(_chunks(self._content), _chunks(upload), strict=True):
            add_chunk(total, chunk)

    def add_words(self, words: NDArray[np.uint32]) -> None:
        """Add words modulo p that are not encrypted: so `Unmasking.unmask` takes masks off. Shape (words,).

        Raises
        ------
        ValueError : of another shape, or not below p; or a sum that SEAL does not take, whose masks stay then
        """
        if words.shape != (self.words,) or (words.size and int(words.max()) >= HE_PRIME):
            raise ValueError(f"not {self.words} words below {HE_PRIME}")
        context, content = keyless_context(), self.content
        for chunk, part in zip(_chunks(content), _slots(words), strict=True):
            chunk[:] = add_values(context, chunk, _centred(part))


def _check(content: NDArray[np.uint8], words: int) -> None:
    if content.dtype != np.uint8 or content.shape != (envelope_bytes(words),):
        raise ValueError(f"{content.size} bytes of ciphertexts; {words} words have {envelope_bytes(words)}")
    if bytes(content[-_CHECKSUM_BYTES:]) != _checksum(content):
        raise ValueError("the ciphertexts were damaged: their checksum is another one")


def _closed(content: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Ciphertexts with their checksum, written in place."""
    content[-_CHECKSUM_BYTES:] = np.frombuffer(_checksum(content), np.uint8)
    return content


def _checksum(content: NDArray[np.uint8]) -> bytes:
    return zlib.crc32(content[:-_CHECKSUM_BYTES].data).to_bytes(_CHECKSUM_BYTES, "little")


def _chunks(content: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, content.size - _CHECKSUM_BYTES, CHUNK_BYTES):
        yield content[start : start + CHUNK_BYTES]


def _slots(words: NDArray[np.uint32]) -> Iterator[NDArray[np.uint32]]:
    for start in range(0, words.size, SLOTS):
        yield words[start : start + SLOTS]


def _centred(words: NDArray[np.uint32]) -> list[int]:
    """Words of [0, p), and zeros behind the last of them, as integers between -p/2 and p/2: so TenSEAL wants them."""
    values = np.zeros(SLOTS, dtype=np.int64)
    values[: words.size] = words
    values -= (values > HE_PRIME // 2) * HE_PRIME
    listed: list[int] = values.tolist()
    return listed
