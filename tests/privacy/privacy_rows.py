"""Rows as an organisation would write them, for tests of the book."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from hansa.privacy.book import Book
from hansa.privacy.currency import GDP, Currency
from hansa.privacy.events import Event, Gaussian
from hansa.privacy.records import (
    AnyBody,
    ApprovalRow,
    Charge,
    DataSetRow,
    GrantRow,
    Part,
    Purpose,
    ReleaseAmounts,
    Row,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
JOB, OTHER = "0" * 31 + "1", "0" * 31 + "2"


@dataclass(frozen=True)
class Caps:
    """The charter's caps against draining."""

    charges_per_day: int = 10_000
    charges_per_job: int = 10_000


def people(start: int, count: int = 300) -> tuple[str, ...]:
    """Keyed hashes of persons with these numbers."""
    return tuple(f"{number:016x}" for number in range(start, start + count))


def data_set(
    name: str = "patients", *, epsilon: float = 8.0, currency: Currency = GDP, start: int = 0
) -> DataSetRow:
    cap = currency.budget(epsilon, 1e-5)
    return DataSetRow(
        name=name, currency=currency, epsilon=epsilon, delta=1e-5, cap=cap, people=people(start)
    )


def grant(
    name: str = "spring",
    *,
    epsilon: float = 3.0,
    of: str = "patients",
    currency: Currency = GDP,
    days: float = 100,
) -> GrantRow:
    return GrantRow(
        grant=name,
        data_set=of,
        epsilon=epsilon,
        delta=1e-5,
        amount=currency.budget(epsilon, 1e-5),
        expires=NOW + timedelta(days=days),
        purpose="readmission",
        legal_basis="consent",
        granted_by="privacy officer",
        reason="first study",
    )


def approval(job: str = JOB, *, of: str = "spring", most: float = 1e6) -> ApprovalRow:
    return ApprovalRow(job=job, grant=of, share=1.0, most=most, amounts=ReleaseAmounts(), by="head of data")


def charge(
    attempt: int = 1,
    *,
    job: str = JOB,
    purpose: Purpose = "train",
    part: Part = "training",
    of: str = "patients",
    event: Event | None = None,
) -> Charge:
    return Charge(
        job=job,
        attempt=attempt,
        purpose=purpose,
        part=part,
        data_set=of,
        events=(event or Gaussian(noise_multiplier=10.0),),
    )


@dataclass
class Organisation:
    """A book and the rows behind it, written and applied as the shell does."""

    book: Book
    rows: list[Row]
    caps: Caps = Caps()

    @classmethod
    def with_grant(cls, **of_grant: float) -> Organisation:
        """One data set of epsilon 8, one grant of epsilon 3 (or as told), one approved job."""
        organisation = cls(Book(), [])
        for body in (data_set(), grant(**of_grant), approval()):
            organisation.record(body)
        return organisation

    def record(self, body: AnyBody, now: datetime = NOW) -> Row:
        row = self.book.entry(body, now)
        self.write(row)
        return row

    def charge(self, *charges: Charge, now: datetime = NOW) -> tuple[Row, ...]:
        rows = self.book.admit(charges, now=now, limits=self.caps)
        self.write(*rows)
        return rows

    def write(self, *rows: Row) -> None:
        for row in rows:
            # Through bytes, as it comes back from a file.
            read = Row.model_validate_json(row.model_dump_json())
            assert read == row
            assert read.hash == row.hash
            self.book.apply(read)
            self.rows.append(read)
