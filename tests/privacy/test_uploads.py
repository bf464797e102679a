"""Charges held against the record of what left: neither half a charge nor none passes, and a recovery is no excuse."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from privacy_rows import JOB, NOW, OTHER, Caps, Organisation, approval, charge
from test_recovery import receipt

from hansa.privacy.book import Book
from hansa.privacy.currency import release
from hansa.privacy.records import FinishRow
from hansa.privacy.uploads import hold_against


@dataclass(frozen=True)
class Left:
    """One segment of an upload on record."""

    attempt: int
    releases: int = 1
    segment: str = "update"
    job: str = JOB
    at: float = NOW.timestamp()
    noise: str = "local"
    multiplier: float | None = 50.0


def organisation(*attempts: int, count: int = 1) -> Organisation:
    """One that charged these attempts, each for so many releases."""
    made = Organisation.with_grant()
    for attempt in attempts:
        made.charge(charge(attempt, event=release(50.0, count)))
        made.record(FinishRow(job=JOB, attempt=attempt))
    return made


@given(charged=st.integers(1, 20), released=st.integers(1, 20))
def test_an_upload_is_charged_for_as_many_releases_or_named(charged: int, released: int) -> None:
    rows = organisation(1, count=charged).rows
    found = hold_against([Left(1, released)], rows)
    assert (found.charged == 1) == (charged >= released) == (found.unpaid == ())
    if found.unpaid:
        assert f"released {released} " in found.unpaid[0].sentence
        assert f"charges for {charged}" in found.unpaid[0].sentence


@pytest.mark.parametrize(
    "left",
    [
        Left(2),
        Left(1, job=OTHER),
        Left(1, segment="evaluation"),
        Left(1, segment="statistics"),
        Left(1, segment="x"),
    ],
)
def test_a_charge_pays_for_its_own_job_attempt_and_segment_alone(left: Left) -> None:
    [unpaid] = hold_against([left], organisation(1).rows).unpaid
    assert "no charge" in unpaid.sentence


@pytest.mark.parametrize("multiplier", [50.0, 60.0, 49.9, 25.0, 0.0, None])
def test_an_upload_has_the_noise_that_was_charged_for_or_is_named(multiplier: float | None) -> None:
    found = hold_against([Left(1, multiplier=multiplier)], organisation(1).rows)
    if multiplier is None or multiplier >= 50.0:
        # Of times before it was kept nothing can be said.
        assert (found.charged, found.quieter) == (1, ())
        return
    [quieter] = found.quieter
    assert (found.charged, quieter.multiplier, quieter.charged) == (0, multiplier, 50.0)
    assert f"a noise multiplier of {multiplier:.4g}, and the ledger holds a charge for 50" in quieter.sentence


def test_what_left_without_noise_is_counted_apart() -> None:
    found = hold_against([Left(1), Left(7, noise="none")], organisation(1).rows)
    assert (found.charged, found.without_noise, found.unpaid) == (1, 1, ())


def recovered(lost: int) -> Organisation:
    """An organisation that charged attempts 1 to 4, an hour apart, lost the last ones and recovered a day later."""
    made = Organisation.with_grant()
    for attempt in range(1, 5):
        now = NOW + timedelta(hours=attempt)
        made.charge(charge(attempt, event=release(50.0)), now=now)
        made.record(FinishRow(job=JOB, attempt=attempt), now=now)
    seen = receipt(made.book, 4)
    older = Organisation(
        Book(made.rows[: len(made.rows) - 2 * lost]), made.rows[: len(made.rows) - 2 * lost], Caps()
    )
    rows = older.book.recover(seen, by="DPO", reason="disk failed", now=NOW + timedelta(days=1))
    older.write(*rows)
    return older


def at(attempt: int) -> Left:
    return Left(attempt, at=(NOW + timedelta(hours=attempt)).timestamp())


def test_uploads_of_lost_rows_are_made_up_for_by_the_recovery() -> None:
    rows = recovered(2).rows
    found = hold_against([at(attempt) for attempt in range(1, 5)], rows)
    assert (found.charged, found.recovered, found.unpaid) == (2, 2, ())


def test_a_recovery_excuses_nothing_before_the_gap_nor_after_it_nor_a_part_of_a_charge() -> None:
    organisation = recovered(2)
    organisation.record(approval(), now=NOW + timedelta(days=2))
    organisation.charge(charge(9), now=NOW + timedelta(days=2))
    before = Left(11, at=(NOW + timedelta(hours=1)).timestamp())
    after = Left(12, at=(NOW + timedelta(days=3)).timestamp())
    partly = Left(2, releases=2, at=(NOW + timedelta(hours=3)).timestamp())
    found = hold_against([before, after, partly], organisation.rows)
    assert [it.attempt for it in found.unpaid] == [11, 12, 2]


def test_an_attempt_that_was_released_twice_on_one_charge_is_named() -> None:
    found = hold_against([Left(1), Left(1)], organisation(1).rows)
    assert (found.charged, len(found.unpaid)) == (1, 1)
    assert found.unpaid[0].released == 2
