"""Mode `he` from the member's update to the opened sum: exact whoever drops out, and no other sum is taken for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest
from envelopes import (
    MODULI,
    Bytes,
    closed,
    envelope_sum,
    envelope_upload,
    job_keys,
    masks_off,
    opened_sum,
    total,
    uniform,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from room import JOB, Room, Words, dice, make_parties

from hansa.secagg import ciphertexts
from hansa.secagg.check_words import CHECK_WORDS, add_check_words, check_sum
from hansa.secagg.ciphertexts import SLOTS
from hansa.secagg.envelope import EnvelopeSum, envelope_bytes
from hansa.secagg.group_key import GroupKey
from hansa.secagg.masks import HE_PRIME, Masked

LENGTH = 11


@settings(deadline=None, max_examples=20)
@given(
    st.integers(3, 7),
    st.integers(0, 2**32 - 1),
    st.sampled_from([1, LENGTH, SLOTS - CHECK_WORDS, SLOTS - 1, SLOTS + 5]),
    st.data(),
)
def test_the_opened_sum_is_that_of_the_active_members(
    members: int, seed: int, length: int, data: st.DataObject
) -> None:
    parties = make_parties(members)
    cohort = parties.names
    gone = data.draw(st.integers(0, members - parties.charter.least_active))
    active = data.draw(st.permutations(cohort))[gone:]
    attempt = Room(parties, str(seed)).begin(attempt=seed + 1)
    values = {name: uniform(length, seed + place) for place, name in enumerate(cohort)}
    uploads = {name: envelope_upload(attempt, name, values[name]) for name in active}
    content = envelope_sum(attempt, uploads, length).content
    opened = opened_sum(seed + 1, content, active, length)
    assert opened is not None
    np.testing.assert_array_equal(opened, total([values[name] for name in active]))


@dataclass(frozen=True)
class Case:
    """An attempt of five, of whom one dropped out: uploads, masks, and the sum that is right."""

    active: tuple[str, ...]
    values: dict[str, Words]
    uploads: dict[str, Bytes]
    masks: Words
    content: Bytes

    def sum_without(self, masks: Words) -> Bytes:
        """The sum with other masks taken off."""
        found = EnvelopeSum(LENGTH + CHECK_WORDS)
        for upload in self.uploads.values():
            found.add(upload)
        found.add_words(masks)
        return found.content


@cache
def case() -> Case:
    attempt = Room(make_parties(5), "case").begin(attempt=7)
    active = ("a", "b", "d", "e")
    values = {name: uniform(LENGTH, place) for place, name in enumerate(active)}
    uploads = {name: envelope_upload(attempt, name, values[name]) for name in active}
    masks = masks_off(attempt, active, LENGTH)
    made = Case(active, values, uploads, masks, np.empty(0, np.uint8))
    return Case(active, values, uploads, masks, made.sum_without(masks))


def taken(content: Bytes, attempt: int = 7, active: tuple[str, ...] | None = None) -> bool:
    """Whether a member takes that for the sum."""
    return opened_sum(attempt, content, active or case().active, LENGTH) is not None


def added(content: Bytes, words: Words) -> Bytes:
    """A vector added by the server."""
    found = EnvelopeSum(LENGTH + CHECK_WORDS)
    found.add(content)
    found.add_words(words)
    return found.content


def of_all(content: Bytes, change: Callable[[np.ndarray], np.ndarray]) -> Bytes:
    """Every coefficient changed modulo q."""
    coefficients = ciphertexts._lengthened(content[:-4]).astype(object)
    return closed(ciphertexts._shortened((change(coefficients) % ciphertexts._PRIMES[0]).astype(np.uint64)))


def encrypted(words: Words) -> Bytes:
    """By somebody with the key: words that are not masked."""
    return job_keys().envelope.encrypt(Masked(words, HE_PRIME))


def test_the_sum_that_is_right_is_taken() -> None:
    assert taken(case().content)
    np.testing.assert_array_equal(
        opened_sum(7, case().content, case().active[::-1], LENGTH), total(case().values.values())
    )


@pytest.mark.parametrize("place", [0, 1, LENGTH - 1, LENGTH, LENGTH + 1])
@pytest.mark.parametrize("value", [1, HE_PRIME - 1, 12_345])
def test_a_vector_that_the_server_adds_is_noticed(place: int, value: int) -> None:
    words = np.zeros(LENGTH + CHECK_WORDS, np.uint32)
    words[place] = value
    assert not taken(added(case().content, words))


def test_the_sum_doubled_negated_or_times_a_number_is_noticed() -> None:
    for factor in (2, -1, 0, 3, HE_PRIME - 1):
        assert not taken(of_all(case().content, lambda them, factor=factor: them * factor)), factor


def test_zeros_in_the_place_of_the_sum_are_noticed() -> None:
    zeros = np.zeros(LENGTH + CHECK_WORDS, np.uint32)
    assert not taken(closed(np.zeros_like(case().content[:-4])))
    assert not taken(encrypted(zeros))
    # With check words of somebody who knows them for nobody's sum, too.
    without = add_check_words(zeros[:LENGTH], job_keys().group, 7, "update", "a")
    assert not taken(encrypted(without))


def test_another_active_set_shown_with_the_sum_is_noticed() -> None:
    a, b, d, e = case().active
    for other in ((a, b, d), (a, b, "c", d, e), (a, b, "c", d), ("c",), (a, b, d, "x")):
        assert not taken(case().content, active=other), other
    assert opened_sum(7, case().content, (), LENGTH) is None


def test_the_sum_of_another_attempt_is_noticed() -> None:
    assert not taken(case().content, attempt=8)


def test_an_upload_too_few_or_twice_is_noticed() -> None:
    for changed in (
        [*case().uploads.values(), case().uploads["a"]],
        list(case().uploads.values())[1:],
    ):
        found = EnvelopeSum(LENGTH + CHECK_WORDS)
        for upload in changed:
            found.add(upload)
        found.add_words(case().masks)
        assert not taken(found.content)


def test_a_mask_left_in_is_noticed() -> None:
    assert not taken(case().sum_without(np.zeros(LENGTH + CHECK_WORDS, np.uint32)))
    # One self mask put back: another room's member has the same shape of mask.
    attempt = Room(make_parties(5), "other").begin(attempt=7)
    mask = np.zeros(LENGTH + CHECK_WORDS, np.uint32)
    attempt.members["a"].mask({"update": mask}, MODULI)
    assert not taken(added(case().content, mask))


def test_noise_that_fills_a_ciphertext_is_noticed() -> None:
    """Multiples of p change no word and all of the noise; after enough of them words change, too."""
    content, noticed = case().content, []
    for _ in range(24):
        content = of_all(content, lambda them: them * (HE_PRIME + 1))
        noticed.append(not taken(content))
        opened = opened_sum(7, content, case().active, LENGTH)
        if opened is not None:
            np.testing.assert_array_equal(opened, total(case().values.values()))
    assert noticed[-1]


@settings(deadline=None, max_examples=60)
@given(st.integers(0, envelope_bytes(LENGTH) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_noticed_anywhere(place: int, flip: int) -> None:
    content = case().content.copy()
    content[place] ^= flip
    assert not taken(content)


@settings(deadline=None, max_examples=150)
@given(st.integers(0, 2 * SLOTS - 1), st.integers(0, 6), st.integers(1, 255))
def test_under_a_new_checksum_it_is_noticed_or_lost_in_the_noise(place: int, byte: int, flip: int) -> None:
    content = case().content.copy()
    content[7 * place + byte] ^= flip
    opened = opened_sum(7, closed(content[:-4]), case().active, LENGTH)
    if opened is not None:
        # q / 2p is 2^21: less than that in one coefficient changes no word.
        assert byte <= 2
        np.testing.assert_array_equal(opened, total(case().values.values()))


def test_two_uploads_swapped_between_attempts_are_noticed() -> None:
    attempt = Room(make_parties(5), "again").begin(attempt=8)
    upload = envelope_upload(attempt, "a", case().values["a"])
    found = EnvelopeSum(LENGTH + CHECK_WORDS)
    for each in ({**case().uploads, "a": upload}).values():
        found.add(each)
    found.add_words(case().masks)
    assert not taken(found.content)


def test_members_of_one_job_without_its_group_key_take_nothing() -> None:
    opened = job_keys().envelope.decrypt(case().content, LENGTH + CHECK_WORDS)
    assert check_sum(opened, job_keys().group, 7, "update", case().active)
    for other in (GroupKey(JOB, dice("another")(32)), GroupKey("cd" * 16, job_keys().group.secret)):
        assert not check_sum(opened, other, 7, "update", case().active)


@pytest.mark.slow
@pytest.mark.long
def test_ten_million_parameters_go_through_the_envelope() -> None:
    length = 10_000_000
    attempt = Room(make_parties(3), "large").begin(attempt=7)
    values = {name: uniform(length, ord(name)) for name in "abc"}
    uploads = {name: envelope_upload(attempt, name, them) for name, them in values.items()}
    opened = opened_sum(7, envelope_sum(attempt, uploads, length).content, "abc", length)
    assert opened is not None
    np.testing.assert_array_equal(opened, total(list(values.values())))


@pytest.mark.slow
def test_of_twenty_six_members_the_fewest_that_may_open_their_sum() -> None:
    """Noise of all uploads, and of taking off the masks of those that are missing."""
    parties = make_parties(26)
    attempt = Room(parties, "many").begin(attempt=7)
    active = parties.names[: parties.charter.least_active]
    values = {name: uniform(LENGTH, place) for place, name in enumerate(active)}
    uploads = {name: envelope_upload(attempt, name, them) for name, them in values.items()}
    content = envelope_sum(attempt, uploads, LENGTH).content
    opened = opened_sum(7, content, active, LENGTH)
    assert opened is not None
    np.testing.assert_array_equal(opened, total(list(values.values())))
    assert job_keys().envelope.noise_budget(content) >= 12
