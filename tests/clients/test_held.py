"""What a member keeps of jobs in mode `he`: on its disk, for its user only, the newest and no more."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hansa.clients.blind_states import read_state, state_bytes
from hansa.clients.held import KEPT_JOBS, KEPT_STATES, HeldJobs, HeldKeys, HeldState
from hansa.contract.errors import HansaError, RefusalError
from hansa.secagg.group_key import SEAL_BYTES
from hansa.strategies.apply import ModelState
from hansa.strategies.blind_state import largest_sealed_state

KEYS = HeldKeys(2, "b", b"secret", b"bundle", {"a": "x"}, ready=False, used=False)
numbers = arrays(np.float64, 5, elements=st.one_of(st.just(0.0), st.just(-0.0), st.floats(-1e6, 1e6)))


def test_what_was_kept_is_there_for_the_next_process_and_for_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "held.sqlite"
    held = HeldJobs(path)
    held.keep_keys("job", KEYS)
    held.keep_keys("job", replace(KEYS, ready=True))
    held.use("job")
    held.keep_state("job", HeldState(1, "1" * 64, b"one"))
    # The process is gone without a word.
    again = HeldJobs(path)
    assert again.keys("job") == replace(KEYS, ready=True, used=True)
    assert again.states("job") == [HeldState(1, "1" * 64, b"one")]
    for file in tmp_path.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_of_a_job_the_last_two_states_stay_and_of_jobs_the_newest() -> None:
    held = HeldJobs(":memory:")
    for job in range(KEPT_JOBS + 2):
        held.keep_keys(f"{job}", KEYS)
        for number in range(4):
            held.keep_state(f"{job}", HeldState(number, f"{number:064x}", b"state"))
    assert [it.round for it in held.states("9")] == [3, 2]
    assert KEPT_STATES == 2
    forgotten = held.keys("0")
    assert forgotten is not None
    assert (forgotten.content, forgotten.bundle) == (b"", b"")
    assert held.states("0") == []
    # A state that is taken again is the newest one.
    held.keep_state("9", HeldState(2, f"{2:064x}", b"state"))
    assert [it.round for it in held.states("9")] == [2, 3]


def test_a_damaged_file_is_a_sentence_that_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "held.sqlite"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(HansaError, match="the other members hand on the keys"):
        HeldJobs(path)


BEFORE = [HeldState(2, "2" * 64, b"two"), HeldState(1, "1" * 64, b"one")]
STEPS: dict[str, Callable[[HeldJobs], object]] = {
    "the next state": lambda held: held.keep_state("job", HeldState(3, "3" * 64, b"three")),
    "the same state again": lambda held: held.keep_state("job", BEFORE[0]),
    "the state before again": lambda held: held.keep_state("job", BEFORE[1]),
    "signatures on the keys": lambda held: held.keep_keys("job", replace(KEYS, ready=True)),
    "keys of another job": lambda held: held.keep_keys("another", KEYS),
    "an upload": lambda held: held.use("job"),
}


@pytest.mark.parametrize("what", STEPS)
def test_killed_before_any_statement_of_a_step_it_is_not_taken_at_all_or_taken(
    what: str, tmp_path: Path
) -> None:
    def seen(path: Path) -> tuple[object, ...]:
        held = HeldJobs(path)
        found = (held.keys("job"), held.states("job"), held.keys("another"))
        held.close()
        return found

    def fresh(name: str) -> Path:
        path = tmp_path / f"{name}.sqlite"
        held = HeldJobs(path)
        for job in range(KEPT_JOBS - 1):
            held.keep_keys(f"{job}", KEYS)
        held.keep_keys("job", KEYS)
        for state in reversed(BEFORE):
            held.keep_state("job", state)
        held.close()
        return path

    untouched, taken = fresh("untouched"), fresh("taken")
    held = HeldJobs(taken)
    statements: list[str] = []
    held._db.set_trace_callback(statements.append)
    STEPS[what](held)
    held.close()
    assert len(statements) > 2
    for number in range(1, len(statements) + 1):
        path = fresh(f"{number}")
        if (child := os.fork()) == 0:
            held, left = HeldJobs(path), iter(range(number - 1))
            held._db.set_trace_callback(lambda _: next(left, None) is None and os.kill(os.getpid(), 9))  # noqa: B023
            STEPS[what](held)
            os._exit(1)
        assert os.WTERMSIG(os.waitpid(child, 0)[1]) == 9
        assert seen(path) in (seen(untouched), seen(taken)), statements[number - 1]


@pytest.mark.parametrize("sign_of_life", ["use", "keep_state"])
def test_a_job_that_goes_on_keeps_its_keys_whatever_others_begin_and_end_meanwhile(sign_of_life: str) -> None:
    held = HeldJobs(":memory:")
    held.keep_keys("long", KEYS)
    for number in range(3 * KEPT_JOBS):
        if sign_of_life == "use":
            held.use("long")
        else:
            held.keep_state("long", HeldState(number, f"{number:064x}", b"state"))
        held.keep_keys(f"{number}", KEYS)
    assert held.keys("long") == replace(KEYS, used=sign_of_life == "use")
    kept = [held.keys(f"{number}") for number in range(3 * KEPT_JOBS)]
    assert sum(it is not None and bool(it.content) for it in kept) == KEPT_JOBS - 1


@given(numbers, numbers, numbers, st.integers(0, 3))
def test_a_state_comes_back_with_every_bit(
    weights: np.ndarray, first: np.ndarray, tail: np.ndarray, count: int
) -> None:
    state = ModelState(3, weights, first=first, second=np.zeros(5), tail=tail, tail_count=count)
    back = read_state(state_bytes(state), 5)
    assert {name: it.tobytes() for name, it in back.arrays().items()} == {
        name: it.tobytes() for name, it in state.arrays().items()
    }


@given(st.binary(max_size=300))
def test_bytes_that_are_no_state_are_refused(content: bytes) -> None:
    with pytest.raises(RefusalError, match="bad-size"):
        read_state(content, 5)


def test_a_state_of_another_model_is_refused() -> None:
    state = ModelState.start(np.ones(4))
    with pytest.raises(RefusalError, match="bad-size"):
        read_state(state_bytes(state), 5)


def test_no_state_is_larger_than_what_is_waited_for_however_many_columns_were_prepared() -> None:
    # A linear model has half as many weights as its preparation numbers.
    columns = 20_000
    full, preparation = np.ones(columns + 1), np.ones(2 * columns + 1)
    state = ModelState(3, full, first=full, second=full, tail=full, tail_count=2, preparation=preparation)
    sealed = len(state_bytes(state)) + SEAL_BYTES
    assert sealed <= largest_sealed_state(columns + 1, preparation.size) < sealed + 2**13
