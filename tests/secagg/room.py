"""A consortium's secure aggregation in one process: real keys, real rings, reproducible randomness."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from federation import FEATURES
from numpy.typing import NDArray

from hansa.contract.charter import Charter, Member, ModelChoice, PrivacyPlan, Protection, Task
from hansa.contract.keys import SigningKey, to_text
from hansa.contract.messages import Order, Receipt
from hansa.contract.statements import active_statement, receipt_statement
from hansa.secagg.member import MemberAttempt
from hansa.secagg.parties import Parties
from hansa.secagg.prekeys import Prekey, decode_prekeys
from hansa.secagg.ring import PrekeyRing
from hansa.secagg.server import Summation, Unmasking

JOB = "ab" * 16
HASH = "c" * 64
Words = NDArray[np.uint32]


def dice(label: str) -> Callable[[int], bytes]:
    """Randomness that is the same for the same label."""
    rolled = 0

    def roll(count: int) -> bytes:
        nonlocal rolled
        rolled += 1
        return hashlib.shake_256(f"{label}/{rolled}".encode()).digest(count)

    return roll


def names(members: int) -> tuple[str, ...]:
    """Members are called a, b, c, ..."""
    return tuple(chr(ord("a") + number) for number in range(members))


# A nonce of a start, where any one will do.
START = bytes(range(16))


@cache
def identity(name: str) -> SigningKey:
    """A member's Ed25519 key."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(dice(f"identity {name}")(32)))


@cache
def sealing(name: str) -> X25519PrivateKey:
    """A member's X25519 key."""
    return X25519PrivateKey.from_private_bytes(dice(f"sealing {name}")(32))


@cache
def make_parties(
    members: int,
    c: int = 1,
    t: int | None = None,
    audit_groups: int | None = None,
    charter_hash: str = HASH,
    s: int | None = None,
) -> Parties:
    """The parties of a charter; one below the law 2t > n + c is made without asking the charter."""
    document = {
        "name": "test",
        "version": 1,
        "expires": datetime.now(UTC) + timedelta(days=90),
        "operator_key": to_text(bytes(32)),
        "members": tuple(
            Member(
                name=name,
                controller=name,
                identity_key=to_text(identity(name).public),
                sealing_key=to_text(sealing(name).public_key().public_bytes_raw()),
                node_key=f"ecdsa-sha2-nistp256 {name}",
            )
            for name in names(members)
        ),
        "task": Task(title="test", features=FEATURES, model=ModelChoice(name="linear")),
        "protection": Protection(
            mode="masked", c=c, t=t, audit_groups=audit_groups, minimum_cohort=2 if members == 2 else None
        ),
        # With s, the noise is distributed.
        "privacy": PrivacyPlan() if s is None else PrivacyPlan(noise="distributed", s=s),
        "knobs": {},
    }
    lawful = t is None or 2 * t > members + c
    charter = Charter.model_validate(document) if lawful else Charter.model_construct(**document)  # type: ignore[arg-type]
    return Parties.of(charter, charter_hash)


def make_ring(parties: Parties, name: str, label: str = "") -> PrekeyRing:
    """A member's ring as at a start of its agent; nobody has signed that start yet."""
    return PrekeyRing(
        parties,
        name,
        signer=identity(name),
        sealing_key=sealing(name),
        randomness=dice(f"ring {name} {label}"),
    )


def introduce(rings: Mapping[str, PrekeyRing]) -> None:
    """Everybody signs everybody's start."""
    for name, ring in rings.items():
        for witness in ring.sign_starts({other: it.start for other, it in rings.items() if other != name}):
            rings[witness.member].take_witnesses([witness])


def receipt(name: str, order: Order) -> Receipt:
    """A member's signed word that it uploaded for this order."""
    statement = receipt_statement(order.job, order.attempt, order.digest, name, Receipt())
    return Receipt(signature=to_text(identity(name).sign(statement)))


def sign_active(name: str, order: Order, active: Sequence[str]) -> str:
    """A member's signature on an active set, whether or not it should sign."""
    statement = active_statement(order.job, order.attempt, order.digest, tuple(active))
    return to_text(identity(name).sign(statement))


class Room:
    """All members, witnessed, and one attempt after the other.

    Parameters
    ----------
    label : makes the randomness of this room its own
    """

    def __init__(self, parties: Parties, label: str = "") -> None:
        self.parties = parties
        self.label = label
        self.rings = {name: make_ring(parties, name, label) for name in parties.names}
        introduce(self.rings)

    def fresh(self, cohort: Sequence[str]) -> list[Prekey]:
        """One new prekey of each."""
        return [decode_prekeys(self.rings[name].make(1), self.parties, 1)[0] for name in cohort]

    def begin(
        self,
        attempt: int = 1,
        cohort: Sequence[str] | None = None,
        groups: Sequence[Sequence[str]] = (),
        job: str = JOB,
    ) -> Attempt:
        """An attempt that everybody of the cohort accepted."""
        cohort = tuple(cohort or self.parties.names)
        prekeys = self.fresh(cohort)
        order = make_order(cohort, prekeys, attempt, groups, job)
        return Attempt(self, order, prekeys)


def make_order(
    cohort: Sequence[str],
    prekeys: Sequence[Prekey],
    attempt: int = 1,
    groups: Sequence[Sequence[str]] = (),
    job: str = JOB,
) -> Order:
    """An order over these prekeys, in the cohort's order."""
    return Order(
        job=job,
        attempt=attempt,
        kind="train",
        base=0,
        cohort=tuple(cohort),
        prekeys={name: prekey.number for name, prekey in zip(cohort, prekeys, strict=True)},
        groups=tuple(tuple(group) for group in groups),
    )


class Attempt:
    """One attempt of a room, both sides of it."""

    def __init__(self, room: Room, order: Order, prekeys: Sequence[Prekey]) -> None:
        self.room, self.order = room, order
        self.prekeys = dict(zip(order.cohort, prekeys, strict=True))
        self.members: dict[str, MemberAttempt] = {
            name: room.rings[name].accept(order, prekeys) for name in order.cohort
        }
        self.uploads: dict[str, dict[str, Words]] = {}

    def upload(
        self, name: str, segments: Mapping[str, Words], moduli: Mapping[str, int] | None = None
    ) -> dict[str, Words]:
        """A member's masked segments; what it had stays as it was."""
        masked = {segment: values.copy() for segment, values in segments.items()}
        self.members[name].mask(masked, moduli)
        self.uploads[name] = masked
        return masked

    def papers(self, active: Collection[str]) -> dict[str, dict[str, Receipt] | dict[str, str]]:
        """Receipts of the active members, and their signatures on the set, by members that bound themselves to it."""
        listed = sorted(active)
        for name in listed:
            self.members[name].bind(listed)
        return {
            "receipts": {name: receipt(name, self.order) for name in listed},
            "signatures": {name: sign_active(name, self.order, listed) for name in listed},
        }

    def give(self, name: str, active: Collection[str], papers: Mapping[str, object]) -> dict[str, bytes]:
        """What a member answers when it is asked to unmask."""
        listed = sorted(active)
        dropped = [other for other in self.order.cohort if other not in active]
        return self.members[name].give(listed, dropped, **papers)  # type: ignore[arg-type]

    def summation(self, arrived: Sequence[str], moduli: Mapping[str, int] | None = None) -> Summation:
        """The uploads that arrived, added in that order."""
        summation = Summation(self.order.circles, moduli)
        for name in arrived:
            summation.add(name, self.uploads[name])
        return summation

    def unmasking(self, active: Collection[str]) -> Unmasking:
        """The server's side of the last step."""
        return Unmasking(self.room.parties, self.order, self.prekeys, sorted(active))
