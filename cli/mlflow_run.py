"""A job's released figures as an MLflow run: in MLflow's local file store, or at a tracking server over its REST API.

MLflow itself is not needed. What goes out is what everybody in the consortium may know: released figures, their
standard errors, durations, the plan. Source: MLflow's FileStore layout and its REST API 2.0.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from hansa.contract.errors import ConnectionFailed, HansaError, InputError
from hansa.contract.typed import clipped
from hansa.server.records import JobRecord, RoundRecord

# MLflow's numbers for how a run ended; the REST API takes the words.
_STATUS = {"finished": (3, "FINISHED"), "failed": (4, "FAILED"), "stopped": (5, "KILLED")}
_RUNNING = (1, "RUNNING")
_BATCH, _PARAMETERS = 900, 90
_TIMEOUT_S = 20.0
# It becomes a file's name.
_METRIC = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Metric:
    """One value at one step."""

    name: str
    value: float
    milliseconds: int
    step: int


@dataclass(frozen=True)
class MlflowRun:
    """A job as MLflow has it; the run's id is the job's."""

    experiment: str
    job: JobRecord
    metrics: tuple[Metric, ...]
    parameters: dict[str, str]
    tags: dict[str, str]

    @classmethod
    def of(cls, job: JobRecord, rounds: Sequence[RoundRecord], experiment: str | None = None) -> MlflowRun:
        """From what control says of it: nothing that is not released.

        Raises
        ------
        HansaError : control's names are not such that a file can be called so
        """
        if job.job != job.plan.job:
            raise HansaError(
                f"control names a job {clipped(job.job, 80)!r} whose plan is of job {job.plan.job}"
            )
        metrics = []
        for it in rounds:
            at = _milliseconds(it.applied.timestamp())
            values = {"round_seconds": it.seconds, "members": float(len(it.active))}
            for name, figure in it.metrics.items():
                if not _METRIC.fullmatch(name):
                    raise HansaError(
                        f"control names a figure {clipped(name, 80)!r}; expected letters, digits, _ and -"
                    )
                values[name] = figure.value
                if figure.error is not None:
                    values[f"{name}_error"] = figure.error
            metrics += [Metric(name, value, at, it.round) for name, value in values.items()]
        plan = job.plan.model_dump(mode="json")
        parameters = {name: _shown(value) for name, value in _flat(plan) if name not in ("job", "name")}
        tags = {
            "mlflow.runName": f"{job.name} {job.job[:8]}",
            "mlflow.source.name": "hansa",
            "mlflow.source.type": "JOB",
            "hansa.job": job.job,
            "hansa.charter": job.charter,
            "hansa.status": job.status,
            "mlflow.note.content": "Released figures, with noise where the charter has it; <name>_error is its "
            "standard error.",
        }
        return cls(experiment or job.name, job, tuple(metrics), parameters, tags)

    @property
    def status(self) -> tuple[int, str]:
        """MLflow's number and word."""
        return _STATUS.get(self.job.status, _RUNNING)

    @property
    def began(self) -> int:
        """Milliseconds of the epoch."""
        return _milliseconds(self.job.created.timestamp())

    @property
    def ended(self) -> int | None:
        """None while it goes on."""
        return None if self.status == _RUNNING else _milliseconds(self.job.updated.timestamp())


def write_store(run: MlflowRun, root: Path) -> Path:
    """Put the run into a file store, in place of what is there of the same job; returns the run's folder.

    Raises
    ------
    InputError : the folder cannot be written
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        experiment, folder = _experiment(run.experiment, root)
        with tempfile.TemporaryDirectory(dir=root, prefix=".writing-") as place:
            made = Path(place) / run.job.job
            _write_run(run, made, experiment, folder / run.job.job)
            if (folder / run.job.job).exists():
                shutil.move(folder / run.job.job, Path(place) / "before")
            made.rename(folder / run.job.job)
    except OSError as error:
        raise InputError(f"--out {root}: cannot be written ({error.strerror or error})") from None
    return folder / run.job.job


def _experiment(name: str, root: Path) -> tuple[str, Path]:
    """The experiment of that name, made where it is not there."""
    for meta in root.glob("*/meta.yaml"):
        if (
            f"\nname: {json.dumps(name)}\n" in "\n" + meta.read_text()
            or f"\nname: {name}\n" in meta.read_text()
        ):
            return meta.parent.name, meta.parent
    number = str(_milliseconds(time.time()))
    folder = root / number
    folder.mkdir()
    now = int(number)
    _yaml(
        folder / "meta.yaml",
        {
            "artifact_location": folder.resolve().as_uri(),
            "creation_time": now,
            "experiment_id": number,
            "last_update_time": now,
            "lifecycle_stage": "active",
            "name": name,
        },
    )
    return number, folder


def _write_run(run: MlflowRun, made: Path, experiment: str, final: Path) -> None:
    for name in ("metrics", "params", "tags", "artifacts"):
        (made / name).mkdir(parents=True)
    for name, value in run.parameters.items():
        (made / "params" / name).write_text(value)
    for name, value in run.tags.items():
        (made / "tags" / name).write_text(value)
    lines: dict[str, list[str]] = {}
    for it in run.metrics:
        lines.setdefault(it.name, []).append(f"{it.milliseconds} {it.value!r} {it.step}\n")
    for name, found in lines.items():
        (made / "metrics" / name).write_text("".join(found))
    _yaml(
        made / "meta.yaml",
        {
            "artifact_uri": (final.resolve() / "artifacts").as_uri(),
            "end_time": run.ended,
            "entry_point_name": "",
            "experiment_id": experiment,
            "lifecycle_stage": "active",
            "run_id": run.job.job,
            "run_name": run.tags["mlflow.runName"],
            "run_uuid": run.job.job,
            "source_name": "",
            "source_type": 4,
            "source_version": "",
            "start_time": run.began,
            "status": run.status[0],
            "tags": [],
            "user_id": "hansa",
        },
    )


def _yaml(path: Path, document: dict[str, Any]) -> None:
    # A JSON value is a YAML value.
    path.write_text("".join(f"{name}: {json.dumps(value)}\n" for name, value in document.items()))


def send(run: MlflowRun, server: str) -> str:
    """Make the run at a tracking server; returns MLflow's id of it.

    `MLFLOW_TRACKING_TOKEN`, where it is set, goes along as a bearer token, over TLS or on this machine only.

    Raises
    ------
    InputError : no http address
    ConnectionFailed : nothing answers there
    HansaError : it answers something else
    """
    address = urlsplit(server)
    if address.scheme not in ("http", "https") or not address.hostname:
        raise InputError(f"--server {server}: expected an address such as https://mlflow.example")
    token, headers = os.environ.get("MLFLOW_TRACKING_TOKEN", ""), {}
    if token:
        if address.scheme == "http" and address.hostname not in _LOOPBACK:
            raise InputError(f"--server {server}: MLFLOW_TRACKING_TOKEN is not sent without TLS; use https")
        headers["Authorization"] = f"Bearer {token}"
    base = f"{server.rstrip('/')}/api/2.0/mlflow"
    with httpx.Client(base_url=base, headers=headers, timeout=_TIMEOUT_S) as http:
        experiment = _experiment_at(http, run.experiment)
        tags = [{"key": name, "value": value} for name, value in run.tags.items()]
        body = {
            "experiment_id": experiment,
            "start_time": run.began,
            "run_name": run.tags["mlflow.runName"],
            "tags": tags,
        }
        made = str(_ask(http, "/runs/create", body)["run"]["info"]["run_id"])
        parameters = [{"key": name, "value": value} for name, value in run.parameters.items()]
        for first in range(0, len(parameters), _PARAMETERS):
            _ask(http, "/runs/log-batch", {"run_id": made, "params": parameters[first : first + _PARAMETERS]})
        metrics = [
            {"key": it.name, "value": it.value, "timestamp": it.milliseconds, "step": it.step}
            for it in run.metrics
        ]
        for first in range(0, len(metrics), _BATCH):
            _ask(http, "/runs/log-batch", {"run_id": made, "metrics": metrics[first : first + _BATCH]})
        ending = {"run_id": made, "status": run.status[1]}
        _ask(http, "/runs/update", ending if run.ended is None else {**ending, "end_time": run.ended})
    return made


def _experiment_at(http: httpx.Client, name: str) -> str:
    found = _send(http, "GET", "/experiments/get-by-name", query={"experiment_name": name})
    if found.status_code == 404:
        return str(_ask(http, "/experiments/create", {"name": name})["experiment_id"])
    return str(_answer(found)["experiment"]["experiment_id"])


def _ask(http: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    return _answer(_send(http, "POST", path, body=body))


def _send(
    http: httpx.Client, method: str, path: str, *, body: object = None, query: dict[str, str] | None = None
) -> httpx.Response:
    try:
        return http.request(method, path, json=body, params=query)
    except httpx.TransportError as error:
        raise ConnectionFailed(f"no MLflow server answers at {http.base_url} ({error})") from None


def _answer(response: httpx.Response) -> dict[str, Any]:
    try:
        document = response.json()
    except ValueError:
        document = None
    if not response.is_success or not isinstance(document, dict):
        said = document.get("message", "") if isinstance(document, dict) else ""
        raise HansaError(f"MLflow at {response.request.url} answered {response.status_code} {said}".rstrip())
    return document


def _flat(document: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in document.items():
        if isinstance(value, dict):
            found += _flat(value, f"{before}{name}.")
        else:
            found.append((re.sub(r"[^\w. -]", "_", before + name), value))
    return found


def _shown(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _milliseconds(seconds: float) -> int:
    return int(1000 * seconds)
