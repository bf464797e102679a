"""What one version of a charter changes against another, in words, and whether it asks members to bear more."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hansa.contract.charter import Charter
from hansa.contract.judgement import Change, judge
from hansa.contract.visible import look_alike, quoted, spelt

_PLAIN = re.compile(r"[A-Za-z0-9_-]+")
_COLUMNS = ("task", "features", "columns")
# What follows from the number of members, c, t and the cohort's minimum, and is written nowhere.
DERIVED = {
    "minimum_cohort": "fewest members of a round",
    "least_active": "fewest members whose sum is seen",
    "threshold": "members that must agree before a sum is opened",
    "witnesses_needed": "other members that must sign a member's start",
}


@dataclass(frozen=True)
class Difference:
    """One changed field.

    Attributes
    ----------
    field : dotted, as in the file; of a member `members.NAME.FIELD`, of a column `task.features.columns.NAME.FIELD`
    sentence : what was, and what will be, whole; no character in it is unseen
    weaker : why a member is protected less by it, or gives more; empty where it is not, or is not judged
    judged : whether the charter's rules say which
    """

    field: str
    sentence: str
    weaker: str = ""
    judged: bool = True


def differences(before: Charter, after: Charter) -> list[Difference]:
    """Every field in which two charters differ, and what follows from them.

    Version and hash of the one before are left out where the one is numbered as the next of the other.
    """
    found = []
    places = {it.name: place for place, it in enumerate(after.task.features.columns, start=1)}
    follows = after.version == before.version + 1
    for path, old, new in [*_changed(_plain(before), _plain(after)), *_orders(before, after)]:
        if follows and path in (("version",), ("previous",)):
            continue
        change = Change(path, old, new, before, after)
        verdict = judge(change)
        found.append(
            Difference(_field(path), _sentence(change, places), verdict or "", judged=verdict is not None)
        )
    return [*found, *_derived(before, after)]


def _derived(before: Charter, after: Charter) -> Iterator[Difference]:
    for name, words in DERIVED.items():
        old, new = getattr(before, name), getattr(after, name)
        if old != new:
            weaker = f"{words}: fewer than before" if new < old else ""
            yield Difference(name, f"{words}: {old} becomes {new}", weaker)


# --- what differs ---------------------------------------------------------------------------------


def _plain(charter: Charter) -> dict[str, Any]:
    document = charter.model_dump(mode="json")
    features = document["task"]["features"]
    # By name: one that is put between two others changes no other.
    features["columns"] = {it["name"]: it for it in features["columns"]}
    document["members"] = {it["name"]: it for it in document["members"]}
    return document


def _changed(old: Any, new: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(it for it in new if it not in old)]:
            yield from _changed(old.get(name), new.get(name), (*at, name))
    # As text: to Python 1, 1.0 and true are equal.
    elif json.dumps(old) != json.dumps(new):
        yield at, old, new


def _orders(before: Charter, after: Charter) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    for path, old, new in (
        (("members",), _names(before.members), _names(after.members)),
        (_COLUMNS, _names(before.task.features.columns), _names(after.task.features.columns)),
    ):
        there, here = set(old), set(new)
        old, new = [it for it in old if it in here], [it for it in new if it in there]
        if old != new:
            yield path, old, new


def _names(of: Sequence[Any]) -> list[str]:
    return [it.name for it in of]


# --- in words -------------------------------------------------------------------------------------


def _field(path: tuple[str, ...]) -> str:
    return ".".join(it if _PLAIN.fullmatch(it) else quoted(it) for it in path)


def _sentence(change: Change, places: Mapping[str, int]) -> str:
    path, old, new = change.path, change.old, change.new
    if path in (("members",), _COLUMNS):
        return f"{_field(path)}: {_moved(old, new)}"
    if path[0] == "members":
        return _of_one(f"member {quoted(path[1])}", path[2:], change, ("joins", "leaves"))
    if path[:3] == _COLUMNS:
        comes = f"is new, at place {places.get(path[3])}"
        return _of_one(f"column {quoted(path[3])}", path[4:], change, (comes, "is used no more"))
    return f"{_field(path)}: {_becomes(old, new)}"


def _of_one(who: str, field: tuple[str, ...], change: Change, words: tuple[str, str]) -> str:
    if field:
        return f"{who}, {_field(field)}: {_becomes(change.old, change.new)}"
    comes, goes = words
    return f"{who} {goes}" if change.new is None else f"{who} {comes}: {_shown(change.new)}"


def _becomes(old: Any, new: Any) -> str:
    if isinstance(old, str) and isinstance(new, str):
        if look_alike(old, new):
            return f"{spelt(old)} becomes {spelt(new)}, which may look alike"
    elif _texts(old) and _texts(new):
        return _gains(old, new)
    return f"{_shown(old)} becomes {_shown(new)}"


def _gains(old: list[str], new: list[str]) -> str:
    gained, lost = [it for it in new if it not in old], [it for it in old if it not in new]
    said = [f"{word} {_list(it)}" for word, it in (("gains", gained), ("loses", lost)) if it]
    was, is_ = [it for it in old if it not in lost], [it for it in new if it not in gained]
    if was != is_:
        said.append(_moved(was, is_))
    if old[0] != new[0]:
        said.append(f"the first is {quoted(new[0])} in place of {quoted(old[0])}")
    return "; ".join(said)


def _moved(old: list[str], new: list[str]) -> str:
    """Of one list in two orders: the part that is not the same."""
    differ = [number for number, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
    part = slice(differ[0], differ[-1] + 1)
    return f"in another order, from place {differ[0] + 1}: {_list(old[part])} becomes {_list(new[part])}"


def _texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(it, str) for it in value)


def _list(values: Sequence[Any]) -> str:
    return ", ".join(_shown(it) for it in values)


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, list):
        return f"[{_list(value)}]"
    if isinstance(value, dict):
        said = ((name, it) for name, it in value.items() if name != "name" and it is not None)
        return ", ".join(f"{_field((name,))} {_shown(it)}" for name, it in said)
    return json.dumps(value)
