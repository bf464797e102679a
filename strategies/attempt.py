"""One attempt at the server: what was ordered, who answered, and the sum of what came.

Each upload is added to the sum of its circle as it arrives and dropped, so memory does not grow with members.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from hansa.contract.charter import Charter
from hansa.contract.errors import HansaError, MessageError
from hansa.contract.jobs import (
    PER_UPDATE_RULES,
    AttemptResult,
    AttemptStatus,
    JobPlan,
    MetricValue,
    Outcome,
    Participation,
)
from hansa.contract.messages import PREKEYS, Order, Receipt, RefusalReply, UploadReply
from hansa.contract.segments import EVALUATION, UPDATE, SegmentSpec, divisor
from hansa.contract.wire import Segments, digest
from hansa.models.scores import figures
from hansa.secagg.active_set import open_circles, receipt_valid
from hansa.secagg.fixed_point import Grid
from hansa.secagg.prekeys import Prekey, prekey_bytes
from hansa.secagg.server import Circle, Summation
from hansa.strategies.requests import Desk, Reply
from hansa.strategies.robust import center, least_updates
from hansa.strategies.start_exchange import RESTARTED


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
    # The prekey of every member of the cohort; none in mode `clear`.
    prekeys: Mapping[str, Prekey]
    # Called with a member and its upload, which brings a new prekey where one was used.
    restock: Callable[[str, Segments], None]
    # Why the sum may not be used although enough uploads arrived; empty where nothing happened to it.
    failure: str = ""
    began: float = field(default_factory=time.monotonic)
    # What each active member signed; shown to the others before they give shares.
    receipts: dict[str, Receipt] = field(default_factory=dict)
    summation: Summation = field(init=False)
    # The request's hash, which every reply names, and its size; they outlive its bytes.
    _asked: str = field(init=False)
    _size: int = field(init=False)
    # Each member's mean update, where the job's rule looks at them one by one; empty otherwise.
    _single: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    _entries: dict[str, Participation] = field(default_factory=dict)
    _complaints: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.summation = Summation(self.order.circles)
        self._asked, self._size = digest(self.request), len(self.request)

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
    def dropped(self) -> tuple[str, ...]:
        """The rest of the cohort."""
        active = set(self.active)
        return tuple(name for name in self.order.cohort if name not in active)

    @property
    def open_circles(self) -> tuple[Circle, ...]:
        """Circles whose sum is used: all, but groups with too few active members."""
        return open_circles(self.order, self.active, self.charter)

    @property
    def lost(self) -> tuple[str, ...]:
        """Members that did not answer, or not usefully, or do not know any more what they knew: to be greeted again."""
        return tuple(name for name in self.order.cohort if self._is_lost(self._entries.get(name)))

    def _is_lost(self, entry: Participation | None) -> bool:
        return entry is None or entry.outcome in ("failed", "missing") or entry.code in RESTARTED

    @property
    def complaints(self) -> dict[str, str]:
        """Members that refused because of another's badly made prekey, each with the maker it names."""
        return dict(self._complaints)

    def drop_request(self) -> None:
        """Nobody is asked again: the request, which is as large as the models in it, is needed no more."""
        self.request = b""

    def receive(self, node: int, answer: bytes | HansaError) -> None:
        """Take one member's answer: add an upload to the sums, record anything else."""
        member = next((name for name in self.order.cohort if self.addresses[name] == node), None)
        if member is None or member in self._entries:
            return
        if isinstance(answer, HansaError):
            self._note(member, "failed", code="agent-unavailable", sentence=str(answer))
            return
        try:
            reply = self.desk.read(answer, self._asked, self._segment_bytes)
            if reply.header.sender != member:
                raise MessageError(f"{member}'s node answers in the name of {reply.header.sender}")
            self._take(member, reply, len(answer))
        except MessageError as error:
            self._note(member, "failed", code="bad-reply", sentence=str(error), size=len(answer))

    def _take(self, member: str, reply: Reply, size: int) -> None:
        body = reply.header.body
        if isinstance(body, RefusalReply):
            self._note(member, "refused", code=body.code, sentence=body.sentence, size=size)
            maker = body.facts.get("maker")
            if body.code == "bad-share" and maker in self.order.cohort:
                self._complaints[member] = str(maker)
            return
        if not isinstance(body, UploadReply) or (body.job, body.attempt) != (
            self.order.job,
            self.order.attempt,
        ):
            raise MessageError(f"{member} answers an attempt with '{body.type}'")
        if body.receipt.charges or body.receipt.head is not None:
            # It is shown to everybody with the shares: what nothing here can check is not passed on.
            raise MessageError(f"{member} sent a receipt with charges or a head; there is no ledger yet")
        parts = self._parts(member, reply.segments)
        if self.prekeys:
            if not receipt_valid(member, self.order, body.receipt, self.desk.parties):
                raise MessageError(f"{member} sent a receipt that it did not sign for this order")
            self.receipts[member] = body.receipt
            self.restock(member, reply.segments)
        self.summation.add(member, parts)
        if self.plan.rule.name in PER_UPDATE_RULES and UPDATE in parts and not self.prekeys:
            spec = next(spec for spec in self.specs if spec.name == UPDATE)
            update = Grid(spec.bound, len(self.order.cohort), tail=spec.tail).decode(parts[UPDATE])
            self._single[member] = update / divisor(self.charter, self.plan, (member,))
        self._note(member, "replied", size=size)

    def _parts(self, member: str, segments: Segments) -> Segments:
        """What is summed of an upload: exactly the segments that the order asks for, beside the new prekey."""
        expected = {spec.name: spec.length for spec in self.specs}
        beside = {PREKEYS} if self.prekeys else set()
        parts = {name: array for name, array in segments.items() if name not in beside}
        found = {name: array.size for name, array in parts.items()}
        if found != expected or any(array.dtype != np.dtype("<u4") for array in parts.values()):
            raise MessageError(f"{member} sent segments {found}, the order needs {expected} as u32")
        if beside:
            made, size = segments.get(PREKEYS), prekey_bytes(self.desk.parties)
            if made is None or made.dtype != np.uint8 or made.size != size:
                raise MessageError(
                    f"{member} did not send one new prekey of {size} bytes for the one that the attempt used"
                )
        return parts

    @property
    def _segment_bytes(self) -> int:
        """Bytes of the segments of an upload."""
        prekey = prekey_bytes(self.desk.parties) if self.prekeys else 0
        return sum(4 * spec.length for spec in self.specs) + prekey

    def _note(
        self, member: str, outcome: Outcome, *, code: str = "", sentence: str = "", size: int = 0
    ) -> None:
        self._entries[member] = Participation(
            member=member,
            outcome=outcome,
            seconds=time.monotonic() - self.began,
            bytes_up=size,
            bytes_down=self._size,
            code=code,
            sentence=sentence,
        )

    def shortfall(self) -> str:
        """Why the sum may not be used: too few uploads, or what became of them. Empty when it may."""
        if self.failure:
            return self.failure
        controllers, least = self.charter.controllers(self.active), self.charter.least_active
        lost = ", ".join(f"{name} ({self._why(name)})" for name in self.dropped)
        if len(controllers) < least:
            return f"{len(controllers)} uploads arrived, the charter needs {least}; missing: {lost}"
        rule, faulty = self.plan.rule.name, self.charter.protection.c
        if self._single and len(self._single) < least_updates(rule, faulty):
            return (
                f"{len(self._single)} uploads arrived, rule '{rule}' needs {least_updates(rule, faulty)} "
                f"to bear {faulty} faulty ones; missing: {lost}"
            )
        if not self.open_circles:
            return f"no group has {self.charter.protection.audit_groups} uploads; missing: {lost}"
        return ""

    def _why(self, member: str) -> str:
        entry = self._entries.get(member)
        return "no answer" if entry is None else entry.code or entry.outcome

    def mean_update(self) -> NDArray[np.float64]:
        """The sum, dequantised and divided by a public constant; or what a rule makes of single updates. Shape (d,)."""
        if self._single:
            return center(list(self._single.values()), self.plan.rule.name, self.charter.protection.c)
        open_to = {name for circle in self.open_circles for name in circle}
        counted = tuple(name for name in self.active if name in open_to)
        return self._decoded(UPDATE) / divisor(self.charter, self.plan, counted)

    def metrics(self) -> dict[str, MetricValue]:
        """Figures of the state `base`, from the summed histograms; empty where nothing was evaluated."""
        if self.shortfall() or all(spec.name != EVALUATION for spec in self.specs):
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
        """The sum of one segment over all circles, each on the grid of its own size. Shape (length,)."""
        spec = next(spec for spec in self.specs if spec.name == name)
        parts = (
            Grid(spec.bound, len(circle), tail=spec.tail).decode(self.summation.of(circle)[name])
            for circle in self.open_circles
        )
        total = next(parts)
        for part in parts:
            total += part
        return total
