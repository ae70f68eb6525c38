"""Who speaks: which of four voices an utterance is nearest to, by two measures of `voxtral.cloning.speakers`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from benchmarks.quality.acoustics import SAMPLE_RATE
from voxtral.cloning import speakers
from voxtral.cloning.speakers import SpeakerMeasure


class TimbreAndPitch(speakers.TimbreAndPitch):
    """Mean mel-cepstra and pitch, at the rate of nano."""

    def __init__(self) -> None:
        super().__init__(SAMPLE_RATE)


class Resemblyzer(speakers.Resemblyzer):
    """The d-vectors of Resemblyzer, at the rate of nano.

    Raises:
        ImportError: it is not installed, or one of its parts is missing.
    """

    def __init__(self) -> None:
        super().__init__(SAMPLE_RATE)


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
