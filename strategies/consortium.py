"""A round, in order: select, train, unmask, apply.

`ConsortiumStrategy` is a Flower `Strategy`. `start` runs a whole job: it resumes from the
journal's last state, opens attempts, sums what the members send, and writes every round to the
journal before it goes on. Flower's four hooks are the same phases, for whoever drives a round
through `grid.send_and_receive` instead.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from random import Random, SystemRandom
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Result
from numpy.typing import NDArray

from hansa.contract.charter import Charter
from hansa.contract.decisions import Decision
from hansa.contract.errors import HansaError, MessageError
from hansa.contract.jobs import AttemptKind, AttemptResult, JobStatus, MetricValue
from hansa.contract.logs import now_about
from hansa.contract.messages import PREKEYS, CloseReply, CloseRequest, Order, RefusalReply, TrainRequest
from hansa.contract.plan import check_mechanism, check_rule
from hansa.contract.segments import EVALUATION, LARGEST_WEIGHT, PREPARATION, STATISTICS, UPDATE, segment_specs
from hansa.contract.typed import clipped
from hansa.contract.wire import describe, digest
from hansa.models.model import Model
from hansa.models.scores import figures as released_figures
from hansa.strategies.apply import ModelState, apply, squared_length, usable
from hansa.strategies.attempt import Attempt
from hansa.strategies.auditing import Auditing, audit_decision
from hansa.strategies.blind_state import BlindState
from hansa.strategies.cohort_noise import UNPAID, order_noise
from hansa.strategies.complaints import Complaints
from hansa.strategies.contract_check import check_sentence, prepared_state, released
from hansa.strategies.exchange import Exchange, ExchangeError
from hansa.strategies.finishes import Finishes
from hansa.strategies.flower_hooks import FlowerHooks
from hansa.strategies.following import LastStep, step_decision
from hansa.strategies.groups import split
from hansa.strategies.journal_laws import wanted_sentence
from hansa.strategies.moments import solved_state
from hansa.strategies.ports import Journal, Operator, Wanted
from hansa.strategies.probing import (
    RATE,
    Tried,
    base_trial,
    factors,
    nearest,
    probe_decision,
    rate_knob,
    trials,
    tries,
)
from hansa.strategies.requests import NO_SEGMENTS, Desk
from hansa.strategies.roster import Roster
from hansa.strategies.selection import Selection
from hansa.strategies.stepping import Choice, choose
from hansa.strategies.unmasking import UnmaskPhase

log = logging.getLogger("hansa.strategy")

# How long a job waits for members beyond its minimum cohort before the first attempt.
GATHER_S = 15.0
# How long it waits for the minimum cohort before it says so again.
REMIND_S = 30.0
LOOK_AGAIN_S = 0.5
# Rounds without a probe after one that came to nothing.
PROBE_REST = 10
# Attempts in a row that come to nothing before the job pauses with the reason.
FAILURES_IN_A_ROW = 5


class JobInterrupted(Exception):
    """The job was paused or stopped; the journal says which and why."""


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
        self.charter = charter
        self.model = model
        self.journal = journal
        self._desk = Desk(charter, charter_hash, operator)
        self._sleep = sleep
        self._gather_s = gather_s
        self._randomness = randomness or SystemRandom()
        self._complaints = Complaints(charter)
        self._forks = Complaints(charter, "the ledger of {} forked")
        self._finishes = Finishes(journal, self._desk.parties)
        self._exchange: Exchange | None = None
        self._roster: Roster | None = None
        self._gathered = False
        # Attempts of this run.
        self._opened = 0
        self._failures = 0
        super().__init__()
        progress = journal.progress()
        self.evaluated = progress.evaluated
        # Before this round no step is probed: a probe came to nothing.
        self._probe_again = 0
        # Where a job has its steps followed: the last one of this run.
        self._last: LastStep | None = None
        # Figures of the current model, where a probe of this run found them.
        self._figures: dict[str, MetricValue] = {}
        # What the next attempt starts from. In mode `he` the members hold the model, the server what they sealed.
        self.state: ModelState | BlindState
        if charter.protection.blind:
            self.state = (
                BlindState.start() if progress.state is None else BlindState.from_arrays(progress.state)
            )
        elif progress.state is not None:
            self.state = ModelState.from_arrays(progress.state)
        else:
            self.state = ModelState.start(model.initial(journal.plan.seed))
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
        self._exchange = Exchange(grid)
        self._roster = Roster(self._desk, self._exchange, self.journal, parameters=self.model.parameters)
        self.journal.set_status("running")

    def prepare(self) -> None:
        """Release 0, where the plan has one: the contract check, once in a job's life."""
        while self.journal.plan.check and not self.state.prepared:
            attempt = self.open("statistics", self.select())
            self.gather_uploads(attempt)
            self.unmask(attempt)
            shortfall = attempt.shortfall()
            if shortfall:
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
        followed = self._followed(attempt)
        if followed is not None and followed.factor < 1.0:
            return self._take_back(attempt, followed)
        return self.probe(attempt) or self.apply(attempt, followed)

    # --- select ---------------------------------------------------------------------------------

    def select(self) -> Selection:
        """The next cohort. Waits while there are too few members, and says for whom."""
        began, reminded, said = time.monotonic(), -REMIND_S, ""
        while True:
            self._obey()
            self._refresh()
            held = self.journal.held()
            aside = self._complaints.aside(self._opened) | self._forks.aside(self._opened)
            selection = self.roster.select(held, aside)
            if selection.shortfall:
                # Rounds that need everybody are not stopped by two that disagree.
                selection = self.roster.select(held)
            if selection.shortfall:
                self._pause_for_budgets(selection)
            waited = time.monotonic() - began
            if not selection.shortfall and (
                self._gathered or not selection.hopeful or waited >= self._gather_s
            ):
                self._gathered = True
                if said:
                    self.journal.set_status("running")
                return selection
            names = ", ".join(selection.hopeful)
            sentence = selection.shortfall or f"waiting up to {self._gather_s:g} s for {names}"
            if sentence != said:
                log.log(logging.WARNING if selection.shortfall else logging.INFO, "%s", sentence)
                self.journal.set_status("running", sentence)
            if sentence != said or waited - reminded >= REMIND_S:
                said, reminded = sentence, waited
                self.journal.event("waiting", sentence)
            self._sleep(LOOK_AGAIN_S)

    def _refresh(self, *, prekeys: bool = True) -> None:
        if self.roster.custody is not None and isinstance(self.state, BlindState):
            self.roster.custody.state = self.state
        self.roster.refresh(prekeys=prekeys)

    def _pause_for_budgets(self, selection: Selection) -> None:
        """Wait for nobody where those whose budget does not pay are too many for a cohort: people must act."""
        unpaid, charter = self.roster.unpaid, self.charter
        others = charter.controllers(it.name for it in charter.members if it.name not in unpaid)
        if unpaid and len(others) < charter.minimum_cohort:
            said: dict[str, list[str]] = {}
            for name in sorted(unpaid):
                said.setdefault(unpaid[name], []).append(name)
            reasons = "; ".join(f"{', '.join(who)}: {sentence}" for sentence, who in said.items())
            self._interrupt(
                "paused",
                clipped(
                    f"the budgets of {len(unpaid)} members do not pay for it, and a cohort needs at least "
                    f"{charter.minimum_cohort} of {len(charter.members)} members: {reasons}"
                ),
            )

    # --- train ----------------------------------------------------------------------------------

    def open(self, kind: AttemptKind, selection: Selection, tried: Tried | None = None) -> Attempt:
        """Take an attempt number, durably, and write the signed request.

        Parameters
        ----------
        tried : what a probe is about
        """
        plan, state = self.journal.plan, self.state
        evaluate = kind == "evaluate" or (
            kind == "train" and not self.evaluated and state.round % plan.evaluate_every == 0
        )
        knobs = self.journal.knobs()
        segments: dict[str, NDArray[Any]] = {}
        if kind == "train" and isinstance(state, ModelState):
            segments["weights"] = state.weights
        if tried is not None:
            segments |= tried.segments
        elif isinstance(state, ModelState) and (
            kind == "evaluate" or (evaluate and state.released is not state.weights)
        ):
            segments["released"] = state.released
        if kind != "statistics" and state.prepared:
            segments[PREPARATION] = state.preparation
        prekeys = self.roster.take(selection)
        if prekeys:
            encoded = b"".join(prekeys[name].encoded for name in selection.cohort)
            segments[PREKEYS] = np.frombuffer(encoded, dtype=np.uint8)
        headers = describe(segments)
        self._opened += 1
        number = self.journal.open_attempt(
            kind,
            base=state.round,
            cohort=selection.cohort,
            left_out=selection.left_out,
            knobs=knobs,
            tries=None if tried is None else tried.attempt.result("summed", round_number=None),
        )
        order = Order(
            job=plan.job,
            attempt=number,
            kind=kind,
            base=state.round,
            cohort=selection.cohort,
            prekeys=dict(selection.prekeys),
            groups=split(selection.cohort, self.charter, self._randomness),
            left_out=dict(selection.left_out),
            knobs=knobs,
            noise=order_noise(selection.noise, kind, evaluate),
            evaluate=evaluate,
            probes=0 if tried is None else tried.attempt.order.attempt,
            factors=() if tried is None else tried.factors,
            epoch=0 if self.roster.custody is None else self.roster.custody.epoch,
            state=state.tag if isinstance(state, BlindState) else "",
            arrays={header.name: header.sha256 for header in headers},
        )
        finished = self._finishes.to_show(order.cohort)
        body = TrainRequest(order=order, pending=None if tried is None else tried.pending, finished=finished)
        request = self._desk.write(plan.job, body, segments, headers)
        addresses = self.roster.addresses
        return Attempt(
            desk=self._desk,
            plan=plan,
            order=order,
            request=request,
            specs=segment_specs(self.charter, plan, order, self.model.parameters),
            addresses={name: addresses[name] for name in order.cohort},
            prekeys=prekeys,
            restock=self.roster.restock,
            noise={name: self.roster.noise[name] for name in order.cohort},
            finished=finished,
        )

    def gather_uploads(self, attempt: Attempt) -> None:
        """Send the order and add each upload as it comes, until all came or the deadline passed."""
        plan = attempt.plan
        for node, answer in self.exchange.ask(attempt.requests, plan.deadline_s, plan.reask_s):
            attempt.receive(node, answer)
            # The next reply is made when this one is gone.
            del answer
        self.note_uploads(attempt)

    def note_uploads(self, attempt: Attempt) -> None:
        """Write down what the answers say, once nobody is waited for any more, however they came."""
        attempt.drop_request()
        self.roster.took_part(attempt.active)
        order = attempt.order
        self._finishes.shown(order.attempt, attempt.finished, attempt.active)
        for name, sentence in self.journal.receipts(order.attempt, order.digest, attempt.receipts).items():
            self.roster.blame(name, sentence)
        self._note_lost(attempt)

    def _note_lost(self, attempt: Attempt) -> None:
        """Greet anew whoever did not answer; say whose budget does not pay, and who complained of whose prekeys."""
        for name in attempt.lost:
            self.roster.forget(name)
        for name, (code, sentence) in attempt.refusals.items():
            if code == "noise-below-floor":
                self.roster.ask_anew(name)
            elif code in UNPAID:
                self.roster.not_paid(name, code, sentence)
        for complainer, maker in attempt.complaints.items():
            sentence = f"{complainer} says that the prekey of {maker} is badly made"
            self.journal.event("bad-share", sentence, member=complainer)
            self.journal.event("bad-share", sentence, member=maker)
            guilty = self._complaints.hear(complainer, maker)
            if guilty == maker:
                self.roster.blame(maker, "more members than may collude say that its prekeys are badly made")
            elif guilty:
                self.roster.blame(
                    complainer, "it calls the prekeys of more members badly made than may collude"
                )

        for accuser, accused in attempt.forks.items():
            guilty = self._forks.hear(accuser, accused)
            if guilty == accused:
                self.roster.blame(accused, "more members than may collude saw that its ledger forked")
            elif guilty:
                self.roster.blame(
                    accuser, "it says of more members than may collude that their ledgers forked"
                )

    # --- unmask ---------------------------------------------------------------------------------

    def unmask(self, attempt: Attempt) -> None:
        """Have the members agree on who answered where somebody did not; then have them open the masks.

        When every upload arrived nothing needs to be agreed on (PROTOCOL 4.3). In mode `clear` there
        is no mask to take off. An attempt that gets no further says so in `attempt.shortfall()`.
        """
        phase = UnmaskPhase(self._desk, self.exchange, self.roster, self.journal, self._finishes)
        signatures: dict[str, str] = {}
        if attempt.dropped and not attempt.shortfall():
            signatures = phase.agree(attempt)
        if attempt.prekeys and not attempt.shortfall():
            phase.take_off(attempt, signatures)
        elif self._finishes.needed and not attempt.shortfall():
            phase.finish(attempt, signatures)

    # --- probe ----------------------------------------------------------------------------------

    def probe(self, attempt: Attempt) -> AttemptResult | None:
        """Have members try several lengths of the step, and take one or none of them; None where nothing was tried.

        Training does not hang on it: a probe that comes to nothing leaves the step as it is.
        """
        plan, state, knobs = self.journal.plan, self.state, attempt.order.knobs
        if plan.tuning != "probe" or attempt.shortfall() or self.journal.wanted() != "run":
            return None
        number, asked = state.round + 1, self.journal.probe_wanted()
        blind = self.charter.protection.blind
        chosen = factors(plan, self.charter, knobs, number, asked=asked, blind=blind)
        tried = tries(attempt, state, chosen, plan) if chosen else None
        knob = rate_knob(plan, self.charter, knobs)
        if tried is None or knob is None or knob.name in self.journal.pinned():
            return None
        # Nobody is waited for: the step that is to be tried is paid.
        self._refresh()
        selection = self.roster.select(self.journal.held())
        if selection.shortfall or self._probe_again > number:
            return None
        probe = self.open("evaluate", selection, tried)
        self.gather_uploads(probe)
        self.unmask(probe)
        if shortfall := probe.shortfall():
            self._probe_failed(probe, shortfall, number)
            return None
        sums, noise_sd = probe.tried_sums(), probe.noise_sd(EVALUATION)
        features = self.charter.task.features
        calibrate = self.charter.metrics.calibration
        figures = [released_figures(features, it, noise_sd=noise_sd, calibrate=calibrate) for it in sums]
        found = trials(chosen, figures, list(sums), noise_sd, self.charter)
        before = attempt.metrics() or self._figures
        base = base_trial(before)
        choice = choose(found, base=base, knob=knob, rule=plan.rule)
        # A step that is dropped is a round all the same: it is paid, and the plan has so many.
        factor = nearest(choice.factor, chosen) if choice.factor else 0.0
        evaluated = probe.result("evaluated", round_number=None)
        new = self._next_state(attempt, factor)
        if new is None:
            self.journal.commit(evaluated, None)
            return self.fail(attempt, attempt.failure)
        found_figures = figures[chosen.index(factor)] if factor else before
        evaluated = evaluated.model_copy(update={"metrics": found_figures})
        result = self._applied(attempt, new)
        auditing = self._audited(attempt)
        arrays = self._arrays(new, auditing)
        self.journal.adopt(result, evaluated, arrays, probe_decision(result, evaluated, choice, found, base))
        self._auditing = auditing
        self._remember(attempt, new, factor)
        self._take(new, result, found_figures)
        return result

    def _probe_failed(self, probe: Attempt, reason: str, number: int) -> None:
        """The step is taken as it is; those that answered have paid, so that no other one is probed for a while."""
        self.journal.commit(probe.result("failed", round_number=None, reason=reason), None)
        attempt, self._probe_again = probe.order.attempt, number + PROBE_REST
        sentence = clipped(f"the probe came to nothing, and the step is taken as it is: {reason}")
        self.journal.decide(
            Decision(key=f"probe {attempt}", by="probe", round=probe.order.base, sentence=sentence)
        )
        # Whoever did not answer is greeted: in mode `he` members apply the step.
        self._refresh(prekeys=False)

    # --- follow ---------------------------------------------------------------------------------

    def _followed(self, attempt: Attempt) -> Choice | None:
        """What this attempt's sum says about the last step; None where nothing is followed."""
        plan, knobs = self.journal.plan, attempt.order.knobs
        if plan.tuning != "probe" or self._last is None or attempt.shortfall():
            return None
        knob = rate_knob(plan, self.charter, knobs)
        if knob is None or knob.pinned or knob.value <= 0 or knob.name in self.journal.pinned():
            return None
        return self._last.followed(attempt, plan, knob)

    def _take_back(self, attempt: Attempt, choice: Choice) -> AttemptResult:
        """The last step led too far: a round in which part of it is taken back. This sum belongs to where it led."""
        assert self._last is not None
        assert isinstance(self.state, ModelState)
        new = self._last.taken_back(self.state, choice.factor, self.journal.plan)
        result, auditing = self._applied(attempt, new), self._audited(attempt)
        decision = step_decision(result, choice, attempt.order.knobs)
        self.journal.adopt(result, None, self._arrays(new, auditing), decision)
        self._auditing, self._last = auditing, None
        self._take(new, result, None)
        return result

    def _remember(self, attempt: Attempt, new: ModelState | BlindState, factor: float) -> None:
        """The step that is about to be the last one."""
        self._last = None
        if factor and isinstance(new, ModelState) and isinstance(self.state, ModelState) and self._follows:
            rate = factor * attempt.order.knobs.get(RATE, 1.0)
            self._last = LastStep.of(self.state, new, attempt, rate)

    @property
    def _follows(self) -> bool:
        return self.journal.plan.tuning == "probe" and self.charter.training.mechanism != "moments"

    # --- apply ----------------------------------------------------------------------------------

    def apply(self, attempt: Attempt, followed: Choice | None = None) -> AttemptResult:
        """Turn the sum into the next state, and write it down before anything builds on it.

        Parameters
        ----------
        followed : the rate from this step on, as the sum has it
        """
        shortfall = attempt.shortfall()
        if shortfall:
            return self.fail(attempt, shortfall)
        factor = 1.0 if followed is None else followed.value / attempt.order.knobs[RATE]
        state = self._next_state(attempt, factor)
        if state is None:
            return self.fail(attempt, attempt.failure)
        result = self._applied(attempt, state)
        auditing = self._audited(attempt)
        if followed is None or factor == 1.0:
            self.journal.commit(result, self._arrays(state, auditing))
        else:
            decision = step_decision(result, followed, attempt.order.knobs)
            self.journal.adopt(result, None, self._arrays(state, auditing), decision)
        self._auditing = auditing
        self._remember(attempt, state, factor)
        self._take(state, result, None)
        return result

    def _arrays(self, state: ModelState | BlindState, auditing: Auditing | None) -> dict[str, NDArray[Any]]:
        return {**state.arrays(), **({} if auditing is None else auditing.arrays())}

    def _audited(self, attempt: Attempt) -> Auditing | None:
        """What this attempt's groups say; whom an audit names is written down with the evidence."""
        auditing, state = self._auditing, self.state
        if auditing is None or not isinstance(state, ModelState):
            return None
        asked = self.journal.audited()
        auditing, named = auditing.after(attempt, self.journal.plan, state.weights, asked)
        if named is not None and asked is not None:
            found = audit_decision(named, asked[0], state.round + 1)
            if self.journal.decide(found):
                log.warning("%s", found.sentence)
        return auditing

    def _applied(self, attempt: Attempt, new: ModelState | BlindState) -> AttemptResult:
        result, before = attempt.result("applied", round_number=new.round), self.state
        if isinstance(new, BlindState) or isinstance(before, BlindState):
            return result.model_copy(update={"tag": new.tag if isinstance(new, BlindState) else ""})
        # Functions of the sum, which the server has: they tell nothing new.
        step = float(np.linalg.norm(new.weights - before.weights))
        slope = None
        if self.charter.training.mechanism != "moments":
            slope = squared_length(attempt.mean_update(), attempt.mean_noise())
        return result.model_copy(update={"step": step, "slope": slope})

    def _take(
        self,
        state: ModelState | BlindState,
        result: AttemptResult,
        figures: Mapping[str, MetricValue] | None,
    ) -> None:
        """The new state; `figures` are what noise lets see of it, None where it was not evaluated."""
        self.state, self.evaluated, self._failures = state, figures is not None, 0
        self._figures = dict(figures or {})
        log.info(
            "round %d of %d: %d members, %.2f s",
            state.round,
            self.journal.plan.rounds,
            len(result.active),
            result.seconds,
        )

    def _next_state(self, attempt: Attempt, factor: float = 1.0) -> ModelState | BlindState | None:
        """What the sum makes of the state: computed here, or by all members alike; None with `attempt.failure`.

        Parameters
        ----------
        factor : by what the step is multiplied; 0 drops it
        """
        plan, state = attempt.plan, self.state
        if isinstance(state, BlindState):
            assert self.roster.custody is not None
            found = self.roster.custody.apply(attempt, self.roster.willing, factor)
            if attempt.diverged or self.roster.custody.spoilt:
                self.fail(attempt, attempt.failure)
                reason = self.roster.custody.spoilt or f"the members' models differ: {attempt.failure}"
                self._interrupt("paused", clipped(reason))
            return found
        if self.charter.training.mechanism == "moments":
            new = solved_state(state, attempt.decoded(UPDATE), attempt.noise_sd(UPDATE), self.charter)
        else:
            rate, noise = factor * attempt.order.knobs.get(RATE, 1.0), attempt.mean_noise()
            new = apply(state, attempt.mean_update(), plan.rule, rate, plan.rounds, noise=noise)
        if not usable(new):
            values = f"values that are not finite, or beyond {LARGEST_WEIGHT:g}"
            attempt.failure = f"the new model has {values}; the one before it stays"
            return None
        return new

    def fail(self, attempt: Attempt, reason: str) -> AttemptResult:
        result = attempt.result("failed", round_number=None, reason=reason)
        self.journal.commit(result, None)
        self._failures += 1
        log.warning("attempt %d came to nothing: %s", attempt.order.attempt, reason)
        if self._failures >= FAILURES_IN_A_ROW:
            self._interrupt(
                "paused", f"{self._failures} attempts in a row came to nothing; the last: {reason}"
            )
        return result

    # --- the end of a job -----------------------------------------------------------------------

    def evaluate_final(self) -> None:
        """Have the final model evaluated, so that its figures are known too."""
        while not self.evaluated:
            attempt = self.open("evaluate", self.select())
            self.gather_uploads(attempt)
            self.unmask(attempt)
            shortfall = attempt.shortfall()
            if shortfall:
                self.fail(attempt, shortfall)
                continue
            self.journal.commit(attempt.result("evaluated", round_number=None), None)
            self.evaluated, self._failures = True, 0

    def close(self) -> None:
        """Tell the members, who keep the final model, and write that the job is finished."""
        plan = self.journal.plan
        # A run that only has this left to do knows nobody yet.
        self._refresh(prekeys=False)
        close, segments = CloseRequest(job=plan.job, rounds=self.state.round), NO_SEGMENTS
        if isinstance(self.state, BlindState):
            close = close.model_copy(update={"state": self.state.tag})
        else:
            segments = released(self.state, self.charter)
        request = self._desk.write(plan.job, close, segments)
        nodes, asked = dict.fromkeys(self.roster.addresses.values(), request), digest(request)
        kept = sum(
            self._keeps(answer, asked)
            for _, answer in self.exchange.ask(nodes, min(plan.deadline_s, 20.0), plan.reask_s)
        )
        self.journal.event("closed", f"{kept} of {len(nodes)} members keep the final model")
        # Last of all: a run that dies before this line is followed by one that closes again.
        self.journal.set_status("finished")

    def _keeps(self, answer: bytes | ExchangeError, asked: str) -> bool:
        """Whether a member took the end of the job; why it refused is an event."""
        if isinstance(answer, ExchangeError):
            return False
        try:
            header = self._desk.read(answer, asked).header
        except MessageError as error:
            self.journal.event("bad-reply", str(error))
            return False
        if isinstance(header.body, RefusalReply):
            self.journal.event(header.body.code, header.body.sentence, member=header.sender)
        return isinstance(header.body, CloseReply)

    def _obey(self) -> None:
        wanted = self.journal.wanted()
        if wanted == "pause":
            self._interrupt("paused", wanted_sentence("paused", *self.journal.wanted_by()), wanted)
        if wanted == "stop":
            self._interrupt("stopped", wanted_sentence("stopped", *self.journal.wanted_by()), wanted)

    def _interrupt(self, status: JobStatus, reason: str, wanted: Wanted | None = None) -> None:
        self.journal.set_status(status, reason, wanted=wanted)
        raise JobInterrupted(f"job {self.journal.plan.job} {status}: {reason}")

    def summary(self) -> None:
        """Log what this job sets out to do."""
        plan, protection = self.journal.plan, self.charter.protection
        log.info(
            "job %s: %d rounds of %s by %s, mode %s, %d members, at least %d in a cohort; starts from round %d",
            plan.job,
            plan.rounds,
            self.charter.task.model.name,
            plan.rule.name,
            protection.mode,
            len(self.charter.members),
            self.charter.minimum_cohort,
            self.state.round,
        )
        if protection.blind:
            log.info("mode he: the model is held by the members; this server sees neither it nor the sums")
        if protection.mode == "clear":
            log.warning("mode clear: the server reads every member's update; for debugging only")

    def array_record(self) -> ArrayRecord:
        if isinstance(self.state, BlindState):
            return ArrayRecord()
        return ArrayRecord(list(released(self.state, self.charter).values()))

    @property
    def connected(self) -> bool:
        """Whether this run has its grid."""
        return self._exchange is not None

    @property
    def exchange(self) -> Exchange:
        """The grid of this run."""
        if self._exchange is None:
            raise HansaError("the strategy has no grid yet; call start or connect")
        return self._exchange

    @property
    def roster(self) -> Roster:
        """Who is connected in this run."""
        if self._roster is None:
            raise HansaError("the strategy has no grid yet; call start or connect")
        return self._roster
