"""What an agent asks of whatever computes on its records."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Protocol, runtime_checkable

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


@runtime_checkable
class Forgetting(Work, Protocol):
    """Work on records by entity, of which some can be left out."""

    @property
    def entities(self) -> int:
        """How many entities it computes on."""
        ...

    def known(self, entities: Collection[bytes]) -> frozenset[bytes]:
        """Those of these entities that it has records of."""
        ...

    def without(self, entities: Collection[bytes]) -> Forgetting:
        """The same on the records of the other entities."""
        ...
