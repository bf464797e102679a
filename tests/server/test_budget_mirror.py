"""The mirror of the members' ledgers: what it says by honest receipts, and what hostile ones can do to it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from desks import client, open_test_desk
from federation import JOB, make_plan
from journals import signed

from hansa.contract.messages import Head, Receipt
from hansa.privacy.currency import GDP
from hansa.server.control.desk import ControlDesk
from hansa.server.store.budgets import MOST_GRANTS
from hansa.strategies.ports import Journal

COHORT = ("a", "b", "c", "d")
OTHER = "cd" * 16


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ControlDesk]:
    with open_test_desk(tmp_path) as made:
        yield made


def claim(desk: ControlDesk, job: str = JOB) -> Journal:
    desk.store.jobs.submit(make_plan(job=job), desk.charter_hash, {})
    return desk.store.claim(job, "run 1")


def give(journal: Journal, **receipts: Receipt) -> dict[str, str]:
    """One attempt after which these receipts came."""
    attempt = journal.open_attempt("train", base=0, cohort=COHORT, left_out={}, knobs={})
    return journal.receipts(attempt, "d" * 64, receipts)


def test_the_newest_receipt_says_what_is_left(desk: ControlDesk) -> None:
    journal = claim(desk)
    give(journal, a=signed(4, training=0.5), b=signed(9, amount=4.0, training=1.0))
    give(journal, a=signed(6, training=0.6))
    rows = client(desk, "read").get("/v1/budgets").json()
    found = {row["member"]: row for row in rows}
    assert sorted(found) == ["a", "b"]
    assert (found["a"]["training"], found["a"]["sequence"], found["a"]["attempt"]) == (0.6, 6, 2)
    assert found["a"]["percent_left"] == pytest.approx(70.0)
    assert found["a"]["epsilon_spent"] == pytest.approx(GDP.epsilon(0.6, 1e-5))
    assert found["b"]["percent_left"] == pytest.approx(75.0)
    assert client(desk).get("/v1/budgets", params={"member": "b"}).json() == [found["b"]]


def test_what_a_job_took_is_summed_over_its_receipts(desk: ControlDesk) -> None:
    journal = claim(desk)
    give(journal, a=signed(4, amount=2.0))
    give(journal, a=signed(5, purpose="evaluate"))
    give(claim(desk, OTHER), a=signed(6))
    rows = client(desk).get("/v1/budgets/jobs").json()
    assert [(it["job"], it["training"], it["holdout"], it["charges"], it["round_cost"]) for it in rows] == [
        (JOB, 0.1, 0.1, 2, 0.1),
        (OTHER, 0.1, 0.0, 1, 0.1),
    ]
    only = client(desk).get("/v1/budgets/jobs", params={"job": OTHER}).json()
    assert [it["job"] for it in only] == [OTHER]


def test_the_history_gives_each_receipt_as_it_was_signed_page_by_page(desk: ControlDesk) -> None:
    journal = claim(desk)
    for sequence in range(1, 6):
        give(journal, a=signed(sequence), b=signed(sequence))
    reader, seen, after = client(desk, "read"), [], 0
    while page := reader.get("/v1/budgets/history", params={"after": after, "limit": 3}).json():
        assert len(page) <= 3
        seen += page
        after = page[-1]["id"]
    assert [(it["attempt"], it["member"]) for it in seen] == [(n, m) for n in range(1, 6) for m in "ab"]
    assert Receipt.model_validate_json(desk.store.budgets.receipts()[0].receipt.model_dump_json()) == signed(
        1
    )
    assert reader.get("/v1/budgets/history", params={"limit": 100_000}).status_code == 422
    assert reader.get("/v1/budgets/history", params={"job": "ffff"}).status_code == 404


def test_a_later_row_that_arrives_first_is_not_overwritten(desk: ControlDesk) -> None:
    one, other = claim(desk), claim(desk, OTHER)
    give(one, a=signed(8, training=0.8))
    give(other, a=signed(7, training=0.7))
    assert [it.training for it in desk.store.budgets.grants()] == [0.8]


def test_a_forked_ledger_is_told_across_jobs(desk: ControlDesk) -> None:
    give(claim(desk), a=signed(8, "1"))
    assert set(give(claim(desk, OTHER), a=signed(8, "2"), b=signed(8, "3"))) == {"a"}
    lines = [it for it in desk.store.history.events() if it.kind == "ledger-fork"]
    assert [(it.member, it.job) for it in lines] == [("a", OTHER)]


def altered(**state: object) -> Receipt:
    receipt = signed(3)
    [grant] = receipt.grants
    return receipt.model_copy(update={"grants": (grant.model_copy(update=state),)})


HOSTILE = {
    "the largest numbers": altered(amount=1e300, training=1e300, epsilon=1e300),
    "the smallest amount": altered(amount=5e-324, training=1e300),
    "a delta of nothing": altered(delta=5e-324),
    "a delta above one": altered(delta=1e300),
    "an order without its currency": altered(order=2),
    "a currency without its order": altered(currency="rdp", order=None),
    "the highest row there can be": signed(3).model_copy(
        update={"head": Head(sequence=2**63 - 1, hash="f" * 64)}
    ),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_receipt_is_kept_and_shown_without_harm(desk: ControlDesk, name: str) -> None:
    journal = claim(desk)
    give(journal, a=HOSTILE[name], b=signed(4))
    rows = client(desk).get("/v1/budgets").json()
    assert [row["member"] for row in rows] == ["a", "b"]
    assert rows[1]["epsilon_spent"] is not None
    if "row" not in name:
        assert rows[0]["epsilon_spent"] is None
    assert client(desk).get("/v1/budgets/history").status_code == 200


def test_sums_of_the_largest_charges_stay_numbers(desk: ControlDesk) -> None:
    journal = claim(desk)
    for sequence in range(1, 4):
        give(journal, a=signed(sequence, amount=2.0).model_copy(update={"charges": largest()}))
    [row] = client(desk).get("/v1/budgets/jobs").json()
    assert row["training"] == 1e300


def largest() -> tuple[object, ...]:
    [charge] = signed(1).charges
    return tuple(charge.model_copy(update={"amount": 1e300}) for _ in range(4))


def test_a_member_that_names_ever_new_grants_fills_nothing(desk: ControlDesk) -> None:
    journal = claim(desk)
    [state] = signed(1).grants
    for sequence in range(1, 10):
        grants = tuple(state.model_copy(update={"grant": f"g{sequence}-{n}"}) for n in range(16))
        give(journal, a=signed(sequence).model_copy(update={"grants": grants}), b=signed(sequence))
    found = desk.store.budgets.grants()
    mine = [it.grant for it in found if it.member == "a"]
    assert len(mine) == MOST_GRANTS
    assert "g9-15" in mine
    assert [it.grant for it in found if it.member == "b"] == ["spring"]
