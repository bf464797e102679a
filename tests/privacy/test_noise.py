"""The law of the noise, against the exact probabilities. Bounds were fixed before looking."""

from __future__ import annotations

import hashlib
import math
import os
import time
from itertools import pairwise

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray
from scipy.stats import chi2, kstest, norm

from hansa.privacy import ziggurat
from hansa.privacy.curves import gaussian_delta
from hansa.privacy.noise import _NORMALS, TAIL, NoiseGenerator, discrete_gaussian

DRAWS = 400_000
# Under the exact law a chi-square is above this quantile once in a billion runs.
UNLIKELY = 1e-9


def seeded(name: str) -> NoiseGenerator:
    """A generator whose draws are the same in every run, so that no test fails by chance."""
    return NoiseGenerator(lambda count: hashlib.sha256(name.encode()).digest()[:count])


def chi_square(drawn: NDArray[np.int64], sigma: float) -> tuple[float, int]:
    """Statistic and degrees of freedom against the exact law; values expected under 20 times are taken together."""
    reach = int(20 * sigma) + 20
    values = np.arange(-reach, reach + 1)
    law = np.exp(-(values**2) / (2 * sigma**2))
    law /= law.sum()
    expected = law * drawn.size
    observed = np.array([np.count_nonzero(drawn == value) for value in values])
    assert observed.sum() == drawn.size
    often = expected >= 20
    expected = np.append(expected[often], expected[~often].sum())
    observed = np.append(observed[often], observed[~often].sum())
    return float(((observed - expected) ** 2 / np.maximum(expected, 1e-9)).sum()), int(often.sum())


@pytest.mark.parametrize("sigma", [0.4, 0.9, 1.0, 2.0, 3.7, 12.5])
def test_small_sigmas_follow_the_exact_law(sigma: float) -> None:
    statistic, freedom = chi_square(discrete_gaussian(DRAWS, sigma, seeded(f"law {sigma}")), sigma)
    assert statistic < chi2.isf(UNLIKELY, freedom)


@pytest.mark.parametrize("wrong", [0.98, 1.02])
def test_the_same_test_sees_a_rounded_normal_of_a_sigma_that_is_two_percent_off(wrong: float) -> None:
    normal = np.random.default_rng(1).normal(0, 3.7 * wrong, DRAWS)
    statistic, freedom = chi_square(np.rint(normal).astype(np.int64), 3.7)
    assert statistic > chi2.isf(UNLIKELY, freedom)


def test_the_same_test_sees_a_zero_that_comes_twice_as_often() -> None:
    drawn = discrete_gaussian(DRAWS, 3.7, seeded("zero"))
    doubled = np.append(drawn, drawn[drawn == 0])
    statistic, freedom = chi_square(doubled, 3.7)
    assert statistic > chi2.isf(UNLIKELY, freedom)


@pytest.mark.parametrize("sigma", [4096.0, 5000.3, 2.0**20 + 0.7, 2.0**27])
def test_large_sigmas_have_the_moments_and_the_shape_of_a_normal(sigma: float) -> None:
    drawn = discrete_gaussian(DRAWS, sigma, seeded(f"large {sigma}")) / sigma
    # Seven standard errors each.
    assert abs(drawn.mean()) < 7 / math.sqrt(DRAWS)
    assert abs(drawn.var() - 1) < 7 * math.sqrt(2 / DRAWS)
    assert abs((drawn**4).mean() - 3) < 7 * math.sqrt(96 / DRAWS)
    assert kstest(drawn, "norm").pvalue > UNLIKELY


def test_offsets_within_a_block_are_even_at_a_sigma_with_much_room_for_bias() -> None:
    # 2^32 modulo 3 * 2^26 is large: without rejection some offsets would come more often by a 43rd.
    sigma = 3.0 * 2**26 - 0.5
    last_bits = discrete_gaussian(DRAWS, sigma, seeded("bias")) % 3
    counts = np.bincount(last_bits, minlength=3)
    assert ((counts - DRAWS / 3) ** 2 / (DRAWS / 3)).sum() < chi2.isf(UNLIKELY, 2)


def test_no_draw_lies_beyond_twelve_sigma() -> None:
    # Every proposal lies 13 to 14 sigma out, and every coin is so small that it accepts it.
    class Extreme(NoiseGenerator):
        coin = True

        def uniforms(self, count: int) -> NDArray[np.float64]:
            self.coin = not self.coin
            return np.full(count, 2.0**-128 if self.coin else math.exp(-13.5))

    drawn = discrete_gaussian(500, 30.0, Extreme())
    assert set(drawn) == {-int(TAIL * 30.0), int(TAIL * 30.0)}


def test_uniforms_keep_their_digits_where_they_are_small() -> None:
    class Zeros(NoiseGenerator):
        def words(self, count: int) -> NDArray[np.uint64]:
            return np.arange(count, dtype=np.uint64)

    values = Zeros().uniforms(4)
    assert (values > 0).all()
    assert len(set(values)) == 4
    large = seeded("uniform").uniforms(DRAWS)
    assert large.max() <= 1.0
    assert kstest(large, "uniform").pvalue > UNLIKELY


def test_two_generators_are_never_alike() -> None:
    streams = [NoiseGenerator().words(64).tobytes() for _ in range(200)]
    assert len(set(streams)) == 200
    generator = NoiseGenerator()
    assert generator.words(64).tobytes() != generator.words(64).tobytes()
    assert (
        discrete_gaussian(64, 5000.0, NoiseGenerator()) != discrete_gaussian(64, 5000.0, NoiseGenerator())
    ).any()


def test_the_key_is_the_operating_systems_and_of_256_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def entropy(count: int) -> bytes:
        asked.append(count)
        return os.urandom(count)

    NoiseGenerator(entropy)
    assert asked == [32]
    assert NoiseGenerator.__init__.__defaults__ == (os.urandom,)


def test_a_forked_child_draws_nothing() -> None:
    generator = NoiseGenerator()
    child = os.fork()
    if child == 0:
        try:
            generator.words(1)
        except RuntimeError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_normal_floats_are_normal() -> None:
    drawn = seeded("normal").normal(DRAWS + 1)
    assert drawn.shape == (DRAWS + 1,)
    assert kstest(drawn, "norm").pvalue > UNLIKELY
    assert kstest(seeded("normal").normal(DRAWS) * 1.03, "norm").pvalue < UNLIKELY
    for offset in (1, 2, _NORMALS // 2, _NORMALS, DRAWS // 2):
        for values in (drawn, drawn**2):
            assert abs(np.corrcoef(values[:-offset], values[offset:])[0, 1]) < 7 / math.sqrt(DRAWS / 2)


def binned(drawn: NDArray[np.float64], bins: int) -> float:
    """Chi-square of bins that the normal law makes equally likely."""
    cells = np.minimum((norm.cdf(drawn) * bins).astype(np.int64), bins - 1)
    return float(((np.bincount(cells, minlength=bins) - drawn.size / bins) ** 2).sum() / (drawn.size / bins))


def test_normal_floats_have_no_seam_where_the_layers_meet() -> None:
    # 4000 bins: about four to a layer.
    drawn = seeded("seam").normal(10 * DRAWS)
    assert binned(drawn, 4000) < chi2.isf(UNLIKELY, 3999)


@pytest.mark.parametrize("layer", [1, 7, 500, 1000, ziggurat.LAYERS - 1])
def test_beside_a_layers_inner_box_the_curve_decides(layer: int) -> None:
    near, far = ziggurat.INNER[layer], ziggurat.STEP[layer] * 2.0**53
    low, high = ziggurat.HEIGHT[layer], ziggurat.HEIGHT[layer + 1]
    asked = np.random.default_rng(layer).uniform(near, far, DRAWS)
    given = seeded("beside")._outside(asked.copy(), np.full(DRAWS, layer))
    kept = asked[given == asked]

    def area(x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Under the curve and above the layer's lower edge, from the inner box to x."""
        mass: NDArray[np.float64] = math.sqrt(2 * math.pi) * (norm.cdf(x) - norm.cdf(near)) - low * (x - near)
        return mass

    whole = float(area(np.array(far)))
    share = whole / ((high - low) * (far - near))
    assert abs(kept.size - share * DRAWS) < 7 * math.sqrt(DRAWS / 4)
    assert kstest(area(kept) / whole, "uniform").pvalue > UNLIKELY
    assert kstest((kept - near) / (far - near), "uniform").pvalue < UNLIKELY
    # What is not kept is drawn anew, from the whole law.
    assert kstest(given[given != asked], "norm").pvalue > UNLIKELY


def test_normal_floats_keep_their_law_where_they_are_far_out() -> None:
    drawn = seeded("far").normal(10 * DRAWS)
    far = np.abs(drawn[np.abs(drawn) > ziggurat.EDGE])
    expected = 2 * norm.sf(ziggurat.EDGE) * drawn.size
    assert abs(far.size - expected) < 7 * math.sqrt(expected)
    # As many of them as one likes, on their own.
    tail = seeded("tail")._tail(DRAWS)
    assert kstest(norm.sf(tail) / norm.sf(ziggurat.EDGE), "uniform").pvalue > UNLIKELY
    assert kstest(norm.sf(tail * 1.003) / norm.sf(ziggurat.EDGE), "uniform").pvalue < UNLIKELY
    assert np.isfinite(seeded("far").normal(100_001)).all()


def test_a_tail_is_not_cut_where_a_uniform_of_53_bits_would_end() -> None:
    class Tiny(NoiseGenerator):
        """The exponential's uniform is small, and the one that decides about it is smaller."""

        calls = 0

        def uniforms(self, count: int) -> NDArray[np.float64]:
            self.calls += 1
            return super().uniforms(count) * 2.0 ** (-80 if self.calls % 2 else -400)

    tail = Tiny()._tail(100)
    assert (tail > 17).all()
    assert np.isfinite(tail).all()


def test_the_ziggurat_covers_the_curve() -> None:
    found, above = ziggurat.widths(ziggurat.EDGE)
    assert len(found) == ziggurat.LAYERS
    assert abs(above) < 1e-12
    assert all(lower > upper for lower, upper in pairwise(found))
    assert ziggurat.widths(ziggurat.EDGE - 1e-9)[1] > 1e-9 > -1e-9 > ziggurat.widths(ziggurat.EDGE + 1e-9)[1]
    # One area each, but the lowest, which has the tail.
    boxes = ziggurat.STEP[1:] * 2.0**53 * np.diff(ziggurat.HEIGHT[1:])
    lowest = ziggurat.EDGE * ziggurat.HEIGHT[1] + math.sqrt(2 * math.pi) * norm.sf(ziggurat.EDGE)
    assert np.allclose(boxes, lowest, rtol=1e-9)


@pytest.mark.parametrize("count", [0, 1, 2, 7, _NORMALS - 1, _NORMALS, _NORMALS + 1, 2 * _NORMALS + 3])
def test_any_number_of_normal_floats_can_be_drawn(count: int) -> None:
    drawn = seeded("count").normal(count)
    assert drawn.shape == (count,)
    assert len(np.unique(drawn)) == count


@pytest.mark.parametrize("chance", [2.0**-70, 0.001, 0.1, 0.5, 1 - 2.0**-53])
def test_coins_fall_as_often_as_they_should(chance: float) -> None:
    heads = int(seeded(f"coin {chance}").coins(DRAWS, chance).sum())
    assert abs(heads - DRAWS * chance) <= 7 * math.sqrt(DRAWS * chance * (1 - chance))


def test_coins_are_decided_by_the_last_of_64_bits() -> None:
    class Counting(NoiseGenerator):
        def words(self, count: int) -> NDArray[np.uint64]:
            return np.array([2**62 - 1, 2**62, 2**62 + 1, 0, 2**64 - 1], dtype=np.uint64)

    assert Counting().coins(5, 0.25).tolist() == [True, False, False, True, False]
    assert Counting().coins(5, 0.0).tolist() == [False] * 5
    assert Counting().coins(5, 1.0).tolist() == [True] * 5
    for wrong in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match="chance"):
            Counting().coins(1, wrong)


def test_a_long_stream_is_the_ciphers_stream() -> None:
    key = hashlib.sha256(b"stream").digest()
    cipher = Cipher(AES256(key), CTR(bytes(16))).encryptor()
    generator = NoiseGenerator(lambda count: key)
    drawn = [generator.words(count).tobytes() for count in (3, 20_000, 1)]
    assert b"".join(drawn) == cipher.update(bytes(8 * 20_004))


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf, 2.0**28 + 1])
def test_a_sigma_that_cannot_be_drawn_is_refused(sigma: float) -> None:
    with pytest.raises(ValueError, match="sigma"):
        discrete_gaussian(1, sigma, NoiseGenerator())


@pytest.mark.parametrize(
    ("multiplier", "epsilon"), [(1.0, 3.0), (0.6, 8.0), (3.7, 1.0), (10.0, 0.2), (0.9, 3.0)]
)
def test_at_4096_units_the_discrete_law_meets_the_exact_gaussian_curve_to_1e_9(
    multiplier: float, epsilon: float
) -> None:
    sigma = 4096.0
    shift = round(sigma / multiplier)
    values = np.arange(int(-40 * sigma), int(40 * sigma), dtype=np.float64)
    law = np.exp(-(values**2) / (2 * sigma**2))
    moved = np.exp(-((values - shift) ** 2) / (2 * sigma**2))
    total = math.fsum(law)
    delta = math.fsum(np.maximum(0.0, law - math.exp(epsilon) * moved)) / total
    exact = gaussian_delta(epsilon, shift / sigma)
    assert exact < 1e-2
    assert abs(delta - exact) < 1e-9


@pytest.mark.slow
@pytest.mark.alone
def test_a_million_draws_take_less_than_a_fifth_of_a_second() -> None:
    generator = NoiseGenerator()
    seconds = []
    for _ in range(5):
        began = time.perf_counter()
        discrete_gaussian(1_000_000, 5000.3, generator)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.2
