"""What an agent answers about its budgets, as facts; a newer agent may say more."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from hansa.cli.agent_client import command_agent
from hansa.cli.instance import MemberFolder
from hansa.contract.errors import ConnectionFailed
from hansa.contract.messages import Head
from hansa.contract.typed import explain

_MODEL = ConfigDict(frozen=True, extra="ignore")


class DataSetState(BaseModel):
    """A data set and its lifetime cap."""

    model_config = _MODEL

    name: str
    currency: Literal["gdp", "rdp"]
    order: int | None = None
    epsilon: float
    delta: float
    cap: float
    granted: float


class GrantFacts(BaseModel):
    """A grant as it stands; amounts are in its data set's currency."""

    model_config = _MODEL

    grant: str
    data_set: str
    currency: Literal["gdp", "rdp"]
    order: int | None = None
    epsilon: float
    delta: float
    amount: float
    training: float
    holdout: float
    # Somebody may have been in both parts: the two sums count together.
    training_and_holdout_added_up: bool = False
    remaining: float
    percent_left: float
    epsilon_spent: float
    expires: datetime
    frozen: str = ""
    purpose: str = ""
    legal_basis: str = ""
    granted_by: str = ""
    reason: str = ""


class JobFacts(BaseModel):
    """A job: what it may take of which grant and what it took; None where it is not approved."""

    model_config = _MODEL

    job: str
    name: str = ""
    state: str = ""
    grant: str | None = None
    share: float | None = None
    most: float | None = None
    training: float = 0.0
    holdout: float = 0.0
    charges: int = 0
    round_cost: float | None = None
    # Noise multiplier of each segment.
    noise: dict[str, float] = {}


class AgentBudgets(BaseModel):
    """Answer of the command `budgets`."""

    model_config = _MODEL

    member: str
    noise: str
    delta: float
    data_sets: tuple[DataSetState, ...] = ()
    grants: tuple[GrantFacts, ...] = ()
    jobs: tuple[JobFacts, ...] = ()
    head: Head | None = None
    # Why nothing is charged until `recover`; empty where the ledger has all that was shown to it.
    missing: str = ""

    def grant(self, name: str) -> GrantFacts | None:
        """The grant of that name."""
        return next((it for it in self.grants if it.grant == name), None)


def ask_budgets(member: MemberFolder) -> AgentBudgets:
    """What an organisation's agent says of its budgets.

    Raises
    ------
    ConnectionFailed : it does not run, or is of another version
    """
    answer = command_agent(member, "budgets")
    try:
        return AgentBudgets.model_validate(answer)
    except ValidationError as error:
        raise ConnectionFailed(
            f"{member.folder}: the agent is of another version: {explain(error)}"
        ) from None
