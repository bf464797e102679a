"""How a cohort is split where the charter has `audit_groups`: at random, into as many groups as it allows. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from hansa.contract.charter import Charter

Groups = tuple[tuple[str, ...], ...]


def split(cohort: Sequence[str], charter: Charter, randomness: Random) -> Groups:
    """K // g groups of K controllers, each of at least g; members of one controller stay together.

    Empty where the charter has no groups, or the cohort is too small for two.

    Parameters
    ----------
    randomness : the server's own; a member may not foresee with whom it is summed
    """
    least = charter.protection.audit_groups
    controllers = sorted(charter.controllers(cohort))
    if least is None or len(controllers) < 2 * least:
        return ()
    randomness.shuffle(controllers)
    count = len(controllers) // least
    place = {controller: position % count for position, controller in enumerate(controllers)}
    of = {member.name: place[member.controller] for member in charter.members if member.name in cohort}
    return tuple(tuple(name for name in cohort if of[name] == number) for number in range(count))
