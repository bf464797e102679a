"""Audits as the sidecar asks for them and acts on them: after two alarms, once, and an operator's word counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from federation import JOB
from watched import WatchedJob, loss_at, watched

from hansa.contract.charter import Protection
from hansa.contract.decisions import Decision
from hansa.contract.jobs import MetricValue

AUDITED: dict[str, Any] = {"members": 8, "protection": Protection(mode="masked", audit_groups=3)}
# The rate is moved by nobody, so that alarms are all that happens.
PINNED = {"server_rate": 0.2, "client_rate": 1.0}


def jump(job: WatchedJob, loss: float) -> None:
    job.train({"log_loss": MetricValue(value=loss, error=0.002)})


def finding(job: WatchedJob, member: str, *, quarantine: int = 1) -> None:
    """What an audit of the server's run leaves behind."""
    inputs = {"member": member, "quarantine": quarantine, "contrast": 9.0}
    found = Decision(
        key=f"audit 3: {member}", by="audit", round=job.round, sentence=f"{member} goes back", inputs=inputs
    )
    job.journal.decide(found)


def held(job: WatchedJob) -> dict[str, str]:
    return {it.name: it.held for it in job.desk.store.members.all() if it.held is not None}


def alarmed(job: WatchedJob, look: Any) -> None:
    """Two alarms about the model within ten rounds."""
    for _ in range(40):
        job.train(loss_at(job.round))
    look()
    jump(job, 0.8)
    look()
    for _ in range(4):
        job.train(loss_at(job.round))
    for _ in range(6):
        jump(job, 0.5)
        look()


def test_two_alarms_have_an_audit_asked_for_once(tmp_path: Path) -> None:
    with watched(tmp_path, AUDITED, pinned=PINNED) as job:
        alarmed(job, lambda: job.sidecar().look())
        [asked] = job.decisions("audit")
        first, last = asked.inputs["first"], asked.inputs["last"]
        assert job.journal.audited() == (first, last)
        assert last - first == 24
        assert "the set that a member hides in shrinks" in asked.sentence


def test_none_is_asked_for_where_the_charter_allows_none(tmp_path: Path) -> None:
    with watched(tmp_path, {"mode": "masked", "members": 8}, pinned=PINNED) as job:
        alarmed(job, job.sidecar().look)
        assert len([it for it in job.decisions("watch") if it.inputs["metric"] == "loss"]) >= 2
        assert job.decisions("audit") == []


def test_whom_an_audit_names_is_held_out_once_and_an_operator_lets_it_in_again(tmp_path: Path) -> None:
    with watched(tmp_path, AUDITED) as job:
        job.train(loss_at(0))
        finding(job, "c")
        job.train(loss_at(1))
        job.sidecar().look()
        assert list(held(job)) == ["c"]
        assert held(job)["c"].startswith("quarantined: c goes back")
        job.desk.store.members.release("c", by="operator")
        job.train(loss_at(2))
        job.sidecar().look()
        # Not even where the sidecar forgot everything.
        for path in (tmp_path / "sidecar").iterdir():
            path.unlink()
        job.train(loss_at(3))
        job.sidecar().look()
        assert held(job) == {}
        assert [it.key for it in job.decisions("members")] == ["quarantine by audit 3: c"]


def test_whom_it_only_suggests_is_not_held_out(tmp_path: Path) -> None:
    with watched(tmp_path, AUDITED) as job:
        job.train(loss_at(0))
        finding(job, "c", quarantine=0)
        job.train(loss_at(1))
        job.sidecar().look()
        assert held(job) == {}
        assert job.desk.store.jobs.get(JOB).status == "running"
