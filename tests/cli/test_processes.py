"""The supervisor: ready, restarted, given up, and never anything left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cli_side import still_running

from hansa.cli.children import last_line, marked
from hansa.cli.federation import check_given_up
from hansa.cli.processes import ProcessFacts, ProcessSpec, Supervisor
from hansa.contract.errors import HansaError, InputError

SERVE = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text('here'); time.sleep(600)"


class Bench:
    """Short Python programs as processes, in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []

    def spec(self, name: str, code: str, *, ready: bool = False, **options: object) -> ProcessSpec:
        file = self.folder / f"{name}.ready"
        argv = (sys.executable, "-S", "-c", code, str(file))
        return ProcessSpec(name, argv, dict(os.environ), file if ready else None, **options)  # type: ignore[arg-type]

    @contextmanager
    def running(self, *specs: ProcessSpec, **options: object) -> Iterator[Supervisor]:
        with Supervisor(logs=self.folder / "logs", report=self.said.append, **options) as supervisor:  # type: ignore[arg-type]
            supervisor.start(specs)
            yield supervisor


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    yield Bench(tmp_path)
    assert still_running(tmp_path) == []


def until(met: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def one(supervisor: Supervisor, name: str) -> ProcessFacts:
    return next(it for it in supervisor.processes if it.name == name)


def test_a_process_is_ready_when_it_wrote_its_file(bench: Bench) -> None:
    with bench.running(bench.spec("server", SERVE, ready=True)) as supervisor:
        assert supervisor.wait_ready(10)
        assert one(supervisor, "server").state == "ready"
        assert one(supervisor, "server").pid is not None
    assert one(supervisor, "server").state == "stopped"
    assert one(supervisor, "server").pid is None


def test_a_ready_file_of_an_earlier_run_does_not_count(bench: Bench) -> None:
    (bench.folder / "server.ready").write_text("old")
    spec = bench.spec("server", "import time; time.sleep(600)", ready=True)
    with bench.running(spec) as supervisor, pytest.raises(HansaError, match=r"not ready after 0\.3 s"):
        supervisor.wait_ready(0.3)


def test_a_process_waits_for_those_it_comes_after(bench: Bench) -> None:
    first = bench.spec("first", "import time; time.sleep(0.3);" + SERVE, ready=True)
    second = bench.spec("second", SERVE, ready=True, after=("first",))
    with bench.running(second, first) as supervisor:
        supervisor.wait_ready(10)
        made = [(bench.folder / f"{name}.ready").stat().st_mtime for name in ("first", "second")]
        assert made[0] < made[1]


def test_wrong_input_is_said_in_the_processs_own_words_and_not_tried_again(bench: Bench) -> None:
    code = (
        "import sys; print('hansa agent: b.csv: no such file', file=sys.stderr); print('noise'); sys.exit(2)"
    )
    with bench.running(bench.spec("agent", code, ready=True)) as supervisor:
        with pytest.raises(InputError, match=r"^agent: b\.csv: no such file$"):
            supervisor.wait_ready(10)
        assert one(supervisor, "agent") == ProcessFacts("agent", "given-up", None, 0, "b.csv: no such file")


def test_a_process_that_dies_at_its_start_shows_its_last_line(bench: Bench) -> None:
    spec = bench.spec("agent", "print('one'); raise SystemExit('the end')", ready=True)
    with (
        bench.running(spec) as supervisor,
        pytest.raises(HansaError, match=r"ended with code 1: the end; see .*agent\.log"),
    ):
        supervisor.wait_ready(10)


def test_a_command_that_does_not_exist_is_an_error_and_no_crash(bench: Bench) -> None:
    spec = ProcessSpec("ghost", ("/no/such/program",), {})
    with (
        bench.running(spec) as supervisor,
        pytest.raises(InputError, match=r"/no/such/program: cannot be started"),
    ):
        supervisor.wait_ready(10)


def test_a_killed_process_is_started_again(bench: Bench) -> None:
    with bench.running(bench.spec("server", SERVE, ready=True)) as supervisor:
        supervisor.wait_ready(10)
        first = one(supervisor, "server").pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        until(
            lambda: (
                one(supervisor, "server").pid not in (None, first)
                and one(supervisor, "server").state == "ready"
            )
        )
        assert one(supervisor, "server").restarts == 1
    assert any("was killed by signal 9; starting it again in 0.5 s" in it for it in bench.said)


def test_one_that_must_not_be_started_again_is_given_up(bench: Bench) -> None:
    with bench.running(bench.spec("once", "pass", restart=False)) as supervisor:
        until(lambda: one(supervisor, "once").state == "given-up")


def test_a_process_that_ignores_sigterm_is_killed(bench: Bench) -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SERVE
    began = time.monotonic()
    with bench.running(bench.spec("deaf", code, ready=True), grace_s=0.3) as supervisor:
        supervisor.wait_ready(10)
    assert time.monotonic() - began < 5


def test_what_comes_after_others_is_stopped_before_them(bench: Bench) -> None:
    record = bench.folder / "ends"
    code = (
        "import pathlib, signal, sys, time;"
        "end = lambda *_: (open({path!r}, 'a').write({name!r} + ' '), sys.exit(0));"
        "signal.signal(signal.SIGTERM, end); pathlib.Path(sys.argv[1]).write_text('here'); time.sleep(600)"
    )
    specs = [
        bench.spec(name, code.format(path=str(record), name=name), ready=True, after=after)
        for name, after in (("superlink", ()), ("node", ("superlink",)), ("probe", ("node",)))
    ]
    with bench.running(*specs) as supervisor:
        supervisor.wait_ready(10)
    assert record.read_text().split() == ["probe", "node", "superlink"]


def test_grandchildren_go_too_even_those_that_left_the_group(bench: Bench) -> None:
    code = (
        "import os, pathlib, subprocess, sys, time;"
        "[subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)', sys.argv[1]],"
        " start_new_session=new) for new in (False, True)];"
        "pathlib.Path(sys.argv[1]).write_text('here'); time.sleep(600)"
    )
    with bench.running(bench.spec("parent", code, ready=True)) as supervisor:
        supervisor.wait_ready(10)
        until(lambda: len(marked(supervisor.mark)) == 3)
    assert marked(supervisor.mark) == []


def test_hurrying_does_not_wait_for_the_grace(bench: Bench) -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" + SERVE
    began = time.monotonic()
    with bench.running(bench.spec("deaf", code, ready=True), grace_s=60.0) as supervisor:
        supervisor.wait_ready(10)
        supervisor.hurry()
    assert time.monotonic() - began < 10


def test_nothing_outlives_a_supervisor_that_is_killed(bench: Bench) -> None:
    program = f"""
import os, sys, time
from pathlib import Path
from hansa.cli.processes import ProcessSpec, Supervisor
folder = Path({str(bench.folder)!r})
specs = [
    ProcessSpec(name, (sys.executable, "-S", "-c", {SERVE!r}, str(folder / name)), dict(os.environ), folder / name)
    for name in ("one", "two")
]
with Supervisor(logs=folder / "logs") as supervisor:
    supervisor.start(specs)
    supervisor.wait_ready(10)
    (folder / "all").write_text("here")
    time.sleep(600)
"""
    supervisor = subprocess.Popen([sys.executable, "-c", program])
    until((bench.folder / "all").exists)
    assert len(still_running(bench.folder)) == 3
    supervisor.kill()
    supervisor.wait()
    until(lambda: still_running(bench.folder) == [], 3)


def test_an_error_of_the_supervision_itself_is_raised_and_leaves_nothing(bench: Bench) -> None:
    def fail() -> None:
        raise OSError("the disk is full")

    with bench.running(bench.spec("server", SERVE, ready=True), changed=fail) as supervisor:
        until(lambda: supervisor.processes[0].state == "stopped")
        with pytest.raises(HansaError, match="the supervisor failed: the disk is full"):
            supervisor.check()


def test_the_last_sentence_of_ours_counts_more_than_the_last_line(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("2026 WARNING x\nhansa node: no key\nTraceback\n")
    assert last_line(log) == "no key"
    assert last_line(log, start=log.read_text().index("Traceback")) == "Traceback"
    assert last_line(tmp_path / "none") == ""


@pytest.mark.parametrize("logs", [True, False])
def test_a_process_that_spoke_on_the_terminal_is_not_said_to_have_been_silent(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], logs: bool
) -> None:
    code = "import sys; print('hansa node: no key', file=sys.stderr); sys.exit(2)"
    spec = ProcessSpec("node-a", (sys.executable, "-S", "-c", code), dict(os.environ))
    reported: list[str] = []
    folder = tmp_path / "logs" if logs else None
    with Supervisor(logs=folder, report=reported.append) as supervisor:
        supervisor.start([spec])
        until(lambda: one(supervisor, "node-a").state == "given-up")
        until(lambda: bool(reported))
        with pytest.raises(InputError) as given_up:
            check_given_up(supervisor)
    assert ("no key" in capfd.readouterr().err) != logs
    assert str(given_up.value) == ("node-a: no key" if logs else "node-a: see above")
    assert reported == [f"node-a ended with code 2: {'no key' if logs else 'see above'}"]
