"""One run of a job: its grid, who is there, and what lasts. The job outlives it."""

from __future__ import annotations

from dataclasses import dataclass

from flwr.serverapp import Grid

from hansa.contract.charter import Charter
from hansa.contract.jobs import JobPlan
from hansa.strategies.blind_state import BlindState
from hansa.strategies.exchange import Exchange
from hansa.strategies.finishes import Finishes
from hansa.strategies.ports import Journal
from hansa.strategies.requests import Desk
from hansa.strategies.roster import Roster
from hansa.strategies.states import State


@dataclass(frozen=True)
class Run:
    """What the phases of a round work with.

    Parameters
    ----------
    parameters : coordinates of the charter's model
    """

    desk: Desk
    exchange: Exchange
    roster: Roster
    journal: Journal
    finishes: Finishes
    parameters: int

    @classmethod
    def over(cls, grid: Grid, desk: Desk, journal: Journal, parameters: int) -> Run:
        """A run through this grid; it knows nobody yet."""
        exchange = Exchange(grid)
        roster = Roster(desk, exchange, journal, parameters=parameters)
        return cls(desk, exchange, roster, journal, Finishes(journal, desk.parties), parameters)

    @property
    def charter(self) -> Charter:
        """The agreement of the run."""
        return self.desk.charter

    @property
    def plan(self) -> JobPlan:
        """What the job sets out to do."""
        return self.journal.plan

    def refresh(self, state: State, *, prekeys: bool = True) -> None:
        """Look who is online; members that lack the state in mode `he` are given it.

        Parameters
        ----------
        prekeys : whether attempts are to follow
        """
        if self.roster.custody is not None and isinstance(state, BlindState):
            self.roster.custody.state = state
        self.roster.refresh(prekeys=prekeys)
