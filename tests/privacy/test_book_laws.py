"""Whatever an organisation and its jobs do, in whatever order: never more than the cap, nothing lost or twice."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime, timedelta
from fractions import Fraction

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from privacy_rows import NOW, Caps, approval, charge, data_set, grant

from hansa.contract.errors import InputError, RefusalError
from hansa.privacy.book import Book
from hansa.privacy.currency import GDP, Currency, rdp_currency, release
from hansa.privacy.records import AnyBody, Charge, ChargeRow, FinishRow, FreezeRow, Row, UnfreezeRow

JOBS = [f"{number:032x}" for number in range(3)]
GRANTS = ["first", "second", "third", "fourth"]
SETS = {"patients": 0, "staff": 100_000}

multipliers = st.sampled_from([0.7, 1.0, 1.4, 2.0, 4.0])
rates = st.sampled_from([1.0, 1.0, 1.0, 0.05])
kinds = st.sampled_from([("train", "training"), ("check", "training"), ("evaluate", "holdout")])


class Ledger(RuleBasedStateMachine):
    """An organisation's ledger under random decisions, jobs, crashes and restarts."""

    def __init__(self) -> None:
        super().__init__()
        # What is on disk, and what was asked for and granted, kept apart from the book.
        self.disk: list[Row] = []
        self.paid: dict[tuple[object, ...], float] = {}
        self.granted_epsilon: dict[str, float] = {}
        self.approved: dict[str, float] = {}
        self.frozen: set[str] = set()
        self.expires: dict[str, datetime] = {}
        self.book = Book()
        self.now = NOW
        self.caps = Caps(charges_per_day=12, charges_per_job=20)

    @initialize(currency=st.sampled_from([GDP, rdp_currency(8.0, 1e-5)]))
    def caps_of_the_data_sets(self, currency: Currency) -> None:
        self.currency = currency
        for name, start in SETS.items():
            self.write(self.book.entry(data_set(name, currency=currency, start=start), self.now))
        # So that the filters are reached before the steps are used up.
        self.organisation_grants("first", "patients", 6.0, 10)
        for job in JOBS[:2]:
            self.organisation_approves(job, "first", 2.0)

    def write(self, *rows: Row) -> None:
        for row in rows:
            self.disk.append(row)
            self.book.apply(row)

    def decide(self, body: AnyBody) -> bool:
        head = self.book.head
        try:
            row = self.book.entry(body, self.now)
        except InputError:
            assert self.book.head == head
            return False
        self.write(row)
        return True

    @rule(hours=st.sampled_from([0, 1, 30, 300]))
    def time_passes(self, hours: int) -> None:
        self.now += timedelta(hours=hours)

    @rule(
        name=st.sampled_from(GRANTS),
        of=st.sampled_from(sorted(SETS)),
        epsilon=st.floats(4.0, 8.0),
        days=st.integers(1, 20),
    )
    def organisation_grants(self, name: str, of: str, epsilon: float, days: int) -> None:
        body = grant(name, of=of, epsilon=epsilon, currency=self.currency)
        body = body.model_copy(update={"expires": self.now + timedelta(days=days)})
        if self.decide(body):
            self.granted_epsilon[name] = epsilon
            self.expires[name] = body.expires

    @rule(name=st.sampled_from(GRANTS))
    def organisation_freezes(self, name: str) -> None:
        if self.decide(FreezeRow(grant=name, reason="", by="officer")):
            self.frozen.add(name)

    @rule(name=st.sampled_from(GRANTS))
    def organisation_unfreezes(self, name: str) -> None:
        if self.decide(UnfreezeRow(grant=name, reason="", by="officer")):
            self.frozen.remove(name)

    @rule(job=st.sampled_from(JOBS), name=st.sampled_from(GRANTS), most=st.floats(0.1, 4.0))
    def organisation_approves(self, job: str, name: str, most: float) -> None:
        if self.decide(approval(job, of=name, most=most)):
            self.approved[job] = max(most, self.approved.get(job, 0.0))

    @rule(
        job=st.sampled_from(JOBS),
        attempt=st.integers(1, 6),
        asked=st.lists(st.tuples(kinds, multipliers, rates), min_size=1, max_size=3),
        of=st.sampled_from(["patients", "patients", "patients", "staff"]),
        crash=st.sampled_from(["none", "none", "before write", "after write"]),
        finishes=st.booleans(),
    )
    def job_asks(
        self,
        job: str,
        attempt: int,
        asked: list[tuple[tuple[str, str], float, float]],
        of: str,
        crash: str,
        finishes: bool,
    ) -> None:
        charges = [
            Charge.model_validate(
                charge(attempt, job=job, of=of, event=release(multiplier, 1, rate)).model_dump()
                | {"purpose": purpose, "part": part}
            )
            for (purpose, part), multiplier, rate in asked
        ]
        head = self.book.head
        try:
            rows = self.book.admit(charges, now=self.now, limits=self.caps)
        except RefusalError:
            assert self.book.head == head
            return
        assert self.book.head == head
        if crash == "before write":
            self.restart()
            return
        self.disk.extend(rows)
        for row in rows:
            body = row.body
            assert isinstance(body, ChargeRow)
            assert body.grant not in self.frozen
            assert self.now < self.expires[body.grant]
            assert self.book.grants[body.grant].row.data_set == of
            assert body.key not in self.paid
            self.paid[body.key] = body.amount
            if crash == "none":
                self.book.apply(row)
        if crash == "after write":
            self.restart()
        if finishes:
            self.decide(FinishRow(job=job, attempt=attempt))

    @rule()
    def restart(self) -> None:
        before = self.book
        self.book = Book(Row.model_validate_json(row.model_dump_json()) for row in self.disk)
        if before.head == self.book.head:
            assert before.data_sets == self.book.data_sets
            assert before.grants == self.book.grants
            assert before.jobs == self.book.jobs

    @invariant()
    def no_grant_and_no_cap_is_overspent(self) -> None:
        by_set: dict[str, dict[str, Fraction]] = defaultdict(lambda: defaultdict(Fraction))
        by_grant: dict[str, dict[str, Fraction]] = defaultdict(lambda: defaultdict(Fraction))
        by_job: dict[str, dict[str, Fraction]] = defaultdict(lambda: defaultdict(Fraction))
        for (name, job, _, _, part), amount in self.paid.items():
            of = self.book.grants[str(name)].row.data_set
            for sums in (by_grant[str(name)], by_set[of], by_job[str(job)]):
                sums[str(part)] += Fraction(amount)
        for name, sums in by_grant.items():
            assert max(sums.values()) <= Fraction(self.book.grants[name].amount)
            spent = float(max(sums.values()))
            assert self.currency.epsilon(spent, 1e-5) <= self.granted_epsilon[name] * (1 + 1e-9)
        for of, sums in by_set.items():
            assert max(sums.values()) <= Fraction(self.book.data_sets[of].row.cap)
        for job, sums in by_job.items():
            assert max(sums.values()) <= Fraction(self.approved[job])

    @invariant()
    def the_book_holds_what_was_paid_and_nothing_else(self) -> None:
        held = {key: row.amount for key, row in self.book.charges.items()}
        assert held == self.paid
        for name, account in self.book.grants.items():
            mine = [amount for key, amount in self.paid.items() if key[0] == name and key[4] == "training"]
            assert account.sums.training == sum(map(Fraction, mine), Fraction(0))

    @invariant()
    def unfinished_attempts_stay_few(self) -> None:
        for job in self.book.jobs.values():
            assert job.unfinished <= 3 + 0.2 * len(job.recent & job.finished)
            assert job.charges <= 20


class TestLedger(Ledger.TestCase):
    """Run by hypothesis."""

    settings = settings(max_examples=150, stateful_step_count=50, deadline=None)
