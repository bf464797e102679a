"""What an agent asks of whatever computes on its records."""

from __future__ import annotations

from collections.abc import Mapping
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

    def check_preparation(self, segments: Segments) -> None:
        """Refuse a preparation that no contract check can lead to."""
        ...

    def run(self, plan: JobPlan, order: Order, segments: Segments, noise: Mapping[str, float]) -> Segments:
        """Compute an attempt's upload.

        Parameters
        ----------
        noise : the multiplier z that is charged, by segment; empty where the charter has no noise
        """
        ...

    def keep(self, plan: JobPlan, segments: Segments, rounds: int) -> None:
        """Keep the final model, that of so many rounds."""
        ...
