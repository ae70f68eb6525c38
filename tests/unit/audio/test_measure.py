"""Levels and lengths against values known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from voxtral.audio.measure import duration_s, is_silent, peak, rms_db

EMPTY = np.zeros(0, dtype=np.float32)


def tone(amplitude: float, seconds: float = 1.0, rate: int = 16000) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * 200 * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def test_duration():
    assert duration_s(np.zeros(8000, dtype=np.float32), 16000) == 0.5
    assert duration_s(np.zeros((8000, 2), dtype=np.float32), 16000) == 0.5


def test_peak_is_the_larger_side():
    assert peak(np.array([0.25, -0.75, 0.5], dtype=np.float32)) == 0.75
    assert peak(np.array([-0.5, -0.25], dtype=np.float32)) == 0.5
    assert peak(EMPTY) == 0.0


def test_rms_of_known_signals():
    assert rms_db(np.array([1.0, -1.0], dtype=np.float32)) == 0.0
    assert rms_db(tone(1.0)) == pytest.approx(20 * math.log10(1 / math.sqrt(2)), abs=1e-4)
    assert rms_db(np.zeros(100, dtype=np.float32)) == -math.inf
    assert rms_db(EMPTY) == -math.inf


def test_rms_of_samples_whose_squares_float32_cannot_hold():
    assert rms_db(np.full(100, 1e-25, dtype=np.float32)) == pytest.approx(-500.0, abs=1e-3)
    assert rms_db(np.full(100, 1e25, dtype=np.float32)) == pytest.approx(500.0, abs=1e-3)


def test_silence():
    assert is_silent(EMPTY, 16000)
    assert is_silent(np.zeros(16000, dtype=np.float32), 16000)
    assert is_silent(tone(1e-4), 16000)
    assert not is_silent(tone(1e-2), 16000)


def test_a_short_word_in_a_long_silence_is_heard():
    samples = np.zeros(60 * 16000, dtype=np.float32)
    samples[500_000:500_640] = tone(0.01, 0.04)
    assert rms_db(samples) < -60.0
    assert not is_silent(samples, sample_rate=16000)


def test_the_threshold_decides():
    samples = tone(0.1)  # -23 dB
    assert is_silent(samples, 16000, threshold_db=-20.0)
    assert not is_silent(samples, 16000, threshold_db=-26.0)


def test_one_sample_at_the_end_counts_as_a_window_of_silence():
    # Alone in its window it would measure -50 dB.
    samples = np.zeros(321, dtype=np.float32)
    samples[320] = 10 ** (-50 / 20)
    assert is_silent(samples, 16000)


def test_less_than_a_window_is_measured_as_it_is():
    assert not is_silent(tone(0.01, 0.01), 16000)
