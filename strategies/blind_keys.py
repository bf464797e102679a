"""The keys of a job in mode `he`: one member makes them, others sign what they opened, whoever was away gets them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

import numpy as np

from hansa.contract.blind_messages import MOST_EPOCHS, SEALED_KEYS, KeysReply, KeysRequest
from hansa.contract.charter import Charter
from hansa.contract.wire import Segments
from hansa.strategies.blind_exchange import BlindExchange
from hansa.strategies.holdings import Holdings
from hansa.strategies.ports import Journal
from hansa.strategies.requests import NO_SEGMENTS

# Keys that came to nothing are tried again after this long.
AGAIN_S = 2.0


class BlindKeys:
    """Who makes, has and gets the keys in one run of a job."""

    def __init__(
        self,
        charter: Charter,
        exchange: BlindExchange,
        journal: Journal,
        holdings: Holdings,
        monotonic: Callable[[], float],
    ) -> None:
        self._charter = charter
        self._exchange = exchange
        self._journal = journal
        self._holdings = holdings
        self._monotonic = monotonic
        self._tried = -AGAIN_S
        # The newest keys that were asked for in this run, how often whose came to nothing, and how often keys were
        # handed on.
        self._made = 0
        self._vain: Counter[str] = Counter()
        self._handed = 0

    def settle(self, here: Mapping[str, int]) -> None:
        """Bring keys to every member that is there and lacks them."""
        lacking = {name: node for name, node in here.items() if not self._holdings.has_keys(name)}
        # Numbers of keys are few: who makes none is asked more seldom.
        pause = AGAIN_S * 2.0 ** min(self._vain.total(), 5)
        if lacking and self._monotonic() - self._tried >= pause:
            self._tried = self._monotonic()
            if owners := self._owners(here):
                self._hand_on(here, owners[self._handed % len(owners)], lacking)
            elif len(here) >= self._charter.minimum_cohort:
                self._make(here)

    def _owners(self, here: Mapping[str, int]) -> list[str]:
        """Members whose word that they have the keys counts: they are asked for them, and no others are made.

        Before round 1 more than may be faulty must say that they signed them: of the t that did some are here.
        """
        holdings = self._holdings
        said = holdings.epochs.count(holdings.epoch)
        believed = said > holdings.borne or holdings.state.round
        return [name for name in here if holdings.has_keys(name)] if believed else []

    def _next_epoch(self) -> int:
        """Above those that were tried, as far as members say: so many of them as may be faulty could say anything."""
        said = self._holdings.epochs
        return min(1 + max(self._made, said[min(self._holdings.borne, len(said) - 1)]), MOST_EPOCHS)

    def _make(self, here: Mapping[str, int]) -> None:
        """A new epoch: the member with the lowest identity key makes the keys, the others sign what they opened.

        Whose keys came to nothing makes none while there are others.
        """
        identity = {it.name: it.identity_key for it in self._charter.members}
        maker = min(here, key=lambda name: (self._vain[name], identity[name]))
        self._made = self._next_epoch()
        self._vain[maker] += 1
        request = KeysRequest(job=self._exchange.job, epoch=self._made, maker=maker)
        made = next(self._exchange.ask({maker: here[maker]}, request), None)
        if made is None or not isinstance(made.body, KeysReply) or SEALED_KEYS not in made.segments:
            return
        sealed = {SEALED_KEYS: made.segments[SEALED_KEYS]}
        signatures, needed = {maker: made.body.signature}, self._charter.threshold
        others = {name: node for name, node in here.items() if name != maker}
        request = request.model_copy(update={"signatures": signatures})
        for answer in self._exchange.ask(others, request, sealed, enough=lambda: len(signatures) >= needed):
            if isinstance(answer.body, KeysReply):
                signatures[answer.member] = answer.body.signature
        self._confirm(here, request.model_copy(update={"signatures": signatures}))
        if ready := [name for name in here if self._holdings.has_keys(name)]:
            self._vain[maker] -= 1
        self._journal.event(
            "keys",
            f"keys {self._made} of the job were made by {maker}, signed by {len(signatures)} members; "
            f"{len(ready)} are ready",
        )

    def _hand_on(self, here: Mapping[str, int], owner: str, lacking: Mapping[str, int]) -> None:
        """Whoever has the keys seals them once more, for those that were away; the next one another time."""
        held = self._holdings[owner]
        self._handed += 1
        request = KeysRequest(job=self._exchange.job, epoch=held.epoch, maker=held.maker)
        answer = next(self._exchange.ask({owner: here[owner]}, request), None)
        if answer is None or not isinstance(answer.body, KeysReply):
            return
        sealed = {SEALED_KEYS: answer.segments.get(SEALED_KEYS, np.empty(0, dtype=np.uint8))}
        self._confirm(lacking, request.model_copy(update={"signatures": answer.body.signatures}), sealed)

    def _confirm(
        self, nodes: Mapping[str, int], request: KeysRequest, segments: Segments = NO_SEGMENTS
    ) -> None:
        for answer in self._exchange.ask(nodes, request, segments, enough=self._holdings.goes_on):
            if isinstance(answer.body, KeysReply):
                self._holdings.took_keys(answer.member, answer.body)
