"""Select: who takes part in the next attempt, and why the others do not. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hansa.contract.charter import Charter


@dataclass(frozen=True)
class Selection:
    """A cohort in the charter's order, and a reason for every member that is not in it."""

    cohort: tuple[str, ...]
    left_out: Mapping[str, str]
    # Why no attempt can start; empty when one can.
    shortfall: str


def select(
    charter: Charter, *, connected: Iterable[str], declined: Mapping[str, str], held: Mapping[str, str]
) -> Selection:
    """Every admissible member (PROTOCOL 4.1): connected, willing, and not held out by the operator."""
    here = set(connected)
    left_out: dict[str, str] = {}
    for member in charter.members:
        if member.name in held:
            left_out[member.name] = f"held out: {held[member.name]}"
        elif member.name in declined:
            left_out[member.name] = declined[member.name]
        elif member.name not in here:
            left_out[member.name] = "not connected"
    cohort = tuple(member.name for member in charter.members if member.name not in left_out)
    controllers = charter.controllers(cohort)
    shortfall = ""
    if len(controllers) < charter.minimum_cohort:
        missing = ", ".join(f"{name} ({reason})" for name, reason in left_out.items())
        shortfall = f"{len(controllers)} of at least {charter.minimum_cohort} members can take part; missing: {missing}"
    return Selection(cohort, left_out, shortfall)
