"""Noise is normal, repeatable, and depends on seed, segment and frame alone, however many draw at once."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.engine.noise import NoiseMaker, SeededNoise, derive_seed
from voxtral.options import MAX_SEED


def test_known_values_never_change() -> None:
    # A seed that a user wrote down must give the same speech in every later version.
    noise = SeededNoise(seed=42, segment=0, num_values=36)(0)
    assert noise.dtype == np.float32
    assert np.allclose(noise[:4], [-0.55827105, -0.42494345, 0.5215217, -0.6907633], atol=1e-6)
    later = SeededNoise(seed=42, segment=3, num_values=36)(7)
    assert np.allclose(later[:4], [0.29609346, -0.16603395, -1.2669013, -0.7615893], atol=1e-6)


def test_it_is_standard_normal() -> None:
    values = np.concatenate([SeededNoise(1, 0, 36)(frame) for frame in range(2000)])
    assert abs(values.mean()) < 0.02
    assert abs(values.std() - 1) < 0.02
    assert abs((values**4).mean() - 3) < 0.1
    assert np.isfinite(values).all()


@given(st.integers(0, MAX_SEED), st.integers(0, 10_000), st.integers(0, 100_000), st.integers(1, 80))
def test_the_key_decides_and_nothing_else(seed: int, segment: int, frame: int, num_values: int) -> None:
    first = SeededNoise(seed, segment, num_values)
    second = SeededNoise(seed, segment, num_values)
    second(frame + 1)  # drawing other frames before makes no difference
    assert first(frame).shape == (num_values,)
    assert np.array_equal(first(frame), second(frame))
    assert not np.array_equal(first(frame), first(frame + 1))
    assert not np.array_equal(first(frame), SeededNoise(seed, segment + 1, num_values)(frame))
    assert not np.array_equal(first(frame), SeededNoise((seed + 1) % MAX_SEED, segment, num_values)(frame))


def noise_of_one(seed: int, segment: int, num_values: int, frame: int) -> np.ndarray:
    """One row at a time, as it was drawn before rows were drawn together."""
    num_pairs = (num_values + 1) // 2
    key, counter = np.array([seed, segment], dtype=np.uint64), np.array([0, frame, 0, 0], dtype=np.uint64)
    words = np.random.Philox(key=key, counter=counter).random_raw(2 * num_pairs)
    uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
    radius = np.sqrt(-2.0 * np.log(uniform[:num_pairs]))
    angle = 2.0 * np.pi * uniform[num_pairs:]
    normal = np.concatenate((radius * np.cos(angle), radius * np.sin(angle)))
    return normal[:num_values].astype(np.float32)


ROWS = st.tuples(st.integers(0, MAX_SEED), st.integers(0, 2**32), st.integers(0, 2**40))


@given(st.lists(ROWS, min_size=1, max_size=70), st.integers(1, 80), st.randoms(use_true_random=False))
def test_rows_drawn_together_are_each_what_it_is_alone_to_the_bit(
    rows: list[tuple[int, int, int]], num_values: int, order: Random
) -> None:
    maker = NoiseMaker()
    for _ in range(2):  # what was drawn before makes no difference, nor does the order
        order.shuffle(rows)
        sources = [SeededNoise(seed, segment, num_values) for seed, segment, _ in rows]
        together = maker.draw(sources, [frame for *_, frame in rows])
        alone = np.stack([noise_of_one(seed, segment, num_values, frame) for seed, segment, frame in rows])
        assert together.dtype == alone.dtype == np.float32
        assert together.tobytes() == alone.tobytes()


def test_a_source_of_another_kind_stands_beside_seeded_ones_and_fails_alone() -> None:
    def broken(frame: int) -> np.ndarray:
        raise LookupError(f"no noise for frame {frame}")

    recorded = np.arange(4, dtype=np.float32)
    sources = [SeededNoise(1, 0, 4), broken, lambda frame: recorded + frame, SeededNoise(2, 0, 3), SeededNoise(3, 0, 4)]
    sources.append(lambda frame: recorded[:3])
    noises = NoiseMaker().each(sources, [5, 6, 7, 8, 9, 0], [0.5, 1.0, 2.0, 1.0, 1.0, 1.0], num_values=4)
    for index, (seed, frame, scale) in {0: (1, 5, 0.5), 4: (3, 9, 1.0)}.items():
        assert np.array_equal(noises[index], SeededNoise(seed, 0, 4)(frame) * scale)
    assert np.array_equal(noises[2], (recorded + 7) * 2)
    assert isinstance(noises[1], LookupError)
    for index in (3, 5):
        with pytest.raises(ValueError, match=r"shape \(3,\); it must be \(4,\)"):
            raise noises[index]
    assert NoiseMaker().each([], [], [], num_values=4) == []


@pytest.mark.parametrize("scale", [0.1, 0.7, 1.0, 1.3])
def test_a_scale_rounds_as_it_does_for_one_row(scale: float) -> None:
    sources = [SeededNoise(seed, 0, 36) for seed in range(5)]
    together = NoiseMaker().each(sources, [3] * 5, [scale] * 5, num_values=36)
    assert all(np.array_equal(noise, noise_of_one(seed, 0, 36, 3) * scale) for seed, noise in enumerate(together))


@given(st.integers(0, MAX_SEED), st.integers(1, 9))
def test_derived_seeds_are_seeds_of_their_own(seed: int, attempt: int) -> None:
    assert derive_seed(seed, 0) == seed
    assert 0 <= derive_seed(seed, attempt) <= MAX_SEED
    assert derive_seed(seed, attempt) != derive_seed(seed, attempt - 1)
