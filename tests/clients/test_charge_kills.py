"""A real agent killed with SIGKILL at random points: no byte without its charge, no charge lost, none twice."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from charged_process import ChargedProcess, is_whole, read

from hansa.contract.messages import RefusalReply, UploadReply
from hansa.privacy.book import Book
from hansa.privacy.records import ChargeRow
from hansa.privacy.uploads import hold_against

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CHARGES = 200
# Attempts before the organisation says again that the job may go on: more may not be unfinished.
UNFINISHED = 3


class Witness:
    """What stood in the ledger and what left the agent, as far as anybody ever saw."""

    def __init__(self, side: ChargedProcess) -> None:
        self.side = side
        self.charged: dict[tuple[int, str], ChargeRow] = {}
        self.first_bytes: dict[int, bytes] = {}

    def saw(self, number: int, answer: bytes) -> None:
        """Bytes that left for an attempt; also a part of them must have been paid, and they never change."""
        before = self.first_bytes.get(number, b"")
        assert answer.startswith(before) or before.startswith(answer)
        self.first_bytes[number] = max(before, answer, key=len)

    def look(self) -> None:
        """Read the file as it stands and hold it against all that was ever seen."""
        rows = self.side.rows()
        book = Book(rows)
        charges = [row.body for row in rows if isinstance(row.body, ChargeRow)]
        kept = {(row.attempt, row.purpose): row for row in charges}
        assert len(kept) == len(charges), "an attempt was charged twice"
        for key, row in self.charged.items():
            assert kept.get(key) == row, "a charge was lost or changed"
        self.charged = kept
        for number, answer in self.first_bytes.items():
            assert not answer or (number, "train") in kept, "a byte left without its charge"
        assert hold_against(self.side.record(), rows).unpaid == ()
        [grant] = book.grants.values()
        assert grant.sums.training <= grant.amount


@pytest.mark.long
def test_sigkill_at_random_points_over_two_hundred_charges(tmp_path: Path) -> None:
    side, randomness = ChargedProcess(tmp_path), random.Random(20260301)
    witness, outcomes = Witness(side), Counter[str]()
    number, usual = 0, 0.02
    while len(witness.charged) < CHARGES:
        with side.running() as process:
            if number:
                outcomes[again(side, witness, number)] += 1
            else:
                side.propose()
            for _ in range(randomness.randint(1, 6)):
                if number % UNFINISHED == 0:
                    side.command("approve", job=side.plan.job, by="head of data")
                number += 1
                began = time.monotonic()
                answer = side.send(side.order(number))
                usual = 0.8 * usual + 0.2 * (time.monotonic() - began)
                assert isinstance(read(answer), UploadReply)
                witness.saw(number, answer)
            if number % UNFINISHED == 0:
                side.command("approve", job=side.plan.job, by="head of data")
            number += 1
            arrived: list[bytes] = []
            payload = side.order(number)
            asking = threading.Thread(target=lambda: arrived.append(side.send(payload)))  # noqa: B023
            asking.start()
            time.sleep(randomness.uniform(0, 1.3) * usual)
            process.kill()
            process.wait()
            asking.join(30)
            witness.saw(number, arrived[0])
            outcomes["a whole answer" if is_whole(arrived[0]) else f"{len(arrived[0])} bytes"] += 1
        witness.look()
    witness.look()
    # Kills met attempts that were not yet accepted, that were charged and never left, and whose bytes were kept.
    assert min(outcomes["anew"], outcomes["lost"], outcomes["kept"]) > 0, outcomes


def again(side: ChargedProcess, witness: Witness, number: int) -> str:
    """Ask once more for the attempt that the kill cut: the same bytes, or never anything."""
    was_charged = (number, "train") in witness.charged
    before = witness.first_bytes[number]
    kept = number in side.uploads()
    answer = side.send(side.order(number))
    body = read(answer)
    if isinstance(body, RefusalReply):
        assert body.code == "attempt-lost"
        assert before == b""
        assert not kept
        return "lost"
    assert isinstance(body, UploadReply)
    assert answer.startswith(before)
    assert kept == was_charged
    witness.saw(number, answer)
    return "kept" if was_charged else "anew"
