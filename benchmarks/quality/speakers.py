"""Who speaks: which of four voices an utterance is nearest to, by two measures.

`TimbreAndPitch` always runs and is coarse: means over time, no model. Resemblyzer (a speaker encoder trained
on people, Apache-2.0) is used where it is installed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import soxr

from benchmarks.quality.acoustics import SAMPLE_RATE, log_mel, log_pitch, mel_cepstra

GROUP_SIZE = 4

# Distance of an e-fold of pitch beside the distance of mean cepstra in nepers; chosen on the teacher's own voices.
_PITCH_WEIGHT = 12.0
_UNVOICED_PITCH = 5.0  # 148 Hz
_LOUD = 5.0  # nepers of the mean band below the loudest frame
_RESEMBLYZER_RATE = 16000


class SpeakerMeasure(Protocol):
    """Something that turns speech into a vector; near vectors are like voices."""

    name: str

    def embed(self, samples: np.ndarray) -> np.ndarray:
        """Turn [S] float32 at 24 kHz into [E] float64."""
        ...


class TimbreAndPitch:
    """Mean mel-cepstra of the loud frames, and the median of the logarithm of the pitch."""

    name = "timbre_and_pitch"

    def embed(self, samples: np.ndarray) -> np.ndarray:
        """Turn [S] float32 at 24 kHz into [25] float64."""
        bands = log_mel(samples)
        level = bands.mean(1)
        timbre = mel_cepstra(bands[level >= level.max() - _LOUD]).mean(0)
        pitch = log_pitch(samples)
        return np.append(timbre, _PITCH_WEIGHT * (_UNVOICED_PITCH if pitch is None else pitch))


class Resemblyzer:
    """The d-vectors of Resemblyzer, of length 1.

    Raises:
        ImportError: it is not installed, or one of its parts is missing.
    """

    name = "resemblyzer"

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from resemblyzer import VoiceEncoder  # pyright: ignore[reportMissingImports]

            self._encoder = VoiceEncoder("cpu", verbose=False)

    def embed(self, samples: np.ndarray) -> np.ndarray:
        """Turn [S] float32 at 24 kHz into [256] float64."""
        resampled = soxr.resample(np.asarray(samples, np.float32), SAMPLE_RATE, _RESEMBLYZER_RATE)
        return np.asarray(self._encoder.embed_utterance(resampled), np.float64)


def open_measures() -> list[SpeakerMeasure]:
    """Set up the measures that run here, the own one first."""
    measures: list[SpeakerMeasure] = [TimbreAndPitch()]
    with suppress(ImportError):  # the report says that it was left out
        measures.append(Resemblyzer())
    return measures


@dataclass(frozen=True)
class Identification:
    """How an utterance compares with its own voice and three others."""

    is_right: bool
    similarity: float  # cosine with its own voice
    other_similarity: float  # mean cosine with the others


class Lineup:
    """Groups of voices by language, each known from a clip.

    Args:
        measure: compares.
        enrol: gives the clip of a voice in a language, (language, voice) to [S] float32.
    """

    def __init__(self, measure: SpeakerMeasure, enrol: Callable[[str, str], np.ndarray]) -> None:
        self.measure = measure
        self._enrol = enrol
        self._known: dict[tuple[str, str], np.ndarray] = {}

    def identify(self, samples: np.ndarray, language: str, voice: str, group: Sequence[str]) -> Identification:
        """Ask which voice of `group` an utterance is nearest to; `voice` is the right one."""
        heard = self.measure.embed(samples)
        known = {name: self._vector(language, name) for name in group}
        nearest = min(known, key=lambda name: float(np.linalg.norm(known[name] - heard)))
        cosines = {name: _cosine(vector, heard) for name, vector in known.items()}
        others = [value for name, value in cosines.items() if name != voice]
        return Identification(nearest == voice, cosines[voice], float(np.mean(others)))

    def _vector(self, language: str, voice: str) -> np.ndarray:
        key = (language, voice)
        if key not in self._known:
            self._known[key] = self.measure.embed(self._enrol(language, voice))
        return self._known[key]


def _cosine(first: np.ndarray, second: np.ndarray) -> float:
    return float(first @ second / max(1e-12, float(np.linalg.norm(first) * np.linalg.norm(second))))
