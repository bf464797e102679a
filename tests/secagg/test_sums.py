"""The sum is exact in the integers, whoever drops out and whenever, in any order; below t nothing opens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from room import Attempt, Room, make_parties

from hansa.secagg.fixed_point import MODULUS
from hansa.secagg.masks import HE_PRIME
from hansa.secagg.prekeys import seed_of, share_of
from hansa.secagg.server import BadShare, Summation
from hansa.secagg.shamir import combine, weights_at_zero

MODULI = {"update": HE_PRIME}


@dataclass(frozen=True)
class Course:
    """How an attempt went: who was asked, whose upload never came or came late, who answered, in which order."""

    members: int
    c: int
    cohort: tuple[str, ...]
    arrived: tuple[str, ...]
    late: frozenset[str]
    answering: tuple[str, ...]
    split: int
    seed: int


@st.composite
def courses(draw: st.DrawFn) -> Course:
    members = draw(st.integers(3, 10))
    c = draw(st.integers(0, min(2, members - 2)))
    charter = make_parties(members, c).charter
    everybody = make_parties(members, c).names
    size = draw(st.integers(charter.minimum_cohort, members))
    cohort = draw(st.permutations(everybody))[:size]
    # Mostly within what is tolerated, as far as the threshold and one below.
    gone = draw(st.integers(0, max(0, size - charter.least_active)))
    arrived = draw(st.permutations(cohort))[gone:]
    late = draw(st.permutations(cohort))[: draw(st.integers(0, gone))]
    silent = draw(st.integers(0, len(arrived) - charter.threshold + 1))
    answering = draw(st.permutations(arrived))[silent:]
    # Where to split the cohort in two groups; 0 for not at all.
    split = draw(st.integers(3, size - 3)) if c <= 1 and size >= 6 and draw(st.booleans()) else 0
    return Course(
        members,
        c,
        tuple(cohort),
        tuple(arrived),
        frozenset(late) - set(arrived),
        tuple(answering),
        split,
        draw(st.integers(0, 2**32 - 1)),
    )


def begin(course: Course) -> Attempt:
    parties = make_parties(course.members, course.c, audit_groups=3 if course.split else None)
    groups = (course.cohort[: course.split], course.cohort[course.split :]) if course.split else ()
    return Room(parties, str(course.seed)).begin(cohort=course.cohort, groups=groups)


def integers(course: Course) -> dict[str, dict[str, np.ndarray]]:
    """Signed integers of each member that the sum of the cohort still has room for."""
    rng = np.random.default_rng(course.seed)
    most = (HE_PRIME // 2 - 1) // len(course.cohort)
    return {
        name: {
            "update": np.append(rng.integers(-most, most, size=5, endpoint=True), [most, -most]),
            "evaluation": rng.integers(0, most, size=3),
        }
        for name in course.cohort
    }


def as_integers(words: np.ndarray, modulus: int) -> np.ndarray:
    signed = words.astype(np.int64)
    signed[signed > modulus // 2] -= modulus
    return signed


def upload(attempt: Attempt, course: Course, values: dict[str, dict[str, np.ndarray]]) -> None:
    for name in (*course.arrived, *sorted(course.late)):
        words = {
            segment: np.mod(part, MODULI.get(segment, MODULUS)).astype(np.uint32)
            for segment, part in values[name].items()
        }
        attempt.upload(name, words, MODULI)


@settings(deadline=None)
@given(courses())
@example(Course(3, 1, ("c", "a", "b"), ("b", "c", "a"), frozenset(), ("a", "b", "c"), 0, 1))
@example(Course(10, 1, tuple("jihgfedcba"), tuple("acegij"), frozenset("bd"), tuple("jigeca"), 0, 2))
@example(Course(6, 1, tuple("abcdef"), tuple("abcde"), frozenset(), tuple("abcde"), 3, 3))
def test_the_sum_is_exact_while_t_answer_and_stays_shut_below(course: Course) -> None:
    attempt, values = begin(course), integers(course)
    upload(attempt, course, values)
    summation = attempt.summation(course.arrived, MODULI)
    unmasking = attempt.unmasking(course.arrived)
    papers = attempt.papers(course.arrived)
    for name in course.answering:
        given_ = attempt.give(name, course.arrived, papers)
        unmasking.receive(name, given_)
        unmasking.receive(name, given_)  # a reply that came twice
    threshold = attempt.room.parties.threshold
    assert unmasking.missing == max(0, threshold - len(course.answering))
    if unmasking.missing:
        with pytest.raises(ValueError, match="missing"):
            unmasking.unmask(summation)
        return
    unmasking.unmask(summation)
    for circle in attempt.order.circles:
        active = [name for name in circle if name in course.arrived]
        assert (circle in unmasking.circles) == (len(active) >= (3 if course.split else 1))
        for segment, words in summation.of(circle).items():
            modulus = MODULI.get(segment, MODULUS)
            exact = sum(values[name][segment] for name in active)
            is_exact = bool((as_integers(words, modulus) == exact).all())
            assert is_exact == (circle in unmasking.circles), (
                "open circles are exact, closed ones stay masked"
            )
    with pytest.raises(ValueError, match="once"):
        unmasking.unmask(summation)


@settings(deadline=None, max_examples=40)
@given(courses())
def test_what_fewer_than_t_gave_is_of_no_use(course: Course) -> None:
    attempt = begin(course)
    upload(attempt, course, integers(course))
    papers = attempt.papers(course.arrived)
    chosen = course.arrived[: attempt.room.parties.threshold - 1]
    given_ = {name: attempt.give(name, course.arrived, papers) for name in chosen}
    weights = weights_at_zero([attempt.room.parties.index(name) + 1 for name in chosen])
    for name in next(iter(given_.values()), {}):
        secret = combine([share_of(shares[name]) for shares in given_.values()], weights)
        assert seed_of(secret, attempt.prekeys[name]) is None


@settings(deadline=None, max_examples=40)
@given(courses())
def test_of_a_closed_group_nothing_is_given_and_of_others_one_share_each(course: Course) -> None:
    attempt = begin(course)
    upload(attempt, course, integers(course))
    papers = attempt.papers(course.arrived)
    least = 3 if course.split else 1
    wanted = {
        name
        for circle in attempt.order.circles
        if len(set(circle) & set(course.arrived)) >= least
        for name in circle
    }
    assert set(attempt.give(course.arrived[0], course.arrived, papers)) == wanted


def attempt_of(members: int = 4) -> Attempt:
    """Everybody uploaded ones."""
    attempt = Room(make_parties(members)).begin()
    for name in attempt.order.cohort:
        attempt.upload(name, {"update": np.ones(4, np.uint32)})
    return attempt


def test_a_share_that_was_tampered_with_names_its_giver_and_does_not_count() -> None:
    attempt = attempt_of()
    active = attempt.order.cohort
    papers, unmasking = attempt.papers(active), attempt.unmasking(active)
    honest = attempt.give("a", active, papers)
    for name, opening in honest.items():
        for wrong in (
            opening[:-1] + bytes([opening[-1] ^ 1]),
            opening[:-1],
            b"",
            honest["b" if name != "b" else "c"],
        ):
            with pytest.raises(BadShare, match="'a' gave of") as caught:
                unmasking.receive("a", {**honest, name: wrong})
            assert caught.value.member == "a"
    for wrong_set in ({}, {"a": honest["a"]}, {**honest, "x": honest["a"]}):
        with pytest.raises(BadShare, match="exactly one share"):
            unmasking.receive("a", wrong_set)
    with pytest.raises(BadShare, match="'b'"):
        unmasking.receive("b", honest)
    assert unmasking.missing == attempt.room.parties.threshold
    unmasking.receive("a", honest)
    assert unmasking.missing == attempt.room.parties.threshold - 1


def test_an_upload_is_added_whole_or_not_at_all() -> None:
    attempt = attempt_of()
    summation = attempt.summation(["a"])
    before = summation.of(attempt.order.cohort)["update"].copy()
    upload_of = attempt.uploads["b"]
    for wrong in (
        {},
        {**upload_of, "more": upload_of["update"]},
        {"update": upload_of["update"][:1]},
        {"update": upload_of["update"].astype(np.float64)},
    ):
        with pytest.raises(ValueError, match="other segments"):
            summation.add("b", wrong)
    for name in ("a", "nobody"):
        with pytest.raises(ValueError, match="not of the cohort, or"):
            summation.add(name, upload_of)
    np.testing.assert_array_equal(summation.of(attempt.order.cohort)["update"], before)
    summation.add("b", upload_of)


def test_words_above_the_modulus_are_taken_modulo_it() -> None:
    summation = Summation([("a",)], {"update": HE_PRIME})
    summation.add("a", {"update": np.array([2**32 - 1, HE_PRIME, HE_PRIME - 1], dtype=np.uint32)})
    assert summation.of(("a",))["update"].tolist() == [139_262, 0, HE_PRIME - 1]
