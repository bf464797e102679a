"""A member's prekeys: its own since its start, and which ones of its peers it may still use (PROTOCOL section 3).

An honest agent gives at most one share of any prekey, ever. What this rests on lives in memory and
begins anew with the process: an agent that was restarted, or came back from a backup, knows no prekey
of its own, and takes of its peers only those that were made after they signed its start. Every prekey
carries the nonce of the start in which it was made, so that no clock and no kept number is leant on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hansa.contract.errors import RefusalError
from hansa.contract.keys import Signer, to_text
from hansa.contract.messages import Accepted, Order, Seen, Witness
from hansa.contract.statements import receipt_statement, witness_statement
from hansa.secagg.active_set import check_circles
from hansa.secagg.member import MemberAttempt
from hansa.secagg.parties import Parties
from hansa.secagg.prekeys import START_BYTES, Prekey, PrekeySecrets, check_prekey, make_prekey
from hansa.secagg.shamir import Randomness

# Unused prekeys that a member remembers. Room for more is made only by those that were handed out long
# ago: a flood of requests must not take away what the server is about to use. While all are recent,
# more are refused; attempts go on meanwhile, since each uses one and makes one. A server that lost its
# stock many times over gets new ones when the old ones are no longer recent.
KEPT_PREKEYS = 256
RECENT_S = 300.0
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
class _Taken:
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


class PrekeyRing:
    """A member's own prekeys since its start, and which ones of its peers it may still use."""

    def __init__(
        self,
        parties: Parties,
        me: str,
        *,
        signer: Signer,
        sealing_key: X25519PrivateKey,
        randomness: Randomness,
        monotonic: Callable[[], float] = time.monotonic,
        receipts: Receipts | None = None,
    ) -> None:
        self.start = randomness(START_BYTES).hex()
        self._parties = parties
        self._me = parties.index(me)
        self._signer = signer
        self._receipts = receipts
        self._sealing_key = sealing_key
        self._randomness = randomness
        self._next = 1
        self._monotonic = monotonic
        self._own: dict[int, PrekeySecrets] = {}
        # When each of these was handed out, in seconds of the clock.
        self._made: dict[int, float] = {}
        self._own_used = _Taken()
        # What is taken of each start of each peer that signed this one, in the order in which they were first
        # heard of: old words that somebody shows again do not push a newer start out.
        self._peers: dict[str, dict[str, _Taken]] = {}
        # The start of each peer that was heard of last.
        self._last: dict[str, str] = {}
        self._given_up: dict[str, set[bytes]] = {}
        # The start of each peer that was signed last, and what was said of it.
        self._signed: dict[str, tuple[str, int]] = {}
        self._lock = threading.Lock()

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

    def make(self, count: int, *, replacing: bool = False) -> bytes:
        """New prekeys, encoded one behind the other; in the place of as many used ones if `replacing`.

        Raises
        ------
        RefusalError : `agent-unavailable`, very many were handed out just now and none was used
        """
        with self._lock:
            now, made = self._monotonic(), []
            if not replacing:
                self._make_room(count, now)
            for _ in range(count):
                secrets = make_prekey(
                    self._parties,
                    self._me,
                    bytes.fromhex(self.start),
                    self._next,
                    self._signer,
                    self._randomness,
                )
                self._own[self._next] = secrets
                self._made[self._next] = now
                self._next += 1
                made.append(secrets.prekey.encoded)
        return b"".join(made)

    def _make_room(self, count: int, now: float) -> None:
        """Give up old prekeys where there is no room for `count` new ones; all or none."""
        excess = len(self._own) + count - KEPT_PREKEYS
        # They rise in number and in age alike.
        old = [number for number, made in self._made.items() if now - made > RECENT_S]
        if excess > len(old):
            raise RefusalError(
                "agent-unavailable",
                f"{len(self._own)} prekeys were handed out and not used; there will be room for more in "
                f"{RECENT_S:.0f} seconds",
                {"unused": len(self._own)},
            )
        for number in old[: max(excess, 0)]:
            del self._own[number], self._made[number]

    def sign_starts(self, starts: Mapping[str, str]) -> tuple[Witness, ...]:
        """This member's word on peers that started: its prekeys from now on are valid for them."""
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
                    first = self._next
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
            starts[start] = _Taken()
        # An older start that is shown again stays known, with all that was used of it.
        starts[start].first = max(starts[start].first, witness.first)
        self._peers[name] = starts
        self._last[name] = start

    def accept(self, order: Order, prekeys: Sequence[Prekey]) -> MemberAttempt:
        """Take part in an attempt: its prekeys, this member's own among them, are used from here on.

        Parameters
        ----------
        prekeys : one of each member of the cohort, in the cohort's order

        Raises
        ------
        RefusalError : a prekey that is unknown, used, forged or badly made, or a cohort that is split wrongly;
            nothing is used up then
        """
        parties = self._parties
        with self._lock:
            if not self.witnessed:
                raise RefusalError(
                    "prekey-unknown",
                    f"{len(self._peers)} other members have signed this agent's start, "
                    f"{parties.charter.witnesses_needed} must",
                    {"signed": len(self._peers), "needed": parties.charter.witnesses_needed},
                )
            check_circles(order, parties.charter, parties.names[self._me])
            if len(prekeys) != len(order.cohort) or set(order.prekeys) != set(order.cohort):
                raise RefusalError(
                    "prekey-unknown", "the order does not name one prekey of each of its cohort"
                )
            for name, prekey in zip(order.cohort, prekeys, strict=True):
                self._check(name, prekey, order)
            participants = dict(zip(order.cohort, prekeys, strict=True))
            mine = self._own[participants[parties.names[self._me]].number]
            attempt = MemberAttempt.begin(
                parties, parties.names[self._me], order, participants, mine, self._sealing_key
            )
            for prekey in prekeys:
                self._use(prekey)
            del self._own[mine.prekey.number], self._made[mine.prekey.number]
        return attempt

    def _check(self, name: str, prekey: Prekey, order: Order) -> None:
        facts: dict[str, str | int] = {"member": name, "number": prekey.number}
        if name not in self._parties.names or self._parties.names[prekey.maker] != name:
            raise RefusalError("unknown-member", f"the order brings no prekey of '{name}'", facts)
        if prekey.number != order.prekeys[name]:
            raise RefusalError("prekey-unknown", f"the order names another prekey of '{name}'", facts)
        if prekey.maker == self._me:
            self._check_own(prekey, facts)
            return
        taken = self._peers.get(name, {}).get(prekey.start.hex())
        if taken is None or prekey.number < taken.first:
            raise RefusalError(
                "prekey-unknown",
                f"prekey {prekey.number} of '{name}' may be older than this agent's start",
                facts,
            )
        if prekey.number in taken.used:
            raise RefusalError("prekey-used", f"prekey {prekey.number} of '{name}' was used before", facts)
        if not check_prekey(self._parties, prekey):
            raise RefusalError("unknown-member", f"a prekey is not signed by '{name}'", facts)

    def _check_own(self, prekey: Prekey, facts: dict[str, str | int]) -> None:
        mine = self._own.get(prekey.number)
        if mine is not None and mine.prekey == prekey:
            return
        if prekey.start.hex() == self.start and prekey.number in self._own_used.used:
            raise RefusalError("prekey-used", "that prekey of this agent was used before", facts)
        raise RefusalError("prekey-unknown", "this agent did not make that prekey since it started", facts)

    def _use(self, prekey: Prekey) -> None:
        if prekey.maker == self._me:
            self._own_used.use(prekey.number)
        else:
            self._peers[self._parties.names[prekey.maker]][prekey.start.hex()].use(prekey.number)


def seen_valid(member: str, seen: Seen, parties: Parties) -> bool:
    """Whether a receipt that somebody shows is that member's own word."""
    if seen.receipt.head is None:
        return False
    statement = receipt_statement(seen.job, seen.attempt, seen.order, member, seen.receipt)
    return parties.signed(member, seen.receipt.signature, statement)
