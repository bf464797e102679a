"""What a mechanism did, completely: the vocabulary of `dp_accounting.DpEvent`.

An event's meaning must never change: ledgers are recomputed from them years later. Amounts stand in
charges only because they are looked up; `hansa budgets verify` derives them again from the events.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from hansa.contract.charter import LEAST_SAMPLING_RATE
from hansa.contract.typed import Frozen

# Within these bounds every cost is a finite, positive double; nothing outside them protects or learns anything.
LEAST_MULTIPLIER = 1e-3
Multiplier = Annotated[float, Field(ge=LEAST_MULTIPLIER, le=1e9)]
Rate = Annotated[float, Field(ge=LEAST_SAMPLING_RATE, lt=1)]
Count = Annotated[int, Field(ge=1, le=10**9)]


class Gaussian(Frozen):
    """`count` Gaussian releases over all entities: dp_accounting.SelfComposedDpEvent(GaussianDpEvent(z), count).

    `noise_multiplier` is the noise's standard deviation over the sensitivity of one entity, rounding included.
    """

    event: Literal["gaussian"] = "gaussian"
    noise_multiplier: Multiplier
    count: Count = 1


class PoissonGaussian(Frozen):
    """`count` releases over Poisson samples: PoissonSampledDpEvent(rate, GaussianDpEvent(z)), composed."""

    event: Literal["poisson-gaussian"] = "poisson-gaussian"
    sampling_rate: Rate
    noise_multiplier: Multiplier
    count: Count = 1


Event = Annotated[Gaussian | PoissonGaussian, Field(discriminator="event")]
