"""Check words: the formula in whole numbers, uniform constants of each member, and sums that fit."""

from __future__ import annotations

import numpy as np
import pytest
from envelopes import total, uniform
from hypothesis import given, settings
from hypothesis import strategies as st
from room import JOB, Words, dice

from hansa.secagg import check_words
from hansa.secagg.check_words import CHECK_WORDS, add_check_words, check_sum
from hansa.secagg.group_key import GroupKey
from hansa.secagg.masks import HE_PRIME, new_room
from hansa.secagg.masks import Words as Stream

GROUP = GroupKey(JOB, dice("group")(32))
CHUNK = 32_768
lengths = st.sampled_from([0, 1, 7, CHUNK - 1, CHUNK, CHUNK + 1, 70_000])
borders = st.sampled_from([0, 1, 0xFFFF, 0x10000, HE_PRIME // 2, HE_PRIME - 1])


def stream(number: int, count: int, member: str | None = None, group: GroupKey = GROUP) -> list[int]:
    """The words of r, or of a member's a, one after the other."""
    keys = check_words._CheckKeys(group, 3, number, member)
    words, room = Stream(keys, "update", HE_PRIME), new_room()
    found: list[int] = []
    while len(found) < count:
        found += words.next(min(CHUNK, count - len(found)), room).tolist()
    return found


@settings(deadline=None, max_examples=30)
@given(lengths, st.integers(0, 2**32 - 1), borders)
def test_check_words_are_what_the_formula_gives(length: int, seed: int, border: int) -> None:
    values = uniform(length, seed)
    values[::2] = border
    found = add_check_words(values, GROUP, 3, "update", "a")
    np.testing.assert_array_equal(found[:-CHECK_WORDS], values)
    for number, word in enumerate(found[-CHECK_WORDS:].tolist()):
        product = sum(r * x for r, x in zip(stream(number, length), values.tolist(), strict=True))
        assert word == (product + stream(number, 1, "a")[0]) % HE_PRIME


def test_the_largest_products_are_exact() -> None:
    most = np.full(CHUNK, HE_PRIME - 1, dtype=np.uint32)
    assert check_words._dot([most, most], most) == [CHUNK * (HE_PRIME - 1) ** 2] * 2


def words_of(values: dict[str, Words], attempt: int = 3) -> Words:
    return total([add_check_words(them, GROUP, attempt, "update", name) for name, them in values.items()])


@settings(deadline=None)
@given(st.integers(1, 12), st.sampled_from([0, 1, 50]), st.integers(0, 2**32 - 1))
def test_the_sum_of_check_words_is_that_of_the_sum(members: int, length: int, seed: int) -> None:
    values = {f"m{number}": uniform(length, seed + number) for number in range(members)}
    assert check_sum(words_of(values), GROUP, 3, "update", tuple(values))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 4 + CHECK_WORDS), st.integers(1, HE_PRIME - 1))
def test_any_change_of_one_word_is_noticed(place: int, change: int) -> None:
    found = words_of({name: uniform(5, ord(name)) for name in "abc"})
    found[place] = (int(found[place]) + change) % HE_PRIME
    assert not check_sum(found, GROUP, 3, "update", "abc")


def test_each_of_the_two_words_is_looked_at() -> None:
    found = words_of({name: uniform(5, ord(name)) for name in "abc"})
    for place in (-1, -2):
        changed = found.copy()
        changed[place] ^= 1
        assert not check_sum(changed, GROUP, 3, "update", "abc")


def test_attempt_segment_members_and_key_are_a_part_of_it() -> None:
    found = words_of({name: uniform(5, ord(name)) for name in "abc"})
    assert check_sum(found, GROUP, 3, "update", ["c", "a", "b"])
    assert check_sum(found, GROUP, 3, "update", ["a", "a", "b", "c"])  # a set, however it is listed
    assert not check_sum(found, GROUP, 4, "update", "abc")
    assert not check_sum(found, GROUP, 3, "evaluation", "abc")
    assert not check_sum(found, GROUP, 3, "update", "ab")
    assert not check_sum(found, GROUP, 3, "update", "abcd")
    assert not check_sum(found, GROUP, 3, "update", ())
    assert not check_sum(found, GroupKey("cd" * 16, GROUP.secret), 3, "update", "abc")


@pytest.mark.parametrize("size", range(CHECK_WORDS))
def test_what_is_too_short_for_check_words_is_no_sum(size: int) -> None:
    assert not check_sum(np.zeros(size, np.uint32), GROUP, 3, "update", ("a",))


def test_streams_of_both_words_and_of_members_have_nothing_in_common() -> None:
    streams = [stream(number, 50, member) for number in (0, 1) for member in (None, "a", "b", "")]
    assert len({word for each in streams for word in each}) == 50 * len(streams)


def test_memory_stays_within_a_chunk_beside_the_result() -> None:
    import tracemalloc

    values = uniform(1_000_000, 0)
    tracemalloc.start()
    add_check_words(values, GROUP, 3, "update", "a")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * values.size + 4_000_000
