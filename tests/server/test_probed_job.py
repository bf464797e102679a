"""A job with probes as the server runs it: journal in the store, every request signed by control, real agents."""

from __future__ import annotations

from pathlib import Path

import pytest
from desks import NOWHERE, SECRETS
from federation import JOB, make_federation, make_plan
from test_masked_job import ThroughControl, fails

from hansa.contract.charter import KnobRange, Mode
from hansa.contract.decisions import Decision
from hansa.contract.errors import HansaError
from hansa.contract.messages import TrainRequest
from hansa.server.control.desk import ControlDesk
from hansa.server.store import open_store
from hansa.server.tokens import Tokens
from hansa.strategies import blind_keys, custody, roster
from hansa.strategies.consortium import ConsortiumStrategy
from hansa.strategies.memory_grid import InMemoryGrid

pytestmark = pytest.mark.slow

KNOBS = {
    "server_rate": KnobRange(default=0.002, low=1e-4, high=10.0),
    "client_rate": KnobRange(default=1.0, low=0.1, high=2.0),
}


@pytest.mark.parametrize("mode", ["clear", "masked", "he"])
def test_control_signs_all_that_a_job_with_probes_needs(
    tmp_path: Path, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(custody, "PATIENCE_S", 0.2)
    monkeypatch.setattr(blind_keys, "AGAIN_S", 0.0)
    monkeypatch.setattr(roster, "HELLO_AGAIN_S", 0.0)
    federation = make_federation(5, mode=mode, knobs=KNOBS)
    store = open_store(f"sqlite:///{tmp_path}/store.sqlite")
    desk = ControlDesk(
        store=store,
        charter=federation.charter,
        charter_hash=federation.hash,
        key=federation.operator,
        tokens=Tokens({scope: secret.encode() for scope, secret in SECRETS.items()}),  # type: ignore[misc]
        superlink=NOWHERE,
    )
    desk.submit(make_plan(rounds=4, tuning="probe"))
    nodes = {number: agent.handle for number, agent in enumerate(federation.agents().values(), start=1)}
    # A member is lost in the second step, another in the probe of the first.
    nodes[2] = fails(nodes[2], 3, TrainRequest)
    nodes[3] = fails(nodes[3], 2, TrainRequest)
    grid = InMemoryGrid(nodes)
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
    job = store.jobs.get(JOB)
    assert (job.status, job.round) == ("finished", 4), job.reason
    attempts = store.history.attempts(JOB)
    decisions = store.decisions.of(JOB)
    if mode == "he":
        assert [(it.kind, it.status) for it in attempts] == [
            ("train", "applied"),
            ("evaluate", "evaluated"),
        ] * 4
        assert [it.round for it in attempts] == [1, None, 2, None, 3, None, 4, None]
        assert [it.key for it in decisions] == [f"probe {number}" for number in (2, 4, 6, 8)]
    else:
        # After the first probe the sums say how long a step should have been.
        kinds = [("train", "applied"), ("evaluate", "evaluated"), *[("train", "applied")] * 3]
        assert [(it.kind, it.status) for it in attempts] == [*kinds, ("evaluate", "evaluated")]
        assert [it.key for it in decisions] == ["probe 2", *(f"step {number}" for number in (3, 4, 5))]
    now = {it.name: it for it in store.knobs.of(JOB)}["server_rate"]
    assert (now.value, now.set_by) == (decisions[-1].knobs["server_rate"], decisions[-1].by)
    # The figures of a probe are those of the round that it led to.
    rounds = store.history.rounds(JOB)
    assert all("log_loss" in it.metrics for it in rounds)
    first = store.history.metrics(JOB, name="log_loss")[0]
    assert first.round == 0
    assert rounds[-1].metrics["log_loss"].value < first.value - 0.05
    store.close()


def test_a_decision_is_made_once_and_only_on_knobs_as_they_were(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/store.sqlite")
    store.jobs.submit(
        make_plan(pinned={"client_rate": 1.0}), "c" * 64, {"server_rate": 0.2, "client_rate": 1.0}
    )
    made = Decision(
        key="tuner 3", by="tuner", round=3, sentence="it falls too slowly", knobs={"server_rate": 0.4}
    )
    first = store.decisions.keep(JOB, made, expected={"server_rate": 0.2})
    # Sent again after an answer that was lost, and by another that would say otherwise.
    assert store.decisions.keep(JOB, made, expected={"server_rate": 0.2}) == first
    other = made.model_copy(update={"knobs": {"server_rate": 9.0}})
    assert store.decisions.keep(JOB, other).knobs == {"server_rate": 0.4}
    values = {it.name: it.value for it in store.knobs.of(JOB)}
    assert values == {"server_rate": 0.4, "client_rate": 1.0}
    for knobs, expected in (
        ({"server_rate": 0.1}, {"server_rate": 0.2}),
        ({"client_rate": 0.5}, {}),
        ({"dropout": 0.5}, {}),
    ):
        stale = Decision(key="tuner 4", by="tuner", round=4, sentence="too late", knobs=knobs)
        with pytest.raises(HansaError):
            store.decisions.keep(JOB, stale, expected=expected)
    assert {it.name: it.value for it in store.knobs.of(JOB)} == values
    assert len(store.decisions.of(JOB)) == 1
    store.close()
