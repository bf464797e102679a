"""The group key of a job in mode `he`: what all members have and the server never (PROTOCOL section 5).

From it come keys for check words, for the tag of a state, and for sealing a state: each by HKDF with its own label.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from hansa.contract.messages import PROTOCOL
from hansa.contract.typed import canonical_json
from hansa.secagg.shamir import Randomness

GROUP_KEY_BYTES = 32
TAG_BYTES = 32

_NONCE_BYTES = 12
_SEAL_TAG_BYTES = 16
# What a sealed state is longer than the state.
SEAL_BYTES = _NONCE_BYTES + _SEAL_TAG_BYTES
_CHECK_DOMAIN = b"hansa/check/1\x00"
_STATE_TAG_DOMAIN = b"hansa/state-tag/1\x00"
_STATE_SEAL_DOMAIN = b"hansa/state-seal/1\x00"


class BadSeal(Exception):
    """A sealed state was not sealed under this group key in that place, or was changed since."""


@dataclass(frozen=True)
class GroupKey:
    """32 bytes that the maker drew, and the job that they are for."""

    job: str
    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        if len(self.secret) != GROUP_KEY_BYTES:
            raise ValueError(f"a group key of {len(self.secret)} bytes; one has {GROUP_KEY_BYTES}")

    def check_key(self, attempt: int, *purpose: str | int) -> bytes:
        """A key of the check words of one attempt. 32 bytes."""
        return self._derive(_CHECK_DOMAIN, attempt, *purpose)

    def state_tag(self, round: int, arrays: Mapping[str, NDArray[Any]]) -> bytes:
        """HMAC-SHA256 of a job's state after a round: equal for equal names, types, shapes and bits. 32 bytes."""
        found = hmac.new(self._derive(_STATE_TAG_DOMAIN), digestmod="sha256")
        listed = [(name, np.ascontiguousarray(arrays[name])) for name in sorted(arrays)]
        head = canonical_json([round, [[name, it.dtype.str, list(it.shape)] for name, it in listed]])
        found.update(len(head).to_bytes(8, "big") + head)
        for _, it in listed:
            found.update(it.reshape(-1).view(np.uint8).data)
        return found.digest()

    def seal_state(
        self, name: str, round: int, attempt: int, content: bytes, randomness: Randomness
    ) -> bytes:
        """A state that only members can open. `SEAL_BYTES` longer than the content.

        Parameters
        ----------
        name, round, attempt : what it is the state of; whoever opens it must name the same
        randomness : from the operating system: a nonce that comes twice would open both
        """
        nonce = randomness(_NONCE_BYTES)
        return nonce + self._state_cipher().encrypt(nonce, content, _place(name, round, attempt))

    def open_state(self, name: str, round: int, attempt: int, sealed: bytes) -> bytes:
        """What was sealed as this state; raises `BadSeal` for anything else."""
        nonce, content = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        if len(sealed) < SEAL_BYTES:
            raise BadSeal(f"a sealed state of {len(sealed)} bytes; none has fewer than {SEAL_BYTES}")
        try:
            return self._state_cipher().decrypt(nonce, content, _place(name, round, attempt))
        except InvalidTag:
            raise BadSeal(
                f"this is not the state '{name}' of round {round}, attempt {attempt}, under the job's group key"
            ) from None

    def _state_cipher(self) -> AESGCM:
        return AESGCM(self._derive(_STATE_SEAL_DOMAIN))

    def _derive(self, domain: bytes, *purpose: str | int) -> bytes:
        info = domain + canonical_json([PROTOCOL, self.job, *purpose])
        return HKDF(SHA256(), 32, salt=None, info=info).derive(self.secret)


def _place(name: str, round: int, attempt: int) -> bytes:
    return canonical_json([name, round, attempt])
