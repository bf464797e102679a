"""Who an agent is: its name, the charter it agreed to, its keys."""

from __future__ import annotations

import os
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hansa.contract.charter import Charter
from hansa.contract.keys import SigningKey
from hansa.secagg.parties import Parties
from hansa.secagg.ring import PrekeyRing
from hansa.secagg.starts import Receipts, Starts


@dataclass(frozen=True)
class Membership:
    """Who this agent is and what it agreed to."""

    name: str
    charter: Charter
    charter_hash: str
    identity: SigningKey
    # Hashes of the charters this member has left behind.
    superseded: frozenset[str] = frozenset()


def new_ring(
    membership: Membership, sealing_key: X25519PrivateKey, receipts: Receipts | None = None
) -> PrekeyRing:
    """The prekeys of a member that starts now, from the operating system's generator.

    Parameters
    ----------
    receipts : what was seen of ledgers, where the charter has noise
    """
    return PrekeyRing(
        Parties.of(membership.charter, membership.charter_hash),
        membership.name,
        signer=membership.identity,
        sealing_key=sealing_key,
        randomness=os.urandom,
        receipts=receipts,
    )


def new_starts(membership: Membership, receipts: Receipts) -> Starts:
    """The start of a member that makes no prekeys, in mode `clear` with noise.

    Parameters
    ----------
    receipts : what was seen of ledgers
    """
    return Starts(
        Parties.of(membership.charter, membership.charter_hash),
        membership.name,
        signer=membership.identity,
        randomness=os.urandom,
        receipts=receipts,
    )
