"""One utterance to figures, and figures to means."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from benchmarks.quality.acoustics import SAMPLE_RATE, cepstral_distance, log_mel, mel_cepstra
from benchmarks.quality.cases import Case
from benchmarks.quality.phonemes import Candidates, error_rate, is_retrieved
from benchmarks.quality.speakers import Identification, Lineup
from benchmarks.quality.systems import Spoken

# Japanese is spoken in kana only: it is reported, and no bar depends on it.
REPORTED_ONLY = ("ja",)

# Nothing said is compared as a moment of silence.
_SILENCE = np.zeros(SAMPLE_RATE // 10, np.float32)


class Recogniser(Protocol):
    """Hears phonemes."""

    def transcribe(self, samples: np.ndarray, language: str) -> list[int]:
        """Hear [S] float32 at 24 kHz."""
        ...


@dataclass(frozen=True)
class Measurement:
    """All figures of one utterance; None where a figure was not taken."""

    system: str
    language: str
    voice: str
    number: int
    error_rate: float
    is_retrieved: bool | None = None
    length_ratio: float | None = None
    distance: float | None = None  # mel-cepstral, to the teacher's utterance
    wrong_distance: float | None = None  # to another sentence in the same voice
    speakers: Mapping[str, Identification] = field(default_factory=dict)
    num_retries: int = 0
    has_failed: bool = False
    compute_s: float = 0.0
    seconds: float = 0.0


class Judge:
    """Measures what systems say.

    Args:
        recogniser: hears phonemes.
        distractors: sentences that must be farther than the right one, by language.
        lineups: who may have spoken, one for each speaker measure.
    """

    def __init__(
        self, recogniser: Recogniser, distractors: Mapping[str, Candidates], lineups: Sequence[Lineup] = ()
    ) -> None:
        self._recogniser = recogniser
        self.distractors = distractors
        self._lineups = lineups

    def hear(self, samples: np.ndarray, language: str) -> list[int]:
        """Transcribe samples [S]; nothing is heard in nothing."""
        return self._recogniser.transcribe(samples, language) if len(samples) else []

    def judge(self, system: str, case: Case, spoken: Spoken, *, with_speakers: bool = False) -> Measurement:
        """Take all figures of an utterance."""
        heard = self.hear(spoken.samples, case.language)
        samples = spoken.samples if len(spoken.samples) else _SILENCE
        cepstra = mel_cepstra(log_mel(samples))
        speakers = {
            lineup.measure.name: lineup.identify(samples, case.language, case.voice, case.group)
            for lineup in (self._lineups if with_speakers else ())
        }
        return Measurement(
            system=system,
            language=case.language,
            voice=case.voice,
            number=case.number,
            error_rate=error_rate(heard, case.phonemes),
            is_retrieved=is_retrieved(heard, case.phonemes, self.distractors[case.language]),
            length_ratio=None if case.samples is None else len(spoken.samples) / len(case.samples),
            distance=None if case.cepstra is None else cepstral_distance(cepstra, case.cepstra),
            wrong_distance=None if case.wrong_cepstra is None else cepstral_distance(cepstra, case.wrong_cepstra),
            speakers=speakers,
            num_retries=spoken.num_retries,
            has_failed=spoken.has_failed,
            compute_s=spoken.compute_s,
            seconds=len(spoken.samples) / SAMPLE_RATE,
        )

    def validate(self, case: Case) -> list[Measurement]:
        """Judge the recogniser itself: the teacher with noise, and the teacher against another sentence."""
        noisy = add_noise(case.sound, case.number)
        rates = {
            "teacher, 20 dB noise": error_rate(self.hear(noisy, case.language), case.phonemes),
            "teacher, mismatched": error_rate(self.hear(case.sound, case.language), case.wrong_phonemes),
        }
        return [Measurement(name, case.language, case.voice, case.number, rate) for name, rate in rates.items()]


def add_noise(samples: np.ndarray, seed: int, decibels: float = 20.0) -> np.ndarray:
    """Add white noise so far below the mean level of samples [S] float32."""
    noise = np.random.default_rng(seed).standard_normal(len(samples)).astype(np.float32)
    return samples + float(np.sqrt(np.mean(samples**2))) * 10 ** (-decibels / 20) * noise


def summarise(measurements: Sequence[Measurement]) -> dict[str, Any]:
    """Average the figures of utterances; figures that were not taken are left out."""
    rates = np.array([one.error_rate for one in measurements])
    summary: dict[str, Any] = {
        "num_utterances": len(measurements),
        "error_rate": _rounded(rates.mean()),
        "error_rate_median": _rounded(np.median(rates)),
    }
    ratios = _taken(measurements, lambda one: one.length_ratio)
    if ratios:
        summary |= {
            "length_ratio": _rounded(np.mean(ratios)),
            "length_ratio_min": _rounded(min(ratios)),
            "length_ratio_max": _rounded(max(ratios)),
        }
    retrieved = _taken(measurements, lambda one: one.is_retrieved)
    if retrieved:
        summary["retrieved"] = _rounded(np.mean(retrieved))
    pairs = [
        (one.distance, one.wrong_distance)
        for one in measurements
        if one.distance is not None and one.wrong_distance is not None
    ]
    if pairs:
        right, wrong = np.array(pairs).T
        summary |= {
            "distance": _rounded(right.mean()),
            "wrong_distance": _rounded(wrong.mean()),
            "right_is_nearer": _rounded((right < wrong).mean()),
        }
    return summary | _summarise_speakers(measurements) | _summarise_work(measurements)


def _summarise_speakers(measurements: Sequence[Measurement]) -> dict[str, Any]:
    by_measure: dict[str, list[Identification]] = defaultdict(list)
    for one in measurements:
        for name, identification in one.speakers.items():
            by_measure[name].append(identification)
    return {
        name: {
            "right_of_4": _rounded(np.mean([found.is_right for found in all_found])),
            "similarity": _rounded(np.mean([found.similarity for found in all_found])),
            "other_similarity": _rounded(np.mean([found.other_similarity for found in all_found])),
        }
        for name, all_found in by_measure.items()
    }


def _summarise_work(measurements: Sequence[Measurement]) -> dict[str, Any]:
    seconds = sum(one.seconds for one in measurements if one.compute_s)
    work: dict[str, Any] = {
        "num_retries": sum(one.num_retries for one in measurements),
        "num_failed": sum(one.has_failed for one in measurements),
    }
    if seconds:
        work["rtf"] = _rounded(sum(one.compute_s for one in measurements) / seconds)
    return work


def summarise_system(measurements: Sequence[Measurement]) -> dict[str, Any]:
    """Average over the nine languages that count, and by language and voice."""
    judged = [one for one in measurements if one.language not in REPORTED_ONLY]
    return {
        "all": summarise(judged or measurements),
        "by_language": _grouped(measurements, lambda one: one.language),
        "by_voice": _grouped(measurements, lambda one: one.voice),
    }


def _grouped(measurements: Sequence[Measurement], key: Callable[[Measurement], str]) -> dict[str, dict[str, Any]]:
    groups: dict[str, list[Measurement]] = defaultdict(list)
    for one in measurements:
        groups[key(one)].append(one)
    return {name: summarise(group) for name, group in groups.items()}


def _taken(measurements: Sequence[Measurement], get: Callable[[Measurement], float | None]) -> list[float]:
    return [float(value) for one in measurements if (value := get(one)) is not None and math.isfinite(value)]


def _rounded(value: Any) -> float:
    return round(float(value), 4)
