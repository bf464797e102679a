"""What a version of a charter changes: nothing is left out, nothing is cut, and silence is no promise."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
from federation import make_federation
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from hansa.contract.charter import Charter
from hansa.contract.differences import Difference, differences
from hansa.contract.errors import InputError
from hansa.contract.judgement import HARMLESS, OPEN, RULES
from hansa.contract.typed import parse_document

ABSENT = object()
AGE = {"kind": "numeric", "name": "age", "low": 0.0, "high": 100.0}
WARD = {"kind": "categorical", "name": "ward", "categories": ["north", "south", "east"]}
KEY = "bm90IGEga2V5LCBvbmx5IGFzIGxvbmcgYXMgb25lLi4="
BASE = make_federation(6, mode="masked").charter.model_dump(mode="json")
BASE["expires"] = "2030-01-31T00:00:00Z"
BASE["task"]["features"]["columns"] = [AGE, WARD]


def put(document: dict[str, Any], *changes: tuple[str, Any]) -> dict[str, Any]:
    """A copy with values at dotted places."""
    document = copy.deepcopy(document)
    for path, value in changes:
        place: Any = document
        *parts, last = path.split(".")
        for part in parts:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        if value is ABSENT:
            place.pop(last, None)
        else:
            place[int(last) if isinstance(place, list) else last] = value
    return document


def changed(*changes: tuple[str, Any], first: tuple[tuple[str, Any], ...] = ()) -> dict[str, Difference]:
    before = put(BASE, *first)
    found = differences(charter(before), charter(put(before, *changes)))
    assert len({it.field for it in found}) == len(found)
    return {it.field: it for it in found}


def charter(document: dict[str, Any]) -> Charter:
    return parse_document(document, Charter, "charter.toml")


# --- every field ----------------------------------------------------------------------------------


def fields(kind: Any, at: str = "") -> Iterator[str]:
    """Every field of a model and of the models in it; `*` stands for what the charter names."""
    origin = get_origin(kind)
    if origin is Annotated:
        yield from fields(get_args(kind)[0], at)
    elif origin in (Union, UnionType):
        for it in get_args(kind):
            if it is not type(None):
                yield from fields(it, at)
    elif origin is dict:
        yield f"{at}.*"
        yield from fields(get_args(kind)[1], f"{at}.*")
    elif origin is tuple and _models(get_args(kind)[0]):
        yield at
        yield f"{at}.*"
        yield from fields(get_args(kind)[0], f"{at}.*")
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, info in kind.model_fields.items():
            yield from fields(info.annotation, f"{at}.{name}" if at else name)
    else:
        yield at


def _models(kind: Any) -> bool:
    return "BaseModel" in {
        base.__name__ for it in (kind, *_inner(kind)) for base in getattr(it, "__mro__", ())
    }


def _inner(kind: Any) -> Iterator[Any]:
    for it in get_args(kind):
        yield it
        yield from _inner(it)


def test_every_field_is_ruled_or_harmless_by_name_or_left_open_on_purpose() -> None:
    known, everywhere = [*RULES, *HARMLESS, *OPEN], set(fields(Charter))
    assert {"members.*.node_key", "knobs.*.low", "task.features.columns.*.categories"} <= everywhere
    assert sorted(everywhere - set(known)) == []
    assert sorted(set(known) - everywhere) == []
    assert len(known) == len(set(known))


# --- nothing is left out --------------------------------------------------------------------------

VALUES: dict[str, list[Any]] = {
    "name": ["test", "other"],
    "version": [1, 2, 3],
    "expires": ["2030-01-31T00:00:00Z", "2031-01-31T00:00:00Z", "2030-01-31T01:00:00+01:00"],
    "operator_key": [BASE["operator_key"], KEY],
    "members.0.title": ["", "x", "x" * 99 + "y", "x" * 99 + "z", "B\u00fcrger", "Bu\u0308rger"],
    "members.0.controller": ["a", "b", "a "],
    "members.1.node_key": ["ecdsa-sha2-nistp256 " + "x" * 60, "ecdsa-sha2-nistp256 " + "x" * 59 + "y"],
    "members.2.identity_key": [BASE["members"][2]["identity_key"], KEY],
    "members.3.records": [1, 120],
    "task.title": ["", "one", "one "],
    "task.features.columns": [
        [AGE, WARD],
        [WARD, AGE],
        [AGE],
        [{**AGE, "name": "a.b"}, WARD],
        [{**WARD, "name": "age"}],
    ],
    "task.features.entity": [None, "", "person"],
    "task.features.holdout": [0.2, 0.25],
    "task.features.label": [
        {"kind": "binary", "positive": "1"},
        {"kind": "binary", "positive": "1 "},
        {"kind": "multiclass", "classes": ["x", "y", "z"]},
        {"kind": "multiclass", "classes": ["x", "z", "y"]},
        {"kind": "regression", "low": 0.0, "high": 1.0},
    ],
    "task.model.options": [
        {},
        {"on": True},
        {"on": 1},
        {"on": 1.5},
        {"on": [1]},
        {"a.b": "c"},
        {"a": "true"},
    ],
    "task.model.distribution_hash": ["", "0" * 64, "1" * 64],
    "protection.mode": ["clear", "masked", "he"],
    "protection.c": [0, 1, 2],
    "protection.t": [None, 4, 5, 6],
    "protection.minimum_cohort": [None, 4, 6],
    "training.clip": [0.5, 1, 1.0],
    "training.sampling_rate": [0.1, 0.2],
    "privacy.noise": ["none", "local"],
    "knobs": [
        {},
        {"dropout": {"default": 0.1, "low": 0.0, "high": 0.5}},
        {"dropout": {"default": 0.1, "low": 0.1, "high": 0.5}},
    ],
    "metrics.seconds_floor": [0.05, 0, -0.0],
}
CHOICES = st.fixed_dictionaries(
    {}, optional={path: st.sampled_from(values) for path, values in VALUES.items()}
)


def leaves(value: Any, at: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """Every value of a document; what has a name is under its name, and its place is a value too."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        for it in value:
            yield from leaves(it, (*at, it["name"]))
    elif isinstance(value, dict):
        for name, it in value.items():
            yield from leaves(it, (*at, name))
    else:
        yield at, json.dumps(value)


def of_version(choices: dict[str, Any]) -> Charter:
    document = put(BASE, *choices.items())
    document["previous"] = "" if document["version"] == 1 else "2" * 64
    try:
        return charter(document)
    except InputError:
        assume(False)
        raise


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(CHOICES, CHOICES)
def test_whatever_differs_is_said(one: dict[str, Any], other: dict[str, Any]) -> None:
    before, after = of_version(one), of_version({**one, **other})
    found = differences(before, after)
    documents = [it.model_dump(mode="json") for it in (before, after)]
    for it in documents:
        if after.version == before.version + 1:
            del it["version"], it["previous"]
    old, new = (dict(leaves(it)) for it in documents)
    said = {it.field.replace("'", "") for it in found}
    # A column of another kind has other fields; one that is not there is as one that is left open.
    for path in [it for it in {*old, *new} if old.get(it, "null") != new.get(it, "null")]:
        names = [".".join(path[:end]) for end in range(1, len(path) + 1)]
        assert said & set(names), path
    assert bool(found) == (json.dumps(documents[0]) != json.dumps(documents[1]))
    assert all(not it.weaker or it.judged for it in found)


def test_another_order_of_columns_or_members_is_a_difference() -> None:
    assert (
        "'age', 'ward' becomes 'ward', 'age'"
        in changed(("task.features.columns", [WARD, AGE]))["task.features.columns"].sentence
    )
    found = changed(("members", BASE["members"][::-1]))
    assert list(found) == ["members"]
    assert not found["members"].judged


def test_no_value_is_cut() -> None:
    key = "ecdsa-sha2-nistp256 " + "x" * 100
    found = changed(("members.0.node_key", f"{key}y"), first=(("members.0.node_key", key),))
    assert f"'{key}' becomes '{key}y'" in found["members.a.node_key"].sentence
    many = [f"category number {number}" for number in range(20)]
    found = changed(
        ("task.features.columns.1.categories", [*many[1:], "hiv"]),
        first=(("task.features.columns.1.categories", many),),
    )
    sentence = found["task.features.columns.ward.categories"].sentence
    assert "gains 'hiv'; loses 'category number 0'; the first is 'category number 1'" in sentence


def test_of_one_that_joins_all_keys_are_said() -> None:
    joins = {**BASE["members"][0], "name": "new", "controller": "N", "identity_key": KEY}
    joins |= {
        "sealing_key": "CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "node_key": "ecdsa-sha2-nistp256 new",
    }
    said = changed(("members", [*BASE["members"], joins]))["members.new"].sentence
    for field in ("identity_key", "sealing_key", "node_key", "controller"):
        assert f"{field} '{joins[field]}'" in said


def test_what_a_reader_cannot_see_is_written_out() -> None:
    odd = {**AGE, "name": "age\x1b[8m\n", "low": -1.0}
    found = changed(
        ("task.features.columns.0", odd),
        ("task.model.options", {"\u202ex": "\x9b"}),
        ("members.1.title", "K\u043entor"),
        first=(("members.1.title", "Kontor"),),
    )
    everything = " ".join(f"{it.field} {it.sentence}" for it in found.values())
    assert everything.isascii()
    assert everything.isprintable()
    assert "'age\\x1b[8m\\n'" in everything
    assert "'K\\u043entor', which may look alike" in everything


# --- what protects less ---------------------------------------------------------------------------

NOISE = (("privacy.noise", "local"),)
SHARED = (("privacy.noise", "distributed"), ("privacy.s", 2))
POISSON = (*NOISE, ("training.mechanism", "poisson"))
OTHER = {"kind": "numeric", "name": "dose", "low": 0.0, "high": 1.0}


@pytest.mark.parametrize(
    ("field", "value", "first"),
    [
        ("expires", "2099-01-31T00:00:00Z", ()),
        ("operator_key", KEY, ()),
        ("metrics.seconds_floor", 0.0, ()),
        ("metrics.per_member", True, ()),
        ("metrics.every", 1, (("metrics.every", 5),)),
        ("metrics.bins", 20, ()),
        ("metrics.calibration", True, ()),
        ("task.model.name", "mlp", ()),
        ("task.model.distribution", "another", ()),
        ("task.model.distribution_hash", "", (("task.model.distribution_hash", "1" * 64),)),
        ("task.model.distribution_hash", "2" * 64, (("task.model.distribution_hash", "1" * 64),)),
        ("task.features.label.column", "salary", ()),
        ("task.features.entity", "person", ()),
        ("task.features.entity", "other", (("task.features.entity", "person"),)),
        ("task.features.entity", None, (("task.features.entity", "person"),)),
        ("task.features.holdout", 0.4, NOISE),
        ("training.mechanism", "poisson", NOISE),
        ("training.max_records", 9, ()),
        ("training.clip", 9.0, ()),
        ("training.delta_clip", 99.0, ()),
        ("training.sampling_rate", 0.5, POISSON),
        ("privacy.noise", "none", NOISE),
        ("privacy.s", 1, SHARED),
        ("privacy.fewest_rounds", 1, ()),
        ("knobs.server_rate.high", 99.0, ()),
        ("knobs.server_rate.low", 0.0, ()),
        ("protection.mode", "clear", ()),
        ("protection.mode", "he", ()),
        ("protection.c", 0, ()),
        ("protection.audit_groups", 3, ()),
        ("approval", "automatic", (("approval", "manual"),)),
    ],
)
def test_what_protects_less_or_gives_more_is_marked(
    field: str, value: object, first: tuple[tuple[str, Any], ...]
) -> None:
    assert changed((field, value), first=first)[field].weaker


@pytest.mark.parametrize(
    ("field", "value", "first", "silent"),
    [
        ("privacy.noise", "local", SHARED, ["privacy.noise", "privacy.s"]),
        ("protection.t", None, (("protection.t", 4),), ["protection.t"]),
        (
            "protection.minimum_cohort",
            None,
            (("protection.minimum_cohort", 3),),
            ["protection.minimum_cohort"],
        ),
        ("training.sampling_rate", 0.9, (), ["training.sampling_rate"]),
        ("expires", "2029-01-31T00:00:00Z", (), ["expires"]),
        ("members.0.title", "A", (), ["members.a.title"]),
    ],
)
def test_what_does_not_is_not(
    field: str, value: object, first: tuple[tuple[str, Any], ...], silent: list[str]
) -> None:
    changes = [(field, value), *([("privacy.s", None)] if first is SHARED else [])]
    found = changed(*changes, first=first)
    assert list(found) == silent
    assert all(it.judged and not it.weaker for it in found.values())


def test_where_the_charter_cannot_tell_it_says_so() -> None:
    changes = [
        ("training.clip", 9.0),
        ("training.weighting", "even"),
        ("task.title", "more"),
        ("members.0.records", 1),
    ]
    found = changed(*changes, ("task.model.options", {"l2": 1.0}), first=NOISE)
    assert len(found) == 5
    assert not any(it.judged or it.weaker for it in found.values())


def test_fewer_members_that_open_a_sum_or_hide_one_is_said_once() -> None:
    found = changed(("protection.t", 4), first=(("protection.t", 6),))
    assert [it.field for it in found.values() if it.weaker] == ["minimum_cohort", "least_active", "threshold"]


def test_controllers_that_part_or_come_together_are_marked() -> None:
    one = (("protection.c", 2), ("members.0.controller", "X"), ("members.1.controller", "X"))
    found = changed(("members.0.controller", "X1"), ("members.1.controller", "X2"), first=one)
    assert "it counted as one with 'b'" in found["members.a.controller"].weaker
    assert "it counted as one with 'a'" in found["members.b.controller"].weaker
    found = changed(("members.0.controller", "b"), first=one[:1])
    assert "'b' then has 2 members (a, b)" in found["members.a.controller"].weaker
    assert (
        changed(("members.0.controller", "new"))["members.a.controller"].weaker
        == "another party stands behind the member"
    )


def test_a_member_that_joins_under_a_controller_of_another_is_marked() -> None:
    joins = {**BASE["members"][0], "name": "new", "controller": "b", "identity_key": KEY}
    joins |= {
        "sealing_key": "CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        "node_key": "ecdsa-sha2-nistp256 new",
    }
    found = changed(("members", [*BASE["members"], joins]), first=(("protection.c", 2),))
    assert "'b' then has 2 members (b, new)" in found["members.new"].weaker
    left = changed(("members", BASE["members"][:-1]))
    assert left["members.f"].weaker == "there is one member fewer to hide among"


def test_keys_of_two_members_that_change_places_are_marked() -> None:
    a, b = (BASE["members"][number]["identity_key"] for number in (0, 1))
    found = changed(("members.0.identity_key", b), ("members.1.identity_key", a))
    assert found["members.a.identity_key"].weaker.endswith("it was that of member 'b'")
    assert found["members.b.identity_key"].weaker.endswith("it was that of member 'a'")
    assert changed(("members.0.sealing_key", "CQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="))[
        "members.a.sealing_key"
    ].weaker


def test_columns_that_are_new_wider_or_finer_are_marked() -> None:
    columns = "task.features.columns"
    assert changed((columns, [AGE, OTHER, WARD]))[f"{columns}.dose"].weaker
    assert changed((f"{columns}.0.low", -1.0))[f"{columns}.age.low"].weaker
    assert changed((f"{columns}.0.high", 101.0))[f"{columns}.age.high"].weaker
    assert not changed((f"{columns}.0.high", 99.0))[f"{columns}.age.high"].judged
    assert changed((f"{columns}.0.indicator", True))[f"{columns}.age.indicator"].weaker
    assert changed((f"{columns}.1.categories", ["north", "south", "east", "hiv"]))[
        f"{columns}.ward.categories"
    ].weaker
    assert changed((f"{columns}.0", {**WARD, "name": "age"}))[f"{columns}.age.kind"].weaker
    gone = changed((columns, [AGE]))[f"{columns}.ward"]
    assert gone.judged
    assert not gone.weaker


def test_a_time_is_the_same_in_another_zone_and_said_all_the_same() -> None:
    found = changed(("expires", "2030-01-31T01:00:00+01:00"))["expires"]
    assert found.judged
    assert not found.weaker
    assert charter(BASE).expires == datetime(2030, 1, 31, tzinfo=UTC)
