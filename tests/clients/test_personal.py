"""A member's own version of a model: better where members differ, no worse where they do not, and at home."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest

from hansa.clients.data.dataset import Dataset
from hansa.clients.personal import (
    FEWEST,
    PersonalModel,
    federated_score,
    keep_personal,
    personal_path,
    personalise,
    read_personal,
)
from hansa.contract.errors import InputError
from hansa.contract.features import BinaryLabel, MulticlassLabel, RegressionLabel
from hansa.models.losses import sigmoid
from hansa.models.metrics import auc, log_loss

BINARY, NUMBER = BinaryLabel(), RegressionLabel(low=0.0, high=10.0)
COMMON = np.array([1.0, -1.0, 0.0, 0.0])


def records(own: np.ndarray, rows: int, seed: int, *, shift: float = 0.0) -> Dataset:
    """Yes or no by log-odds shift + own . x."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(rows, 4))
    y = (rng.uniform(size=rows) < sigmoid(shift + X @ own)).astype(float)
    return Dataset(X, y, np.array([f"{seed}-{row}".encode() for row in range(rows)], dtype="S32"))


def federated(X: np.ndarray) -> np.ndarray:
    return sigmoid(X @ COMMON)


def test_a_member_that_differs_in_kind_gets_a_model_that_fits_it() -> None:
    own = np.array([1.0, 1.0, 1.5, 0.0])
    train, test = records(own, 800, 1), records(own, 4000, 2)
    fitted = personalise(train, federated(train.X), BINARY)
    assert fitted is not None
    assert fitted.ridge is not None
    personal = fitted.predict(federated(test.X), test.X, BINARY)
    best = auc(test.X @ own, test.y)
    assert auc(federated(test.X), test.y) < best - 0.1
    assert auc(personal, test.y) > best - 0.01


def test_where_the_federated_model_is_right_nothing_is_lost() -> None:
    lost = []
    for seed in range(20):
        train, test = records(COMMON, 150, seed), records(COMMON, 4000, 100 + seed)
        fitted = personalise(train, federated(train.X), BINARY)
        assert fitted is not None
        lost.append(
            auc(federated(test.X), test.y) - auc(fitted.predict(federated(test.X), test.X, BINARY), test.y)
        )
    assert np.mean(lost) < 0.005


def test_few_rows_of_the_rarer_class_only_recalibrate() -> None:
    own = np.array([0.0, 0.0, 3.0, 0.0])
    train = records(own, 400, 3, shift=-6.5)
    assert 0 < train.y.sum() < FEWEST
    fitted = personalise(train, federated(train.X), BINARY)
    assert fitted is not None
    assert fitted.ridge is None
    assert not fitted.weights.any()
    assert fitted.factor >= 0


def test_recalibration_keeps_the_order_and_repairs_the_level() -> None:
    train = records(COMMON, 300, 4, shift=-2.0)
    few = train.take(np.arange(60))
    fitted = personalise(few, federated(few.X), BINARY)
    assert fitted is not None
    plain = PersonalModel(fitted.shift, fitted.factor, np.zeros(4), None)
    predicted = plain.predict(federated(train.X), train.X, BINARY)
    assert auc(predicted, train.y) == auc(federated(train.X), train.y)
    assert log_loss(predicted, train.y) < log_loss(federated(train.X), train.y) - 0.1


@pytest.mark.parametrize("rows", [1, 2, 5, 19])
@pytest.mark.parametrize("kind", [0.0, 1.0])
def test_a_handful_of_records_of_one_kind_gives_finite_numbers(rows: int, kind: float) -> None:
    made = records(COMMON, rows, rows)
    made = Dataset(made.X, np.full(rows, kind), made.entities)
    fitted = personalise(made, federated(made.X), BINARY)
    assert fitted is not None
    assert np.isfinite([fitted.shift, fitted.factor, *fitted.weights]).all()


def test_a_number_is_adjusted_too() -> None:
    rng = np.random.default_rng(5)
    X = rng.normal(size=(600, 4))
    y = np.clip(5 + X @ np.array([1.0, 0.0, 0.0, 0.5]) + 0.3 * rng.normal(size=600), 0, 10)
    guess = np.clip(6 + X[:, 0], 0, 10)
    made = Dataset(X, y, np.array([str(row).encode() for row in range(600)], dtype="S32"))
    train, test = made.take(np.arange(300)), made.take(np.arange(300, 600))
    fitted = personalise(train, guess[:300], NUMBER)
    assert fitted is not None
    error = np.sqrt(np.mean((fitted.predict(guess[300:], test.X, NUMBER) - test.y) ** 2))
    assert error < 0.35 < np.sqrt(np.mean((guess[300:] - test.y) ** 2))


def test_classes_have_no_personal_model() -> None:
    label = MulticlassLabel(classes=("a", "b", "c"))
    made = records(COMMON, 50, 6)
    assert personalise(made, np.full((50, 3), 1 / 3), label) is None
    with pytest.raises(ValueError, match="several classes"):
        federated_score(np.full((50, 3), 1 / 3), label)


def test_rows_of_one_person_never_stand_on_both_sides_of_a_fold() -> None:
    # Labels by chance, the same for all rows of a person: whoever tests on known people believes in the columns.
    rng = np.random.default_rng(7)
    people = np.repeat(np.arange(40), 10)
    X = rng.normal(size=(40, 30))[people]
    y = rng.integers(0, 2, size=40).astype(float)[people]
    made = Dataset(X, y, np.array([f"person {it}".encode() for it in people], dtype="S32"))
    fitted = personalise(made, np.full(400, 0.5), BINARY)
    assert fitted is not None
    assert fitted.ridge is None or fitted.ridge >= 100


def test_the_file_is_for_its_owner_alone_and_reads_back(tmp_path: Path) -> None:
    made = records(np.array([1.0, 1.0, 1.5, 0.0]), 400, 8)
    assert keep_personal(tmp_path, "a" * 32, made, federated(made.X), BINARY)
    path = personal_path(tmp_path, "a" * 32)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    again, fitted = read_personal(path), personalise(made, federated(made.X), BINARY)
    assert fitted is not None
    assert (again.shift, again.factor, again.ridge) == (fitted.shift, fitted.factor, fitted.ridge)
    np.testing.assert_array_equal(again.weights, fitted.weights)
    path.write_bytes(b"something else")
    with pytest.raises(InputError, match="no personal model"):
        read_personal(path)
