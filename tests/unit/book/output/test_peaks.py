"""Peaks between samples, and the limiter: below the ceiling, the same for any pieces, and nothing done without need."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from book_output import RATE, babble
from voxtral.book.output.peaks import CEILING_DB, Limiter, TruePeakMeter
from voxtral.errors import AudioError, OptionError


def limit(samples: np.ndarray, cuts: list[int] | None = None, ceiling_db: float = CEILING_DB) -> np.ndarray:
    limiter = Limiter(RATE, ceiling_db)
    pieces = [limiter.push(piece) for piece in np.split(samples, sorted(cuts or []))]
    return np.concatenate([*pieces, limiter.finish()])


def peak_db(samples: np.ndarray, size: int | None = None) -> float:
    meter = TruePeakMeter()
    for start in range(0, len(samples), size or len(samples)):
        meter.push(samples[start : start + (size or len(samples))])
    return meter.peak_db()


def loud(seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    return babble(round(seconds * RATE), seed, 1.6)


@given(cuts=st.lists(st.integers(0, 2 * RATE), max_size=10))
def test_pieces_change_nothing(cuts: list[int]) -> None:
    samples = loud()
    assert np.array_equal(limit(samples, cuts), limit(samples))


@given(seed=st.integers(0, 1000), level=st.floats(0.5, 4.0), num_samples=st.integers(1, 30000))
def test_no_peak_is_above_the_ceiling_and_no_sample_is_lost(seed: int, level: float, num_samples: int) -> None:
    rng = np.random.default_rng(seed)
    samples = babble(num_samples, seed, level)
    samples[rng.integers(0, num_samples, 3)] = rng.uniform(-level, level, 3)
    limited = limit(samples)
    assert limited.dtype == np.float32
    assert len(limited) == num_samples
    assert peak_db(limited) <= CEILING_DB


@pytest.mark.parametrize("pitch", [100.0, 440.0, 2000.0, 5000.0])
def test_tones_are_turned_down_and_not_bent(pitch: float) -> None:
    wave = np.sin(2 * np.pi * pitch * np.arange(RATE) / RATE).astype(np.float32)
    limited = limit(wave)
    middle = slice(RATE // 4, -RATE // 4)
    gain = float(np.dot(limited[middle], wave[middle]) / np.dot(wave[middle], wave[middle]))
    assert np.abs(limited[middle] - gain * wave[middle]).max() < 2e-3
    assert -0.3 < 20 * math.log10(gain) - CEILING_DB <= 0.0


def test_what_is_below_stays_to_the_bit() -> None:
    samples = babble(3 * RATE, 1, 0.6)
    assert peak_db(samples) < CEILING_DB
    assert np.array_equal(limit(samples), samples)


def test_sound_before_and_long_after_a_peak_stays() -> None:
    samples = babble(3 * RATE, 2, 0.3)
    samples[RATE : RATE + 40] *= 20
    limited = limit(samples)
    assert np.array_equal(limited[: RATE - RATE // 50], samples[: RATE - RATE // 50])
    assert np.array_equal(limited[2 * RATE :], samples[2 * RATE :])
    assert not np.array_equal(limited[RATE : RATE + 40], samples[RATE : RATE + 40])


def test_a_tone_between_its_samples() -> None:
    # A quarter of the rate, sampled at 45 degrees: no sample is above 0.71 of the peak.
    wave = np.sin(2 * np.pi * np.arange(RATE) / 4 + np.pi / 4) * np.hanning(RATE)
    wave = wave.astype(np.float32)
    assert np.abs(wave).max() < 0.708
    assert peak_db(wave) == pytest.approx(0.0, abs=0.05)
    assert peak_db(wave, 777) == pytest.approx(peak_db(wave), abs=1e-9)
    assert peak_db(limit(wave)) <= CEILING_DB


def test_silence_has_no_peak() -> None:
    assert peak_db(np.zeros(100, dtype=np.float32)) == -math.inf
    assert len(limit(np.zeros(0, dtype=np.float32))) == 0


def test_what_is_refused() -> None:
    with pytest.raises(OptionError, match="ceiling"):
        Limiter(RATE, 1.0)
    with pytest.raises(AudioError):
        Limiter(RATE).push(np.array([1, 2]))
