"""The envelope: sums through it are sums modulo p, the server needs no key, and what is no ciphertext is refused."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import tenseal
from envelopes import closed, job_keys, total, uniform
from hypothesis import given, settings
from hypothesis import strategies as st
from room import Words

from hansa.secagg import ciphertexts
from hansa.secagg.ciphertexts import CHUNK_BYTES, KEY_BYTES, SLOTS
from hansa.secagg.envelope import Envelope, EnvelopeSum, envelope_bytes
from hansa.secagg.fixed_point import MODULUS
from hansa.secagg.masks import HE_PRIME, Masked

# What TenSEAL and SEAL may be given whole: a little below and above a ciphertext, and many.
lengths = st.sampled_from([1, 2, SLOTS - 1, SLOTS, SLOTS + 1, 2 * SLOTS])
borders = [0, 1, HE_PRIME // 2, HE_PRIME // 2 + 1, HE_PRIME - 1]


def encrypt(words: Words) -> np.ndarray:
    """These words are not masked: nothing here is secret."""
    return job_keys().envelope.encrypt(Masked(words, HE_PRIME))


def open_words(content: np.ndarray, words: int) -> Words:
    return job_keys().envelope.decrypt(content, words)


@settings(deadline=None, max_examples=40)
@given(lengths, st.integers(1, 6), st.integers(0, 3), st.integers(0, 2**32 - 1), st.sampled_from(borders))
def test_a_sum_through_the_envelope_is_the_sum_modulo_p(
    length: int, members: int, plain: int, seed: int, border: int
) -> None:
    parts = [uniform(length, seed + number) for number in range(members + plain)]
    for part in parts:
        part[::3] = border
    found = EnvelopeSum(length)
    for part in parts[:members]:
        found.add(encrypt(part))
    for part in parts[members:]:
        found.add_words(part)
    np.testing.assert_array_equal(open_words(found.content, length), total(parts))


def test_a_hundred_uploads_and_a_hundred_plain_vectors_leave_room_for_noise() -> None:
    parts = [uniform(SLOTS, number) for number in range(200)]
    found = EnvelopeSum(SLOTS)
    for part in parts[:100]:
        found.add(encrypt(part))
    for part in parts[100:]:
        found.add_words(part)
    np.testing.assert_array_equal(open_words(found.content, SLOTS), total(parts))
    assert job_keys().envelope.noise_budget(found.content) >= 12


def test_the_same_words_never_encrypt_to_the_same_bytes() -> None:
    words = uniform(SLOTS, 0)
    one, other = encrypt(words), encrypt(words)
    assert (one != other).mean() > 0.9


def test_a_ciphertext_takes_14_bytes_a_word_and_the_key_one_ciphertexts_bytes() -> None:
    assert envelope_bytes(0) == 4  # the checksum
    assert envelope_bytes(1) == envelope_bytes(SLOTS) == CHUNK_BYTES + 4
    assert envelope_bytes(10 * SLOTS) == 14 * 10 * SLOTS + 4
    assert len(job_keys().envelope.key) == KEY_BYTES == CHUNK_BYTES


def test_only_masked_words_modulo_p_are_encrypted() -> None:
    with pytest.raises(ValueError, match="words modulo 4294828033"):
        job_keys().envelope.encrypt(Masked(uniform(3, 0), MODULUS))
    with pytest.raises(AttributeError):
        job_keys().envelope.encrypt(uniform(3, 0))  # type: ignore[arg-type]


def test_an_encoded_key_is_the_same_key() -> None:
    words, envelope = uniform(5, 1), job_keys().envelope
    again = Envelope.load(envelope.key)
    assert again.key == envelope.key
    np.testing.assert_array_equal(again.decrypt(encrypt(words), 5), words)
    np.testing.assert_array_equal(open_words(again.encrypt(Masked(words, HE_PRIME)), 5), words)
    assert Envelope.new().key != envelope.key


def test_another_key_opens_nothing() -> None:
    words = uniform(SLOTS, 1)
    assert (Envelope.new().decrypt(encrypt(words), SLOTS) == words).mean() < 0.01


def test_the_servers_context_has_no_key() -> None:
    context = ciphertexts.keyless_context()
    for ask in (
        context.secret_key,
        context.decryptor,
        context.public_key,
        context.galois_keys,
        context.relin_keys,
    ):
        with pytest.raises((ValueError, RuntimeError)):
            ask()
    with pytest.raises(ValueError, match="doesn't support encryption"):
        tenseal.bfv_vector(context, [1])
    with pytest.raises((ValueError, RuntimeError)):
        ciphertexts.decode(context, encrypt(uniform(1, 0))).decrypt()
    # Whatever TenSEAL may have kept would be written with everything it has.
    assert len(context.serialize(True, False, True, True)) < 100


def test_what_seal_writes_around_coefficients_is_the_same_for_every_key() -> None:
    kept = ciphertexts._forms()
    ciphertexts._forms.cache_clear()
    assert ciphertexts._forms() == kept


@pytest.mark.parametrize("prime", ciphertexts._PRIMES)
def test_the_primes_are_of_54_bits_and_fit_polynomials_of_4096(prime: int) -> None:
    assert prime.bit_length() == 54
    assert prime % (2 * SLOTS) == 1
    assert all(pow(base, prime - 1, prime) == 1 for base in (2, 3, 5, 7))


def refused(content: np.ndarray, words: int) -> None:
    """By both sides, and the server's sum stays as it was."""
    with pytest.raises(ValueError, match=r"ciphertext"):
        open_words(content, words)
    found = EnvelopeSum(words)
    with pytest.raises(ValueError, match=r"ciphertext"):
        found.add(content)
    with pytest.raises(ValueError, match="no upload"):
        _ = found.content
    upload = encrypt(uniform(words, 3))
    found.add(upload)
    with pytest.raises(ValueError, match=r"ciphertext"):
        found.add(content)
    np.testing.assert_array_equal(found.content, upload)


def test_other_lengths_and_types_are_refused() -> None:
    upload = encrypt(uniform(SLOTS + 1, 0))
    for wrong in (
        upload[:-1],
        upload[:CHUNK_BYTES],
        upload[:0],
        np.append(upload, upload[:CHUNK_BYTES]),
        np.append(upload, np.uint8(0)),
        upload.reshape(1, -1),
        upload.astype(np.int16),
        upload.view(np.int8),
    ):
        refused(wrong, SLOTS + 1)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2 * SLOTS - 1), st.integers(0, 2**56 - 1), st.booleans())
def test_a_coefficient_that_is_not_below_q_is_refused(place: int, above: int, second: bool) -> None:
    upload = encrypt(uniform(SLOTS + 1, 0))
    value = max(above, ciphertexts._PRIMES[0])
    start = CHUNK_BYTES * second + 7 * place
    upload[start : start + 7] = np.frombuffer(value.to_bytes(7, "little"), np.uint8)
    refused(closed(upload[:-4]), SLOTS + 1)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, envelope_bytes(SLOTS + 1) - 1), st.integers(1, 255))
def test_a_byte_that_was_damaged_anywhere_is_noticed(place: int, flip: int) -> None:
    upload = encrypt(uniform(SLOTS + 1, 0))
    upload[place] ^= flip
    refused(upload, SLOTS + 1)


def test_what_seal_itself_writes_is_refused_without_being_read() -> None:
    """SEAL reads headers within compressed streams, and streams within those: these bytes never reach it."""
    vector = tenseal.bfv_vector(ciphertexts.new_context(), [1])
    written = np.frombuffer(vector.serialize(), np.uint8)
    for content in (
        written,
        written[:CHUNK_BYTES],
        written[-CHUNK_BYTES:],
    ):
        refused(content, 1)
        refused(closed(content), 1)


@settings(deadline=None, max_examples=50)
@given(st.binary(min_size=0, max_size=64), st.integers(0, 2**32 - 1))
def test_any_coefficients_below_q_open_to_some_words(salt: bytes, seed: int) -> None:
    """SEAL neither crashes nor gives words that are not below p."""
    rng = np.random.default_rng([seed, *salt])
    coefficients = rng.integers(0, ciphertexts._PRIMES[0], size=2 * SLOTS, dtype=np.uint64)
    coefficients[: int(rng.integers(0, 2 * SLOTS))] = rng.choice([0, 1, ciphertexts._PRIMES[0] - 1])
    content = closed(ciphertexts._shortened(coefficients))
    assert open_words(content, SLOTS).max() < HE_PRIME
    found = EnvelopeSum(SLOTS)
    found.add(content)
    found.add(encrypt(uniform(SLOTS, seed)))
    found.add_words(uniform(SLOTS, seed))
    assert open_words(found.content, SLOTS).max() < HE_PRIME


def test_a_sum_whose_second_polynomial_is_zero_is_said_to_be_none() -> None:
    """Nothing is encrypted then; SEAL refuses to add to it. To open it shows what somebody wrote."""
    found = EnvelopeSum(3)
    found.add(closed(np.zeros(CHUNK_BYTES, np.uint8)))
    with pytest.raises(ValueError, match="SEAL does not add"):
        found.add_words(uniform(3, 0))
    assert open_words(found.content, 3).tolist() == [0, 0, 0]


def test_plain_words_of_another_length_or_not_below_p_are_refused() -> None:
    found = EnvelopeSum(3)
    with pytest.raises(ValueError, match="no upload"):
        found.add_words(uniform(3, 0))
    found.add(encrypt(uniform(3, 0)))
    before = found.content.copy()
    for wrong in (uniform(2, 0), uniform(4, 0), np.array([0, 0, HE_PRIME], np.uint32)):
        with pytest.raises(ValueError, match="not 3 words below"):
            found.add_words(wrong)
    np.testing.assert_array_equal(found.content, before)


@pytest.mark.parametrize("wrong", [b"", bytes(KEY_BYTES - 1), bytes(KEY_BYTES + 1), b"\xff" * KEY_BYTES])
def test_a_key_of_another_length_or_with_other_coefficients_is_refused(wrong: bytes) -> None:
    with pytest.raises(ValueError, match="key"):
        Envelope.load(wrong)


def test_an_upload_that_was_added_may_change_afterwards() -> None:
    first, second = encrypt(uniform(2, 0)), encrypt(uniform(2, 1))
    found = EnvelopeSum(2)
    found.add(first)
    first[:] = 0
    second.flags.writeable = False
    found.add(second)
    np.testing.assert_array_equal(open_words(found.content, 2), total([uniform(2, 0), uniform(2, 1)]))


def test_nothing_as_long_as_an_upload_is_made_on_the_way() -> None:
    words = 20 * SLOTS
    masked, found = Masked(uniform(words, 0), HE_PRIME), EnvelopeSum(words)
    upload = encrypt(masked.words)
    found.add(upload)
    for call, result in (
        (lambda: job_keys().envelope.encrypt(masked), upload.size),
        (lambda: found.add(upload), 0),
        (lambda: found.add_words(masked.words), 0),
        (lambda: job_keys().envelope.decrypt(upload, words), 4 * words),
    ):
        tracemalloc.start()
        call()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < result + 12 * CHUNK_BYTES
