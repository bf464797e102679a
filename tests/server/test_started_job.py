"""A job that starts from a model: it begins where the other ended, by digest in mode `he`, by weights elsewhere."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import numpy as np
import pytest
from desks import client, open_test_desk
from federation import JOB, make_federation, make_plan, request
from safetensors.numpy import save

from hansa.cli.simulation import LocalOperator, SimulatedFederation
from hansa.cli.starting import read_start
from hansa.clients.attempt import LocalWork
from hansa.clients.starting import import_start, kept_in
from hansa.contract.errors import InputError
from hansa.contract.jobs import JobPlan, WarmStart
from hansa.contract.messages import JobRequest, RefusalReply
from hansa.contract.plan import with_start
from hansa.contract.wire import reply_header, unpack
from hansa.models.start import is_start, weights_digest
from hansa.server.control.desk import ControlDesk
from hansa.server.replies import StartedJob
from hansa.server.store import checkpoints, open_store
from hansa.server.store.database import connect
from hansa.server.store.journal import JobJournal
from hansa.server.store.tables import starts
from hansa.server.tokens import Tokens
from hansa.strategies.apply import ModelState
from hansa.strategies.consortium import ConsortiumStrategy
from hansa.strategies.memory_grid import InMemoryGrid

SECOND = "2" * 32


def start_of(federation: SimulatedFederation, weights: np.ndarray, **changes: object) -> WarmStart:
    document = {
        "job": JOB,
        "contract": federation.charter.task.features.digest,
        "weights": weights_digest(weights),
        "parameters": weights.size,
    }
    return WarmStart.model_validate(document | changes)


def desk_of(federation: SimulatedFederation, folder: Path) -> ControlDesk:
    return ControlDesk(
        store=open_store(f"sqlite:///{folder}/store.sqlite"),
        charter=federation.charter,
        charter_hash=federation.hash,
        key=federation.operator,
        tokens=Tokens({}),
        superlink="127.0.0.1:1",
    )


def run(federation: SimulatedFederation, desk: ControlDesk, plan: JobPlan, folder: Path) -> JobJournal:
    """The job with agents whose folders stay, so that they keep what a closed job leaves."""
    agents = {}
    for name in federation.records:
        place = folder / name
        place.mkdir(exist_ok=True)
        work = LocalWork(name, federation.charter, federation.model, federation.records[name], folder=place)
        agents[name] = federation.agent(name, place / f"{plan.job[0]}.sqlite", work=work)
    grid = InMemoryGrid({number: it.handle for number, it in enumerate(agents.values(), start=1)})
    journal = desk.store.claim(plan.job, "run")
    strategy = ConsortiumStrategy(
        charter=federation.charter,
        charter_hash=federation.hash,
        model=federation.model,
        journal=journal,
        operator=LocalOperator(federation.operator),
        gather_s=0.0,
    )
    try:
        strategy.start(grid)
    finally:
        grid.close()
        for it in agents.values():
            it.close()
    return journal


def metrics(desk: ControlDesk, job: str, number: int) -> dict[str, float]:
    return {
        it.name: it.value for it in desk.store.history.metrics(job, after=number - 1) if it.round == number
    }


@pytest.mark.parametrize("mode", ["clear", "masked", "he"])
def test_it_begins_with_the_model_that_the_other_job_released(mode: str, tmp_path: Path) -> None:
    federation = make_federation(3, mode=mode)
    desk = desk_of(federation, tmp_path)
    try:
        first = make_plan(2, evaluate_every=1)
        desk.submit(first)
        run(federation, desk, first, tmp_path)
        assert desk.store.jobs.get(JOB).status == "finished"
        with np.load(tmp_path / "a" / f"model-{JOB}.npz") as kept:
            weights = np.array(kept["weights"])
        second = with_start(make_plan(1, job=SECOND), start_of(federation, weights))
        desk.submit(second, None if mode == "he" else weights)
        run(federation, desk, second, tmp_path)
        assert desk.store.jobs.get(SECOND).status == "finished"
        ended, began = metrics(desk, JOB, 2), metrics(desk, SECOND, 0)
        assert began == pytest.approx(ended)
        assert began["log_loss"] < metrics(desk, JOB, 0)["log_loss"]
        assert desk.store.jobs.get(SECOND).plan.start == second.start
        assert any("starting from the model of job" in it.sentence for it in desk.store.history.events())
    finally:
        desk.store.close()


def test_a_member_keeps_no_other_model_than_the_one_that_is_named(tmp_path: Path) -> None:
    federation = make_federation(3, mode="he")
    weights = np.arange(federation.model.parameters, dtype=np.float64)
    contract = np.array([federation.charter.task.features.digest])
    np.savez(tmp_path / f"model-{JOB}.npz", weights=weights, contract=contract)
    find = kept_in(tmp_path)
    assert np.array_equal(find(start_of(federation, weights)), weights)  # type: ignore[arg-type]
    assert find(start_of(federation, weights + 1.0)) is None
    assert find(start_of(federation, weights, contract="0" * 64)) is None
    assert find(start_of(federation, weights, job=SECOND)) is None
    assert not is_start(weights[:-1], start_of(federation, weights))
    np.savez(tmp_path / f"model-{JOB}.npz", weights=weights, contract=np.array([], dtype=np.str_))
    assert find(start_of(federation, weights)) is None
    for content in (b"", b"PK", b"\x93NUMPY"):
        (tmp_path / f"model-{JOB}.npz").write_bytes(content)
        assert find(start_of(federation, weights)) is None


def test_in_mode_he_a_member_that_has_come_since_takes_part_once_the_model_was_brought_to_it(
    tmp_path: Path,
) -> None:
    federation = make_federation(3, mode="he")
    desk = desk_of(federation, tmp_path)
    try:
        first = make_plan(2, evaluate_every=1)
        desk.submit(first)
        run(federation, desk, first, tmp_path)
        with np.load(tmp_path / "a" / f"model-{JOB}.npz") as kept:
            weights = np.array(kept["weights"])
        # As if it had taken no part; without it there is no cohort.
        (tmp_path / "c" / f"model-{JOB}.npz").unlink()
        start = start_of(federation, weights)
        path = import_start(tmp_path / "c", start, weights)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        second = with_start(make_plan(1, job=SECOND), start)
        desk.submit(second, None)
        run(federation, desk, second, tmp_path)
        assert desk.store.jobs.get(SECOND).status == "finished"
        assert metrics(desk, SECOND, 0) == pytest.approx(metrics(desk, JOB, 2))
    finally:
        desk.store.close()


@pytest.mark.parametrize("mode", ["masked", "he"])
def test_members_take_no_part_where_the_model_is_another_one(
    mode: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    federation = make_federation(3, mode=mode)
    desk = desk_of(federation, tmp_path)
    weights = np.full(federation.model.parameters, 0.25)
    try:
        # A server that swaps the weights after they were named; in mode he a model that nobody keeps.
        plan = with_start(make_plan(1, deadline_s=1.0, reask_s=0.5), start_of(federation, weights))
        desk.submit(plan, None if mode == "he" else weights)
        if mode == "masked":
            with connect(f"sqlite:///{tmp_path}/store.sqlite").write() as connection:
                connection.execute(starts.delete())
                checkpoints.write_start(connection, JOB, ModelState.start(weights + 1.0).arrays())
        run(federation, desk, plan, tmp_path)
        assert desk.store.jobs.get(JOB).status == "paused"
        said = "does not keep" if mode == "he" else "are not those of the model that its plan names"
        assert said in caplog.text
        assert desk.store.jobs.get(JOB).round == 0
    finally:
        desk.store.close()


def test_a_plan_with_a_start_of_another_model_is_refused_before_it_is_noted(tmp_path: Path) -> None:
    federation = make_federation(3)
    weights = np.zeros(federation.model.parameters)
    plan = with_start(make_plan(1), start_of(federation, weights, contract="1" * 64))
    agent = federation.agent("a", tmp_path / "a.sqlite")
    try:
        asked = request(federation, JobRequest(plan=plan))
        reply = reply_header(unpack(agent.handle(asked))).body
        assert isinstance(reply, RefusalReply)
        assert (reply.code, "under contract" in reply.sentence) == ("bad-size", True)
        assert agent.attempts.state(JOB) == ""
    finally:
        agent.close()


def test_control_takes_weights_only_with_the_plan_that_names_them(tmp_path: Path) -> None:
    with open_test_desk(tmp_path, mode="masked") as desk, client(desk) as http:
        federation = make_federation(3)
        weights = np.zeros(federation.model.parameters)
        start = start_of(federation, weights)
        plan = with_start(make_plan(1), start)

        def answer(plan: JobPlan, array: np.ndarray) -> tuple[int, str]:
            reply = http.post("/v1/jobs/started", json=StartedJob.of(plan, array).model_dump(mode="json"))
            return reply.status_code, reply.text

        assert http.post("/v1/jobs", json=plan.model_dump(mode="json")).status_code == 422
        for wrong, array, sentence in (
            (plan, weights + 1.0, "not those that the plan names"),
            (with_start(plan, start.model_copy(update={"contract": "1" * 64})), weights, "feature contract"),
            (with_start(plan, start.model_copy(update={"parameters": 9})), weights, "has 9 weights"),
            (make_plan(1), weights, "comes with its weights"),
        ):
            status, text = answer(wrong, array)
            assert status == 422
            assert sentence in text
        assert answer(plan, weights)[0] == 201
    blind = tmp_path / "blind"
    blind.mkdir()
    with open_test_desk(blind, mode="he") as desk:
        with pytest.raises(InputError, match="no weights may come"):
            desk.submit(plan, weights)
        assert desk.submit(plan).plan.start == start


def test_a_plan_without_a_start_is_written_as_before_and_one_with_a_check_is_refused() -> None:
    plan = make_plan(1)
    assert "start" not in plan.model_dump()
    assert "start" not in json.loads(plan.model_dump_json())
    federation = make_federation(3)
    start = start_of(federation, np.zeros(federation.model.parameters))
    assert JobPlan.model_validate_json(with_start(plan, start).model_dump_json()).start == start
    with pytest.raises(InputError, match="has no contract check"):
        with_start(plan.model_copy(update={"check": True}), start)


def test_a_file_that_is_no_exported_model_is_said_to_be_none(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    metadata = {"job": JOB, "contract": "a" * 64, "round": "3", "charter": "b" * 64}
    path.write_bytes(save({"weights": np.ones(3)}, metadata=metadata))
    read = read_start(path)
    assert (read.start.job, read.start.rounds, read.start.parameters) == (JOB, 3, 3)
    for content, sentence in (
        (b"nothing of the kind", "not a safetensors file"),
        (save({"weights": np.ones(3)}), "says nothing of its contract"),
        (save({"weights": np.ones(3, dtype=np.float32)}, metadata=metadata), "64-bit numbers"),
        (save({"weights": np.array([np.nan])}, metadata=metadata), "finite"),
        (
            save({"weights": np.ones(3), "preparation": np.ones(3)}, metadata=metadata),
            "no job starts from it",
        ),
        (save({"weights": np.ones(3)}, metadata={**metadata, "contract": "x"}), "field 'contract'"),
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=sentence):
            read_start(path)
