"""Levels and lengths against values known by hand."""

from __future__ import annotations

import numpy as np

from voxtral.audio.measure import is_silent

EMPTY = np.zeros(0, dtype=np.float32)


def tone(amplitude: float, seconds: float = 1.0, rate: int = 16000) -> np.ndarray:
    return (amplitude * np.sin(2 * np.pi * 200 * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


def test_silence():
    assert is_silent(EMPTY, 16000)
    assert is_silent(np.zeros(16000, dtype=np.float32), 16000)
    assert is_silent(tone(1e-4), 16000)
    assert not is_silent(tone(1e-2), 16000)


def test_a_short_word_in_a_long_silence_is_heard():
    samples = np.zeros(60 * 16000, dtype=np.float32)
    samples[500_000:500_640] = tone(0.01, 0.04)
    assert 10 * np.log10(np.mean(np.square(samples))) < -60.0  # on average
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
