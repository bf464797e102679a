"""The server of one job: control, store and strategy over a grid; in this process or one of its own.

    python server_half.py FOLDER

FOLDER holds what a consortium's server has: the charter, the operator's key, the plan. The members'
agents answer on sockets in its folder `nodes`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import httpx
from flwr.proto.node_pb2 import NodeInfo
from starlette.testclient import TestClient

from hansa.contract.charter import Charter
from hansa.contract.frames import WorkSocket
from hansa.contract.jobs import JobPlan
from hansa.contract.keys import SigningKey
from hansa.models.registry import load_model
from hansa.server.control.app import build_app
from hansa.server.control.desk import ControlDesk
from hansa.server.signing import ControlOperator
from hansa.server.store import open_store, renewed
from hansa.server.tokens import Tokens
from hansa.strategies.consortium import ConsortiumStrategy
from hansa.strategies.memory_grid import InMemoryGrid, NodeFunction

_TOKENS = {scope: f"{scope}-{'0123456789' * 2}" for scope in ("read", "write", "sign")}
_ASK_S = 60.0


class WatchedGrid(InMemoryGrid):
    """A grid that tells the recorder whenever the strategy asks who is online: before each attempt."""

    def __init__(self, nodes: Mapping[int, NodeFunction], watch: Callable[[], object]) -> None:
        super().__init__(nodes, workers=2 * len(nodes))
        self._watch = watch

    def get_nodes(self) -> Iterable[NodeInfo]:
        """All nodes."""
        self._watch()
        return super().get_nodes()


class _InProcess(httpx.BaseTransport):
    """Control's API without a socket."""

    def __init__(self, desk: ControlDesk) -> None:
        self._client = TestClient(build_app(desk))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._client.send(request)


def write_settings(
    folder: Path, charter: Charter, charter_hash: str, operator: SigningKey, plan: JobPlan
) -> None:
    """What the server has of a consortium before a job."""
    (folder / "tmp").mkdir()
    (folder / "charter.json").write_text(charter.model_dump_json())
    (folder / "charter.hash").write_text(charter_hash)
    (folder / "plan.json").write_text(plan.model_dump_json())
    operator.save(folder / "operator.key")


def serve(folder: Path, nodes: Mapping[int, NodeFunction], watch: Callable[[], object]) -> None:
    """Run the job of that folder to its end."""
    charter = Charter.model_validate_json((folder / "charter.json").read_text())
    charter_hash = (folder / "charter.hash").read_text()
    plan = JobPlan.model_validate_json((folder / "plan.json").read_text())
    store = open_store(f"sqlite:///{folder}/store.sqlite")
    desk = ControlDesk(
        store=store,
        charter=charter,
        charter_hash=charter_hash,
        key=SigningKey.load(folder / "operator.key"),
        tokens=Tokens({scope: secret.encode() for scope, secret in _TOKENS.items()}),  # type: ignore[misc]
        superlink="127.0.0.1:1",
    )
    desk.submit(plan)
    grid = WatchedGrid(nodes, watch)
    try:
        journal = store.claim(plan.job, "run 1")
        strategy = ConsortiumStrategy(
            charter=charter,
            charter_hash=charter_hash,
            model=load_model(charter.task.model, charter.task.features),
            journal=journal,
            operator=ControlOperator("http://control", _TOKENS["sign"], transport=_InProcess(desk)),
        )
        with renewed(journal):
            strategy.start(grid)
        # The last look, at what the strategy still holds.
        watch()
    finally:
        grid.close()
        store.close()


def _node(socket: WorkSocket) -> NodeFunction:
    return lambda payload: socket.ask(payload, _ASK_S)


def main(folder: Path) -> None:
    """A server in a process of its own; its log is a file of its folder."""
    logging.basicConfig(filename=folder / "server.log", level=logging.DEBUG)
    sockets = sorted((folder / "nodes").glob("*.sock"))
    nodes = {number: _node(WorkSocket(path)) for number, path in enumerate(sockets, start=1)}
    superlink = WorkSocket(folder / "superlink.sock")
    serve(folder, nodes, lambda: superlink.ask(b"who is online?", _ASK_S))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
