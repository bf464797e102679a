"""Each segment's grid and the noise on it, as members and server derive them alike (PROTOCOL section 4). Pure."""

from __future__ import annotations

from collections.abc import Mapping

from hansa.contract.charter import Charter
from hansa.contract.errors import InputError
from hansa.contract.jobs import AttemptKind, JobPlan
from hansa.contract.messages import Order
from hansa.contract.segments import UPDATE, SegmentSpec, member_weight, segment_specs
from hansa.privacy.grid_noise import GridNoise
from hansa.secagg.fixed_point import Grid


def grid_of(spec: SegmentSpec, summands: int) -> Grid:
    """The grid on which so many members of one circle are summed."""
    return Grid(spec.bound, summands, modulus=spec.modulus, tail=spec.tail, within=spec.within)


def noise_share(charter: Charter, summands: int) -> float:
    """Part of a guarantee's noise variance that one member of a circle adds: 1, or 1 / (K - s).

    Raises
    ------
    InputError : K members of whom s may collude or drop leave nobody to add noise
    """
    s = charter.privacy.s
    if charter.privacy.noise != "distributed" or s is None:
        return 1.0
    if summands <= s:
        raise InputError(f"privacy.s = {s} of {summands} members that are summed leaves nobody to add noise")
    return 1.0 / (summands - s)


def segment_weight(name: str, charter: Charter, member: str | None) -> float:
    """What a member multiplies a segment and its noise by; without a member 1, the most that anybody does."""
    return member_weight(charter, member) if name == UPDATE and member is not None else 1.0


def noise_on(
    spec: SegmentSpec, charter: Charter, summands: int, multiplier: float, *, member: str | None
) -> GridNoise:
    """What one member adds to a segment under a guarantee of that noise multiplier.

    Parameters
    ----------
    member : whose; None for as much as anybody adds

    Raises
    ------
    InputError : fewer grid units of noise than the guarantee needs, or more than can be drawn
    """
    return GridNoise(
        clip=spec.clip * segment_weight(spec.name, charter, member),
        length=spec.length,
        scale=grid_of(spec, summands).scale,
        multiplier=multiplier,
        share=noise_share(charter, summands),
    )


def check_noise(
    charter: Charter,
    plan: JobPlan,
    parameters: int,
    noise: Mapping[str, float],
    *,
    member: str | None = None,
    largest: Mapping[str, float] | None = None,
    summands: int | None = None,
) -> None:
    """Whether a member's noise is fine enough on every grid of a job, before anything is spent on it.

    Parameters
    ----------
    parameters : coordinates of the charter's model
    noise : the member's multiplier of each segment
    member : whose; None for one whose sum counts whole
    largest : those of the cohort, which set the grid; its own where they are not known yet
    summands : members that are summed together; as many as the charter allows where they are not known yet

    Raises
    ------
    InputError : the segment, how many units its noise has and how many it needs
    """
    most = largest_circle(charter) if summands is None else summands
    kinds: tuple[AttemptKind, ...] = ("train", "statistics") if plan.check else ("train",)
    for kind in kinds:
        order = Order(
            job=plan.job,
            attempt=1,
            kind=kind,
            base=0,
            cohort=(charter.members[0].name,),
            noise=dict(largest or noise),
            evaluate=kind == "train",
        )
        for spec in segment_specs(charter, plan, order, parameters):
            if spec.multiplier and spec.name in noise:
                try:
                    scale = grid_of(spec, most).scale
                    # Only all shares together must be fine enough.
                    clip = spec.clip * segment_weight(spec.name, charter, member)
                    GridNoise(clip, spec.length, scale, noise[spec.name])
                except (InputError, ValueError) as error:
                    raise InputError(f"segment '{spec.name}', {most} members: {error}") from None


def largest_circle(charter: Charter) -> int:
    """Most members that are ever summed together: all, or those of the largest group a cohort is split into."""
    n, least = len(charter.members), charter.protection.audit_groups
    return n if least is None else min(n, (2 * least - 1) * max(charter.protection.c, 1))
