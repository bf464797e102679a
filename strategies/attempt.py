"""One attempt at the server: what was ordered, who answered, and the sum of what came.

Each upload is added to the sum of its circle as it arrives and dropped, so memory does not grow with members.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
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
from hansa.contract.messages import (
    PREKEYS,
    Finish,
    Order,
    Receipt,
    RefusalReply,
    SegmentHeader,
    UploadReply,
)
from hansa.contract.segments import EVALUATION, STATISTICS, UPDATE, SegmentSpec, divisor
from hansa.contract.wire import Segments, digest
from hansa.models.scores import figures
from hansa.secagg.active_set import least_noised, open_circles, receipt_valid
from hansa.secagg.prekeys import Prekey, prekey_bytes
from hansa.secagg.server import Circle, EncryptedSum, Summation
from hansa.strategies.cohort_noise import Noise
from hansa.strategies.grids import grid_of, noise_on
from hansa.strategies.requests import Desk, Reply
from hansa.strategies.robust import center, least_updates
from hansa.strategies.start_exchange import RESTARTED

# What a charge is for, by segment.
_PURPOSES = {UPDATE: "train", EVALUATION: "evaluate", STATISTICS: "check"}


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
    # The noise multipliers of every member of the cohort, by segment; empty ones without privacy.
    noise: Mapping[str, Noise] = field(default_factory=dict)
    # Proofs of earlier attempts that the order brought.
    finished: tuple[Finish, ...] = ()
    # Why the sum may not be used although enough uploads arrived; empty where nothing happened to it.
    failure: str = ""
    # In mode `he`: the members came to different models although no sum was wrong.
    diverged: bool = False
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
    _forks: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.summation = Summation(self.order.circles, encrypted=_envelopes(self.specs))
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
    def refusals(self) -> dict[str, tuple[str, str]]:
        """Members that refused, each with its code and sentence."""
        return {it.member: (it.code, it.sentence) for it in self._entries.values() if it.outcome == "refused"}

    @property
    def complaints(self) -> dict[str, str]:
        """Members that refused because of another's badly made prekey, each with the maker it names."""
        return dict(self._complaints)

    @property
    def forks(self) -> dict[str, str]:
        """Members that refused because another's ledger forked, each with the member it names."""
        return dict(self._forks)

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
            forked = body.facts.get("member")
            if body.code == "ledger-fork" and forked in self.order.cohort:
                self._forks[member] = str(forked)
            return
        if not isinstance(body, UploadReply) or (body.job, body.attempt) != (
            self.order.job,
            self.order.attempt,
        ):
            raise MessageError(f"{member} answers an attempt with '{body.type}'")
        if problem := self._wrong_charges(member, body.receipt):
            raise MessageError(f"{member} sent a receipt {problem}")
        parts = self._parts(member, reply.segments, reply.header.segments)
        shown = bool(self.prekeys) or self.charter.privacy.noise != "none"
        if shown and not receipt_valid(member, self.order, body.receipt, self.desk.parties):
            raise MessageError(f"{member} sent a receipt that it did not sign for this order")
        try:
            self.summation.add(member, parts)
        except ValueError as error:
            raise MessageError(f"{member}: {error}") from None
        if shown:
            self.receipts[member] = body.receipt
        if self.prekeys:
            self.restock(member, reply.segments)
        if self.plan.rule.name in PER_UPDATE_RULES and UPDATE in parts and not self.prekeys:
            update = grid_of(self._spec(UPDATE), len(self.order.cohort)).decode(parts[UPDATE])
            self._single[member] = update / divisor(self.charter, self.plan, (member,))
        self._note(member, "replied", size=size)

    def _wrong_charges(self, member: str, receipt: Receipt) -> str:
        """Why a receipt is not what the member's noise of this attempt costs; empty where it is.

        It is shown to everybody with the shares, and the figures' standard errors build on that noise.
        """
        if self.charter.privacy.noise == "none":
            charged = receipt.charges or receipt.grants or receipt.head is not None
            return "with charges or a head, and the charter has no noise" if charged else ""
        if receipt.head is None:
            return "without the head of its ledger"
        found: dict[str, float] = {it.purpose: it.noise_multiplier for it in receipt.charges}
        for segment in self.order.noise:
            paid, added = found.get(_PURPOSES[segment], 0.0), self._added(member, segment)
            if not math.isclose(paid, added, rel_tol=1e-6):
                return f"for noise {paid:.6g} on segment '{segment}', it is to add {added:.6g}"
        return ""

    def _added(self, member: str, segment: str) -> float:
        """The noise multiplier that one member's part of a segment is charged for."""
        if self.charter.privacy.noise == "distributed":
            return self.order.noise[segment]
        return self.noise[member][segment]

    def _parts(self, member: str, segments: Segments, headers: Sequence[SegmentHeader]) -> Segments:
        """What is summed of an upload: exactly the segments that the order asks for, beside the new prekey."""
        expected = {spec.name: ("u32", spec.length) for spec in self.specs if not spec.encrypted}
        expected |= {spec.name: ("u8", _bytes_of(spec)) for spec in self.specs if spec.encrypted}
        beside = {PREKEYS} if self.prekeys else set()
        parts = {name: array for name, array in segments.items() if name not in beside}
        found = {it.name: (it.dtype, it.count) for it in headers if it.name in parts}
        if found != expected:
            raise MessageError(f"{member} sent segments {found}, the order needs {expected}")
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
        return sum(_bytes_of(spec) for spec in self.specs) + prekey

    def encrypted_sum(self) -> NDArray[np.uint8]:
        """In mode `he`: the sum in its envelope, with its check words."""
        return self.summation.encrypted[UPDATE].content

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
            return self._why_closed(lost)
        return ""

    def _why_closed(self, lost: str) -> str:
        if self.charter.privacy.noise != "distributed":
            return f"no group has {self.charter.protection.audit_groups} uploads; missing: {lost}"
        needed = min(least_noised(len(circle), self.charter) for circle in self.order.circles)
        return (
            f"{len(self.active)} uploads arrived, and noise that is shared needs at least {needed} "
            f"in one sum (privacy.s = {self.charter.privacy.s}); missing: {lost}"
        )

    def _why(self, member: str) -> str:
        entry = self._entries.get(member)
        return "no answer" if entry is None else entry.code or entry.outcome

    def mean_update(self) -> NDArray[np.float64]:
        """The sum, dequantised and divided by a public constant; or what a rule makes of single updates. Shape (d,)."""
        if self._single:
            return center(list(self._single.values()), self.plan.rule.name, self.charter.protection.c)
        return self.decoded(UPDATE) / self._divisor()

    def mean_noise(self) -> float:
        """Standard deviation of the noise on each coordinate of the mean update; 0 without grid noise."""
        return self.noise_sd(UPDATE) / self._divisor()

    def _divisor(self) -> float:
        open_to = {name for circle in self.open_circles for name in circle}
        return divisor(self.charter, self.plan, tuple(name for name in self.active if name in open_to))

    def metrics(self) -> dict[str, MetricValue]:
        """Figures of the state `base`, from the summed histograms; empty where it was not evaluated."""
        probes = bool(self.order.factors)
        if probes or self.shortfall() or all(spec.name != EVALUATION for spec in self.specs):
            return {}
        noise_sd = self.noise_sd(EVALUATION)
        charter = self.charter
        return figures(
            charter.task.features,
            self.decoded(EVALUATION),
            noise_sd=noise_sd,
            calibrate=charter.metrics.calibration,
        )

    def tried_sums(self) -> NDArray[np.float64]:
        """Of a probe, the summed histogram of each model that it tried, in the order of its factors. Shape (q, h)."""
        return self.decoded(EVALUATION).reshape(len(self.order.factors), -1)

    def noise_sd(self, segment: str) -> float:
        """Standard deviation of the noise on each coordinate of a segment's decoded sum; 0 without grid noise.

        Exact, from what every active member is charged: rounding and shares included.
        """
        return math.hypot(*(self.circle_noise_sd(segment, circle) for circle in self.open_circles))

    def circle_noise_sd(self, segment: str, circle: Circle) -> float:
        """The same for the sum of one circle."""
        spec = self._spec(segment)
        if spec.multiplier == 0:
            return 0.0
        variance = 0.0
        for name in set(self.active).intersection(circle):
            added = self._added(name, segment)
            noise = noise_on(spec, self.charter, len(circle), added, member=name)
            variance += (noise.sd / noise.scale) ** 2
        return math.sqrt(variance)

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

    def decoded(self, name: str) -> NDArray[np.float64]:
        """The sum of one segment over all circles, each on the grid of its own size. Shape (length,)."""
        parts = (self.decoded_circle(name, circle) for circle in self.open_circles)
        total = next(parts)
        for part in parts:
            total += part
        return total

    def decoded_circle(self, name: str, circle: Circle) -> NDArray[np.float64]:
        """The sum of one segment over one circle. Shape (length,)."""
        return grid_of(self._spec(name), len(circle)).decode(self.summation.of(circle)[name])

    def _spec(self, name: str) -> SegmentSpec:
        return next(spec for spec in self.specs if spec.name == name)


def _envelopes(specs: Sequence[SegmentSpec]) -> dict[str, EncryptedSum]:
    if not any(spec.encrypted for spec in specs):
        return {}
    # It brings TenSEAL, which only mode `he` needs.
    from hansa.secagg.envelope import EnvelopeSum

    return {spec.name: EnvelopeSum(spec.words) for spec in specs if spec.encrypted}


def _bytes_of(spec: SegmentSpec) -> int:
    """Bytes of one member's part of a segment."""
    if not spec.encrypted:
        return 4 * spec.length
    from hansa.secagg.envelope import envelope_bytes

    return envelope_bytes(spec.words)
