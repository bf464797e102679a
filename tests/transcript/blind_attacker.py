"""A server and c colluding members of a job in mode `he`, after it: which keys, sums and models can they uncover?

As `attacker`, and before that it tries to come by the job's keys: from bundles that a colluder can open, that
stand open, or whose key is a short number; and by the group key alone, where that is one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from attacker import Attacker, Total, Words, centred
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from evidence import Upload
from numpy.typing import NDArray

from hansa.clients.blind_states import read_state
from hansa.contract.blind_messages import (
    ENCRYPTED_SUM,
    SEALED_KEYS,
    SEALED_STATE,
    ApplyReply,
    ApplyRequest,
    KeysReply,
    KeysRequest,
    ReloadRequest,
)
from hansa.contract.messages import Order
from hansa.contract.segments import UPDATE
from hansa.contract.wire import reply_header, request_header, segments_of, unpack
from hansa.secagg.group_key import GROUP_KEY_BYTES, BadSeal, GroupKey
from hansa.secagg.key_setup import (
    _CONTENT_BYTES,
    _NONCE,
    _SIGNATURE_BYTES,
    _TAG_BYTES,
    BadBundle,
    JobKeys,
    KeyPlace,
    open_bundle,
)
from hansa.strategies.apply import ModelState

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Bundle:
    """A job's keys as their maker sealed them."""

    place: KeyPlace
    content: bytes

    @property
    def sealed(self) -> bytes:
        """Both keys under the content's key, with the tag."""
        return self.content[-_SIGNATURE_BYTES - _TAG_BYTES - _CONTENT_BYTES : -_SIGNATURE_BYTES]


@dataclass(frozen=True)
class CarriedSum:
    """An encrypted sum that members were sent to apply."""

    order: Order
    active: tuple[str, ...]
    content: Bytes


@dataclass
class Carried:
    """What the server carried and could not read."""

    bundles: list[Bundle] = field(default_factory=list)
    sums: list[CarriedSum] = field(default_factory=list)
    # Round and sealed bytes.
    states: set[tuple[int, bytes]] = field(default_factory=set)


@dataclass
class BlindAttacker(Attacker):
    """See the module."""

    carried: Carried = field(init=False)
    # By epoch.
    job_keys: dict[int, JobKeys] = field(default_factory=dict)
    _opened: dict[tuple[str, int], Words] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.carried = _carried(self)
        for bundle in self.carried.bundles:
            keys = next(self._keys_in(bundle), None)
            if keys is not None:
                self.job_keys[bundle.place.epoch] = keys

    def _keys_in(self, bundle: Bundle) -> Iterator[JobKeys]:
        for colluder in self.colluders:
            try:
                yield open_bundle(
                    bundle.content, bundle.place, colluder.name, colluder.sealing_key, os.urandom
                )
            except BadBundle:
                continue
        try:
            yield JobKeys.load(bundle.place.job, bundle.sealed[:-_TAG_BYTES])
        except ValueError:
            pass
        for number in range(2**self.weak_bits):
            cipher = AESGCM(number.to_bytes(32, "little"))
            try:
                opened = cipher.decrypt(_NONCE, bundle.sealed, bundle.place.encoded)
            except InvalidTag:
                continue
            yield JobKeys.load(bundle.place.job, opened)

    def states(self) -> dict[int, list[ModelState]]:
        """States that came sealed and can be opened, by round."""
        group = next(self._group_keys(), None)
        found: dict[int, list[ModelState]] = {}
        for number, sealed in self.carried.states if group is not None else ():
            content = group.open_state("state", number, 0, sealed)
            found.setdefault(number, []).append(read_state(content, self._parameters))
        return found

    def _group_keys(self) -> Iterator[GroupKey]:
        yield from (it.group for it in self.job_keys.values())
        for number, sealed in sorted(self.carried.states)[:1]:
            for guess in range(2**self.weak_bits):
                group = GroupKey(self.plan.job, guess.to_bytes(GROUP_KEY_BYTES, "little"))
                try:
                    group.open_state("state", number, 0, sealed)
                except BadSeal:
                    continue
                yield group

    def sums(self) -> dict[int, tuple[frozenset[str], Total]]:
        """Sums that members were sent to apply, decrypted: by attempt, with the members they are of."""
        found = {}
        for it in self.carried.sums:
            keys, spec = self.job_keys.get(it.order.epoch), self._spec(it.order, UPDATE)
            if keys is not None:
                words = keys.envelope.decrypt(it.content, spec.words)
                total = centred(words, spec.modulus)[: spec.length]
                found[it.order.attempt] = (frozenset(it.active), total)
        return found

    def _words(self, upload: Upload, segment: str) -> Words | None:
        spec = self._spec(upload.order, segment)
        if not spec.encrypted:
            return super()._words(upload, segment)
        place, keys = (upload.member, upload.order.attempt), self.job_keys.get(upload.order.epoch)
        if keys is not None and place not in self._opened:
            self._opened[place] = keys.envelope.decrypt(upload.segments[segment], spec.words)  # type: ignore[arg-type]
        return self._opened.get(place)


def _carried(attacker: Attacker) -> Carried:
    found = Carried()
    bundles: dict[bytes, Bundle] = {}
    for frame in attacker.transcript.frames:
        packed = unpack(frame.payload)
        header = request_header(packed) if frame.direction == "to-member" else reply_header(packed)
        segments, body = segments_of(packed, header.segments), header.body
        if isinstance(body, KeysRequest | KeysReply) and SEALED_KEYS in segments:
            content = segments[SEALED_KEYS].tobytes()
            place = KeyPlace(body.job, body.epoch, body.maker, attacker.evidence.parties)
            bundles[content] = Bundle(place, content)
        elif isinstance(body, ApplyRequest):
            found.sums.append(CarriedSum(body.order, body.active, segments[ENCRYPTED_SUM]))
        elif isinstance(body, ApplyReply | ReloadRequest) and SEALED_STATE in segments:
            found.states.add((body.round, segments[SEALED_STATE].tobytes()))
    found.bundles = list(bundles.values())
    return found
