"""An audit over real agents: who turns its sums around is named by groups' sums, also across a server's deaths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from masked_jobs import MaskedJob, attempt_of

from hansa.clients import attempt as work
from hansa.contract.charter import Protection
from hansa.contract.decisions import Decision

pytestmark = pytest.mark.slow

ROUNDS, FIRST, LAST = 24, 4, 24
PLAN = {"rule": {"name": "fedavg"}}


def audited_job(**fields: Any) -> MaskedJob:
    """A job of eight members in groups of three and more, in which an audit is asked for from the start."""
    protection = Protection(mode="masked", audit_groups=3)
    job = MaskedJob(8, ROUNDS, plan=PLAN, protection=protection, **fields)
    asked = Decision(
        key=f"audit {FIRST}",
        by="audit",
        round=1,
        sentence="two alarms",
        inputs={"first": FIRST, "last": LAST},
    )
    job.job.decisions.append(asked)
    return job


def turned_around(monkeypatch: pytest.MonkeyPatch, member: str) -> None:
    """That member sends its sums with the other sign."""
    honest = work.local_update

    def update(*arguments: Any, **named: Any) -> np.ndarray:
        found = honest(*arguments, **named)
        return -found if named["member"] == member else found

    monkeypatch.setattr(work, "local_update", update)


def named(job: MaskedJob) -> list[Decision]:
    return [it for it in job.job.decisions if it.by == "audit" and "member" in it.inputs]


def test_whoever_turns_its_sums_around_is_named_with_the_evidence(monkeypatch: pytest.MonkeyPatch) -> None:
    turned_around(monkeypatch, "c")
    job = audited_job()
    job.run()
    assert job.job.status == "finished", job.job.reason
    [found] = named(job)
    assert (found.inputs["member"], found.inputs["quarantine"]) == ("c", 1)
    assert "c " in found.sentence
    assert FIRST < found.round <= LAST


def test_nobody_is_named_where_all_are_honest() -> None:
    job = audited_job()
    job.run()
    assert job.job.status == "finished", job.job.reason
    assert named(job) == []


def test_an_audit_outlives_the_servers_process(monkeypatch: pytest.MonkeyPatch) -> None:
    turned_around(monkeypatch, "c")
    whole = audited_job()
    whole.run()
    job = audited_job(simulated=whole.simulated)

    def pauses(body: Any, honest: Any, payload: bytes) -> bytes:
        if attempt_of(body) in (3, 6, 9, 12):
            job.job.wanted = "pause"
        return honest(payload)

    job.faults["a"] = pauses
    for _ in range(5):
        job.run()
        job.job.wanted = "run"
    assert job.job.status == "finished", job.job.reason
    [found] = named(job)
    assert found.inputs["member"] == "c"
    # What a checkpoint keeps is all that the audit knows.
    assert "audit-state" in job.job.states[ROUNDS]


def test_where_nobody_asked_nothing_is_audited(monkeypatch: pytest.MonkeyPatch) -> None:
    turned_around(monkeypatch, "c")
    job = audited_job()
    job.job.decisions.clear()
    job.run()
    assert named(job) == []
    assert job.job.states[ROUNDS]["audit-state"].size == 0


def test_in_mode_he_there_is_no_audit() -> None:
    job = MaskedJob(4, 1, mode="he", plan=PLAN)
    assert job.strategy()._auditing is None
