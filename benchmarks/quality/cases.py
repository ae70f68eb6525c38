"""What is to be said, as a teacher says it: test sentences, clips of voices, distractors."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from benchmarks.quality.acoustics import SAMPLE_RATE, log_mel, mel_cepstra
from benchmarks.quality.phonemes import Candidates, pad_candidates
from benchmarks.quality.teachers import Take, Teacher, TeacherVoice
from train.corpus import MNEMONICS, CorpusError, Phonemes
from train.teacher import SilentTextError
from train.texts import LANGUAGES, TextSource, load_texts

TEXTS = Path(__file__).parents[1] / "texts"
DISTRACTORS = TEXTS / "distractors"

GROUP_SIZE = 4
LONG_SECONDS = 60.0
REFERENCE_SECONDS = 3.0
MOST_TIMED = 10  # sentences of a language whose words are timed, unless more are asked for
NUM_DISTRACTORS, DISTRACTOR_SEED = 400, 90_001
_ENROLMENT_SECONDS = 6.0
# Sentences of a clip are counted from here, so that a reference and an enrolment share none.
_REFERENCE_FIRST, _ENROLMENT_FIRST = 0, 40
# A loose word is no rival for a sentence.
MIN_DISTRACTOR_PHONEMES = 10
# Characters of a long line; half as many of kana.
_LEAST_LONG, _MOST_LONG = 100, 110


@dataclass(frozen=True, eq=False)
class Case:
    """One sentence in one voice.

    Attributes:
        language: of the text.
        voice: who is to speak.
        number: place of the sentence in its file.
        text: the sentence.
        samples: [S] float32 at 24 kHz, the teacher's own; None where only its phonemes are known.
        phonemes: the teacher's phonemes.
        wrong_text: another sentence of the language.
        wrong_samples: the teacher's, in the same voice; None likewise.
        wrong_phonemes: of the other sentence.
        group: the names of four voices, this one among them.
        expected_s: seconds that it should last, where there are no samples.
    """

    language: str
    voice: str
    number: int
    text: str
    samples: np.ndarray | None
    phonemes: list[int]
    wrong_text: str
    wrong_samples: np.ndarray | None
    wrong_phonemes: list[int]
    group: tuple[str, ...]
    expected_s: float = 0.0

    @property
    def sound(self) -> np.ndarray:
        """The samples, for who cannot do without.

        Raises:
            CorpusError: only the phonemes are known.
        """
        if self.samples is None:
            raise CorpusError(
                f"the teacher's speech of sentence {self.number} in {self.language} is not here; give --teachers or "
                "--takes"
            )
        return self.samples

    @property
    def seconds(self) -> float:
        """Seconds that the teacher needs."""
        return self.expected_s if self.samples is None else len(self.samples) / SAMPLE_RATE

    @cached_property
    def cepstra(self) -> np.ndarray | None:
        """Mel-cepstra of `samples`, [T, 24]."""
        return None if self.samples is None else mel_cepstra(log_mel(self.samples))

    @cached_property
    def wrong_cepstra(self) -> np.ndarray | None:
        """Mel-cepstra of `wrong_samples`, [T, 24]."""
        return None if self.wrong_samples is None else mel_cepstra(log_mel(self.wrong_samples))


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


def list_lines(split: str, language: str, limit: int) -> list[tuple[str, str, int]]:
    """List sentences with a preset and a seed for each."""
    sentences = read_sentences(split, language)[:limit]
    return [(text, f"{language}_{'fm'[number % 2]}1", number) for number, text in enumerate(sentences)]


def list_long_lines(split: str, language: str, limit: int) -> list[tuple[str, str, int]]:
    """List texts of 100 to 110 characters likewise, a third as many."""
    sentences = read_sentences(split, language)
    return [
        (join_sentences(sentences, language, 20 + 5 * number), f"{language}_{'fm'[number % 2]}1", number)
        for number in range(max(1, limit // 3))
    ]


def join_sentences(sentences: Sequence[str], language: str, first: int) -> str:
    """Join sentences to a text of 100 to 110 characters; 50 to 55 of kana."""
    most = _MOST_LONG // 2 if language == "ja" else _MOST_LONG
    text = ""
    for offset in range(len(sentences)):
        more = f"{text} {sentences[(first + offset) % len(sentences)]}".strip()
        if len(more) <= most:
            text = more
        if len(text) >= most * _LEAST_LONG // _MOST_LONG:
            break
    return text


@dataclass(frozen=True, eq=False)
class Sentence:
    """A sentence of a long text, as the teacher says it."""

    text: str
    num_samples: int
    phonemes: list[int]


def collect_sentences(
    sentences: Sequence[str], say: Callable[[str], tuple[int, list[int]]], seconds: float = LONG_SECONDS
) -> list[Sentence]:
    """Take sentences in order, from the first again when they run out, until the teacher needs `seconds` for them.

    Args:
        sentences: to take from.
        say: the number of samples, at 24 kHz, and the phonemes of a sentence as the teacher says it.
        seconds: of speech.
    """
    taken: list[Sentence] = []
    while sum(sentence.num_samples for sentence in taken) < seconds * SAMPLE_RATE:
        text = sentences[len(taken) % len(sentences)]
        taken.append(Sentence(text, *say(text)))
    return taken


def group_voices(names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Sort voices into groups of four, in order; the last group takes earlier ones to be full.

    Returns:
        The group of each voice, by name.
    """
    groups: dict[str, tuple[str, ...]] = {}
    for start in range(0, len(names), GROUP_SIZE):
        first = max(0, min(start, len(names) - GROUP_SIZE))
        groups |= dict.fromkeys(names[start : start + GROUP_SIZE], tuple(names[first : first + GROUP_SIZE]))
    return groups


def read_distractors(language: str) -> list[list[str]]:
    """Read sentences that are no test sentences, in Kokoro's symbols (`references.py` writes them).

    Raises:
        CorpusError: there is no such file.
    """
    path = DISTRACTORS / f"{language}.txt"
    if not path.is_file():
        raise CorpusError(f"{path} is missing; retrieval needs sentences to tell the right one from; restore it")
    return [list(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Studio:
    """A teacher with the numbering of the recogniser, and its voices.

    Args:
        phonemes: their numbering.
        teacher: speaks.
        with_word_lists: whether composed texts draw on the word lists of the system, as in training.

    Raises:
        CorpusError: the recogniser hears other phonemes than the teacher reports.
    """

    def __init__(self, phonemes: Phonemes, teacher: Teacher, *, with_word_lists: bool = True) -> None:
        if phonemes.alphabet != teacher.alphabet:
            raise CorpusError(
                f"the recogniser hears {phonemes.alphabet}, the teacher reports {teacher.alphabet}; both must be the "
                "same; use the recogniser of that teacher"
            )
        self._teacher = teacher
        self._phonemes = phonemes
        self._with_word_lists = with_word_lists
        self._voices = {voice.name: voice for voice in teacher.voices}
        self.presets = [voice for voice in teacher.voices if voice.split == "preset"]
        self.held_out = [voice for voice in teacher.voices if voice.split == "held"]
        self._groups: dict[str, tuple[str, ...]] = {}
        for kind in dict.fromkeys(voice.kind for voice in teacher.voices):
            self._groups |= group_voices([voice.name for voice in teacher.voices if voice.kind == kind])

    @property
    def has_sound(self) -> bool:
        """Whether the teacher can be heard, and not only its phonemes read."""
        return self._teacher.has_sound

    def presets_of(self, language: str) -> list[str]:
        """Name the presets of a language."""
        return [voice.name for voice in self.presets if voice.language == language]

    def strangers_of(self, language: str) -> list[TeacherVoice]:
        """List the held-out voices that speak a language."""
        return [voice for voice in self.held_out if language in voice.languages]

    def take(self, text: str, language: str, voice: str) -> Take:
        """Speak a text."""
        return self._teacher.say(text, language, voice)

    def say(self, text: str, language: str, voice: str) -> tuple[np.ndarray | None, list[int]]:
        """Speak a text: [S] float32 at 24 kHz without the silence around it, and the phonemes in order."""
        take = self.take(text, language, voice)
        return take.samples, self._phonemes.spell(take.phonemes, language)

    def cases(self, language: str, sentences: Sequence[str], voices: Sequence[str], limit: int | None) -> list[Case]:
        """Let voices speak sentences in turn."""
        made: list[Case] = []
        for number, text in enumerate(sentences[:limit]):
            voice = voices[number % len(voices)]
            wrong_text = sentences[(number + 1) % len(sentences)]
            right, wrong = (self.take(one, language, voice) for one in (text, wrong_text))
            made.append(
                Case(
                    language=language,
                    voice=voice,
                    number=number,
                    text=text,
                    samples=right.samples,
                    phonemes=self._phonemes.spell(right.phonemes, language),
                    wrong_text=wrong_text,
                    wrong_samples=wrong.samples,
                    wrong_phonemes=self._phonemes.spell(wrong.phonemes, language),
                    group=self._groups[voice],
                    expected_s=right.seconds,
                )
            )
        return made

    def preset_cases(self, split: str, language: str, limit: int | None) -> list[Case]:
        """Make the cases of a language for its presets, in turn."""
        return self.cases(language, read_sentences(split, language), self.presets_of(language), limit)

    def held_out_cases(self, split: str, language: str, limit: int | None) -> list[Case]:
        """Make the cases of a language for the voices that training never hears, in turn; none where nobody is.

        Each language begins with another voice, so that few sentences reach all of them.
        """
        strangers = self.strangers_of(language)
        first = LANGUAGES.index(language)
        names = [strangers[(first + number) % len(strangers)].name for number in range(len(strangers))]
        return self.cases(language, read_sentences(split, language), names, limit) if names else []

    def reference(self, language: str, voice: str) -> np.ndarray:
        """Make a clip of exactly 3 s to clone a voice from: [72000] float32."""
        return self._clip(language, voice, _REFERENCE_FIRST, REFERENCE_SECONDS)

    def enrolment(self, language: str, voice: str) -> np.ndarray:
        """Make a clip of 6 s to know a voice by, of other sentences than the reference."""
        return self._clip(language, voice, _ENROLMENT_FIRST, _ENROLMENT_SECONDS)

    def _clip(self, language: str, voice: str, first: int, seconds: float) -> np.ndarray:
        # A voice that does not speak the language is known by its own.
        spoken = self._voices[voice].languages
        language = language if language in spoken else spoken[0]
        sentences = load_texts(language).sentences
        num_samples = round(seconds * SAMPLE_RATE)
        parts: list[np.ndarray] = []
        while sum(map(len, parts)) < num_samples:
            samples, _ = self.say(sentences[(first + len(parts)) % len(sentences)], language, voice)
            if samples is None:
                raise CorpusError(f"no clip of {voice} is here; cloning needs one; give --teachers or --takes")
            parts.append(samples)
        return np.concatenate(parts)[:num_samples]

    def texts(self, language: str) -> TextSource:
        """Read what the training texts of a language are composed from."""
        return load_texts(language, with_word_list=self._with_word_lists)

    def distractors(
        self, language: str, count: int = NUM_DISTRACTORS, seed: int = DISTRACTOR_SEED, avoid: Sequence[str] = ()
    ) -> Candidates:
        """Spell sentences that are composed as training texts are: kept ones, but in espeak-ng's mnemonics.

        Args:
            language: of the sentences.
            count: how many; all are different and of at least ten phonemes.
            seed: of the choice, where none are kept.
            avoid: the sentences they are to be rivals of, likewise.
        """
        if self._phonemes.alphabet != MNEMONICS:
            kept = read_distractors(language)[:count]
            return pad_candidates([self._phonemes.spell([(0.0, name) for name in one], language) for one in kept])
        voice = self.presets_of(language)[0]
        spelled: list[list[int]] = []
        for text in compose_texts(self.texts(language), seed, avoid):
            if len(spelled) == count:
                break
            try:
                numbers = self.say(text, language, voice)[1]
            except SilentTextError:
                continue
            if len(numbers) >= MIN_DISTRACTOR_PHONEMES:
                spelled.append(numbers)
        return pad_candidates(spelled)


def compose_texts(source: TextSource, seed: int, avoid: Sequence[str]) -> Iterator[str]:
    """Compose different texts as the training texts are, for ever."""
    rng = random.Random(seed)
    seen = set(avoid)
    while True:
        text = source.draw(rng)
        if text not in seen:
            seen.add(text)
            yield text
