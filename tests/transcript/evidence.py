"""What an attacker reads out of a transcript: orders, prekeys, uploads, and every secret that can be put together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray
from recorded import Transcript

from hansa.contract.keys import from_text
from hansa.contract.messages import PREKEYS, Order, TrainRequest, UnmaskReply, UploadReply
from hansa.contract.wire import Segments, digest, reply_header, request_header, segments_of, unpack
from hansa.secagg.parties import Parties
from hansa.secagg.prekeys import (
    SEED_BYTES,
    BadParcel,
    Kind,
    Prekey,
    PrekeySecrets,
    check_opening,
    commitment,
    decode_prekeys,
    key_of,
    open_parcel,
    prekey_bytes,
    seed_of,
    share_of,
)
from hansa.secagg.shamir import combine, weights_at_zero

KINDS: tuple[Kind, Kind] = ("key", "seed")


@dataclass(frozen=True)
class Upload:
    """One member's upload, with the order it answers."""

    member: str
    order: Order
    # The prekey of each of the cohort, as that member was shown them; none in mode `clear`.
    prekeys: dict[str, Prekey]
    segments: dict[str, NDArray[np.uint32]]

    @property
    def circle(self) -> tuple[str, ...]:
        """Members that it masks with, itself included."""
        return next(circle for circle in self.order.circles if self.member in circle)


@dataclass
class Evidence:
    """Everything that the messages of a transcript say."""

    parties: Parties
    transcript: Transcript
    prekeys: dict[bytes, Prekey] = field(default_factory=dict)
    uploads: list[Upload] = field(default_factory=list)
    # By public key and by commitment: who reuses a secret shows it.
    keys: dict[bytes, X25519PrivateKey] = field(default_factory=dict)
    seeds: dict[bytes, bytes] = field(default_factory=dict)
    # (prekey, kind) -> giver's index -> share.
    shares: defaultdict[tuple[bytes, Kind], dict[int, int]] = field(default_factory=lambda: defaultdict(dict))

    def __post_init__(self) -> None:
        orders: dict[str, tuple[Order, dict[str, Prekey]]] = {}
        openings: list[tuple[str, UnmaskReply]] = []
        seen: set[bytes] = set()
        for frame in self.transcript.frames:
            if frame.payload in seen:
                continue
            seen.add(frame.payload)
            packed = unpack(frame.payload)
            header = request_header(packed) if frame.direction == "to-member" else reply_header(packed)
            segments = segments_of(packed, header.segments)
            prekeys = self._prekeys(segments)
            if isinstance(header.body, TrainRequest):
                order = header.body.order
                orders[digest(frame.payload)] = (order, dict(zip(order.cohort, prekeys, strict=False)))
            elif isinstance(header.body, UploadReply):
                order, used = orders[header.request]  # type: ignore[union-attr]
                parts = {name: part for name, part in segments.items() if name != PREKEYS}
                self.uploads.append(Upload(header.sender, order, used, parts))
            elif isinstance(header.body, UnmaskReply):
                openings.append((header.sender, header.body))
        for giver, body in openings:
            self._take(giver, body)

    def _prekeys(self, segments: Segments) -> list[Prekey]:
        if PREKEYS not in segments:
            return []
        content = segments[PREKEYS].tobytes()
        found = decode_prekeys(content, self.parties, len(content) // prekey_bytes(self.parties))
        self.prekeys |= {it.id: it for it in found}
        return found

    def _take(self, giver: str, body: UnmaskReply) -> None:
        """A share belongs to whichever prekey it matches."""
        index = self.parties.index(giver)
        for text in body.shares.values():
            opening = from_text(text)
            for prekey in self.prekeys.values():
                for kind in KINDS:
                    if check_opening(self.parties, prekey, index, kind, opening):
                        self.shares[prekey.id, kind][index] = share_of(opening)

    def open_parcels(self, name: str, sealing_key: X25519PrivateKey) -> None:
        """A colluding member's shares of every prekey that was ever on the wire."""
        index = self.parties.index(name)
        for prekey in self.prekeys.values():
            try:
                held = open_parcel(self.parties, prekey, index, sealing_key)
            except BadParcel:
                continue
            for kind in KINDS:
                self.shares[prekey.id, kind][index] = share_of(held.opening(kind))

    def know(self, secrets: Iterable[PrekeySecrets]) -> None:
        """Prekeys whose secrets are known."""
        for it in secrets:
            self.keys[it.prekey.public] = it.private
            self.seeds[it.prekey.commitment] = it.seed

    def combine(self) -> None:
        """Every secret of which t shares are there."""
        for (prekey_id, kind), shares in self.shares.items():
            if len(shares) < self.parties.threshold:
                continue
            prekey = self.prekeys[prekey_id]
            points = sorted(shares)[: self.parties.threshold]
            secret = combine([shares[it] for it in points], weights_at_zero([it + 1 for it in points]))
            if kind == "key" and (key := key_of(secret, prekey)) is not None:
                self.keys[prekey.public] = key
            if kind == "seed" and (seed := seed_of(secret, prekey)) is not None:
                self.seeds[prekey.commitment] = seed

    def search_seeds(self, bits: int) -> None:
        """Seeds that are short numbers stand no search through all of them."""
        wanted = {it.commitment for it in self.prekeys.values()} - set(self.seeds)
        for number in range(2**bits if wanted else 0):
            seed = number.to_bytes(SEED_BYTES, "little")
            said = commitment(seed)
            if said in wanted:
                self.seeds[said] = seed

    @property
    def raw_secrets(self) -> set[bytes]:
        """Every secret as bytes, to be tried where it does not belong."""
        keys = (key.private_bytes_raw() for key in self.keys.values())
        return set(chain(keys, self.seeds.values()))
