"""Every answer of an agent in a job is on record before it leaves, with its size and its receipt."""

from __future__ import annotations

from pathlib import Path

import pytest
from federation import JOB
from funded import funded
from masked_jobs import MaskedJob

from hansa.clients.outbox import Outbox
from hansa.clients.outbox_reading import Query, read_entries
from hansa.clients.outbox_words import words
from hansa.clients.protocol import Agent
from hansa.contract.errors import HansaError
from hansa.contract.wire import digest, unpack


def test_an_agent_that_cannot_write_its_outbox_answers_nothing(tmp_path: Path) -> None:
    job = MaskedJob(3)
    agent = job.agents["a"]
    agent.outbox = Outbox(tmp_path / "outbox.sqlite")
    agent.outbox.close()
    with pytest.raises(HansaError, match="did not leave"):
        agent.handle(b"anything")


def record(agent: Agent, path: Path) -> list[bytes]:
    """Give an agent an outbox; what it answers from here on, in order."""
    answers: list[bytes] = []
    outbox = agent.outbox = Outbox(path)
    answer = agent.handle

    def handle(request: bytes) -> bytes:
        found = answer(request)
        # The entry stands in the file while the bytes have not left yet.
        entry = read_entries(path, Query())[-1]
        assert entry.left is None
        answers.append(found)
        outbox.sent()
        return found

    agent.handle = handle  # type: ignore[method-assign]
    return answers


@pytest.mark.parametrize(("mode", "noised"), [("masked", False), ("masked", True), ("he", True)])
def test_every_answer_of_a_job_is_on_record_with_its_size_and_its_receipt(
    mode: str, noised: bool, tmp_path: Path
) -> None:
    job = MaskedJob(4, 3, plan={"deadline_s": 30.0}, simulated=funded(4, mode=mode) if noised else None)
    path = tmp_path / "outbox.sqlite"
    answers = record(job.agents["a"], path)
    job.run()
    assert job.job.status == "finished", job.job.reason
    outbox = job.agents["a"].outbox
    assert outbox is not None
    outbox.close()
    entries = read_entries(path, Query())
    found = {it.leaving.digest: it for it in entries}
    assert sum(1 + it.again for it in entries) == len(answers)
    assert sum(it.leaving.bytes + it.again_bytes for it in entries) == sum(len(it) for it in answers)
    assert all(it.left is not None for it in entries)
    uploads = [it for it in entries if "update" in it.leaving.kinds]
    assert len(uploads) == 3
    for it in uploads:
        assert found[it.leaving.digest].leaving.bytes in {
            len(answer) for answer in answers if digest(unpack(answer).header) == it.leaving.digest
        }
        said = words(it.leaving)
        assert it.leaving.job == JOB
        assert "sum of clipped gradients" in said
        assert ("encrypted" in said) == (mode == "he")
        assert bool(it.leaving.charges) == noised
        assert ("receipt" in said) == noised
        assert ("without noise" in said) == (not noised)
    shares = [it for it in entries if "shares" in it.leaving.kinds]
    assert {it.leaving.attempt for it in uploads} <= {it.leaving.attempt for it in shares}
