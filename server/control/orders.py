"""What the operator's key signs: requests that fit the charter, the job and its open attempt, nothing else.

Pure functions over facts; each check either returns or raises `Conflict` with the reason.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from hansa.contract.blind_messages import (
    ENCRYPTED_SUM,
    SEALED_KEYS,
    SEALED_STATE,
    ApplyRequest,
    KeysRequest,
    ReloadRequest,
)
from hansa.contract.charter import Charter
from hansa.contract.errors import RefusalError
from hansa.contract.messages import (
    PREKEYS,
    SERVED,
    AgreeRequest,
    CloseRequest,
    HelloRequest,
    JobRequest,
    Order,
    RequestHeader,
    SegmentHeader,
    TrainRequest,
    UnmaskRequest,
    WitnessRequest,
)
from hansa.contract.segments import PREPARATION, STEP
from hansa.contract.typed import canonical_json, explain
from hansa.contract.wire import MAX_HEADER_BYTES
from hansa.privacy.events import LEAST_MULTIPLIER
from hansa.secagg.active_set import least_noised
from hansa.secagg.finishing import check_finish
from hansa.secagg.parties import Parties
from hansa.secagg.prekeys import prekey_bytes
from hansa.server.control.problems import Conflict
from hansa.server.records import AttemptRecord, JobRecord
from hansa.strategies.cohort_noise import noised_segments

_LONGEST_NONCE = 200
# Which arrays may stand behind which request.
_SEGMENTS = {
    "attempt": {"weights", "released", STEP, ENCRYPTED_SUM, PREPARATION, PREKEYS},
    "close": {"released", PREPARATION},
    "keys": {SEALED_KEYS},
    "apply": {ENCRYPTED_SUM, PREPARATION},
    "reload": {SEALED_STATE},
}
# Segments that say the model: in mode `he` nobody has it to send.
_OPEN_MODEL = {"weights", "released", STEP}


@dataclass(frozen=True)
class Facts:
    """What the checks are made against."""

    charter: Charter
    charter_hash: str
    job: JobRecord
    attempt: AttemptRecord | None
    # The attempt whose sum is known and may be tried by a probe before it is applied.
    summed: AttemptRecord | None = None
    # Of the state after the newest round, in mode `he`; None where it is not known.
    tag: str | None = None


def parse_header(content: bytes) -> RequestHeader:
    """A header as the agent will read it; only its canonical bytes are signed."""
    if len(content) > MAX_HEADER_BYTES:
        raise Conflict(f"a header of {len(content)} bytes is above the limit of {MAX_HEADER_BYTES}")
    try:
        header = RequestHeader.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise Conflict(f"not a request's header: {explain(error)}") from None
    if canonical_json(header) != content:
        raise Conflict("the header is not in its canonical form")
    return header


def check_request(header: RequestHeader, facts: Facts) -> None:
    """Whether the operator says this to a member now."""
    if header.charter != facts.charter_hash:
        raise Conflict(f"the request is under charter {header.charter[:12]}…, not {facts.charter_hash[:12]}…")
    if facts.job.charter != facts.charter_hash:
        raise Conflict(f"job {facts.job.job} was submitted under another charter; submit a new job")
    body = header.body
    strange = {it.name for it in header.segments} - _SEGMENTS.get(body.type, set())
    if strange:
        raise Conflict(f"a request '{body.type}' carries no segment '{min(strange)}'")
    if facts.charter.protection.blind and _OPEN_MODEL & {it.name for it in header.segments}:
        raise Conflict("in mode 'he' no request carries a model: its members hold it")
    if not isinstance(body, HelloRequest | WitnessRequest):
        _check_job(body, facts.job)
    match body:
        case HelloRequest():
            _check_hello(body, facts.charter)
        case WitnessRequest():
            _check_witness(body, facts.charter)
        case JobRequest():
            if body.plan != facts.job.plan:
                raise Conflict(f"the plan is not the one that was submitted as job {facts.job.job}")
        case TrainRequest():
            _check_attempt(body, header.segments, facts)
        case AgreeRequest():
            _check_active(body, facts)
        case UnmaskRequest():
            _check_active(body, facts)
            _check_unmask(body, facts)
        case KeysRequest():
            _check_blind(body.type, facts.charter)
            _check_names((body.maker, *body.signatures), facts.charter)
        case ApplyRequest():
            _check_blind(body.type, facts.charter)
            _check_apply(body, facts)
        case ReloadRequest():
            _check_blind(body.type, facts.charter)
            if body.round != facts.job.round:
                raise Conflict(f"job {facts.job.job} is at round {facts.job.round}, not at {body.round}")
            if facts.tag is not None and body.tag != facts.tag:
                raise Conflict(f"the state of round {body.round} that members hold has another tag")
        case CloseRequest():
            _check_close(body, facts.job)


def _check_job(
    body: JobRequest
    | KeysRequest
    | TrainRequest
    | AgreeRequest
    | UnmaskRequest
    | ApplyRequest
    | ReloadRequest
    | CloseRequest,
    job: JobRecord,
) -> None:
    match body:
        case JobRequest():
            named = body.plan.job
        case TrainRequest() | ApplyRequest():
            named = body.order.job
        case _:
            named = body.job
    if named != job.job:
        raise Conflict(f"the request is about job {named}, signatures were asked for job {job.job}")
    if job.status in ("stopped", "failed") and not isinstance(body, CloseRequest):
        raise Conflict(f"job {job.job} is {job.status}; nothing more is asked of members in its name")


def _check_hello(body: HelloRequest, charter: Charter) -> None:
    if body.protocols != SERVED:
        raise Conflict(f"hello names protocols {list(body.protocols)}; this server speaks {list(SERVED)}")
    if len(body.nonce) > _LONGEST_NONCE:
        raise Conflict("hello carries a nonce that is too long")
    if body.prekeys and not charter.protection.masked:
        raise Conflict(f"mode '{charter.protection.mode}' has no prekeys")


def _check_witness(body: WitnessRequest, charter: Charter) -> None:
    mode = charter.protection.mode
    if not charter.protection.masked and charter.privacy.noise == "none":
        raise Conflict(f"mode '{mode}' without noise has no witnesses")
    if not charter.protection.masked and body.prekeys:
        raise Conflict(f"mode '{mode}' has no prekeys")
    if len(body.shown) >= len(charter.members):
        raise Conflict(f"{len(body.shown)} words on one start; a member has {len(charter.members) - 1} peers")
    _check_names((*body.starts, *(name for it in body.shown for name in (it.witness, it.member))), charter)


def _check_attempt(body: TrainRequest, segments: Sequence[SegmentHeader], facts: Facts) -> None:
    order, attempt = body.order, _open(body.order.attempt, facts)
    _check_finished(body, facts)
    if order.arrays != {it.name: it.sha256 for it in segments}:
        raise Conflict(f"the arrays of attempt {order.attempt} are not those that its order names")
    _check_stored(order, attempt)
    _check_state(order, facts.charter)
    _check_probe(body, segments, facts)
    _check_preparation(order, facts.job)
    _check_cohort(order, facts.charter)
    _check_prekeys(order, segments, facts)
    _check_groups(order, facts.charter)
    _check_knobs(order, facts)
    _check_noise(order, facts.charter)
    if order.kind == "train" and order.evaluate and order.base % facts.charter.metrics.every:
        raise Conflict(f"the charter has the model evaluated every {facts.charter.metrics.every} rounds only")
    for member in facts.charter.members:
        if member.name not in order.cohort and not order.left_out.get(member.name, "").strip():
            raise Conflict(f"{member.name} is left out without a reason")


def _check_stored(order: Order, attempt: AttemptRecord) -> None:
    asked = (order.kind, order.base, order.cohort, order.left_out, order.knobs)
    if asked != (attempt.kind, attempt.base, attempt.cohort, attempt.left_out, attempt.knobs):
        raise Conflict(f"the order of attempt {order.attempt} is not the one in the store")


def _check_state(order: Order, charter: Charter) -> None:
    """In mode `he` an order names the keys and the state that its members hold; elsewhere neither."""
    blind = charter.protection.blind
    if blind != (order.epoch > 0) or bool(order.state) != (blind and order.base > 0):
        raise Conflict(
            f"attempt {order.attempt} names keys {order.epoch} and "
            f"{'a' if order.state else 'no'} state, in mode '{charter.protection.mode}' at round {order.base}"
        )


def _check_probe(body: TrainRequest, segments: Sequence[SegmentHeader], facts: Facts) -> None:
    """An evaluation tries the step of the attempt whose sum is known, as far as the charter lets the rate move."""
    order, blind = body.order, facts.charter.protection.blind
    brought = {it.name for it in segments}
    if bool(order.probes) != bool(order.factors) or (order.probes and order.kind != "evaluate"):
        raise Conflict(
            f"attempt {order.attempt} is no probe: an evaluation that names an attempt and factors"
        )
    probes = bool(order.probes)
    if (body.pending is not None, ENCRYPTED_SUM in brought) != (probes and blind,) * 2 or (
        STEP in brought
    ) != (probes and not blind):
        raise Conflict(
            f"attempt {order.attempt} does not bring what its probe tries, or tries what it does not say"
        )
    if not probes:
        return
    if facts.summed is None or (facts.summed.attempt, facts.summed.base) != (order.probes, order.base):
        raise Conflict(f"the sum of attempt {order.probes} is not one that may be tried now")
    if 0.0 in order.factors:
        raise Conflict(f"attempt {order.attempt} tries no step")
    for factor in order.factors:
        _check_factor(factor, order, facts)
    if body.pending is not None:
        if body.pending.order.attempt != order.probes:
            raise Conflict(
                f"the probe brings the sum of attempt {body.pending.order.attempt}, not {order.probes}"
            )
        _check_apply(body.pending, facts)


def _check_factor(factor: float, order: Order, facts: Facts) -> None:
    plan, bounds = facts.job.plan, facts.charter.knobs.get("server_rate")
    if plan.tuning != "probe" or bounds is None or "server_rate" in plan.pinned:
        raise Conflict(f"job {plan.job} has no step lengthened or shortened")
    rate = order.knobs.get("server_rate", 1.0) * factor
    if not bounds.low <= rate <= bounds.high:
        raise Conflict(f"server_rate = {rate:g} is outside what the charter allows")


def _check_blind(what: str, charter: Charter) -> None:
    if not charter.protection.blind:
        raise Conflict(f"mode '{charter.protection.mode}' has no request '{what}'")


def _check_apply(body: ApplyRequest, facts: Facts) -> None:
    """The sum of the open train attempt, over the active set whose masks members were asked to open."""
    attempt = facts.summed
    if attempt is None or attempt.attempt != body.order.attempt:
        attempt = _open(body.order.attempt, facts)
    _check_stored(body.order, attempt)
    _check_state(body.order, facts.charter)
    if body.factor == 0.0 and facts.job.plan.tuning != "probe":
        raise Conflict(f"job {facts.job.job} has no step dropped")
    if body.factor not in (0.0, 1.0):
        _check_factor(body.factor, body.order, facts)
    if body.order.kind != "train":
        raise Conflict(f"attempt {body.order.attempt} is no train attempt; nothing of it is applied")
    if attempt.active is None:
        raise Conflict(f"nobody was asked to open the sum of attempt {attempt.attempt} yet")
    _check_active_of(attempt, body.active, facts.charter)
    if not set(body.sealing) <= set(body.active):
        raise Conflict("the new state is sealed by active members")


def _check_preparation(order: Order, job: JobRecord) -> None:
    """Columns are prepared by the contract check that the plan begins with, in every attempt after it."""
    check, brings = job.plan.check, PREPARATION in order.arrays
    if order.kind == "statistics" and (brings or not check or order.base):
        raise Conflict(f"attempt {order.attempt}: a contract check is what a job begins with that plans one")
    if order.kind != "statistics" and brings != check:
        raise Conflict(
            f"attempt {order.attempt} brings {'a' if brings else 'no'} preparation of columns, and the job "
            f"plans {'a' if check else 'no'} contract check"
        )


def _check_cohort(order: Order, charter: Charter) -> None:
    _check_names((*order.cohort, *order.left_out), charter)
    if len(set(order.cohort)) != len(order.cohort) or set(order.cohort) & set(order.left_out):
        raise Conflict(f"attempt {order.attempt} names a member twice")
    controllers = charter.controllers(order.cohort)
    if len(controllers) < charter.minimum_cohort:
        raise Conflict(
            f"a cohort of {len(controllers)} controllers is below the charter's minimum of {charter.minimum_cohort}"
        )


def _check_names(names: Collection[str], charter: Charter) -> None:
    strangers = set(names) - {member.name for member in charter.members}
    if strangers:
        raise Conflict(f"'{min(strangers)}' is not a member of the charter")


def _check_prekeys(order: Order, segments: Sequence[SegmentHeader], facts: Facts) -> None:
    """One prekey of each of the cohort where uploads are masked, and none anywhere else."""
    mode = facts.charter.protection.mode
    brought = {it.name: (it.dtype, it.count) for it in segments}
    if not facts.charter.protection.masked:
        if order.prekeys or PREKEYS in brought:
            raise Conflict(f"mode '{mode}' has no prekeys")
        return
    if set(order.prekeys) != set(order.cohort):
        raise Conflict(f"attempt {order.attempt} does not name one prekey of each of its cohort")
    size = len(order.cohort) * prekey_bytes(Parties.of(facts.charter, facts.charter_hash))
    if brought.get(PREKEYS) != ("u8", size):
        raise Conflict(
            f"{len(order.cohort)} prekeys of this charter are {size} bytes in a segment '{PREKEYS}'; "
            f"attempt {order.attempt} does not bring them"
        )


def _check_groups(order: Order, charter: Charter) -> None:
    """Groups split the cohort, each of at least as many controllers as the charter has it (PROTOCOL 4.1)."""
    least = charter.protection.audit_groups
    if least is None:
        if order.groups:
            raise Conflict("the charter has no audit_groups; the cohort is not split")
        return
    if not order.groups and len(charter.controllers(order.cohort)) < 2 * least:
        return
    if sorted(name for group in order.groups for name in group) != sorted(order.cohort):
        raise Conflict(
            f"the groups of attempt {order.attempt} are not its cohort, each member in one of them"
        )
    for group in order.groups:
        if len(charter.controllers(group)) < least:
            raise Conflict(
                f"a group of {len(charter.controllers(group))} controllers is below audit_groups = {least}"
            )


def _check_finished(body: TrainRequest, facts: Facts) -> None:
    """Proofs are about earlier attempts of this job, by members enough; none where nothing is charged."""
    if body.finished and facts.charter.privacy.noise == "none":
        raise Conflict("nothing is charged without noise, so no attempt is proved to be finished")
    parties = Parties.of(facts.charter, facts.charter_hash)
    for finish in body.finished:
        if finish.attempt >= body.order.attempt:
            raise Conflict(f"attempt {finish.attempt} did not finish before attempt {body.order.attempt}")
        try:
            check_finish(finish, facts.job.job, finish.order, parties)
        except RefusalError as error:
            raise Conflict(error.sentence) from None


def _check_knobs(order: Order, facts: Facts) -> None:
    for name, value in order.knobs.items():
        bounds = facts.charter.knobs.get(name)
        if bounds is None or not bounds.low <= value <= bounds.high:
            raise Conflict(f"knob {name} = {value:g} is outside what the charter allows")
    for name, value in facts.job.plan.pinned.items():
        if order.knobs.get(name) != value:
            raise Conflict(f"knob {name} is pinned to {value:g} in this job")


def _check_noise(order: Order, charter: Charter) -> None:
    """Every segment with noise where the charter has any, and none where it has none."""
    noised = noised_segments(order.kind, order.evaluate) if charter.privacy.noise != "none" else frozenset()
    if strange := sorted(set(order.noise) - noised):
        raise Conflict(
            f"attempt {order.attempt} names noise for '{strange[0]}', which has none "
            f"(the charter has noise '{charter.privacy.noise}')"
        )
    if missing := sorted(noised - set(order.noise)):
        raise Conflict(
            f"attempt {order.attempt} names no noise for '{missing[0]}'; "
            f"the charter has noise '{charter.privacy.noise}'"
        )
    for name, multiplier in order.noise.items():
        if multiplier < LEAST_MULTIPLIER:
            raise Conflict(
                f"attempt {order.attempt}: a noise multiplier of {multiplier:g} for '{name}' is below "
                f"{LEAST_MULTIPLIER:g}, the least that is ever charged"
            )


def _check_active(body: AgreeRequest | UnmaskRequest, facts: Facts) -> None:
    _check_active_set(body.attempt, body.active, facts)


def _check_active_set(number: int, active: tuple[str, ...], facts: Facts) -> None:
    _check_active_of(_open(number, facts), active, facts.charter)


def _check_active_of(attempt: AttemptRecord, active: tuple[str, ...], charter: Charter) -> None:
    number = attempt.attempt
    if not set(active) <= set(attempt.cohort) or len(set(active)) != len(active):
        raise Conflict(f"the active set of attempt {number} is not a part of its cohort")
    controllers = charter.controllers(active)
    if len(controllers) < charter.least_active:
        raise Conflict(
            f"an active set of {len(controllers)} controllers is below the least of {charter.least_active}"
        )
    if charter.protection.audit_groups is None:
        needed = least_noised(len(attempt.cohort), charter)
        if len(active) < needed:
            raise Conflict(
                f"{len(active)} of {len(attempt.cohort)} members are active in attempt {number}; "
                f"noise that is shared needs {needed}"
            )
    if attempt.active is not None and attempt.active != active:
        raise Conflict(
            f"another active set of attempt {number} was signed before; there is one for each attempt"
        )


def _check_unmask(body: UnmaskRequest, facts: Facts) -> None:
    cohort = _open(body.attempt, facts).cohort
    if sorted((*body.active, *body.dropped)) != sorted(cohort):
        raise Conflict(
            f"active and dropped members of attempt {body.attempt} together are not its cohort, each once"
        )
    # Shown to everybody wherever something is masked or charged.
    shown = facts.charter.protection.masked or facts.charter.privacy.noise != "none"
    needed = set(body.active) if shown else set()
    if set(body.receipts) != needed or not set(body.signatures) <= needed:
        raise Conflict("receipts are those of the active members, signatures come from them")


def _check_close(body: CloseRequest, job: JobRecord) -> None:
    over = job.status in ("finished", "stopped") or job.wanted == "stop" or job.round >= job.plan.rounds
    if not over:
        raise Conflict(
            f"job {job.job} is {job.status} at round {job.round} of {job.plan.rounds}; it is not over"
        )
    if body.rounds != job.round:
        raise Conflict(f"close names {body.rounds} rounds; the job has {job.round}")


def _open(number: int, facts: Facts) -> AttemptRecord:
    if facts.attempt is None:
        raise Conflict(f"job {facts.job.job} has no open attempt; attempt {number} is not signed")
    if facts.attempt.attempt != number:
        raise Conflict(f"attempt {number} is not open; attempt {facts.attempt.attempt} is")
    return facts.attempt
