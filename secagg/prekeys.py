"""Prekeys: what a member publishes for one attempt, and what it keeps (PROTOCOL section 3).

A prekey is an X25519 key pair and a self-mask seed. For every charter member, its maker included,
it carries a parcel: one Shamir share of the secret key and one of the seed, sealed to that member,
and a salted hash of each. One signature covers all of it, so the server can neither swap a parcel
nor show two members different ones under one hash of the order.

    member u16 | start 16 | number u64 | public 32 | commitment 32 | ephemeral 32 | n parcels of 144 | signature 64
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from typing import Literal

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hansa.contract.errors import MessageError
from hansa.contract.keys import Signer, verify
from hansa.secagg.parties import Parties
from hansa.secagg.shamir import PRIME, SHARE_BYTES, Randomness, split

SEED_BYTES = 31
SALT_BYTES = 16
# A share as it is revealed: its salt, then the share.
OPENING_BYTES = SALT_BYTES + SHARE_BYTES

Kind = Literal["key", "seed"]

START_BYTES = 16

_HEAD = struct.Struct(">H16sQ32s32s32s")
_HASH_BYTES = 32
_TAG_BYTES = 16
_SEALED_BYTES = 2 * SHARE_BYTES + _TAG_BYTES
_PARCEL_BYTES = 2 * _HASH_BYTES + _SEALED_BYTES
_SIGNATURE_BYTES = 64
_PREKEY_DOMAIN = b"hansa/prekey/1\x00"
_PARCEL_DOMAIN = b"hansa/parcel/1\x00"
_SHARE_DOMAIN = b"hansa/share/1\x00"
_SEED_DOMAIN = b"hansa/seed/1\x00"
# A parcel's key encrypts once: the nonce need not vary.
_NONCE = bytes(12)


@dataclass(frozen=True)
class Parcel:
    """What one member gets of a prekey: hashes of its two shares, and both sealed to it."""

    key_hash: bytes
    seed_hash: bytes
    sealed: bytes

    def hash_of(self, kind: Kind) -> bytes:
        """The hash that the share of that kind must match."""
        return self.key_hash if kind == "key" else self.seed_hash


@dataclass(frozen=True)
class Prekey:
    """The public part of a one-time key: what travels, is stored and is signed."""

    # Index of the maker among the parties, nonce of the start in which it was made, and a number that rises in it.
    maker: int
    start: bytes
    number: int
    public: bytes
    # SHA-256 of the self-mask seed.
    commitment: bytes
    # Public part of the key that sealed the parcels.
    ephemeral: bytes
    parcels: tuple[Parcel, ...]
    signature: bytes

    @property
    def content(self) -> bytes:
        """Everything but the signature, as it travels."""
        head = _HEAD.pack(self.maker, self.start, self.number, self.public, self.commitment, self.ephemeral)
        return head + b"".join(it.key_hash + it.seed_hash + it.sealed for it in self.parcels)

    @property
    def encoded(self) -> bytes:
        """As it travels; the inverse of `decode_prekeys`."""
        return self.content + self.signature

    @property
    def id(self) -> bytes:
        """32 bytes that stand for this prekey and no other."""
        return hashlib.sha256(self.encoded).digest()


@dataclass(frozen=True)
class PrekeySecrets:
    """What the maker of a prekey keeps until the attempt that uses it."""

    prekey: Prekey
    private: X25519PrivateKey = field(repr=False)
    seed: bytes = field(repr=False)


@dataclass(frozen=True)
class HeldShares:
    """One member's shares of one prekey, each as its opening: salt, then share. It gives at most one of them."""

    key: bytes = field(repr=False)
    seed: bytes = field(repr=False)

    def opening(self, kind: Kind) -> bytes:
        """The one that is asked for."""
        return self.key if kind == "key" else self.seed


class BadParcel(Exception):
    """A parcel under its maker's signature does not hold what it should: the maker is to blame."""


def make_prekey(
    parties: Parties, maker: int, start: bytes, number: int, signer: Signer, randomness: Randomness
) -> PrekeySecrets:
    """A new one-time key with a parcel for every party, signed by its maker.

    Parameters
    ----------
    start : nonce of the maker's present start, 16 bytes
    """
    scalar = _scalar(randomness)
    seed = randomness(SEED_BYTES)
    private = X25519PrivateKey.from_private_bytes(scalar.to_bytes(32, "little"))
    sealer = X25519PrivateKey.from_private_bytes(randomness(32))
    ephemeral = sealer.public_key().public_bytes_raw()
    points = range(1, len(parties.names) + 1)
    key_shares = split(scalar, parties.threshold, points, randomness)
    seed_shares = split(int.from_bytes(seed, "little"), parties.threshold, points, randomness)
    parcels = []
    for recipient, sealing_key in enumerate(parties.sealing_keys):
        where = _place(parties, maker, start, number, recipient)
        shared = sealer.exchange(X25519PublicKey.from_public_bytes(sealing_key))
        cipher, salts = _parcel_keys(shared, where, ephemeral, sealing_key)
        shares = [key_shares[recipient].to_bytes(32, "little"), seed_shares[recipient].to_bytes(32, "little")]
        parcels.append(
            Parcel(
                key_hash=_share_hash("key", where, salts[0] + shares[0]),
                seed_hash=_share_hash("seed", where, salts[1] + shares[1]),
                sealed=cipher.encrypt(_NONCE, b"".join(shares), None),
            )
        )
    unsigned = Prekey(
        maker=maker,
        start=start,
        number=number,
        public=private.public_key().public_bytes_raw(),
        commitment=commitment(seed),
        ephemeral=ephemeral,
        parcels=tuple(parcels),
        signature=b"",
    )
    signature = signer.sign(_PREKEY_DOMAIN + parties.charter_hash + unsigned.content)
    return PrekeySecrets(_signed(unsigned, signature), private, seed)


def check_prekey(parties: Parties, prekey: Prekey) -> bool:
    """Whether its maker signed this prekey under this charter."""
    statement = _PREKEY_DOMAIN + parties.charter_hash + prekey.content
    return verify(parties.identity_keys[prekey.maker], prekey.signature, statement)


def prekey_bytes(parties: Parties) -> int:
    """Length of one encoded prekey under this charter."""
    return _HEAD.size + len(parties.names) * _PARCEL_BYTES + _SIGNATURE_BYTES


def decode_prekeys(content: bytes | memoryview, parties: Parties, most: int) -> list[Prekey]:
    """Prekeys that stand one behind the other; signatures are still to be checked.

    Raises
    ------
    MessageError : not a whole number of prekeys, more than `most`, or a maker that the charter does not have
    """
    size = prekey_bytes(parties)
    count, rest = divmod(len(content), size)
    if rest or count > most:
        raise MessageError(
            f"{len(content)} bytes of prekeys: expected at most {most} of {size} bytes for this charter"
        )
    return [_decode(bytes(content[start : start + size]), parties) for start in range(0, count * size, size)]


def open_parcel(parties: Parties, prekey: Prekey, me: int, sealing_key: X25519PrivateKey) -> HeldShares:
    """This member's two shares of a prekey.

    Raises
    ------
    BadParcel : it does not open with this member's key, or a share does not match its hash
    """
    parcel, where = prekey.parcels[me], _place(parties, prekey.maker, prekey.start, prekey.number, me)
    try:
        shared = sealing_key.exchange(X25519PublicKey.from_public_bytes(prekey.ephemeral))
        cipher, salts = _parcel_keys(shared, where, prekey.ephemeral, parties.sealing_keys[me])
        shares = cipher.decrypt(_NONCE, parcel.sealed, None)
    except (InvalidTag, ValueError):
        raise BadParcel("it does not open with the sealing key in the charter") from None
    held = HeldShares(key=salts[0] + shares[:SHARE_BYTES], seed=salts[1] + shares[SHARE_BYTES:])
    for kind in ("key", "seed"):
        if _share_hash(kind, where, held.opening(kind)) != parcel.hash_of(kind):
            raise BadParcel(f"the share of the {kind} does not match its hash")
    return held


def check_opening(parties: Parties, prekey: Prekey, giver: int, kind: Kind, opening: bytes) -> bool:
    """Whether `opening` is the share that the prekey's maker made for `giver`."""
    if len(opening) != OPENING_BYTES:
        return False
    where = _place(parties, prekey.maker, prekey.start, prekey.number, giver)
    return _share_hash(kind, where, opening) == prekey.parcels[giver].hash_of(kind)


def share_of(opening: bytes) -> int:
    """The field element in a revealed share."""
    return int.from_bytes(opening[SALT_BYTES:], "little")


def key_of(secret: int, prekey: Prekey) -> X25519PrivateKey | None:
    """The one-time secret key that its shares gave; None when it is not the prekey's, which its maker answers for."""
    private = X25519PrivateKey.from_private_bytes(secret.to_bytes(32, "little"))
    return private if private.public_key().public_bytes_raw() == prekey.public else None


def seed_of(secret: int, prekey: Prekey) -> bytes | None:
    """The self-mask seed that its shares gave; None when it is not the committed one."""
    if secret >= 2 ** (8 * SEED_BYTES):
        return None
    seed = secret.to_bytes(SEED_BYTES, "little")
    return seed if commitment(seed) == prekey.commitment else None


def commitment(seed: bytes) -> bytes:
    """What a prekey says of its seed. The seed has 248 random bits, so the hash hides it."""
    return hashlib.sha256(_SEED_DOMAIN + seed).digest()


def _scalar(randomness: Randomness) -> int:
    """A secret key in the form in which X25519 uses it (RFC 7748, section 5), as an element of the field."""
    while True:
        raw = bytearray(randomness(32))
        raw[0] &= 248
        raw[31] = raw[31] & 127 | 64
        scalar = int.from_bytes(raw, "little")
        if scalar < PRIME:
            return scalar


def _place(parties: Parties, maker: int, start: bytes, number: int, recipient: int) -> bytes:
    """Which share this is: charter, maker, its start, number, recipient."""
    return parties.charter_hash + struct.pack(">H16sQH", maker, start, number, recipient)


def _parcel_keys(
    shared: bytes, where: bytes, ephemeral: bytes, sealing_key: bytes
) -> tuple[AESGCM, tuple[bytes, bytes]]:
    """The cipher of a parcel, and the salts of its two hashes."""
    info = _PARCEL_DOMAIN + where + ephemeral + sealing_key
    derived = HKDF(SHA256(), 32 + 2 * SALT_BYTES, salt=None, info=info).derive(shared)
    return AESGCM(derived[:32]), (derived[32 : 32 + SALT_BYTES], derived[32 + SALT_BYTES :])


def _share_hash(kind: Kind, where: bytes, opening: bytes) -> bytes:
    return hashlib.sha256(_SHARE_DOMAIN + kind.encode() + b"\x00" + where + opening).digest()


def _signed(prekey: Prekey, signature: bytes) -> Prekey:
    return Prekey(**{**prekey.__dict__, "signature": signature})


def _decode(content: bytes, parties: Parties) -> Prekey:
    maker, start, number, public, committed, ephemeral = _HEAD.unpack_from(content)
    if maker >= len(parties.names):
        raise MessageError(f"a prekey of member {maker}; the charter has {len(parties.names)}")
    parcels = []
    for place in range(_HEAD.size, len(content) - _SIGNATURE_BYTES, _PARCEL_BYTES):
        parcel = content[place : place + _PARCEL_BYTES]
        parcels.append(
            Parcel(parcel[:_HASH_BYTES], parcel[_HASH_BYTES : 2 * _HASH_BYTES], parcel[2 * _HASH_BYTES :])
        )
    return Prekey(
        maker, start, number, public, committed, ephemeral, tuple(parcels), content[-_SIGNATURE_BYTES:]
    )
