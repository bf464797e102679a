"""What one member or the operator can put into a header is bounded, field by field."""

from __future__ import annotations

from typing import Any

import pytest
from federation import make_federation as federation_of
from federation import make_order, make_plan
from pydantic import BaseModel, ValidationError

from hansa.contract.errors import REFUSAL_CODES
from hansa.contract.jobs import JobPlan
from hansa.contract.messages import (
    AgreeReply,
    AgreeRequest,
    Charged,
    CloseRequest,
    GrantState,
    Head,
    HelloReply,
    HelloRequest,
    Order,
    Receipt,
    RefusalReply,
    TrainRequest,
    UnmaskReply,
    UnmaskRequest,
    Witness,
    WitnessReply,
    WitnessRequest,
)
from hansa.contract.typed import SENTENCE_CHARACTERS, canonical_json, clipped
from hansa.contract.wire import MAX_HEADER_BYTES, MAX_HEADER_VALUES

JOB, HASH, NONCE = "ab" * 16, "c" * 64, "1" * 32
LONG, HUGE = "x" * 100_000, 2**63
MANY = [f"m{it}" for it in range(1001)]

ORDER = make_order(federation_of(3), prekeys={"a": 1}).model_dump(mode="json")
PLAN = make_plan().model_dump(mode="json")
HELLO = HelloReply(nonce="n", charter_version=1, started=1.0, isolated=True)
WITNESS = Witness(witness="a", member="b", start=NONCE, made=NONCE, first=1)
ATTEMPT: dict[str, Any] = {"job": JOB, "attempt": 1}

CHARGE = {"grant": "one", "purpose": "train", "noise_multiplier": 9.5, "count": 1, "amount": 0.25}
CASES: list[tuple[type[BaseModel], Any, dict[str, list[Any]]]] = [
    (
        Receipt,
        {},
        {
            "charges": [[CHARGE] * 5, [{**CHARGE, "grant": LONG}], [{**CHARGE, "more": 1.0}], [{}]],
            "grants": [[{}] * 17],
            "signature": [LONG, "\x00", "\u20ac"],
        },
    ),
    (Head, {"sequence": 1, "hash": HASH}, {"sequence": [-1, HUGE], "hash": [LONG, ""]}),
    (
        HelloReply,
        HELLO.model_dump(mode="json"),
        {
            "charter_version": [0, 2**31, 2**70],
            "nonce": [LONG, "\n"],
            "started": [-1.0, 1e300],
            "accepts": [{name: {"start": NONCE, "first": 1} for name in MANY}],
        },
    ),
    (
        RefusalReply,
        {"code": "bad-size", "sentence": "no"},
        {
            "code": ["", LONG, "no code"],
            "sentence": ["x" * 501, "a\x00b", "a\nb"],
            "facts": [
                {LONG: 1},
                {"k": HUGE},
                {"k": -HUGE},
                {"k": "x" * 201},
                {"k": "\x00"},
                {f"k{it}": 1 for it in range(17)},
            ],
        },
    ),
    (
        Order,
        ORDER,
        {
            "knobs": [{LONG: 1.0}, {f"k{it}": 1.0 for it in range(17)}],
            "left_out": [{LONG: "gone"}, {"d": "x" * 501}, {"d": "\x00"}, dict.fromkeys(MANY, "gone")],
            "prekeys": [{LONG: 1}, dict.fromkeys(MANY, 1)],
            "arrays": [{LONG: HASH}, {f"k{it}": HASH for it in range(17)}],
            "groups": [[[name] for name in MANY], [MANY]],
        },
    ),
    (JobPlan, PLAN, {"pinned": [{LONG: 1.0}], "evaluate_every": [HUGE], "name": [LONG]}),
    (UnmaskReply, ATTEMPT, {"shares": [{"a": LONG}, {LONG: "s"}, dict.fromkeys(MANY, "s")]}),
    (
        UnmaskRequest,
        {**ATTEMPT, "active": ["a"]},
        {
            "active": [MANY],
            "dropped": [MANY],
            "receipts": [{name: {} for name in MANY}],
            "signatures": [{"a": LONG}],
        },
    ),
    (AgreeRequest, {**ATTEMPT, "active": ["a"]}, {"active": [MANY], "attempt": [HUGE]}),
    (AgreeReply, {"signature": "s"}, {"signature": [LONG]}),
    (CloseRequest, {"job": JOB, "rounds": 1}, {"rounds": [HUGE]}),
    (HelloRequest, {"nonce": "n"}, {"nonce": [LONG], "protocols": [[2**70], [1] * 17]}),
    (WitnessRequest, {}, {"starts": [dict.fromkeys(MANY, NONCE)]}),
    (WitnessReply, {}, {"witnesses": [[WITNESS.model_dump(mode="json")] * 1001]}),
    (Witness, WITNESS.model_dump(mode="json"), {"signature": [LONG]}),
    (TrainRequest, {"order": ORDER}, {"finished": [[{"attempt": 1, "order": HASH, "signatures": {}}] * 9]}),
]


@pytest.mark.parametrize(("kind", "honest", "lies"), CASES, ids=[case[0].__name__ for case in CASES])
def test_no_field_takes_more_than_it_needs(
    kind: type[BaseModel], honest: dict[str, Any], lies: dict[str, list[Any]]
) -> None:
    kind.model_validate_json(canonical_json(honest))
    for field, values in lies.items():
        for value in values:
            with pytest.raises(ValidationError) as refused:
                kind.model_validate_json(canonical_json({**honest, field: value}))
            assert {problem["loc"][0] for problem in refused.value.errors()} == {field}


def test_every_refusal_there_is_fits() -> None:
    for code in REFUSAL_CODES:
        RefusalReply(code=code, sentence="")


def test_the_largest_receipts_of_a_hundred_members_fit_a_header() -> None:
    """A member cannot make an unmask request too large to be sent."""
    long = "g" * 63
    charge = Charged(
        grant=long,
        purpose="evaluate",
        noise_multiplier=1 / 3,
        count=2**31 - 1,
        sampling_rate=1 / 3,
        amount=1 / 3,
    )
    grant = GrantState(
        grant=long,
        data_set=long,
        currency="rdp",
        order=1024,
        epsilon=1 / 3,
        delta=1 / 3,
        amount=1 / 3,
        training=1 / 3,
        holdout=1 / 3,
    )
    receipt = Receipt(
        charges=(charge,) * 4,
        grants=(grant,) * 16,
        head=Head(sequence=HUGE - 1, hash=HASH),
        signature="s" * 88,
    )
    names = tuple(f"{it:063d}" for it in range(100))
    body = UnmaskRequest(
        job=JOB,
        attempt=1,
        active=names,
        receipts=dict.fromkeys(names, receipt),
        signatures=dict.fromkeys(names, "s" * 88),
    )
    content = canonical_json(body)
    assert len(content) < MAX_HEADER_BYTES
    assert content.count(b",") < MAX_HEADER_VALUES


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("as it is", "as it is"),
        ("a\x00b\nc\x7fd\ud800e", "a b c d e"),
        ("x" * SENTENCE_CHARACTERS, "x" * SENTENCE_CHARACTERS),
        ("x" * (SENTENCE_CHARACTERS + 1), "x" * (SENTENCE_CHARACTERS - 1) + "\u2026"),
    ],
)
def test_what_is_clipped_is_a_sentence(text: str, expected: str) -> None:
    assert clipped(text) == expected
    RefusalReply(code="bad-size", sentence=clipped(text))
