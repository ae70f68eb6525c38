"""Clips that pass for somebody who speaks: syllables with a pitch that falls, vowels that differ, short pauses.

They are for tests of what becomes of a clip; whether real voices pass is measured elsewhere (docs/VOICES.md).
"""

from __future__ import annotations

import io
import itertools

import numpy as np
import soundfile

RATE = 24000

_SYLLABLE_S = 0.2
# The first two formants of a, i, u, e, o for a man, in Hz.
_VOWELS = ((730, 1090), (270, 2290), (300, 870), (530, 1840), (570, 840))


def spoken(seconds: float, rate: int = RATE, *, hz: float = 140.0, peak: float = 0.5, seed: int = 0) -> np.ndarray:
    """Speak for so long, a syllable every fifth of a second: [S] float32. The last one ends with the clip."""
    draw = np.random.default_rng(seed)
    num_samples = round(seconds * rate)
    count = max(1, round(seconds / _SYLLABLE_S))
    edges = np.linspace(0, num_samples, count + 1).round().astype(int)
    voice = np.concatenate([_syllable(stop - start, rate, hz, draw) for start, stop in itertools.pairwise(edges)])
    return (voice * (peak / np.abs(voice).max())).astype(np.float32)


def _syllable(num_samples: int, rate: int, hz: float, draw: np.random.Generator) -> np.ndarray:
    place = np.arange(num_samples) / max(1, num_samples)
    pitch = hz * draw.uniform(0.9, 1.2) * (1.0 - 0.15 * place)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    first, second = _VOWELS[draw.integers(len(_VOWELS))]
    sound = np.zeros(num_samples)
    for number in range(1, int(min(3800, 0.45 * rate) / hz)):
        frequency = number * hz
        gain = 1 / (1 + ((frequency - first) / 90) ** 2) + 0.4 / (1 + ((frequency - second) / 120) ** 2) + 0.06
        sound += gain * np.sin(number * phase)
    attack, decay = np.minimum(1.0, place / 0.15), np.minimum(1.0, (1.0 - place) / 0.4)
    return sound * np.square(attack * decay) * draw.uniform(0.4, 1.0)


def spoken_file(seconds: float, rate: int = RATE, *, format: str = "WAV", hz: float = 140.0, seed: int = 0) -> bytes:
    """The same as the bytes of a file."""
    file = io.BytesIO()
    soundfile.write(file, spoken(seconds, rate, hz=hz, seed=seed), rate, format=format)
    return file.getvalue()
