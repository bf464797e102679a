"""Proofs that attempts finished, kept until every member that was asked in them has seen them (PROTOCOL section 7).

An agent admits only so many attempts that it was charged for and did not see finish. The proofs travel with
the next orders of the job; the newest ones last in the journal, so that another run can show them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from hansa.contract.messages import Finish, Order
from hansa.secagg.finishing import make_finish
from hansa.secagg.parties import Parties
from hansa.strategies.ports import KEPT_FINISHES, Journal

# Proofs that wait for members that are not there; the oldest go.
KEPT = 64


class Finishes:
    """What one run of a job has to show, and to whom.

    Parameters
    ----------
    journal : holds the newest proofs of earlier runs
    """

    def __init__(self, journal: Journal, parties: Parties) -> None:
        self._journal = journal
        self._parties = parties
        # Who saw what an earlier run had to show is not known: everybody is shown it again.
        self._waiting = {it.attempt: (it, set(parties.names)) for it in journal.finishes()}
        # The newest attempt of this run in which each member was active.
        self._active: dict[str, int] = {}

    @property
    def needed(self) -> bool:
        """Whether members charge anything for attempts."""
        return self._parties.charter.privacy.noise != "none"

    def add(self, order: Order, signatures: Mapping[str, str]) -> bool:
        """Keep the proof of an attempt, durably; False where fewer than t of the signatures are valid."""
        finish = make_finish(order, signatures, self._parties)
        if finish is None:
            return False
        self._journal.keep_finish(finish)
        self._waiting[order.attempt] = (finish, set(order.cohort))
        while len(self._waiting) > KEPT:
            del self._waiting[min(self._waiting)]
        return True

    def to_show(self, cohort: Collection[str]) -> tuple[Finish, ...]:
        """Proofs that some of a cohort have not seen, as many as an order brings, the oldest first.

        Those come in first that members lack who were active lately, and of these the newest: what is kept for
        a member that is asked and never answers takes the place of nothing that another waits for.
        """
        here = set(cohort)

        def urgency(attempt: int) -> tuple[int, int]:
            lacking = self._waiting[attempt][1] & here
            return max(self._active.get(name, 0) for name in lacking), attempt

        wanted = [attempt for attempt, (_, members) in self._waiting.items() if members & here]
        chosen = sorted(wanted, key=urgency)[-KEPT_FINISHES:]
        return tuple(self._waiting[attempt][0] for attempt in sorted(chosen))

    def shown(self, attempt: int, finished: Collection[Finish], active: Collection[str]) -> None:
        """These members answered the order of an attempt, which brought these proofs."""
        self._active |= dict.fromkeys(active, attempt)
        for finish in finished:
            waiting = self._waiting.get(finish.attempt, (finish, set()))[1]
            waiting -= set(active)
            if not waiting:
                self._waiting.pop(finish.attempt, None)
