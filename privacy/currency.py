"""The two currencies of a budget, both additive, so that admission is a filter (DESIGN section 6).

`gdp`: mu² of unsubsampled Gaussian releases, exact under full adaptivity (Smith and Thakurta 2210.17520).
`rdp`: Rényi divergence at one order, fixed when the data set's cap is made (Feldman and Zrnic 2008.11193
hold for one order fixed beforehand, not for the best one afterwards). A PLD, PRV or central-limit
accountant is no filter under adaptivity, and none is in here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field, model_validator

from hansa.contract.errors import InputError, RefusalError
from hansa.contract.typed import Frozen
from hansa.privacy.curves import (
    gaussian_epsilon,
    gaussian_mu,
    gaussian_rdp,
    rdp_budget,
    rdp_epsilon,
    subsampled_gaussian_rdp,
)
from hansa.privacy.events import Event, Gaussian, PoissonGaussian

LEAST_ORDER, MOST_ORDER = 2, 1024
LEAST_MULTIPLIER, MOST_MULTIPLIER = 1e-3, 1e9


class Currency(Frozen):
    """How a data set's privacy is counted; fixed for all its grants."""

    name: Literal["gdp", "rdp"]
    # The one Rényi order; None in `gdp`.
    order: Annotated[int, Field(ge=LEAST_ORDER, le=MOST_ORDER)] | None = None

    @model_validator(mode="after")
    def _complete(self) -> Currency:
        if (self.name == "rdp") != (self.order is not None):
            raise ValueError("currency rdp names its one order, gdp has none")
        return self

    def budget(self, epsilon: float, delta: float) -> float:
        """What (epsilon, delta) buys.

        Raises
        ------
        InputError : nothing, because the order is too low for that delta
        """
        if self.order is None:
            return gaussian_mu(epsilon, delta) ** 2
        amount = rdp_budget(epsilon, delta, self.order)
        if amount <= 0:
            raise InputError(
                f"epsilon {epsilon:g} at delta {delta:g} buys nothing at Rényi order {self.order}: "
                f"it must be above {math.log(1 / delta) / (self.order - 1):.3g}"
            )
        return amount

    def cost(self, *events: Event) -> float:
        """What events take together.

        Raises
        ------
        RefusalError : `wrong-currency`, a subsampled release under `gdp`
        """
        return math.fsum(event.count * self._each(event) for event in events)

    def epsilon(self, amount: float, delta: float) -> float:
        """What an amount means as epsilon at that delta."""
        if amount <= 0:
            return 0.0
        if self.order is None:
            return gaussian_epsilon(math.sqrt(amount), delta)
        return rdp_epsilon(amount, self.order, delta)

    def mu(self, amount: float) -> float:
        """The mu of the Gaussian releases that an amount pays for."""
        return math.sqrt(amount if self.order is None else 2.0 * amount / self.order)

    def multiplier(self, amount: float, releases: int, sampling_rate: float = 1.0) -> float:
        """Smallest noise multiplier at which so many releases cost at most `amount` together.

        Parameters
        ----------
        sampling_rate : below 1 each release is over a Poisson sample at that rate

        Raises
        ------
        RefusalError : `wrong-currency`, a subsampled release under `gdp`
        InputError : there is nothing to spend, or even the largest noise costs more
        """
        if not (amount > 0 and math.isfinite(amount)) or releases < 1:
            raise InputError(f"{releases} releases cannot be paid from an amount of {amount:g}")
        if not self._fits(amount, releases, sampling_rate, MOST_MULTIPLIER):
            raise InputError(
                f"an amount of {amount:g} is too small for {releases} releases, whatever the noise"
            )
        if sampling_rate >= 1.0:
            found = math.sqrt(releases * (1.0 if self.order is None else self.order / 2.0) / amount)
            found = max(found, LEAST_MULTIPLIER)
            # Exact up to rounding; the side on which it fits is the safe one.
            while not self._fits(amount, releases, sampling_rate, found):
                found = math.nextafter(found, math.inf)
            return found
        low, high = LEAST_MULTIPLIER, MOST_MULTIPLIER
        if self._fits(amount, releases, sampling_rate, low):
            return low
        while high > low * (1 + 1e-12):
            middle = math.sqrt(low * high)
            if self._fits(amount, releases, sampling_rate, middle):
                high = middle
            else:
                low = middle
        return high

    def at_least(self, amount: Fraction) -> Gaussian:
        """Releases that cost an amount whose events are not known: hardly more than it, and never less.

        Raises
        ------
        InputError : no ledger can have spent so much, or nothing
        """
        if amount <= 0:
            raise InputError("an amount of 0 needs no charge")
        most = self._each(Gaussian(noise_multiplier=LEAST_MULTIPLIER))
        count = math.ceil(amount / Fraction(most))
        if count > 10**9:
            raise InputError(f"an amount of {float(amount):g} is more than a charge can hold")
        unit = 1.0 if self.order is None else self.order / 2.0
        found = min(max(math.sqrt(unit * count / float(amount)), LEAST_MULTIPLIER), MOST_MULTIPLIER)
        while Fraction(self.cost(event := Gaussian(noise_multiplier=found, count=count))) < amount:
            if found > LEAST_MULTIPLIER:
                found = max(math.nextafter(found, 0.0), LEAST_MULTIPLIER)
            else:
                count += 1
        return event

    def _fits(self, amount: float, releases: int, rate: float, multiplier: float) -> bool:
        return self.cost(release(multiplier, releases, rate)) <= amount

    def _each(self, event: Event) -> float:
        if isinstance(event, PoissonGaussian):
            if self.order is None:
                raise RefusalError(
                    "wrong-currency",
                    "a release over a Poisson sample cannot be counted in gdp; the data set's cap must be in rdp",
                )
            return subsampled_gaussian_rdp(event.sampling_rate, event.noise_multiplier, self.order)
        if self.order is None:
            return 1.0 / event.noise_multiplier**2
        return gaussian_rdp(event.noise_multiplier, self.order)


GDP = Currency(name="gdp")


def release(multiplier: float, count: int = 1, sampling_rate: float = 1.0) -> Event:
    """The event of `count` releases: over everybody, or over Poisson samples where the rate is below 1."""
    if sampling_rate >= 1.0:
        return Gaussian(noise_multiplier=multiplier, count=count)
    return PoissonGaussian(sampling_rate=sampling_rate, noise_multiplier=multiplier, count=count)


def rdp_currency(epsilon: float, delta: float, planned: Iterable[Event] = ()) -> Currency:
    """`rdp` at the order at which a cap pays for the planned events most often.

    Parameters
    ----------
    planned : what will be charged; by default Gaussian releases, then the largest mu² fits

    Raises
    ------
    InputError : at no order does (epsilon, delta) buy anything
    """
    # Of a Gaussian the divergence is proportional to the order, whatever its noise.
    events = tuple(planned) or (Gaussian(noise_multiplier=1.0),)
    best, most = None, 0.0
    for order in range(LEAST_ORDER, MOST_ORDER + 1):
        amount = rdp_budget(epsilon, delta, order)
        if amount <= 0:
            continue
        currency = Currency(name="rdp", order=order)
        often = amount / currency.cost(*events)
        if often > most:
            best, most = currency, often
    if best is None:
        raise InputError(f"epsilon {epsilon:g} at delta {delta:g} is too small for the currency rdp; use gdp")
    return best
