"""A round, in order: select, train, unmask, apply.

`ConsortiumStrategy` is a Flower `Strategy`. `start` runs a whole job: it resumes from the
journal's last state, opens attempts, sums what the members send, and writes every round to the
journal before it goes on. Flower's four hooks are the same phases, for whoever drives a round
through `grid.send_and_receive` instead. How a phase is done stands in a module of its own:
`gathering`, `ordering` and `uploads`, `unmasking`, `steps`; beside them `probes` and `following`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from random import Random, SystemRandom

from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result

from hansa.contract.charter import Charter
from hansa.contract.errors import HansaError
from hansa.contract.jobs import AttemptKind, AttemptResult, MetricValue
from hansa.contract.logs import now_about
from hansa.contract.plan import check_mechanism, check_rule
from hansa.contract.segments import STATISTICS
from hansa.models.model import Model
from hansa.strategies.announcing import announce
from hansa.strategies.apply import ModelState
from hansa.strategies.attempt import Attempt
from hansa.strategies.auditing import Auditing
from hansa.strategies.blind_state import BlindState
from hansa.strategies.closing import close_job
from hansa.strategies.contract_check import check_sentence, prepared_state, released
from hansa.strategies.flower_hooks import FlowerHooks
from hansa.strategies.following import Following, step_decision
from hansa.strategies.gathering import GATHER_S
from hansa.strategies.interruption import JobInterrupted, interrupt
from hansa.strategies.phases import Phases
from hansa.strategies.ports import Journal, Operator
from hansa.strategies.probes import Probes, found_by
from hansa.strategies.probing import RATE, Tried
from hansa.strategies.requests import Desk
from hansa.strategies.roster import Roster
from hansa.strategies.run import Run
from hansa.strategies.selection import Selection
from hansa.strategies.states import State, resumed
from hansa.strategies.stepping import Choice
from hansa.strategies.steps import Step, next_state, spoilt

log = logging.getLogger("hansa.strategy")

# Attempts in a row that come to nothing before the job pauses with the reason.
FAILURES_IN_A_ROW = 5


class ConsortiumStrategy(FlowerHooks):
    """Runs one job of a consortium.

    Parameters
    ----------
    charter, charter_hash : the agreement and the hash its members signed
    model : the charter's model; the server uses its size and its public initial weights only
    journal : the job's durable memory, under a lease
    operator : signs what is asked of members
    randomness : splits the cohort where the charter has groups
    """

    def __init__(
        self,
        *,
        charter: Charter,
        charter_hash: str,
        model: Model,
        journal: Journal,
        operator: Operator,
        sleep: Callable[[float], None] = time.sleep,
        gather_s: float = GATHER_S,
        randomness: Random | None = None,
    ) -> None:
        check_rule(journal.plan, charter.protection.mode)
        check_mechanism(journal.plan, charter.training.mechanism)
        super().__init__()
        self.charter = charter
        self.model = model
        self.journal = journal
        self._desk = Desk(charter, charter_hash, operator)
        self._sleep = sleep
        self._gather_s = gather_s
        self._randomness = randomness or SystemRandom()
        self._phases: Phases | None = None
        self._probes = Probes()
        self._following = Following()
        self._failures = 0
        progress = journal.progress()
        # What the next attempt starts from, whether its figures are known, and what a probe of this run saw of them.
        self.state = resumed(charter, model, journal.plan.seed, progress.state)
        self.evaluated = progress.evaluated
        self._figures: dict[str, MetricValue] = {}
        # Where the charter allows audits: the direction of the job, and the audit under way.
        self._auditing: Auditing | None = None
        if isinstance(self.state, ModelState):
            self._auditing = Auditing.of(charter, self.state.weights, progress.state)

    # --- a job ----------------------------------------------------------------------------------

    def start(
        self,
        grid: Grid,
        initial_arrays: ArrayRecord | None = None,
        num_rounds: int | None = None,
        timeout: float | None = None,
        train_config: ConfigRecord | None = None,
        evaluate_config: ConfigRecord | None = None,
        evaluate_fn: Callable[[int, ArrayRecord], MetricRecord | None] | None = None,
    ) -> Result:
        """Run the job to its end, or until it is paused or stopped.

        Rounds, deadlines and the model come from the job's plan and the charter, which the members
        signed; Flower's arguments are accepted where they agree with it and refused otherwise.
        """
        plan = self.journal.plan
        if num_rounds not in (None, plan.rounds):
            raise HansaError(f"the job's plan has {plan.rounds} rounds; it cannot be run for {num_rounds}")
        self.summary()
        self.connect(grid)
        result = Result()
        try:
            self.prepare()
            while self.state.round < plan.rounds:
                self.train_round()
            self.evaluate_final()
            self.close()
        except JobInterrupted as interruption:
            log.info("%s", interruption)
        result.arrays = self.array_record()
        return result

    def connect(self, grid: Grid) -> None:
        """Take the grid this run talks through."""
        run = Run.over(grid, self._desk, self.journal, self.model.parameters)
        self._phases = Phases.of(run, sleep=self._sleep, gather_s=self._gather_s, randomness=self._randomness)
        self.journal.set_status("running")

    def prepare(self) -> None:
        """Release 0, where the plan has one: the contract check, once in a job's life."""
        while self.journal.plan.check and not self.state.prepared:
            attempt = self.open("statistics", self.select())
            self.gather_uploads(attempt)
            self.unmask(attempt)
            if shortfall := attempt.shortfall():
                self.fail(attempt, shortfall)
                continue
            sums, noise = attempt.decoded(STATISTICS), attempt.noise_sd(STATISTICS)
            found = prepared_state(sums, noise, self.charter, self.journal.plan.seed)
            blind = self.charter.protection.blind
            state = BlindState.start(found.preparation) if blind else found
            self.journal.commit(attempt.result("evaluated", round_number=None), state.arrays())
            self.state, self._failures = state, 0
            self.journal.event("contract-check", check_sentence(found, self.charter))

    def train_round(self) -> AttemptResult:
        """One attempt: select, train, unmask, apply. Becomes a round when its sum was applied."""
        now_about(round=self.state.round + 1, attempt=None)
        selection = self.select()
        attempt = self.open("train", selection)
        now_about(attempt=attempt.order.attempt)
        self.gather_uploads(attempt)
        self.unmask(attempt)
        # Where a job has its rate tuned, the sum says how the last step went, and members try this one.
        followed = self._following.said(attempt, self.journal)
        if followed is not None and followed.factor < 1.0:
            return self._take_back(attempt, followed)
        return self.probe(attempt) or self.apply(attempt, followed)

    def evaluate_final(self) -> None:
        """Have the final model evaluated, so that its figures are known too."""
        while not self.evaluated:
            attempt = self.open("evaluate", self.select())
            self.gather_uploads(attempt)
            self.unmask(attempt)
            if shortfall := attempt.shortfall():
                self.fail(attempt, shortfall)
                continue
            self.journal.commit(attempt.result("evaluated", round_number=None), None)
            self.evaluated, self._failures = True, 0

    def close(self) -> None:
        """Tell the members, who keep the final model, and write that the job is finished."""
        close_job(self.phases.run, self.state)

    # --- select, train, unmask ------------------------------------------------------------------

    def select(self) -> Selection:
        """The next cohort. Waits while there are too few members, and says for whom."""
        return self.phases.select(self.state)

    def open(self, kind: AttemptKind, selection: Selection, tried: Tried | None = None) -> Attempt:
        """Take an attempt number, durably, and write the signed request.

        Parameters
        ----------
        tried : what a probe is about
        """
        evaluated = self.evaluated
        return self.phases.ordering.open(kind, selection, self.state, evaluated=evaluated, tried=tried)

    def gather_uploads(self, attempt: Attempt) -> None:
        """Send the order and add each upload as it comes, until all came or the deadline passed."""
        self.phases.uploads.gather(attempt)

    def note_uploads(self, attempt: Attempt) -> None:
        """Write down what the answers say, once nobody is waited for any more, however they came."""
        self.phases.uploads.note(attempt)

    def unmask(self, attempt: Attempt) -> None:
        """Have the members agree on who answered where somebody did not; then have them open the masks."""
        self.phases.unmasking.unmask(attempt)

    # --- apply ----------------------------------------------------------------------------------

    def apply(self, attempt: Attempt, followed: Choice | None = None) -> AttemptResult:
        """Turn the sum into the next state, and write it down before anything builds on it.

        Parameters
        ----------
        followed : the rate from this step on, as the sum has it
        """
        if shortfall := attempt.shortfall():
            return self.fail(attempt, shortfall)
        factor = 1.0 if followed is None else followed.value / attempt.order.knobs[RATE]
        new = self._next_state(attempt, factor)
        if new is None:
            return self.fail(attempt, attempt.failure)
        step = self._step(attempt, new)
        if followed is None or factor == 1.0:
            self.journal.commit(step.result, step.arrays())
        else:
            decision = step_decision(step.result, followed, attempt.order.knobs)
            self.journal.adopt(step.result, None, step.arrays(), decision)
        self._following.remember(attempt, self.state, new, factor)
        return self._take(step, None)

    def probe(self, attempt: Attempt) -> AttemptResult | None:
        """Have members try several lengths of the step, and take one or none of them; None where nothing was tried.

        Training does not hang on it: a probe that comes to nothing leaves the step as it is.
        """
        question, number = self._probes.question(attempt, self.state, self.journal), self.state.round + 1
        if question is None:
            return None
        # Nobody is waited for: the step that is to be tried is paid.
        run = self.phases.run
        run.refresh(self.state)
        selection = run.roster.select(self.journal.held())
        if selection.shortfall or self._probes.rests(number):
            return None
        probe = self.open("evaluate", selection, question.tried)
        self.gather_uploads(probe)
        self.unmask(probe)
        if shortfall := probe.shortfall():
            self._probes.failed(probe, shortfall, number, self.journal)
            # Whoever did not answer is greeted: in mode `he` members apply the step.
            run.refresh(self.state, prekeys=False)
            return None
        found = found_by(probe, question, attempt.metrics() or self._figures)
        new = self._next_state(attempt, found.factor)
        if new is None:
            self.journal.commit(found.evaluated, None)
            return self.fail(attempt, attempt.failure)
        step = self._step(attempt, new)
        self.journal.adopt(step.result, found.result, step.arrays(), found.decision(step.result))
        self._following.remember(attempt, self.state, new, found.factor)
        return self._take(step, found.figures)

    def _take_back(self, attempt: Attempt, choice: Choice) -> AttemptResult:
        """The last step led too far: a round in which part of it is taken back. This sum belongs to where it led."""
        step = self._step(attempt, self._following.taken_back(self.state, choice, attempt.plan))
        decision = step_decision(step.result, choice, attempt.order.knobs)
        self.journal.adopt(step.result, None, step.arrays(), decision)
        self._following.forget()
        return self._take(step, None)

    def _next_state(self, attempt: Attempt, factor: float) -> State | None:
        """What the sum makes of the state; None with `attempt.failure`. Interrupts a job that can lead to nothing."""
        roster = self.roster
        new = next_state(attempt, self.state, roster, factor)
        if reason := spoilt(attempt, roster):
            self.fail(attempt, attempt.failure)
            interrupt(self.journal, "paused", reason)
        return new

    def _step(self, attempt: Attempt, new: State) -> Step:
        return Step.of(attempt, self.state, new, self._auditing, self.journal)

    def _take(self, step: Step, figures: Mapping[str, MetricValue] | None) -> AttemptResult:
        """The new state; `figures` are what noise lets see of it, None where it was not evaluated."""
        self.state, self.evaluated, self._failures = step.state, figures is not None, 0
        self._auditing, self._figures = step.auditing, dict(figures or {})
        log.info(
            "round %d of %d: %d members, %.2f s",
            self.state.round,
            self.journal.plan.rounds,
            len(step.result.active),
            step.result.seconds,
        )
        return step.result

    def fail(self, attempt: Attempt, reason: str) -> AttemptResult:
        """Write that an attempt came to nothing; after too many in a row the job pauses."""
        result = attempt.result("failed", round_number=None, reason=reason)
        self.journal.commit(result, None)
        self._failures += 1
        log.warning("attempt %d came to nothing: %s", attempt.order.attempt, reason)
        if self._failures >= FAILURES_IN_A_ROW:
            reason = f"{self._failures} attempts in a row came to nothing; the last: {reason}"
            interrupt(self.journal, "paused", reason)
        return result

    # --- what is seen of it ---------------------------------------------------------------------

    def summary(self) -> None:
        """Log what this job sets out to do."""
        announce(self.journal.plan, self.charter, self.state.round)

    def array_record(self) -> ArrayRecord:
        if isinstance(self.state, BlindState):
            return ArrayRecord()
        return ArrayRecord(list(released(self.state, self.charter).values()))

    @property
    def connected(self) -> bool:
        """Whether this run has its grid."""
        return self._phases is not None

    @property
    def phases(self) -> Phases:
        """What this run selects, trains and unmasks with."""
        if self._phases is None:
            raise HansaError("the strategy has no grid yet; call start or connect")
        return self._phases

    @property
    def roster(self) -> Roster:
        """Who is connected in this run."""
        return self.phases.run.roster
