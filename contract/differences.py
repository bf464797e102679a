"""What one version of a charter changes against another, in words, and whether it asks members to bear more."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from hansa.contract.charter import Charter, Member

_MODES = ("clear", "masked", "he")
_NOISES = ("none", "distributed", "local")
_LONGEST = 60


@dataclass(frozen=True)
class Difference:
    """One changed field.

    Attributes
    ----------
    field : dotted, as in the file; of a member, `members.NAME.FIELD`
    sentence : what was, and what will be
    weaker : why a member is protected less by it, or gives more; empty where it is not
    """

    field: str
    sentence: str
    weaker: str = ""


def differences(before: Charter, after: Charter) -> list[Difference]:
    """Every field in which two charters differ; version, hash of the one before and name are not among them."""
    found = [*_members(before, after)]
    skipped = ("version", "previous", "name", "members")
    for field, old, new in _changed(_plain(before), _plain(after), skipped=skipped):
        weaker = _weaker(field, old, new)
        found.append(Difference(field, f"{field}: {_shown(old)} becomes {_shown(new)}", weaker))
    return [*found, *_derived(before, after)]


def _members(before: Charter, after: Charter) -> Iterator[Difference]:
    for it in before.members:
        if after.member(it.name) is None:
            yield Difference(f"members.{it.name}", f"member '{it.name}' leaves")
    for it in after.members:
        old = before.member(it.name)
        if old is None:
            said = f"member '{it.name}' joins: {it.sector or 'no sector'}, controlled by '{it.controller}'"
            yield Difference(f"members.{it.name}", f"{said}, identity key {it.identity_key}")
            continue
        for field in Member.model_fields:
            was, is_ = getattr(old, field), getattr(it, field)
            if was != is_:
                said = f"member '{it.name}', {field}: {_shown(was)} becomes {_shown(is_)}"
                yield Difference(f"members.{it.name}.{field}", said)


def _derived(before: Charter, after: Charter) -> Iterator[Difference]:
    """What follows from the number of members, too, and is written nowhere."""
    for name, words in (
        ("minimum_cohort", "fewest members of a round"),
        ("least_active", "fewest members whose sum is seen"),
        ("threshold", "members that must agree before a sum is opened"),
    ):
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            weaker = f"{words}: fewer than before" if new < old else ""
            yield Difference(name, f"{words}: {old} becomes {new}", weaker)


def _plain(charter: Charter) -> dict[str, Any]:
    document = charter.model_dump(mode="json")
    features = document["task"]["features"]
    # By name: a column that is put between two others changes no other.
    features["columns"] = {it["name"]: it for it in features["columns"]}
    return document


def _changed(
    old: Any, new: Any, *, at: str = "", skipped: tuple[str, ...] = ()
) -> Iterator[tuple[str, Any, Any]]:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        if old != new:
            yield at, old, new
        return
    for name in [*old, *(it for it in new if it not in old)]:
        if name not in skipped:
            where = f"{at}.{name}" if at else name
            yield from _changed(old.get(name), new.get(name), at=where)


def _shown(value: Any) -> str:
    if value is None or value == "":
        return "nothing"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    # Keys and hashes stay whole: they are there to be compared.
    return text if len(text) <= _LONGEST or " " not in text else text[: _LONGEST - 1] + "…"


def _weaker(field: str, old: Any, new: Any) -> str:
    rule = _RULES.get(field)
    return rule(old, new) if rule is not None else ""


def _lower_order(order: tuple[str, ...], sentence: str) -> Callable[[Any, Any], str]:
    return lambda old, new: sentence if order.index(new) < order.index(old) else ""


def _less(sentence: str) -> Callable[[Any, Any], str]:
    return lambda old, new: sentence if (new or 0) < (old or 0) else ""


def _more(sentence: str) -> Callable[[Any, Any], str]:
    return lambda old, new: sentence if (new or 0) > (old or 0) else ""


def _groups(old: Any, new: Any) -> str:
    smaller = new is not None and (old is None or new < old)
    return "in an audit the server sees sums of smaller groups" if smaller else ""


def _entity(old: Any, new: Any) -> str:
    return "" if old is None else "who counts as one is another: what was spent was said of the one before"


_RULES: dict[str, Callable[[Any, Any], str]] = {
    "operator_key": lambda old, new: "another holds the key whose orders agents obey",
    "approval": lambda old, new: "jobs start without this member's consent" if new == "automatic" else "",
    "protection.mode": _lower_order(_MODES, "the server sees more of the updates"),
    "protection.c": _less("fewer colluding members are borne"),
    "protection.t": _less("fewer members open a sum"),
    "protection.minimum_cohort": _less("a member may hide among fewer"),
    "protection.audit_groups": _groups,
    "privacy.noise": _lower_order(_NOISES, "less of the noise is a member's own, or there is none"),
    "privacy.s": _less("fewer colluding members are borne by the shared noise"),
    "privacy.delta": _more("grants may have a larger delta"),
    "privacy.fewest_rounds": _less("a job may spend its share in fewer rounds"),
    "privacy.charges_per_day": _more("more may be charged in a day"),
    "privacy.charges_per_job": _more("more may be charged by one job"),
    "metrics.calibration": _more("figures for calibration leave, too"),
    "task.features.entity": _entity,
}
