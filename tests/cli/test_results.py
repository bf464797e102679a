"""Figures of a result."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from hansa.cli.results import (
    HeldOut,
    RoundLine,
    exact_figures,
    read_held_out,
    result_object,
    shown_figure,
    shown_metric,
)
from hansa.contract.errors import InputError
from hansa.contract.features import BinaryLabel, RegressionLabel
from hansa.contract.jobs import MetricValue


def test_the_mean_is_over_members_and_all_records_are_pooled() -> None:
    held_out = {
        "a": HeldOut(np.array([0.0, 1.0]), np.array([0.2, 0.8])),
        "b": HeldOut(np.array([0.0, 1.0, 1.0, 0.0]), np.array([0.9, 0.1, 0.6, 0.4])),
    }
    found = exact_figures(held_out, BinaryLabel())
    assert found["accuracy"].per_member == {"a": 1.0, "b": 0.5}
    assert found["accuracy"].mean == 0.75
    assert found["accuracy"].all_records == pytest.approx(4 / 6)


def test_a_figure_that_is_undefined_for_a_member_does_not_count_in_the_mean() -> None:
    held_out = {
        "a": HeldOut(np.array([0.0, 1.0]), np.array([0.2, 0.8])),
        "b": HeldOut(np.array([1.0, 1.0]), np.array([0.9, 0.1])),
    }
    found = exact_figures(held_out, BinaryLabel())
    assert found["auc"].per_member == {"a": 1.0, "b": None}
    assert found["auc"].mean == 1.0


def test_a_member_without_held_out_records_is_shown_as_undefined() -> None:
    held_out = {
        "a": HeldOut(np.array([1.0, 3.0]), np.array([1.0, 2.0])),
        "b": HeldOut(np.array([]), np.array([])),
    }
    found = exact_figures(held_out, RegressionLabel(low=0, high=5))
    assert found["mae"].per_member == {"a": 0.5, "b": None}


def test_the_object_is_strict_json() -> None:
    line = RoundLine(1, 0.5, ("a", "b"), {"auc": MetricValue(value=0.8, error=0.01)})
    held_out = {"a": HeldOut(np.array([1.0]), np.array([0.5]))}
    found = result_object(
        "finished",
        [line],
        released=line.metrics,
        local=exact_figures(held_out, BinaryLabel()),
        more={"job": "x"},
    )
    read = json.loads(json.dumps(found, allow_nan=False))
    [first] = read["rounds"]
    assert first == {
        "round": 1,
        "seconds": 0.5,
        "cohort": ["a", "b"],
        "metrics": {"auc": 0.8},
        "errors": {"auc": 0.01},
    }
    assert read["released"] == {"auc": {"value": 0.8, "error": 0.01}}
    assert read["local"]["auc"] == {"mean": None, "all_records": None, "per_member": {"a": None}}


def test_scores_that_are_missing_or_broken_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"held_out\.npz: no such file"):
        read_held_out(tmp_path / "held_out.npz")
    (tmp_path / "held_out.npz").write_bytes(b"no zip")
    with pytest.raises(InputError, match="expected arrays 'labels' and 'scores'"):
        read_held_out(tmp_path / "held_out.npz")


@pytest.mark.parametrize(("value", "shown"), [(None, "-"), (0.5, "0.5000"), (12345.678, "1.235e+04")])
def test_figures_are_short(value: float | None, shown: str) -> None:
    assert shown_figure(value) == shown


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (0.84213, 0.00617, "0.842 ± 0.006"),
        (0.84213, 0.0123, "0.842 ± 0.012"),
        (0.84213, 0.0995, "0.84 ± 0.10"),
        (0.84213, 0.3, "0.8 ± 0.3"),
        (12.3456, 2.5, "12 ± 2"),
        (1234.5, 130.0, "1234 ± 130"),
        (0.84213, None, "0.8421"),
    ],
)
def test_a_noised_figure_has_the_digits_that_its_error_leaves(
    value: float, error: float | None, shown: str
) -> None:
    assert shown_metric(MetricValue(value=value, error=error)) == shown


def test_rounds_without_noise_have_no_errors() -> None:
    assert "errors" not in RoundLine(1, 0.5, (), {"auc": MetricValue(value=0.8)}).as_json()
