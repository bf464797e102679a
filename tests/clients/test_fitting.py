"""A member's own version is fitted in another process, which ends with the agent's."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from federation import JOB, make_federation, make_plan, records, request
from masked_side import answer_of

from hansa.clients.data.dataset import Dataset
from hansa.clients.fitting import fit_beside
from hansa.clients.personal import personal_path, personalise, read_personal
from hansa.contract.features import BinaryLabel
from hansa.contract.messages import CloseRequest, JobRequest


def likely(made: Dataset) -> np.ndarray:
    return 1 / (1 + np.exp(-made.X @ np.array([1.0, -1.0])))


def test_it_writes_what_would_be_fitted_here_and_the_agent_goes_on(tmp_path: Path) -> None:
    made = records(400, 8)
    waiting = fit_beside(tmp_path, JOB, made, likely(made), BinaryLabel())
    waiting.join(60)
    path, fitted = personal_path(tmp_path, JOB), personalise(made, likely(made), BinaryLabel())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert fitted is not None
    again = read_personal(path)
    assert (again.shift, again.factor, again.ridge) == (fitted.shift, fitted.factor, fitted.ridge)
    np.testing.assert_array_equal(again.weights, fitted.weights)
    assert [it.name for it in tmp_path.iterdir()] == [path.name]


def test_a_fit_that_fails_is_said_in_the_agents_own_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = records(400, 8)
    (tmp_path / "file").write_bytes(b"")
    fit_beside(tmp_path / "file", JOB, made, likely(made), BinaryLabel()).join(60)
    assert "no version of the member's own was fitted" in caplog.text


def children(parent: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            facts = (entry / "stat").read_text().rpartition(")")[2].split()
        except (OSError, NotADirectoryError):
            continue
        if entry.name.isdigit() and int(facts[1]) == parent:
            found.append(int(entry.name))
    return found


def gone(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def until(true: object, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not true():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_it_has_the_lowest_priority_and_ends_with_the_agent(tmp_path: Path) -> None:
    program = (
        "import numpy as np, sys, time\n"
        "from pathlib import Path\n"
        "from hansa.clients.data.dataset import Dataset\n"
        "from hansa.clients.fitting import fit_beside\n"
        "from hansa.contract.features import BinaryLabel\n"
        "rng, n = np.random.default_rng(0), 200_000\n"
        "X, y = rng.normal(size=(n, 40)), rng.integers(0, 2, size=n).astype(float)\n"
        "made = Dataset(X, y, np.array([f'{it}'.encode() for it in range(n)], dtype='S32'))\n"
        "fit_beside(Path(sys.argv[1]), 'a' * 32, made, np.full(n, 0.5), BinaryLabel())\n"
        "time.sleep(600)\n"
    )
    agent = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)])
    try:
        until(lambda: any(os.getpriority(os.PRIO_PROCESS, it) == 19 for it in children(agent.pid)))
        [fitting] = children(agent.pid)
    finally:
        agent.send_signal(signal.SIGKILL)
        agent.wait()
    until(lambda: gone(fitting), 5)
    assert list(tmp_path.iterdir()) == []


def test_the_members_records_are_fitted_with_the_model_that_was_closed_with(tmp_path: Path) -> None:
    federation = make_federation(4)
    agent = federation.agent("a")
    object.__setattr__(agent._work, "folder", tmp_path)
    assert answer_of(agent, request(federation, JobRequest(plan=make_plan()))).said == "job"
    weights = np.array([0.3, 1.0, -0.5])
    closing = request(federation, CloseRequest(job=JOB, rounds=3), {"released": weights})
    assert answer_of(agent, closing).said == "close"
    path = personal_path(tmp_path, JOB)
    until(path.exists)
    train = federation.records["a"].train
    expected = personalise(train, federation.model.predict(weights, train.X), BinaryLabel())
    assert expected is not None
    np.testing.assert_array_equal(read_personal(path).weights, expected.weights)
