"""The start exchange: members sign each other's starts (PROTOCOL section 7).

With that each takes the other's prekeys, and learns the newest receipt of its own ledger that somebody saw; in mode
`clear`, where there are no prekeys, the latter alone.

Two requests: whoever runs signs the starts of those that do not take its prekeys yet, and makes fresh
prekeys after that; then each of these is shown what was signed for it. Members that know each other
exchange nothing.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator, Mapping

from hansa.contract.errors import MessageError
from hansa.contract.messages import PREKEY_STOCK, RefusalReply, Witness, WitnessReply, WitnessRequest
from hansa.contract.statements import witness_statement
from hansa.contract.wire import Segments, digest
from hansa.secagg.prekeys import prekey_bytes
from hansa.secagg.starts import seen_valid
from hansa.strategies.exchange import Exchange, ExchangeError
from hansa.strategies.ports import Journal
from hansa.strategies.requests import Desk, Reply
from hansa.strategies.stock import Stock
from hansa.strategies.waits import Waits

DEADLINE_S = 60.0
# What a member did not do when it was asked is asked of it again after this.
AGAIN_S = 5.0
# Fresh prekeys that some peer says it needs are asked for at most so seldom, where that was in vain before.
LONGEST_IN_VAIN_S = 300.0
# Refusals of a member that does not know any more what it knew: it restarted.
RESTARTED = ("prekey-unknown", "prekey-used", "attempt-lost", "replayed", "keys-missing", "wrong-state")


class StartExchange:
    """Keeps the stock filled and valid; talks only where something is missing.

    Parameters
    ----------
    forget : called with a member that may have restarted: it is greeted again
    restock : called with a member, the segments of its reply and the number of prekeys that were asked for
    prekeys : so many are asked of a member at once; 0 where nothing is masked
    """

    def __init__(
        self,
        desk: Desk,
        exchange: Exchange,
        journal: Journal,
        stock: Stock,
        *,
        forget: Callable[[str], None],
        restock: Callable[[str, Segments, int], None],
        waits: Waits | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        prekeys: int = PREKEY_STOCK,
    ) -> None:
        self._prekeys = prekeys
        self._desk = desk
        self._exchange = exchange
        self._journal = journal
        self._stock = stock
        self._forget = forget
        self._restock = restock
        self._monotonic = monotonic
        self._waits = waits or Waits(monotonic)
        # When a start (nonce) was shown to a peer (nonce) to sign, or a peer was asked for prekeys ("").
        self._asked: dict[tuple[str, str], float] = {}
        # How often a start (nonce) was asked in vain for prekeys that some peer takes.
        self._vain: dict[str, int] = {}

    def settle(self, addresses: Mapping[str, int], ready: Callable[[], bool]) -> None:
        """Have starts signed and stocks filled among the members at these addresses.

        Parameters
        ----------
        ready : whether rounds could go on with what is there
        """
        wanted = self._wanted(addresses, ready())
        if not wanted:
            return
        words = self._collect(wanted, addresses, ready)
        # Who has just been silent is not waited for a second time.
        there = {name: said for name, said in words.items() if said and self._waits.due(name, ready())}
        self._show(there, addresses, ready)

    def _wanted(self, addresses: Mapping[str, int], go_on: bool) -> dict[str, dict[str, str]]:
        """Of whom something is wanted: the starts to sign, by member; none where only prekeys are."""
        starts = {
            name: it
            for name, it in self._stock.starts.items()
            if name in addresses and self._waits.due(name, go_on)
        }
        now, wanted = self._monotonic(), {}
        for peer, its in starts.items():
            to_sign = {
                name: start.nonce
                for name, start in starts.items()
                if name != peer and peer not in start.accepts and self._due(start.nonce, its.nonce, now)
            }
            if to_sign or self._lacks_prekeys(peer, its.nonce, now):
                wanted[peer] = to_sign
                asked = [*to_sign.values(), ""]
                self._asked.update({(nonce, its.nonce): now for nonce in asked})
        return wanted

    def _lacks_prekeys(self, peer: str, nonce: str, now: float) -> bool:
        if self._prekeys == 0:
            return False
        if self._stock.empty(peer):
            return self._due("", nonce, now)
        pause = min(AGAIN_S * 2.0 ** min(self._vain.get(nonce, 0), 10), LONGEST_IN_VAIN_S)
        return self._stock.too_old(peer) and now - self._asked.get(("", nonce), -pause) >= pause

    def _due(self, start: str, peer: str, now: float) -> bool:
        return now - self._asked.get((start, peer), -AGAIN_S) >= AGAIN_S

    def _collect(
        self,
        wanted: Mapping[str, Mapping[str, str]],
        addresses: Mapping[str, int],
        rounds_go_on: Callable[[], bool],
    ) -> dict[str, list[Witness]]:
        """What was signed, by the member whose start it is; fresh prekeys go into the stock."""
        words: dict[str, list[Witness]] = {name: [] for to_sign in wanted.values() for name in to_sign}
        needed = self._desk.charter.witnesses_needed

        def ready() -> bool:
            starts = self._stock.starts
            return all(name in starts and starts[name].signed + len(words[name]) >= needed for name in words)

        asks = {
            peer: WitnessRequest(starts=dict(to_sign), prekeys=self._prekeys, nonce=secrets.token_hex(16))
            for peer, to_sign in wanted.items()
        }
        for peer in (it for it, to_sign in wanted.items() if to_sign):
            self._stock.fall_silent(peer, True)
        size = self._prekeys * prekey_bytes(self._desk.parties)
        for peer, reply in self._ask(asks, addresses, ready, rounds_go_on, size):
            self._stock.fall_silent(peer, False)
            body = reply.header.body
            if not isinstance(body, WitnessReply):
                self._stock.withhold(peer, bool(wanted[peer]))
                continue
            if self._prekeys:
                self._restock(peer, reply.segments, self._prekeys)
            if peer not in self._stock.starts:
                # It started again meanwhile: what it signed is worth nothing, and it is greeted next.
                continue
            said = [it for it in body.witnesses if self._counts(it, peer, wanted[peer])]
            self._stock.withhold(peer, {it.member for it in said} != set(wanted[peer]))
            if len(said) != len(body.witnesses):
                self._journal.event(
                    "bad-reply",
                    "signed what it was not asked to, or prekeys that it does not have",
                    member=peer,
                )
            for witness in said:
                words[witness.member].append(witness)
                self._stock.discard(peer, witness.first)
            if self._prekeys == 0:
                continue
            nonce = self._stock.starts[peer].nonce
            if self._stock.too_old(peer):
                self._vain[nonce] = self._vain.get(nonce, 0) + 1
            elif not self._stock.empty(peer):
                self._vain.pop(nonce, None)
                self._asked.pop(("", nonce), None)
        return words

    def _counts(self, witness: Witness, peer: str, asked: Mapping[str, str]) -> bool:
        """Whether this is the peer's word on a start that it was shown, and on prekeys that it has.

        A word on prekeys from some far number on would keep the two members apart for good.
        """
        if witness.witness != peer or asked.get(witness.member) != witness.start:
            return False
        if witness.made != self._stock.starts[peer].nonce or not self._may_show(witness):
            return False
        newest = max(self._stock.starts[peer].numbers, default=-1) if self._prekeys else 0
        if witness.first > newest:
            return False
        statement = witness_statement(self._desk.hash, witness)
        return self._desk.parties.signed(peer, witness.signature, statement)

    def _may_show(self, witness: Witness) -> bool:
        """Whether what a word shows is the member's own receipt; the member would refuse every word beside it."""
        if witness.seen is None:
            return True
        noised = self._desk.charter.privacy.noise != "none"
        return noised and seen_valid(witness.member, witness.seen, self._desk.parties)

    def _show(
        self,
        words: Mapping[str, list[Witness]],
        addresses: Mapping[str, int],
        ready: Callable[[], bool],
    ) -> None:
        """Show members what was signed for them. Every word was checked: who does not take one is at fault itself."""
        asks = {name: WitnessRequest(shown=tuple(said)) for name, said in words.items()}
        refused = {name: [it.witness for it in said] for name, said in words.items()}
        for name, reply in self._ask(asks, addresses, ready, ready):
            body = reply.header.body
            if isinstance(body, WitnessReply):
                refused[name] = [it.witness for it in words[name] if not _taken(it, body)]
            if self._stock.reject(name, refused.pop(name)):
                left = ", ".join(self._stock.rejects(name))
                self._journal.event(
                    "refuses-word",
                    f"does not take the word of {left}, which is valid and was shown to it",
                    member=name,
                )
        for name, left_out in refused.items():
            self._stock.reject(name, left_out)

    def _ask(
        self,
        asks: Mapping[str, WitnessRequest],
        addresses: Mapping[str, int],
        ready: Callable[[], bool],
        rounds_go_on: Callable[[], bool],
        segments: int = 0,
    ) -> Iterator[tuple[str, Reply]]:
        """Ask members, keep what each says it accepts now, yield the replies; forget whoever may have restarted.

        Parameters
        ----------
        ready : whether the answers that are there are enough
        rounds_go_on : whether rounds can go on without any answer
        """
        if not asks:
            return
        written = self._desk.write_many(self._journal.plan.job, list(asks.values()))
        requests = dict(zip(asks, written, strict=True))
        members = {addresses[name]: name for name in asks}
        silent = set(asks)
        began = self._monotonic()
        idle = rounds_go_on()
        patience = self._waits.patience(asks, idle)

        def enough() -> bool:
            return self._monotonic() - began >= patience and (idle or ready())

        payloads = {node: requests[name] for node, name in members.items()}
        for node, answer in self._exchange.ask(payloads, DEADLINE_S, enough=enough):
            name = members[node]
            silent.discard(name)
            self._waits.answered(name)
            reply = self._read(name, answer, digest(requests[name]), segments)
            if reply is None:
                self._forget(name)
                continue
            body = reply.header.body
            if isinstance(body, WitnessReply):
                self._stock.accept(name, body.accepts)
            elif isinstance(body, RefusalReply):
                self._journal.event(body.code, body.sentence, member=name)
            yield name, reply
            if isinstance(body, RefusalReply) and body.code in RESTARTED:
                self._forget(name)
        waited = self._monotonic() - began
        self._waits.silent(silent, waited)
        for name in silent if waited >= DEADLINE_S else ():
            self._forget(name)

    def _read(self, name: str, answer: bytes | ExchangeError, asked: str, segments: int) -> Reply | None:
        if isinstance(answer, ExchangeError):
            return None
        try:
            reply = self._desk.read(answer, asked, segments)
            if reply.header.sender != name:
                raise MessageError(f"{name}'s node answers in the name of {reply.header.sender}")
        except MessageError as error:
            self._journal.event("bad-reply", str(error), member=name)
            return None
        return reply


def _taken(word: Witness, body: WitnessReply) -> bool:
    taken = body.accepts.get(word.witness)
    return taken is not None and taken.start == word.made
