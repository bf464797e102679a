"""Select, as a run does it: wait until a cohort is there, and say for whom."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping

from hansa.contract.typed import clipped
from hansa.strategies.interruption import interrupt, obey
from hansa.strategies.run import Run
from hansa.strategies.selection import Selection
from hansa.strategies.states import State

log = logging.getLogger("hansa.strategy")

# How long a job waits for members beyond its minimum cohort before the first attempt.
GATHER_S = 15.0
# How long it waits for the minimum cohort before it says so again.
REMIND_S = 30.0
LOOK_AGAIN_S = 0.5


class Gathering:
    """Cohorts of one run.

    Parameters
    ----------
    gather_s : so long members beyond the minimum cohort are waited for, before the first attempt
    """

    def __init__(self, run: Run, *, sleep: Callable[[float], None], gather_s: float) -> None:
        self._run = run
        self._sleep = sleep
        self._gather_s = gather_s
        self._gathered = False

    def select(self, state: State, aside: Mapping[str, str]) -> Selection:
        """The next cohort. Waits while there are too few members, and says for whom.

        Parameters
        ----------
        aside : members that stay out of this attempt if it can do without them, each with the reason

        Raises
        ------
        JobInterrupted : the operator wants that, or too few members have a budget that pays
        """
        began, reminded, said = time.monotonic(), -REMIND_S, ""
        journal = self._run.journal
        while True:
            obey(journal)
            self._run.refresh(state)
            selection = self._admissible(aside)
            waited = time.monotonic() - began
            if self._there(selection, waited):
                self._gathered = True
                if said:
                    journal.set_status("running")
                return selection
            sentence = self._sentence(selection)
            if sentence != said:
                log.log(logging.WARNING if selection.shortfall else logging.INFO, "%s", sentence)
                journal.set_status("running", sentence)
            if sentence != said or waited - reminded >= REMIND_S:
                said, reminded = sentence, waited
                journal.event("waiting", sentence)
            self._sleep(LOOK_AGAIN_S)

    def _admissible(self, aside: Mapping[str, str]) -> Selection:
        held = self._run.journal.held()
        selection = self._run.roster.select(held, aside)
        if selection.shortfall:
            # Rounds that need everybody are not stopped by two that disagree.
            selection = self._run.roster.select(held)
        if selection.shortfall:
            self._pause_for_budgets()
        return selection

    def _there(self, selection: Selection, waited: float) -> bool:
        if selection.shortfall:
            return False
        return self._gathered or not selection.hopeful or waited >= self._gather_s

    def _sentence(self, selection: Selection) -> str:
        names = ", ".join(selection.hopeful)
        return selection.shortfall or f"waiting up to {self._gather_s:g} s for {names}"

    def _pause_for_budgets(self) -> None:
        """Wait for nobody where those whose budget does not pay are too many for a cohort: people must act."""
        unpaid, charter = self._run.roster.unpaid, self._run.charter
        others = charter.controllers(it.name for it in charter.members if it.name not in unpaid)
        if not unpaid or len(others) >= charter.minimum_cohort:
            return
        said: dict[str, list[str]] = {}
        for name in sorted(unpaid):
            said.setdefault(unpaid[name], []).append(name)
        reasons = "; ".join(f"{', '.join(who)}: {sentence}" for sentence, who in said.items())
        interrupt(
            self._run.journal,
            "paused",
            clipped(
                f"the budgets of {len(unpaid)} members do not pay for it, and a cohort needs at least "
                f"{charter.minimum_cohort} of {len(charter.members)} members: {reasons}"
            ),
        )
