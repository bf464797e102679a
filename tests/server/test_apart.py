"""Who takes no part, by the store: in the member's own words, since when, and no longer once it takes part again."""

from __future__ import annotations

from pathlib import Path

import pytest
from desks import client, open_test_desk
from federation import JOB, make_plan
from journals import MEMBERS, Bench, bench, open_one, result, state

from hansa.contract.jobs import AttemptResult, Participation
from hansa.server.control.desk import ControlDesk
from hansa.server.records import MemberRecord
from hansa.strategies.ports import MemberPresence

FROZEN = "grant 'first' is frozen: complaint 17"


def known(job: Bench, name: str) -> MemberRecord:
    assert job.store is not None
    return next(it for it in job.store.members.all() if it.name == name)


def round_without(job: Bench, **refusals: tuple[str, str]) -> AttemptResult:
    """An applied round in which some of the cohort refuse the order, with code and sentence."""
    journal = job.claim("run")
    done = result(journal, open_one(journal))
    parts = tuple(
        Participation(member=it, outcome="refused", seconds=0.1, code=refusals[it][0], sentence=refusals[it][1])
        if it in refusals
        else Participation(member=it, outcome="replied", seconds=0.1)
        for it in MEMBERS
    )  # fmt: skip
    done = done.model_copy(update={"participation": parts})
    journal.commit(done, state(done.round or 0))
    return done


def test_a_refusal_stays_with_its_member_until_it_takes_part_again(tmp_path: Path) -> None:
    with bench("sqlite", tmp_path) as job:
        round_without(job, beta=("grant-frozen", FROZEN))
        first = known(job, "beta")
        assert first.apart == f"grant-frozen: {FROZEN}"
        assert first.apart_since is not None
        round_without(job, beta=("budget-exhausted", "0.0 % of grant 'first' is left, too little"))
        again = known(job, "beta")
        assert (again.apart or "").startswith("budget-exhausted")
        assert again.apart_since == first.apart_since
        round_without(job)
        assert (known(job, "beta").apart, known(job, "beta").apart_since) == (None, None)


def test_a_refusal_of_the_job_is_kept_before_any_attempt_and_named_in_its_event(tmp_path: Path) -> None:
    with bench("sqlite", tmp_path) as job:
        journal = job.claim("run")
        journal.event("not-approved", "waits for 'hansa jobs approve'", member="beta")
        assert known(job, "beta").apart == "not-approved: waits for 'hansa jobs approve'"
        assert job.store is not None
        event = job.store.history.events()[-1]
        assert event.sentence == "beta: waits for 'hansa jobs approve'"
        # A job that is over asks for no approval.
        journal.set_status("finished")
        assert known(job, "beta").apart is None


def test_an_absent_member_keeps_its_own_words_and_an_event_names_nobody_twice(tmp_path: Path) -> None:
    with bench("sqlite", tmp_path) as job:
        journal = job.claim("run")
        journal.event("grant-frozen", FROZEN, member="delta")
        journal.event("restarted", "delta has begun anew", member="delta")
        assert job.store is not None
        assert job.store.history.events()[-1].sentence == "delta has begun anew"
        attempt = journal.open_attempt(
            "train", base=0, cohort=MEMBERS, left_out={"delta": "not connected"}, knobs={}
        )
        done = result(journal, attempt).model_copy(
            update={"left_out": {"delta": "not connected"}, "knobs": {}}
        )
        journal.commit(done, state(1))
        assert known(job, "delta").apart == f"grant-frozen: {FROZEN}"


def test_what_was_refused_in_another_job_that_goes_on_stands(tmp_path: Path) -> None:
    with bench("sqlite", tmp_path) as job:
        assert job.store is not None
        other = make_plan(rounds=3)
        job.store.jobs.submit(other, "0" * 64, {})
        job.store.claim(JOB, "other").event("not-approved", "waits", member="beta")
        round_without(job)
        assert known(job, "beta").apart == "not-approved: waits"
        job.store.jobs.want(JOB, "stop", "operator")
        job.store.claim(JOB, "other").set_status("stopped")
        assert known(job, "beta").apart is None


def test_a_member_of_another_charter_is_known_by_its_version(tmp_path: Path) -> None:
    with bench("sqlite", tmp_path) as job:
        journal = job.claim("run")
        said = {"charter_version": 2}
        journal.event("charter-superseded", "this member signed version 2", member="beta", facts=said)
        assert known(job, "beta").charter_version == 2
        here = MemberPresence(name="beta", node_id=1, isolated=True, charter_version=1, started=1.0)
        journal.present([here])
        assert known(job, "beta").charter_version == 1


@pytest.fixture
def desk(tmp_path: Path):  # type: ignore[no-untyped-def]
    with open_test_desk(tmp_path) as made:
        yield made


def test_control_says_who_takes_no_part(desk: ControlDesk) -> None:
    desk.store.jobs.submit(make_plan(rounds=3), desk.charter_hash, {})
    desk.store.claim(JOB, "run").event("grant-frozen", FROZEN, member="b")
    found = {it["name"]: it["apart"] for it in client(desk, "read").get("/v1/members").json()}
    assert found == {"a": None, "b": f"grant-frozen: {FROZEN}", "c": None, "d": None}
