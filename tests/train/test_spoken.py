"""What a teacher said: the cut keeps the grid of the pitch and moves every time."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from train.kana import say_kana
from train.pico import warp
from train.speak import level
from train.spoken import SAMPLES_PER_PITCH, Spoken, trim


def utterance(before: int, sound: int, after: int) -> Spoken:
    samples = np.zeros(before + sound + after, np.float32)
    samples[before : before + sound] = 0.5 * np.sin(np.arange(sound) * 0.1) + 0.01
    pitch = np.arange(-(-len(samples) // SAMPLES_PER_PITCH), dtype=np.float32) + 1
    words = [(before, before + sound, 0, 2)]
    starts = [before, before + sound // 2]
    return Spoken(samples, pitch, [43, 44], starts, before + sound, words, "teacher", "source")


@given(st.integers(0, 9000), st.integers(600, 9000), st.integers(0, 9000))
def test_a_cut_moves_times_by_whole_steps_of_the_pitch(before: int, sound: int, after: int) -> None:
    said = utterance(before, sound, after)
    cut = trim(said)
    shift = said.words[0][1] - cut.words[0][1]
    assert shift % SAMPLES_PER_PITCH == 0
    assert len(cut.pitch) == -(-len(cut.samples) // SAMPLES_PER_PITCH)
    assert cut.pitch[0] == said.pitch[shift // SAMPLES_PER_PITCH]
    assert np.array_equal(cut.samples, said.samples[shift : shift + len(cut.samples)])
    assert all(0 <= start <= cut.phoneme_end <= len(cut.samples) for start in cut.phoneme_starts)
    assert cut.words[0][0] <= round(0.05 * 24000) + SAMPLES_PER_PITCH


def test_silence_leaves_no_samples() -> None:
    said = replace(utterance(0, 600, 0), samples=np.zeros(600, np.float32))
    assert len(level(trim(said)).samples) == 0


@given(st.floats(0.001, 1.0))
def test_all_are_equally_loud_and_none_is_cut_off(gain: float) -> None:
    said = utterance(600, 4800, 600)
    levelled = level(replace(said, samples=said.samples * np.float32(gain)))
    assert np.abs(levelled.samples).max() <= 0.951
    assert np.allclose(levelled.samples, level(said).samples, atol=1e-4)


def test_times_are_carried_over_to_another_pace() -> None:
    rng = np.random.default_rng(4)
    # Six sounds of different colour, then the same ones more slowly.
    colours = [rng.standard_normal(5) for _ in range(6)]

    def say(lengths: list[int]) -> np.ndarray:
        parts = []
        for colour, length in zip(colours, lengths, strict=True):
            time = np.arange(length) / 24000
            tones = sum(np.sin(2 * np.pi * (300 + 700 * k + 150 * c) * time) for k, c in enumerate(colour))
            parts.append(0.1 * np.asarray(tones))
        return np.concatenate(parts).astype(np.float32)

    first, second = [3600] * 6, [4800, 3000, 6000, 4200, 2400, 5400]
    carry = warp(say(first), say(second))
    for at, to in zip(np.cumsum(first)[:-1], np.cumsum(second)[:-1], strict=True):
        assert abs(carry(int(at)) - to) < 0.04 * 24000


def test_kana_are_written_as_they_are_said() -> None:
    said = {
        "わたしは": "わたしわ",
        "とうきょうへ": "とーきょーえ",
        "せんせい": "せんせー",
        "はは": "はは",
        "かおを": "かおお",
    }
    assert {phrase: say_kana(phrase) for phrase in said} == said
