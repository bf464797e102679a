"""What a ledger admits, refuses and notices."""

from __future__ import annotations

from datetime import timedelta

import pytest
from privacy_rows import JOB, NOW, OTHER, Caps, Organisation, approval, charge, data_set, grant, people

from hansa.contract.errors import InputError, RefusalError
from hansa.privacy.book import Book, LedgerError
from hansa.privacy.currency import GDP, rdp_currency
from hansa.privacy.events import Gaussian, PoissonGaussian
from hansa.privacy.records import ChargeRow, FinishRow, FreezeRow, Row, UnfreezeRow, link
from hansa.privacy.verify import verify

RDP = rdp_currency(8.0, 1e-5)


def code(organisation: Organisation, *charges: object, **options: object) -> str:
    """The refusal's code; nothing was written."""
    before = organisation.book.head
    with pytest.raises(RefusalError) as refusal:
        organisation.charge(*charges, **options)  # type: ignore[arg-type]
    assert organisation.book.head == before
    return refusal.value.code


def test_a_grant_is_spent_to_the_last_planned_release_and_no_further() -> None:
    organisation = Organisation.with_grant()
    amount = organisation.book.grants["spring"].amount
    event = Gaussian(noise_multiplier=GDP.multiplier(amount / 60 * (1 - 1e-12), 1))
    for attempt in range(1, 61):
        organisation.charge(charge(attempt, event=event))
        organisation.record(FinishRow(job=JOB, attempt=attempt))
    spring = organisation.book.grants["spring"]
    assert spring.spent <= amount
    assert spring.percent_left < 1e-6
    assert GDP.epsilon(spring.spent, 1e-5) == pytest.approx(3.0, abs=1e-6)
    assert code(organisation, charge(61, event=event)) == "budget-exhausted"
    assert code(organisation, charge(61, event=Gaussian(noise_multiplier=1e4))) == "budget-exhausted"
    assert verify(organisation.rows).epsilon["spring"] == pytest.approx(3.0, abs=1e-6)


def test_training_and_holdout_are_summed_apart_and_the_larger_counts() -> None:
    organisation = Organisation.with_grant()
    organisation.charge(
        charge(event=Gaussian(noise_multiplier=2.0)),
        charge(purpose="evaluate", part="holdout", event=Gaussian(noise_multiplier=1.5)),
    )
    spring = organisation.book.grants["spring"]
    assert spring.spent == pytest.approx(1 / 1.5**2)
    assert float(spring.sums.training) == pytest.approx(0.25)
    # .517 in all: .072 is left of the hold-out, .267 of the training records.
    assert code(
        organisation, charge(2, purpose="evaluate", part="holdout", event=Gaussian(noise_multiplier=3.0))
    )
    organisation.charge(charge(2, event=Gaussian(noise_multiplier=2.0)))


def test_an_attempt_is_paid_whole_or_not_at_all() -> None:
    organisation = Organisation.with_grant()
    both = (charge(), charge(purpose="check", event=Gaussian(noise_multiplier=1.39)))
    assert code(organisation, *both) == "budget-exhausted"
    assert organisation.book.grants["spring"].spent == 0


def test_two_jobs_share_a_grant_without_overspending_it() -> None:
    organisation = Organisation.with_grant()
    organisation.record(approval(OTHER))
    event = Gaussian(noise_multiplier=2.0)
    organisation.charge(charge(1, event=event))
    organisation.charge(charge(1, job=OTHER, event=event))
    assert code(organisation, charge(2, event=event)) == "budget-exhausted"
    assert code(organisation, charge(2, job=OTHER, event=event)) == "budget-exhausted"
    assert organisation.book.grants["spring"].spent == 0.5


def test_rows_admitted_before_another_was_written_do_not_follow_it() -> None:
    organisation = Organisation.with_grant()
    organisation.record(approval(OTHER))
    event = Gaussian(noise_multiplier=1.5)
    first = organisation.book.admit([charge(event=event)], now=NOW, limits=Caps())
    second = organisation.book.admit([charge(job=OTHER, event=event)], now=NOW, limits=Caps())
    organisation.write(*first)
    with pytest.raises(LedgerError, match="row"):
        organisation.book.apply(second[0])


def test_a_job_takes_no_more_than_it_was_approved_for() -> None:
    organisation = Organisation.with_grant()
    organisation.record(approval(OTHER, most=0.011))
    organisation.charge(charge(1, job=OTHER))
    assert code(organisation, charge(2, job=OTHER)) == "budget-exhausted"
    organisation.charge(charge(2))


def test_refusals_say_why() -> None:
    organisation = Organisation.with_grant(days=30)
    organisation.record(data_set("staff", start=10_000))
    assert code(organisation, charge(job=OTHER)) == "not-approved"
    assert code(organisation, charge(of="staff")) == "data-not-granted"
    assert (
        code(organisation, charge(event=PoissonGaussian(sampling_rate=0.1, noise_multiplier=1.0)))
        == "wrong-currency"
    )
    assert code(organisation, charge(), now=NOW + timedelta(days=30)) == "grant-expired"
    organisation.charge(charge())
    assert code(organisation, charge()) == "attempt-lost"
    organisation.record(FreezeRow(grant="spring", reason="looked odd", by="officer"))
    assert code(organisation, charge(2)) == "grant-frozen"
    organisation.record(UnfreezeRow(grant="spring", reason="was fine", by="officer"))
    organisation.charge(charge(2))


def test_three_unfinished_attempts_and_one_more_for_five_that_finished() -> None:
    organisation = Organisation.with_grant()
    for attempt in (1, 2, 3):
        organisation.charge(charge(attempt))
    assert code(organisation, charge(4)) == "attempt-limit"
    # More of the newest one is not another attempt.
    organisation.charge(charge(3, purpose="evaluate", part="holdout"))
    organisation.record(approval())
    for attempt in range(4, 9):
        organisation.charge(charge(attempt))
        organisation.record(FinishRow(job=JOB, attempt=attempt))
    for attempt in range(9, 13):
        organisation.charge(charge(attempt))
    assert code(organisation, charge(13)) == "attempt-limit"


def test_the_charters_caps_hold_by_day_and_by_job() -> None:
    organisation = Organisation.with_grant()
    organisation.caps = Caps(charges_per_day=2, charges_per_job=3)
    organisation.charge(charge(1))
    organisation.charge(charge(2), now=NOW + timedelta(hours=1))
    assert code(organisation, charge(3), now=NOW + timedelta(hours=23)) == "attempt-limit"
    organisation.charge(charge(3), now=NOW + timedelta(hours=24))
    assert code(organisation, charge(3, purpose="check"), now=NOW + timedelta(days=9)) == "attempt-limit"


def test_a_clock_that_went_back_is_refused() -> None:
    organisation = Organisation.with_grant()
    organisation.charge(charge())
    earlier = NOW - timedelta(seconds=1)
    assert code(organisation, charge(2), now=earlier) == "agent-unavailable"
    with pytest.raises(InputError, match="clock went back"):
        organisation.book.entry(grant("autumn", epsilon=1.0), earlier)


def test_grants_stay_under_the_cap_in_its_currency_not_in_epsilon() -> None:
    organisation = Organisation.with_grant()
    # mu 1.666 holds mu .719 and 1.503, which is epsilon 7.07: 3 and 7 make 10, and still fit under 8.
    organisation.record(grant("autumn", epsilon=7.0))
    with pytest.raises(InputError, match="lifetime cap of data set 'patients'"):
        organisation.record(grant("winter", epsilon=1.0))
    with pytest.raises(InputError, match="already"):
        organisation.record(grant())
    with pytest.raises(InputError, match="not known"):
        organisation.record(grant("other", of="staff"))
    with pytest.raises(InputError, match="expired"):
        organisation.record(grant("late", epsilon=0.1, days=0))


def test_an_expired_grant_gives_back_what_was_not_spent_and_only_that() -> None:
    organisation = Organisation(Book(), [])
    for body in (data_set(), grant(epsilon=8.0, days=1), approval()):
        organisation.record(body)
    organisation.charge(charge(event=Gaussian(noise_multiplier=1.0)))
    later = NOW + timedelta(days=2)
    with pytest.raises(InputError, match="cap"):
        organisation.record(grant("second", epsilon=8.0), later)
    left = organisation.book.data_sets["patients"].row.cap - 1.0
    organisation.record(grant("second", epsilon=GDP.epsilon(left, 1e-5) - 1e-3), later)
    assert code(organisation, charge(2), now=later) == "grant-expired"


def test_the_same_people_under_another_name_are_known() -> None:
    organisation = Organisation.with_grant()
    with pytest.raises(InputError, match="same people as data set 'patients'"):
        organisation.record(data_set("renamed"))
    with pytest.raises(InputError, match="same people"):
        organisation.record(data_set("mostly-new").model_copy(update={"people": people(265)}))
    organisation.record(data_set("others").model_copy(update={"people": people(290)}))
    # A new version of the same data set, with the cap it had.
    organisation.record(data_set(start=100_000))
    with pytest.raises(InputError, match="same people as data set 'patients'"):
        organisation.record(data_set("again", start=100_000))
    with pytest.raises(InputError, match="which is fixed"):
        organisation.record(data_set(epsilon=9.0))


def test_rdp_counts_gaussian_and_poisson_releases_in_one_sum() -> None:
    organisation = Organisation(Book(), [])
    for body in (data_set(currency=RDP), grant(epsilon=6.0, currency=RDP), approval()):
        organisation.record(body)
    poisson = PoissonGaussian(sampling_rate=0.1, noise_multiplier=2.0, count=20)
    organisation.charge(charge(1, event=poisson), charge(1, purpose="check"))
    assert RDP.order is not None
    assert organisation.book.grants["spring"].spent == pytest.approx(RDP.cost(poisson) + RDP.order / 200)
    assert verify(organisation.rows).rows == 5


def history() -> list[Row]:
    organisation = Organisation.with_grant()
    for attempt in range(1, 6):
        organisation.charge(charge(attempt), charge(attempt, purpose="evaluate", part="holdout"))
        organisation.record(FinishRow(job=JOB, attempt=attempt))
    return organisation.rows


@pytest.mark.parametrize("place", [1, 5, 9, 17])
def test_verify_names_the_first_row_that_was_changed_removed_or_moved(place: int) -> None:
    rows = history()
    assert verify(rows).head == rows[-1].head
    before, here, after = rows[: place - 1], rows[place - 1], rows[place:]
    changed = here.model_copy(update={"at": here.at + timedelta(seconds=1)})
    for broken, first in [
        # The row itself is still possible; the next one does not carry its hash.
        ([*before, changed, *after], place + 1),
        ([*before, *after], place),
        ([*before, after[0], here, *after[1:]], place),
    ]:
        with pytest.raises(LedgerError, match=f"row {first}:") as error:
            verify(broken)
        assert error.value.sequence == first


def test_verify_names_a_charge_whose_amount_is_less_than_its_events_cost() -> None:
    rows = history()
    forged: list[Row] = []
    head = Book().head
    for row in rows:
        body = row.body
        if isinstance(body, ChargeRow) and body.attempt == 3:
            body = body.model_copy(update={"amount": body.amount / 2})
        # The chain is made anew, as someone would who holds the file.
        forged.append(link(head, row.at, body))
        head = forged[-1].head
    with pytest.raises(LedgerError, match=r"its amount is 0\.005") as error:
        verify(forged)
    assert rows[error.value.sequence - 1].body.row == "charge"
