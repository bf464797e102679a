"""The noise of a cohort: what each member said when it approved the job, and what an order makes of it. Pure.

A member derives its noise from its own grant. The largest of a cohort sets the grid, so whoever would make
it too coarse for the noise of the others is left out, the loudest first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hansa.contract.charter import Charter
from hansa.contract.errors import InputError, RefusalCode
from hansa.contract.jobs import AttemptKind, JobPlan
from hansa.contract.segments import EVALUATION, STATISTICS, UPDATE
from hansa.strategies.grids import check_noise, largest_circle, segment_weight

# Noise multipliers by segment.
Noise = Mapping[str, float]

# What a member says whose budget does not pay for a job, or not any more. Asking again changes nothing.
UNPAID: frozenset[RefusalCode] = frozenset(
    (
        *("budget-exhausted", "grant-expired", "grant-frozen", "data-not-granted", "attempt-limit"),
        *("noise-below-floor", "wrong-currency", "ledger-behind-witness"),
    )
)


@dataclass(frozen=True)
class Loudness:
    """Members whose noise fits on one grid: the largest multiplier of each segment, and why others do not fit."""

    largest: Noise
    left_out: Mapping[str, str]


def noised_segments(kind: AttemptKind, evaluate: bool) -> frozenset[str]:
    """Segments of an order that carry noise where the charter has any."""
    first = {"train": UPDATE, "statistics": STATISTICS, "evaluate": EVALUATION}[kind]
    return frozenset((first, EVALUATION) if evaluate else (first,))


def order_noise(largest: Noise, kind: AttemptKind, evaluate: bool) -> dict[str, float]:
    """What an order says: the largest multiplier of each segment that it asks for; empty without privacy."""
    asked = noised_segments(kind, evaluate)
    return {name: multiplier for name, multiplier in largest.items() if name in asked}


def noise_problem(noise: Noise, charter: Charter, plan: JobPlan) -> str:
    """Why a member that approved a job with that noise cannot take part; empty where it can."""
    kind = charter.privacy.noise
    if kind == "none":
        return "the charter has no noise, it named some" if noise else ""
    needed = {UPDATE, EVALUATION} | ({STATISTICS} if plan.check else set())
    if missing := sorted(needed - set(noise)):
        return f"the charter has noise '{kind}', it named none for segment '{missing[0]}'"
    if strange := sorted(set(noise) - needed):
        return f"it named noise for segment '{strange[0]}', which this job does not have"
    return ""


def fit(noise: Mapping[str, Noise], charter: Charter, plan: JobPlan, parameters: int) -> Loudness:
    """Whose noise fits on one grid.

    Parameters
    ----------
    noise : of each member that could take part, one in which `noise_problem` found nothing
    parameters : coordinates of the charter's model
    """
    there, left_out = dict(noise), dict[str, str]()
    if charter.privacy.noise == "none":
        return Loudness({}, left_out)
    for segment in sorted({name for own in noise.values() for name in own}):
        while there:
            multipliers = {name: own[segment] for name, own in there.items()}
            added = {name: segment_weight(segment, charter, name) * it for name, it in multipliers.items()}
            quietest, loudest = (
                min(added, key=added.__getitem__),
                max(multipliers, key=multipliers.__getitem__),
            )
            least, most = added[quietest], multipliers[loudest]
            if charter.privacy.noise == "distributed":
                # Every member adds a share of the largest.
                least = most
            summands = min(len(there), largest_circle(charter))
            if not _problem(charter, plan, parameters, segment, least, most, summands):
                break
            if problem := _problem(charter, plan, parameters, segment, least, least, summands):
                left_out[quietest] = problem
                del there[quietest]
                continue
            left_out[loudest] = (
                f"its noise multiplier of {most:.4g} for segment '{segment}' needs so wide a grid "
                f"that the noise of {quietest}, {least:.4g}, would be too coarse"
            )
            del there[loudest]
    largest: dict[str, float] = {}
    for own in there.values():
        for segment, multiplier in own.items():
            largest[segment] = max(multiplier, largest.get(segment, 0.0))
    return Loudness(largest, left_out)


def _problem(
    charter: Charter, plan: JobPlan, parameters: int, segment: str, own: float, largest: float, summands: int
) -> str:
    """Why noise of that multiplier is too coarse on a grid with room for the largest; empty where it is not."""
    try:
        check_noise(charter, plan, parameters, {segment: own}, largest={segment: largest}, summands=summands)
    except InputError as error:
        return str(error)
    return ""
