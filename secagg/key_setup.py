"""Mode `he`: how the members of a job come by its keys, and know that all have the same (PROTOCOL section 5).

One member, the maker, makes the envelope's key and the group key and seals both to every member of the charter.
The server carries the bundle and can read nothing of it. Each member signs the hash of what it opened; keys are used
once t members, the maker among them, have signed the hash of one's own. So whoever uses a key knows that t members
have the same one, and that the maker made it: the server, which knows everybody's sealing keys, made none in its name.

    epoch u32 | maker u16 | ephemeral 32 | n wrapped keys of 48 | sealed contents | signature of the maker 64

The contents are sealed once, under a key that is wrapped for each member with X25519 and HKDF, as parcels of prekeys
are. That a maker could seal other contents to some members is what the signed hashes are for. A maker that tells the
server the keys is a member that sides with it: no check of a key can tell.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from hansa.contract.keys import Signer, verify
from hansa.contract.statements import keys_statement
from hansa.contract.typed import canonical_json
from hansa.secagg.ciphertexts import KEY_BYTES, SLOTS
from hansa.secagg.envelope import Envelope
from hansa.secagg.group_key import GROUP_KEY_BYTES, GroupKey
from hansa.secagg.masks import HE_PRIME, Masked
from hansa.secagg.parties import Parties
from hansa.secagg.shamir import Randomness

_HEAD = struct.Struct(">IH32s")
_TAG_BYTES = 16
_WRAPPED_BYTES = 32 + _TAG_BYTES
_CONTENT_BYTES = GROUP_KEY_BYTES + KEY_BYTES
_SIGNATURE_BYTES = 64
_BUNDLE_DOMAIN = b"hansa/bundle/1\x00"
_WRAP_DOMAIN = b"hansa/bundle-key/1\x00"
_CONTENT_DOMAIN = b"hansa/keys-content/1\x00"
# Every key here encrypts once: the nonce need not vary.
_NONCE = bytes(12)


class BadBundle(Exception):
    """A bundle is not the maker's, not for this member, or does not hold the keys of a job."""


@dataclass(frozen=True)
class KeyPlace:
    """Which keys: of this job, made in this epoch by this member, under this charter.

    Parameters
    ----------
    epoch : rises when a maker was gone before its keys were agreed on
    """

    job: str
    epoch: int
    maker: str
    parties: Parties = field(repr=False)

    @property
    def encoded(self) -> bytes:
        """Bytes that stand for this place and no other."""
        return canonical_json([self.job, self.epoch, self.maker, self.parties.charter_hash.hex()])


@dataclass(frozen=True)
class JobKeys:
    """What all members of one job have: the envelope's secret key and the group key."""

    envelope: Envelope = field(repr=False)
    group: GroupKey = field(repr=False)

    @classmethod
    def make(cls, job: str, randomness: Randomness) -> JobKeys:
        """New keys; those of the envelope come from the operating system, the group key from `randomness`."""
        return cls(Envelope.new(), GroupKey(job, randomness(GROUP_KEY_BYTES)))

    @property
    def content(self) -> bytes:
        """Both keys, encoded. The inverse of `load`."""
        return self.group.secret + self.envelope.key

    @classmethod
    def load(cls, job: str, content: bytes) -> JobKeys:
        """Keys of a job from their encoding; raises `ValueError` for bytes that are none."""
        if len(content) != _CONTENT_BYTES:
            raise ValueError(f"keys of {len(content)} bytes; those of a job have {_CONTENT_BYTES}")
        group = GroupKey(job, content[:GROUP_KEY_BYTES])
        return cls(Envelope.load(content[GROUP_KEY_BYTES:]), group)

    def digest(self, place: KeyPlace) -> str:
        """The hash that members sign, hex. Of 256 random bits, of which it tells nothing."""
        return hashlib.sha256(_CONTENT_DOMAIN + place.encoded + self.content).hexdigest()

    def statement(self, place: KeyPlace) -> bytes:
        """What a member signs that opened these keys."""
        charter = place.parties.charter_hash.hex()
        return keys_statement(place.job, place.epoch, place.maker, charter, self.digest(place))


def bundle_bytes(parties: Parties) -> int:
    """Length of a bundle under this charter."""
    wrapped = len(parties.names) * _WRAPPED_BYTES
    return _HEAD.size + wrapped + _CONTENT_BYTES + _TAG_BYTES + _SIGNATURE_BYTES


def seal_bundle(keys: JobKeys, place: KeyPlace, signer: Signer, randomness: Randomness) -> bytes:
    """The maker's keys, sealed to every member of the charter and signed. `bundle_bytes` long."""
    parties = place.parties
    sealer = X25519PrivateKey.from_private_bytes(randomness(32))
    ephemeral = sealer.public_key().public_bytes_raw()
    content_key = randomness(32)
    parts = [_HEAD.pack(place.epoch, parties.index(place.maker), ephemeral)]
    for recipient, sealing_key in enumerate(parties.sealing_keys):
        shared = sealer.exchange(X25519PublicKey.from_public_bytes(sealing_key))
        cipher = _wrap_cipher(shared, place, recipient, ephemeral)
        parts.append(cipher.encrypt(_NONCE, content_key, None))
    parts.append(AESGCM(content_key).encrypt(_NONCE, keys.content, place.encoded))
    content = b"".join(parts)
    return content + signer.sign(_BUNDLE_DOMAIN + place.encoded + content)


def open_bundle(
    bundle: bytes, place: KeyPlace, me: str, sealing_key: X25519PrivateKey, randomness: Randomness
) -> JobKeys:
    """This member's keys out of the bundle that the maker made in that place, tried out.

    Raises
    ------
    BadBundle : of another length, job, epoch, charter or maker, not signed by the maker, not to be opened with this
        member's key, or without keys that work
    """
    parties = place.parties
    if len(bundle) != bundle_bytes(parties):
        raise BadBundle(f"a bundle of {len(bundle)} bytes; one has {bundle_bytes(parties)} for this charter")
    content, signature = bundle[:-_SIGNATURE_BYTES], bundle[-_SIGNATURE_BYTES:]
    epoch, maker, ephemeral = _HEAD.unpack_from(content)
    if place.maker not in parties.names or (epoch, maker) != (place.epoch, parties.index(place.maker)):
        raise BadBundle(f"the bundle is not that of '{place.maker}' in epoch {place.epoch}")
    if not verify(parties.identity_keys[maker], signature, _BUNDLE_DOMAIN + place.encoded + content):
        raise BadBundle(f"the bundle is not signed by '{place.maker}' for this job and charter")
    recipient = parties.index(me)
    wrapped, sealed = _HEAD.size + recipient * _WRAPPED_BYTES, len(content) - _CONTENT_BYTES - _TAG_BYTES
    try:
        shared = sealing_key.exchange(X25519PublicKey.from_public_bytes(ephemeral))
        cipher = _wrap_cipher(shared, place, recipient, ephemeral)
        content_key = cipher.decrypt(_NONCE, content[wrapped : wrapped + _WRAPPED_BYTES], None)
        opened = AESGCM(content_key).decrypt(_NONCE, content[sealed:], place.encoded)
    except (InvalidTag, ValueError):
        raise BadBundle("the bundle does not open with the sealing key in the charter") from None
    try:
        keys = JobKeys.load(place.job, opened)
        _try_out(keys.envelope, randomness)
    except ValueError as error:
        raise BadBundle(f"the bundle of '{place.maker}' does not hold the keys of a job: {error}") from None
    return keys


def keys_signers(keys: JobKeys, place: KeyPlace, signatures: Mapping[str, str]) -> frozenset[str]:
    """Members whose valid signature stands on these very keys in that place."""
    statement = keys.statement(place)
    return frozenset(name for name, it in signatures.items() if place.parties.signed(name, it, statement))


def keys_agreed(keys: JobKeys, place: KeyPlace, signatures: Mapping[str, str]) -> bool:
    """Whether these keys may be used: t members signed their hash, the maker among them."""
    signers = keys_signers(keys, place, signatures)
    return place.maker in signers and len(signers) >= place.parties.threshold


def _try_out(envelope: Envelope, randomness: Randomness) -> None:
    """What is encrypted with a key decrypts with it; raises `ValueError`."""
    # Random words are under the best of masks.
    words = np.frombuffer(randomness(4 * SLOTS), dtype=np.uint32) % np.uint32(HE_PRIME)
    if not np.array_equal(envelope.decrypt(envelope.encrypt(Masked(words, HE_PRIME)), SLOTS), words):
        raise ValueError("what is encrypted with its key does not decrypt with it")


def _wrap_cipher(shared: bytes, place: KeyPlace, recipient: int, ephemeral: bytes) -> AESGCM:
    """The cipher that wraps the contents' key for one member."""
    info = (
        _WRAP_DOMAIN
        + place.encoded
        + struct.pack(">H", recipient)
        + ephemeral
        + place.parties.sealing_keys[recipient]
    )
    return AESGCM(HKDF(SHA256(), 32, salt=None, info=info).derive(shared))
