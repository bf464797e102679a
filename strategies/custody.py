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
from hansa.contract.typed import clipped
from hansa.contract.wire import Segments, digest
from hansa.secagg.key_setup import bundle_bytes
from hansa.strategies.attempt import Attempt
from hansa.strategies.blind_state import BlindState, largest_sealed_state
from hansa.strategies.exchange import Exchange, ExchangeError
from hansa.strategies.ports import Journal
from hansa.strategies.requests import NO_SEGMENTS, Desk, Reply
from hansa.strategies.start_exchange import DEADLINE_S

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
        # The state that members must hold before they take part.
        self.state = BlindState.start()
        self._tried = -AGAIN_S
        # How often a member was given a state and did not take it: copies are tried in turn.
        self._reloads: Counter[str] = Counter()

    @property
    def epoch(self) -> int:
        """Number of the keys in use; 0 while no member is ready."""
        return max((it.epoch for it in self._held.values() if it.ready), default=0)

    def hear(self, member: str, held: Held) -> None:
        """What a member says it holds."""
        self._held[member] = held

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
        here = {name: node for name, node in addresses.items() if name in self._held}
        lacking = [name for name in here if not self._has_keys(name)]
        if lacking and self._monotonic() - self._tried >= AGAIN_S:
            self._tried = self._monotonic()
            if any(self._has_keys(name) for name in here):
                self._hand_on(here, lacking)
            elif not self.state.round and len(here) >= self._desk.charter.minimum_cohort:
                self._make(here)
        self._reload(here)

    def _has_keys(self, name: str) -> bool:
        held = self._held[name]
        return held.ready and held.epoch == self.epoch

    # --- keys -----------------------------------------------------------------------------------

    def _make(self, here: Mapping[str, int]) -> None:
        """A new epoch: the member with the lowest identity key makes the keys, the others sign what they opened."""
        identity = {it.name: it.identity_key for it in self._desk.charter.members}
        maker = min(here, key=identity.__getitem__)
        epoch = 1 + max(self._held[name].epoch for name in here)
        request = KeysRequest(job=self._job, epoch=epoch, maker=maker)
        made = next(self._ask({maker: here[maker]}, request), None)
        if made is None or not isinstance(made.body, KeysReply) or SEALED_KEYS not in made.segments:
            return
        sealed = {SEALED_KEYS: made.segments[SEALED_KEYS]}
        signatures = {maker: made.body.signature}
        others = {name: node for name, node in here.items() if name != maker}
        for answer in self._ask(others, request.model_copy(update={"signatures": signatures}), sealed):
            if isinstance(answer.body, KeysReply):
                signatures[answer.member] = answer.body.signature
        self._confirm(here, request.model_copy(update={"signatures": signatures}))
        self._journal.event(
            "keys",
            f"keys {epoch} of the job were made by {maker}, signed by {len(signatures)} members; "
            f"{sum(self._has_keys(name) for name in here)} are ready",
        )

    def _hand_on(self, here: Mapping[str, int], lacking: list[str]) -> None:
        """Whoever has the keys seals them once more, for those that were away."""
        owners = [name for name in here if self._has_keys(name)]
        for owner in owners:
            held = self._held[owner]
            request = KeysRequest(job=self._job, epoch=held.epoch, maker=held.maker)
            answer = next(self._ask({owner: here[owner]}, request), None)
            if answer is None or not isinstance(answer.body, KeysReply):
                continue
            sealed = {SEALED_KEYS: answer.segments.get(SEALED_KEYS, np.empty(0, dtype=np.uint8))}
            shown = request.model_copy(update={"signatures": answer.body.signatures})
            self._confirm({name: here[name] for name in lacking}, shown, sealed)
            if all(self._has_keys(name) for name in lacking if name in self._held):
                return

    def _confirm(
        self, nodes: Mapping[str, int], request: KeysRequest, segments: Segments = NO_SEGMENTS
    ) -> None:
        for answer in self._ask(nodes, request, segments):
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
            if name in self._held and self._has_keys(name) and self._lacks(self._held[name])
        }
        for name, node in lacking.items():
            copy = state.sealed[self._reloads[name] % len(state.sealed)]
            request = ReloadRequest(job=self._job, round=state.round, tag=state.tag)
            answer = next(self._ask({name: node}, request, {SEALED_STATE: copy}), None)
            if answer is not None and isinstance(answer.body, ApplyReply):
                self._take_tag(answer)
                self._journal.event("reloaded", f"holds the model of round {answer.body.round}", member=name)
            elif answer is not None:
                self._reloads[name] += 1

    def apply(self, attempt: Attempt, addresses: Mapping[str, int]) -> BlindState | None:
        """Have the members apply an attempt's sum; the state that t of them hold then, None where there is none.

        `attempt.failure` says why not.
        """
        order, needed = attempt.order, self._desk.charter.threshold
        request = ApplyRequest(
            order=order,
            active=attempt.active,
            noise=attempt.mean_noise(),
            sealing=attempt.active[:SEALERS],
        )
        nodes = {
            name: node for name, node in addresses.items() if name in self._held and self._has_keys(name)
        }
        tags: Counter[str] = Counter()
        sealed: dict[str, list[NDArray[Any]]] = {}
        bad: list[str] = []
        began = self._monotonic()

        def enough() -> bool:
            tag, count = tags.most_common(1)[0] if tags else ("", 0)
            return count >= needed and tag in sealed and self._monotonic() - began >= PATIENCE_S

        deadline = attempt.plan.deadline_s
        brought = {ENCRYPTED_SUM: attempt.encrypted_sum()}
        if self.state.prepared and order.base == 0:
            brought[PREPARATION] = self.state.preparation
        for answer in self._ask(nodes, request, brought, enough=enough, deadline_s=deadline):
            if isinstance(answer.body, ApplyReply) and answer.body.round == order.base + 1:
                self._take_tag(answer)
                tags[answer.body.tag] += 1
                if SEALED_STATE in answer.segments:
                    sealed.setdefault(answer.body.tag, []).append(answer.segments[SEALED_STATE])
            elif isinstance(answer.body, RefusalReply) and answer.body.code == "bad-sum":
                bad.append(answer.member)
        return self._standing(attempt, tags, sealed, bad)

    def _standing(
        self,
        attempt: Attempt,
        tags: Counter[str],
        sealed: Mapping[str, list[NDArray[Any]]],
        bad: list[str],
    ) -> BlindState | None:
        needed, number = self._desk.charter.threshold, attempt.order.attempt
        tag, count = tags.most_common(1)[0] if tags else ("", 0)
        if count < needed:
            found = f"; {', '.join(bad)} say that the sum is not that of its uploads" if bad else ""
            attempt.failure = clipped(
                f"attempt {number}: {count} members hold the same new model, the charter needs {needed}{found}"
            )
            attempt.diverged = not bad and tags.total() >= needed
            return None
        if tag not in sealed:
            attempt.failure = f"attempt {number}: nobody sent the new model, sealed, for those that were away"
            return None
        for name, held in self._held.items():
            if held.tag and held.round == attempt.order.base + 1 and held.tag != tag:
                self._journal.event(
                    "other-model", "holds another model than the others and is given theirs", member=name
                )
        # The server keeps what it cannot open; messages' bytes are not kept with it.
        copies = tuple(np.array(it) for it in sealed[tag])
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
    ) -> Iterator[Answer]:
        """One request to these members; who does not answer, or not in form, is greeted again."""
        if not nodes:
            return
        members, silent = {node: name for name, node in nodes.items()}, set(nodes)
        payload = self._desk.write(self._job, request, segments)
        asked = digest(payload)
        most = max(bundle_bytes(self._desk.parties), largest_sealed_state(self._parameters))
        for node, answer in self._exchange.ask(
            dict.fromkeys(members, payload), deadline_s, self._journal.plan.reask_s, enough
        ):
            name = members[node]
            silent.discard(name)
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
            elif not isinstance(body, KeysReply | ApplyReply):
                self._journal.event("bad-reply", f"answers '{request.type}' with '{body.type}'", member=name)
                continue
            yield Answer(name, body, reply.segments)
        if not enough():
            for name in silent:
                self._forget(name)

    def _read(self, name: str, answer: bytes | ExchangeError, asked: str, segments: int) -> Reply:
        if isinstance(answer, ExchangeError):
            raise answer
        reply = self._desk.read(answer, asked, segments)
        if reply.header.sender != name:
            raise MessageError(f"{name}'s node answers in the name of {reply.header.sender}")
        return reply
