"""A member's prekeys: its own since its start, and which ones of its peers it may still use (PROTOCOL section 3).

An honest agent gives at most one share of any prekey, ever. What this rests on lives in memory and
begins anew with the process: an agent that was restarted, or came back from a backup, knows no prekey
of its own, and takes of its peers only those that were made after they signed its start. Every prekey
carries the nonce of the start in which it was made, so that no clock and no kept number is leant on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hansa.contract.errors import RefusalError
from hansa.contract.keys import Signer
from hansa.contract.messages import Order
from hansa.secagg.active_set import check_circles
from hansa.secagg.member import MemberAttempt
from hansa.secagg.parties import Parties
from hansa.secagg.prekeys import Prekey, PrekeySecrets, check_prekey, make_prekey
from hansa.secagg.shamir import Randomness
from hansa.secagg.starts import Receipts, Starts, Taken

# Unused prekeys that a member remembers. Room for more is made only by those that were handed out long
# ago: a flood of requests must not take away what the server is about to use. While all are recent,
# more are refused; attempts go on meanwhile, since each uses one and makes one. A server that lost its
# stock many times over gets new ones when the old ones are no longer recent.
KEPT_PREKEYS = 256
RECENT_S = 300.0


class PrekeyRing(Starts):
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
        super().__init__(parties, me, signer=signer, randomness=randomness, receipts=receipts)
        self._sealing_key = sealing_key
        self._randomness = randomness
        self._next = 1
        self._monotonic = monotonic
        self._own: dict[int, PrekeySecrets] = {}
        # When each of these was handed out, in seconds of the clock.
        self._made: dict[int, float] = {}
        self._own_used = Taken()

    @property
    def _first(self) -> int:
        return self._next

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

    def accept(self, order: Order, prekeys: Sequence[Prekey]) -> MemberAttempt:
        """Take part in an attempt: its prekeys, this member's own among them, are used from here on.

        Parameters
        ----------
        prekeys : one of each member of the cohort, in the cohort's order

        Raises
        ------
        RefusalError : a prekey that is unknown, used, forged, badly made or from before a peer's last start, or
            a cohort that is split wrongly; nothing is used up then
        """
        parties = self._parties
        with self._lock:
            self.check_witnessed()
            check_circles(order, parties.charter, parties.names[self._me])
            if len(prekeys) != len(order.cohort) or set(order.prekeys) != set(order.cohort):
                raise RefusalError(
                    "prekey-unknown", "the order does not name one prekey of each of its cohort"
                )
            for name, prekey in zip(order.cohort, prekeys, strict=True):
                self._check(name, prekey, order)
            participants = dict(zip(order.cohort, prekeys, strict=True))
            mine = self._own[participants[parties.names[self._me]].number]
            self._check_begun_since(order, mine.prekey)
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

    def _check_begun_since(self, order: Order, mine: Prekey) -> None:
        """Refuse an order from before the last word on the start of one of its cohort, as that peer does itself.

        An earlier life of the peer may have been charged for it, and its ledger may have lost that since: the
        word says what was seen of the ledger so far, and what is begun after it is charged after it.
        """
        for name in order.cohort:
            first = self._signed.get(name, ("", 0))[1]
            if mine.number < first:
                raise RefusalError(
                    "prekey-unknown",
                    f"'{name}' started again since prekey {mine.number} of this agent was made; begin another "
                    "attempt",
                    {"member": name, "number": mine.number},
                )

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
