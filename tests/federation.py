"""A small federation in memory for tests: real charter, real keys, real agents, made-up records."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from hansa.cli.simulation import SimulatedFederation
from hansa.clients.data.dataset import Dataset
from hansa.clients.data.split import split
from hansa.contract.charter import Charter, KnobRange, Member, Mode, ModelChoice, Protection, Task, Training
from hansa.contract.features import BinaryLabel, FeatureContract, NumericColumn
from hansa.contract.jobs import JobPlan, ServerRule
from hansa.contract.keys import SigningKey, to_text
from hansa.contract.messages import Order, RequestHeader, TrainRequest
from hansa.contract.wire import Segments, describe, digest, seal
from hansa.models.registry import load_model

JOB = "ab" * 16
HASH = "c" * 64
FEATURES = FeatureContract(
    columns=(NumericColumn(name="age", low=0, high=100), NumericColumn(name="dose", low=-2, high=2)),
    label=BinaryLabel(),
)


def names(members: int) -> list[str]:
    """Members are called a, b, c, ..."""
    return [chr(ord("a") + number) for number in range(members)]


def make_federation(
    members: int = 4,
    *,
    rows: int = 120,
    controllers: list[str] | None = None,
    mode: Mode = "clear",
    **charter: object,
) -> SimulatedFederation:
    """A federation of so many members, each with its own few rows of one noisy linear truth."""
    operator = SigningKey.generate()
    identities = {name: SigningKey.generate() for name in names(members)}
    sealing_keys = {name: X25519PrivateKey.generate() for name in names(members)}
    document: dict[str, object] = {
        "name": "test",
        "version": 1,
        "expires": datetime.now(UTC) + timedelta(days=90),
        "operator_key": to_text(operator.public),
        "members": tuple(
            Member(
                name=name,
                controller=(controllers or names(members))[number],
                identity_key=to_text(identities[name].public),
                sealing_key=to_text(sealing_keys[name].public_key().public_bytes_raw()),
                node_key=f"ecdsa-sha2-nistp256 {name}",
                records=rows,
            )
            for number, name in enumerate(names(members))
        ),
        "task": Task(title="test", features=FEATURES, model=ModelChoice(name="linear")),
        "protection": Protection(mode=mode, minimum_cohort=2 if members == 2 else None),
        "training": Training(max_entities=1000),
        "knobs": {
            "server_rate": KnobRange(default=0.2, low=0.01, high=1.0),
            "client_rate": KnobRange(default=1.0, low=0.1, high=2.0),
        },
        "approval": "automatic",
    }
    agreed = Charter.model_validate({**document, **charter})
    return SimulatedFederation(
        charter=agreed,
        hash=HASH,
        model=load_model(agreed.task.model, FEATURES),
        records={
            name: split(records(rows, seed), secret=name.encode(), holdout=0.2)
            for seed, name in enumerate(names(members))
        },
        identities=identities,
        sealing_keys=sealing_keys,
        operator=operator,
    )


def records(rows: int, seed: int) -> Dataset:
    """Rows of a noisy linear truth."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2, 2, size=(rows, 2))
    y = (X @ np.array([1.5, -1.0]) + rng.logistic(size=rows) > 0).astype(np.float64)
    return Dataset(X, y, np.array([f"{seed}-{row}".encode() for row in range(rows)]))


def make_plan(rounds: int = 3, **fields: object) -> JobPlan:
    """A job with short waits."""
    document = {
        "job": JOB,
        "name": "test",
        "rounds": rounds,
        "rule": ServerRule(),
        "deadline_s": 5.0,
        "reask_s": 1.0,
    }
    return JobPlan.model_validate({**document, **fields})


def make_order(federation: SimulatedFederation, attempt: int = 1, **fields: object) -> Order:
    """An order that an honest server would write."""
    document = {
        "job": JOB,
        "attempt": attempt,
        "kind": "train",
        "base": 0,
        "cohort": tuple(federation.records),
        "knobs": {name: knob.default for name, knob in federation.charter.knobs.items()},
    }
    document |= fields
    kind, weights = document["kind"], digest(np.zeros(federation.model.parameters).data.cast("B"))
    cohort = document["cohort"]
    missing = {name: "not connected" for name in federation.records if name not in cohort}
    wanted = {"weights"} if kind == "train" else set()
    wanted |= {"released"} if document.get("evaluate") or kind == "evaluate" else set()
    return Order.model_validate({"left_out": missing, "arrays": dict.fromkeys(wanted, weights), **document})


def attempt_request(
    federation: SimulatedFederation,
    order: Order,
    segments: Segments | None = None,
    key: SigningKey | None = None,
) -> bytes:
    """A signed request for an attempt, by the operator unless another key is given."""
    if segments is not None:
        order = order.model_copy(update={"arrays": {it.name: it.sha256 for it in describe(segments)}})
    else:
        segments = {"weights": np.zeros(federation.model.parameters)} if order.kind == "train" else {}
        if order.evaluate or order.kind == "evaluate":
            segments = {**segments, "released": np.zeros(federation.model.parameters)}
    return request(federation, TrainRequest(order=order), segments, key)


def request(
    federation: SimulatedFederation,
    body: object,
    segments: Segments | None = None,
    key: SigningKey | None = None,
    charter: str | None = None,
) -> bytes:
    """Any signed request."""
    arrays = segments or {}
    header = RequestHeader(charter=charter or federation.hash, body=body, segments=describe(arrays))  # type: ignore[arg-type]
    return seal(header, arrays, key or federation.operator)
