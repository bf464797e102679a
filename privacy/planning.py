"""From a grant to noise, and whether it is worth it, before anything is spent (DESIGN section 6).

Noise is derived, never configured: a job takes a share of its grant, a tenth of that for the contract
check of the training part, the rest evenly over its releases. The holdout part is spread over evaluations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field

from hansa.contract.charter import SamplingRate
from hansa.contract.errors import InputError, RefusalError
from hansa.contract.jobs import evaluations as evaluations
from hansa.contract.typed import Frozen
from hansa.privacy.accounts import FREE_UNFINISHED, UNFINISHED_PER_FINISHED, GrantAccount
from hansa.privacy.currency import Currency
from hansa.privacy.records import ReleaseAmounts

# Of a job's training amount, for the contract check (NOTES-training: 10 % of mu²).
CHECK_SHARE = 0.1
# Under the first kappa no table lost more than .018; above the second do not begin (NOTES-training).
FINE, POINTLESS = 0.06, 0.15
# No reading of a table comes near it, and up to here everything is a double.
_HOPELESS = 1e100
# Nobody has so many records.
_MOST_RECORDS = 1e12
# So that sums of equal parts stay below the whole, whatever is rounded.
_SAFE = 1.0 - 1e-12

Verdict = Literal["fine", "doubtful", "pointless"]


class JobBudget(Frozen):
    """What a job asks of a grant; all of it public."""

    rounds: Annotated[int, Field(ge=1, le=100_000)]
    steps: Annotated[int, Field(ge=1, le=10_000)] = 1
    # Evaluations on hold-out records; 0 where there are none.
    evaluations: Annotated[int, Field(ge=0, le=200_000)] = 0
    check: bool = False
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    # Below 1: steps over Poisson samples at this rate.
    sampling_rate: SamplingRate = 1.0

    @property
    def releases(self) -> int:
        """Noised sums over training records, the contract check aside."""
        return self.rounds * self.steps


class NoisePlan(Frozen):
    """Noise multipliers by purpose (None where nothing is released), and what they cost."""

    check: float | None
    train: float | None
    evaluate: float | None
    # What one release of each takes.
    amounts: ReleaseAmounts
    # The most the job may take of either part.
    most: float

    def round_cost(self, steps: int) -> float:
        """What one round takes of the training part."""
        return steps * self.amounts.training


@dataclass(frozen=True)
class Outlook:
    """Whether a plan can teach anything: kappa, the verdict, and what would help."""

    kappa: float
    verdict: Verdict
    advice: str


def plan_noise(currency: Currency, amount: float, budget: JobBudget) -> NoisePlan:
    """Derive the noise of a job from its grant.

    Parameters
    ----------
    amount : of the grant, in its currency; of what an approval lets the job take where that is less

    Raises
    ------
    RefusalError : `wrong-currency`, Poisson samples under gdp
    InputError : so little that no noise is large enough
    """
    most = amount * budget.share
    check = CHECK_SHARE * most * _SAFE if budget.check else 0.0
    training = (most - check) * _SAFE / budget.releases
    holdout = most * _SAFE / budget.evaluations if budget.evaluations else 0.0
    return NoisePlan(
        check=currency.multiplier(check, 1) if budget.check else None,
        train=currency.multiplier(training, 1, budget.sampling_rate),
        evaluate=currency.multiplier(holdout, 1) if budget.evaluations else None,
        amounts=ReleaseAmounts(check=check, training=training, holdout=holdout),
        most=most,
    )


def with_failures(budget: JobBudget, noise: NoisePlan) -> float:
    """What the planned releases take of the part that loses more, and as many failed attempts as may be.

    A failed attempt is paid; without this allowance it would make the last planned round impossible.
    """
    amounts = noise.amounts
    failures = int(FREE_UNFINISHED + UNFINISHED_PER_FINISHED * budget.rounds)
    attempt = max(budget.steps * amounts.training, amounts.check)
    training = amounts.check + budget.releases * amounts.training + failures * attempt
    return max(training, (budget.evaluations + failures) * amounts.holdout)


def noise_floor(currency: Currency, amount: float, budget: JobBudget, fewest_rounds: int) -> float:
    """Smallest noise multiplier of a training release: the charter's fewest rounds share the same amount.

    Keeps one round from taking what was meant for many.
    """
    fewest = budget.model_copy(update={"rounds": fewest_rounds})
    train = plan_noise(currency, amount, fewest).train
    assert train is not None
    return train


def check_floor(multiplier: float, floor: float, fewest_rounds: int) -> None:
    """Raise `noise-below-floor` for less noise than the charter's fewest rounds would bring."""
    if multiplier < floor * (1.0 - 1e-9):
        raise RefusalError(
            "noise-below-floor",
            f"a noise multiplier of {multiplier:.4g} is below {floor:.4g}, that of the charter's fewest rounds, "
            f"{fewest_rounds}: plan at least as many",
        )


def rounds_left(grant: GrantAccount, round_cost: float) -> int:
    """Rounds that what remains of a grant pays for."""
    return int(Fraction(grant.remaining) / Fraction(round_cost)) if round_cost > 0 else 0


def outlook(
    *, members: int, colluding: int, parameters: int, records: float, prevalence: float, mu: float
) -> Outlook:
    """Whether noise will drown the signal, from public numbers (NOTES-training).

        kappa = sqrt(K / (K - s)) * sqrt(d) / (N * pi * (1 - pi) * mu)

    Parameters
    ----------
    members : K, the cohort
    colluding : s, members whose noise does not count; K - 1 where noise is `local`
    parameters : d, length of the noised sum
    records : N, training records of all members together
    prevalence : pi, share of the positive class
    mu : of all training releases of one member's job (`Currency.mu`)

    Raises
    ------
    InputError : a number outside its range
    """
    if not 0 <= colluding < members:
        raise InputError(f"s = {colluding} of {members} members: it must lie between 0 and {members - 1}")
    if not 0 < prevalence < 1:
        raise InputError(f"a prevalence of {prevalence:g}: it must lie between 0 and 1")
    if parameters < 1 or not records > 0 or not mu > 0:
        raise InputError(f"{parameters} parameters, {records:g} records, mu {mu:g}: all must be positive")
    spread = math.sqrt(members / (members - colluding))
    signal = records * prevalence * (1 - prevalence) * mu
    kappa = spread * math.sqrt(parameters) / signal if signal > 0 else math.inf
    if kappa > _HOPELESS:
        raise InputError(
            f"{records:g} records, a prevalence of {prevalence:g} and mu {mu:g}: noise of more than {_HOPELESS:g} "
            "times the signal has no plan"
        )
    if kappa < FINE:
        return Outlook(kappa=kappa, verdict="fine", advice="")
    verdict: Verdict = "doubtful" if kappa <= POINTLESS else "pointless"
    times = kappa / FINE
    ways = [f"mu {mu * times:.2g} instead of {mu:.2g} (a larger epsilon or share)"]
    if (more := records * (times - 1)) < _MOST_RECORDS:
        ways.insert(0, f"members with {math.ceil(more):,} more records")
    if parameters / times**2 >= 2:
        ways.append(f"{int(parameters / times**2)} columns instead of {parameters}")
    if spread > 1 and kappa / spread < FINE:
        ways.append("distributed noise with a smaller s")
    return Outlook(kappa=kappa, verdict=verdict, advice="any of these would make it fine: " + "; ".join(ways))
