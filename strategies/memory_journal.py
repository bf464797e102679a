"""A journal in memory, under the same laws as the store's: for `hansa simulate` and for tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from hansa.contract.decisions import Decision
from hansa.contract.jobs import AttemptKind, AttemptResult, JobPlan, JobStatus
from hansa.contract.messages import Finish, Receipt, Seen
from hansa.strategies.journal_laws import (
    KEPT,
    OpenedAttempt,
    best_round,
    check_opening,
    check_probe,
    check_receipts,
    check_result,
    check_rollback,
    check_tried,
    fork_sentence,
    rollback_sentence,
    rollback_target,
    undone_sentence,
)
from hansa.strategies.ports import KEPT_FINISHES, Arrays, LeaseLost, MemberPresence, Progress, Wanted


@dataclass
class MemoryJob:
    """Everything remembered of one job; tests and `simulate` read and steer it here."""

    plan: JobPlan
    # The charter's defaults, moved by whoever may.
    knobs: dict[str, float]
    epoch: int = 0
    status: JobStatus = "queued"
    reason: str = ""
    wanted: Wanted = "run"
    held: dict[str, str] = field(default_factory=dict)
    present: tuple[MemberPresence, ...] = ()
    opened: dict[int, OpenedAttempt] = field(default_factory=dict)
    results: list[AttemptResult] = field(default_factory=list)
    round: int = 0
    # States that are kept, by their rounds.
    states: dict[int, dict[str, np.ndarray]] = field(default_factory=dict)
    # Figures of rounds' models, as they came.
    figures: dict[int, dict[str, float]] = field(default_factory=dict)
    # What each member signed, in the order in which it came.
    receipts: dict[str, list[Seen]] = field(default_factory=dict)
    finishes: dict[int, Finish] = field(default_factory=dict)
    decisions: list[Decision] = field(default_factory=list)
    # (kind, sentence, member, facts)
    events: list[tuple[str, str, str, dict[str, str | int | float]]] = field(default_factory=list)

    @property
    def state(self) -> dict[str, np.ndarray] | None:
        """The state after the newest round."""
        return self.states.get(self.round)

    @property
    def best(self) -> int | None:
        """Of the rounds that are kept the best evaluated one."""
        return best_round({number: self.figures.get(number, {}) for number in self.states})

    def roll_back(self, to: int | None = None, *, by: str = "operator", reason: str) -> None:
        """Undo the rounds above `to`, under the store's law (`server.store.rollback`)."""
        check_rollback(self.plan.job, self.status)
        newest = self.round
        to = rollback_target(to, newest=newest, kept=self.states, best=self.best)
        self.epoch += 1
        self.abandon(undone_sentence(to, reason))
        for number, result in enumerate(self.results):
            after = result.base > to or (result.round or 0) > to
            if after and result.status in ("applied", "evaluated"):
                undone = {"status": "undone", "reason": undone_sentence(to, reason)}
                self.results[number] = result.model_copy(update=undone)
                self.opened[result.attempt] = replace(self.opened[result.attempt], status="undone")
        self.round = to
        self.states = {number: it for number, it in self.states.items() if number <= to}
        self.figures = {number: it for number, it in self.figures.items() if number <= to}
        facts: dict[str, str | int | float] = {"from": newest, "to": to, "by": by}
        self.events.append(("rolled-back", rollback_sentence(by, newest, to, reason), "", facts))

    def abandon(self, reason: str) -> None:
        """Close whatever attempt is open."""
        for number, opened in self.opened.items():
            if opened.status in ("open", "summed"):
                self.opened[number] = replace(opened, status="abandoned")
                self.events.append(("attempt-abandoned", f"attempt {number}: {reason}", "", {}))


class MemoryJournal:
    """One holder's lease on a `MemoryJob`; taking another one ends it."""

    def __init__(self, job: MemoryJob) -> None:
        self.job = job
        job.epoch += 1
        self._epoch = job.epoch
        self.job.abandon("taken over by another run")

    @property
    def plan(self) -> JobPlan:
        """What the job sets out to do."""
        return self.job.plan

    def progress(self) -> Progress:
        """Where the job stands."""
        return Progress(
            round=self.job.round,
            attempt=max(self.job.opened, default=0),
            state=None if self.job.state is None else dict(self.job.state),
            evaluated=self.job.round in self.job.figures,
        )

    def open_attempt(
        self,
        kind: AttemptKind,
        *,
        base: int,
        cohort: Sequence[str],
        left_out: Mapping[str, str],
        knobs: Mapping[str, float],
        tries: AttemptResult | None = None,
    ) -> int:
        """Take the next attempt number."""
        self._check_lease()
        check_opening(base, cohort, self.job.round)
        if tries is None:
            self.job.abandon("followed by a newer attempt")
        else:
            opened = self.job.opened.get(tries.attempt)
            check_tried(tries, opened, base=base)
            assert opened is not None
            self.job.opened[tries.attempt] = replace(opened, status="summed")
        number = max(self.job.opened, default=0) + 1
        self.job.opened[number] = OpenedAttempt(number, kind, "open", base, tuple(cohort))
        return number

    def commit(self, result: AttemptResult, state: Arrays | None) -> None:
        """Close an attempt."""
        self._check_lease()
        self._commit(result, state)

    def adopt(
        self, train: AttemptResult, probe: AttemptResult | None, state: Arrays | None, decision: Decision
    ) -> None:
        """Close an attempt, and the probe that tried its step."""
        self._check_lease()
        if probe is not None:
            check_probe(train, probe)
        self._commit(train, state)
        if probe is not None:
            self._commit(probe, None, measured=train.round)
        if decision.key not in {it.key for it in self.job.decisions}:
            self.job.decisions.append(decision)
            for name, value in decision.knobs.items():
                if name not in self.plan.pinned and self.job.knobs.get(name) == train.knobs.get(name):
                    self.job.knobs[name] = value

    def decide(self, decision: Decision) -> bool:
        """Keep a decision; False where its key is there already."""
        self._check_lease()
        if decision.key in {it.key for it in self.job.decisions}:
            return False
        self.job.decisions.append(decision)
        return True

    def audited(self) -> tuple[int, int] | None:
        """The newest audit that was asked for."""
        asked = [it.inputs for it in self.job.decisions if it.by == "audit" and "first" in it.inputs]
        return (int(asked[-1]["first"]), int(asked[-1]["last"])) if asked else None  # type: ignore[arg-type]

    def probe_wanted(self) -> bool:
        """Whether a probe was asked for since the last one."""
        asked = [it.probe for it in self.job.decisions if it.probe or it.by == "probe"]
        return bool(asked and asked[-1])

    def _commit(self, result: AttemptResult, state: Arrays | None, *, measured: int | None = None) -> None:
        opened = self.job.opened.get(result.attempt)
        check_result(result, state, job=self.plan.job, opened=opened, newest_round=self.job.round)
        assert opened is not None
        self.job.opened[result.attempt] = replace(opened, status=result.status)
        self.job.results.append(result)
        if result.metrics:
            figures = {name: metric.value for name, metric in result.metrics.items()}
            of = result.base if measured is None else measured
            self.job.figures[of] = self.job.figures.get(of, {}) | figures
        if state is not None:
            number = self.job.round = result.round or 0
            self.job.states[number] = {name: np.array(array) for name, array in state.items()}
            keep = {*range(number - KEPT + 1, number + 1), self.job.best}
            self.job.states = {it: kept for it, kept in self.job.states.items() if it in keep}

    def receipts(self, attempt: int, order: str, receipts: Mapping[str, Receipt]) -> dict[str, str]:
        """Keep what members signed; says whose ledgers have two hashes for one row."""
        self._check_lease()
        kept = {name: receipt for name, receipt in receipts.items() if receipt.head is not None}
        if not kept:
            return {}
        check_receipts(attempt, kept, self.job.opened.get(attempt))
        forked = {}
        for name, receipt in kept.items():
            before = self.job.receipts.setdefault(name, [])
            if any(seen.attempt == attempt for seen in before):
                continue
            for seen in before:
                assert seen.receipt.head is not None
                assert receipt.head is not None
                if seen.receipt.head.sequence == receipt.head.sequence and seen.receipt.head != receipt.head:
                    forked[name] = fork_sentence(name, receipt.head.sequence)
            before.append(Seen(job=self.plan.job, attempt=attempt, order=order, receipt=receipt))
        for name, sentence in forked.items():
            self.job.events.append(("ledger-fork", sentence, name, {}))
        return forked

    def keep_finish(self, finish: Finish) -> None:
        """Keep the proof that an attempt finished."""
        self._check_lease()
        self.job.finishes[finish.attempt] = finish
        while len(self.job.finishes) > KEPT_FINISHES:
            del self.job.finishes[min(self.job.finishes)]

    def finishes(self) -> list[Finish]:
        """The proofs that are kept, the oldest first."""
        return [finish for _, finish in sorted(self.job.finishes.items())]

    def knobs(self) -> dict[str, float]:
        """Current values, pins applied."""
        return {**self.job.knobs, **self.plan.pinned}

    def pinned(self) -> frozenset[str]:
        """Knobs that nobody may move."""
        return frozenset(self.plan.pinned)

    def held(self) -> dict[str, str]:
        """Members held out of selection, with reasons."""
        return dict(self.job.held)

    def present(self, members: Sequence[MemberPresence]) -> None:
        """Members that are connected now."""
        self._check_lease()
        self.job.present = tuple(members)

    def wanted(self) -> Wanted:
        """What the operator wants of this job."""
        return self.job.wanted

    def wanted_by(self) -> tuple[str, str]:
        """Who wanted that, and why."""
        return "operator", ""

    def set_status(self, status: JobStatus, reason: str = "", *, wanted: Wanted | None = None) -> None:
        """Write the job's status and why, or queue it where `wanted` is not wanted any more."""
        self._check_lease()
        if wanted not in (None, self.job.wanted):
            status, reason = "queued", ""
        self.job.status, self.job.reason = status, reason

    def event(
        self,
        kind: str,
        sentence: str,
        *,
        member: str = "",
        facts: Mapping[str, str | int | float] | None = None,
    ) -> None:
        """Append to the event log."""
        self._check_lease()
        self.job.events.append((kind, sentence, member, dict(facts or {})))

    def _check_lease(self) -> None:
        if self._epoch != self.job.epoch:
            raise LeaseLost(f"job {self.plan.job}: another run has taken over")
