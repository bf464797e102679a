"""Who trains and who is held out: where that changes, nobody may lose more than was granted for all that."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from privacy_rows import JOB, NOW, OTHER, Organisation, approval, charge
from test_recovery import LATER, WHO, receipt

from hansa.contract.errors import InputError, RefusalError
from hansa.privacy.book import Book
from hansa.privacy.events import Gaussian
from hansa.privacy.records import FinishRow, SidesRow
from hansa.privacy.verify import verify


def sides(fingerprint: str = "a" * 32, *, holdout: float = 0.2, of: str = "patients") -> SidesRow:
    return SidesRow(data_set=of, holdout=holdout, entity="patient", fingerprint=fingerprint)


def begun() -> Organisation:
    it = Organisation.with_grant()
    it.record(sides())
    it.record(approval(OTHER))
    return it


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["train", "evaluate", "sides"]),
        st.sampled_from([JOB, OTHER]),
        st.floats(3.0, 30.0),
    ),
    min_size=1,
    max_size=40,
)


@given(STEPS)
@settings(max_examples=40, deadline=None)
def test_whoever_changed_sides_lost_no_more_than_was_granted(steps: list[tuple[str, str, float]]) -> None:
    """Each person is on some side under each way of choosing: the worst of all choices stays below the amount."""
    it, ways = begun(), 1
    account = it.book.grants["spring"]
    # What each part lost under each way.
    lost = [{"training": Fraction(0), "holdout": Fraction(0)}]
    for number, (what, job, noise) in enumerate(steps, start=1):
        if what == "sides":
            it.record(sides(f"{ways:032x}", holdout=0.3))
            ways += 1
            lost.append({"training": Fraction(0), "holdout": Fraction(0)})
            continue
        part = "training" if what == "train" else "holdout"
        event = Gaussian(noise_multiplier=noise)
        asked = charge(number, job=job, purpose=what, part=part, event=event)  # type: ignore[arg-type]
        before = account.counted
        try:
            [row] = it.charge(asked)
        except RefusalError:
            assert account.counted == before
            continue
        lost[-1][part] += Fraction(row.body.amount)  # type: ignore[union-attr]
        it.record(FinishRow(job=job, attempt=number))
    worst = sum((max(way.values()) for way in lost), Fraction(0))
    assert worst <= account.counted <= Fraction(account.amount)
    assert account.data_set.together is (ways > 1)
    verify(it.rows)


def test_one_way_of_choosing_sides_counts_the_larger_part() -> None:
    it = begun()
    it.charge(charge(1), charge(1, purpose="evaluate", part="holdout"))
    account = it.book.grants["spring"]
    assert account.counted == account.sums.training == account.sums.holdout
    it.record(sides("b" * 32, holdout=0.5))
    assert account.counted == account.sums.training + account.sums.holdout


def test_an_attempt_pays_for_both_of_its_parts_together() -> None:
    it = begun()
    it.record(sides("b" * 32))
    amount = it.book.grants["spring"].amount
    # Either fits alone; one person may be in both.
    noise = Gaussian(noise_multiplier=(1 / (0.6 * amount)) ** 0.5)
    both = (charge(1, event=noise), charge(1, purpose="evaluate", part="holdout", event=noise))
    with pytest.raises(RefusalError, match="budget-exhausted"):
        it.charge(*both)
    it.charge(both[0])
    with pytest.raises(RefusalError, match="budget-exhausted"):
        it.charge(charge(2, purpose="evaluate", part="holdout", event=noise))


def test_sides_are_entered_once_and_for_a_data_set_that_is_known() -> None:
    it = begun()
    with pytest.raises(InputError, match="on these sides before"):
        it.record(sides())
    with pytest.raises(InputError, match="'others' is not known"):
        it.record(sides(of="others"))


def test_a_recovery_knows_that_sides_changed_in_rows_that_were_lost() -> None:
    it = begun()
    kept = list(it.rows)
    it.record(sides("b" * 32))
    it.charge(charge(1), charge(1, purpose="evaluate", part="holdout"))
    shown = receipt(it.book, 1)
    counted = it.book.grants["spring"].counted
    older = Organisation(Book(kept), kept)
    older.write(*older.book.recover(shown, now=LATER, **WHO))
    account = older.book.grants["spring"]
    assert account.data_set.together
    assert account.counted >= counted
    assert Book(older.rows).grants["spring"].counted == account.counted
    assert NOW < LATER
