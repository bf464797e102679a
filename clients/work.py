"""What an agent asks of whatever computes on its records."""

from __future__ import annotations

from typing import Protocol

from hansa.contract.jobs import JobPlan
from hansa.contract.messages import Order
from hansa.contract.wire import Segments


class Work(Protocol):
    """What a member does with its records; `clients.attempt.LocalWork` is the real one."""

    @property
    def parameters(self) -> int:
        """Coordinates of the charter's model."""
        ...

    def check(self, order: Order, segments: Segments) -> None:
        """Refuse segments that are not what the order needs, before the attempt is accepted."""
        ...

    def run(self, plan: JobPlan, order: Order, segments: Segments) -> Segments:
        """Compute an attempt's upload."""
        ...

    def keep(self, plan: JobPlan, segments: Segments) -> None:
        """Keep the final model."""
        ...
