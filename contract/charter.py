"""The charter: the consortium's agreement as data (DESIGN section 3).

Its hash is the SHA-256 of the file's bytes: what a member read is what it signed, down to
the last byte, and no canonicaliser stands between the two. Every message carries that hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from hansa.contract.features import FeatureContract, MulticlassLabel
from hansa.contract.keys import can_seal, from_text
from hansa.contract.typed import Frozen, Line, Slug

PublicKey = Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{43}=$", description="32 bytes, base64")]
Hash = Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")]
# Of a charter's file, and of what becomes part of one: a thousand members and ten thousand columns need less.
MOST_BYTES = 16 << 20
Mode = Literal["clear", "masked", "he"]
Mechanism = Literal["gradient", "poisson", "moments"]
# At a rate below this a private step costs less than a ledger's events can say (`privacy.events`).
LEAST_SAMPLING_RATE = 1e-6
SamplingRate = Annotated[float, Field(ge=LEAST_SAMPLING_RATE, le=1)]


class Member(Frozen):
    """One organisation: whoever its identity key signs for (PROTOCOL section 1)."""

    name: Slug
    title: Line = ""
    sector: Line = ""
    controller: Line
    identity_key: PublicKey
    sealing_key: PublicKey
    node_key: Annotated[str, Field(pattern=r"^ecdsa-sha2-nistp(256|384) \S+$")]
    # Public size to one digit: weights and divisors come from it, never from private counts.
    records: Annotated[int, Field(ge=1)] = 1000

    @field_validator("sealing_key")
    @classmethod
    def _seals(cls, key: str) -> str:
        if not can_seal(from_text(key)):
            raise ValueError("is not an X25519 public key that anything can be sealed to")
        return key


class ModelChoice(Frozen):
    """A Python entry point of the group `hansa.models` and the hash of the distribution that holds it."""

    name: Slug
    distribution: Line = "hansa"
    distribution_hash: Hash = ""
    options: dict[str, float | int | str | bool | list[int] | list[float]] = {}


class Task(Frozen):
    """What is learnt."""

    title: Line
    features: FeatureContract
    model: ModelChoice


class Protection(Frozen):
    """How updates are protected on their way (PROTOCOL sections 1, 4, 5).

    `clear`: not at all, for debugging. `masked`: the server opens the sum and nothing smaller. `he`: masked, and
    encrypted under a key of the members', so that the server does not learn the sum either.
    """

    mode: Mode
    c: Annotated[int, Field(ge=0)] = 1
    t: Annotated[int, Field(ge=1)] | None = None
    minimum_cohort: Annotated[int, Field(ge=1)] | None = None
    audit_groups: Annotated[int, Field(ge=3)] | None = None

    @property
    def masked(self) -> bool:
        """Whether uploads are masked: attempts use prekeys, and shares are given."""
        return self.mode != "clear"

    @property
    def blind(self) -> bool:
        """Whether members hold the model and the server does not."""
        return self.mode == "he"


class Training(Frozen):
    """How a member computes its update; the privacy plan builds on it (DESIGN section 6).

    `gradient`: one sum of clipped per-record gradients over all training rows per step;
    with `steps` above 1 the member walks that many steps at home and sends the delta.
    `poisson`: mini-batches drawn at a public rate, `steps` of them at home.
    `moments`: one round; the clipped sums of z zᵀ and z y, from which the server solves a ridge regression.
    """

    mechanism: Mechanism = "gradient"
    # What a member's sum counts for under `local` noise, of which every member adds as much (`segments.member_weight`).
    weighting: Literal["root", "even"] = "root"
    clip: Annotated[float, Field(gt=0)] = 0.5
    # The grid has room for the sum over so many entities; a member that has more may be clamped to its bound.
    max_entities: Annotated[int, Field(ge=1)] = 100_000
    max_records: Annotated[int, Field(ge=1)] = 1
    sampling_rate: SamplingRate = 0.1
    # Largest Euclidean norm of a delta that was walked at home.
    delta_clip: Annotated[float, Field(gt=0)] = 10.0


# Models of this distribution that one noised sum of z zᵀ and z y determines.
ROW_MODELS = ("additive", "linear")


class PrivacyPlan(Frozen):
    """What every member's differential privacy is held to (DESIGN section 6, PROTOCOL sections 4 and 7).

    `none`: no noise, no guarantee; warned of everywhere. `local`: a member adds all the noise that its own
    guarantee needs. `distributed`: each adds a share of it, which holds while at most `s` collude or drop together.
    How much noise is derived by each member from its own grant, never configured.
    """

    noise: Literal["none", "local", "distributed"] = "none"
    s: Annotated[int, Field(ge=1)] | None = None
    # Largest delta that a grant may have: public, and well below one over the number of anybody's entities.
    delta: Annotated[float, Field(gt=0, lt=0.01)] = 1e-5
    # A job must spread its share over at least so many rounds: the floor of the noise.
    fewest_rounds: Annotated[int, Field(ge=1)] = 3
    # Against draining: charges of all jobs in 24 hours, and of one job.
    charges_per_day: Annotated[int, Field(ge=1)] = 2_000
    charges_per_job: Annotated[int, Field(ge=1)] = 10_000


class KnobRange(Frozen):
    """Where one hyper-parameter starts and how far it may move."""

    default: float
    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> KnobRange:
        if not self.low <= self.default <= self.high:
            raise ValueError("must hold low <= default <= high")
        return self


KNOBS = ("client_rate", "server_rate", "dropout")


class MetricsPolicy(Frozen):
    """How evaluation leaves a member (PROTOCOL section 6)."""

    bins: Annotated[int, Field(ge=2, le=100)] = 10
    every: Annotated[int, Field(ge=1)] = 1
    per_member: bool = False
    # Also what would set a yes/no model's scores right, from the same histogram: figures platt_shift and platt_slope.
    calibration: bool = False
    # An upload waits for this floor, then for the next multiple of 0.25 s; 0 only in benchmarks of empty work.
    seconds_floor: Annotated[float, Field(ge=0)] = 0.05


class Charter(Frozen):
    """The agreement of one version, as every member signed it."""

    name: Slug
    version: Annotated[int, Field(ge=1)]
    previous: Hash = ""
    expires: datetime
    operator_key: PublicKey
    members: Annotated[tuple[Member, ...], Field(min_length=2, max_length=1000)]
    task: Task
    protection: Protection
    training: Training = Training()
    privacy: PrivacyPlan = PrivacyPlan()
    knobs: dict[str, KnobRange]
    metrics: MetricsPolicy = MetricsPolicy()
    approval: Literal["manual", "automatic"] = "manual"

    @model_validator(mode="after")
    def _consistent(self) -> Charter:
        for field in ("name", "identity_key", "sealing_key", "node_key"):
            values = [getattr(member, field) for member in self.members]
            if len(set(values)) != len(values):
                raise ValueError(f"two members have the same {field}")
        if self.expires.tzinfo is None:
            raise ValueError("expires must carry a time zone, e.g. 2027-01-31T00:00:00Z")
        if (self.version == 1) != (self.previous == ""):
            raise ValueError(
                "version 1 has no 'previous'; every later version names the hash of the one before"
            )
        unknown = sorted(set(self.knobs) - set(KNOBS))
        if unknown:
            raise ValueError(f"knob '{unknown[0]}' is not known; the knobs are {', '.join(KNOBS)}")
        n, c = len(self.members), self.protection.c
        if self.protection.mode != "clear":
            self._refuse_large_controllers()
        if 2 * self.threshold <= n + c and not (n == 2 and self.threshold == 2):
            raise ValueError(
                f"threshold t = {self.threshold} is too small: 2t > n + c must hold, n = {n}, c = {c}"
            )
        if self.threshold > n:
            raise ValueError(f"threshold t = {self.threshold} is above the number of members, {n}")
        groups = self.protection.audit_groups
        if groups is not None and groups < c + 2:
            raise ValueError(f"protection.audit_groups = {groups} is below c + 2 = {c + 2}")
        if groups is not None and self.protection.mode == "clear":
            raise ValueError("protection.audit_groups has no meaning in mode 'clear'; leave it out")
        if groups is not None and self.protection.mode == "he":
            raise ValueError(
                "protection.audit_groups needs a server that sees the groups' sums, and in mode 'he' it sees none; "
                "leave it out, or use mode 'masked'"
            )
        self._check_noise()
        self._check_moments()
        if n == 2 and self.protection.minimum_cohort != 2:
            raise ValueError(
                "two members: protection.minimum_cohort = 2 must be written out, "
                "because nothing is hidden from the other"
            )
        controllers = len({member.controller for member in self.members})
        if controllers < self.minimum_cohort:
            raise ValueError(
                f"a cohort needs {self.minimum_cohort} controllers (t = {self.threshold}, c + 2 = {c + 2}, "
                f"minimum_cohort = {self.protection.minimum_cohort}) and the members have {controllers}: "
                "no round could ever start"
            )
        return self

    def _refuse_large_controllers(self) -> None:
        # t and the signatures on an active set count members, and members of one controller are one party:
        # more than c of them, with the server, are more than the rule for t bears.
        most = max(self.protection.c, 1)
        for controller in dict.fromkeys(member.controller for member in self.members):
            own = [member.name for member in self.members if member.controller == controller]
            if len(own) > most:
                raise ValueError(
                    f"controller '{controller}' has {len(own)} members ({', '.join(own)}), which may collude, "
                    f"and protection.c = {self.protection.c} protects against {self.protection.c}: "
                    f"set protection.c = {len(own)}, or give it fewer members"
                )

    def _check_noise(self) -> None:
        noise, s, c = self.privacy.noise, self.privacy.s, self.protection.c
        if noise != "distributed":
            if s is not None:
                raise ValueError(f"privacy.s belongs to noise 'distributed', not to '{noise}'; leave it out")
            return
        if s is None or s < max(c, 1):
            raise ValueError(f"privacy.s must be at least max(c, 1) = {max(c, 1)} under distributed noise")
        # Of the smallest cohort, or group, at least two must share the noise: one alone is noise 'local'.
        groups = self.protection.audit_groups
        smallest = min(self.minimum_cohort, groups or self.minimum_cohort)
        if s > smallest - 2:
            raise ValueError(
                f"privacy.s = {s} of a cohort of {smallest} leaves no two members that share the noise; "
                "use noise 'local', or a larger protection.minimum_cohort"
            )
        if self.protection.mode == "clear":
            raise ValueError(
                "distributed noise protects nothing in mode 'clear': each update is seen with its share alone"
            )
        if self.training.mechanism == "poisson":
            raise ValueError("mechanism 'poisson' draws its noise at home at each step; use noise 'local'")

    def _check_moments(self) -> None:
        if self.training.mechanism != "moments":
            return
        if "class_weights" in self.task.model.options:
            raise ValueError(
                "training.mechanism 'moments' solves for the plain loss; leave model.options.class_weights out, or use "
                "'gradient'"
            )
        if self.protection.mode == "he":
            raise ValueError(
                "training.mechanism 'moments' solves equations by methods whose last bit differs between machines, "
                "and in mode 'he' every member must come to the same bits; use 'gradient', or mode 'masked'"
            )
        if isinstance(self.task.features.label, MulticlassLabel):
            raise ValueError(
                "training.mechanism 'moments' solves a regression of one output, and the label has "
                f"{len(self.task.features.label.classes)} classes; use 'gradient'"
            )
        if self.task.model.name not in ROW_MODELS:
            raise ValueError(
                f"training.mechanism 'moments' needs a model that is linear in its row "
                f"({', '.join(ROW_MODELS)}), not '{self.task.model.name}'; use 'gradient'"
            )
        if self.privacy.noise != "none" and self.privacy.fewest_rounds > 1:
            raise ValueError(
                "training.mechanism 'moments' has one round, which takes all of a job's share: write "
                f"privacy.fewest_rounds = 1 (it is {self.privacy.fewest_rounds})"
            )

    @property
    def threshold(self) -> int:
        """t: the smallest with 2t > n + c (PROTOCOL section 1), all of them where n is 2."""
        if self.protection.t is not None:
            return self.protection.t
        n = len(self.members)
        return 2 if n == 2 else (n + self.protection.c) // 2 + 1

    @property
    def minimum_cohort(self) -> int:
        """Fewest members of an attempt: max(t, c + 2), two only where n is 2 (PROTOCOL 4.1)."""
        if len(self.members) == 2:
            return 2
        return max(self.threshold, self.protection.c + 2, self.protection.minimum_cohort or 0)

    @property
    def least_active(self) -> int:
        """Fewest controllers in an active set: max(t, c + 2), two only where n is 2 (PROTOCOL 4.3)."""
        return 2 if len(self.members) == 2 else max(self.threshold, self.protection.c + 2)

    @property
    def witnesses_needed(self) -> int:
        """Other members that must have signed an agent's start: n + c - t + 1, or all (PROTOCOL section 7)."""
        n = len(self.members)
        return min(n - 1, n + self.protection.c - self.threshold + 1)

    def controllers(self, names: Iterable[str]) -> frozenset[str]:
        """Who controls these members: two members of one controller hide nothing from each other."""
        wanted = set(names)
        return frozenset(member.controller for member in self.members if member.name in wanted)

    def member(self, name: str) -> Member | None:
        """The member of that name, or None."""
        return next((member for member in self.members if member.name == name), None)

    def expired(self, now: datetime) -> bool:
        """Whether the agreement has run out at `now`."""
        return now.astimezone(UTC) >= self.expires.astimezone(UTC)


def unbuilt(charter: Charter) -> str:
    """One sentence on the first field that asks for what this version does not have; empty where there is none.

    A charter is never run as if such a field stood in it for nothing.
    """
    if charter.metrics.per_member:
        return (
            "field 'metrics.per_member': this version releases no figures of single members; set it to false"
        )
    return ""


def charter_hash(content: bytes) -> str:
    """SHA-256 of the charter file's bytes, hex."""
    return hashlib.sha256(content).hexdigest()
