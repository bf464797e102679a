"""Runs of the ServerApp: started, looked at and stopped through Flower's Control API.

A run's FAB is nothing but a pyproject.toml: the ServerApp is loaded from the installed package, so no
code travels. A job outlives its runs; see DESIGN.md section 4.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from flwr.cli.build import build_fab_from_files
from flwr.common.serde import fab_to_proto
from flwr.proto.control_pb2 import ListRunsRequest, StartRunRequest, StopRunRequest
from flwr.supercore.control.control_http_client import ControlHttpClient
from flwr.supercore.error import FlowerError
from flwr.supercore.fab import Fab

from hansa import __version__
from hansa.contract.errors import ConnectionFailed, HansaError, InputError

SERVER_APP = "hansa.server.app:app"
CLIENT_APP = "hansa.clients.app:app"

ConfigValue = str | int | float | bool
T = TypeVar("T")


@dataclass(frozen=True)
class RunState:
    """Flower's view of a run: status pending, starting, running or finished; the rest once finished."""

    run_id: int
    status: str
    sub_status: str
    details: str

    @property
    def finished(self) -> bool:
        """Nothing more will come of this run."""
        return self.status == "finished"


def build_fab(
    run_config: Mapping[str, ConfigValue], *, server_app: str = SERVER_APP, client_app: str = CLIENT_APP
) -> bytes:
    """A bundle of one file. `run_config` is what the ServerApp finds in `context.run_config`."""
    import tomli_w

    pyproject = {
        "project": {"name": "hansa", "version": __version__, "description": "Hansa", "license": "Apache-2.0"},
        "tool": {
            "flwr": {
                "app": {
                    "publisher": "hansa",
                    "components": {"serverapp": server_app, "clientapp": client_app},
                    "config": dict(run_config),
                }
            }
        },
    }
    try:
        return build_fab_from_files({"pyproject.toml": tomli_w.dumps(pyproject).encode()})[0]
    except (ValueError, TypeError) as error:
        raise InputError(f"run config {dict(run_config)}: {error}") from error


def start_run(
    address: str,
    run_config: Mapping[str, ConfigValue] | None = None,
    *,
    fab: bytes | None = None,
    server_app: str = SERVER_APP,
    ca: bytes | None = None,
) -> int:
    """Submit a run and return its id; an executor takes it up.

    Parameters
    ----------
    address : HOST:PORT of the inner listener
    run_config : given to the ServerApp; not used when a whole `fab` is given
    ca : PEM of the CA when the inner listener speaks TLS; plain HTTP without
    """
    bundle = build_fab(run_config or {}, server_app=server_app) if fab is None else fab
    request = StartRunRequest(fab=fab_to_proto(Fab(hashlib.sha256(bundle).hexdigest(), bundle, {})))
    answer = _call(address, ca, lambda control: control.StartRun(request))
    if not answer.HasField("run_id"):
        raise HansaError(f"{address}: the SuperLink did not start the run; its log says why")
    return int(answer.run_id)


def run_status(address: str, run_id: int, *, ca: bytes | None = None) -> RunState | None:
    """The state of a run; None when this SuperLink does not know it (it was restarted since)."""
    try:
        answer = _call(address, ca, lambda control: control.ListRuns(ListRunsRequest(run_id=run_id)))
    except _NotFoundError:
        return None
    run = answer.run_dict.get(run_id)
    if run is None:
        return None
    return RunState(run_id, run.status.status, run.status.sub_status, run.status.details)


def stop_run(address: str, run_id: int, *, ca: bytes | None = None) -> bool:
    """End a run; its ServerApp is told to stop. False when there is nothing to stop any more."""
    try:
        answer = _call(address, ca, lambda control: control.StopRun(StopRunRequest(run_id=run_id)))
    except _NotFoundError:
        return False
    return bool(answer.success)


class _NotFoundError(HansaError):
    """The SuperLink knows no such run, or it has ended."""


def _call(address: str, ca: bytes | None, call: Callable[[ControlHttpClient], T]) -> T:
    with (
        _typed_failures(address),
        ControlHttpClient.from_server_address(address, ca is None, ca, interceptors=[]) as control,
    ):
        return call(control)


@contextmanager
def _typed_failures(address: str) -> Iterator[None]:
    try:
        yield
    except httpx.HTTPStatusError as error:
        said: Any = FlowerError.from_json(error.response.text)
        reason = said.message if said else f"answered {error.response.status_code}"
        if error.response.status_code in (404, 409, 412):
            raise _NotFoundError(f"{address}: {reason}") from None
        raise HansaError(f"{address}: {reason}") from error
    except httpx.HTTPError as error:
        raise ConnectionFailed(f"{address}: the SuperLink cannot be reached: {error}") from error
