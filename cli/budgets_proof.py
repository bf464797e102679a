"""A ledger's proof: chain, amounts and epsilons recomputed by other software, charges held against what left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hansa.cli.budgets_ledger import open_ledger
from hansa.cli.instance import MemberFolder
from hansa.contract.errors import HansaError
from hansa.privacy.uploads import UploadsHeld, hold_against
from hansa.privacy.verify import Verified, verify


@dataclass(frozen=True)
class Proof:
    """What was recomputed, and what does not hold; a damaged ledger never gets this far."""

    member: str
    origin: str
    verified: Verified
    held: UploadsHeld
    # Whether the organisation's own newest receipt shows rows that this ledger does not have.
    behind: bool

    @property
    def problems(self) -> list[str]:
        """What does not hold, in sentences."""
        found = [it.sentence for it in self.held.unpaid] + [it.sentence for it in self.held.quieter]
        if self.behind:
            found.insert(
                0,
                "the organisation's own newest receipt shows rows that this ledger does not have: it is an older "
                "copy; put the newest one in its place, or run: hansa budgets recover",
            )
        return found

    def lines(self) -> list[str]:
        """For people."""
        head, held = self.verified.head, self.held
        more = f", {held.recovered} made up for by a recovery" if held.recovered else ""
        more += f", {held.without_noise} of times without noise" if held.without_noise else ""
        found = [
            f"{self.member}: {self.verified.rows} rows read from {self.origin}",
            f"chain: whole up to row {head.sequence}, {head.hash}",
            "amounts and epsilons: recomputed by dp_accounting, all agree",
            f"what left: {held.charged} noised parts of uploads, each charged for every release and its noise{more}",
        ]
        return found + [
            f"grant '{name}': epsilon {spent:.6g} spent" for name, spent in self.verified.epsilon.items()
        ]

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "member": self.member,
            "origin": self.origin,
            "rows": self.verified.rows,
            "head": self.verified.head.model_dump(mode="json"),
            "epsilon": self.verified.epsilon,
            "uploads": {
                "charged": self.held.charged,
                "recovered": self.held.recovered,
                "without_noise": self.held.without_noise,
                "unpaid": [vars(it) for it in self.held.unpaid],
                "quieter": [vars(it) for it in self.held.quieter],
            },
            "behind": self.behind,
            "problems": self.problems,
        }

    def check(self) -> None:
        """Raise `HansaError` with the first thing that does not hold."""
        if self.problems:
            more = len(self.problems) - 1
            raise HansaError(f"{self.member}: {self.problems[0]}" + (f"; and {more} more" if more else ""))


def prove(member: MemberFolder) -> Proof:
    """Recompute an organisation's ledger.

    Raises
    ------
    LedgerError : names the first bad row and what is wrong with it
    """
    source = open_ledger(member)
    # What left is read first: an attempt that is charged meanwhile is in the rows, and not missing there.
    uploads = list(source.uploads())
    rows = list(source.rows())
    verified = verify(rows)
    held = hold_against(uploads, rows)
    return Proof(member.config.name, source.origin, verified, held, source.behind(rows))
