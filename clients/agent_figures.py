"""What an agent shows its own organisation, in a file: requests, refusals, budgets, its ledger.

It has no network. The seconds of an attempt tell of the number of records: these figures are for the organisation's own
monitoring, and not for the consortium's.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from hansa.clients.protocol import Agent
from hansa.contract.exposition import SECONDS as BUCKETS
from hansa.contract.exposition import Family, Figure, Labels, Meter, Shown, one

REQUESTS = Family("hansa_agent_requests_total", "counter", "Requests by what was answered.", ("answer",))
SECONDS = Family(
    "hansa_agent_answer_seconds", "histogram", "From a request to its answer, pace included.", (), 1, BUCKETS
)
ISOLATED = Family("hansa_agent_isolated", "gauge", "1 where this process can reach no network.")
JOBS = Family("hansa_agent_jobs", "gauge", "Jobs that were proposed, by state.", ("state",))
LEFT = Family("hansa_agent_budget_left_ratio", "gauge", "Share of a grant that is left.", ("grant",), 64)
SPENT = Family("hansa_agent_budget_spent_epsilon", "gauge", "What a grant lost, as epsilon.", ("grant",), 64)
FROZEN = Family("hansa_agent_grant_frozen", "gauge", "1 while a grant is frozen.", ("grant",), 64)
ROWS = Family("hansa_agent_ledger_rows", "gauge", "Rows of the ledger.")
BEHIND = Family(
    "hansa_agent_ledger_behind",
    "gauge",
    "1 while the ledger lacks what others saw of it; nothing is charged.",
)
WITNESSED = Family("hansa_agent_start_witnessed", "gauge", "1 once enough members signed this start.")
CHARTER = Family("hansa_agent_charter_expiry_timestamp_seconds", "gauge", "When the charter runs out.")


def agent_figures(agent: Agent) -> Callable[[], list[Shown]]:
    """A source of what the agent's files say."""

    def look() -> list[Shown]:
        charter, budget = agent.membership.charter, agent.budget
        states = Counter(state for _, state, _ in agent.attempts.jobs())
        shown: list[Shown] = [
            one(ISOLATED, agent.isolated),
            one(CHARTER, charter.expires.timestamp()),
            Figure(JOBS, {(state,): float(count) for state, count in states.items()}),
        ]
        if agent.starts is not None:
            shown.append(one(WITNESSED, agent.starts.witnessed))
        if agent.witnesses is not None:
            shown.append(one(BEHIND, bool(agent.witnesses.missing)))
        if budget is None:
            return shown
        with budget.ledger.held() as book:
            left: dict[Labels, float] = {}
            spent: dict[Labels, float] = {}
            frozen: dict[Labels, float] = {}
            for name, account in book.grants.items():
                currency = book.data_sets[account.row.data_set].row.currency
                left[(name,)] = account.percent_left / 100.0
                spent[(name,)] = float(currency.epsilon(account.spent, account.row.delta))
                frozen[(name,)] = float(bool(account.frozen))
            rows = book.head.sequence
        return [*shown, Figure(LEFT, left), Figure(SPENT, spent), Figure(FROZEN, frozen), one(ROWS, rows)]

    return look


def counting(meter: Meter) -> Callable[[str], None]:
    """Counts an answer by what it was."""

    def count(answer: str) -> None:
        meter.add(REQUESTS, answer)

    return count


def timed(answer: Callable[[bytes], bytes], request: bytes, meter: Meter) -> bytes:
    """Answer, and note how long that took."""
    began = time.monotonic()
    try:
        return answer(request)
    finally:
        meter.observe(SECONDS, time.monotonic() - began)


def agent_meter(agent: Agent, member: str) -> Meter:
    """Everything of one agent; requests are to be counted in it."""
    from hansa.contract.process_figures import process_meter

    meter = process_meter("agent", agent_figures(agent), member=member)
    meter.declare(REQUESTS, SECONDS)
    return meter
