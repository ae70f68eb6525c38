"""The filter by its response, levels by values known by hand, and exact zeros."""

from __future__ import annotations

import numpy as np
import pytest

from voxtral.audio.condition import active_level, fade_ends, fill_zeros, high_pass

RATE = 24000
TIME = np.arange(4 * RATE) / RATE


def gain_db(hz: float) -> float:
    tone = np.sin(2 * np.pi * hz * TIME).astype(np.float32)
    middle = slice(RATE, -RATE)
    return 20 * np.log10(np.abs(high_pass(tone, RATE)[middle]).max() / np.abs(tone[middle]).max())


@pytest.mark.parametrize(
    ("hz", "lowest", "highest"), [(30, -60, -24), (60, -7, -5), (80, -1, 0), (100, -0.2, 0), (5000, -0.01, 0.01)]
)
def test_the_filter_takes_rumble_and_leaves_voices(hz: float, lowest: float, highest: float) -> None:
    assert lowest <= gain_db(hz) <= highest


def test_an_offset_is_removed_to_the_ends() -> None:
    assert np.abs(high_pass(np.full(200_000, 0.7, np.float32), RATE)).max() < 1e-4


def test_the_fundamental_of_a_low_voice_keeps_its_place_beside_its_octave() -> None:
    saw = (100 * TIME % 1 - 0.5).astype(np.float32)
    ratios = []
    for samples in (saw, high_pass(saw, RATE)):
        lines = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
        ratios.append(20 * np.log10(lines[400] / lines[800]))
    assert ratios[0] == pytest.approx(ratios[1], abs=0.5)


def test_the_phase_stays_and_blocks_leave_no_seam() -> None:
    tone = (0.3 * np.sin(2 * np.pi * 500 * np.arange(400_000) / RATE)).astype(np.float32)
    assert np.abs(high_pass(tone, RATE) - tone)[RATE:-RATE].max() < 1e-4


@pytest.mark.parametrize("length", [1, 2, 100, 5000])
def test_few_samples_are_filtered_too(length: int) -> None:
    assert np.isfinite(high_pass(np.ones(length, np.float32), RATE)).all()


def test_the_level_of_speech_leaves_pauses_out() -> None:
    tone = 0.1 * np.sin(2 * np.pi * 200 * TIME).astype(np.float32)
    assert active_level(tone, RATE) == pytest.approx(-23.0, abs=0.1)
    assert active_level(np.concatenate([tone, 0 * tone]), RATE) == pytest.approx(-23.0, abs=0.1)
    assert active_level(0 * tone, RATE) == -np.inf
    assert active_level(tone[:0], RATE) == -np.inf


def test_zeros_get_a_little_noise_and_speech_stays() -> None:
    tone = (0.1 * np.sin(2 * np.pi * 200 * TIME)).astype(np.float32)
    clip = np.concatenate([tone, np.zeros(RATE, np.float32), tone])
    filled = fill_zeros(clip, RATE)
    gap = filled[len(tone) + 480 : len(tone) + RATE - 480]
    assert 10 * np.log10(np.square(gap).mean()) == pytest.approx(-80, abs=0.5)
    assert np.array_equal(filled[: len(tone)], tone)
    assert fill_zeros(tone, RATE) is tone


def test_ends_are_faded() -> None:
    faded = fade_ends(np.ones(RATE, np.float32), RATE)
    assert faded[0] < 0.01
    assert faded[-1] < 0.01
    assert (faded[480:-480] == 1).all()
