"""A job in mode `he` as the server runs it: journal in the store, every request signed by control, real agents."""

from __future__ import annotations

from pathlib import Path

import pytest
from desks import NOWHERE, SECRETS
from federation import JOB, make_federation, make_plan
from test_masked_job import ThroughControl

from hansa.contract.messages import KeysReply, Request
from hansa.contract.wire import describe, reply_header, request_header, seal, segments_of, unpack
from hansa.server.control.desk import ControlDesk
from hansa.server.store import open_store
from hansa.server.tokens import Tokens
from hansa.strategies import blind_keys, custody, roster
from hansa.strategies.consortium import ConsortiumStrategy
from hansa.strategies.memory_grid import InMemoryGrid


def test_control_signs_all_that_a_blind_job_needs_and_a_strangers_name_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(custody, "PATIENCE_S", 0.2)
    monkeypatch.setattr(blind_keys, "AGAIN_S", 0.0)
    # Whoever was gone is asked again at once: four rounds are over sooner than it would be otherwise.
    monkeypatch.setattr(roster, "HELLO_AGAIN_S", 0.0)
    federation = make_federation(5, mode="he")
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
    agents = federation.agents()
    rounds: list[int] = []

    def served(name: str, payload: bytes) -> bytes:
        body: Request = request_header(unpack(payload)).body
        if body.type == "apply":
            rounds.append(body.order.base)
        # One comes late and lacks the keys, and misses a round later: it is given the state.
        late = name == "d" and not rounds
        if late or (name == "d" and body.type in ("agree", "unmask", "apply") and rounds[-1] == 1):
            raise ConnectionError("gone")
        answer = agents[name].handle(payload)
        packed = unpack(answer)
        header = reply_header(packed)
        if name == "a" and rounds and isinstance(header.body, KeysReply):
            strange = header.body.model_copy(update={"signatures": {**header.body.signatures, "z": "x"}})
            segments = segments_of(packed, header.segments)
            changed = header.model_copy(update={"body": strange, "segments": describe(segments)})
            return seal(changed, segments, federation.identities[name])
        return answer

    def node(name: str):  # type: ignore[no-untyped-def]
        return lambda payload: served(name, payload)

    grid = InMemoryGrid({number: node(name) for number, name in enumerate(agents, start=1)})
    ConsortiumStrategy(
        charter=federation.charter,
        charter_hash=federation.hash,
        model=federation.model,
        journal=store.claim(JOB, "run 1"),
        operator=ThroughControl(desk, []),
        gather_s=0.0,
        sleep=lambda _: None,
    ).start(grid)
    grid.close()
    job = store.jobs.find(JOB)
    assert job is not None
    assert (job.status, job.round) == ("finished", 4), job.reason
    kinds = {it.kind for it in store.history.events(job=JOB)}
    assert {"keys", "reloaded", "closed"} <= kinds
    [tag] = {agents[name].blind.holds(JOB).tag for name in "bcde"}  # type: ignore[union-attr]
    assert tag
    store.close()
