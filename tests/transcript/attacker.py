"""A server and c colluding members against everybody else, after the job: which sums can they uncover?

It is given what the server process saw, what is public, and all that the colluding members' agents held.
Nobody tells it how an upload was masked: it tries every secret it has in every place, with and without
each kind of mask, and recognises a true sum by its size.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, permutations, product

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from evidence import Evidence, Upload
from numpy.typing import NDArray
from recorded import Transcript

from hansa.contract.charter import Charter
from hansa.contract.jobs import JobPlan
from hansa.contract.messages import Order
from hansa.contract.segments import EVALUATION, TAIL, UPDATE, SegmentSpec, segment_specs
from hansa.models.registry import load_model
from hansa.secagg.masks import MaskSecret, add_masks, pair_secret, pair_sign, self_secret
from hansa.secagg.parties import Parties
from hansa.secagg.prekeys import PrekeySecrets
from hansa.strategies.grids import grid_of, noise_on

Words = NDArray[np.uint32]
Total = NDArray[np.int64]
# What a segment is computed from: the first of these arrays that the order has. In mode `he` it names a state instead.
_INPUTS = {UPDATE: ("weights",), EVALUATION: ("released", "weights")}
# (attempt, segment) -> members -> the sum of their integers.
Findings = dict[tuple[int, str], dict[frozenset[str], Total]]


@dataclass(frozen=True)
class Colluder:
    """A member that gives the server all that its agent ever held."""

    name: str
    sealing_key: X25519PrivateKey
    prekeys: tuple[PrekeySecrets, ...]
    # Attempt -> its own upload, by segment, without masks.
    plain: Mapping[int, Mapping[str, Words]]


@dataclass(frozen=True)
class Place:
    """Where a mask stands: a member's self mask, or the mask of a pair in one circle of one order."""

    kind: str
    prekeys: tuple[bytes, bytes]
    job: str
    attempt: int
    circle: tuple[str, ...]


@dataclass
class Attacker:
    """See the module.

    Parameters
    ----------
    weak_bits : every seed below 2^weak_bits is tried against what prekeys say of theirs
    """

    transcript: Transcript
    charter: Charter
    charter_hash: str
    plan: JobPlan
    colluders: Sequence[Colluder]
    weak_bits: int = 16
    evidence: Evidence = field(init=False)
    _masks: dict[tuple[MaskSecret, str, int, int], Words] = field(default_factory=dict)
    _secrets: dict[Place, MaskSecret | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        parties = Parties.of(self.charter, self.charter_hash)
        self.evidence = Evidence(parties, self.transcript)
        for colluder in self.colluders:
            self.evidence.open_parcels(colluder.name, colluder.sealing_key)
            self.evidence.know(colluder.prekeys)
        self.evidence.combine()
        self.evidence.search_seeds(self.weak_bits)
        self._parameters = load_model(self.charter.task.model, self.charter.task.features).parameters

    def findings(self) -> Findings:
        """Every set of honest members whose sum comes out, in every attempt and segment."""
        known = {it.name for it in self.colluders}
        by_circle: defaultdict[tuple[int, tuple[str, ...]], list[Upload]] = defaultdict(list)
        for upload in self.evidence.uploads:
            if upload.member not in known:
                by_circle[upload.order.attempt, tuple(sorted(upload.circle))].append(upload)
        found: Findings = defaultdict(dict)
        for (attempt, _), uploads in by_circle.items():
            for segment in uploads[0].segments:
                for size in range(1, len(uploads) + 1):
                    for chosen in combinations(uploads, size):
                        total = self._open(chosen, segment)
                        if total is not None:
                            found[attempt, segment][frozenset(it.member for it in chosen)] = total
        return dict(found)

    def differences(self) -> Findings:
        """What two sums from one state of the model tell of the members that are in one of them only."""
        states = {it.order.attempt: it.order for it in self.evidence.uploads}
        found: Findings = defaultdict(dict)
        for ((one, segment), sums), ((other, its), others) in permutations(self.findings().items(), 2):
            if (
                segment != its
                or one > other
                or _input(segment, states[one]) != _input(segment, states[other])
            ):
                continue
            for (large, more), (small, less) in product(sums.items(), others.items()):
                for members, total in ((large - small, more - less), (small - large, less - more)):
                    if members and (small < large or large < small):
                        found[one, segment][members] = total
        return dict(found)

    def _words(self, upload: Upload, segment: str) -> Words | None:
        """One upload's words as they are summed, masks and all; None where it cannot be read."""
        return upload.segments[segment]

    def _open(self, uploads: Sequence[Upload], segment: str) -> Total | None:
        """The sum of these uploads without masks, if it comes out."""
        spec = self._spec(uploads[0].order, segment)
        bare = np.zeros(spec.words, np.int64)
        for upload in uploads:
            words = self._words(upload, segment)
            if words is None:
                return None
            bare += words
        left = self._left_over(uploads)
        for kinds in (("self", "pair"), ("pair",), ("self",), ()):
            masks = {place: sign for place, sign in left.items() if place.kind in kinds}
            for total in self._without(bare, masks, spec):
                # Behind the coordinates of an encrypted segment stand its check words.
                signed = centred(total, spec.modulus)[: spec.length]
                if self._plausible(signed, spec, uploads):
                    return signed
        return None

    def _spec(self, order: Order, segment: str) -> SegmentSpec:
        specs = segment_specs(self.charter, self.plan, order, self._parameters)
        return next(it for it in specs if it.name == segment)

    def _left_over(self, uploads: Sequence[Upload]) -> dict[Place, int]:
        """Masks that do not cancel in the sum of these uploads, each with its factor."""
        factors: defaultdict[Place, int] = defaultdict(int)
        for upload in uploads:
            if not upload.prekeys:
                continue
            mine = upload.prekeys[upload.member].id
            for name in upload.circle:
                peer = upload.prekeys[name].id
                place = Place(
                    "self" if name == upload.member else "pair",
                    (mine, peer) if upload.member <= name else (peer, mine),
                    upload.order.job,
                    upload.order.attempt,
                    tuple(upload.circle),
                )
                factors[place] += 1 if name == upload.member else pair_sign(upload.member, name)
        return {place: factor for place, factor in factors.items() if factor}

    def _without(self, bare: Total, masks: Mapping[Place, int], spec: SegmentSpec) -> Iterator[Total]:
        """The sum with these masks taken off, for every way to fill in those that are not known."""
        total, unknown = bare.copy(), []
        for place, factor in masks.items():
            secret = self._secret(place)
            if secret is None:
                unknown.append((place, factor))
            else:
                total -= factor * self._mask(secret, spec).astype(np.int64)
        if not unknown:
            yield total
            return
        # One secret in all places that are left: a single missing one, or one that everybody shares.
        for guess in self.evidence.raw_secrets:
            guessed = total.copy()
            for place, factor in unknown:
                guessed -= factor * self._mask(MaskSecret(guess, place.prekeys), spec).astype(np.int64)
            yield guessed

    def _secret(self, place: Place) -> MaskSecret | None:
        if place not in self._secrets:
            self._secrets[place] = self._find(place)
        return self._secrets[place]

    def _find(self, place: Place) -> MaskSecret | None:
        evidence = self.evidence
        low, high = (evidence.prekeys[it] for it in place.prekeys)
        if place.kind == "self":
            seed = evidence.seeds.get(low.commitment)
            return None if seed is None else self_secret(seed, low)
        for mine, peer in ((low, high), (high, low)):
            key = evidence.keys.get(mine.public)
            if key is not None:
                return pair_secret(
                    key,
                    mine,
                    peer,
                    job=place.job,
                    attempt=place.attempt,
                    circle=place.circle,
                    names=evidence.parties.names,
                )
        return None

    def _mask(self, secret: MaskSecret, spec: SegmentSpec) -> Words:
        key = (secret, spec.name, spec.words, spec.modulus)
        if key not in self._masks:
            words = np.zeros(spec.words, np.uint32)
            add_masks(words, [(secret, 1)], spec.name, spec.modulus)
            self._masks[key] = words
        return self._masks[key]

    def _plausible(self, total: Total, spec: SegmentSpec, uploads: Sequence[Upload]) -> bool:
        """Whether these members' true vectors can have this sum: a masked one is spread over all of the grid.

        Of the bound a member reaches what it has records for; the charter has that to one digit.
        """
        per_record = self.charter.training.clip if spec.name == UPDATE else 1.0
        circle = len(uploads[0].circle)
        scale = grid_of(spec, circle).scale
        noise = 0.0
        if spec.multiplier:
            noise = (
                TAIL * len(uploads) * noise_on(spec, self.charter, circle, spec.multiplier, member=None).sd
            )
        members = [self.charter.member(it.member) for it in uploads]
        most = sum(
            scale * min(spec.bound, 2 * it.records * per_record) + 1 for it in members if it is not None
        )
        least = -most if spec.name == UPDATE else -len(uploads)
        return bool((total <= most + noise).all() and (total >= least - noise).all())


def centred(total: Total | Words, modulus: int) -> Total:
    """Integers modulo m as those between -m/2 and m/2."""
    words = total.astype(np.int64) % modulus
    return words - modulus * (words >= modulus // 2)


def _input(segment: str, order: Order) -> str:
    """Hash of the array, or tag of the state, that a segment is computed from."""
    named = (order.arrays[name] for name in _INPUTS[segment] if name in order.arrays)
    return next(named, f"{order.base} {order.state}")
