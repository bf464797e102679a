"""Budgets on the screen: percent in the grant's currency with a bar, epsilon beside, rounds that are left."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import typer

from hansa.cli.budgets_answers import AgentBudgets, GrantFacts, JobFacts
from hansa.cli.listing import print_table, shown_time
from hansa.privacy.records import (
    AnyBody,
    ApprovalRow,
    ChargeRow,
    DataSetRow,
    FinishRow,
    ForgetRow,
    FreezeRow,
    GrantRow,
    RecoveryRow,
    Row,
    SidesRow,
    UnfreezeRow,
)
from hansa.server.records import BudgetRecord, ReceiptRecord, SpendingRecord

MIRROR = (
    "the server's mirror, made of receipts that the members signed: at least so much was spent; "
    "each organisation's own ledger decides"
)
GONE = "no longer a member"
_BAR = 20


@dataclass(frozen=True)
class GrantLine:
    """One grant of one member, for the table.

    Parameters
    ----------
    rounds_left : rounds like the last one of the newest job that the grant's rest pays for
    """

    member: str
    grant: str
    data_set: str
    epsilon: float
    delta: float
    epsilon_spent: float | None
    percent_left: float
    rounds_left: int | None
    note: str = ""


@dataclass(frozen=True)
class JobLine:
    """What one job took of one grant; percents are of the grant.

    Parameters
    ----------
    rounds_left : rounds that it may still run, by what was approved and by what its grant has left
    """

    member: str
    job: str
    name: str
    grant: str
    percent_spent: float | None
    percent_most: float | None
    charges: int
    percent_round: float | None
    rounds_left: int | None
    noise: Mapping[str, float]


def bar(percent: float) -> str:
    """A bar of so many percent; a little that is left is never shown as nothing, nor nearly all as all."""
    share = min(100.0, max(0.0, percent)) / 100.0
    full = round(share * _BAR)
    if 0.0 < share < 1.0:
        full = min(max(full, 1), _BAR - 1)
    return "█" * full + "░" * (_BAR - full)


def own_lines(budgets: AgentBudgets, now: datetime) -> tuple[list[GrantLine], list[JobLine]]:
    """An organisation's own grants and jobs."""
    jobs = [_own_job(budgets, it) for it in budgets.jobs]
    costs = {it.grant: it.round_cost for it in budgets.jobs if it.round_cost}
    grants = [
        GrantLine(
            member=budgets.member,
            grant=it.grant,
            data_set=it.data_set,
            epsilon=it.epsilon,
            delta=it.delta,
            epsilon_spent=it.epsilon_spent,
            percent_left=it.percent_left,
            rounds_left=rounds(it.remaining, costs.get(it.grant)),
            note=_note(it, now),
        )
        for it in budgets.grants
    ]
    return grants, jobs


def mirror_lines(
    grants: Iterable[BudgetRecord],
    spendings: Iterable[SpendingRecord],
    names: Mapping[str, str],
    members: Collection[str],
    apart: Collection[str] = (),
) -> tuple[list[GrantLine], list[JobLine]]:
    """The members' grants and jobs as the server's mirror has them.

    Parameters
    ----------
    names : of the jobs
    members : of the charter; whoever has left it comes last, and is marked
    apart : members that take no part; of theirs no rounds are counted on
    """
    known = {(it.member, it.grant): it for it in grants}
    jobs, costs = [], {}
    for it in spendings:
        if it.round_cost:
            costs[it.member, it.grant] = it.round_cost
        grant = known.get((it.member, it.grant))
        jobs.append(
            JobLine(
                member=it.member,
                job=it.job,
                name=names.get(it.job, ""),
                grant=it.grant,
                percent_spent=_percent(max(it.training, it.holdout), grant),
                percent_most=None,
                charges=it.charges,
                percent_round=_percent(it.round_cost, grant) if it.round_cost else None,
                # What was approved is not on a receipt.
                rounds_left=None,
                noise={},
            )
        )
    lines = [
        GrantLine(
            member=it.member,
            grant=it.grant,
            data_set=it.data_set,
            epsilon=it.epsilon,
            delta=it.delta,
            epsilon_spent=it.epsilon_spent,
            percent_left=it.percent_left,
            rounds_left=None
            if it.member in apart
            else rounds(it.remaining, costs.get((it.member, it.grant))),
            note=GONE if it.member not in members else "takes no part" if it.member in apart else "",
        )
        for it in known.values()
    ]
    return sorted(lines, key=lambda it: (it.note == GONE, it.member, it.grant)), jobs


def rounds(remaining: float | None, round_cost: float | None) -> int | None:
    """Rounds that an amount pays for; None where what a round costs is not known."""
    if remaining is None or not round_cost or remaining / round_cost > 1e9:
        return None
    # What is planned evenly adds up to the whole; the last rounding must not cost a round.
    return int(remaining / round_cost * (1 + 1e-9))


def budget_sentence(line: GrantLine) -> str:
    """One line for `hansa status` and `hansa up`."""
    left = f"; {line.rounds_left} rounds like the last are left" if line.rounds_left is not None else ""
    spent = (
        "" if line.epsilon_spent is None else f" (epsilon {line.epsilon_spent:.3g} of {line.epsilon:g} spent)"
    )
    share = f"{bar(line.percent_left)} {line.percent_left:.1f} % of grant '{line.grant}' left"
    if line.note == GONE:
        return f"{line.member}, {GONE}: {share}{spent}"
    note = f"; {line.note}" if line.note else ""
    return f"{line.member}: {share}{spent}{left}{note}"


def print_grants(lines: Sequence[GrantLine]) -> None:
    """The table of grants."""
    columns = ("member", "grant", "data set", "granted", "spent", "left", "rounds left", "note")
    rows = (
        (
            it.member,
            it.grant,
            it.data_set,
            f"epsilon {it.epsilon:g} at delta {it.delta:g}",
            "?" if it.epsilon_spent is None else f"epsilon {it.epsilon_spent:.3g}",
            f"{it.percent_left:.1f} % {bar(it.percent_left)}",
            "" if it.rounds_left is None else str(it.rounds_left),
            it.note,
        )
        for it in lines
    )
    print_table(columns, rows, nothing="no grant; make one with: hansa budgets grant")
    if any(it.rounds_left is not None for it in lines):
        typer.echo("rounds left of a grant: what is left of it, by what a round of its newest job takes")


def print_jobs(lines: Sequence[JobLine]) -> None:
    """The table of jobs."""
    columns = (
        "member",
        "job",
        "name",
        "grant",
        "spent",
        "may spend",
        "charges",
        "a round",
        "rounds left",
        "noise",
    )
    rows = (
        (
            it.member,
            it.job[:8],
            it.name,
            it.grant,
            _shown(it.percent_spent),
            _shown(it.percent_most),
            str(it.charges),
            _shown(it.percent_round),
            "" if it.rounds_left is None else str(it.rounds_left),
            ", ".join(f"{name} {value:.3g}" for name, value in it.noise.items()),
        )
        for it in lines
    )
    print_table(columns, rows, nothing="no job was charged or approved")
    if any(it.rounds_left is not None for it in lines):
        typer.echo("rounds left of a job: what it may still spend, by what a round of it takes")


def print_rows(rows: Sequence[Row]) -> None:
    """A ledger's rows for people."""
    lines = ((str(row.sequence), shown_time(row.at), row.body.row, describe(row.body)) for row in rows)
    print_table(("row", "at", "kind", "what"), lines, nothing="the ledger is empty")


def print_receipts(receipts: Sequence[ReceiptRecord]) -> None:
    """The mirror's receipts for people."""
    lines = (
        (
            it.member,
            shown_time(it.at),
            f"{it.job[:8]} {it.attempt}",
            "; ".join(
                f"{charge.purpose}: {charge.count} x noise {charge.noise_multiplier:.4g} from '{charge.grant}'"
                for charge in it.receipt.charges
            ),
            "" if it.receipt.head is None else f"{it.receipt.head.sequence} {it.receipt.head.hash[:8]}",
        )
        for it in receipts
    )
    print_table(("member", "at", "job, attempt", "charged", "ledger row"), lines, nothing="no receipt yet")


def describe(body: AnyBody) -> str:
    """One sentence on what a row says."""
    match body:
        case DataSetRow():
            where = (
                body.currency.name if body.currency.order is None else f"rdp at order {body.currency.order}"
            )
            return (
                f"data set '{body.name}': lifetime cap of epsilon {body.epsilon:g} at delta {body.delta:g}, "
                f"counted in {where}"
            )
        case GrantRow():
            return (
                f"grant '{body.grant}' of epsilon {body.epsilon:g} at delta {body.delta:g} for data set "
                f"'{body.data_set}' until {body.expires:%Y-%m-%d}, by {body.granted_by}; purpose: "
                f"{body.purpose or 'not stated'}; legal basis: {body.legal_basis or 'not stated'}"
            )
        case SidesRow():
            who = f"column '{body.entity}'" if body.entity else "each record by itself"
            return f"data set '{body.data_set}': {100 * body.holdout:g} % held out by {who}"
        case FreezeRow() | UnfreezeRow():
            done = "frozen" if isinstance(body, FreezeRow) else "unfrozen"
            return f"grant '{body.grant}' {done} by {body.by}: {body.reason or 'no reason given'}"
        case ApprovalRow():
            return f"job {body.job[:8]} approved by {body.by}: it may take {body.most:.6g} of grant '{body.grant}'"
        case ChargeRow():
            return _charge(body)
        case FinishRow():
            return f"attempt {body.attempt} of job {body.job[:8]} finished"
        case ForgetRow():
            return (
                f"{body.entities} more entities are computed on no more, {body.total} in all, by {body.by}: "
                f"{body.reason or 'no reason given'}"
            )
        case RecoveryRow():
            lost = body.lost.receipt.head
            number = "?" if lost is None else str(lost.sequence)
            return f"rows up to {number} were lost and made up for by a receipt, by {body.by}: {body.reason}"


def _charge(body: ChargeRow) -> str:
    releases = ", ".join(f"{event.count} x noise {event.noise_multiplier:.4g}" for event in body.events)
    lost = "; recovered" if body.recovered else ""
    return (
        f"attempt {body.attempt} of job {body.job[:8]}, {body.purpose}: {releases}; {body.amount:.6g} of the "
        f"{body.part} part of grant '{body.grant}'{lost}"
    )


def _own_job(budgets: AgentBudgets, job: JobFacts) -> JobLine:
    grant = next((it for it in budgets.grants if it.grant == job.grant), None)
    may = None
    if grant is not None and job.most is not None:
        may = min(max(0.0, job.most - max(job.training, job.holdout)), grant.remaining)
    return JobLine(
        member=budgets.member,
        job=job.job,
        name=job.name,
        grant=job.grant or "",
        percent_spent=_percent(max(job.training, job.holdout), grant),
        percent_most=None if job.most is None else _percent(job.most, grant),
        charges=job.charges,
        percent_round=None if job.round_cost is None else _percent(job.round_cost, grant),
        rounds_left=rounds(may, job.round_cost),
        noise=job.noise,
    )


def _percent(amount: float, grant: GrantFacts | BudgetRecord | None) -> float | None:
    return None if grant is None else 100.0 * amount / grant.amount


def _note(grant: GrantFacts, now: datetime) -> str:
    both = "; training and measuring added up" if grant.training_and_holdout_added_up else ""
    if grant.frozen:
        return f"frozen: {grant.frozen}{both}"
    if grant.expires <= now:
        return f"expired {grant.expires.astimezone(UTC):%Y-%m-%d}{both}"
    return f"until {grant.expires.astimezone(UTC):%Y-%m-%d}{both}"


def _shown(percent: float | None) -> str:
    return "" if percent is None else f"{percent:.3g} %"
