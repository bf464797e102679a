"""Whatever tail a ledger lost: what a receipt of it says was spent counts again, and the chain goes on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from privacy_rows import JOB, NOW, OTHER, Caps, Organisation, approval, charge, data_set, grant

from hansa.contract.errors import InputError, RefusalError
from hansa.contract.messages import GrantState, Receipt, Seen
from hansa.privacy.accounts import rounded_up
from hansa.privacy.book import Book, LedgerError
from hansa.privacy.currency import GDP, Currency, rdp_currency, release
from hansa.privacy.records import ChargeRow, FinishRow, FreezeRow, RecoveryRow, Row, link
from hansa.privacy.verify import verify

WHO = {"by": "privacy officer", "reason": "disk failed"}
LATER = NOW + timedelta(days=200)


def grant_states(book: Book) -> tuple[GrantState, ...]:
    """Every grant as it stands, sums rounded up."""
    states = []
    for name, account in book.grants.items():
        currency = book.data_sets[account.row.data_set].row.currency
        states.append(
            GrantState(
                grant=name,
                data_set=account.row.data_set,
                currency=currency.name,
                order=currency.order,
                epsilon=account.row.epsilon,
                delta=account.row.delta,
                amount=account.amount,
                training=rounded_up(account.sums.training),
                holdout=rounded_up(account.sums.holdout),
                together=account.data_set.together,
            )
        )
    return tuple(states)


def receipt(book: Book, attempt: int, job: str = JOB) -> Seen:
    """What the organisation signs after an attempt's charge."""
    return Seen(
        job=job,
        attempt=attempt,
        order="a" * 64,
        receipt=Receipt(grants=grant_states(book), head=book.head),
    )


@dataclass
class History:
    """A ledger and every receipt that left it, each with how many rows there were."""

    rows: list[Row]
    receipts: list[Seen]


@st.composite
def histories(draw: st.DrawFn) -> History:
    currency = draw(st.sampled_from([GDP, rdp_currency(8.0, 1e-5)]))
    organisation = Organisation(Book(), [], Caps())
    organisation.record(data_set(currency=currency))
    organisation.record(grant("first", epsilon=4.0, currency=currency))
    organisation.record(approval(JOB, of="first"))
    receipts = []
    steps = st.sampled_from(["charge", "charge", "charge", "grant", "freeze", "staff"])
    for attempt, step in enumerate(draw(st.lists(steps, min_size=3, max_size=14)), start=1):
        try:
            match step:
                case "charge":
                    event = release(draw(st.sampled_from([1.5, 3.0, 7.77])), draw(st.integers(1, 3)))
                    organisation.charge(
                        charge(attempt, event=event),
                        charge(attempt, purpose="evaluate", part="holdout", event=event),
                    )
                    receipts.append(receipt(organisation.book, attempt))
                    if draw(st.booleans()):
                        organisation.record(FinishRow(job=JOB, attempt=attempt))
                case "grant":
                    name = f"grant-{attempt}"
                    organisation.record(grant(name, epsilon=1.0, currency=currency))
                    organisation.record(approval(JOB, of=name))
                case "freeze":
                    organisation.record(FreezeRow(grant="first", reason="", by="officer"))
                case "staff":
                    organisation.record(data_set(f"staff-{attempt}", currency=currency, start=1000 * attempt))
        except (InputError, RefusalError):
            pass
    return History(organisation.rows, receipts)


def opened(rows: list[Row]) -> Organisation:
    return Organisation(Book(rows), list(rows))


def recover(organisation: Organisation, seen: Seen) -> tuple[Row, ...]:
    rows = organisation.book.recover(seen, **WHO, now=LATER)
    organisation.write(*rows)
    return rows


def says_at_least(book: Book, seen: Seen) -> None:
    for state in seen.receipt.grants:
        sums = book.grants[state.grant].sums
        assert rounded_up(sums.training) >= state.training
        assert rounded_up(sums.holdout) >= state.holdout


@settings(max_examples=100, deadline=None)
@given(data=st.data(), history=histories())
def test_after_any_truncation_and_recovery_no_less_counts_than_the_receipts_said(
    data: st.DataObject, history: History
) -> None:
    kept = data.draw(st.integers(3, len(history.rows)))
    organisation = opened(history.rows[:kept])
    lost = [seen for seen in history.receipts if seen.receipt.head.sequence > kept]  # type: ignore[union-attr]
    assert lost == [seen for seen in history.receipts if organisation.book.behind(seen)]
    # Witnesses show what they saw in any order.
    for seen in data.draw(st.permutations(lost)):
        if organisation.book.behind(seen):
            recover(organisation, seen)
    for seen in history.receipts:
        assert not organisation.book.behind(seen)
        says_at_least(organisation.book, seen)
    for name, account in organisation.book.grants.items():
        true = Book(history.rows).grants[name].sums
        if lost:
            # Not much more than was spent, either: the last receipt is the whole truth, rounded up.
            assert float(account.sums.training) == pytest.approx(float(true.training))
            assert float(account.sums.holdout) == pytest.approx(float(true.holdout))
    if len(lost) > 0:
        numbers = [row.sequence for row in organisation.rows]
        newest = lost[-1].receipt.head
        assert newest is not None
        assert len(set(numbers)) == len(numbers)
        assert numbers[kept] > max(kept, lost[0].receipt.head.sequence)  # type: ignore[union-attr]
        assert organisation.book.head.sequence > newest.sequence
    assert verify(organisation.rows).head == organisation.book.head
    # And it goes on: what is charged next stands under a number that was never signed.
    head = organisation.book.head.sequence
    organisation.record(data_set("next", start=10**6, currency=rdp_currency(8.0, 1e-5)), LATER)
    assert organisation.book.head.sequence == head + 1


def spent(attempts: int = 3, epsilon: float = 3.0) -> History:
    organisation = Organisation.with_grant(epsilon=epsilon)
    receipts = []
    for attempt in range(1, attempts + 1):
        organisation.charge(charge(attempt))
        receipts.append(receipt(organisation.book, attempt))
        organisation.record(FinishRow(job=JOB, attempt=attempt))
    return History(organisation.rows, receipts)


def test_the_chain_goes_on_behind_the_lost_number_with_one_charge_for_what_is_missing() -> None:
    history = spent()
    organisation = opened(history.rows[:4])
    first, second = recover(organisation, history.receipts[-1])
    assert isinstance(first.body, RecoveryRow)
    assert (first.sequence, first.previous) == (9, history.rows[3].hash)
    assert isinstance(second.body, ChargeRow)
    assert (second.body.attempt, second.body.recovered) == (3, True)
    assert second.body.amount == pytest.approx(2 / 100)
    assert organisation.book.jobs[JOB].sums.training == organisation.book.grants["spring"].sums.training
    with pytest.raises(InputError, match="nothing to recover"):
        organisation.book.recover(history.receipts[-1], **WHO, now=LATER)
    assert not any(organisation.book.behind(seen) for seen in history.receipts)


@pytest.mark.parametrize("decisions", range(6))
def test_decisions_after_the_copy_was_put_back_do_not_hide_what_was_lost(decisions: int) -> None:
    history = spent(5)
    organisation = opened(history.rows[:4])
    for number in range(decisions):
        organisation.record(grant(f"new-{number}", epsilon=0.5))
    assert organisation.book.behind(history.receipts[-1])
    recover(organisation, history.receipts[-1])
    # The earlier ones have other hashes than the decisions in their place, and nothing that is not paid.
    assert not any(organisation.book.behind(seen) for seen in history.receipts)
    assert float(organisation.book.grants["spring"].sums.training) == pytest.approx(5 / 100)
    assert organisation.book.head.sequence > 12
    assert verify(organisation.rows).rows == len(organisation.rows)


def test_of_several_witnesses_the_one_that_saw_least_changes_nothing_after_the_others() -> None:
    history = spent(5)
    for order in ((2, 4, 3), (4, 2, 3), (1, 2, 3, 4)):
        organisation = opened(history.rows[:4])
        for number in order:
            if organisation.book.behind(history.receipts[number]):
                recover(organisation, history.receipts[number])
        assert float(organisation.book.grants["spring"].sums.training) == pytest.approx(5 / 100)


def test_a_grant_that_the_older_ledger_never_had_counts_against_the_cap_and_is_closed() -> None:
    organisation = Organisation.with_grant(epsilon=3.0)
    kept = list(organisation.rows)
    organisation.record(grant("autumn", epsilon=2.0))
    organisation.record(approval(of="autumn"))
    organisation.charge(charge(1, event=release(3.0)))
    seen = receipt(organisation.book, 1)
    restored = opened(kept)
    before = restored.book._accounts.granted("patients", LATER - timedelta(days=150))
    restored.write(*restored.book.recover(seen, **WHO, now=NOW + timedelta(days=50)))
    assert restored.book.grants["autumn"].spent == pytest.approx(1 / 3.0**2)
    assert restored.book._accounts.granted("patients", NOW + timedelta(days=50)) >= before + Fraction(
        1, 9
    ) - Fraction(1, 10**9)
    with pytest.raises(InputError, match="expired"):
        restored.record(approval(OTHER, of="autumn"), NOW + timedelta(days=50))
    with pytest.raises(InputError, match="a grant 'autumn' already"):
        restored.record(grant("autumn", epsilon=0.1), NOW + timedelta(days=50))
    assert verify(restored.rows).epsilon["autumn"] == pytest.approx(GDP.epsilon(1 / 3.0**2, 1e-5), rel=1e-6)


def test_a_data_set_that_the_older_ledger_never_had_must_be_given_its_cap_first() -> None:
    organisation = Organisation.with_grant(epsilon=3.0)
    organisation.charge(charge(1))
    seen = receipt(organisation.book, 1)
    empty = Organisation(Book(), [])
    with pytest.raises(InputError, match="data set 'patients', which"):
        recover(empty, seen)
    empty.record(data_set(currency=rdp_currency(8.0, 1e-5)))
    with pytest.raises(InputError, match="this ledger in rdp of order"):
        recover(empty, seen)
    anew = Organisation(Book(), [])
    anew.record(data_set())
    recover(anew, seen)
    assert anew.book.grants["spring"].spent == pytest.approx(1 / 100)


@pytest.mark.parametrize("currency", [GDP, rdp_currency(8.0, 1e-5)])
@settings(deadline=None)
@given(amount=st.fractions(min_value=Fraction(1, 10**20), max_value=10**8))
def test_a_lump_costs_no_less_than_its_amount_and_hardly_more(currency: Currency, amount: Fraction) -> None:
    cost = Fraction(currency.cost(currency.at_least(amount)))
    # Below the smallest cost that an event can have, that one.
    assert amount <= cost <= max(amount * (1 + Fraction(1, 10**6)), Fraction(currency.order or 2, 10**18))


def test_a_recovery_whose_charges_are_missing_or_too_small_is_named() -> None:
    history = spent()
    organisation = opened(history.rows[:4])
    recovery, lump = organisation.book.recover(history.receipts[-1], **WHO, now=LATER)
    rows = [*history.rows[:4], recovery]
    less = lump.body.model_copy(update={"events": (release(12.0),), "amount": GDP.cost(release(12.0))})
    with pytest.raises(LedgerError, match="makes up for nothing") as named:
        verify([*rows, link(recovery.head, LATER, less)])
    assert named.value.sequence == 10
    charged = history.rows[3].body.model_copy(update={"attempt": 9})
    with pytest.raises(LedgerError, match="not complete"):
        verify([*rows, link(recovery.head, LATER, charged)])
    with pytest.raises(LedgerError, match="makes up for nothing"):
        verify(
            [*history.rows, link(history.rows[-1].head, LATER, lump.body.model_copy(update={"attempt": 30}))]
        )
    with pytest.raises(LedgerError, match="ends within a recovery"):
        verify(rows)


def test_a_grant_made_before_a_recovery_does_not_lift_the_lifetime_cap() -> None:
    """A lost ledger, a new grant over the whole cap, then the recovery: what was spent counts against the cap."""
    lost = Organisation(Book(), [], Caps())
    for body in (data_set(), grant("old", epsilon=8.0), approval(of="old")):
        lost.record(body)
    lost.charge(charge(1, event=release(GDP.multiplier(0.9 * GDP.budget(8.0, 1e-5), 1))))
    fresh = Organisation(Book(), [], Caps())
    for body in (data_set(), grant("new", epsilon=8.0), approval(OTHER, of="new")):
        fresh.record(body)
    fresh.write(*fresh.book.recover(receipt(lost.book, 1), by="x", reason="a disk", now=NOW))
    with pytest.raises(RefusalError, match="lifetime cap"):
        fresh.charge(charge(1, job=OTHER, event=release(GDP.multiplier(0.2 * GDP.budget(8.0, 1e-5), 1))))
    fresh.charge(charge(1, job=OTHER, event=release(GDP.multiplier(0.09 * GDP.budget(8.0, 1e-5), 1))))
