"""Served files for tests, a desk and an application in this process, and a client of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np

from hansa.clients.scoring.app import Limits, ScoringApp
from hansa.clients.scoring.model_file import ModelFacts, model_bytes, write_model
from hansa.clients.scoring.serving import Desk
from hansa.contract.charter import ModelChoice
from hansa.contract.features import (
    BinaryLabel,
    CategoricalColumn,
    FeatureContract,
    Label,
    MulticlassLabel,
    NumericColumn,
    RegressionLabel,
)
from hansa.models.registry import load_model

TOKEN = b"0123456789abcdef0123456789abcdef"
COLUMNS = (
    NumericColumn(name="age", low=20, high=60, missing=30, indicator=True),
    NumericColumn(name="sum paid", low=0, high=99, missing=0, log=True),
    CategoricalColumn(name="ward", categories=("a", "b", "c")),
    CategoricalColumn(name="code", categories=("1", "2", "other"), missing="1", other="other"),
    NumericColumn(name="extra", low=-1, high=1, optional=True),
)
ROW: dict[str, Any] = {"age": 44.5, "sum paid": 12, "ward": "b", "code": 2}
LABELS: dict[str, Label] = {
    "binary": BinaryLabel(prevalence=0.2),
    "multiclass": MulticlassLabel(classes=("x", "y", "z")),
    "regression": RegressionLabel(low=-3, high=7),
}


class Uncounted:
    """Counts of what nobody asks for."""

    def clipped(self, column: int, count: int = 1) -> None:
        """Nothing."""

    def absent(self, column: int, count: int = 1) -> None:
        """Nothing."""


def facts(label: str = "binary", model: str = "linear", **changes: Any) -> ModelFacts:
    """Facts of a made-up model."""
    features = FeatureContract(columns=COLUMNS, label=LABELS[label])
    settings = {
        "job": "ab" * 16,
        "member": "a",
        "round": 3,
        "model": ModelChoice(name=model),
        "features": features,
    }
    return ModelFacts(**{**settings, **changes})


def tensors(of: ModelFacts, *, personal: bool = False, seed: int = 1) -> dict[str, np.ndarray]:
    """Weights drawn from a seed, and with them an organisation's own version."""
    rng = np.random.default_rng(seed)
    model = load_model(of.model, of.features)
    found = {"weights": model.initial(seed) + rng.normal(0, 0.5, model.parameters)}
    if personal:
        found |= {
            "calibration": np.array([0.2, 0.7]),
            "adjustment": rng.normal(0, 0.3, len(of.features.encoded)),
        }
    return found


def publish(path: Path, of: ModelFacts | None = None, *, personal: bool = False, seed: int = 1) -> ModelFacts:
    """Put a made-up model's file in place."""
    of = of or facts()
    write_model(path, model_bytes(of, tensors(of, personal=personal, seed=seed)))
    return of


def application(path: Path, *, token: bytes | None = None, limits: Limits | None = None) -> ScoringApp:
    """An application that serves the file."""
    return ScoringApp(Desk(path), token, limits)


async def ask(app: ScoringApp, method: str, path: str, **request: Any) -> httpx.Response:
    """One request without a network."""
    transport = httpx.ASGITransport(app=app)  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=transport, base_url="http://scoring") as client:
        return await client.request(method, path, **request)
