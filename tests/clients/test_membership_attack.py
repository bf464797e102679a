"""The attack on a released model sees one that learned its records by heart, and none where there is nothing to see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from federation import make_federation
from numpy.typing import NDArray
from safetensors.numpy import save_file

from hansa.clients.audit_input import read_released
from hansa.clients.auditing import Subject, split_of
from hansa.clients.data.dataset import Dataset
from hansa.clients.membership_attack import attack
from hansa.contract.charter import ModelChoice, Task
from hansa.contract.errors import InputError
from hansa.contract.features import BinaryLabel, FeatureContract, NumericColumn
from hansa.models.fit import fit
from hansa.models.preparation import Preparation, prepared_model

Array = NDArray[np.float64]
ROWS, COLUMNS = 160, 200
FEATURES = FeatureContract(
    columns=tuple(NumericColumn(name=f"n{number}", low=-2, high=2) for number in range(COLUMNS)),
    label=BinaryLabel(),
)


def subject(model: str) -> Subject:
    """More columns than records, and labels that hang on nothing: what is learned is learned by heart."""
    rng = np.random.default_rng(3)
    X = rng.uniform(-0.2, 0.2, size=(ROWS, COLUMNS)) + 1.0
    y = rng.integers(0, 2, size=ROWS).astype(np.float64)
    task = Task(title="by heart", features=FEATURES, model=ModelChoice(name=model))
    records = Dataset(X, y, np.array([f"{row:032x}".encode() for row in range(ROWS)]))
    return Subject("a", make_federation(task=task, rows=ROWS).charter, records, b"a" * 32, {})


def preparation() -> Preparation:
    """What a contract check makes of ranges that are far too wide, each by as much as it likes."""
    rng = np.random.default_rng(4)
    return Preparation(rng.uniform(-1.0, 3.0, COLUMNS), rng.choice([1.0, 16.0], COLUMNS), 0.0)


def by_heart(who: Subject, prepared: Preparation | None) -> Array:
    """Weights fitted to the training part alone."""
    train = split_of(who, who.charter, who.records).train
    model = prepared_model(who.charter.task.model, FEATURES, prepared)
    X = train.X if prepared is None else prepared.apply(train.X)
    return fit(model, model.initial(0), X, train.y, ridge=1e-3)


@pytest.mark.parametrize("model", ["linear", "additive"])
@pytest.mark.parametrize("prepared", [None, preparation()], ids=["as declared", "after a contract check"])
@pytest.mark.parametrize("kind", [".npz", ".safetensors"])
def test_a_model_that_knows_its_records_is_told(
    kind: str, prepared: Preparation | None, model: str, tmp_path: Path
) -> None:
    who, path = subject(model), tmp_path / f"model{kind}"
    arrays = {"weights": by_heart(who, prepared)} | (
        {} if prepared is None else {"preparation": prepared.array}
    )
    if kind == ".npz":
        np.savez(path, **arrays)
    else:
        save_file(arrays, path)
    found = attack(who, read_released(path, who.charter))
    assert found.low > 0.6
    assert found.trained + found.held_out == ROWS
    if prepared is not None:
        # Without what the check made of the columns, nearly nothing of it can be seen.
        assert attack(who, {"released": arrays["weights"]}).auc < found.low


def test_a_model_of_other_records_tells_nobody_apart() -> None:
    who = subject("linear")
    weights = np.random.default_rng(1).normal(size=COLUMNS + 1)
    found = attack(who, {"released": weights})
    assert found.low < 0.5 < found.high


def test_a_preparation_of_another_contract_is_said_in_a_sentence(tmp_path: Path) -> None:
    who, path = subject("linear"), tmp_path / "model.npz"
    np.savez(path, weights=np.zeros(COLUMNS + 1), preparation=np.zeros(7))
    with pytest.raises(InputError, match=r"--model .*model\.npz: a preparation of 7 numbers"):
        read_released(path, who.charter)
    # A job without a contract check keeps an empty one.
    np.savez(path, weights=np.zeros(COLUMNS + 1), preparation=np.zeros(0))
    assert set(read_released(path, who.charter)) == {"released"}
