"""Pico as a teacher: SVOX's small German voice, its times carried over from espeak-ng's by time warping.

Pico (Apache-2.0) is a tool of training, installed by `train.packages`; the product never loads it. It has one voice
a language and says nothing of its phonemes, so espeak-ng says the same text and both are aligned by their spectra.
Playing it slower or faster makes other voices of it: pitch and formants move together.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import soxr

from train.espeak import EspeakTeacher
from train.spoken import SAMPLE_RATE, Spoken, measure_pitch
from train.teacher import SilentTextError, Speaker

_RATE = 16000
_HOP = 240  # samples at 24 kHz between two spectra
_VOICES = {"de": "de-DE", "fr": "fr-FR", "es": "es-ES", "it": "it-IT", "en": "en-US"}
_GUIDE = Speaker("f2", 50, 165)


class Pico:
    """One engine, and espeak-ng beside it for the times."""

    def __init__(self, espeak: EspeakTeacher) -> None:
        from py_nanotts import NanoTTS  # pyright: ignore[reportMissingImports]

        self._engine: Any = NanoTTS()
        self._espeak = espeak

    def say(self, text: str, language: str, *, tape: float, pitch: float, speed: float) -> Spoken:
        """Speak a text.

        Args:
            text: as the front-end leaves it.
            language: one that Pico has.
            tape: factor that the sound is played at; below 1 is lower, as of a larger speaker.
            pitch: factor of Pico's own pitch.
            speed: factor of the speed that is heard.

        Raises:
            SilentTextError: nothing in the text sounds.
        """
        guide = self._espeak.say(text, language, _GUIDE)
        plain = text.replace("<", " ").replace(">", " ").replace("&", " ")
        data = self._engine.speak(plain, voice=_VOICES[language], speed=speed / tape, pitch=pitch, volume=0.5)
        raw = np.frombuffer(data, np.int16).astype(np.float32) / 32768
        samples = soxr.resample(raw, _RATE * tape, SAMPLE_RATE).astype(np.float32)
        if len(samples) < 10 * _HOP or np.abs(samples).max() < 0.01:
            raise SilentTextError(f"Pico made no sound for {len(text)} characters in {language}; use another text")
        carry = warp(guide.samples, samples)
        return Spoken(
            samples=samples,
            pitch=measure_pitch(samples),
            phonemes=guide.phonemes,
            phoneme_starts=[carry(start) for start in guide.phoneme_starts],
            phoneme_end=carry(guide.phoneme_end),
            words=[(carry(start), carry(end), first, length) for start, end, first, length in guide.words],
            times="warped",
            pitch_kind="measured",
        )


class _Carry:
    def __init__(self, source: np.ndarray, target: np.ndarray) -> None:
        self._source, self._target = source, target

    def __call__(self, sample: int) -> int:
        return round(float(np.interp(sample, self._source, self._target)))


def warp(source: np.ndarray, target: np.ndarray) -> _Carry:
    """Align two utterances of the same words by their spectra; the answer maps samples of the first to the second."""
    first, second = _spectra(source), _spectra(target)
    distance = 1 - first @ second.T
    rows, columns = distance.shape
    total = np.full((rows + 1, columns + 1), np.inf)
    total[0, 0] = 0
    steps = np.zeros((rows, columns), np.int8)
    lines = distance.tolist()
    above = total[0].tolist()
    for row in range(rows):
        here = [np.inf]
        for column in range(columns):
            diagonal, up, left = above[column], above[column + 1] + 0.05, here[column] + 0.05
            best = min(diagonal, up, left)
            steps[row, column] = 0 if best == diagonal else 1 if best == up else 2
            here.append(best + lines[row][column])
        above = here
    row, column = rows - 1, columns - 1
    path = [(row, column)]
    while row > 0 or column > 0:
        step = steps[row, column]
        row, column = row - (step != 2), column - (step != 1)
        path.append((max(row, 0), max(column, 0)))
    places = np.array(path[::-1]) * _HOP
    kept = np.concatenate([[True], np.diff(places[:, 0]) > 0])
    return _Carry(places[kept, 0], places[kept, 1])


def _spectra(samples: np.ndarray) -> np.ndarray:
    """Log spectra in 28 bands, levelled and of length 1: [T, 28]."""
    padded = np.pad(samples, (480, 960))
    frames = np.lib.stride_tricks.sliding_window_view(padded, 960)[::_HOP] * np.hanning(960)
    power = np.abs(np.fft.rfft(frames, axis=1))[:, 4:300]
    edges = np.unique(np.geomspace(1, 296, 30).astype(int))
    bands = np.log(np.add.reduceat(power, edges[:-1], axis=1) + 1e-3)
    level = bands.mean(1, keepdims=True)
    bands = bands - bands.mean(0)
    features = np.concatenate([bands, 3 * (level - level.mean())], axis=1)
    return features / (np.linalg.norm(features, axis=1, keepdims=True) + 1e-6)
