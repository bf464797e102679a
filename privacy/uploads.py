"""Charges against what really left: every noised segment of an upload was charged, as often as it was released and
with the noise that it had.

No audit of a released model sees that a mechanism was charged for half its rounds; the record of uploads does.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from hansa.privacy.records import ChargeRow, Purpose, RecoveryRow, Row

# What a segment's releases are charged as.
PURPOSES: dict[str, Purpose] = {"update": "train", "evaluation": "evaluate", "statistics": "check"}


class Upload(Protocol):
    """One segment of an upload that may have left the agent."""

    @property
    def at(self) -> float: ...
    @property
    def job(self) -> str: ...
    @property
    def attempt(self) -> int: ...
    @property
    def segment(self) -> str: ...
    @property
    def releases(self) -> int: ...
    @property
    def noise(self) -> str: ...
    @property
    def multiplier(self) -> float | None: ...


@dataclass(frozen=True)
class Unpaid:
    """An upload without a charge of as many releases."""

    job: str
    attempt: int
    segment: str
    released: int
    charged: int

    @property
    def sentence(self) -> str:
        """What is wrong, for a person."""
        held = f"charges for {self.charged}" if self.charged else "no charge"
        return (
            f"attempt {self.attempt} of job {self.job} released {self.released} noised sums of records as "
            f"'{self.segment}', and the ledger holds {held}"
        )


@dataclass(frozen=True)
class Quieter:
    """An upload with less noise than it was charged for."""

    job: str
    attempt: int
    segment: str
    multiplier: float
    charged: float

    @property
    def sentence(self) -> str:
        """What is wrong, for a person."""
        return (
            f"attempt {self.attempt} of job {self.job} released '{self.segment}' with a noise multiplier of "
            f"{self.multiplier:.4g}, and the ledger holds a charge for {self.charged:.4g}"
        )


@dataclass(frozen=True)
class UploadsHeld:
    """The outcome: how many uploads were charged, made up for by a recovery, or released without noise."""

    charged: int
    recovered: int
    without_noise: int
    unpaid: tuple[Unpaid, ...]
    quieter: tuple[Quieter, ...] = ()


@dataclass
class _Charged:
    """What one attempt was charged for one purpose: how many releases, and the most noise of one."""

    count: int = 0
    multiplier: float = 0.0


def hold_against(uploads: Iterable[Upload], rows: Iterable[Row]) -> UploadsHeld:
    """Hold the record of uploads against a ledger's rows.

    An upload whose charge was lost with a ledger's tail, and made up for by a recovery in one sum, was made
    between the last row that was not lost and that recovery; there no charge of its own is asked for.
    """
    charges, gaps = _charges(rows)
    charged = recovered = without = 0
    released: dict[tuple[str, int, str], int] = {}
    unpaid, quieter = [], []
    for upload in uploads:
        if upload.noise == "none":
            without += 1
            continue
        purpose = PURPOSES.get(upload.segment)
        key = (upload.job, upload.attempt, upload.segment)
        released[key] = released.get(key, 0) + upload.releases
        paid = charges.get((upload.job, upload.attempt, purpose), _Charged()) if purpose else _Charged()
        moment = datetime.fromtimestamp(upload.at, UTC)
        if paid.count >= released[key]:
            if upload.multiplier is not None and upload.multiplier < paid.multiplier:
                quieter.append(Quieter(*key, upload.multiplier, paid.multiplier))
            else:
                charged += 1
        elif paid.count == 0 and any(lost <= moment <= found for lost, found in gaps):
            recovered += 1
        else:
            unpaid.append(Unpaid(*key, released[key], paid.count))
    return UploadsHeld(charged, recovered, without, tuple(unpaid), tuple(quieter))


def _charges(
    rows: Iterable[Row],
) -> tuple[dict[tuple[str, int, Purpose | None], _Charged], list[tuple[datetime, datetime]]]:
    charges: dict[tuple[str, int, Purpose | None], _Charged] = {}
    gaps = []
    before: datetime | None = None
    for row in rows:
        body = row.body
        if isinstance(body, RecoveryRow):
            gaps.append((before or datetime.fromtimestamp(0, UTC), row.at))
        if isinstance(body, ChargeRow) and not body.recovered:
            held = charges.setdefault((body.job, body.attempt, body.purpose), _Charged())
            held.count += sum(event.count for event in body.events)
            held.multiplier = max(held.multiplier, *(event.noise_multiplier for event in body.events))
        before = row.at
    return charges, gaps
