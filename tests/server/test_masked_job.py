"""A masked job as the server runs it: journal in the store, every request signed by control, real agents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from desks import NOWHERE, SECRETS, as_text, client
from federation import JOB, make_federation, make_plan

from hansa.contract.charter import Protection
from hansa.contract.keys import from_text
from hansa.contract.messages import TrainRequest, UnmaskRequest
from hansa.contract.wire import request_header, unpack
from hansa.server.control.desk import ControlDesk
from hansa.server.store import open_store
from hansa.server.tokens import Tokens
from hansa.strategies.consortium import ConsortiumStrategy
from hansa.strategies.memory_grid import InMemoryGrid, NodeFunction


@dataclass
class ThroughControl:
    """`Operator` over control's own route; remembers how many headers each call had."""

    desk: ControlDesk
    calls: list[int]

    def sign_headers(self, job: str, headers: Sequence[bytes]) -> list[bytes]:
        self.calls.append(len(headers))
        body = {"job": job, "headers": [as_text(header) for header in headers]}
        answer = client(self.desk, "sign").post("/v1/sign", json=body)
        assert answer.status_code == 200, answer.text
        return [from_text(text) for text in answer.json()["signatures"]]


def fails(honest: NodeFunction, attempt: int, kind: type[TrainRequest] | type[UnmaskRequest]) -> NodeFunction:
    """A node whose agent is gone when it is asked this of that attempt."""

    def answer(payload: bytes) -> bytes:
        body = request_header(unpack(payload)).body
        number = body.order.attempt if isinstance(body, TrainRequest) else getattr(body, "attempt", 0)
        if isinstance(body, kind) and number == attempt:
            raise ConnectionError("gone")
        return honest(payload)

    return answer


@pytest.mark.parametrize("groups", [None, 3])
def test_control_signs_all_that_a_masked_job_needs(tmp_path: Path, groups: int | None) -> None:
    federation = make_federation(7, protection=Protection(mode="masked", audit_groups=groups))
    store = open_store(f"sqlite:///{tmp_path}/store.sqlite")
    desk = ControlDesk(
        store=store,
        charter=federation.charter,
        charter_hash=federation.hash,
        key=federation.operator,
        tokens=Tokens({scope: secret.encode() for scope, secret in SECRETS.items()}),  # type: ignore[misc]
        superlink=NOWHERE,
    )
    desk.submit(make_plan(rounds=4))
    nodes = {number: agent.handle for number, agent in enumerate(federation.agents().values(), start=1)}
    nodes[2] = fails(nodes[2], 2, TrainRequest)
    for number in (3, 4, 5):
        nodes[number] = fails(nodes[number], 3, UnmaskRequest)
    operator = ThroughControl(desk, [])
    strategy = ConsortiumStrategy(
        charter=federation.charter,
        charter_hash=federation.hash,
        model=federation.model,
        journal=store.claim(JOB, "run 1"),
        operator=operator,
        gather_s=0.0,
        sleep=lambda _: None,
    )
    grid = InMemoryGrid(nodes)
    strategy.start(grid)
    grid.close()
    attempts = {it.attempt: it for it in store.history.attempts(JOB)}
    assert store.jobs.get(JOB).status == "finished"
    assert [attempts[number].status for number in sorted(attempts)] == [
        *("applied", "applied", "failed", "applied", "applied", "evaluated")
    ]
    assert attempts[2].active == ("a", "c", "d", "e", "f", "g")
    assert max(operator.calls) == 7
    store.close()
