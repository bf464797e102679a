"""What a scaling policy is told of a service each minute, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ServiceLimits:
    """What a person says of a service.

    Attributes
    ----------
    name : the service
    capacity : demand that one replica serves at its service level (not saturation), in the unit of `Signals.demand`
    minimum, maximum : replicas
    startup_s : seconds from the wish for a replica until it serves; billed
    violation_budget : share of minutes in which demand may exceed capacity
    price : cost of a replica an hour, in whatever currency the user counts
    cooldown_s : seconds after an action in which replicas are not taken away
    """

    name: str
    capacity: float
    minimum: int = 1
    maximum: int = 100
    startup_s: float = 120.0
    violation_budget: float = 0.01
    price: float = 1.0
    cooldown_s: float = 300.0


@dataclass(frozen=True)
class Signals:
    """One look at a service.

    Attributes
    ----------
    at : seconds since the epoch
    demand : requests a minute, or tasks that wait or run; None: not known this time
    ready : replicas that serve
    starting : replicas that were asked for and do not serve yet
    cpu, memory : mean share of what the replicas may use, 0 to 1 and above; None: not known
    queue : requests or tasks that wait; None: not known
    """

    at: float
    demand: float | None
    ready: int
    starting: int = 0
    cpu: float | None = None
    memory: float | None = None
    queue: float | None = None


@dataclass(frozen=True)
class Band:
    """A forecast of demand at the start-up horizon: lower quantile, middle, and the upper one that capacity is for."""

    low: float
    middle: float
    high: float


@dataclass(frozen=True)
class ScalingDecision:
    """What a policy wants of a service, and why.

    Attributes
    ----------
    at : of the signals it was made from
    service : its name
    current : replicas that serve or start
    wanted : replicas it wants
    by : "forecast", "reactive", "guard", "bounds", "cooldown" or "hold": what settled the number
    reason : one sentence with the figures
    pattern : the demand's pattern in words (business hours, peak, off-hours, weekend, unknown)
    trusted : whether the forecast was trusted
    band : the forecast; None where there is none yet
    cost : what was spent so far, in the currency of `ServiceLimits.price`
    violated : share of minutes so far in which demand exceeded capacity
    regret : cost so far over what hindsight would have spent; None before that is known
    """

    at: float
    service: str
    current: int
    wanted: int
    by: str
    reason: str
    pattern: str
    trusted: bool
    band: Band | None
    cost: float
    violated: float
    regret: float | None
