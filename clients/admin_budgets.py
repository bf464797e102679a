"""`admin.sock`, the part about budgets: what an organisation grants, freezes, approves and reads of its ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from fractions import Fraction
from typing import Annotated, Any

from pydantic import Field

from hansa.clients.budget import Budget
from hansa.clients.grants import FreezeOrder, GrantOrder, UnfreezeOrder
from hansa.clients.ledger import MOST_ROWS
from hansa.clients.protocol import Agent
from hansa.contract.errors import HansaError, InputError, RefusalError
from hansa.contract.jobs import JobId
from hansa.contract.typed import Frozen, Slug, parse_document
from hansa.privacy.accounts import GrantAccount, JobAccount
from hansa.privacy.book import Book
from hansa.privacy.records import ApprovalRow, Epsilon, Said, Text

Answer = dict[str, Any]


class Page(Frozen):
    """Which rows or uploads are asked for: at most so many behind a number."""

    after: Annotated[int, Field(ge=0, lt=2**63)] = 0
    most: Annotated[int, Field(ge=1, le=MOST_ROWS)] = MOST_ROWS


class ApproveOrder(Frozen):
    """What `hansa jobs approve` says."""

    job: JobId
    grant: Slug | None = None
    max_epsilon: Epsilon | None = None
    by: Said = "the organisation"


class RecoverOrder(Frozen):
    """What `hansa budgets recover` says."""

    by: Said
    reason: Text = ""


NO_ENTITY = (
    "the contract names no entity column: what is protected is one record, not a person who has several, "
    "and a corrected record counts as another one, as all do where a column gets its first values"
)


class BudgetCommands:
    """The commands by name; each takes the object it was sent and returns the answer, or raises a sentence."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self.commands: dict[str, Callable[[Answer], Answer]] = {
            "budgets": self._budgets,
            "grant": self._grant,
            "freeze-grant": self._freeze,
            "unfreeze-grant": self._unfreeze,
            "recover": self._recover,
            "rows": self._rows,
            "uploads": self._uploads,
            "approve": self._approve,
        }

    def _budgets(self, _: Answer) -> Answer:
        charter = self._agent.membership.charter
        answer: Answer = {
            "ok": True,
            "member": self._agent.membership.name,
            "noise": charter.privacy.noise,
            "delta": charter.privacy.delta,
            "data_sets": [],
            "grants": [],
            "jobs": [],
            "head": None,
            # Why nothing is charged until `recover`; empty where the ledger has all that was shown to it.
            "missing": "" if self._agent.witnesses is None else self._agent.witnesses.missing,
        }
        if self._agent.budget is None:
            return answer
        budget = self._agent.budget
        with budget.ledger.held() as book:
            now = budget.ledger.time()
            answer["data_sets"] = [
                {
                    "name": it.row.name,
                    "currency": it.row.currency.name,
                    "order": it.row.currency.order,
                    "epsilon": it.row.epsilon,
                    "delta": it.row.delta,
                    "cap": it.row.cap,
                    "granted": float(_granted(book, it.row.name, now)),
                }
                for it in book.data_sets.values()
            ]
            answer["grants"] = [_grant(book, it) for it in book.grants.values()]
            answer["jobs"] = [self._job(budget, book, job, it) for job, it in book.jobs.items()]
            answer["head"] = book.head.model_dump()
        return answer

    def _job(self, budget: Budget, book: Book, job: str, account: JobAccount) -> Answer:
        plan, approval = self._agent.attempts.plan(job), account.approval
        return {
            "job": job,
            "name": "" if plan is None else plan.name,
            "state": self._agent.attempts.state(job),
            "grant": "" if approval is None else approval.grant,
            "share": 0.0 if approval is None else approval.share,
            "most": 0.0 if approval is None else approval.most,
            "training": float(account.sums.training),
            "holdout": float(account.sums.holdout),
            "charges": account.charges,
            "round_cost": None
            if approval is None or plan is None
            else plan.steps * approval.amounts.training,
            "noise": {} if approval is None else budget.noise_of(book, approval),
            "unfinished": account.unfinished,
            "may_be_unfinished": account.may_be_unfinished,
        }

    def _grant(self, asked: Answer) -> Answer:
        row = self._budget.grants.grant(parse_document(asked, GrantOrder, "grant"))
        self._agent.attempts.event("", "granted", f"grant '{row.grant}' by {row.granted_by}")
        charter = self._agent.membership.charter
        warning = "" if charter.task.features.entity else NO_ENTITY
        return {
            "ok": True,
            "grant": row.grant,
            "data_set": row.data_set,
            "amount": row.amount,
            "warning": warning,
        }

    def _freeze(self, asked: Answer) -> Answer:
        order = parse_document(asked, FreezeOrder, "freeze")
        self._budget.grants.freeze(order)
        return self._decided(order, frozen=True)

    def _unfreeze(self, asked: Answer) -> Answer:
        order = parse_document(asked, UnfreezeOrder, "unfreeze")
        self._budget.grants.unfreeze(order)
        return self._decided(order, frozen=False)

    def _decided(self, order: FreezeOrder | UnfreezeOrder, *, frozen: bool) -> Answer:
        state = "frozen" if frozen else "unfrozen"
        self._agent.attempts.event(
            "", state, f"grant '{order.grant}' was {state} by {order.by}: {order.reason}"
        )
        return {"ok": True, "grant": order.grant, "frozen": frozen}

    def _recover(self, asked: Answer) -> Answer:
        order = parse_document(asked, RecoverOrder, "recover")
        if self._agent.witnesses is None:
            raise InputError("the charter has no noise: nothing is charged, and there is no ledger")
        rows = self._agent.witnesses.recover(by=order.by, reason=order.reason)
        return {"ok": True, "rows": [row.model_dump(mode="json") for row in rows]}

    def _rows(self, asked: Answer) -> Answer:
        page = parse_document(asked, Page, "rows")
        rows = self._budget.ledger.rows(page.after, page.most)
        return {"ok": True, "rows": [row.model_dump(mode="json") for row in rows]}

    def _uploads(self, asked: Answer) -> Answer:
        page = parse_document(asked, Page, "uploads")
        uploads = self._agent.attempts.uploads(page.after, page.most)
        return {"ok": True, "uploads": [vars(it) for it in uploads]}

    def _approve(self, asked: Answer) -> Answer:
        order = parse_document(asked, ApproveOrder, "approve")
        attempts = self._agent.attempts
        plan = attempts.plan(order.job)
        if plan is None:
            raise InputError(f"job {order.job} was never proposed to this member")
        if attempts.state(order.job) == "closed":
            raise InputError(f"job {order.job} is closed")
        answer: Answer = {"ok": True, "job": order.job, "state": "approved"}
        budget = self._agent.budget
        if budget is not None:
            row = budget.approve(plan, by=order.by, grant=order.grant, max_epsilon=order.max_epsilon)
            answer |= _approved(budget, row)
        elif order.grant is not None or order.max_epsilon is not None:
            raise InputError(
                "the charter has no noise: nothing is charged, so no grant and no epsilon can be named"
            )
        if plan.start is not None:
            answer["start"] = {"job": plan.start.job, "weights": plan.start.weights}
        attempts.set_state(order.job, "approved", f"approved by {order.by}")
        attempts.event(order.job, "approved", f"approved by {order.by}")
        return answer

    @property
    def _budget(self) -> Budget:
        if self._agent.budget is None:
            raise InputError("the charter has no noise: nothing is charged, and there is no ledger")
        return self._agent.budget


def _approved(budget: Budget, row: ApprovalRow) -> Answer:
    """What an approval lets a job take of its grant, and the noise that follows from it."""
    with budget.ledger.held() as book:
        grant = book.grants[row.grant]
        currency = book.data_sets[grant.row.data_set].row.currency
        return {
            "grant": row.grant,
            "most": row.most,
            "percent": 100.0 * row.most / grant.amount,
            "epsilon": currency.epsilon(row.most, grant.row.delta),
            "delta": grant.row.delta,
            "noise": budget.noise_of(book, row),
            # A later, smaller yes may lie below what the job took on an earlier one.
            "used_up": book.jobs[row.job].sums.larger >= row.most,
        }


def _granted(book: Book, data_set: str, now: datetime) -> Fraction:
    """What of a data set's cap its grants take."""
    return sum((it.counts(now) for it in book.grants.values() if it.row.data_set == data_set), Fraction(0))


def obey(command: Callable[[Answer], Answer], asked: Mapping[str, Any]) -> Answer:
    """A command's answer; what is wrong becomes a sentence."""
    try:
        return command({name: value for name, value in asked.items() if name != "command"})
    except RefusalError as refusal:
        return {"ok": False, "error": refusal.sentence}
    except HansaError as error:
        return {"ok": False, "error": str(error)}


def _grant(book: Book, account: GrantAccount) -> Answer:
    row, data_set = account.row, book.data_sets[account.row.data_set].row
    return {
        "grant": row.grant,
        "data_set": row.data_set,
        "currency": data_set.currency.name,
        "order": data_set.currency.order,
        "epsilon": row.epsilon,
        "delta": row.delta,
        "amount": row.amount,
        "training": float(account.sums.training),
        "holdout": float(account.sums.holdout),
        "training_and_holdout_added_up": account.data_set.together,
        "remaining": account.remaining,
        "percent_left": account.percent_left,
        "epsilon_spent": data_set.currency.epsilon(account.spent, row.delta),
        "expires": row.expires.isoformat(),
        "frozen": account.frozen,
        "purpose": row.purpose,
        "legal_basis": row.legal_basis,
        "granted_by": row.granted_by,
        "reason": row.reason,
    }
