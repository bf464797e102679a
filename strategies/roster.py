"""Who is there: Flower node ids to members, learnt anew from each signed reply.

A node id is only an address. A node that has not said hello, or that failed since, is asked
again before it takes part; a member that has not approved the job is asked again, too.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from hansa.contract.errors import MessageError
from hansa.contract.messages import (
    PREKEY_STOCK,
    PREKEYS,
    HelloReply,
    HelloRequest,
    JobReply,
    JobRequest,
    RefusalReply,
)
from hansa.contract.wire import Segments, digest
from hansa.secagg.prekeys import Prekey, prekey_bytes
from hansa.strategies.cohort_noise import UNPAID, Noise, fit, noise_problem
from hansa.strategies.exchange import Exchange, ExchangeError
from hansa.strategies.ports import CHARTER_VERSION, Journal, MemberPresence
from hansa.strategies.requests import Desk, Reply
from hansa.strategies.selection import Selection, select
from hansa.strategies.start_exchange import DEADLINE_S, StartExchange
from hansa.strategies.stock import Restarted, Stock
from hansa.strategies.waits import Waits

if TYPE_CHECKING:
    from hansa.strategies.custody import Custody

# A node whose answer was none is asked again after this.
HELLO_AGAIN_S = 5.0
# A member that declined the job is asked again after this long.
JOB_AGAIN_S = 5.0
# One that approved the job and whose budget did not pay for the order, twice and with no attempt between that it took
# part in, is asked for its approval only after this long; after twice as long each time.
UNPAID_AGAIN_S = 60.0
# Refusals of a hello whose facts say which version their maker obeys.
_OTHER_CHARTER = ("wrong-charter", "charter-superseded")


@dataclass(frozen=True)
class Unpaid:
    """A member whose budget does not pay: its own words and the start of its agent.

    Parameters
    ----------
    when : of the newest order that it did not pay for, or of its first refusal of the job
    times : orders that it did not pay for since it last took part
    asked : when it was last asked at all
    """

    sentence: str
    started: float
    when: float
    times: int
    asked: float

    @property
    def again(self) -> float:
        """When it may be asked for its approval again: soon, for people unfreeze, grant and approve meanwhile."""
        pause = UNPAID_AGAIN_S * 2.0 ** (self.times - 2) if self.times > 1 else 0.0
        return max(self.when + pause, self.asked + JOB_AGAIN_S)


class Roster:
    """Addresses of the members that are there and willing, kept for one run of a job.

    Parameters
    ----------
    parameters : coordinates of the charter's model
    """

    def __init__(
        self,
        desk: Desk,
        exchange: Exchange,
        journal: Journal,
        monotonic: Callable[[], float] = time.monotonic,
        *,
        parameters: int,
    ) -> None:
        self._desk = desk
        self._parameters = parameters
        self._exchange = exchange
        self._journal = journal
        self._monotonic = monotonic
        self._members: dict[int, str] = {}
        self._presence: dict[int, MemberPresence] = {}
        # Nodes that gave an answer of no use, and when.
        self._useless: dict[int, float] = {}
        self._waits = Waits(monotonic)
        self._declined: dict[str, tuple[str, float]] = {}
        self._willing: set[str] = set()
        # The noise multipliers with which each member approved the job; empty mappings without privacy.
        self._noise: dict[str, Noise] = {}
        # Members whose budget does not pay; they stay here when they approve the job again, until they took part.
        self._unpaid: dict[str, Unpaid] = {}
        # Members whose prekeys were proved to be badly made, each with a sentence: out until the next run.
        self._blamed: dict[str, str] = {}
        self._masked = desk.charter.protection.masked
        # Members sign each other's starts: for their prekeys, and for the ledgers of all who charge.
        self._witnessed = self._masked or desk.charter.privacy.noise != "none"
        self._stock = Stock(desk.parties)
        # Keys and sealed states of mode `he`; None in every other.
        self.custody: Custody | None = None
        if desk.charter.protection.blind:
            # It brings TenSEAL, which only this mode needs.
            from hansa.strategies.custody import Custody

            self.custody = Custody(
                desk, exchange, journal, forget=self.forget, parameters=parameters, monotonic=monotonic
            )
        self._starts = StartExchange(
            desk,
            exchange,
            journal,
            self._stock,
            forget=self.forget,
            restock=self.restock,
            waits=self._waits,
            monotonic=monotonic,
            prekeys=PREKEY_STOCK if self._masked else 0,
        )

    @property
    def addresses(self) -> Mapping[str, int]:
        """Member name to node id, of those that are connected."""
        return {name: node for node, name in self._members.items()}

    @property
    def willing(self) -> Mapping[str, int]:
        """Member name to node id, of those that are connected and have approved the job."""
        return {name: node for name, node in self.addresses.items() if name in self._willing}

    @property
    def connected(self) -> frozenset[str]:
        """Members that are connected and have approved the job."""
        return frozenset(self._members.values()) & self._willing

    @property
    def declined(self) -> dict[str, str]:
        """Members that are connected but refuse the job, each with its own words."""
        here = set(self._members.values())
        said = {name: sentence for name, (sentence, _) in self._declined.items() if name in here}
        return said | self.unpaid | self._blamed

    @property
    def unpaid(self) -> dict[str, str]:
        """Members whose budget does not pay for this job any more, each with its own words."""
        return {name: it.sentence for name, it in self._unpaid.items() if name not in self._willing}

    @property
    def noise(self) -> Mapping[str, Noise]:
        """Noise multipliers by segment of each member that approved the job."""
        return self._noise

    def select(self, held: Mapping[str, str], aside: Mapping[str, str] | None = None) -> Selection:
        """The cohort that could be asked now.

        Parameters
        ----------
        aside : members that are left out this once, each with the reason
        """
        charter, plan = self._desk.charter, self._journal.plan
        out = {**(aside or {}), **self.declined}
        there = {name: self._noise[name] for name in self.connected if name not in out and name not in held}
        loudness = fit(there, charter, plan, self._parameters)
        selection = select(
            charter,
            connected=self.connected,
            declined={**out, **loudness.left_out},
            held=held,
            starts=self._stock.starts if self._witnessed else None,
            unready={} if self.custody is None else self.custody.unready(),
        )
        cohort = {name: there[name] for name in selection.cohort}
        return replace(selection, noise=fit(cohort, charter, plan, self._parameters).largest)

    def take(self, selection: Selection) -> dict[str, Prekey]:
        """The prekeys of a selection, out of the stock for good; none in mode `clear`."""
        return self._stock.take(selection.prekeys)

    def restock(self, member: str, segments: Segments, expected: int = 1) -> None:
        """Put the prekeys of a reply into the stock; what is wrong with them is noted and costs nothing else."""
        try:
            self._stock.add(member, segments.get(PREKEYS, np.empty(0, dtype=np.uint8)), expected)
        except Restarted as restarted:
            self._journal.event("restarted", str(restarted), member=member)
            self.forget(member)
        except MessageError as error:
            self._journal.event("bad-prekey", str(error), member=member)

    def ask_anew(self, member: str) -> None:
        """A member's approval may have changed, and its noise with that: it is asked for the job again."""
        self._willing.discard(member)

    def blame(self, member: str, sentence: str) -> None:
        """A member's prekeys are badly made, by proof: it takes no part until the next run."""
        self._blamed[member] = f"left out until the next run: {sentence}"

    def not_paid(self, member: str, code: str, sentence: str) -> None:
        """A member's budget does not pay: no attempt asks it before it approves the job once more.

        It is asked for that every few seconds and answers from its ledger as it stands, so what its organisation
        decides counts at once. Whoever says yes to the job and no to the orders is asked more seldom each time;
        at once where its agent starts anew.
        """
        started = max((it.started for it in self._presence.values() if it.name == member), default=0.0)
        before, said, now = self._unpaid.get(member), f"{code}: {sentence}", self._monotonic()
        # Of one that had approved the job an order came to nothing.
        ordered = member in self._willing
        self._willing.discard(member)
        self._declined.pop(member, None)
        times = (before.times if before is not None else 0) + int(ordered)
        when = now if ordered or before is None else before.when
        self._unpaid[member] = Unpaid(said, started, when, times, now)
        if before is None or before.sentence != said:
            self._journal.event(code, sentence, member=member)

    def took_part(self, members: Iterable[str]) -> None:
        """These paid for an attempt: what they did not pay for before counts no more."""
        for member in members:
            self._unpaid.pop(member, None)

    def refresh(self, *, prekeys: bool = True) -> None:
        """Look who is online, ask new nodes for a hello and new members for the job.

        Parameters
        ----------
        prekeys : whether attempts are to follow: starts are signed then, and stocks filled in mode `masked`
        """
        settle = prekeys and self._witnessed
        prekeys = prekeys and self._masked
        online = {node for node, _ in self._exchange.nodes()}
        for node, name in list(self._members.items()):
            if node not in online:
                self.forget(name)
        now, go_on = self._monotonic(), self._goes_on(len(self._members))
        strangers = [
            node
            for node in online
            if node not in self._members
            and now - self._useless.get(node, -HELLO_AGAIN_S) >= HELLO_AGAIN_S
            and self._waits.due(node, go_on)
        ]
        if strangers:
            self._greet(strangers, PREKEY_STOCK if prekeys else 0)
        self._propose()
        if settle:
            self._starts.settle(self.addresses, lambda: not self.select({}).shortfall)
        if self.custody is not None:
            self.custody.settle(self.willing)
        self._journal.present([self._presence[node] for node in self._members])

    def forget(self, member: str) -> None:
        """A member failed to answer: it takes part again once it has said hello."""
        for node in [node for node, name in self._members.items() if name == member]:
            del self._members[node]
            self._useless.pop(node, None)
        self._stock.forget(member)
        if self.custody is not None:
            # What it holds is asked with the job.
            self._willing.discard(member)
            self.custody.forget(member)

    def _greet(self, nodes: list[int], prekeys: int) -> None:
        nonce = secrets.token_hex(16)
        request = self._desk.write(self._journal.plan.job, HelloRequest(nonce=nonce, prekeys=prekeys))
        began, silent = self._monotonic(), set(nodes)
        enough = self._enough(nodes, lambda: len(self._members))
        size = prekeys * prekey_bytes(self._desk.parties)
        for node, answer in self._exchange.ask(dict.fromkeys(nodes, request), DEADLINE_S, enough=enough):
            silent.discard(node)
            self._waits.answered(node)
            reply = self._read(node, answer, digest(request), size)
            if reply is None:
                continue
            body = reply.header.body
            if isinstance(body, HelloReply) and body.nonce != nonce:
                problem = "answers another hello than the one it was sent"
                self._useless[node] = self._monotonic()
                self._journal.event("bad-reply", problem, member=reply.header.sender)
            elif isinstance(body, HelloReply) and body.charter_version != self._desk.charter.version:
                self._other_charter(node, reply.header.sender, body.charter_version)
            elif isinstance(body, HelloReply):
                self.forget(reply.header.sender)
                self._members[node] = reply.header.sender
                unpaid = self._unpaid.get(reply.header.sender)
                if unpaid is not None and unpaid.started != body.started:
                    del self._unpaid[reply.header.sender]
                self._useless.pop(node, None)
                self._presence[node] = MemberPresence(
                    name=reply.header.sender,
                    node_id=node,
                    isolated=body.isolated,
                    charter_version=body.charter_version,
                    started=body.started,
                )
                if self._witnessed and body.start:
                    self._stock.greet(reply.header.sender, body.start, body.accepts)
                if self._masked and body.start:
                    self.restock(reply.header.sender, reply.segments, prekeys)
            elif isinstance(body, RefusalReply):
                self._useless[node] = self._monotonic()
                obeyed = body.facts.get("version") if body.code in _OTHER_CHARTER else None
                facts = {CHARTER_VERSION: obeyed} if isinstance(obeyed, int) else None
                self._journal.event(body.code, body.sentence, member=reply.header.sender, facts=facts)
            else:
                self._useless[node] = self._monotonic()
        self._waits.silent(silent, self._monotonic() - began)

    def _other_charter(self, node: int, member: str, obeyed: int) -> None:
        """A hello from another agreement is none; what it says is kept with the member."""
        self._useless[node] = self._monotonic()
        sentence = f"says that it obeys version {obeyed} of the charter, this is {self._desk.charter.version}"
        self._journal.event("other-charter", sentence, member=member, facts={CHARTER_VERSION: obeyed})

    def _propose(self) -> None:
        now = self._monotonic()
        asked = {
            node: name
            for node, name in self._members.items()
            if name not in self._willing
            and (name not in self._unpaid or now >= self._unpaid[name].again)
            and now - self._declined.get(name, ("", -JOB_AGAIN_S))[1] >= JOB_AGAIN_S
        }
        if not asked:
            return
        plan = self._journal.plan
        request = self._desk.write(plan.job, JobRequest(plan=plan))
        began, silent = self._monotonic(), set(asked)
        enough = self._enough(asked, lambda: len(self.connected))
        for node, answer in self._exchange.ask(dict.fromkeys(asked, request), DEADLINE_S, enough=enough):
            silent.discard(node)
            reply = self._read(node, answer, digest(request))
            if reply is None:
                self.forget(asked[node])
            elif isinstance(reply.header.body, JobReply):
                self._take_approval(reply.header.sender, reply.header.body)
            elif isinstance(reply.header.body, RefusalReply) and reply.header.body.code in UNPAID:
                self.not_paid(reply.header.sender, reply.header.body.code, reply.header.body.sentence)
            elif isinstance(reply.header.body, RefusalReply):
                refusal = reply.header.body
                known = self._declined.get(reply.header.sender, ("", 0.0))[0]
                self._declined[reply.header.sender] = (f"{refusal.code}: {refusal.sentence}", now)
                if known != f"{refusal.code}: {refusal.sentence}":
                    self._journal.event(refusal.code, refusal.sentence, member=reply.header.sender)
            else:
                self.forget(asked[node])
                self._useless[node] = self._monotonic()
                self._journal.event("bad-reply", "answers a job with something else", member=asked[node])
        for node in silent:
            self.forget(asked[node])
        self._waits.silent(silent, self._monotonic() - began)

    def _take_approval(self, member: str, approval: JobReply) -> None:
        """A member's yes, with the noise that it will add; a yes without that is none."""
        problem = noise_problem(approval.noise, self._desk.charter, self._journal.plan)
        if not problem:
            self._noise[member] = approval.noise
            self._willing.add(member)
            if self.custody is not None:
                self.custody.hear(member, approval.held)
            self._declined.pop(member, None)
            return
        if self._declined.get(member, ("", 0.0))[0] != problem:
            self._journal.event("bad-reply", f"{member} approved the job, but {problem}", member=member)
        self._declined[member] = (problem, self._monotonic())

    def _goes_on(self, there: int) -> bool:
        """Whether rounds can go on with so many members."""
        charter = self._desk.charter
        needed = charter.minimum_cohort
        if self._witnessed:
            # Whoever starts needs the words of so many others.
            needed = max(needed, charter.witnesses_needed + 1)
        return there >= needed

    def _enough(self, asked: Iterable[int], ready: Callable[[], int]) -> Callable[[], bool]:
        """Whether rounds can go on with who is there, and the others have had their time."""
        began, patience = self._monotonic(), self._waits.patience(asked, self._goes_on(ready()))

        def enough() -> bool:
            return self._goes_on(ready()) and self._monotonic() - began >= patience

        return enough

    def _read(self, node: int, answer: bytes | ExchangeError, asked: str, segments: int = 0) -> Reply | None:
        if isinstance(answer, ExchangeError):
            self._useless[node] = self._monotonic()
            return None
        try:
            reply = self._desk.read(answer, asked, segments)
            if self._members.get(node, reply.header.sender) != reply.header.sender:
                raise MessageError(f"{self._members[node]}'s node answers as {reply.header.sender}")
            return reply
        except MessageError as error:
            self._useless[node] = self._monotonic()
            self._journal.event("bad-reply", f"node {node}: {error}")
            return None
