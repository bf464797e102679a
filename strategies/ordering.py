"""Train, its first half: take an attempt number, durably, and write the signed order."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa.contract.jobs import AttemptKind
from hansa.contract.messages import PREKEYS, Order, TrainRequest
from hansa.contract.segments import PREPARATION, segment_specs
from hansa.contract.wire import describe
from hansa.secagg.prekeys import Prekey
from hansa.strategies.apply import ModelState
from hansa.strategies.attempt import Attempt
from hansa.strategies.blind_state import BlindState
from hansa.strategies.cohort_noise import order_noise
from hansa.strategies.groups import split
from hansa.strategies.probing import Tried
from hansa.strategies.run import Run
from hansa.strategies.selection import Selection
from hansa.strategies.states import State


class Ordering:
    """Orders of one run.

    Parameters
    ----------
    randomness : splits the cohort where the charter has groups
    """

    def __init__(self, run: Run, randomness: Random) -> None:
        self._run = run
        self._randomness = randomness
        # Attempts of this run.
        self.opened = 0

    def open(
        self, kind: AttemptKind, selection: Selection, state: State, *, evaluated: bool, tried: Tried | None
    ) -> Attempt:
        """Take an attempt number, durably, and write the signed request.

        Parameters
        ----------
        evaluated : whether the figures of this state are known
        tried : what a probe is about
        """
        run, plan = self._run, self._run.plan
        evaluate = kind == "evaluate" or (
            kind == "train" and not evaluated and state.round % plan.evaluate_every == 0
        )
        knobs = run.journal.knobs()
        segments = _model(kind, state, tried, evaluate=evaluate)
        prekeys = run.roster.take(selection)
        if prekeys:
            segments[PREKEYS] = _joined(prekeys, selection)
        headers = describe(segments)
        self.opened += 1
        number = run.journal.open_attempt(
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
            groups=split(selection.cohort, run.charter, self._randomness),
            left_out=dict(selection.left_out),
            knobs=knobs,
            noise=order_noise(selection.noise, kind, evaluate),
            evaluate=evaluate,
            probes=0 if tried is None else tried.attempt.order.attempt,
            factors=() if tried is None else tried.factors,
            epoch=0 if run.roster.custody is None else run.roster.custody.epoch,
            state=state.tag if isinstance(state, BlindState) else "",
            arrays={header.name: header.sha256 for header in headers},
        )
        finished = run.finishes.to_show(order.cohort)
        body = TrainRequest(order=order, pending=None if tried is None else tried.pending, finished=finished)
        request = run.desk.write(plan.job, body, segments, headers)
        addresses = run.roster.addresses
        return Attempt(
            desk=run.desk,
            plan=plan,
            order=order,
            request=request,
            specs=segment_specs(run.charter, plan, order, run.parameters),
            addresses={name: addresses[name] for name in order.cohort},
            prekeys=prekeys,
            restock=run.roster.restock,
            noise={name: run.roster.noise[name] for name in order.cohort},
            finished=finished,
        )


def _model(
    kind: AttemptKind, state: State, tried: Tried | None, *, evaluate: bool
) -> dict[str, NDArray[Any]]:
    """What an order brings of the state; in mode `he` the members have it."""
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
    return segments


def _joined(prekeys: Mapping[str, Prekey], selection: Selection) -> NDArray[np.uint8]:
    encoded = b"".join(prekeys[name].encoded for name in selection.cohort)
    return np.frombuffer(encoded, dtype=np.uint8)
