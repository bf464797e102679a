"""`hansa scaler`: what is wanted and why, dry runs, pauses; one line and a code for what is wrong."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest
from desks import SECRETS
from federation import JOB
from prometheus_client.parser import text_string_to_metric_families
from watched import WatchedJob, watched

from hansa.sidecar.scaler.journal import Journal

HANSA = str(Path(sys.executable).with_name("hansa"))
WORKER = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text('ready'); time.sleep(600)"


def services(folder: Path, actuator: str = 'kind = "dry-run"', policy: str = "demand") -> Path:
    path = folder / "scaler.toml"
    path.write_text(
        f"every_s = 0.2\n[[service]]\nname = 'executor'\ncapacity = 1\nmaximum = 3\nstartup_s = 1\n"
        f"cooldown_s = 0\npolicy = '{policy}'\n[service.signals]\nkind = 'control'\n[service.actuator]\n{actuator}\n"
    )
    return path


@pytest.fixture
def job(tmp_path: Path) -> Iterator[WatchedJob]:
    with watched(tmp_path) as made:
        yield made


def scaler(job: WatchedJob, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HANSA, "scaler", *arguments],
        cwd=job.folder,
        env={**os.environ, "HANSA_CONTROL": job.url, "HANSA_TOKEN": SECRETS["write"], "COLUMNS": "300"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def run(job: WatchedJob, *arguments: str, log: str = "text") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [HANSA, "scaler", "run", *arguments],
        cwd=job.folder,
        env={**os.environ, "HANSA_CONTROL": job.url, "HANSA_TOKEN": SECRETS["write"], "HANSA_LOG": log},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_plan_says_what_would_be_done_and_does_nothing(job: WatchedJob) -> None:
    path = services(job.folder)
    (job.folder / "state").mkdir()
    done = scaler(job, "plan", "--services", str(path), "--state", "state")
    assert (done.returncode, done.stderr) == (0, "")
    assert "executor: stays at 1 replicas" in done.stdout
    assert list((job.folder / "state").iterdir()) == []
    [planned] = json.loads(scaler(job, "plan", "--services", str(path), "--state", "state", "--json").stdout)
    assert (planned["demand"], planned["wanted"], planned["service"]) == (1.0, 1, "executor")
    # The forecasting policy keeps one ready for the job that comes next.
    path = services(job.folder, policy="forecast")
    done = scaler(job, "plan", "--services", str(path), "--state", "state")
    assert "executor: 1 -> 2 replicas by reactive: the forecast is not known yet" in done.stdout


def until_decided(state: Path, times: int) -> None:
    """Until so many decisions stand in a folder's history."""
    end = time.monotonic() + 60
    while len(Journal(state).history()) < times:
        assert time.monotonic() < end, f"{state} has no {times} decisions"
        time.sleep(0.1)


@pytest.mark.slow
def test_a_dry_run_shows_and_does_not_act_and_with_act_workers_are_started(job: WatchedJob) -> None:
    command = json.dumps([sys.executable, "-c", WORKER, "{ready}"])
    path = services(job.folder, f"kind = 'processes'\ndrain = 'TERM'\ncommand = {command}")
    options = ("--services", str(path), "--state", "state")
    dry = run(job, *options)
    until_decided(job.folder / "state-dry", 1)
    dry.send_signal(signal.SIGINT)
    out, errors = dry.communicate(timeout=30)
    assert "dry run" in errors
    assert "executor: 0 -> 1" in out
    assert not (job.folder / "state").exists()
    assert Journal(job.folder / "state-dry").history()[-1].did == "dry run"
    acting = run(job, *options, "--act")
    state = job.folder / "state"
    try:
        end = time.monotonic() + 30
        while not any(it.ready for it in Journal(state).history()):
            assert time.monotonic() < end
            time.sleep(0.1)
        # A second one over the same folder is refused, and looking is not.
        second = scaler(job, "run", *options, "--act")
        assert second.returncode == 2
        assert "another scaler works over this folder" in second.stderr
        assert scaler(job, "plan", *options).returncode == 0
        shown = scaler(job, "status", "--state", "state")
        assert "1 of 1 wanted" in shown.stdout
        # A dry run beside it sees the same replicas, and writes what it decides elsewhere.
        before, earlier = len(Journal(state).history()), len(Journal(job.folder / "state-dry").history())
        dry = run(job, *options)
        until_decided(job.folder / "state-dry", earlier + 1)
        until_decided(state, before + 1)
        dry.send_signal(signal.SIGINT)
        dry.communicate(timeout=30)
        assert Journal(job.folder / "state-dry").history()[-1].ready == 1
        assert len(Journal(state).history()) > before
        # A restarted one adopts the worker.
        pid = json.loads((state / "workers" / "executor.workers.json").read_text())[0]["pid"]
        acting.kill()
        acting.communicate(timeout=30)
        known = len(Journal(state).history())
        acting = run(job, *options, "--act")
        until_decided(state, known + 1)
        assert [
            it["pid"] for it in json.loads((state / "workers" / "executor.workers.json").read_text())
        ] == [pid]
        # No more jobs: the pause holds the worker, and then it goes down to the minimum.
        assert scaler(job, "pause", "executor", "--reason", "inventory", "--state", "state").returncode == 0
        assert "paused: inventory" in scaler(job, "status", "--state", "state").stdout
        assert scaler(job, "resume", "executor", "--state", "state").returncode == 0
        acting.send_signal(signal.SIGTERM)
        acting.communicate(timeout=30)
        # The workers outlive their scaler.
        os.kill(pid, 0)
        # Control has the decisions, too.
        there = scaler(job, "history", "executor", "--changes", "--json")
        here = scaler(job, "history", "executor", "--changes", "--json", "--state", "state")
        assert json.loads(there.stdout) == json.loads(here.stdout) != []
        assert json.loads(there.stdout)[0]["wanted"] == 1
    finally:
        acting.kill()
        acting.wait()
        for it in json.loads((state / "workers" / "executor.workers.json").read_text()):
            os.kill(it["pid"], signal.SIGKILL)


def test_on_its_own_it_shows_figures_and_logs_json_as_every_process_does(job: WatchedJob) -> None:
    options = ("--services", str(services(job.folder)), "--state", "state", "--act")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    running, page = run(job, *options, "--metrics", address, log="json"), ""
    try:
        end = time.monotonic() + 30
        while "hansa_scaler_replicas" not in page:
            assert time.monotonic() < end
            with suppress(httpx.HTTPError):
                page = httpx.get(f"http://{address}/metrics", trust_env=False).text
            time.sleep(0.05)
    finally:
        running.send_signal(signal.SIGTERM)
        out, errors = running.communicate(timeout=30)
    assert (running.returncode, out) == (0, "")
    families = {it.name: it for it in text_string_to_metric_families(page)}
    assert {"process_resident_memory_bytes", "hansa_scaler_look_timestamp_seconds"} <= families.keys()
    [wanted] = families["hansa_scaler_wanted_replicas"].samples
    assert (wanted.labels, wanted.value) == ({"service": "executor"}, 1.0)
    lines = [json.loads(it) for it in errors.splitlines()]
    assert {it["process"] for it in lines} == {"scaler"}
    assert lines[0]["message"] == "1 service every 0.2 s"
    assert {it["service"] for it in lines[1:]} == {"executor"}
    assert any(it["message"].startswith("executor: 1 -> 1 by ") for it in lines)


@pytest.mark.parametrize("log", ["text", "json"])
def test_figures_that_can_be_shown_nowhere_end_it_with_one_line(job: WatchedJob, log: str) -> None:
    options = ("--services", str(services(job.folder)), "--state", "state")
    failed = run(job, *options, "--metrics", "nowhere", log=log)
    _, errors = failed.communicate(timeout=30)
    assert failed.returncode == 2
    [line] = errors.splitlines()
    if log == "json":
        said = json.loads(line)
        assert (said["process"], said["exit_code"]) == ("scaler", 2)
        line = said["message"]
    assert "--metrics nowhere: expected HOST:PORT, or a file that ends in .prom" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("status", "--state", "nowhere"), "--state nowhere: no such folder"),
        (("status",), "no instance under .hansa"),
        (("plan", "--services", "none.toml", "--state", "."), "none.toml: no such file"),
        (("run", "--services", "none.toml", "--state", "state"), "none.toml: no such file"),
        (("pause", "web", "--state", "."), "service 'web' is not scaled here"),
        (("resume", "--state", "."), "nothing is paused"),
    ],
)
def test_what_is_wrong_is_one_line_and_a_code(job: WatchedJob, arguments: tuple[str, ...], said: str) -> None:
    done = scaler(job, *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_nothing_decided_yet_is_said(job: WatchedJob) -> None:
    (job.folder / "state").mkdir()
    assert "nothing was decided yet" in scaler(job, "status", "--state", "state").stdout
    assert "nothing was decided yet" in scaler(job, "history", "--state", "state").stdout
    assert json.loads(scaler(job, "status", "--state", "state", "--json").stdout) == []


def test_the_sidecar_scales_beside_its_other_work(job: WatchedJob) -> None:
    path = services(job.folder)
    tokens = job.folder / "tokens.json"
    tokens.write_text(json.dumps({"write": SECRETS["write"]}))
    argv = [sys.executable, "-m", "hansa.sidecar", "--control", job.url, "--tokens", str(tokens)]
    argv += ["--state", str(job.folder / "sidecar"), "--scaler", str(path)]
    running = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 30
        while not job.desk.store.scaling.of("executor"):
            assert time.monotonic() < end
            time.sleep(0.1)
        running.send_signal(signal.SIGTERM)
        assert running.wait(15) == 0
    finally:
        running.kill()
        running.communicate()
    assert job.desk.store.scaling.newest()[0].demand == 1.0
    assert job.desk.store.jobs.get(JOB).status == "running"


def test_a_sidecar_whose_services_are_wrong_says_so_and_ends(job: WatchedJob) -> None:
    path = services(job.folder, 'kind = "threads"')
    argv = [sys.executable, "-m", "hansa.sidecar", "--control", job.url, "--state", str(job.folder / "s")]
    done = subprocess.run(
        [*argv, "--scaler", str(path)],
        env={**os.environ, "HANSA_TOKEN": "x" * 20},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "field 'kind' is to be" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_record_of_workers_that_is_damaged_ends_no_watch_over_jobs(job: WatchedJob) -> None:
    path = services(job.folder, "kind = 'processes'\ndrain = 'TERM'\ncommand = ['worker']")
    record = job.folder / "sidecar" / "scaler" / "workers" / "executor.workers.json"
    record.parent.mkdir(parents=True)
    record.write_text("{")
    ready = job.folder / "ready"
    argv = [sys.executable, "-m", "hansa.sidecar", "--control", job.url, "--scaler", str(path)]
    running = subprocess.Popen(
        [*argv, "--state", str(job.folder / "sidecar"), "--ready-file", str(ready)],
        env={**os.environ, "HANSA_TOKEN": SECRETS["write"]},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        end = time.monotonic() + 20
        while not ready.exists():
            assert time.monotonic() < end
            time.sleep(0.1)
        running.send_signal(signal.SIGTERM)
        _, errors = running.communicate(timeout=15)
    finally:
        running.kill()
        running.communicate()
    assert running.returncode == 0
    assert "nothing is scaled until the next start" in errors
    done = scaler(job, "run", "--services", str(path), "--state", "sidecar/scaler", "--act")
    assert done.returncode == 1
    assert "end its workers and remove it" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
