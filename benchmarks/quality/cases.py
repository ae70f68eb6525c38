"""What is to be said, as the teacher says it: test sentences, clips of voices, distractors.

The only module here that needs the teacher.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.quality.acoustics import SAMPLE_RATE, log_mel, mel_cepstra
from benchmarks.quality.phonemes import Candidates, pad_candidates
from benchmarks.quality.speakers import GROUP_SIZE
from train.corpus import CorpusError, Phonemes
from train.data import Voice, list_voices, trim
from train.teacher import ESPEAK, SilentTextError, TeacherSource
from train.texts import LANGUAGES, TextSource, load_texts

TEXTS = Path(__file__).parents[1] / "texts"

REFERENCE_SECONDS = 3.0
_ENROLMENT_SECONDS = 6.0
# Sentences of a clip are counted from here, so that a reference and an enrolment share none.
_REFERENCE_FIRST, _ENROLMENT_FIRST = 0, 40
# The corpus of the present nano had Gene2, which differs from Gene in pitch alone; a new corpus has not.
NOT_CLEAN = ("held_Gene",)
# A loose word is no rival for a sentence.
_MIN_DISTRACTOR_PHONEMES = 10


@dataclass(frozen=True, eq=False)
class Case:
    """One sentence in one voice.

    Attributes:
        language: of the text.
        voice: who is to speak.
        number: place of the sentence in its file.
        text: the sentence.
        samples: [S] float32 at 24 kHz, the teacher's own.
        phonemes: the teacher's phonemes.
        wrong_text: another sentence of the language.
        wrong_samples: the teacher's, in the same voice.
        wrong_phonemes: of the other sentence.
        group: the names of four voices, this one among them.
    """

    language: str
    voice: str
    number: int
    text: str
    samples: np.ndarray
    phonemes: list[int]
    wrong_text: str
    wrong_samples: np.ndarray
    wrong_phonemes: list[int]
    group: tuple[str, ...]

    @cached_property
    def cepstra(self) -> np.ndarray:
        """Mel-cepstra of `samples`, [T, 24]."""
        return mel_cepstra(log_mel(self.samples))

    @cached_property
    def wrong_cepstra(self) -> np.ndarray:
        """Mel-cepstra of `wrong_samples`, [T, 24]."""
        return mel_cepstra(log_mel(self.wrong_samples))


def read_sentences(split: str, language: str) -> list[str]:
    """Read the sentences of a language that are kept from training; `split` is test or dev.

    Raises:
        CorpusError: there is no such file.
    """
    path = TEXTS / split / f"{language}.txt"
    if not path.is_file():
        raise CorpusError(f"{path} is missing; every language needs sentences to be tested with; restore it")
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def group_voices(voices: Sequence[Voice]) -> dict[str, tuple[str, ...]]:
    """Sort voices into groups of four, in order; the last group takes earlier ones to be full.

    Returns:
        The group of each voice, by name.
    """
    names = [voice.name for voice in voices]
    groups: dict[str, tuple[str, ...]] = {}
    for start in range(0, len(names), GROUP_SIZE):
        first = max(0, min(start, len(names) - GROUP_SIZE))
        groups |= dict.fromkeys(names[start : start + GROUP_SIZE], tuple(names[first : first + GROUP_SIZE]))
    return groups


class Studio:
    """The teacher with the numbering of the recogniser, and all voices by name.

    Args:
        phonemes: their numbering.
        source: of the teacher.
        with_word_lists: whether composed texts draw on the word lists of the system, as in training.

    Raises:
        TeacherError: the teacher is not installed.
    """

    def __init__(self, phonemes: Phonemes, *, source: TeacherSource = ESPEAK, with_word_lists: bool = True) -> None:
        self._teacher = source.make()
        self._phonemes = phonemes
        self._with_word_lists = with_word_lists
        voices = list_voices(source=source)
        self.voices = {voice.name: voice for voice in voices}
        self.presets = [voice for voice in voices if voice.split == "preset"]
        self.held_out = [voice for voice in voices if voice.split == "held" and voice.name not in NOT_CLEAN]
        self._groups = group_voices(self.presets) | group_voices(self.held_out)

    def say(self, text: str, language: str, voice: str) -> tuple[np.ndarray, list[int]]:
        """Speak a text: [S] float32 at 24 kHz without the silence around it, and the phonemes in order."""
        utterance = self._teacher.say(text, language, self.voices[voice].speaker)
        samples, _ = trim(utterance)
        return samples, self._phonemes.spell(list(utterance.phonemes))

    def cases(self, language: str, sentences: Sequence[str], voices: Sequence[str], limit: int | None) -> list[Case]:
        """Let voices speak sentences in turn."""
        made: list[Case] = []
        for number, text in enumerate(sentences[:limit]):
            voice = voices[number % len(voices)]
            wrong_text = sentences[(number + 1) % len(sentences)]
            samples, numbers = self.say(text, language, voice)
            wrong_samples, wrong_numbers = self.say(wrong_text, language, voice)
            made.append(
                Case(
                    language=language,
                    voice=voice,
                    number=number,
                    text=text,
                    samples=samples,
                    phonemes=numbers,
                    wrong_text=wrong_text,
                    wrong_samples=wrong_samples,
                    wrong_phonemes=wrong_numbers,
                    group=self._groups[voice],
                )
            )
        return made

    def preset_cases(self, split: str, language: str, limit: int | None) -> list[Case]:
        """Make the cases of a language for its presets, in turn."""
        names = [voice.name for voice in self.presets if voice.language == language]
        return self.cases(language, read_sentences(split, language), names, limit)

    def held_out_cases(self, split: str, language: str, limit: int | None) -> list[Case]:
        """Make the cases of a language for the voices that training never hears, in turn.

        Each language begins with another voice, so that few sentences reach all of them.
        """
        first = LANGUAGES.index(language)
        names = [self.held_out[(first + number) % len(self.held_out)].name for number in range(len(self.held_out))]
        return self.cases(language, read_sentences(split, language), names, limit)

    def reference(self, language: str, voice: str) -> np.ndarray:
        """Make a clip of exactly 3 s to clone a voice from: [72000] float32."""
        return self._clip(language, voice, _REFERENCE_FIRST, REFERENCE_SECONDS)

    def enrolment(self, language: str, voice: str) -> np.ndarray:
        """Make a clip of 6 s to know a voice by, of other sentences than the reference."""
        return self._clip(language, voice, _ENROLMENT_FIRST, _ENROLMENT_SECONDS)

    def _clip(self, language: str, voice: str, first: int, seconds: float) -> np.ndarray:
        sentences = load_texts(language).sentences
        num_samples = round(seconds * SAMPLE_RATE)
        parts: list[np.ndarray] = []
        while sum(map(len, parts)) < num_samples:
            parts.append(self.say(sentences[(first + len(parts)) % len(sentences)], language, voice)[0])
        return np.concatenate(parts)[:num_samples]

    def texts(self, language: str) -> TextSource:
        """Read what the training texts of a language are composed from."""
        return load_texts(language, with_word_list=self._with_word_lists)

    def distractors(self, language: str, count: int, seed: int, avoid: Sequence[str]) -> Candidates:
        """Compose sentences as the training texts are composed, and let the teacher spell them.

        Args:
            language: of the sentences.
            count: how many; all are different and of at least ten phonemes.
            seed: of the choice.
            avoid: the sentences they are to be rivals of.
        """
        voice = next(voice.name for voice in self.presets if voice.language == language)
        source, rng = self.texts(language), random.Random(seed)
        seen, spelled = set(avoid), []
        while len(spelled) < count:
            text = source.draw(rng)
            if text in seen:
                continue
            seen.add(text)
            try:
                numbers = self.say(text, language, voice)[1]
            except SilentTextError:
                continue
            if len(numbers) >= _MIN_DISTRACTOR_PHONEMES:
                spelled.append(numbers)
        return pad_candidates(spelled)
