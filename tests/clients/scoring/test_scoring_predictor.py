"""A served score is the one that the agent's own evaluation comes to."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from federation import make_federation, make_plan
from scoring_side import LABELS, facts, publish, tensors

from hansa.cli.instance import MemberFolder
from hansa.cli.personal_export import kept_model
from hansa.cli.provisioning import to_toml
from hansa.clients.attempt import LocalWork
from hansa.clients.data.encode import encode
from hansa.clients.data.generators import generate
from hansa.clients.data.split import split
from hansa.clients.personal import keep_personal, personal_path, read_personal
from hansa.clients.scoring import predictor
from hansa.clients.scoring.model_file import model_bytes, parse_model, read_model
from hansa.clients.scoring.predictor import make_predictor
from hansa.clients.scoring.serving import Desk
from hansa.contract.charter import ModelChoice
from hansa.contract.errors import InputError
from hansa.contract.library import scenario_folder
from hansa.contract.scenario import read_scenario
from hansa.contract.sources import SyntheticSource
from hansa.models.model import Model
from hansa.models.preparation import Preparation, prepared_model
from hansa.models.registry import load_model

JOB = "cd" * 16


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("model", ["linear", "additive", "mlp"])
@pytest.mark.parametrize("prepared", [False, True])
def test_one_row_and_many_get_what_the_models_own_code_predicts(
    label: str, model: str, prepared: bool
) -> None:
    of = facts(label, model)
    kept = tensors(of, personal=label != "multiclass")
    if prepared:
        array = Preparation.untouched(of.features).array
        array[0], array[len(of.features.encoded)] = 0.4, 3.0
        kept["preparation"] = array
    file = parse_model(model_bytes(of, kept), "t")
    made = make_predictor(file)
    X = np.random.default_rng(5).uniform(-2, 2, (200, len(of.features.encoded)))
    expected = file.predict(X)
    # Single precision, and a kernel of another width, in a stack of layers.
    unit = np.ptp(expected) * (1e-6 if model == "mlp" else 1e-13)
    np.testing.assert_allclose(made.many(X), expected, rtol=0, atol=unit)
    np.testing.assert_allclose([made.one(row) for row in X.tolist()], expected, rtol=0, atol=unit)


@pytest.mark.parametrize("model", ["linear", "additive", "mlp"])
def test_raw_rows_get_the_scores_that_the_agent_kept_of_them(tmp_path: Path, model: str) -> None:
    """From an agent's last act in a job to an answer: its own held-out scores."""
    _, features = read_scenario(scenario_folder("consortium"))
    charter = make_federation(3).charter
    task = charter.task.model_copy(update={"features": features, "model": ModelChoice(name=model)})
    charter = charter.model_copy(update={"task": task})
    table = generate(SyntheticSource(generator="claims", rows=600, seed=3, options={"missing": 0.1}))
    records = encode(table, features, "t")
    parts = split(records, secret=b"s" * 32, holdout=0.3)
    work = LocalWork("a", charter, load_model(task.model, features), parts, folder=tmp_path, keep_scores=True)
    weights = work.model.initial(1) + np.random.default_rng(2).normal(0, 0.3, work.model.parameters)
    work.keep(make_plan(job=JOB), {"released": weights}, 7)
    # The agent has another process fit this.
    federated = work.model.predict(weights, parts.train.X)
    assert keep_personal(tmp_path, JOB, parts.train, federated, features.label)
    (tmp_path / "charter.toml").write_bytes(to_toml(charter))
    (tmp_path / "member.toml").write_text(
        'name = "a"\nserver = "x:1"\ndata = { kind = "csv", path = "a.csv" }\n'
    )

    places = {entity: place for place, entity in enumerate(records.entities.tolist())}
    dicts = table.drop("fraud").to_dicts()
    raw = [dicts[places[entity]] for entity in parts.holdout.entities.tolist()]
    assert any(value is None for row in raw for value in row.values())
    with np.load(tmp_path / "held_out.npz") as kept:
        expected = kept["scores"]
    for without_own in (True, False):
        served, arrays = kept_model(MemberFolder(tmp_path), JOB, federated=without_own)
        assert served.round == 7
        (tmp_path / "served").write_bytes(model_bytes(served, arrays))
        desk = Desk(tmp_path / "served")
        bodies = [msgspec.json.encode(row) for row in raw]
        scores = [desk.serving.predictor.one(desk.coder.row(desk.reader.one(body))) for body in bodies]
        if not without_own:
            own = read_personal(personal_path(tmp_path, JOB))
            expected = own.predict(expected, parts.holdout.X, features.label)
        np.testing.assert_allclose(scores, expected, rtol=0, atol=1e-6 if model == "mlp" else 1e-12)
    assert np.ptp(expected) > 0.01


def test_a_model_that_predicts_otherwise_than_its_file_says_is_refused(tmp_path: Path) -> None:
    of = publish(tmp_path / "served", personal=True)
    kept = read_model(tmp_path / "served")
    shifted = {**kept.tensors, "check.scores": kept.tensors["check.scores"] + 1e-3}
    with pytest.raises(InputError, match="does not come to the predictions that stand in the file"):
        make_predictor(type(kept)(of, shifted, kept.digest))


def test_a_model_of_a_kind_that_is_not_known_here_is_asked_as_agents_ask_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Other:
        """Not a row model, nor a stack of layers, to whoever looks."""

        def __init__(self, model: Model) -> None:
            self.parameters, self.predict = model.parameters, model.predict

    of = facts("multiclass")
    file = parse_model(model_bytes(of, tensors(of)), "t")
    monkeypatch.setattr(predictor, "prepared_model", lambda *given: Other(prepared_model(*given)))
    made = make_predictor(file)
    X = np.random.default_rng(5).uniform(-2, 2, (20, len(of.features.encoded)))
    np.testing.assert_allclose(made.many(X), file.predict(X), rtol=0, atol=1e-15)
    np.testing.assert_allclose([made.one(row) for row in X.tolist()], file.predict(X), rtol=0, atol=1e-13)
