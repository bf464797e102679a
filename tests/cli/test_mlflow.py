"""A job in MLflow: its file store's layout, its REST API, and nothing that was not released."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from federation import JOB, make_plan

from hansa.cli.mlflow_run import MlflowRun, send, write_store
from hansa.contract.errors import ConnectionFailed, HansaError, InputError
from hansa.contract.jobs import MetricValue, Participation
from hansa.server.records import JobRecord, RoundRecord

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def job(status: str = "finished") -> JobRecord:
    return JobRecord.model_validate(
        {
            "job": JOB, "name": "fraud", "status": status, "reason": "", "wanted": "run", "charter": "c" * 64,
            "plan": make_plan(2), "round": 2, "attempt": 3, "created": AT, "updated": AT, "queued": AT,
            "holder": "", **({"epoch": 1} if "epoch" in JobRecord.model_fields else {}),
            **({"renewed": AT} if "renewed" in JobRecord.model_fields else {}),
        }
    )  # fmt: skip


def rounds() -> list[RoundRecord]:
    return [
        RoundRecord(
            job=JOB,
            round=number,
            attempt=number,
            base=number - 1,
            cohort=("a", "b"),
            active=("a", "b"),
            left_out={},
            knobs={"server_rate": 0.5},
            seconds=0.25,
            applied=AT,
            metrics={"auc": MetricValue(value=0.8 + number / 100, error=0.01)},
            participation=(Participation(member="secret-bank", outcome="replied", seconds=9.5),),
        )
        for number in (1, 2)
    ]


def test_the_folder_is_laid_out_as_mlflow_reads_it(tmp_path: Path) -> None:
    folder = write_store(MlflowRun.of(job(), rounds()), tmp_path / "mlruns")
    experiment = yaml.safe_load((folder.parent / "meta.yaml").read_text())
    run = yaml.safe_load((folder / "meta.yaml").read_text())
    assert experiment["name"] == "fraud"
    assert experiment["experiment_id"] == folder.parent.name == run["experiment_id"]
    assert (run["run_id"], run["run_uuid"], run["status"]) == (JOB, JOB, 3)
    assert run["artifact_uri"].endswith(f"{JOB}/artifacts")
    lines = (folder / "metrics/auc").read_text().splitlines()
    assert [it.split() for it in lines] == [
        [str(int(AT.timestamp() * 1000)), repr(0.8 + number / 100), str(number)] for number in (1, 2)
    ]
    assert (folder / "metrics/auc_error").read_text().split()[1] == "0.01"
    assert (folder / "params/rounds").read_text() == "2"
    assert (folder / "params/rule.name").read_text() == "fedadam"
    assert {it.name for it in folder.iterdir()} == {"meta.yaml", "metrics", "params", "tags", "artifacts"}


def test_a_job_is_one_run_of_one_experiment_however_often_it_is_written(tmp_path: Path) -> None:
    first = write_store(MlflowRun.of(job("running"), rounds()[:1]), tmp_path)
    assert yaml.safe_load((first / "meta.yaml").read_text())["end_time"] is None
    again = write_store(MlflowRun.of(job(), rounds()), tmp_path)
    assert again == first
    assert len((again / "metrics/auc").read_text().splitlines()) == 2
    assert [it.name for it in tmp_path.iterdir()] == [first.parent.name]


def test_nothing_of_a_single_member_goes_out(tmp_path: Path) -> None:
    folder = write_store(MlflowRun.of(job(), rounds()), tmp_path)
    everything = " ".join(it.name + it.read_text() for it in folder.rglob("*") if it.is_file())
    assert "secret-bank" not in everything
    assert "9.5" not in everything


def test_names_of_control_are_no_paths(tmp_path: Path) -> None:
    for name in ("/tmp/x", "../../x", "", "f" * 32):
        with pytest.raises(HansaError, match="control names a job"):
            MlflowRun.of(job().model_copy(update={"job": name}), rounds())
    for name in ("../../x", "/tmp/x", "", "a/b", "auc\n", ".."):
        bad = rounds()[0].model_copy(update={"metrics": {name: MetricValue(value=1.0)}})
        with pytest.raises(HansaError, match="control names a figure"):
            MlflowRun.of(job(), [bad])
    assert not list(tmp_path.iterdir())


@contextmanager
def tracking() -> Iterator[tuple[str, list[tuple[str, dict[str, Any], str | None]]]]:
    seen: list[tuple[str, dict[str, Any], str | None]] = []

    class Server(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply(404, {"error_code": "RESOURCE_DOES_NOT_EXIST"})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append((self.path.rpartition("mlflow/")[2], body, self.headers.get("Authorization")))
            answers = {"experiments/create": {"experiment_id": "7"}}
            answers["runs/create"] = {"run": {"info": {"run_id": "r1"}}}  # type: ignore[dict-item]
            self.reply(200, answers.get(seen[-1][0], {}))

        def reply(self, code: int, document: object) -> None:
            content = json.dumps(document).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()


def test_a_tracking_server_gets_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    with tracking() as (address, seen):
        assert send(MlflowRun.of(job(), rounds()), address) == "r1"
    assert [path for path, _, _ in seen] == [
        "experiments/create", "runs/create", "runs/log-batch", "runs/log-batch", "runs/update",
    ]  # fmt: skip
    assert {token for _, _, token in seen} == {"Bearer t0ken"}
    metrics = seen[3][1]["metrics"]
    assert [it["step"] for it in metrics if it["key"] == "auc"] == [1, 2]
    assert seen[-1][1]["status"] == "FINISHED"


def test_an_address_that_will_not_do_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    run = MlflowRun.of(job(), rounds())
    with pytest.raises(InputError, match="expected an address"):
        send(run, "mlruns")
    with pytest.raises(ConnectionFailed, match="no MLflow server answers"):
        send(run, "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    with pytest.raises(InputError, match="not sent without TLS"):
        send(run, "http://mlflow.example")
