"""What an agent checks of a request before it does anything (PROTOCOL sections 2, 4, 8).

Pure functions over values; each either returns or raises `RefusalError`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime

from hansa.contract.blind_messages import ApplyRequest
from hansa.contract.charter import Charter
from hansa.contract.errors import InputError, RefusalError
from hansa.contract.jobs import JobPlan
from hansa.contract.keys import from_text
from hansa.contract.messages import PREKEYS, SERVED, Order
from hansa.contract.segments import PREPARATION, segment_specs
from hansa.contract.wire import Packed, Segments, check_signature
from hansa.secagg.active_set import check_circles
from hansa.strategies.grids import check_noise, noise_on


def check_operator(packed: Packed, charter: Charter) -> None:
    """The request is of a protocol we serve and the operator of our charter signed it."""
    if packed.protocol not in SERVED:
        served = " and ".join(str(number) for number in SERVED)
        raise RefusalError(
            "protocol-number",
            f"the request speaks protocol {packed.protocol}; this agent serves {served}",
            {"asked": packed.protocol, "newest": SERVED[-1], "oldest": SERVED[0]},
        )
    if not check_signature(packed, from_text(charter.operator_key)):
        raise RefusalError(
            "not-operator", "the request does not carry the signature of the charter's operator"
        )


def check_charter(
    asked: str, pinned: str, charter: Charter, now: datetime, superseded: Collection[str] = ()
) -> None:
    """The request is under the charter this agent signed, and that charter has not run out."""
    if asked != pinned:
        if asked in superseded or (charter.previous and asked == charter.previous):
            raise RefusalError(
                "charter-superseded",
                f"this member signed version {charter.version} and refuses every version before it for ever",
                {"version": charter.version},
            )
        raise RefusalError(
            "wrong-charter",
            f"the request is under charter {asked[:12]}…, "
            f"this member signed {pinned[:12]}… (version {charter.version})",
            {"version": charter.version, "signed": pinned},
        )
    if charter.expired(now):
        raise RefusalError(
            "charter-expired", f"the charter expired on {charter.expires:%Y-%m-%d}; sign a new version"
        )


def check_knobs(knobs: Mapping[str, float], charter: Charter, plan: JobPlan | None) -> None:
    """Every knob is known and within the charter's range, and pinned ones stand where they were pinned."""
    for name, value in knobs.items():
        bounds = charter.knobs.get(name)
        if bounds is None:
            raise RefusalError("knob-out-of-range", f"the charter opens no knob '{name}'", {"knob": name})
        if not bounds.low <= value <= bounds.high:
            raise RefusalError(
                "knob-out-of-range",
                f"{name} = {value:g} is outside the charter's range {bounds.low:g} to {bounds.high:g}",
                {"knob": name},
            )
        if plan is not None and name in plan.pinned and plan.pinned[name] != value:
            raise RefusalError(
                "knob-out-of-range", f"{name} is pinned to {plan.pinned[name]:g} in this job", {"knob": name}
            )


def check_order(order: Order, charter: Charter, plan: JobPlan, me: str) -> None:
    """The cohort is one this member agreed to work in, and the knobs are within their ranges."""
    for name in order.cohort:
        if charter.member(name) is None:
            raise RefusalError(
                "unknown-member", f"'{name}' in the cohort is not a member of the charter", {"member": name}
            )
    if len(set(order.cohort)) != len(order.cohort):
        raise RefusalError("unknown-member", "a member appears twice in the cohort")
    if me not in order.cohort:
        raise RefusalError("unknown-member", "this member is not in the cohort it was sent", {"member": me})
    check_cohort_size(order.cohort, charter)
    check_left_out(order, charter)
    check_evaluation(order, charter)
    check_preparation(order, plan)
    check_all_knobs(order, charter, plan)
    check_probe(order, charter, plan)


def check_probe(order: Order, charter: Charter, plan: JobPlan) -> None:
    """Only an evaluation tries a step, that of an earlier attempt, in a job that says so, within the knob's range."""
    if not order.factors and not order.probes:
        return
    if order.kind != "evaluate" or not order.factors or not 0 < order.probes < order.attempt:
        raise RefusalError(
            "not-approved", "a probe is an evaluation that tries the step of an earlier attempt"
        )
    if 0.0 in order.factors:
        raise RefusalError("not-approved", "what is tried is a step")
    for factor in order.factors:
        check_factor(factor, order, charter, plan)


def check_factor(factor: float, order: Order, charter: Charter, plan: JobPlan) -> None:
    """A step is lengthened and shortened where the job has that tuned, and as far as the charter lets the rate move."""
    if plan.tuning != "probe":
        raise RefusalError("not-approved", "the job has no step tried or changed by probes")
    rate = order.knobs.get("server_rate", 1.0) * factor
    bounds = charter.knobs.get("server_rate")
    if bounds is None or "server_rate" in plan.pinned or not bounds.low <= rate <= bounds.high:
        raise RefusalError(
            "knob-out-of-range",
            f"a step {factor:g} times as long is one of server_rate = {rate:g}, which the charter or the job rules out",
            {"knob": "server_rate"},
        )


def check_all_knobs(order: Order, charter: Charter, plan: JobPlan) -> None:
    """Every knob of the charter is set, as `check_knobs` allows."""
    check_knobs(order.knobs, charter, plan)
    missing = sorted(set(charter.knobs) - set(order.knobs))
    if missing:
        raise RefusalError(
            "knob-out-of-range", f"the order leaves knob '{missing[0]}' open", {"knob": missing[0]}
        )


def check_left_out(order: Order, charter: Charter) -> None:
    """Whoever is not in the cohort stands in the order with the reason (PROTOCOL 4.1)."""
    for member in charter.members:
        named = member.name in order.cohort
        if named == (member.name in order.left_out) or (
            not named and not order.left_out[member.name].strip()
        ):
            raise RefusalError(
                "cohort-too-small",
                f"'{member.name}' must be in the cohort or be left out with a reason, one of the two",
                {"member": member.name},
            )


def check_evaluation(order: Order, charter: Charter) -> None:
    """An evaluation rides with train in every k-th round only, as the charter says (PROTOCOL 4.1)."""
    if order.kind == "train" and order.evaluate and order.base % charter.metrics.every:
        raise RefusalError(
            "not-approved",
            f"the charter has the model evaluated every {charter.metrics.every} rounds, not in round {order.base}",
            {"every": charter.metrics.every},
        )


def check_preparation(order: Order, plan: JobPlan) -> None:
    """Columns are prepared by the job's own contract check and by nothing else, and that comes before all rounds."""
    if order.kind == "statistics":
        if order.base:
            raise RefusalError(
                "not-approved",
                f"the contract check is what a job begins with, and this one is at round {order.base}",
            )
        return
    if (PREPARATION in order.arrays) != plan.check:
        sentence = "the job plans no contract check, and the order brings a preparation of columns"
        if plan.check:
            sentence = "the job begins with a contract check, and the order does not bring what came of it"
        raise RefusalError("not-approved", sentence)


def check_cohort_size(cohort: tuple[str, ...], charter: Charter) -> None:
    """Enough distinct controllers: two members of one controller hide nothing from each other."""
    controllers = charter.controllers(cohort)
    if len(controllers) < charter.minimum_cohort:
        raise RefusalError(
            "cohort-too-small",
            f"a cohort of {len(controllers)} controllers is below the charter's minimum of {charter.minimum_cohort}",
            {"cohort": len(controllers), "minimum": charter.minimum_cohort},
        )


def check_applied(request: ApplyRequest, charter: Charter, plan: JobPlan) -> None:
    """The sum is one that an order of this charter can have led to: a train attempt, enough of its cohort active."""
    order, active = request.order, request.active
    if order.kind != "train" or not set(active) <= set(order.cohort) or len(set(active)) != len(active):
        raise RefusalError("not-in-active-set", "the sum is not that of members of a train attempt")
    for name in order.cohort:
        if charter.member(name) is None:
            raise RefusalError(
                "unknown-member", f"'{name}' in the cohort is not a member of the charter", {"member": name}
            )
    controllers = charter.controllers(active)
    if len(controllers) < charter.least_active:
        raise RefusalError(
            "active-set-too-small",
            f"a sum of {len(controllers)} controllers is below the charter's least of {charter.least_active}",
            {"active": len(controllers), "least": charter.least_active},
        )
    check_all_knobs(order, charter, plan)
    if request.factor == 0.0 and plan.tuning != "probe":
        raise RefusalError("not-approved", "the job has no step dropped")
    if request.factor not in (0.0, 1.0):
        check_factor(request.factor, order, charter, plan)


def check_tried(order: Order, pending: ApplyRequest, charter: Charter, plan: JobPlan) -> None:
    """The sum that a probe tries is the one it names, and was made of the same state."""
    check_applied(pending, charter, plan)
    tried = pending.order
    if (tried.job, tried.attempt, tried.base, tried.state, tried.epoch) != (
        order.job,
        order.probes,
        order.base,
        order.state,
        order.epoch,
    ):
        raise RefusalError("wrong-state", f"the probe does not bring the sum of attempt {order.probes}")


def check_groups(order: Order, charter: Charter, me: str) -> None:
    """A split cohort: only where the charter has it, everybody once, every group large enough (PROTOCOL 4.1)."""
    check_circles(order, charter, me)
    least = charter.protection.audit_groups
    controllers = charter.controllers(order.cohort)
    if least is not None and not order.groups and len(controllers) >= 2 * least:
        raise RefusalError(
            "not-approved",
            f"the order does not split a cohort of {len(controllers)} controllers; "
            f"the charter has groups of {least} and more audited",
            {"cohort": len(controllers), "group": least},
        )
    for group in order.groups:
        controllers = charter.controllers(group)
        if least is not None and len(controllers) < least:
            raise RefusalError(
                "cohort-too-small",
                f"a group of {len(controllers)} controllers is below the charter's audit_groups of {least}",
                {"group": len(controllers), "minimum": least},
            )


def check_unmasked(order: Order, segments: Segments) -> None:
    """In mode `clear` an order has no prekeys: whoever sends some believes that something is hidden."""
    if order.prekeys or PREKEYS in segments:
        raise RefusalError("prekey-unknown", "the charter asks for mode 'clear', the order has prekeys")


def check_grid(
    order: Order, charter: Charter, plan: JobPlan, parameters: int, me: str, noise: Mapping[str, float]
) -> None:
    """The order's grid is fine enough for this member's noise: a wide one would cost a charge and carry nothing.

    Parameters
    ----------
    noise : the multiplier that this member adds, by segment
    """
    summands = len(next(circle for circle in order.circles if me in circle))
    for spec in segment_specs(charter, plan, order, parameters):
        if spec.multiplier == 0:
            continue
        try:
            noise_on(spec, charter, summands, noise[spec.name], member=me)
        except (InputError, ValueError) as error:
            raise RefusalError(
                "noise-below-floor",
                f"segment '{spec.name}': with room for noise of {spec.multiplier:.4g} the grid is too coarse for "
                f"this member's {noise[spec.name]:.4g}: {error}",
                {"segment": spec.name},
            ) from None


def check_grids(
    plan: JobPlan, charter: Charter, parameters: int, me: str, noise: Mapping[str, float]
) -> None:
    """This member's noise is fine enough in the largest cohort, before a job's first attempt costs anything."""
    try:
        check_noise(charter, plan, parameters, noise, member=me)
    except InputError as error:
        raise RefusalError("noise-below-floor", str(error)) from None
