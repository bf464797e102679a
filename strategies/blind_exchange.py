"""How members are asked about keys, sums and states in mode `he`, and which of their answers count."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from hansa.contract.blind_messages import ApplyReply, ApplyRequest, KeysReply, KeysRequest, ReloadRequest
from hansa.contract.errors import MessageError
from hansa.contract.messages import RefusalReply
from hansa.contract.statistics import preparation_length
from hansa.contract.wire import Segments, digest
from hansa.secagg.key_setup import bundle_bytes
from hansa.strategies.blind_state import largest_sealed_state
from hansa.strategies.exchange import Exchange, ExchangeError
from hansa.strategies.ports import Journal
from hansa.strategies.requests import NO_SEGMENTS, Desk, Reply
from hansa.strategies.start_exchange import DEADLINE_S, RESTARTED
from hansa.strategies.waits import Waits


@dataclass(frozen=True)
class Answer:
    """One member's answer to a request of this mode; `said` is a sentence where it refused."""

    member: str
    body: KeysReply | ApplyReply | RefusalReply
    segments: Segments


class BlindExchange:
    """The requests of this mode of one run of a job.

    Parameters
    ----------
    forget : called with a member that did not answer: it is greeted, and asked what it holds, again
    parameters : coordinates of the charter's model
    """

    def __init__(
        self,
        desk: Desk,
        exchange: Exchange,
        journal: Journal,
        waits: Waits,
        *,
        forget: Callable[[str], None],
        parameters: int,
        monotonic: Callable[[], float],
    ) -> None:
        self._desk = desk
        self._exchange = exchange
        self._journal = journal
        self._waits = waits
        self._forget = forget
        self._parameters = parameters
        self._monotonic = monotonic

    @property
    def job(self) -> str:
        """The job's id."""
        return self._journal.plan.job

    def ask(
        self,
        nodes: Mapping[str, int],
        request: KeysRequest | ApplyRequest | ReloadRequest,
        segments: Segments = NO_SEGMENTS,
        *,
        enough: Callable[[], bool] = lambda: False,
        deadline_s: float = DEADLINE_S,
        patience_s: float | None = None,
    ) -> Iterator[Answer]:
        """One request to these members; who does not answer, or not in form, is greeted again.

        Parameters
        ----------
        enough : whether those that answered do: the others are waited for as long as their silence before deserves
        patience_s : or as long as this
        """
        if not nodes:
            return
        members, silent = {node: name for name, node in nodes.items()}, set(nodes)
        payload = self._desk.write(self.job, request, segments)
        asked = digest(payload)
        preparation = preparation_length(self._desk.charter.task.features)
        most = max(bundle_bytes(self._desk.parties), largest_sealed_state(self._parameters, preparation))
        began = self._monotonic()
        patience = self._waits.patience(nodes, go_on=True) if patience_s is None else patience_s

        def done() -> bool:
            return self._monotonic() - began >= patience and enough()

        for node, answer in self._exchange.ask(
            dict.fromkeys(members, payload), deadline_s, self._journal.plan.reask_s, done
        ):
            name = members[node]
            silent.discard(name)
            if patience_s is None:
                self._waits.answered(name)
            try:
                reply = self._read(name, answer, asked, most)
            except ExchangeError:
                self._forget(name)
                continue
            except MessageError as error:
                self._journal.event("bad-reply", str(error), member=name)
                continue
            body = reply.header.body
            if isinstance(body, RefusalReply):
                self._journal.event(body.code, body.sentence, member=name)
                if body.code in RESTARTED:
                    # It may hold less than it said.
                    self._forget(name)
            elif not isinstance(body, KeysReply | ApplyReply) or not self._fits(request, body):
                sentence = f"answers '{request.type}' with another '{body.type}' than it was asked for"
                self._journal.event("bad-reply", sentence, member=name)
                continue
            yield Answer(name, body, reply.segments)
        if patience_s is None:
            self._waits.silent(silent, self._monotonic() - began)
        if not enough():
            for name in silent:
                self._forget(name)

    def _fits(
        self, request: KeysRequest | ApplyRequest | ReloadRequest, body: KeysReply | ApplyReply
    ) -> bool:
        """Whether it is an answer to that: what members say goes into later requests, which control would not sign."""
        if body.job != self.job:
            return False
        if isinstance(request, KeysRequest):
            return (
                isinstance(body, KeysReply)
                and (body.epoch, body.maker) == (request.epoch, request.maker)
                and set(body.signatures) <= set(self._desk.parties.names)
            )
        if isinstance(request, ReloadRequest):
            return isinstance(body, ApplyReply) and (body.round, body.tag) == (request.round, request.tag)
        return isinstance(body, ApplyReply) and body.round == request.order.base + 1

    def _read(self, name: str, answer: bytes | ExchangeError, asked: str, segments: int) -> Reply:
        if isinstance(answer, ExchangeError):
            raise answer
        reply = self._desk.read(answer, asked, segments)
        if reply.header.sender != name:
            raise MessageError(f"{name}'s node answers in the name of {reply.header.sender}")
        return reply
