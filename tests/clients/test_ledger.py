"""The ledger's file: durable before applied, never above a grant, and what a damaged file gets."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.clients.ledger import LEDGER, Ledger, read_rows
from hansa.contract.charter import PrivacyPlan
from hansa.contract.errors import HansaError, InputError, RefusalError
from hansa.privacy.book import Book, LedgerError
from hansa.privacy.currency import GDP, rdp_currency
from hansa.privacy.events import Gaussian, PoissonGaussian
from hansa.privacy.records import ApprovalRow, Charge, DataSetRow, FinishRow, GrantRow, ReleaseAmounts, Row

JOBS = ("0" * 31 + "1", "0" * 31 + "2")
LIMITS = PrivacyPlan(noise="local", charges_per_day=10_000)
RDP = rdp_currency(3.0, 1e-5)


def begin(path: Path | str, *, currency: object = GDP, epsilon: float = 3.0) -> Ledger:
    """A ledger with one data set, one grant of all of its cap, and two approved jobs."""
    ledger = Ledger(path)
    assert currency in (GDP, RDP)
    kept = GDP if currency == GDP else RDP
    cap = kept.budget(epsilon, 1e-5)
    ledger.record(
        DataSetRow(
            name="patients",
            currency=kept,
            epsilon=epsilon,
            delta=1e-5,
            cap=cap,
            people=tuple(f"{number:016x}" for number in range(300)),
        ),
        GrantRow(
            grant="spring",
            data_set="patients",
            epsilon=epsilon,
            delta=1e-5,
            amount=cap,
            expires=datetime.now(UTC) + timedelta(days=10),
            purpose="",
            legal_basis="",
            granted_by="officer",
            reason="",
        ),
        *(approval(job) for job in JOBS),
    )
    return ledger


def approval(job: str) -> ApprovalRow:
    return ApprovalRow(job=job, grant="spring", share=1.0, most=1e6, amounts=ReleaseAmounts(), by="officer")


def pay(ledger: Ledger, charges: int) -> None:
    """So many attempts of one job, of which all but the last three finish."""
    for number in range(1, charges + 1):
        if number > 3:
            ledger.record(FinishRow(job=JOBS[0], attempt=number - 3))
        ledger.charge([charge(number, 1e3 if charges > 3 else 10.0)], LIMITS)


def charge(attempt: int, multiplier: float = 10.0, *, job: str = JOBS[0], rate: float = 1.0) -> Charge:
    event = (
        Gaussian(noise_multiplier=multiplier)
        if rate >= 1
        else PoissonGaussian(sampling_rate=rate, noise_multiplier=multiplier)
    )
    return Charge(
        job=job, attempt=attempt, purpose="train", part="training", data_set="patients", events=(event,)
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory() as made:
        yield Path(made)


@settings(max_examples=25, deadline=None)
@given(
    multipliers=st.lists(st.floats(1.0, 30.0), min_size=2, max_size=60),
    rate=st.sampled_from([1.0, 0.2]),
    reopened=st.integers(1, 20),
)
def test_two_jobs_at_once_never_spend_more_than_the_grant(
    multipliers: list[float], rate: float, reopened: int
) -> None:
    currency = GDP if rate == 1.0 else RDP
    with TemporaryDirectory() as made:
        path = Path(made) / LEDGER
        ledger = begin(path, currency=currency)
        paid: dict[str, list[Charge]] = {job: [] for job in JOBS}
        codes: set[str] = set()

        def spend(job: str, own: list[float]) -> None:
            for number, multiplier in enumerate(own, start=1):
                if number % reopened == 0:
                    # An unfinished attempt too many is forgiven by the organisation's new word.
                    ledger.record(approval(job))
                try:
                    ledger.charge([wanted := charge(number, multiplier, job=job, rate=rate)], LIMITS)
                    paid[job].append(wanted)
                except RefusalError as refusal:
                    codes.add(refusal.code)

        halves = (multipliers[::2], multipliers[1::2])
        threads = [threading.Thread(target=spend, args=it) for it in zip(JOBS, halves, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert codes <= {"budget-exhausted", "attempt-limit"}
        head = ledger.head
        ledger.close()
        again = Ledger(path)
        with again.held() as book:
            assert book.head == head
            spent = book.grants["spring"].sums.training
            assert spent <= book.grants["spring"].amount
            assert len(book.charges) == sum(map(len, paid.values()))
        # Whatever was refused for the grant's sake does not fit afterwards either.
        costs = [currency.cost(*it.events) for job in JOBS for it in paid[job]]
        assert float(spent) == pytest.approx(sum(costs), rel=1e-12, abs=0)
        again.close()


def test_an_attempt_is_charged_for_all_of_it_or_for_nothing(folder: Path) -> None:
    ledger = begin(folder / LEDGER)
    train = charge(1)
    much = train.model_copy(
        update={"purpose": "evaluate", "part": "holdout", "events": (Gaussian(noise_multiplier=0.5),)}
    )
    before = ledger.head
    with pytest.raises(RefusalError, match="budget-exhausted"):
        ledger.charge([train, much], LIMITS)
    assert ledger.head == before
    assert [row.sequence for row in read_rows(folder / LEDGER)] == list(range(1, before.sequence + 1))


def test_a_second_charge_for_an_attempt_is_refused_also_after_a_restart(folder: Path) -> None:
    ledger = begin(folder / LEDGER)
    ledger.charge([charge(1)], LIMITS)
    for _ in range(2):
        with pytest.raises(RefusalError, match="attempt-lost"):
            ledger.charge([charge(1)], LIMITS)
        ledger.close()
        ledger = Ledger(folder / LEDGER)
    with ledger.held() as book:
        assert len(book.charges) == 1


def test_decisions_are_written_all_or_none(folder: Path) -> None:
    ledger = begin(folder / LEDGER)
    before = ledger.head
    grant = next(row.body for row in ledger.rows() if isinstance(row.body, GrantRow))
    with pytest.raises(InputError, match="already"):
        ledger.record(approval("0" * 31 + "3"), grant)
    assert ledger.head == before
    with ledger.held() as book:
        assert list(book.jobs) == list(JOBS)
    ledger.close()
    assert Ledger(folder / LEDGER).head == before


def test_rows_cannot_be_changed_or_deleted_by_a_slip(folder: Path) -> None:
    ledger = begin(folder / LEDGER)
    ledger.close()
    db = sqlite3.connect(folder / LEDGER)
    for statement in ("DELETE FROM rows WHERE sequence = 2", "UPDATE rows SET content = '{}'"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute(statement)
    db.close()


def test_others_read_while_the_agent_writes(folder: Path) -> None:
    ledger = begin(folder / LEDGER)
    reading = read_rows(folder / LEDGER)
    first = next(reading)
    ledger.charge([charge(1)], LIMITS)
    assert [first, *reading] == ledger.rows()[:4]
    assert list(read_rows(folder / LEDGER)) == ledger.rows()
    assert Book(read_rows(folder / LEDGER)).head == ledger.head
    with pytest.raises(InputError, match="no such file"):
        next(read_rows(folder / "other.sqlite"))


def test_a_disk_that_takes_no_more_stops_all_charging_until_the_file_was_read_again(folder: Path) -> None:
    ledger = begin(folder / LEDGER)
    ledger._db.execute("PRAGMA max_page_count = 1")
    with pytest.raises(RefusalError, match="could not be written") as refused:
        pay(ledger, 1000)
    assert refused.value.code == "agent-unavailable"
    before = ledger.head
    ledger._db.execute("PRAGMA max_page_count = 1000000")
    with pytest.raises(RefusalError, match="restart the agent"):
        ledger.charge([charge(2000)], LIMITS)
    with pytest.raises(HansaError, match="restart the agent"):
        ledger.record(approval(JOBS[0]))
    ledger.close()
    again = Ledger(folder / LEDGER)
    assert again.head == before
    again.charge([charge(2000)], LIMITS)


# --- damage -------------------------------------------------------------------------------------


def change(path: Path, statement: str, *values: object) -> None:
    """Do with the file what no laws forbid who owns it."""
    db = sqlite3.connect(path)
    db.execute("DROP TRIGGER rows_stay")
    db.execute("DROP TRIGGER rows_stand")
    db.execute(statement, values)
    db.commit()
    db.close()


def written(folder: Path, charges: int = 3) -> tuple[Path, list[Row]]:
    ledger = begin(folder / LEDGER)
    pay(ledger, charges)
    rows = ledger.rows()
    ledger.close()
    return folder / LEDGER, rows


@pytest.mark.parametrize(
    ("statement", "sequence"),
    [
        ("UPDATE rows SET content = replace(content, '10.0', '20.0') WHERE sequence = 6", 6),
        ("UPDATE rows SET content = replace(content, '10.0', '20.0') WHERE sequence = 7", 7),
        ("UPDATE rows SET content = replace(content, 'officer', 'nobody') WHERE sequence = 2", 2),
        ("UPDATE rows SET hash = substr(hash, 2) || substr(hash, 1, 1) WHERE sequence = 5", 5),
        ("UPDATE rows SET content = '{}' WHERE sequence = 3", 3),
        ("UPDATE rows SET sequence = 9 WHERE sequence = 7", 9),
        ("DELETE FROM rows WHERE sequence = 5", 5),
        ("DELETE FROM rows WHERE sequence = 1", 1),
    ],
)
def test_the_first_row_that_was_changed_is_named_and_what_to_do(
    folder: Path, statement: str, sequence: int
) -> None:
    path, _ = written(folder)
    change(path, statement)
    with pytest.raises(LedgerError, match=f"damaged at row {sequence}: .*newest good copy.*recover") as error:
        Ledger(path)
    assert error.value.sequence == sequence


def test_a_row_that_was_made_up_with_its_hash_breaks_the_chain(folder: Path) -> None:
    path, rows = written(folder)
    forged = rows[5].model_copy(update={"at": rows[5].at + timedelta(microseconds=1)})
    change(
        path,
        "UPDATE rows SET content = ?, hash = ? WHERE sequence = 6",
        forged.model_dump_json(),
        forged.hash,
    )
    with pytest.raises(LedgerError, match="row 7: it does not carry the hash of the row before"):
        Ledger(path)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_truncated_file_is_no_ledger(folder: Path, share: float) -> None:
    path, _ = written(folder, 60)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(LedgerError, match="newest good copy"):
        Ledger(path)
    with pytest.raises(LedgerError, match="newest good copy"):
        list(read_rows(path))


def test_something_else_in_its_place_is_no_ledger(folder: Path) -> None:
    (folder / LEDGER).write_bytes(b"grants: one\n" * 1000)
    with pytest.raises(LedgerError, match="not a database"):
        Ledger(folder / LEDGER)


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_flipped_byte_is_noticed_or_changes_no_row(data: st.DataObject) -> None:
    with TemporaryDirectory() as made:
        path, rows = written(Path(made))
        content = bytearray(path.read_bytes())
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
        path.write_bytes(bytes(content))
        try:
            ledger = Ledger(path)
        except HansaError:
            return
        assert ledger.rows() == rows
        ledger.close()


def test_a_newer_format_is_left_alone(folder: Path) -> None:
    path, _ = written(folder)
    change(path, "PRAGMA user_version = 9")
    with pytest.raises(InputError, match="newer version"):
        Ledger(path)


def test_an_older_copy_is_a_valid_ledger_and_its_head_is_behind(folder: Path) -> None:
    """What tells is the newest receipt that anybody kept, this agent's own record among them."""
    ledger = begin(folder / LEDGER)
    ledger.charge([charge(1)], LIMITS)
    old = ledger.head
    ledger.close()
    copy = (folder / LEDGER).read_bytes()
    ledger = Ledger(folder / LEDGER)
    newest = ledger.charge([charge(2)], LIMITS)[-1]
    ledger.close()
    (folder / LEDGER).write_bytes(copy)
    restored = Ledger(folder / LEDGER)
    assert restored.head == old
    assert newest.sequence == old.sequence + 1
