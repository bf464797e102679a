"""Faults of members: counted over a window, beside the others, told once; and when an audit is due."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa.sidecar.members import (
    AUDIT_SENTENCE,
    BLIND_SENTENCE,
    FAULTS,
    MEMBER_RULE,
    AttemptFacts,
    Fault,
    MemberCounts,
    Suggestion,
    audit_due,
    counted,
    fault_of,
    suggestions,
)

NAMES = ("a", "b", "c", "d", "e")


def course(
    faulty: dict[int, list[tuple[Fault, str]]], attempts: int = 40
) -> tuple[MemberCounts, list[Suggestion]]:
    """Attempt by attempt, with the state through JSON."""
    counts, told = MemberCounts(), list[Suggestion]()
    for number in range(1, attempts + 1):
        counts = counted(counts, [AttemptFacts(number, NAMES, tuple(faulty.get(number, ())))])
        counts, found = suggestions(MemberCounts.from_json(json.loads(json.dumps(counts.as_json()))))
        told.extend(found)
    return counts, told


def test_a_member_that_fails_often_is_suggested_once_with_its_numbers() -> None:
    _, told = course({number: [("failure", "b")] for number in range(1, 40, 2)})
    assert [(it.member, it.fault) for it in told] == [("b", "failure")]
    assert told[0].evidence["count"] == MEMBER_RULE.least["failure"]
    assert "hansa members quarantine b" in told[0].sentence
    assert told[0].key.startswith("failure b ")


def test_when_everybody_is_late_it_is_the_network() -> None:
    _, told = course({number: [("late", name) for name in NAMES] for number in range(5, 30)})
    assert told == []


def test_a_member_that_is_late_alone_is_told() -> None:
    _, told = course({number: [("late", "d")] for number in range(5, 30)})
    assert [(it.member, it.fault) for it in told] == [("d", "late")]


@pytest.mark.parametrize("fault", ["bad-share", "bad-sum"])
def test_a_few_bad_shares_or_sums_are_enough(fault: Fault) -> None:
    _, told = course({3: [(fault, "c")], 20: [(fault, "c")], 38: [(fault, "c")]})
    assert [(it.member, it.fault) for it in told] == [("c", fault)]


def test_what_is_longer_ago_than_the_window_is_forgotten() -> None:
    counts, told = course(
        {1: [("bad-share", "c")], 60: [("bad-share", "c")], 119: [("bad-share", "c")]}, attempts=120
    )
    assert told == []
    assert len(counts.attempts) == MEMBER_RULE.window


def test_after_a_rest_it_is_told_again() -> None:
    _, told = course({number: [("failure", "b")] for number in range(1, 140)}, attempts=140)
    assert len(told) == 3
    assert len({it.key for it in told}) == 3


def test_a_participation_becomes_a_fault_where_it_is_one() -> None:
    assert fault_of("failed", "") == "failure"
    assert fault_of("missing", "") == "late"
    assert fault_of("refused", "bad-sum") == "bad-sum"
    assert fault_of("failed", "bad-share") == "bad-share"
    assert fault_of("refused", "budget-exhausted") is None
    assert fault_of("replied", "") is None


facts = st.builds(
    AttemptFacts,
    st.integers(1, 80),
    st.just(NAMES),
    st.lists(st.tuples(st.sampled_from(FAULTS), st.sampled_from(NAMES)), max_size=4).map(tuple),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(facts, max_size=60), st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(heard: list[AttemptFacts], randomness) -> None:
    other = [*heard, *heard[: len(heard) // 2]]
    randomness.shuffle(other)
    assert counted(MemberCounts(), heard) == counted(MemberCounts(), other)
    assert len(counted(MemberCounts(), heard).attempts) <= MEMBER_RULE.window


@settings(max_examples=60, deadline=None)
@given(st.lists(facts, max_size=60))
def test_told_once_is_not_told_again_of_the_same_attempts(heard: list[AttemptFacts]) -> None:
    counts, _ = suggestions(counted(MemberCounts(), heard))
    assert MemberCounts.from_json(json.loads(json.dumps(counts.as_json()))) == counts
    again = suggestions(counted(counts, heard))
    assert again == (counts, ())


def test_a_state_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="version 7"):
        MemberCounts.from_json({"version": 7})


def test_the_second_alarm_in_ten_rounds_calls_for_an_audit_of_25_rounds() -> None:
    asked = {"groups": 3, "mode": "masked", "controllers": 8}
    assert audit_due([12], 20, **asked) is None
    assert audit_due([9, 20], 20, **asked) is None
    plan = audit_due([12, 20], 20, **asked)
    assert plan is not None
    assert (plan.first, plan.last) == (21, 45)
    assert AUDIT_SENTENCE in plan.sentence
    # The alarms that called for it call for no other.
    assert audit_due([12, 20], 20, audited=[(13, 20)], **asked) is None


@pytest.mark.parametrize(
    "without", [{"groups": None}, {"mode": "he"}, {"mode": "clear"}, {"controllers": 5}], ids=str
)
def test_without_groups_in_the_charter_there_is_no_audit(without: dict) -> None:
    asked = {"groups": 3, "mode": "masked", "controllers": 8} | without
    assert audit_due([12, 14], 15, **asked) is None


def test_the_page_has_its_sentences() -> None:
    assert "shrinks" in AUDIT_SENTENCE
    assert "'he'" in BLIND_SENTENCE
