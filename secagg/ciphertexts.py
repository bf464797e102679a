"""TenSEAL at its edge: BFV under one fixed set of parameters, ciphertexts and keys as bytes of one length.

A ciphertext here is two polynomials of 4096 coefficients below q, 7 bytes for each: 57,344 bytes, 14 for each slot.
What TenSEAL writes itself is a protocol buffer around a compressed stream with further headers, compressed once more
if they say so, in it: 60 KB may ask for gigabytes, and other parameters, a third polynomial or an empty one are a
matter of a few bytes. So what SEAL wrote here is taken apart, only coefficients travel, and SEAL reads from others
nothing but coefficients that were found to be below q, within headers that were made here. The sizes are known before
a byte is looked at, and nothing that comes in is ever decompressed.

A key is encoded in the same way: one polynomial, modulo q and modulo a second prime that SEAL wants for keys.

Encryption is symmetric, under the secret key, which every member has: half the time and a quarter of the noise of
encryption under a public key, no public key that would have to be agreed on, and nothing is ever published under
the larger modulus of keys: 54 bits with polynomials of 4096, where 128 bits of security allow 109.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import tenseal
import tenseal.sealapi as sealapi
import zstandard
from numpy.typing import NDArray

from hansa.secagg.masks import HE_PRIME

# Plaintext words in one ciphertext.
SLOTS = 4096
# A ciphertext: 2 polynomials. A key: 1 polynomial modulo 2 primes.
CHUNK_BYTES = 2 * SLOTS * 7
KEY_BYTES = CHUNK_BYTES

# q, and the second prime that only keys have: what SEAL chooses for [54, 54] bits and polynomials of 4096.
_PRIMES = (0x3FFFFFFFFD2001, 0x3FFFFFFFFD6001)
_BITS = 54
_SEVEN_BYTES = np.uint64(2**56 - 1)
_COEFFICIENTS = 2 * SLOTS
_RAW_BYTES = 8 * _COEFFICIENTS
# SEAL writes: magic, own size, version, compression, nothing, and the size of all.
_HEADER_BYTES, _COMPRESSION, _STATED = 16, 5, slice(8, 16)
_SEAL_MAGIC = bytes.fromhex("5ea110")
# Protocol buffers of TenSEAL: the number and kind of a field that holds bytes.
_CONTEXT_KEY, _INNER, _SIZES, _CIPHERTEXT = b"\x1a", b"\x0a", b"\x0a", b"\x12"
_ENCRYPTION_TYPE = b"\x20\x01"


@dataclass(frozen=True)
class _Forms:
    """What stands around coefficients where SEAL reads them without decompressing; the same in every process.

    Parameters
    ----------
    context : a context without keys, up to the place where a key would stand
    """

    context: bytes = field(repr=False)
    ciphertext: bytes = field(repr=False)
    key: bytes = field(repr=False)


def new_context() -> Any:
    """A context with a new secret key, from the operating system's generator. Nothing for multiplying is made."""
    return tenseal.context(
        tenseal.SCHEME_TYPE.BFV,
        poly_modulus_degree=SLOTS,
        plain_modulus=HE_PRIME,
        coeff_mod_bit_sizes=[_BITS, _BITS],
        encryption_type=tenseal.ENCRYPTION_TYPE.SYMMETRIC,
        n_threads=1,
    )


def encode_key(context: Any) -> bytes:
    """The secret key of a context. `KEY_BYTES` long."""
    content = _serialized(context, secret=True)
    return _shortened(_split(content, len(_forms().context))[1]).tobytes()


def context_with(key: bytes) -> Any:
    """The context of an encoded secret key.

    Raises
    ------
    ValueError : not as long as a key, or not made of coefficients
    """
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key of {len(key)} bytes; one has {KEY_BYTES}")
    forms, coefficients = _forms(), _lengthened(np.frombuffer(key, np.uint8))
    for half, prime in zip(np.split(coefficients, 2), _PRIMES, strict=True):
        if int(half.max()) >= prime:
            raise ValueError("the key has a coefficient that is not below its prime")
    inner = _delimited(_INNER, forms.key + coefficients.tobytes())
    content = forms.context + _delimited(_CONTEXT_KEY, inner) + _ENCRYPTION_TYPE
    try:
        return tenseal.context_from(content, n_threads=1)
    except Exception as error:  # SEAL's errors have many types
        raise ValueError(f"SEAL does not take the key: {error}") from None


def keyless_context() -> Any:
    """A context with which one can add, and neither encrypt nor decrypt: it holds no key at all."""
    return tenseal.context_from(_forms().context + _ENCRYPTION_TYPE, n_threads=1)


def encrypt_chunk(context: Any, values: list[int]) -> NDArray[np.uint8]:
    """`SLOTS` integers between -p/2 and p/2, encrypted. Shape (CHUNK_BYTES,)."""
    return encode(tenseal._ts_cpp.BFVVector(context.data, values))


class Decryptor:
    """Opens chunks with the secret key of a context; for one thread.

    SEAL's own classes, which TenSEAL brings along, do in two thirds of the time what its vectors do.
    """

    def __init__(self, context: Any) -> None:
        self._context = context
        self._decryptor = context.decryptor().data
        self._encoder = sealapi.BatchEncoder(context.seal_context().data)
        self._plain = sealapi.Plaintext()

    def words(self, chunk: NDArray[np.uint8]) -> NDArray[np.uint32]:
        """The words modulo p in a chunk; raises `ValueError` as `decode`. Shape (SLOTS,)."""
        vector = decode(self._context, chunk)
        try:
            self._decryptor.decrypt(vector.ciphertext()[0], self._plain)
            # An array of C's unsigned ints takes a list in half of numpy's time.
            return np.frombuffer(array("I", self._encoder.decode_uint64(self._plain)), dtype=np.uint32)
        except Exception as error:
            raise ValueError(f"SEAL does not decrypt the ciphertext: {error}") from None

    def noise_budget(self, chunk: NDArray[np.uint8]) -> int:
        """Bits of noise that a chunk has room for; at 0 it may decrypt to other words."""
        return int(self._decryptor.invariant_noise_budget(decode(self._context, chunk).ciphertext()[0]))


def add_values(context: Any, chunk: NDArray[np.uint8], values: list[int]) -> NDArray[np.uint8]:
    """A ciphertext with `SLOTS` integers added that are not encrypted; raises `ValueError` as `decode`."""
    vector = decode(context, chunk)
    try:
        vector += values
    except Exception as error:
        raise ValueError(f"SEAL does not add to the ciphertext: {error}") from None
    return encode(vector)


def encode(vector: Any) -> NDArray[np.uint8]:
    """A ciphertext as it travels. Shape (CHUNK_BYTES,)."""
    return _shortened(_split(vector.serialize())[1])


def decode(context: Any, chunk: NDArray[np.uint8]) -> Any:
    """A chunk as TenSEAL's vector.

    Raises
    ------
    ValueError : a coefficient that is not below q, or a ciphertext that SEAL does not take
    """
    content = _forms().ciphertext + coefficients_of(chunk).tobytes()
    sizes = _delimited(_SIZES, _varint(SLOTS))
    try:
        return tenseal._ts_cpp.BFVVector(context.data, sizes + _delimited(_CIPHERTEXT, content))
    except Exception as error:
        raise ValueError(f"SEAL does not take the ciphertext: {error}") from None


def coefficients_of(chunk: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The coefficients of a chunk, all below q. Shape (2 * SLOTS,).

    Raises
    ------
    ValueError : one is not
    """
    coefficients = _lengthened(chunk)
    if int(coefficients.max()) >= _PRIMES[0]:
        raise ValueError("a ciphertext has a coefficient that is not below q")
    return coefficients


def add_chunk(total: NDArray[np.uint8], chunk: NDArray[np.uint8]) -> None:
    """The sum of two ciphertexts, in place: what SEAL does, on the bytes. Both hold coefficients below q."""
    prime = np.uint64(_PRIMES[0])
    added = _lengthened(total) + _lengthened(chunk)
    added -= (added >= prime).view(np.uint8) * prime
    total[:] = _shortened(added)


def _shortened(coefficients: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """7 bytes of each coefficient, little-endian."""
    return np.ascontiguousarray(coefficients.view(np.uint8).reshape(-1, 8)[:, :7]).reshape(-1)


def _lengthened(chunk: NDArray[np.uint8]) -> NDArray[np.uint64]:
    if chunk.size != CHUNK_BYTES:
        raise ValueError(f"a ciphertext of {chunk.size} bytes; one has {CHUNK_BYTES}")
    room = np.zeros(CHUNK_BYTES + 1, dtype=np.uint8)
    room[:-1] = chunk
    # Words of 8 bytes every 7: the last byte of each is the next one's first.
    overlapping: NDArray[np.uint64] = np.ndarray(_COEFFICIENTS, "<u8", buffer=room, strides=7)
    return overlapping & _SEVEN_BYTES


@cache
def _forms() -> _Forms:
    """Read off what SEAL writes for a key that nobody uses."""
    context = new_context()
    bare = _serialized(context)
    parameters = _inflate(bare)[1]
    if not bare.endswith(_ENCRYPTION_TYPE) or any(
        it.to_bytes(8, "little") not in parameters for it in _PRIMES
    ):
        raise RuntimeError("TenSEAL writes its contexts in another form than version 0.3.18 does")
    return _Forms(
        context=bare[: -len(_ENCRYPTION_TYPE)],
        ciphertext=_split(tenseal.bfv_vector(context, [0]).serialize())[0],
        key=_split(_serialized(context, secret=True), len(bare) - len(_ENCRYPTION_TYPE))[0],
    )


def _serialized(context: Any, secret: bool = False) -> bytes:
    return bytes(
        context.serialize(
            save_public_key=False, save_secret_key=secret, save_galois_keys=False, save_relin_keys=False
        )
    )


def _split(content: bytes, skipped: int = 0) -> tuple[bytes, NDArray[np.uint64]]:
    """What SEAL wrote here, uncompressed: headers, and the coefficients behind them."""
    header, inside = _inflate(content, skipped)
    header[_COMPRESSION] = 0
    header[_STATED] = (_HEADER_BYTES + len(inside)).to_bytes(8, "little")
    coefficients = np.frombuffer(inside, dtype="<u8", offset=len(inside) - _RAW_BYTES)
    return bytes(header) + inside[:-_RAW_BYTES], coefficients


def _inflate(content: bytes, skipped: int = 0) -> tuple[bytearray, bytes]:
    """The header that SEAL wrote first behind what is skipped, and what it compressed."""
    start = content.index(_SEAL_MAGIC, skipped)
    header = bytearray(content[start : start + _HEADER_BYTES])
    end = start + int.from_bytes(header[_STATED], "little")
    return header, zstandard.ZstdDecompressor().decompress(content[start + _HEADER_BYTES : end])


def _delimited(tag: bytes, content: bytes) -> bytes:
    return tag + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 127:
        encoded.append(value & 127 | 128)
        value >>= 7
    return bytes([*encoded, value])
