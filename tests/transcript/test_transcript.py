"""All that the server process saw of a job, and one member's secrets: sums of all honest members, nothing smaller."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from attacker import Attacker
from needles import needles_of, search, windows
from recorded_job import RecordedJob, run_recorded, wide_federation

from hansa.contract.charter import Protection
from hansa.contract.segments import EVALUATION, UPDATE
from hansa.secagg.active_set import open_circles

# Attempt 1 and the last one, which only evaluates, are not disturbed. Too few open the fifth: the sixth starts from
# the same model.
SCRIPT = {2: ("d", "silent"), 3: ("c", "late"), 4: ("b", "vanishes"), 5: ("ac", "vanishes")}
ACTIVE = {1: "abcde", 2: "abce", 3: "abde", 4: "abcde", 5: "abcde", 6: "abcde", 7: "abcde"}
OPENED = {it: active for it, active in ACTIVE.items() if it != 5}


# Half a minute for the recorded job alone; what the same attacker wins from weakened builds is among the quick tests.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> RecordedJob:
    """A disturbed job; the server in a process of its own."""
    folder = tmp_path_factory.mktemp("job")
    return run_recorded(folder, wide_federation(5), rounds=5, script=SCRIPT, own_process=True)


def attacker(job: RecordedJob, *colluders: str) -> Attacker:
    told = [job.truth.colluder(job.federation, name) for name in colluders]
    return Attacker(job.transcript, job.federation.charter, job.federation.hash, job.plan, told)


def test_the_job_was_disturbed_as_it_should_be(job: RecordedJob) -> None:
    assert {it.attempt: "".join(it.active or ()) for it in job.attempts} == ACTIVE
    assert [it.status for it in job.attempts] == ["applied"] * 4 + ["failed", "applied", "evaluated"]
    # From the state of the failed attempt another one starts, as after a server's lie.
    assert job.attempts[4].base == job.attempts[5].base == 4
    evidence = attacker(job).evidence
    uploads = {(it.member, it.order.attempt): it for it in evidence.uploads}
    assert ("d", 2) not in uploads
    # The late upload is there, and so is the one-time key of whoever sent it.
    assert uploads["c", 3].prekeys["c"].public in evidence.keys


@pytest.mark.parametrize("colluder", ["", *"abcde"])
def test_the_sums_of_all_honest_members_and_nothing_smaller(job: RecordedJob, colluder: str) -> None:
    findings = attacker(job, *colluder).findings()
    # One short of enough shares were given in the failed attempt; a colluder that gave none adds its own.
    opened = set(OPENED) | ({5} if colluder and colluder in "ac" else set())
    updates = {(it, UPDATE) for it in opened if it < 7}
    assert set(findings) == {(it, EVALUATION) for it in opened} | updates
    for (attempt, segment), sums in findings.items():
        honest = frozenset(ACTIVE[attempt]) - {colluder}
        assert set(sums) == {honest}
        np.testing.assert_array_equal(sums[honest], job.truth.total(attempt, sorted(honest), segment))


@pytest.mark.parametrize("colluder", ["a", "e"])
def test_no_two_sums_come_from_one_state(job: RecordedJob, colluder: str) -> None:
    """With the shares of "a" there are two from one, of the failed attempt and the next: of the same members."""
    assert attacker(job, colluder).differences() == {}


def test_nothing_that_members_keep_stands_anywhere(job: RecordedJob) -> None:
    assert search(job.transcript, needles_of(job, set())) == {}


def test_the_search_finds_what_the_server_does_know(job: RecordedJob) -> None:
    """The model; and the masked sum of the first attempt, which it held while it asked for shares."""
    masked = sum(it.segments[UPDATE] for it in attacker(job).evidence.uploads if it.order.attempt == 1)
    model = windows("model", job.weights)
    found = search(job.transcript, windows("sum", np.asarray(masked)) | model)
    places = {name: {it.split()[0].split("/")[0] for it in seen} for name, seen in found.items()}
    assert set(model) <= set(places)
    assert all({"frame", "memory"} <= places[name] for name in model)
    assert all({"store.sqlite", "store.sqlite-wal"} & places[name] for name in model)
    assert any(name.startswith("sum") and "memory" in seen for name, seen in places.items())
    assert "server.log" in {name for name, _ in job.transcript.files}


CHARTERS = {
    "two colluders of seven": (7, "fg", Protection(mode="masked", c=2), {1: ("c", "late")}),
    "two groups of three": (6, "f", Protection(mode="masked", audit_groups=3), {}),
    "a group that stays closed": (6, "f", Protection(mode="masked", audit_groups=3), {1: ("c", "late")}),
}


@pytest.mark.parametrize("name", CHARTERS)
def test_the_honest_of_a_circle_are_never_told_apart(tmp_path: Path, name: str) -> None:
    members, colluders, protection, script = CHARTERS[name]
    job = run_recorded(tmp_path, wide_federation(members, protection=protection), rounds=2, script=script)
    attacking = attacker(job, *colluders)
    findings = attacking.findings()
    for attempt in job.attempts:
        order = next(it.order for it in attacking.evidence.uploads if it.order.attempt == attempt.attempt)
        circles = open_circles(order, attempt.active or (), job.federation.charter)
        honest = {frozenset(it) & set(attempt.active or ()) - set(colluders) for it in circles}
        assert set(findings[attempt.attempt, EVALUATION]) == honest
        for members_of, total in findings.get((attempt.attempt, UPDATE), {}).items():
            assert members_of in honest
            truth = job.truth.total(attempt.attempt, sorted(members_of), UPDATE)
            np.testing.assert_array_equal(total, truth)
    assert search(job.transcript, needles_of(job, set())) == {}
