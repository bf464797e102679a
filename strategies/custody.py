"""What the server keeps of a job in mode `he` and cannot read: who has which keys, and the members' sealed state.

Every member applies every sum by itself. A round is one when t members hold the same new state; the first of
them send it, sealed under a key that the server does not have, for whoever was away (PROTOCOL section 5).
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa.contract.blind_messages import (
    ENCRYPTED_SUM,
    MOST_WRONG,
    SEALED_STATE,
    ApplyReply,
    ApplyRequest,
    Held,
    ReloadRequest,
)
from hansa.contract.messages import RefusalReply
from hansa.contract.segments import PREPARATION
from hansa.contract.typed import clipped
from hansa.contract.wire import Segments
from hansa.strategies.attempt import Attempt
from hansa.strategies.blind_exchange import BlindExchange
from hansa.strategies.blind_keys import BlindKeys
from hansa.strategies.blind_state import BlindState
from hansa.strategies.exchange import Exchange
from hansa.strategies.holdings import Holdings
from hansa.strategies.ports import Journal
from hansa.strategies.requests import Desk
from hansa.strategies.start_exchange import DEADLINE_S
from hansa.strategies.waits import Waits

# Members that send the new state, sealed: one may vanish.
SEALERS = 2
# Once enough hold the same state, so long the others are waited for.
PATIENCE_S = 2.0


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
        self._charter = desk.charter
        self._journal = journal
        self._monotonic = monotonic
        self._waits = Waits(monotonic)
        self._exchange = BlindExchange(
            desk,
            exchange,
            journal,
            self._waits,
            forget=forget,
            parameters=parameters,
            monotonic=monotonic,
        )
        self._holdings = Holdings(desk.parties)
        self._keys = BlindKeys(desk.charter, self._exchange, journal, self._holdings, monotonic)
        # How often a member was given a state and did not take it: copies are tried in turn.
        self._reloads: Counter[str] = Counter()
        # Sums that more members called wrong than may be faulty.
        self._wrong = 0

    @property
    def state(self) -> BlindState:
        """The state that members must hold before they take part."""
        return self._holdings.state

    @state.setter
    def state(self, state: BlindState) -> None:
        self._holdings.state = state

    @property
    def epoch(self) -> int:
        """Number of the keys that most members are ready for; 0 while no member is."""
        return self._holdings.epoch

    @property
    def spoilt(self) -> str:
        """Why the job cannot go on: so many sums were wrong that its members take no part any more."""
        if self._wrong < MOST_WRONG:
            return ""
        return f"{self._wrong} sums were not those of the uploads in them; its members take no part in it any more"

    def hear(self, member: str, held: Held) -> None:
        """What a member says it holds; keys of a stranger are none."""
        self._holdings.hear(member, held)

    def forget(self, member: str) -> None:
        """The member may have begun anew, with older files."""
        self._holdings.forget(member)

    def unready(self) -> dict[str, str]:
        """Members that cannot take part yet, each with the reason."""
        return self._holdings.unready()

    def settle(self, addresses: Mapping[str, int]) -> None:
        """Bring keys, then the state, to every member that is there and lacks them."""
        here = {
            name: node
            for name, node in addresses.items()
            if name in self._holdings and self._waits.due(name, self._holdings.goes_on())
        }
        self._keys.settle(here)
        self._reload(here)

    def _reload(self, here: Mapping[str, int]) -> None:
        """Give whoever holds another state the standing one, as a member sealed it."""
        state = self.state
        lacking = {
            name: node
            for name, node in here.items()
            if self._holdings.has_keys(name) and not self._holdings.is_ready(name)
        }
        for number, copy in enumerate(state.sealed if lacking else ()):
            turn = {it: at for it, at in lacking.items() if self._reloads[it] % len(state.sealed) == number}
            request = ReloadRequest(job=self._exchange.job, round=state.round, tag=state.tag)
            for answer in self._exchange.ask(
                turn, request, {SEALED_STATE: copy}, enough=self._holdings.goes_on
            ):
                if isinstance(answer.body, ApplyReply):
                    del lacking[answer.member]
                    self._holdings.took_state(answer.member, answer.body)
                    self._journal.event(
                        "reloaded", f"holds the model of round {answer.body.round}", member=answer.member
                    )
                else:
                    # The next copy is its turn.
                    self._reloads[answer.member] += 1

    def apply(self, attempt: Attempt, addresses: Mapping[str, int], factor: float = 1.0) -> BlindState | None:
        """Have the members apply an attempt's sum; the state that t of them hold then, None where there is none.

        `attempt.failure` says why not.

        Parameters
        ----------
        factor : by what the step is multiplied
        """
        order, needed = attempt.order, self._charter.threshold
        sealing = attempt.active[: max(SEALERS, self._charter.protection.c + 1)]
        request = ApplyRequest(
            order=order, active=attempt.active, noise=attempt.mean_noise(), factor=factor, sealing=sealing
        )
        nodes = {name: node for name, node in addresses.items() if self._holdings.is_ready(name)}
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
        for answer in self._exchange.ask(
            nodes, request, brought, enough=enough, deadline_s=deadline, patience_s=PATIENCE_S
        ):
            if isinstance(answer.body, ApplyReply):
                self._holdings.took_state(answer.member, answer.body)
                tags[answer.member] = answer.body.tag
                if answer.member in sealing and SEALED_STATE in answer.segments:
                    sealed.setdefault(answer.body.tag, []).append(answer.segments[SEALED_STATE])
            elif isinstance(answer.body, RefusalReply) and answer.body.code == "bad-sum":
                bad.append(answer.member)
        self._wrong += len(bad) > self._charter.protection.c
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
            for answer in self._exchange.ask({name: node}, again, brought, deadline_s=wait):
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
        needed, number = self._charter.threshold, attempt.order.attempt
        tag, count = _most(tags)
        if count < needed:
            found = f"; {', '.join(sorted(bad))} say that the sum is not that of its uploads" if bad else ""
            attempt.failure = clipped(
                f"attempt {number}: {count} members hold the same new model, the charter needs {needed}{found}"
            )
            # Of so many as may be faulty each may say any tag; the next attempt gives them the others' model first.
            attempt.diverged = not bad and len(tags) - count > self._holdings.borne
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


def _most(tags: Mapping[str, str]) -> tuple[str, int]:
    """The tag that most members say, and how many."""
    return Counter(tags.values()).most_common(1)[0] if tags else ("", 0)
