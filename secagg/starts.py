"""A member's start: who signed it, and what they saw of this member before (PROTOCOL section 7).

What an agent remembers begins anew with the process. Before it takes part in anything, so many others must have
signed the nonce of its start, and said the newest receipt of its ledger that they ever saw. Every mode whose
charter has noise needs that much; mode `masked` hangs its prekeys on it (`ring`).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from hansa.contract.errors import RefusalError
from hansa.contract.keys import Signer, to_text
from hansa.contract.messages import Accepted, Seen, Witness
from hansa.contract.statements import receipt_statement, witness_statement
from hansa.secagg.parties import Parties
from hansa.secagg.prekeys import START_BYTES
from hansa.secagg.shamir import Randomness

# Starts of a peer of which prekeys are taken; of an older one everything is unknown, for good.
KEPT_STARTS = 4
# Starts of a peer that were given up. A peer that began anew more often than that is heard no more
# until this member starts again: forgetting one would make its used prekeys new.
GIVEN_UP_STARTS = 10_000
# Numbers of used prekeys that are remembered of each start; below the older ones everything counts as used.
KEPT_NUMBERS = 4096


class Receipts(Protocol):
    """Receipts of ledgers, where the charter has noise: a start is told the highest that was seen of it."""

    def tell(self, member: str) -> Seen | None:
        """The receipt of another member with the highest head that was seen."""
        ...

    def shown(self, seen: Seen) -> None:
        """A receipt of this member's own, with its valid signature."""
        ...


@dataclass
class Taken:
    """Of one start of a peer: from which number on its prekeys are valid here, and which of these were used."""

    first: int = 0
    used: set[int] = field(default_factory=set)

    def use(self, number: int) -> None:
        """Never again; the older half of very many becomes a bound."""
        self.used.add(number)
        if len(self.used) > KEPT_NUMBERS:
            older = sorted(self.used)[: KEPT_NUMBERS // 2]
            self.used.difference_update(older)
            self.first = max(self.first, older[-1] + 1)


class Starts:
    """A member's own start, and which starts of its peers it heard of; safe to call from several threads.

    Parameters
    ----------
    receipts : what was seen of ledgers, where the charter has noise
    """

    def __init__(
        self,
        parties: Parties,
        me: str,
        *,
        signer: Signer,
        randomness: Randomness,
        receipts: Receipts | None = None,
    ) -> None:
        self.start = randomness(START_BYTES).hex()
        self._parties = parties
        self._me = parties.index(me)
        self._signer = signer
        self._receipts = receipts
        # What is taken of each start of each peer that signed this one, in the order in which they were first
        # heard of: old words that somebody shows again do not push a newer start out.
        self._peers: dict[str, dict[str, Taken]] = {}
        # The start of each peer that was heard of last.
        self._last: dict[str, str] = {}
        self._given_up: dict[str, set[bytes]] = {}
        # The start of each peer that was signed last, and what was said of it.
        self._signed: dict[str, tuple[str, int]] = {}
        self._lock = threading.Lock()

    @property
    def _first(self) -> int:
        """The number of the next prekey; 0 where none are made."""
        return 0

    @property
    def accepts(self) -> dict[str, Accepted]:
        """Which prekeys this member takes of each peer: those of the start that it heard of last."""
        with self._lock:
            return {
                name: Accepted(start=last, first=self._peers[name][last].first)
                for name, last in self._last.items()
            }

    @property
    def witnessed(self) -> bool:
        """Whether so many others have signed this start that attempts may be taken part in."""
        return len(self._peers) >= self._parties.charter.witnesses_needed

    def check_witnessed(self) -> None:
        """Refuse attempts, `prekey-unknown`, while too few others have signed this start."""
        if not self.witnessed:
            needed = self._parties.charter.witnesses_needed
            raise RefusalError(
                "prekey-unknown",
                f"{len(self._peers)} other members have signed this agent's start, {needed} must",
                {"signed": len(self._peers), "needed": needed},
            )

    def sign_starts(self, starts: Mapping[str, str]) -> tuple[Witness, ...]:
        """This member's word on peers that started: its prekeys, if it makes any, are valid for them from now on."""
        me = self._parties.names[self._me]
        witnesses = []
        with self._lock:
            for name, start in starts.items():
                if name not in self._parties.names or name == me:
                    raise RefusalError(
                        "unknown-member", f"'{name}' is not another member of the charter", {"member": name}
                    )
                known, first = self._signed.get(name, ("", 0))
                if known != start:
                    first = self._first
                    self._signed[name] = (start, first)
                seen = None if self._receipts is None else self._receipts.tell(name)
                witness = Witness(
                    witness=me, member=name, start=start, made=self.start, first=first, seen=seen
                )
                statement = witness_statement(self._parties.charter_hash.hex(), witness)
                signature = to_text(self._signer.sign(statement))
                witnesses.append(witness.model_copy(update={"signature": signature}))
        return tuple(witnesses)

    def take_witnesses(self, witnesses: Sequence[Witness]) -> None:
        """Peers' words on this member's own start; all are checked before one counts.

        What they saw of this member's ledger is looked at before any of them counts as a witness.

        Raises
        ------
        RefusalError : of another start or member (`replayed`), or not signed by the peer it names; or with a
            receipt that this member did not sign
        """
        me = self._parties.names[self._me]
        for witness in witnesses:
            if (witness.member, witness.start) != (me, self.start) or witness.witness == me:
                raise RefusalError(
                    "replayed", f"what '{witness.witness}' signed is not on this start of this member"
                )
            statement = witness_statement(self._parties.charter_hash.hex(), witness)
            if not self._parties.signed(witness.witness, witness.signature, statement):
                raise RefusalError(
                    "unknown-member",
                    f"a word on this member's start is not signed by '{witness.witness}'",
                    {"member": witness.witness},
                )
            self._check_seen(witness)
        for witness in witnesses:
            if witness.seen is not None and self._receipts is not None:
                self._receipts.shown(witness.seen)
        with self._lock:
            for witness in witnesses:
                self._take(witness)

    def _check_seen(self, witness: Witness) -> None:
        """A receipt of this member's own proves what it says; anything else proves that its bringer lies."""
        if witness.seen is not None and (
            self._receipts is None or not seen_valid(witness.member, witness.seen, self._parties)
        ):
            raise RefusalError(
                "replayed",
                f"'{witness.witness}' shows a receipt that this member did not sign",
                {"member": witness.witness},
            )

    def _take(self, witness: Witness) -> None:
        """Note one valid word; not that on a start which was given up: what was used of it is forgotten."""
        name, start = witness.witness, witness.made
        gone = self._given_up.setdefault(name, set())
        starts = self._peers.get(name, {})
        if start not in starts:
            if bytes.fromhex(start) in gone or len(gone) >= GIVEN_UP_STARTS:
                return
            if len(starts) >= KEPT_STARTS:
                oldest = next(iter(starts))
                del starts[oldest]
                gone.add(bytes.fromhex(oldest))
            starts[start] = Taken()
        # An older start that is shown again stays known, with all that was used of it.
        starts[start].first = max(starts[start].first, witness.first)
        self._peers[name] = starts
        self._last[name] = start


def seen_valid(member: str, seen: Seen, parties: Parties) -> bool:
    """Whether a receipt that somebody shows is that member's own word."""
    if seen.receipt.head is None:
        return False
    statement = receipt_statement(seen.job, seen.attempt, seen.order, member, seen.receipt)
    return parties.signed(member, seen.receipt.signature, statement)
