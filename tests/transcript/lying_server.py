"""A server that lies, recorded: it tries at every attempt to have something smaller opened than the sum of all.

It has the operator's key and all that one member, the colluder, has. Each lie returns the set whose sum an
honest end of the attempt opens, and what the members said to the lie.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from federation import JOB, make_plan
from masked_side import Answer, Attempt, MaskedServer, forged
from recorded import Frame, Transcript
from recorded_job import Truth, note_work

from hansa.cli.simulation import SimulatedFederation
from hansa.contract.keys import to_text
from hansa.contract.messages import AgreeReply, JobReply, JobRequest
from hansa.contract.segments import UPDATE
from hansa.contract.statements import active_statement
from hansa.secagg.prekeys import Prekey

ALL = tuple("abcde")
COLLUDER = "e"
HONEST = tuple("abcd")
# Active sets of five members that are large enough, but for the whole cohort.
FOURS = tuple(combinations(ALL, 4))


class RecordedServer(MaskedServer):
    """Everything that passes through it goes into a transcript."""

    def __init__(self, federation: SimulatedFederation, truth: Truth) -> None:
        super().__init__(federation)
        self.transcript = Transcript()
        # The members' largest noise multiplier of each segment; empty without privacy.
        self.noise: dict[str, float] = {}
        for agent in self.agents.values():
            note_work(agent, truth)
        self.exchange()
        self.propose()

    def send(self, name: str, payload: bytes) -> Answer:
        """Send bytes to one agent and keep what comes back."""
        self.transcript.frames.append(Frame(name, "to-member", payload))
        answer = super().send(name, payload)
        self.transcript.frames.append(Frame(name, "to-server", answer.raw))
        return answer

    def propose(self, *names: str, job: str = JOB) -> None:
        """Show a job's plan, and note how much noise each member adds."""
        for name in names or self.agents:
            body = self.ask(name, JobRequest(plan=make_plan(job=job))).body
            assert isinstance(body, JobReply), body
            for segment, multiplier in body.noise.items():
                self.noise[segment] = max(multiplier, self.noise.get(segment, 0.0))

    def begin(self, number: int, prekeys: Mapping[str, Prekey] | None = None, **fields: object) -> Attempt:
        """An attempt as `MaskedServer` begins it, with the noise that an update has."""
        noise = {name: multiplier for name, multiplier in self.noise.items() if name == UPDATE}
        return super().begin(number, prekeys, **{"noise": noise, **fields})

    def colluders_word(self, attempt: Attempt, active: Sequence[str]) -> dict[str, str]:
        """The colluder signs whatever the server likes."""
        order = attempt.order
        statement = active_statement(order.job, order.attempt, order.digest, tuple(active))
        return {COLLUDER: to_text(self.federation.identities[COLLUDER].sign(statement))}


def different_sets(server: RecordedServer, attempt: Attempt) -> list[str]:
    """Every member is asked to sign another set; then everybody is shown every set with what was signed on it."""
    server.train(attempt)
    said = []
    signed = {it: server.colluders_word(attempt, it) for it in FOURS}
    for name, sets in zip(HONEST, _sets_by_member(), strict=True):
        answer = server.sign(attempt, name, sets[0])
        assert isinstance(answer.body, AgreeReply)
        signed[sets[0]][name] = answer.body.signature
        said += [server.sign(attempt, name, it).said for it in sets[1:]]
    for active, signatures in signed.items():
        said += [server.ask(name, attempt.unmask(active, signatures)).said for name in HONEST]
    return said


def _sets_by_member() -> list[list[tuple[str, ...]]]:
    """Sets of four that a member may sign, each member with another one first."""
    mine = [[it for it in FOURS if name in it] for name in HONEST]
    return [sets[number:] + sets[:number] for number, sets in enumerate(mine)]


def two_halves(server: RecordedServer, attempt: Attempt) -> list[str]:
    """Each half of the honest members is told that it and the colluder alone have uploaded."""
    server.train(attempt)
    said = []
    for half in ("ab", "cd"):
        active, answers = (*half, COLLUDER), {}
        for name in half:
            answers[name] = server.sign(attempt, name, active)
        said += [it.said for it in answers.values()]
        signatures = server.colluders_word(attempt, active) | {
            name: it.body.signature for name, it in answers.items() if isinstance(it.body, AgreeReply)
        }
        said += [server.ask(name, attempt.unmask(active, signatures)).said for name in half]
    return said


def active_and_dropped(server: RecordedServer, attempt: Attempt) -> list[str]:
    """Both secrets of one member are asked for in one request."""
    server.train(attempt)
    honest = attempt.unmask(ALL)
    lies = [honest.model_copy(update={"dropped": (victim,)}) for victim in HONEST]
    return [server.ask(name, lie).said for lie in lies for name in HONEST]


def second_set(server: RecordedServer, attempt: Attempt) -> list[str]:
    """The sum of all is opened; then one member is said to have dropped, and its one-time key is asked for."""
    server.train(attempt)
    server.opened(attempt, ALL)
    return _open_without(server, attempt, "d")


def seed_of_one_that_dropped(server: RecordedServer, attempt: Attempt) -> list[str]:
    """A member's upload is kept from the others, who give its key; then its seed is asked for."""
    server.train(attempt)
    server.opened(attempt, tuple("abce"))
    return [server.ask(name, attempt.unmask(ALL)).said for name in "abc"]


def _open_without(server: RecordedServer, attempt: Attempt, victim: str) -> list[str]:
    active = tuple(name for name in ALL if name != victim)
    said, signatures = [], server.colluders_word(attempt, active)
    for name in active[:-1]:
        answer = server.sign(attempt, name, active)
        said.append(answer.said)
        if isinstance(answer.body, AgreeReply):
            signatures[name] = answer.body.signature
    return said + [server.ask(name, attempt.unmask(active, signatures)).said for name in active]


def swapped_keys(server: RecordedServer, attempt: Attempt) -> list[str]:
    """The colluder's keys stand in another member's prekey, or its whole prekey in the other's place."""
    known, victim = attempt.prekeys[COLLUDER], attempt.prekeys["b"]
    with_known_key = forged(victim, public=known.public)
    with_known_seed = forged(victim, commitment=known.commitment)
    renamed = forged(known, maker=victim.maker, start=victim.start, number=victim.number)
    said = []
    for lie in (with_known_key, with_known_seed, renamed, known):
        numbers = {**attempt.order.prekeys, "b": lie.number}
        order = attempt.order.model_copy(update={"prekeys": numbers})
        request = server.written(order, {**attempt.prekeys, "b": lie}).request
        said += [server.send(name, request).said for name in ALL if name != "b"]
    return said


def different_orders(server: RecordedServer, attempt: Attempt) -> list[str]:
    """Half of the cohort gets an order with another prekey of the others; everybody is shown all uploads."""
    fresh = {name: server.stock[name].pop(0) for name in "cd"}
    numbers = {**attempt.order.prekeys, **{name: it.number for name, it in fresh.items()}}
    order = attempt.order.model_copy(update={"prekeys": numbers})
    other = server.written(order, {**attempt.prekeys, **fresh})
    server.train(attempt, "abe")
    server.train(other, "cd")
    said = []
    for view in (attempt, other):
        view.receipts = attempt.receipts | other.receipts
        said += [server.ask(name, view.unmask(ALL)).said for name in HONEST]
    return said
