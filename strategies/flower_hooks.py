"""Flower's four hooks, for whoever drives a round through `grid.send_and_receive`.

They are the phases of `ConsortiumStrategy` in Flower's order and nothing else: `start` does not use them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable

from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord
from flwr.serverapp import Grid
from flwr.serverapp.strategy import Strategy

from hansa.contract.content import unwrap, wrap
from hansa.contract.errors import HansaError, MessageError
from hansa.contract.jobs import AttemptKind, AttemptResult
from hansa.strategies.attempt import Attempt
from hansa.strategies.exchange import MESSAGE_TYPE, ExchangeError
from hansa.strategies.ports import Journal
from hansa.strategies.selection import Selection


class FlowerHooks(Strategy):
    """Turns a strategy's phases into Flower's hooks."""

    journal: Journal
    # Whether the figures of the current model are known.
    evaluated: bool

    def __init__(self) -> None:
        self._pending: Attempt | None = None

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Whether the strategy has a grid."""

    @abstractmethod
    def connect(self, grid: Grid) -> None:
        """Take the grid this run talks through."""

    @abstractmethod
    def prepare(self) -> None:
        """What comes before the first round; nothing where that is done."""

    @abstractmethod
    def select(self) -> Selection:
        """The next cohort."""

    @abstractmethod
    def open(self, kind: AttemptKind, selection: Selection) -> Attempt:
        """Take an attempt number and write the signed request."""

    @abstractmethod
    def note_uploads(self, attempt: Attempt) -> None:
        """Write down what the answers say, once nobody is waited for any more."""

    @abstractmethod
    def unmask(self, attempt: Attempt) -> None:
        """Have the members agree on who answered, and open the masks."""

    @abstractmethod
    def apply(self, attempt: Attempt) -> AttemptResult:
        """Turn the sum into the next state."""

    @abstractmethod
    def fail(self, attempt: Attempt, reason: str) -> AttemptResult:
        """Write that an attempt came to nothing."""

    @abstractmethod
    def array_record(self) -> ArrayRecord:
        """The released model."""

    def configure_train(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Select and order: one message for every member of the cohort."""
        return self._messages("train", grid)

    def aggregate_train(
        self, server_round: int, replies: Iterable[Message]
    ) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Sum, unmask and apply; (None, None) when the attempt came to nothing."""
        attempt = self._receive(replies)
        self.unmask(attempt)
        result = self.apply(attempt)
        return (self.array_record(), _metric_record(result)) if result.status == "applied" else (None, None)

    def configure_evaluate(
        self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid
    ) -> Iterable[Message]:
        """Order an evaluation of the current model."""
        return [] if self.evaluated else self._messages("evaluate", grid)

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Figures of the current model from the summed histograms."""
        if self._pending is None:
            return None
        attempt = self._receive(replies)
        self.unmask(attempt)
        shortfall = attempt.shortfall()
        if shortfall:
            self.fail(attempt, shortfall)
            return None
        result = attempt.result("evaluated", round_number=None)
        self.journal.commit(result, None)
        self.evaluated = True
        return _metric_record(result)

    def _messages(self, kind: AttemptKind, grid: Grid) -> list[Message]:
        if not self.connected:
            self.connect(grid)
        self.prepare()
        self._pending = self.open(kind, self.select())
        ttl = 2 * self.journal.plan.deadline_s
        return [
            Message(wrap(payload), node, MESSAGE_TYPE, ttl=ttl)
            for node, payload in self._pending.requests.items()
        ]

    def _receive(self, replies: Iterable[Message]) -> Attempt:
        if self._pending is None:
            raise HansaError("replies came before an attempt was configured")
        attempt, self._pending = self._pending, None
        for message in replies:
            attempt.receive(message.metadata.src_node_id, _payload(message))
        self.note_uploads(attempt)
        return attempt


def _payload(message: Message) -> bytes | HansaError:
    if message.has_error():
        return ExchangeError(message.error.reason or "failed without a reason", message.error.code)
    try:
        return unwrap(message.content)
    except MessageError as error:
        return error


def _metric_record(result: AttemptResult) -> MetricRecord:
    """Released figures; the standard error of each noised one as NAME_error."""
    figures = {name: metric.value for name, metric in result.metrics.items()}
    errors = {f"{name}_error": it.error for name, it in result.metrics.items() if it.error is not None}
    return MetricRecord({**figures, **errors})
