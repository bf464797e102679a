"""Select: who takes part in the next attempt, and why the others do not. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from hansa.contract.charter import Charter
from hansa.contract.typed import clipped
from hansa.strategies.ports import NOT_CONNECTED
from hansa.strategies.stock import Start


@dataclass(frozen=True)
class Selection:
    """A cohort in the charter's order, and a reason for every member that is not in it."""

    cohort: tuple[str, ...]
    left_out: Mapping[str, str]
    # Why no attempt can start; empty when one can.
    shortfall: str
    # Number of the prekey that each of the cohort uses; empty in mode `clear`.
    prekeys: Mapping[str, int]
    # Members that are left out and may soon not be.
    hopeful: tuple[str, ...]
    # The cohort's largest noise multiplier of each segment; empty without privacy.
    noise: Mapping[str, float] = field(default_factory=dict)


def select(
    charter: Charter,
    *,
    connected: Iterable[str],
    declined: Mapping[str, str],
    held: Mapping[str, str],
    starts: Mapping[str, Start] | None = None,
    unready: Mapping[str, str] = {},
) -> Selection:
    """Every admissible member (PROTOCOL 4.1): connected, willing, and not held out by the operator.

    Parameters
    ----------
    unready : members that lack the job's keys or the model in mode `he`, each with the reason
    starts : what is known of each member's start, where uploads are masked or noised: a member takes part when
        enough others signed its start; in mode `masked` each of the cohort takes the prekey of each other, too
    """
    masked = charter.protection.masked
    here = set(connected)
    left_out: dict[str, str] = {}
    hopeful = {}
    for member in charter.members:
        if member.name in held:
            left_out[member.name] = f"held out: {held[member.name]}"
        elif member.name in declined:
            left_out[member.name] = declined[member.name]
        elif member.name not in here:
            hopeful[member.name] = NOT_CONNECTED
        elif member.name in unready:
            hopeful[member.name] = unready[member.name]
        elif starts is not None and (reason := _not_ready(charter, starts.get(member.name))):
            hopeful[member.name] = reason
    candidates = [it.name for it in charter.members if it.name not in left_out and it.name not in hopeful]
    prekeys: dict[str, int] = {}
    if starts is not None and masked:
        cohort = _fitting(candidates, starts)
        for name in set(candidates) - set(cohort):
            hopeful[name] = "its prekeys and those of the cohort are not valid for each other"
        prekeys = {name: _chosen(name, cohort, starts) for name in cohort}
        candidates = cohort
    # In the charter's order, which is the order of every list of members.
    left_out = {
        it.name: clipped({**left_out, **hopeful}[it.name])
        for it in charter.members
        if it.name not in candidates
    }
    controllers = charter.controllers(candidates)
    shortfall = ""
    if len(controllers) < charter.minimum_cohort:
        missing = ", ".join(f"{name} ({reason})" for name, reason in left_out.items())
        shortfall = f"{len(controllers)} of at least {charter.minimum_cohort} members can take part; missing: {missing}"
    waited_for = tuple(name for name in left_out if name in hopeful)
    return Selection(tuple(candidates), left_out, shortfall, prekeys, waited_for)


def _not_ready(charter: Charter, start: Start | None) -> str:
    """Why a connected member takes part in nothing yet."""
    if start is None:
        return "its agent has said no start"
    if start.signed < charter.witnesses_needed:
        return f"its start is signed by {start.signed} of {charter.witnesses_needed} other members"
    if start.withheld:
        return "it was asked for its word on another's start and did not give it"
    if start.rejects:
        return f"it does not take the word of {', '.join(start.rejects)}, which is valid and was shown to it"
    return "" if start.numbers or not charter.protection.masked else "none of its prekeys is left"


def _fitting(candidates: list[str], starts: Mapping[str, Start]) -> list[str]:
    """Candidates of whom each takes the newest prekey of each other.

    Whoever was silent when it was asked for its word on another's start goes first, then whoever fits with
    the fewest: one member that says of everybody's prekeys that they are too old costs its own place and no
    other's. Of equals the one goes that calls another's prekeys too old, then the last.
    """
    misfits = {name: {it for it in candidates if not _fit(name, it, starts)} for name in candidates}
    order = {name: place for place, name in enumerate(candidates)}
    while any(misfits.values()):
        worst = max(
            misfits,
            key=lambda name: (
                bool(misfits[name]) and starts[name].silent,
                len(misfits[name]),
                _calls_old(name, misfits[name], starts),
                order[name],
            ),
        )
        for other in misfits.pop(worst):
            misfits[other].discard(worst)
    return [name for name in candidates if name in misfits]


def _fit(one: str, other: str, starts: Mapping[str, Start]) -> bool:
    return one == other or (_takes(one, other, starts) and _takes(other, one, starts))


def _calls_old(name: str, misfits: set[str], starts: Mapping[str, Start]) -> bool:
    return any(starts[name].accepts.get(it, -1) > starts[it].numbers[-1] for it in misfits)


def _takes(one: str, other: str, starts: Mapping[str, Start]) -> bool:
    floor = starts[one].accepts.get(other)
    return floor is not None and starts[other].numbers[-1] >= floor


def _chosen(name: str, cohort: list[str], starts: Mapping[str, Start]) -> int:
    """The oldest prekey of a member that all others of the cohort take."""
    floor = max((starts[it].accepts[name] for it in cohort if it != name), default=0)
    return next(number for number in starts[name].numbers if number >= floor)
