"""All that the server process saw of a job in mode `he`: no update, sum or model; with a member, the others' sum."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blind_attacker import BlindAttacker
from blind_needles import blind_needles
from needles import search, windows
from numpy.typing import NDArray
from recorded_job import RecordedJob, Script, run_recorded, wide_federation

from hansa.contract.charter import Protection
from hansa.contract.messages import Order
from hansa.contract.segments import EVALUATION, UPDATE

# As in mode `masked`. Too few open the fifth attempt; whoever vanishes misses a sum and is given the state instead.
SCRIPT = {2: ("d", "silent"), 3: ("c", "late"), 4: ("b", "vanishes"), 5: ("ac", "vanishes")}
ACTIVE = {1: "abcde", 2: "abce", 3: "abde", 4: "abcde", 5: "abcde", 6: "abcde", 7: "abcde"}
OPENED = {it: active for it, active in ACTIVE.items() if it != 5}
ROUNDS = 5

# Half a minute for the recorded job alone; `test_blind_weakened` has a quick case.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> RecordedJob:
    """A disturbed job; the server in a process of its own."""
    folder = tmp_path_factory.mktemp("job")
    return run_recorded(folder, wide_federation(5, "he"), rounds=ROUNDS, script=SCRIPT, own_process=True)


def attacker(job: RecordedJob, *colluders: str) -> BlindAttacker:
    told = [job.truth.colluder(job.federation, name) for name in colluders]
    return BlindAttacker(job.transcript, job.federation.charter, job.federation.hash, job.plan, told)


def orders(attacking: BlindAttacker) -> list[Order]:
    """Those of train attempts."""
    made = {it.order.attempt: it.order for it in attacking.evidence.uploads}
    return [order for order in made.values() if order.kind == "train"]


def test_the_job_was_disturbed_as_it_should_be(job: RecordedJob) -> None:
    assert {it.attempt: "".join(it.active or ()) for it in job.attempts} == ACTIVE
    assert [it.status for it in job.attempts] == ["applied"] * 4 + ["failed", "applied", "evaluated"]
    attacking = attacker(job)
    assert len(attacking.carried.bundles) == len(job.truth.held.keys) == 1
    # Every applied attempt's sum went to the members, and the state that they came to came back sealed.
    assert {it.order.attempt for it in attacking.carried.sums} == {1, 2, 3, 4, 6}
    assert {number for number, _ in attacking.carried.states} == set(range(1, ROUNDS + 1))
    # All members came to the same states: there is one of each round.
    assert [it.round for it in job.truth.held.states] == list(range(1, ROUNDS + 1))


def test_the_server_alone_opens_the_sums_of_evaluations_and_nothing_else(job: RecordedJob) -> None:
    attacking = attacker(job)
    assert attacking.job_keys == attacking.states() == attacking.sums() == {}
    findings = attacking.findings()
    assert set(findings) == {(it, EVALUATION) for it in OPENED}
    for (attempt, segment), sums in findings.items():
        [(members, total)] = sums.items()
        assert members == set(ACTIVE[attempt])
        np.testing.assert_array_equal(total, job.truth.total(attempt, sorted(members), segment))


def test_nothing_that_members_keep_stands_anywhere(job: RecordedJob) -> None:
    """Keys, sums, models of every round and updates: in no message, file, log or memory of the server."""
    needles = blind_needles(job, orders(attacker(job)))
    for kind in ("group key", "envelope's key", "weights of state", "sum of attempt", "check word", "draw"):
        assert any(kind in name for name in needles), kind
    assert search(job.transcript, needles) == {}


@pytest.mark.parametrize("colluder", "abcde")
def test_with_one_member_it_has_sums_and_models_and_no_single_update(job: RecordedJob, colluder: str) -> None:
    attacking = attacker(job, colluder)
    findings = attacking.findings()
    # One short of enough shares were given in the failed attempt; a colluder that gave none adds its own.
    opened = set(OPENED) | ({5} if colluder in "ac" else set())
    assert set(findings) == {(it, EVALUATION) for it in opened} | {(it, UPDATE) for it in opened if it < 7}
    for (attempt, segment), sums in findings.items():
        honest = frozenset(ACTIVE[attempt]) - {colluder}
        assert set(sums) == {honest}
        np.testing.assert_array_equal(sums[honest], job.truth.total(attempt, sorted(honest), segment))
    for attempt, (active, total) in attacking.sums().items():
        assert active == set(ACTIVE[attempt])
        np.testing.assert_array_equal(total, job.truth.total(attempt, sorted(active), UPDATE))
    for number, states in attacking.states().items():
        assert {it.weights.tobytes() for it in states} == {job.truth.held.state(number).weights.tobytes()}
    assert set(attacking.states()) == set(range(1, ROUNDS + 1))
    assert attacking.differences() == {}


def test_the_search_finds_what_the_server_does_hold(job: RecordedJob) -> None:
    """Encrypted sums, sealed states and the sealed keys: in messages and memory, states in the store too."""
    carried = attacker(job).carried
    last = {sealed for number, sealed in carried.states if number == ROUNDS}
    made = windows("sum", blocks(carried.sums[-1].content.tobytes()))
    made |= windows("keys", blocks(carried.bundles[0].sealed))
    for copy, sealed in enumerate(last):
        made |= windows(f"state {copy}", blocks(sealed))
    found = search(job.transcript, made)
    places = {name: {it.split()[0].split("/")[0] for it in seen} for name, seen in found.items()}
    assert set(places) == set(made)
    assert all("frame" in seen for seen in places.values())
    for kind in ("sum", "state"):
        assert any(name.startswith(kind) and "memory" in seen for name, seen in places.items()), kind
    assert any(
        name.startswith("state") and {"store.sqlite", "store.sqlite-wal"} & seen
        for name, seen in places.items()
    )
    assert "server.log" in {name for name, _ in job.transcript.files}


def blocks(content: bytes) -> NDArray[Any]:
    """Whole blocks of 16 bytes."""
    return np.frombuffer(content[: len(content) // 16 * 16], "V16")


@pytest.mark.parametrize("late", [{}, {1: ("c", "late")}], ids=["all", "one is late"])
def test_two_colluders_of_seven_have_the_sum_of_the_five(tmp_path: Path, late: Script) -> None:
    federation = wide_federation(7, protection=Protection(mode="he", c=2))
    job = run_recorded(tmp_path, federation, rounds=2, script=late)
    findings = attacker(job, "f", "g").findings()
    for attempt in job.attempts:
        honest = frozenset(attempt.active or ()) - set("fg")
        for segment in (UPDATE, EVALUATION):
            for members, total in findings.get((attempt.attempt, segment), {}).items():
                assert members == honest
                truth = job.truth.total(attempt.attempt, sorted(members), segment)
                np.testing.assert_array_equal(total, truth)
        assert (attempt.attempt, EVALUATION) in findings
    assert {number for number, segment in findings if segment == UPDATE} == {1, 2}
    assert search(job.transcript, blind_needles(job, orders(attacker(job, "f")))) == {}
