"""Whether a changed field of a charter protects a member less, or takes more of it.

Three answers: why it does; that it does not; or none, where nobody has said so, or where it depends on more than
the field. What is in no table here has no answer: silence must not be read as a promise.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hansa.contract.charter import Charter
from hansa.contract.visible import quoted

_MODES = ("clear", "masked", "he")
_NOISES = ("none", "distributed", "local")
_COLUMN, _LABEL = "task.features.columns.*", "task.features.label"


@dataclass(frozen=True)
class Change:
    """A field that differs.

    Attributes
    ----------
    path : its parts, names of members, columns and knobs among them
    old, new : as JSON has them; None for what is not there
    """

    path: tuple[str, ...]
    old: Any
    new: Any
    before: Charter
    after: Charter

    @property
    def pattern(self) -> str:
        """The path with `*` for names that the charter makes up."""
        free = {
            ("members",): 1,
            ("knobs",): 1,
            ("task", "features", "columns"): 3,
            ("task", "model", "options"): 3,
        }
        parts = list(self.path)
        for start, place in free.items():
            if self.path[: len(start)] == start and len(parts) > place:
                parts[place] = "*"
        return ".".join(parts)

    @property
    def noised(self) -> bool:
        """Whether there is noise under the new charter."""
        return self.after.privacy.noise != "none"


# Why; empty: it is not less; None: not judged.
Verdict = str | None
Rule = Callable[[Change], Verdict]


def judge(change: Change) -> Verdict:
    """Why a member is protected less by it, or gives more; empty where it is not so, None where that is not judged."""
    if (rule := RULES.get(change.pattern)) is not None:
        return rule(change)
    return "" if change.pattern in HARMLESS else None


def _always(sentence: str) -> Rule:
    return lambda it: sentence


def _lower_order(order: tuple[str, ...], sentence: str) -> Rule:
    return lambda it: sentence if order.index(it.new) < order.index(it.old) else ""


def _less(sentence: str) -> Rule:
    return lambda it: sentence if (it.new or 0) < (it.old or 0) else ""


def _more(sentence: str) -> Rule:
    return lambda it: sentence if (it.new or 0) > (it.old or 0) else ""


def _wider(sentence: str, *, low: bool) -> Rule:
    """Of an end of a range; moved inwards it may stretch what is within, which is not judged."""

    def rule(it: Change) -> Verdict:
        if it.old is None or it.new is None:
            return ""  # a field of another kind, of which its own rule speaks
        return sentence if (it.new < it.old) == low else None

    return rule


def _gains(it: Change) -> Verdict:
    if it.old is None or it.new is None:
        return ""
    return "more values are told apart" if set(it.new) - set(it.old) else None


def _without_noise(rule: Rule) -> Rule:
    """Noise grows with a clip, so that the guarantee stays; without noise the clip is all that there is."""
    return lambda it: None if it.noised else rule(it)


# --- members --------------------------------------------------------------------------------------


def _member(it: Change) -> Verdict:
    if it.new is None:
        return None if it.after.protection.mode == "clear" else "there is one member fewer to hide among"
    learns = "the model, each sum and the keys of a job" if it.after.protection.blind else "the model"
    own = _of_controller(it.after, it.new["controller"])
    if len(own) == 1:
        return f"one more learns {learns}"
    return f"one more learns {learns}; {_one_party(it.new['controller'], own)}"


def _controller(it: Change) -> Verdict:
    name = it.path[1]
    parted = [
        quoted(other)
        for other in _of_controller(it.before, it.old)
        if other != name and (its := it.after.member(other)) is not None and its.controller != it.new
    ]
    own = _of_controller(it.after, it.new)
    found = []
    if parted:
        found.append(
            f"it counted as one with {', '.join(parted)}, and each counts now: "
            "fewer that are independent of each other make up a cohort"
        )
    if set(own) - set(_of_controller(it.before, it.old)):
        found.append(_one_party(it.new, own))
    return "; ".join(found) or "another party stands behind the member"


def _one_party(controller: str, own: list[str]) -> str:
    return f"{quoted(controller)} then has {len(own)} members ({', '.join(own)}), which hide nothing from each other"


def _of_controller(charter: Charter, controller: str) -> list[str]:
    return [it.name for it in charter.members if it.controller == controller]


def _key(does: str) -> Rule:
    def rule(it: Change) -> Verdict:
        field = it.path[2]
        owner = next((of.name for of in it.before.members if getattr(of, field) == it.new), None)
        whose = (
            "compare it with what the member itself says"
            if owner is None
            else f"it was that of member '{owner}'"
        )
        return f"whoever holds the new key {does}: {whose}"

    return rule


# --- protection, training and privacy -------------------------------------------------------------


def _mode(it: Change) -> Verdict:
    less = _lower_order(_MODES, "the server sees more of the updates")(it)
    return less or ("each member sees each sum, and keeps the keys of its jobs" if it.new == "he" else "")


def _groups(it: Change) -> Verdict:
    smaller = it.new is not None and (it.old is None or it.new < it.old)
    return "in an audit the server sees sums of smaller groups" if smaller else ""


def _mechanism(it: Change) -> Verdict:
    return {
        "moments": "sums of products of columns leave, in one round that takes all of a job's share",
        "poisson": "what is charged holds only while nobody learns who was drawn for a step",
    }.get(it.new)


def _sampling(it: Change) -> Verdict:
    if it.after.training.mechanism != "poisson":
        return ""  # nothing is drawn
    return "each step draws more of the records" if it.new > it.old else None


def _shared(it: Change) -> Verdict:
    if it.old is None or it.new is None:
        return ""  # of another kind of noise, of which its own rule speaks
    return _less("fewer colluding members are borne by the shared noise")(it)


def _code(it: Change) -> Verdict:
    if not it.new:
        return "no agent checks any more which code computes with its records"
    return "other code computes with the records" if it.old else ""


def _entity(it: Change) -> Verdict:
    said = "who counts as one is another: what was spent was said of the one before"
    return said if it.new else f"{said}; of somebody with several records each is protected by itself"


def _holdout(it: Change) -> Verdict:
    said = "other records are held out: one may have been on both sides, and a ledger adds the two sums up from then on"
    return said if it.noised else None


_RANGE = "values count further out"
_REACH = "the operator may move it further"

RULES: dict[str, Rule] = {
    "expires": lambda it: "agents obey under it for longer" if it.after.expires > it.before.expires else "",
    "operator_key": _always("another holds the key whose orders agents obey"),
    "approval": lambda it: "jobs start without this member's consent" if it.new == "automatic" else "",
    "members.*": _member,
    "members.*.controller": _controller,
    "members.*.identity_key": _key("speaks for the member"),
    "members.*.sealing_key": _key("opens what is sealed to the member"),
    "members.*.node_key": _key("connects as the member"),
    _COLUMN: lambda it: "more of each record is used" if it.old is None else "",
    f"{_COLUMN}.kind": _always("the column is read in another way"),
    f"{_COLUMN}.low": _wider(_RANGE, low=True),
    f"{_COLUMN}.high": _wider(_RANGE, low=False),
    f"{_COLUMN}.indicator": _more("whether a value is missing is used, too"),
    f"{_COLUMN}.categories": _gains,
    f"{_LABEL}.kind": _always("something else of each record is learnt"),
    f"{_LABEL}.column": _always("something else of each record is learnt"),
    f"{_LABEL}.classes": _gains,
    f"{_LABEL}.low": _wider(_RANGE, low=True),
    f"{_LABEL}.high": _wider(_RANGE, low=False),
    "task.features.entity": _entity,
    "task.features.holdout": _holdout,
    "task.model.name": _always("other code computes with the records"),
    "task.model.distribution": _always("other code computes with the records"),
    "task.model.distribution_hash": _code,
    "protection.mode": _mode,
    "protection.c": _less("fewer colluding members are borne"),
    # What these two come to is said of the numbers that follow from them (`differences.DERIVED`).
    "protection.t": _always(""),
    "protection.minimum_cohort": _always(""),
    "protection.audit_groups": _groups,
    "training.mechanism": _mechanism,
    "training.clip": _without_noise(_more("one record may move a sum further, and no noise hides it")),
    "training.delta_clip": _without_noise(_more("a member may move a sum further, and no noise hides it")),
    "training.max_records": _more("more records of each entity are used"),
    "training.sampling_rate": _sampling,
    "privacy.noise": _lower_order(_NOISES, "less of the noise is a member's own, or there is none"),
    "privacy.s": _shared,
    "privacy.delta": _more("grants may have a larger delta"),
    "privacy.fewest_rounds": _less("a job may spend its share in fewer rounds"),
    "privacy.charges_per_day": _more("more may be charged in a day"),
    "privacy.charges_per_job": _more("more may be charged by one job"),
    "knobs.*": lambda it: "the operator may move one more" if it.old is None else None,
    "knobs.*.low": _less(_REACH),
    "knobs.*.high": _more(_REACH),
    "metrics.bins": _more("figures tell scores apart more finely"),
    "metrics.every": _less("the model is evaluated more often, and figures leave each time"),
    "metrics.per_member": _more("figures of single members leave"),
    "metrics.calibration": _more("figures for calibration leave, too"),
    "metrics.seconds_floor": _less(
        "uploads leave earlier, so that when one comes tells more of how much a member has"
    ),
}

# Nothing that an agent, a server or a model does hangs on them.
HARMLESS = frozenset(
    {
        "version",
        "previous",
        "members.*.name",
        "members.*.title",
        "members.*.sector",
        f"{_COLUMN}.name",
        f"{_COLUMN}.derived",
    }
)

# Looked at, and left to whoever reads: they change what is learnt or how well, and what that comes to for one member
# hangs on its records, or on what people mean by them. `members` and `columns` by themselves are their order.
OPEN = frozenset(
    {
        "name",
        "members",
        "members.*.records",
        "task.title",
        "task.features.columns",
        *(f"{_COLUMN}.{field}" for field in ("missing", "log", "other", "optional")),
        *(f"{_LABEL}.{field}" for field in ("positive", "negative", "prevalence")),
        "task.model.options.*",
        "training.weighting",
        "training.max_entities",
        "knobs.*.default",
    }
)
