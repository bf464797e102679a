"""What the server keeps of a job in mode `he` and cannot read: who has which keys, and the members' sealed state.

Every member applies every sum by itself. A round is one when t members hold the same new state; the first of
them send it, sealed under a key that the server does not have, for whoever was away (PROTOCOL section 5).
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa.contract.blind_messages import (
    ENCRYPTED_SUM,
    MOST_EPOCHS,
    MOST_WRONG,
    SEALED_KEYS,
    SEALED_STATE,
    ApplyReply,
    ApplyRequest,
    Held,
    KeysReply,
    KeysRequest,
    ReloadRequest,
)
from hansa.contract.errors import MessageError
from hansa.contract.messages import RefusalReply
from hansa.contract.segments import PREPARATION
from hansa.contract.statistics import preparation_length
from hansa.contract.typed import clipped
from hansa.contract.wire import Segments, digest
from hansa.secagg.key_setup import bundle_bytes
from hansa.strategies.attempt import Attempt
from hansa.strategies.blind_state import BlindState, largest_sealed_state
from hansa.strategies.exchange import Exchange, ExchangeError
from hansa.strategies.ports import Journal
from hansa.strategies.requests import NO_SEGMENTS, Desk, Reply
from hansa.strategies.start_exchange import DEADLINE_S, RESTARTED
from hansa.strategies.waits import Waits

log = logging.getLogger("hansa.strategy")

# Members that send the new state, sealed: one may vanish.
SEALERS = 2
# Once enough hold the same state, so long the others are waited for.
PATIENCE_S = 2.0
# Keys that came to nothing are tried again after this long.
AGAIN_S = 2.0


@dataclass(frozen=True)
class Answer:
    """One member's answer to a request of this mode; `said` is a sentence where it refused."""

    member: str
    body: KeysReply | ApplyReply | RefusalReply
    segments: Segments


class Custody:
    """Keys and states of one run of a job.

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
        *,
        forget: Callable[[str], None],
        parameters: int,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._desk = desk
        self._exchange = exchange
        self._journal = journal
        self._forget = forget
        self._parameters = parameters
        self._monotonic = monotonic
        # What each member that approved the job said it holds; nothing of those that must say it again.
        self._held: dict[str, Held] = {}
        self._waits = Waits(monotonic)
        # The state that members must hold before they take part.
        self.state = BlindState.start()
        self._tried = -AGAIN_S
        # The newest keys that were asked for in this run, how often whose came to nothing, and how often keys were
        # handed on.
        self._made = 0
        self._vain: Counter[str] = Counter()
        self._handed = 0
        # How often a member was given a state and did not take it: copies are tried in turn.
        self._reloads: Counter[str] = Counter()
        # Sums that more members called wrong than may be faulty.
        self._wrong = 0

    @property
    def epoch(self) -> int:
        """Number of the keys that most members are ready for; 0 while no member is."""
        ready = Counter(it.epoch for it in self._held.values() if it.ready)
        return max(ready, key=lambda epoch: (ready[epoch], epoch), default=0)

    @property
    def spoilt(self) -> str:
        """Why the job cannot go on: so many sums were wrong that its members take no part any more."""
        if self._wrong < MOST_WRONG:
            return ""
        return f"{self._wrong} sums were not those of the uploads in them; its members take no part in it any more"

    def hear(self, member: str, held: Held) -> None:
        """What a member says it holds; keys of a stranger are none."""
        known = held.maker in self._desk.parties.names
        nothing = {"epoch": 0, "maker": "", "ready": False}
        self._held[member] = held if known else held.model_copy(update=nothing)

    def forget(self, member: str) -> None:
        """The member may have begun anew, with older files."""
        self._held.pop(member, None)

    def unready(self) -> dict[str, str]:
        """Members that cannot take part yet, each with the reason."""
        return {name: reason for name, held in self._held.items() if (reason := self._lacks(held))}

    def _lacks(self, held: Held) -> str:
        if not held.ready or held.epoch != self.epoch:
            return "it does not have the job's keys yet"
        if self.state.tag and held.tag != self.state.tag:
            return f"it does not hold the model of round {self.state.round} yet"
        return ""

    def settle(self, addresses: Mapping[str, int]) -> None:
        """Bring keys, then the state, to every member that is there and lacks them."""
        here = {
            name: node
            for name, node in addresses.items()
            if name in self._held and self._waits.due(name, self._goes_on())
        }
        lacking = {name: node for name, node in here.items() if not self._has_keys(name)}
        # Numbers of keys are few: who makes none is asked more seldom.
        pause = AGAIN_S * 2.0 ** min(self._vain.total(), 5)
        if lacking and self._monotonic() - self._tried >= pause:
            self._tried = self._monotonic()
            if owners := self._owners(here):
                self._hand_on(here, owners[self._handed % len(owners)], lacking)
            elif len(here) >= self._desk.charter.minimum_cohort:
                self._make(here)
        self._reload(here)

    def _goes_on(self) -> bool:
        """Whether rounds can go on with the members that have keys and state."""
        return len(self._held) - len(self.unready()) >= self._desk.charter.minimum_cohort

    def _has_keys(self, name: str) -> bool:
        held = self._held.get(name)
        return held is not None and held.ready and held.epoch == self.epoch

    # --- keys -----------------------------------------------------------------------------------

    def _owners(self, here: Mapping[str, int]) -> list[str]:
        """Members whose word that they have the keys counts: they are asked for them, and no others are made.

        Before round 1 more than may be faulty must say that they signed them: of the t that did some are here.
        """
        said = sum(it.epoch == self.epoch for it in self._held.values())
        believed = said > self._borne or self.state.round
        return [name for name in here if self._has_keys(name)] if believed else []

    @property
    def _borne(self) -> int:
        """Members that may be faulty and stop nothing."""
        charter = self._desk.charter
        return min(charter.protection.c, len(charter.members) - charter.threshold)

    def _next_epoch(self) -> int:
        """Above those that were tried, as far as members say: so many of them as may be faulty could say anything."""
        said = sorted((it.epoch for it in self._held.values()), reverse=True)
        return min(1 + max(self._made, said[min(self._borne, len(said) - 1)]), MOST_EPOCHS)

    def _make(self, here: Mapping[str, int]) -> None:
        """A new epoch: the member with the lowest identity key makes the keys, the others sign what they opened.

        Whose keys came to nothing makes none while there are others.
        """
        identity = {it.name: it.identity_key for it in self._desk.charter.members}
        maker = min(here, key=lambda name: (self._vain[name], identity[name]))
        self._made = self._next_epoch()
        self._vain[maker] += 1
        request = KeysRequest(job=self._job, epoch=self._made, maker=maker)
        made = next(self._ask({maker: here[maker]}, request), None)
        if made is None or not isinstance(made.body, KeysReply) or SEALED_KEYS not in made.segments:
            return
        sealed = {SEALED_KEYS: made.segments[SEALED_KEYS]}
        signatures, needed = {maker: made.body.signature}, self._desk.charter.threshold
        others = {name: node for name, node in here.items() if name != maker}
        request = request.model_copy(update={"signatures": signatures})
        for answer in self._ask(others, request, sealed, enough=lambda: len(signatures) >= needed):
            if isinstance(answer.body, KeysReply):
                signatures[answer.member] = answer.body.signature
        self._confirm(here, request.model_copy(update={"signatures": signatures}))
        if ready := [name for name in here if self._has_keys(name)]:
            self._vain[maker] -= 1
        self._journal.event(
            "keys",
            f"keys {self._made} of the job were made by {maker}, signed by {len(signatures)} members; "
            f"{len(ready)} are ready",
        )

    def _hand_on(self, here: Mapping[str, int], owner: str, lacking: Mapping[str, int]) -> None:
        """Whoever has the keys seals them once more, for those that were away; the next one another time."""
        held = self._held[owner]
        self._handed += 1
        request = KeysRequest(job=self._job, epoch=held.epoch, maker=held.maker)
        answer = next(self._ask({owner: here[owner]}, request), None)
        if answer is None or not isinstance(answer.body, KeysReply):
            return
        sealed = {SEALED_KEYS: answer.segments.get(SEALED_KEYS, np.empty(0, dtype=np.uint8))}
        self._confirm(lacking, request.model_copy(update={"signatures": answer.body.signatures}), sealed)

    def _confirm(
        self, nodes: Mapping[str, int], request: KeysRequest, segments: Segments = NO_SEGMENTS
    ) -> None:
        for answer in self._ask(nodes, request, segments, enough=self._goes_on):
            if isinstance(answer.body, KeysReply) and answer.member in self._held:
                changed = {"epoch": answer.body.epoch, "ready": answer.body.ready, "maker": answer.body.maker}
                self._held[answer.member] = self._held[answer.member].model_copy(update=changed)

    # --- states ---------------------------------------------------------------------------------

    def _reload(self, here: Mapping[str, int]) -> None:
        """Give whoever holds another state the standing one, as a member sealed it."""
        state = self.state
        lacking = {
            name: node
            for name, node in here.items()
            if self._has_keys(name) and self._lacks(self._held[name])
        }
        for number, copy in enumerate(state.sealed if lacking else ()):
            turn = {it: at for it, at in lacking.items() if self._reloads[it] % len(state.sealed) == number}
            request = ReloadRequest(job=self._job, round=state.round, tag=state.tag)
            for answer in self._ask(turn, request, {SEALED_STATE: copy}, enough=self._goes_on):
                if isinstance(answer.body, ApplyReply):
                    del lacking[answer.member]
                    self._take_tag(answer)
                    self._journal.event(
                        "reloaded", f"holds the model of round {answer.body.round}", member=answer.member
                    )
                else:
                    # The next copy is its turn.
                    self._reloads[answer.member] += 1

    def apply(self, attempt: Attempt, addresses: Mapping[str, int]) -> BlindState | None:
        """Have the members apply an attempt's sum; the state that t of them hold then, None where there is none.

        `attempt.failure` says why not.
        """
        order, needed = attempt.order, self._desk.charter.threshold
        sealing = attempt.active[: max(SEALERS, self._desk.charter.protection.c + 1)]
        request = ApplyRequest(
            order=order, active=attempt.active, noise=attempt.mean_noise(), sealing=sealing
        )
        nodes = {
            name: node
            for name, node in addresses.items()
            if self._has_keys(name) and not self._lacks(self._held[name])
        }
        brought = {ENCRYPTED_SUM: attempt.encrypted_sum()}
        if self.state.prepared and order.base == 0:
            brought[PREPARATION] = self.state.preparation
        tags: dict[str, str] = {}
        sealed: dict[str, list[NDArray[Any]]] = {}
        bad: list[str] = []

        def enough() -> bool:
            tag, count = _most(tags)
            return count >= needed and tag in sealed

        deadline = attempt.plan.deadline_s
        for answer in self._ask(
            nodes, request, brought, enough=enough, deadline_s=deadline, patience_s=PATIENCE_S
        ):
            if isinstance(answer.body, ApplyReply):
                self._take_tag(answer)
                tags[answer.member] = answer.body.tag
                if answer.member in sealing and SEALED_STATE in answer.segments:
                    sealed.setdefault(answer.body.tag, []).append(answer.segments[SEALED_STATE])
            elif isinstance(answer.body, RefusalReply) and answer.body.code == "bad-sum":
                bad.append(answer.member)
        self._wrong += len(bad) > self._desk.charter.protection.c
        tag, count = _most(tags)
        if count >= needed and tag not in sealed:
            holders = {it: nodes[it] for it in attempt.active if tags.get(it) == tag}
            sealed[tag] = self._seal_again(holders, tag, request, brought)
        return self._standing(attempt, tags, sealed, bad)

    def _seal_again(
        self, holders: Mapping[str, int], tag: str, request: ApplyRequest, brought: Segments
    ) -> list[NDArray[Any]]:
        """Those that were to send the new state did not: ask others that hold it, one by one.

        All of them are waited for no longer than one would be: each for half of what is left, the last for the rest.
        """
        until, last = self._monotonic() + DEADLINE_S, len(holders) - 1
        for number, (name, node) in enumerate(holders.items()):
            again = request.model_copy(update={"sealing": (name,)})
            left = max(0.0, until - self._monotonic())
            wait = left if number == last else left / 2
            for answer in self._ask({name: node}, again, brought, deadline_s=wait):
                if (
                    isinstance(answer.body, ApplyReply)
                    and answer.body.tag == tag
                    and SEALED_STATE in answer.segments
                ):
                    return [answer.segments[SEALED_STATE]]
        return []

    def _standing(
        self,
        attempt: Attempt,
        tags: Mapping[str, str],
        sealed: Mapping[str, list[NDArray[Any]]],
        bad: list[str],
    ) -> BlindState | None:
        needed, number = self._desk.charter.threshold, attempt.order.attempt
        tag, count = _most(tags)
        if count < needed:
            found = f"; {', '.join(sorted(bad))} say that the sum is not that of its uploads" if bad else ""
            attempt.failure = clipped(
                f"attempt {number}: {count} members hold the same new model, the charter needs {needed}{found}"
            )
            # Of so many as may be faulty each may say any tag; the next attempt gives them the others' model first.
            attempt.diverged = not bad and len(tags) - count > self._borne
            return None
        if not sealed.get(tag):
            attempt.failure = f"attempt {number}: nobody sent the new model, sealed, for those that were away"
            return None
        for name in [name for name, other in tags.items() if other != tag]:
            self._journal.event(
                "other-model", "holds another model than the others and is given theirs", member=name
            )
        # The server keeps what it cannot open; messages' bytes are not kept with it.
        copies = tuple(np.frombuffer(it.tobytes(), dtype=np.uint8) for it in sealed[tag])
        return self.state.followed_by(tag, copies)

    def _take_tag(self, answer: Answer) -> None:
        assert isinstance(answer.body, ApplyReply)
        if answer.member in self._held:
            changed = {"round": answer.body.round, "tag": answer.body.tag}
            self._held[answer.member] = self._held[answer.member].model_copy(update=changed)

    # --- exchange -------------------------------------------------------------------------------

    @property
    def _job(self) -> str:
        return self._journal.plan.job

    def _ask(
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
        payload = self._desk.write(self._job, request, segments)
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
        if body.job != self._job:
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


def _most(tags: Mapping[str, str]) -> tuple[str, int]:
    """The tag that most members say, and how many."""
    return Counter(tags.values()).most_common(1)[0] if tags else ("", 0)
