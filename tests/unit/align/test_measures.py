"""Samples tell whether a way is theirs, how far it is ahead, and how late the codec is."""

from __future__ import annotations

import numpy as np
import pytest

from voxtral.align.measures import lag_of, lead_of, leads, pause_depth
from voxtral.align.times import Track
from voxtral.align.words import WordSpans, spoken_words, verbatim_sources

RATE = 24000
TEXT = "abcd, efgh, ijkl, mnop"


def _list(ahead_s: float) -> tuple[WordSpans, Track, np.ndarray]:
    """Give words of 0.32 s with pauses of 0.16 s, and a way that is ahead of them."""
    words = spoken_words(TEXT, TEXT, verbatim_sources(0, len(TEXT)), [char.encode() for char in TEXT])
    track = Track(12.5)
    track.positions = [token + 0.5 for token in range(len(TEXT))]
    rng = np.random.default_rng(0)
    power = np.array([0.1 if char.isalpha() else 1e-5 for char in TEXT]).repeat(round(0.08 * RATE))
    power = np.concatenate((np.full(round(ahead_s * RATE), 1e-5), power))
    return words, track, (rng.standard_normal(len(power)) * power).astype(np.float32)


@pytest.mark.parametrize("ahead_s", [0.0, 0.05, 0.1])
def test_leads_are_measured_at_pauses(ahead_s: float) -> None:
    words, track, samples = _list(ahead_s)
    assert leads(words, track, samples, RATE) == [pytest.approx(ahead_s, abs=0.006)] * 3


def test_pauses_are_where_the_way_has_them_or_it_is_of_something_else() -> None:
    words, track, samples = _list(0.0)
    assert pause_depth(words, track, samples, RATE, 0.0) > 20
    other = np.roll(samples, round(0.2 * RATE))
    assert pause_depth(words, track, other, RATE, 0.0) < 0
    assert pause_depth(words, Track(12.5), samples, RATE, 0.0) == 0.0


def test_a_lead_is_used_only_where_it_is_plain() -> None:
    assert lead_of([0.07] * 30, 0.02) == 0.0
    assert lead_of([0.2] * 5, 0.02) == 0.0
    assert lead_of([0.2] * 30, 0.02) == pytest.approx(0.14)


@pytest.mark.parametrize("lag", [0, 480, -240])
def test_the_lag_of_a_copy_is_found(lag: int) -> None:
    rng = np.random.default_rng(2)
    clip = (rng.standard_normal(RATE) * (0.02 + np.abs(np.sin(np.arange(RATE) / 1700)) ** 3)).astype(np.float32)
    copy = np.roll(clip, lag) * 0.7
    assert lag_of(clip, copy, RATE) == pytest.approx(lag / RATE, abs=0.0015)
