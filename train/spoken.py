"""What a teacher of the corpus said: samples, phonemes, words and pitch; trimmed, resampled, measured here.

Read next: `train.speak`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

SAMPLE_RATE = 24000
SAMPLES_PER_PITCH = 300
_LEAD, _TAIL = round(0.05 * SAMPLE_RATE), round(0.1 * SAMPLE_RATE)
_AUDIBLE = 0.006  # of full scale


@dataclass(frozen=True, eq=False)
class Spoken:
    """One utterance of a teacher, at 24 kHz.

    Attributes:
        samples: [S] float32 in [-1, 1].
        pitch: [P] float32, Hz at sample 300 i; 0 where there is none.
        phonemes: numbers of `train.phonemes.SYMBOLS`.
        phoneme_starts: sample where each begins.
        phoneme_end: sample where the last one ends.
        words: start, end, first character and length of each word.
        times: "teacher" or "warped".
        pitch_kind: "source" or "measured".
    """

    samples: np.ndarray
    pitch: np.ndarray
    phonemes: list[int]
    phoneme_starts: list[int]
    phoneme_end: int
    words: list[tuple[int, int, int, int]]
    times: str
    pitch_kind: str


def trim(spoken: Spoken) -> Spoken:
    """Cut silence: .05 s stay before the first sound and .1 s after the last; the cut keeps the grid of the pitch.

    Returns:
        The same without samples where nothing is audible.
    """
    loud = np.flatnonzero(np.abs(spoken.samples) > _AUDIBLE)
    if len(loud) == 0:
        return replace(spoken, samples=spoken.samples[:0], pitch=spoken.pitch[:0])
    first = max(0, loud[0] - _LEAD) // SAMPLES_PER_PITCH * SAMPLES_PER_PITCH
    stop = min(len(spoken.samples), loud[-1] + _TAIL)
    samples = spoken.samples[first:stop]
    begin = first // SAMPLES_PER_PITCH
    count = -(-len(samples) // SAMPLES_PER_PITCH)
    pitch = np.zeros(count, np.float32)
    kept = spoken.pitch[begin : begin + count]
    pitch[: len(kept)] = kept

    def place(sample: int) -> int:
        return min(max(0, sample - int(first)), len(samples))

    return replace(
        spoken,
        samples=samples,
        pitch=pitch,
        phoneme_starts=[place(start) for start in spoken.phoneme_starts],
        phoneme_end=place(spoken.phoneme_end),
        words=[(place(start), place(end), at, length) for start, end, at, length in spoken.words],
    )


def measure_pitch(samples: np.ndarray) -> np.ndarray:
    """Measure the pitch by WORLD: [ceil(S / 300)] float32, Hz at sample 300 i, 0 where unvoiced."""
    import pyworld  # pyright: ignore[reportMissingImports]

    wave = samples.astype(np.float64)
    period = 1000 * SAMPLES_PER_PITCH / SAMPLE_RATE
    found, times = pyworld.dio(wave, SAMPLE_RATE, f0_floor=60.0, f0_ceil=500.0, frame_period=period)
    found = pyworld.stonemask(wave, found, times, SAMPLE_RATE)
    count = -(-len(samples) // SAMPLES_PER_PITCH)
    pitch = np.zeros(count, np.float32)
    pitch[: min(count, len(found))] = found[:count]
    return pitch
