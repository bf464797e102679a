"""The sum of mode `he` in this process: a consortium's masks, with check words and the envelope around them."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from masked_consortium import JOB, Consortium, Meter
from meters import Gauge, give_back_at_once
from numpy.typing import NDArray

from hansa.contract.keys import to_text
from hansa.contract.messages import Order, Receipt
from hansa.contract.segments import UPDATE
from hansa.contract.statements import receipt_statement
from hansa.secagg.check_words import CHECK_WORDS, add_check_words, check_sum
from hansa.secagg.envelope import EnvelopeSum
from hansa.secagg.fixed_point import Grid
from hansa.secagg.key_setup import JobKeys
from hansa.secagg.masks import HE_PRIME
from hansa.secagg.member import MemberAttempt
from hansa.secagg.server import Summation, Unmasking

_MODULI = {UPDATE: HE_PRIME}


@dataclass(frozen=True)
class HeMeters:
    """What measures an upload's making, the server, opening the sum, and checking what was opened."""

    client: Meter
    server: Meter
    opening: Meter
    checking: Meter


class HeSum:
    """The keys of one job, and attempts with them. Every member's update is the same array."""

    def __init__(self, consortium: Consortium) -> None:
        self._consortium = consortium
        self._keys = JobKeys.make(JOB.job, os.urandom)
        self._grid = Grid(consortium.grid.bound, len(consortium.agents), HE_PRIME)

    def attempt(self, number: int, update: NDArray[np.float64], meters: HeMeters) -> int:
        """One undisturbed attempt; the sum must be exact, and taken. The bytes of an upload."""
        agents, words = self._consortium.agents, update.size + CHECK_WORDS
        order, prekeys = self._consortium.take_order(number)
        for name, agent in agents.items():
            assert agent.ring is not None
            self._consortium.stock.add(name, np.frombuffer(agent.ring.make(1), np.uint8), 1)
        together = [prekeys[name] for name in order.cohort]
        attempts, size = {}, 0
        total = EnvelopeSum(words)
        for name, agent in agents.items():
            assert agent.ring is not None
            attempts[name] = agent.ring.accept(order, together)
            with meters.client.running():
                upload = self._upload(attempts[name], name, update)
            size = upload.size
            with meters.server.running():
                # The reply as the network would bring it.
                total.add(upload.copy())
            del upload
        unmasking = Unmasking(self._consortium.desk.parties, order, prekeys, order.cohort)
        for name in order.cohort[: unmasking.missing]:
            shares = attempts[name].give(order.cohort, (), receipts=self._receipts(order), signatures={})
            with meters.server.running():
                unmasking.receive(name, shares)
        with meters.server.running():
            unmasking.unmask(Summation(order.circles, encrypted={UPDATE: total}))
            content = total.content
        self._take(content, order, update, meters)
        return size

    def _upload(self, attempt: MemberAttempt, name: str, update: NDArray[np.float64]) -> NDArray[np.uint8]:
        words = add_check_words(
            self._grid.encode(update), self._keys.group, attempt.order.attempt, UPDATE, name
        )
        return self._keys.envelope.encrypt(attempt.mask({UPDATE: words}, _MODULI)[UPDATE])

    def _receipts(self, order: Order) -> dict[str, Receipt]:
        receipts = {}
        for name, agent in self._consortium.agents.items():
            statement = receipt_statement(order.job, order.attempt, order.digest, name, Receipt())
            receipts[name] = Receipt(signature=to_text(agent.membership.identity.sign(statement)))
        return receipts

    def _take(
        self, content: NDArray[np.uint8], order: Order, update: NDArray[np.float64], meters: HeMeters
    ) -> None:
        with meters.opening.running():
            opened = self._keys.envelope.decrypt(content, update.size + CHECK_WORDS)
        with meters.checking.running():
            taken = check_sum(opened, self._keys.group, order.attempt, UPDATE, order.cohort)
        expected = self._grid.encode(update).astype(np.uint64) * len(order.cohort) % HE_PRIME
        if not taken or not np.array_equal(opened[:-CHECK_WORDS], expected):
            raise SystemExit("the sum in the envelope is not the sum")


def measure_he_memory(members: int, parameters: int) -> dict[str, float]:
    """Peaks of one attempt in mode `he` in bytes a parameter, after one that is not counted."""
    update = np.random.default_rng(0).normal(size=parameters)
    give_back_at_once()
    with tempfile.TemporaryDirectory() as folder:
        consortium = Consortium.start(members, update, Path(folder))
        he = HeSum(consortium)
        for attempt in (1, 2):
            client, server = Gauge(together=False), Gauge(together=True)
            he.attempt(attempt, update, HeMeters(client, server, client, client))
        consortium.close()
    return {
        "he_client_memory": round(client.peak / parameters, 3),
        "he_server_memory": round(server.peak / parameters, 3),
    }
