"""Noise is normal, repeatable, and depends on seed, segment and frame alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from voxtral.engine.noise import SeededNoise, derive_seed
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


@given(st.integers(0, MAX_SEED), st.integers(1, 9))
def test_derived_seeds_are_seeds_of_their_own(seed: int, attempt: int) -> None:
    assert derive_seed(seed, 0) == seed
    assert 0 <= derive_seed(seed, attempt) <= MAX_SEED
    assert derive_seed(seed, attempt) != derive_seed(seed, attempt - 1)
