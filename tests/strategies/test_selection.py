"""Who takes part where uploads are masked, and how a cohort is split: laws over all that members may claim."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
from federation import make_federation, names
from hypothesis import given
from hypothesis import strategies as st

from hansa.contract.charter import Charter, Protection
from hansa.strategies.groups import split
from hansa.strategies.selection import Selection, select
from hansa.strategies.stock import Start

MEMBERS = names(5)
CHARTER = make_federation(5, mode="masked").charter
NONCE = "0" * 32


def start(name: str, numbers: tuple[int, ...] = (10, 11), **accepts: int) -> Start:
    """A start that takes every peer's prekeys from 10 on, changed as `accepts` says (-1: knows nothing of it)."""
    floors = {peer: 10 for peer in MEMBERS if peer != name} | accepts
    known = {peer: floor for peer, floor in floors.items() if floor >= 0}
    return Start(NONCE, len(known), known, numbers)


def chosen(starts: dict[str, Start], charter: Charter = CHARTER) -> Selection:
    return select(charter, connected=starts, declined={}, held={}, starts=starts)


def test_everybody_with_a_signed_start_takes_part_with_its_oldest_prekey() -> None:
    selection = chosen({name: start(name) for name in MEMBERS})
    assert selection.cohort == tuple(MEMBERS)
    assert selection.prekeys == dict.fromkeys(MEMBERS, 10)
    assert (selection.left_out, selection.shortfall, selection.hopeful) == ({}, "", ())


def test_a_prekey_is_one_that_the_whole_cohort_takes() -> None:
    starts = {name: start(name) for name in MEMBERS} | {"b": start("b", c=11)}
    assert chosen(starts).prekeys == {**dict.fromkeys(MEMBERS, 10), "c": 11}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (Start(NONCE, 2, {"a": 1, "b": 1}, (10,)), "its start is signed by 2 of 3 other members"),
        (start("e", ()), "none of its prekeys is left"),
        (start("e", a=12), "not valid for each other"),
        (start("e", (9,)), "not valid for each other"),
        (start("e", a=-1), "not valid for each other"),
    ],
)
def test_whoever_cannot_be_masked_with_the_others_is_left_out_for_now(changed: Start, reason: str) -> None:
    selection = chosen({**{name: start(name) for name in MEMBERS[:4]}, "e": changed})
    assert selection.cohort == ("a", "b", "c", "d")
    assert reason in selection.left_out["e"]
    assert selection.hopeful == ("e",)


def test_a_member_that_takes_nobodys_prekeys_costs_its_own_place_only() -> None:
    starts = {name: start(name) for name in MEMBERS} | {"a": start("a", **dict.fromkeys("bcde", 99))}
    assert chosen(starts).cohort == ("b", "c", "d", "e")


@pytest.mark.parametrize("liar", MEMBERS)
def test_of_two_that_do_not_fit_the_one_at_fault_goes(liar: str) -> None:
    victim = "a" if liar != "a" else "b"
    honest = {name: start(name) for name in MEMBERS}
    others = tuple(name for name in MEMBERS if name != liar)
    assert chosen({**honest, liar: start(liar, **{victim: 99})}).cohort == others
    withheld = replace(start(liar), withheld=True)
    assert chosen({**honest, liar: withheld, victim: start(victim, **{liar: -1})}).cohort == others


def test_an_agent_without_prekeys_takes_no_part() -> None:
    starts = {name: start(name) for name in MEMBERS[:4]}
    selection = select(CHARTER, connected=MEMBERS, declined={}, held={"b": "late"}, starts=starts)
    assert selection.left_out == {"b": "held out: late", "e": "its agent has said no start"}
    assert "3 of at least 4 members" in selection.shortfall


floors = st.one_of(st.none(), st.integers(0, 15))


@given(
    st.fixed_dictionaries(
        {
            name: st.tuples(
                st.fixed_dictionaries({peer: floors for peer in MEMBERS if peer != name}),
                st.sets(st.integers(0, 15), max_size=4),
            )
            for name in MEMBERS
        }
    )
)
def test_whatever_members_claim_every_pair_of_the_cohort_takes_the_others_prekey(claims: dict) -> None:  # type: ignore[type-arg]
    starts = {
        name: Start(
            NONCE,
            sum(floor is not None for floor in accepts.values()),
            {peer: floor for peer, floor in accepts.items() if floor is not None},
            tuple(sorted(numbers)),
        )
        for name, (accepts, numbers) in claims.items()
    }
    selection = chosen(starts)
    assert set(selection.prekeys) == set(selection.cohort)
    assert set(selection.cohort) | set(selection.left_out) == set(MEMBERS)
    assert set(selection.cohort).isdisjoint(selection.left_out)
    assert list(selection.cohort) == sorted(selection.cohort)
    for one in selection.cohort:
        assert selection.prekeys[one] in starts[one].numbers
        for other in selection.cohort:
            assert one == other or selection.prekeys[other] >= starts[one].accepts[other]
    assert chosen(starts) == selection


GROUPED = make_federation(16, protection=Protection(mode="masked", audit_groups=3)).charter
SHARED = make_federation(
    16, controllers=["x", "x", *names(14)], protection=Protection(mode="masked", c=2, audit_groups=4)
).charter


@given(
    st.sets(st.sampled_from(names(16)), min_size=1), st.integers(0, 99), st.sampled_from([GROUPED, SHARED])
)
def test_groups_split_the_cohort_into_as_many_as_the_charter_allows(
    cohort: set[str], seed: int, charter: Charter
) -> None:
    members = sorted(cohort)
    controllers = len(charter.controllers(members))
    groups = split(members, charter, Random(seed))
    least = charter.protection.audit_groups or 0
    if controllers < 2 * least:
        assert groups == ()
        return
    assert len(groups) == controllers // least
    assert sorted(name for group in groups for name in group) == members
    assert all(len(charter.controllers(group)) >= least for group in groups)
    # Nobody who controls two members sees two sums of the same attempt.
    assert sum(len(charter.controllers(group)) for group in groups) == controllers


def test_a_split_is_another_one_each_time() -> None:
    randomness = Random(1)
    assert len({split(names(16), GROUPED, randomness) for _ in range(20)}) == 20


def test_a_charter_without_groups_has_one_circle() -> None:
    assert split(MEMBERS, CHARTER, Random(1)) == ()
