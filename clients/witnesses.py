"""Witnesses of ledgers (PROTOCOL section 7): what this member saw of the others', and they of its own.

A hash chain does not see that its tail is missing. So every agent keeps the receipts that it is shown, says
the highest to a member that starts, and a member that is shown its own signature on rows that its ledger
does not have charges nothing more until the organisation has them entered again.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping

from hansa.clients.heads import Heads
from hansa.clients.ledger import Ledger
from hansa.contract.errors import InputError, RefusalError
from hansa.contract.messages import Seen
from hansa.privacy.records import Row

log = logging.getLogger("hansa.agent")


class Witnesses:
    """One member's memory of receipts, beside its ledger; safe to call from several threads.

    Parameters
    ----------
    event : appends (kind, sentence) to the member's own log
    """

    def __init__(
        self,
        heads: Heads,
        ledger: Ledger,
        *,
        event: Callable[[str, str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._heads = heads
        self._ledger = ledger
        self._event = event
        self._monotonic = monotonic
        # Until when a member's present start was told what, and the number that it was told.
        self._told: dict[str, tuple[float, int]] = {}
        self._lock = threading.Lock()
        self._look()

    # --- of others ------------------------------------------------------------------------------

    def tell(self, member: str) -> Seen | None:
        """The receipt of a member with the highest head that was seen, to be said of its start."""
        with self._lock:
            seen = self._heads.highest(member)
            head = None if seen is None else seen.receipt.head
            self._told[member] = (self._monotonic(), 0 if head is None else head.sequence)
            return seen

    def note(self, shown: Mapping[str, Seen], *, accepted: float) -> None:
        """Keep receipts whose signatures were checked; to be called before a share leaves.

        Parameters
        ----------
        accepted : when the attempt was accepted, on this object's clock

        Raises
        ------
        RefusalError : `ledger-fork`, two of a member's receipts contradict each other; `attempt-lost`, a
            member that began anew meanwhile was told less of its ledger than this attempt shows
        """
        with self._lock:
            for member, seen in shown.items():
                at, number = self._told.get(member, (accepted, 0))
                head = seen.receipt.head
                # What it was charged for may be missing in its ledger, and it was told that nothing is.
                if at > accepted and head is not None and head.sequence > number:
                    raise RefusalError(
                        "attempt-lost",
                        f"'{member}' started again since attempt {seen.attempt} was accepted; begin another",
                        {"attempt": seen.attempt, "member": member},
                    )
            self._heads.note(shown)
        self.check_cohort(shown)

    def check_cohort(self, members: Iterable[str]) -> None:
        """Refuse whose ledger was seen to fork: `ledger-fork`, naming the member."""
        for member in members:
            fork = self._heads.fork(member)
            if fork is not None:
                raise RefusalError(
                    "ledger-fork",
                    f"{fork.sentence(member)}; this member takes no part in attempts with it",
                    {"member": member},
                )

    # --- of this member -------------------------------------------------------------------------

    @property
    def missing(self) -> str:
        """What this member's own receipts show that its ledger does not have; empty where it has all."""
        return self._ledger.frozen

    def shown(self, seen: Seen) -> None:
        """A receipt with this member's own valid signature: where the ledger does not have it, all charging ends."""
        if not self._ledger.behind(seen):
            return
        self._heads.keep_own(seen)
        known = self._ledger.frozen
        self._look()
        if not known:
            log.error("%s", self._ledger.frozen)
            self._event("ledger-behind-witness", self._ledger.frozen)

    def recover(self, *, by: str, reason: str) -> list[Row]:
        """Enter what is missing from the receipts that were shown; charging goes on after that.

        Raises
        ------
        InputError : nothing is missing, or it cannot be made up for; the sentence says why
        """
        rows: list[Row] = []
        with self._ledger.held() as book:
            for seen in self._heads.own():
                if book.behind(seen):
                    rows += self._ledger.recover(seen, by=by, reason=reason)
            if not rows:
                raise InputError("the ledger has all that was shown to it; there is nothing to recover")
            self._look()
            self._heads.forget_own()
        self._event("recovered", f"the ledger was recovered by {by}: {len(rows)} rows")
        return rows

    def close(self) -> None:
        """Close the file."""
        self._heads.close()

    def _look(self) -> None:
        """Freeze the ledger where a receipt shows that it lost rows, and only there."""
        with self._ledger.held() as book:
            lost = [seen for seen in self._heads.own() if book.behind(seen)]
            sentence = ""
            if lost:
                head = lost[0].receipt.head
                assert head is not None
                sentence = (
                    f"this member signed row {head.sequence} of its ledger in attempt {lost[0].attempt} of job "
                    f"{lost[0].job}, and the ledger, at row {book.head.sequence}, does not have it: it is an "
                    "older copy. Nothing is charged until 'hansa budgets recover' enters what is missing"
                )
            self._ledger.freeze(sentence)
