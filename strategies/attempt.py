"""One attempt at the server: what was ordered, who answered, and the sum of what came.

Each upload is added to the sum as it arrives and dropped, so memory does not grow with members.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hansa.contract.charter import Charter
from hansa.contract.errors import HansaError, MessageError
from hansa.contract.jobs import AttemptResult, AttemptStatus, JobPlan, MetricValue, Outcome, Participation
from hansa.contract.messages import Order, RefusalReply, Segments, UploadReply
from hansa.contract.segments import EVALUATION, UPDATE, SegmentSpec, divisor
from hansa.models.scores import figures
from hansa.secagg.fixed_point import Grid, add_into
from hansa.strategies.requests import Desk, Reply


@dataclass
class Attempt:
    """Opened with an order, fed with replies, closed with a result."""

    desk: Desk
    plan: JobPlan
    order: Order
    request: bytes
    specs: tuple[SegmentSpec, ...]
    # Node id of every member of the cohort.
    addresses: Mapping[str, int]
    # Why the members could not agree on who answered; empty where they did, or nothing was to agree on.
    disagreement: str = ""
    began: float = field(default_factory=time.monotonic)
    _sums: dict[str, NDArray[np.uint32]] = field(default_factory=dict)
    _entries: dict[str, Participation] = field(default_factory=dict)

    @property
    def charter(self) -> Charter:
        """The agreement this attempt runs under."""
        return self.desk.charter

    @property
    def requests(self) -> dict[int, bytes]:
        """The payload of every node of the cohort."""
        return {self.addresses[name]: self.request for name in self.order.cohort}

    @property
    def active(self) -> tuple[str, ...]:
        """Members whose upload is in the sum, in the cohort's order."""
        return tuple(
            name
            for name in self.order.cohort
            if name in self._entries and self._entries[name].outcome == "replied"
        )

    @property
    def silent(self) -> tuple[str, ...]:
        """Members that did not answer at all, or whose answer cannot be used."""
        return tuple(
            name
            for name in self.order.cohort
            if name not in self._entries or self._entries[name].outcome in ("failed", "missing")
        )

    def receive(self, node: int, answer: bytes | HansaError) -> None:
        """Take one member's answer: add an upload to the sums, record anything else."""
        member = next((name for name in self.order.cohort if self.addresses[name] == node), None)
        if member is None or member in self._entries:
            return
        if isinstance(answer, HansaError):
            self._note(member, "failed", code="agent-unavailable", sentence=str(answer))
            return
        try:
            reply = self.desk.read(answer, self.request)
            if reply.header.sender != member:
                raise MessageError(f"{member}'s node answers in the name of {reply.header.sender}")
            self._take(member, reply, len(answer))
        except MessageError as error:
            self._note(member, "failed", code="bad-reply", sentence=str(error), size=len(answer))

    def _take(self, member: str, reply: Reply, size: int) -> None:
        body = reply.header.body
        if isinstance(body, RefusalReply):
            self._note(member, "refused", code=body.code, sentence=body.sentence, size=size)
            return
        if not isinstance(body, UploadReply) or (body.job, body.attempt) != (
            self.order.job,
            self.order.attempt,
        ):
            raise MessageError(f"{member} answers an attempt with '{body.type}'")
        self._check_sizes(member, reply.segments)
        for spec in self.specs:
            part = reply.segments[spec.name]
            if spec.name in self._sums:
                add_into(self._sums[spec.name], part)
            else:
                self._sums[spec.name] = part.copy()
        self._note(member, "replied", size=size)

    def _check_sizes(self, member: str, segments: Segments) -> None:
        expected = {spec.name: spec.length for spec in self.specs}
        found = {name: array.size for name, array in segments.items()}
        if found != expected or any(array.dtype != np.dtype("<u4") for array in segments.values()):
            raise MessageError(f"{member} sent segments {found}, the order needs {expected} as u32")

    def _note(
        self, member: str, outcome: Outcome, *, code: str = "", sentence: str = "", size: int = 0
    ) -> None:
        self._entries[member] = Participation(
            member=member,
            outcome=outcome,
            seconds=time.monotonic() - self.began,
            bytes_up=size,
            bytes_down=len(self.request),
            code=code,
            sentence=sentence,
        )

    def shortfall(self) -> str:
        """Why the sum may not be used: too few uploads, or no agreement on them. Empty when it may."""
        if self.disagreement:
            return self.disagreement
        controllers = self.charter.controllers(self.active)
        if len(controllers) >= self.charter.minimum_cohort:
            return ""
        lost = ", ".join(
            f"{name} ({self._why(name)})" for name in self.order.cohort if name not in self.active
        )
        return f"{len(controllers)} uploads arrived, the charter needs {self.charter.minimum_cohort}; missing: {lost}"

    def _why(self, member: str) -> str:
        entry = self._entries.get(member)
        return "no answer" if entry is None else entry.code or entry.outcome

    def mean_update(self) -> NDArray[np.float64]:
        """The sum, dequantised and divided by a public constant. Shape (d,)."""
        return self._decoded(UPDATE) / divisor(self.charter, self.plan, self.active)

    def metrics(self) -> dict[str, MetricValue]:
        """Figures of the state `base`, from the summed histograms; empty where nothing was evaluated."""
        if EVALUATION not in self._sums or self.shortfall():
            return {}
        return figures(self.charter.task.features, self._decoded(EVALUATION))

    def result(self, status: AttemptStatus, *, round_number: int | None, reason: str = "") -> AttemptResult:
        """What the attempt leaves behind."""
        for name in self.order.cohort:
            if name not in self._entries:
                self._note(name, "missing", sentence="no answer within the deadline")
        return AttemptResult(
            job=self.order.job,
            attempt=self.order.attempt,
            kind=self.order.kind,
            status=status,
            base=self.order.base,
            round=round_number,
            cohort=self.order.cohort,
            active=self.active,
            left_out=self.order.left_out,
            participation=tuple(self._entries[name] for name in self.order.cohort),
            knobs=self.order.knobs,
            metrics=self.metrics() if status in ("applied", "evaluated") else {},
            seconds=time.monotonic() - self.began,
            reason=reason,
        )

    def _decoded(self, name: str) -> NDArray[np.float64]:
        spec = next(spec for spec in self.specs if spec.name == name)
        return Grid(spec.bound, spec.summands).decode(self._sums[name])
