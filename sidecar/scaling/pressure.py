"""What CPU, memory and a queue say when a service is worse off than its demand tells."""

from __future__ import annotations

import math

from .signals import ServiceLimits, Signals

# Above the first a replica is about to be late; the second is where it should be.
_HOT, _WARM = 0.9, 0.75
# What waits should be served within so many minutes.
_DRAIN_MINUTES = 2.0


def pressure(signals: Signals, limits: ServiceLimits, need: int) -> tuple[int, str]:
    """Replicas that these signals ask for, and why; 0 where they ask for nothing. At most twice those that serve."""
    asked, why = 0, ""
    for name, share in (("CPU", signals.cpu), ("memory", signals.memory)):
        if share is None or not math.isfinite(share) or share <= _HOT:
            continue
        wanted = min(math.ceil(signals.ready * share / _WARM), 2 * signals.ready)
        if wanted > asked:
            asked, why = wanted, f"{name} is at {100 * share:.0f} %"
    if signals.queue is not None and math.isfinite(signals.queue) and signals.queue > 0.0:
        # A queue that the present demand leaves behind within the time needs nothing more.
        wanted = need + math.ceil(min(signals.queue / (limits.capacity * _DRAIN_MINUTES), max(need, 1)) - 0.1)
        if wanted > max(asked, need):
            asked, why = wanted, f"{signals.queue:.0f} wait"
    return asked, why
