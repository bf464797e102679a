"""What the operator's key signs in mode `masked`: prekeys, starts, groups and unmasking fit charter and attempt."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from desks import as_text, client, header, open_test_desk
from federation import JOB, make_plan

from hansa.contract.charter import Protection
from hansa.contract.messages import (
    PREKEYS,
    HelloRequest,
    Order,
    Receipt,
    Request,
    SegmentHeader,
    TrainRequest,
    UnmaskRequest,
    Witness,
    WitnessRequest,
)
from hansa.secagg.parties import Parties
from hansa.secagg.prekeys import prekey_bytes
from hansa.server.control.desk import ControlDesk

COHORT = ("a", "b", "c", "d", "e", "f")
KNOBS = {"server_rate": 0.2, "client_rate": 1.0}
NUMBERS = dict.fromkeys(COHORT, 7)
START = "0" * 32


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ControlDesk]:
    """Job JOB with attempt 1 of six members open."""
    with open_test_desk(tmp_path, members=6, mode="masked") as made:
        open_attempt(made)
        yield made


@pytest.fixture
def grouped(tmp_path: Path) -> Iterator[ControlDesk]:
    """The same where the charter has groups of three."""
    protection = Protection(mode="masked", audit_groups=3)
    with open_test_desk(tmp_path, members=6, protection=protection) as made:
        open_attempt(made)
        yield made


def open_attempt(desk: ControlDesk) -> None:
    desk.store.jobs.submit(make_plan(), desk.charter_hash, KNOBS)
    desk.store.claim(JOB, "run 1").open_attempt("train", base=0, cohort=COHORT, left_out={}, knobs=KNOBS)


def prekeys(desk: ControlDesk, count: int = 6) -> SegmentHeader:
    size = count * prekey_bytes(Parties.of(desk.charter, desk.charter_hash))
    return SegmentHeader(name=PREKEYS, dtype="u8", count=size, sha256="1" * 64)


def train(desk: ControlDesk, segment: SegmentHeader | None = None, **changes: Any) -> bytes:
    segments = (segment or prekeys(desk),)
    document = {
        "job": JOB,
        "attempt": 1,
        "kind": "train",
        "base": 0,
        "cohort": COHORT,
        "knobs": KNOBS,
        "prekeys": NUMBERS,
        "arrays": {it.name: it.sha256 for it in segments},
        **changes,
    }
    return header(desk, TrainRequest(order=Order.model_validate(document)), segments=segments)


def unmask(**changes: Any) -> UnmaskRequest:
    document = {
        "job": JOB,
        "attempt": 1,
        "active": COHORT[:5],
        "dropped": COHORT[5:],
        "receipts": {name: Receipt() for name in COHORT[:5]},
        "signatures": {"a": "x"},
        **changes,
    }
    return UnmaskRequest.model_validate(document)


def said(desk: ControlDesk, content: Request | bytes) -> str:
    """Why control does not sign; empty where it does."""
    content = content if isinstance(content, bytes) else header(desk, content)
    answer = client(desk, "sign").post("/v1/sign", json={"job": JOB, "headers": [as_text(content)]})
    assert answer.status_code in (200, 409), answer.text
    return "" if answer.status_code == 200 else str(answer.json()["detail"])


def test_what_an_honest_strategy_asks_for_is_signed(desk: ControlDesk) -> None:
    word = Witness(witness="a", member="b", start=START, made=START, first=3)
    for content in (
        HelloRequest(nonce="n", prekeys=4),
        WitnessRequest(starts={"a": START}, prekeys=4),
        WitnessRequest(shown=(word,)),
        train(desk),
        unmask(),
    ):
        assert said(desk, content) == ""


def test_starts_are_those_of_members(desk: ControlDesk) -> None:
    assert "'z' is not a member" in said(desk, WitnessRequest(starts={"z": START}))
    for word in (
        Witness(witness="a", member="z", start=START, made=START, first=3),
        Witness(witness="z", member="a", start=START, made=START, first=3),
    ):
        assert "'z' is not a member" in said(desk, WitnessRequest(shown=(word,)))
    word = Witness(witness="a", member="b", start=START, made=START, first=3)
    assert "a member has 5 peers" in said(desk, WitnessRequest(shown=(word,) * 6))


@pytest.mark.parametrize("numbers", [{}, dict.fromkeys(COHORT[:5], 7), {**NUMBERS, "z": 7}])
def test_an_order_names_one_prekey_of_each_of_its_cohort(desk: ControlDesk, numbers: dict[str, int]) -> None:
    assert "one prekey of each of its cohort" in said(desk, train(desk, prekeys=numbers))


def test_an_order_brings_the_prekeys_it_names(desk: ControlDesk) -> None:
    floats = SegmentHeader(name="weights", dtype="f64", count=3, sha256="1" * 64)
    for segment in (prekeys(desk, 5), prekeys(desk, 7), floats):
        assert "does not bring them" in said(desk, train(desk, segment))


def test_an_attempt_has_one_choice_of_prekeys_ever(desk: ControlDesk) -> None:
    assert said(desk, train(desk)) == ""
    assert said(desk, train(desk)) == ""
    assert "another order" in said(desk, train(desk, prekeys={**NUMBERS, "a": 8}))


def test_a_cohort_is_split_only_where_the_charter_says_so(desk: ControlDesk) -> None:
    assert "has no audit_groups" in said(desk, train(desk, groups=(COHORT[:3], COHORT[3:])))


GROUPS: dict[str, tuple[tuple[tuple[str, ...], ...], str]] = {
    "none": ((), "are not its cohort"),
    "a member in none": ((COHORT[:3], COHORT[3:5]), "are not its cohort"),
    "a member in two": ((COHORT[:3], COHORT[2:]), "are not its cohort"),
    "a stranger": ((COHORT[:3], (*COHORT[3:], "z")), "are not its cohort"),
    "one too small": ((COHORT[:2], COHORT[2:]), "a group of 2 controllers"),
    "a split as agreed": ((COHORT[:3], COHORT[3:]), ""),
    "one circle": ((COHORT,), ""),
}


@pytest.mark.parametrize("name", GROUPS)
def test_groups_split_the_cohort_and_are_large_enough(grouped: ControlDesk, name: str) -> None:
    groups, sentence = GROUPS[name]
    answer = said(grouped, train(grouped, groups=groups))
    assert sentence in answer
    assert bool(answer) == bool(sentence)


UNMASK: dict[str, tuple[dict[str, Any], str]] = {
    "nobody dropped": ({"dropped": ()}, "are not its cohort"),
    "active and dropped": ({"dropped": ("e", "f")}, "are not its cohort"),
    "a stranger dropped": ({"dropped": ("z",)}, "are not its cohort"),
    "no receipts": ({"receipts": {}}, "receipts are those of the active members"),
    "a dropped member's receipt": (
        {"receipts": {name: Receipt() for name in COHORT}},
        "receipts are those of the active members",
    ),
    "a dropped member's signature": ({"signatures": {"f": "x"}}, "signatures come from them"),
    "too few": ({"active": COHORT[:2], "dropped": COHORT[2:]}, "below the least of 4"),
}


@pytest.mark.parametrize("name", UNMASK)
def test_unmasking_opens_one_secret_of_each_participant(desk: ControlDesk, name: str) -> None:
    changes, sentence = UNMASK[name]
    assert sentence in said(desk, unmask(**changes))


def test_an_attempt_is_unmasked_for_one_active_set_ever(desk: ControlDesk) -> None:
    assert said(desk, unmask()) == ""
    everybody = unmask(active=COHORT, dropped=(), receipts={name: Receipt() for name in COHORT})
    assert "another active set" in said(desk, everybody)
