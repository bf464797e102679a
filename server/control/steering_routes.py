"""What an operator sets: knobs of a job, and members held out of selection."""

from __future__ import annotations

from fastapi import APIRouter, Depends

from hansa.server.control.access import may_read, may_steer, may_write
from hansa.server.control.desk import ControlDesk, Desk
from hansa.server.control.problems import RESPONSES, Conflict, NotThere
from hansa.server.control.submission import check_knob
from hansa.server.records import KnobRecord, MemberRecord
from hansa.server.replies import OPERATOR, CharterFacts, Hold, KnobChange, KnobState, MemberState, Pins

reading = APIRouter(prefix="/v1", dependencies=[Depends(may_read)], responses=RESPONSES)
writing = APIRouter(prefix="/v1", dependencies=[Depends(may_write)], responses=RESPONSES)
steering = APIRouter(prefix="/v1", dependencies=[Depends(may_steer)], responses=RESPONSES)


@reading.get("/jobs/{job}/knobs", tags=["knobs"], summary="A job's knobs")
def list_knobs(job: str, desk: Desk) -> list[KnobState]:
    """Values that the next attempt will use, and the charter's ranges."""
    return _states(desk, desk.store.knobs.of(desk.job(job).job))


@writing.put("/jobs/{job}/knobs", tags=["knobs"], summary="Set some of a job's knobs")
def set_knobs(job: str, change: KnobChange, desk: Desk) -> list[KnobState]:
    """All or none; they hold from the next attempt on."""
    found = desk.job(job)
    # A stopped or failed one may be resumed, with what was set meanwhile.
    if found.status == "finished":
        raise Conflict(f"job {found.job} is {found.status}; its knobs do nothing any more")
    for name, value in change.values.items():
        check_knob(name, value, desk.charter, field=f"values.{name}")
    return _states(desk, desk.store.knobs.set(found.job, change.values, by=change.by, reason=change.reason))


@writing.put("/jobs/{job}/pins", tags=["knobs"], summary="Pin knobs, or open them again")
def set_pins(job: str, pins: Pins, desk: Desk) -> list[KnobState]:
    """A pinned knob is moved by nobody, neither an operator nor a probe nor the sidecar."""
    found = desk.job(job)
    names = pins.names or [
        it.name for it in desk.store.knobs.of(found.job) if pins.pinned or it.name not in found.plan.pinned
    ]
    return _states(desk, desk.store.knobs.pin(found.job, names, pins.pinned, by=pins.by, reason=pins.reason))


@reading.get("/charter", tags=["members"], summary="What the charter says")
def show_charter(desk: Desk) -> CharterFacts:
    """Facts of the charter that control works under."""
    charter = desk.charter
    return CharterFacts(
        name=charter.name,
        version=charter.version,
        hash=desk.charter_hash,
        mode=charter.protection.mode,
        noise=charter.privacy.noise,
        audit_groups=charter.protection.audit_groups,
        minimum_cohort=charter.minimum_cohort,
        members=len(charter.members),
        controllers=len(charter.controllers(_names(desk))),
    )


@reading.get("/members", tags=["members"], summary="Members of the consortium")
def list_members(desk: Desk) -> list[MemberState]:
    """In the charter's order."""
    known = {it.name: it for it in desk.store.members.all()}
    return [_member(desk, name, known.get(name)) for name in _names(desk)]


@steering.post("/members/{name}/hold", tags=["members"], summary="Hold a member out of selection")
def hold(name: str, why: Hold, desk: Desk) -> MemberState:
    """From the next attempt on, until it is released."""
    _check_name(desk, name)
    desk.store.members.hold(name, why.reason, by=why.by)
    return _now(desk, name)


@writing.post("/members/{name}/release", tags=["members"], summary="Let a member be selected again")
def release(name: str, desk: Desk) -> MemberState:
    """From the next attempt on."""
    _check_name(desk, name)
    desk.store.members.release(name, by=OPERATOR)
    return _now(desk, name)


def _states(desk: ControlDesk, records: list[KnobRecord]) -> list[KnobState]:
    ranges = desk.charter.knobs
    return [
        KnobState(
            low=ranges[it.name].low,
            high=ranges[it.name].high,
            default=ranges[it.name].default,
            **it.model_dump(),
        )
        for it in records
        if it.name in ranges
    ]


def _names(desk: ControlDesk) -> list[str]:
    return [member.name for member in desk.charter.members]


def _check_name(desk: ControlDesk, name: str) -> None:
    if name not in _names(desk):
        raise NotThere(f"'{name}' is not a member of the charter; the members are {', '.join(_names(desk))}")


def _now(desk: ControlDesk, name: str) -> MemberState:
    return _member(desk, name, next((it for it in desk.store.members.all() if it.name == name), None))


def _member(desk: ControlDesk, name: str, known: MemberRecord | None) -> MemberState:
    member = desk.charter.member(name)
    assert member is not None
    return MemberState(
        name=name,
        title=member.title,
        sector=member.sector,
        controller=member.controller,
        present=known is not None and known.present,
        isolated=known.isolated if known else None,
        charter_version=known.charter_version if known else None,
        started=known.started if known else None,
        seen=known.seen if known else None,
        held=known.held if known else None,
        held_by=known.held_by if known else "",
        apart=known.apart if known else None,
        apart_since=known.apart_since if known else None,
    )
