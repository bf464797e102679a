"""Small contracts and records that the model tests share."""

from __future__ import annotations

import numpy as np

from hansa.contract.features import (
    BinaryLabel,
    CategoricalColumn,
    FeatureContract,
    Label,
    MulticlassLabel,
    NumericColumn,
    RegressionLabel,
)

LABELS: dict[str, Label] = {
    "binary": BinaryLabel(prevalence=0.3),
    "multiclass": MulticlassLabel(classes=("a", "b", "c")),
    "regression": RegressionLabel(low=-5.0, high=15.0),
}


def contract(label: Label, numbers: int = 4) -> FeatureContract:
    """`numbers` numeric columns and one of three categories."""
    columns = [NumericColumn(name=f"n{index}", low=-2, high=2) for index in range(numbers)]
    return FeatureContract(
        columns=(*columns, CategoricalColumn(name="c", categories=("x", "y", "z"))), label=label
    )


def records(features: FeatureContract, rows: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows with a signal in the first column."""
    rng = np.random.default_rng(seed)
    X = np.clip(rng.normal(size=(rows, len(features.encoded))), -2, 2)
    score = 1.5 * X[:, 0] + rng.normal(size=rows)
    label = features.label
    if isinstance(label, BinaryLabel):
        return X, (score > 0.5).astype(float)
    if isinstance(label, MulticlassLabel):
        return X, np.digitize(score, [-0.7, 0.7]).astype(float)
    return X, np.clip(5 + 3 * score, label.low, label.high)
