"""A member's part of mode `he`: a job's keys, uploads under the envelope, and sums that it applies by itself.

What the server sends back is the encrypted sum. Each member decrypts it, checks that it is that of the uploads in
it (PROTOCOL section 5, check words), applies it, and says by a tag which model it holds then.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from hansa.clients.attempt_log import AttemptLog
from hansa.clients.blind_states import read_state, state_bytes
from hansa.clients.held import HeldJobs, HeldKeys, HeldState
from hansa.clients.membership import Membership
from hansa.clients.starting import Kept, held_start
from hansa.contract.blind_messages import (
    ENCRYPTED_SUM,
    MOST_WRONG,
    SEALED_KEYS,
    SEALED_STATE,
    ApplyReply,
    ApplyRequest,
    Held,
    KeysReply,
    KeysRequest,
    ReloadRequest,
)
from hansa.contract.errors import RefusalError
from hansa.contract.jobs import JobPlan
from hansa.contract.keys import to_text
from hansa.contract.order import Order
from hansa.contract.segments import (
    CHECK_WORDS,
    PREPARATION,
    STEP,
    UPDATE,
    SegmentSpec,
    divisor,
    segment_specs,
)
from hansa.contract.statistics import preparation_length
from hansa.contract.wire import Segments
from hansa.models.model import Model
from hansa.models.preparation import Preparation, prepared_model
from hansa.secagg.check_words import add_check_words, check_sum
from hansa.secagg.envelope import envelope_bytes
from hansa.secagg.group_key import BadSeal
from hansa.secagg.key_setup import (
    BadBundle,
    JobKeys,
    KeyPlace,
    bundle_bytes,
    keys_agreed,
    keys_signers,
    open_bundle,
    seal_bundle,
)
from hansa.secagg.masks import Masked
from hansa.secagg.parties import Parties
from hansa.strategies.apply import ModelState, apply, tried, usable
from hansa.strategies.blind_state import largest_sealed_state
from hansa.strategies.contract_check import released
from hansa.strategies.grids import grid_of, noise_on

Words = NDArray[np.uint32]
# Jobs whose keys are open in memory.
_OPEN = 4
# What a sealed state is called.
_STATE = "state"


class BlindJobs:
    """Keys and states of this member's jobs; attempts of one job come one at a time.

    Parameters
    ----------
    start : the state of round 0, from the plan and the preparation of the columns
    """

    def __init__(
        self,
        membership: Membership,
        parties: Parties,
        sealing_key: X25519PrivateKey,
        held: HeldJobs,
        *,
        parameters: int,
        start: Callable[[JobPlan, NDArray[np.float64] | None], ModelState],
    ) -> None:
        self._membership = membership
        self._parties = parties
        self._sealing_key = sealing_key
        self._held = held
        self._parameters = parameters
        self._start = start
        self._lock = threading.Lock()
        self._open: dict[bytes, JobKeys] = {}

    @property
    def largest_segments(self) -> int:
        """Bytes of the largest segments of a request: keys, a sum, or a state."""
        return max(
            bundle_bytes(self._parties),
            envelope_bytes(self._parameters + CHECK_WORDS),
            largest_sealed_state(
                self._parameters, preparation_length(self._membership.charter.task.features)
            ),
        )

    def close(self) -> None:
        """Close what lies on the disk."""
        self._held.close()

    def holds(self, job: str) -> Held:
        """What this member holds of a job, for the server."""
        keys, states = self._held.keys(job), self._held.states(job)
        if keys is None:
            return Held()
        newest = states[0] if states else HeldState(0, "", b"")
        return Held(epoch=keys.epoch, maker=keys.maker, ready=keys.ready, round=newest.round, tag=newest.tag)

    # --- keys -----------------------------------------------------------------------------------

    def keys(self, request: KeysRequest, segments: Segments) -> tuple[KeysReply, Segments]:
        """Make keys, open those that came, take t signatures on them, or seal them once more for others.

        Raises
        ------
        RefusalError : `replayed`, keys older than those signed for, or others after an upload under these;
            `unknown-member`; `keys-missing`; or what opening finds wrong
        """
        known, hand_on = self._held.keys(request.job), SEALED_KEYS not in segments
        if request.maker not in self._parties.names:
            raise RefusalError("unknown-member", f"'{request.maker}' is not a member of the charter")
        same = known is not None and (request.epoch, request.maker) == (known.epoch, known.maker)
        if known is not None and same and known.content:
            return self._confirmed(request, known, hand_on=hand_on)
        behind = known is not None and not same and request.epoch <= known.epoch
        if known is not None and (
            (known.used and not same) or (behind and (known.ready or SEALED_KEYS not in segments))
        ):
            raise _replayed(known)
        opened, bundle = self._new_keys(request, segments, made_before=same)
        place = self._place(request.job, request.epoch, request.maker)
        # Whoever was away with keys that came to nothing takes older ones, too, which t members signed.
        if known is not None and behind and not keys_agreed(opened, place, request.signatures):
            raise _replayed(known)
        used = known is not None and known.used
        kept = HeldKeys(request.epoch, request.maker, opened.content, bundle, {}, ready=False, used=used)
        self._held.keep_keys(request.job, kept)
        with self._lock:
            self._remember(place, opened)
        return self._confirmed(request, kept, hand_on=hand_on)

    def _new_keys(
        self, request: KeysRequest, segments: Segments, *, made_before: bool
    ) -> tuple[JobKeys, bytes]:
        """Keys that this member does not have, and their bundle: opened, or made where it is their maker."""
        place, me = self._place(request.job, request.epoch, request.maker), self._membership.name
        if SEALED_KEYS in segments:
            bundle = segments[SEALED_KEYS].tobytes()
            try:
                return open_bundle(bundle, place, me, self._sealing_key, os.urandom), bundle
            except BadBundle as error:
                raise RefusalError("bad-share", str(error), {"maker": request.maker}) from None
        if request.maker != me or made_before:
            raise RefusalError("keys-missing", "this member neither has these keys nor is to make them")
        made = JobKeys.make(request.job, os.urandom)
        return made, seal_bundle(made, place, self._membership.identity, os.urandom)

    def _confirmed(
        self, request: KeysRequest, kept: HeldKeys, *, hand_on: bool
    ) -> tuple[KeysReply, Segments]:
        """Sign the keys, count who else did, and give their bundle to whoever asks for no more than that."""
        job, place = request.job, self._place(request.job, kept.epoch, kept.maker)
        opened = self._opened(job, kept)
        signature = to_text(self._membership.identity.sign(opened.statement(place)))
        # Those that are kept are valid: no others stand in their place.
        shown = {**request.signatures, **kept.signatures, self._membership.name: signature}
        shown = {name: shown[name] for name in keys_signers(opened, place, shown)}
        if (ready := keys_agreed(opened, place, shown)) != kept.ready or shown != kept.signatures:
            kept = replace(kept, signatures=shown, ready=ready)
            self._held.keep_keys(job, kept)
        reply = KeysReply(
            job=job, epoch=kept.epoch, maker=kept.maker, signature=signature, ready=ready, signatures=shown
        )
        # Whoever reads it learns nothing: the keys in it are sealed to each member of the charter.
        bundle = {SEALED_KEYS: np.frombuffer(kept.bundle, dtype=np.uint8)}
        return reply, bundle if hand_on and not request.signatures else {}

    def _place(self, job: str, epoch: int, maker: str) -> KeyPlace:
        return KeyPlace(job, epoch, maker, self._parties)

    def _opened(self, job: str, kept: HeldKeys) -> JobKeys:
        place = self._place(job, kept.epoch, kept.maker)
        with self._lock:
            found = self._open.get(place.encoded)
            if found is None:
                found = JobKeys.load(job, kept.content)
                self._remember(place, found)
            return found

    def _remember(self, place: KeyPlace, keys: JobKeys) -> None:
        self._open[place.encoded] = keys
        while len(self._open) > _OPEN:
            del self._open[next(iter(self._open))]

    def _ready(self, job: str, epoch: int) -> tuple[HeldKeys, JobKeys]:
        kept = self._held.keys(job)
        if kept is None or not kept.ready or kept.epoch != epoch:
            raise RefusalError(
                "keys-missing",
                f"this member was not shown {self._parties.threshold} signatures on keys {epoch} of the job",
                {"epoch": 0 if kept is None else kept.epoch},
            )
        return kept, self._opened(job, kept)

    # --- states ---------------------------------------------------------------------------------

    def state(self, plan: JobPlan, order: Order, segments: Segments) -> ModelState:
        """The state that an order starts from.

        Raises
        ------
        RefusalError : `wrong-state`, this member holds another one; `keys-missing`
        """
        self._ready(plan.job, order.epoch)
        state = self._before(plan, order, segments)
        if not np.array_equal(segments.get(PREPARATION, state.preparation), state.preparation):
            raise RefusalError("wrong-state", "the order brings another preparation than the job began with")
        return state

    def _state(self, job: str, tag: str, number: int) -> ModelState:
        for held in self._held.states(job):
            if held.tag == tag and held.round == number:
                return read_state(held.content, self._parameters)
        newest = self.holds(job)
        raise RefusalError(
            "wrong-state",
            f"this member does not hold the state of round {number} that the others hold",
            {"round": newest.round},
        )

    def model(self, job: str, tag: str, number: int) -> ModelState:
        """A state that this member holds; refused as `state` refuses."""
        return self._state(job, tag, number)

    def released(self, job: str, tag: str, number: int) -> Segments:
        """The model that a job ends with, as a closing request brings it in other modes."""
        return released(self._state(job, tag, number), self._membership.charter)

    # --- an upload ------------------------------------------------------------------------------

    def with_check_words(self, order: Order, words: Words) -> Words:
        """The update and its two check words, to be masked and encrypted together. Shape (d + 2,)."""
        _, keys = self._ready(order.job, order.epoch)
        self._held.use(order.job)
        return add_check_words(words, keys.group, order.attempt, check_label(order), self._membership.name)

    def encrypt(self, order: Order, masked: Masked) -> NDArray[np.uint8]:
        """The masked words under the envelope, as the segment of an upload."""
        _, keys = self._ready(order.job, order.epoch)
        return keys.envelope.encrypt(masked)

    # --- a sum ----------------------------------------------------------------------------------

    def apply(
        self, plan: JobPlan, request: ApplyRequest, segments: Segments, attempts: AttemptLog, asked: str
    ) -> tuple[ApplyReply, Segments]:
        """Decrypt the sum, check it, apply it, keep the new state, say its tag.

        Parameters
        ----------
        asked : hash of the request's bytes

        Raises
        ------
        RefusalError : `wrong-state`, `keys-missing`; `bad-sum`, the same for every cause
        """
        order, job = request.order, plan.job
        total = self._opened_sum(plan, request, segments, attempts)
        if total is None:
            raise self._wrong_sum(order, attempts, asked)
        keys, state, mean = total
        rate = order.knobs.get("server_rate", 1.0) * request.factor
        new = apply(state, mean, plan.rule, rate, plan.rounds, noise=request.noise)
        if not usable(new):
            raise RefusalError(
                "training-failed", "the new model has values that are not finite, or too large"
            )
        return self._keep(keys, job, new, seal=self._membership.name in request.sealing)

    def tried(
        self, plan: JobPlan, request: ApplyRequest, segments: Segments, attempts: AttemptLog
    ) -> Segments:
        """What a probe tries of a sum, as its order brings it in other modes: `released` and `step`. Nothing is kept.

        Raises
        ------
        RefusalError : as `apply`
        """
        total = self._opened_sum(plan, request, segments, attempts)
        if total is None:
            # It is counted once, when it is to be applied.
            number = request.order.attempt
            raise RefusalError(
                "bad-sum",
                f"the sum of attempt {number} is not that of the uploads shown with it",
                {"attempt": number},
            )
        _, state, mean = total
        rate = request.order.knobs.get("server_rate", 1.0)
        released, step = tried(state, mean, plan.rule, rate, plan.rounds, noise=request.noise)
        return {"released": released, STEP: step}

    def _opened_sum(
        self, plan: JobPlan, request: ApplyRequest, segments: Segments, attempts: AttemptLog
    ) -> tuple[JobKeys, ModelState, NDArray[np.float64]] | None:
        """Keys, the state that the sum is to be applied to, and the mean update in it; None where it is not the sum."""
        order = request.order
        _, keys = self._ready(plan.job, order.epoch)
        total = self._checked_sum(keys, request, segments[ENCRYPTED_SUM], attempts)
        if total is None:
            return None
        state = self._before(plan, order, segments)
        charter = self._membership.charter
        spec = next(it for it in segment_specs(charter, plan, order, self._parameters) if it.name == UPDATE)
        public = divisor(charter, plan, request.active)
        self._check_noise(request, spec, public)
        return keys, state, grid_of(spec, len(order.cohort)).decode(total) / public

    def _check_noise(self, request: ApplyRequest, spec: SegmentSpec, public: float) -> None:
        """Refuse more noise than a sum of this order can have: it would shorten the step and shrink the weights."""
        most, order = 0.0, request.order
        if spec.multiplier:
            charter, summands = self._membership.charter, len(order.cohort)
            each = [noise_on(spec, charter, summands, spec.multiplier, member=it) for it in request.active]
            most = math.hypot(*(noise.sd / noise.scale for noise in each)) / public
        if request.noise > most * (1.0 + 1e-9):
            raise RefusalError(
                "wrong-state",
                f"a sum of attempt {order.attempt} has noise of {most:.4g} at most, not {request.noise:.4g}",
                {"attempt": order.attempt},
            )

    def _checked_sum(
        self, keys: JobKeys, request: ApplyRequest, content: NDArray[np.uint8], attempts: AttemptLog
    ) -> Words | None:
        """The coordinates of the opened sum; None where it is not the sum. Shape (d,)."""
        order = request.order
        known = attempts.accepted(order.job, order.attempt)
        if known is not None and known.order_digest != order.digest:
            return None
        if known is not None and known.active is not None and set(known.active) != set(request.active):
            return None
        try:
            opened = keys.envelope.decrypt(content, self._parameters + CHECK_WORDS)
        except ValueError:
            return None
        if not check_sum(opened, keys.group, order.attempt, check_label(order), request.active):
            return None
        return opened[:-CHECK_WORDS]

    def _wrong_sum(self, order: Order, attempts: AttemptLog, asked: str) -> RefusalError:
        """The same for every cause: what is wrong with a sum is told nobody."""
        wrong = self._held.count_wrong(order.job, asked)
        sentence = f"the sum of attempt {order.attempt} is not that of the uploads shown with it"
        if wrong >= MOST_WRONG:
            sentence += f"; after {wrong} wrong ones this member takes no part in the job any more"
            attempts.set_state(order.job, "frozen", f"{wrong} sums were wrong")
        return RefusalError("bad-sum", sentence, {"attempt": order.attempt})

    def _before(self, plan: JobPlan, order: Order, segments: Segments) -> ModelState:
        """The state that the attempt started from; the newest one is given up where it is a later one."""
        if order.base == 0 and not order.state:
            return self._start(plan, segments.get(PREPARATION))
        return self._state(plan.job, order.state, order.base)

    def _keep(self, keys: JobKeys, job: str, state: ModelState, *, seal: bool) -> tuple[ApplyReply, Segments]:
        content, tag = state_bytes(state), keys.group.state_tag(state.round, state.arrays()).hex()
        self._held.keep_state(job, HeldState(state.round, tag, content))
        sealed = {}
        if seal:
            box = keys.group.seal_state(_STATE, state.round, 0, content, os.urandom)
            sealed = {SEALED_STATE: np.frombuffer(box, dtype=np.uint8)}
        return ApplyReply(job=job, round=state.round, tag=tag), sealed

    def reload(self, plan: JobPlan, request: ReloadRequest, segments: Segments) -> ApplyReply:
        """Take another member's state in place of one's own.

        Raises
        ------
        RefusalError : `wrong-state`, not sealed by a member, or another state than its tag says
        """
        kept = self._held.keys(plan.job)
        _, keys = self._ready(plan.job, 0 if kept is None else kept.epoch)
        try:
            content = keys.group.open_state(_STATE, request.round, 0, segments[SEALED_STATE].tobytes())
        except BadSeal as error:
            raise RefusalError("wrong-state", str(error), {"round": request.round}) from None
        state = read_state(content, self._parameters)
        if (
            state.round != request.round
            or keys.group.state_tag(state.round, state.arrays()).hex() != request.tag
        ):
            raise RefusalError(
                "wrong-state", "the sealed state is another one than its tag says", {"round": request.round}
            )
        return self._keep(keys, plan.job, state, seal=False)[0]


def _replayed(known: HeldKeys) -> RefusalError:
    used = " and uploaded under them" if known.used else ""
    return RefusalError(
        "replayed", f"this member signed for keys {known.epoch} of the job{used}", {"epoch": known.epoch}
    )


def check_label(order: Order) -> str:
    """What check words hang on beside the attempt: the state that it started from."""
    return f"{UPDATE} {order.base} {order.state}"


def new_blind(
    membership: Membership,
    sealing_key: X25519PrivateKey,
    held: HeldJobs,
    model: Model,
    kept: Kept = lambda start: None,
) -> BlindJobs:
    """What a member holds of jobs in mode `he`.

    Parameters
    ----------
    held : their keys and states, on the disk
    model : the charter's, for columns that no contract check prepared
    kept : models of earlier jobs that this member has, for a job that starts from one
    """
    charter = membership.charter

    def start(plan: JobPlan, array: NDArray[np.float64] | None) -> ModelState:
        if plan.start is not None:
            return ModelState.start(held_start(plan.start, kept))
        if array is None:
            return ModelState.start(model.initial(plan.seed))
        preparation = Preparation.read(array, charter.task.features)
        prepared = prepared_model(charter.task.model, charter.task.features, preparation)
        return ModelState.start(prepared.initial(plan.seed), preparation.array)

    return BlindJobs(
        membership,
        Parties.of(charter, membership.charter_hash),
        sealing_key,
        held,
        parameters=model.parameters,
        start=start,
    )
