"""Who says what nano is to say: espeak-ng, or the teachers of a corpus of shards, live or with nothing but phonemes.

A recogniser answers in the phonemes of its teachers (`Phonemes.alphabet`), and so decides who they are. `takes.py`
keeps what live teachers said, for places where they cannot be. Read next: `cases.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from train.corpus import MNEMONICS
from train.data import HELD_OUT, PRESETS, SAMPLE_RATE, list_voices, trim
from train.phonemes import SYMBOLS
from train.shards import ShardVoice, lateness
from train.sounds import IPA
from train.teacher import ESPEAK, TEACHER_VOICES, SilentTextError, TeacherError, TeacherSource
from train.texts import LANGUAGES
from voxtral.text.capitals import lower_capitals
from voxtral.text.normalize import normalize

# The corpus of nano 3 had Gene2, which differs from Gene in pitch alone.
NOT_CLEAN = ("held_Gene",)
_PAUSE = "_"
_NAMES = {number: symbol for symbol, number in SYMBOLS.items()}
_SEED = 1
_KOKORO_LANGUAGES = ("en", "fr", "es", "it", "pt", "nl", "hi", "ja")
_HELD_ESPEAK = {"pitch": 50, "rate": 165.0}


@dataclass(frozen=True, eq=False)
class Take:
    """What a teacher said.

    Attributes:
        samples: [S] float32 at 24 kHz, without the silence around it; None where only the phonemes are known.
        seconds: that it lasts, or that espeak-ng needs for it where there are no samples.
        phonemes: start in seconds and name of each, in the alphabet of the teacher.
        words: start in seconds, first character and length of each.
    """

    samples: np.ndarray | None
    seconds: float
    phonemes: Sequence[tuple[float, str]]
    words: Sequence[tuple[float, int, int]] = ()


@dataclass(frozen=True)
class TeacherVoice:
    """A voice to be judged by.

    Attributes:
        name: of it.
        split: preset or held.
        language: of a preset.
        languages: that it speaks.
        kind: voices of one kind are told from each other.
    """

    name: str
    split: str
    language: str | None
    languages: tuple[str, ...]
    kind: str


class Teacher(Protocol):
    """Whoever says texts in voices."""

    @property
    def alphabet(self) -> str:
        """Name what its phonemes are written in."""
        ...

    @property
    def voices(self) -> Sequence[TeacherVoice]:
        """List presets and held-out voices, presets of a language side by side."""
        ...

    @property
    def has_sound(self) -> bool:
        """Tell whether takes have samples."""
        ...

    def say(self, text: str, language: str, voice: str) -> Take:
        """Speak a text.

        Raises:
            SilentTextError: it makes no sound.
        """
        ...


class EspeakSpeaker:
    """espeak-ng, who taught nano up to version 3.

    Args:
        source: makes it.

    Raises:
        TeacherError: it is not installed.
    """

    alphabet = MNEMONICS
    has_sound = True

    def __init__(self, source: TeacherSource = ESPEAK) -> None:
        self._teacher = source.make()
        self._voices = {voice.name: voice for voice in list_voices(source=source)}
        self.voices = [
            TeacherVoice(voice.name, voice.split, voice.language, LANGUAGES, voice.split)
            for voice in self._voices.values()
            if voice.split == "preset" or (voice.split == "held" and voice.name not in NOT_CLEAN)
        ]

    def say(self, text: str, language: str, voice: str) -> Take:
        """See Teacher."""
        utterance = self._teacher.say(text, language, self._voices[voice].speaker)
        samples, cut = trim(utterance)
        phonemes = [(start - cut, name) for start, name in utterance.phonemes]
        words = [(start - cut, first, length) for start, first, length in utterance.words if length > 0]
        return Take(samples.astype(np.float32), len(samples) / SAMPLE_RATE, phonemes, words)


class CorpusSpeaker:
    """The teachers of a corpus of shards, each when it is first needed; a third of real time on one core.

    Args:
        folder: what `train.packages` made.
        studio: in place of the teachers, for tests.

    Raises:
        TeacherError: the folder is not what it should be, or the tools of the teachers are not installed here.
    """

    alphabet = IPA
    has_sound = True

    def __init__(self, folder: Path, studio: Any = None) -> None:
        from train.speak import Studio
        from train.speak import list_voices as list_shard_voices

        styles = sorted(path.stem for path in (folder / "styles").glob("*.bin"))
        if not styles and studio is None:
            raise TeacherError(f"{folder} has no styles/*.bin; it must be what python -m train.packages made; make it")
        self._studio = Studio(folder) if studio is None else studio
        voices = [*list_shard_voices(styles), *_strange_espeak()]
        self._voices = {voice.name: voice for voice in voices}
        self.voices = describe_voices(voices)

    def say(self, text: str, language: str, voice: str) -> Take:
        """See Teacher; times are those of the sound."""
        from train.speak import level, place_words
        from train.spoken import trim as trim_spoken

        read = normalize(text, language)
        speaker = self._voices[voice]
        try:
            spoken = self._studio.say(lower_capitals(read.text, language), language, speaker, 1.0, _SEED)
        except ImportError as error:
            raise TeacherError(
                f"a teacher cannot be loaded ({error}); the teachers need the packages of recipes/tools.txt; keep what "
                "they say with python -m benchmarks.quality.takes in that environment, and give --takes here"
            ) from error
        said = level(trim_spoken(spoken))
        late = lateness(speaker.teacher)
        names = [_NAMES[number] for number in said.phonemes]
        starts = [max(0, start - late) / SAMPLE_RATE for start in (*said.phoneme_starts, said.phoneme_end)]
        words = [
            (max(0, start - late) / SAMPLE_RATE, first, length)
            for start, _, _, _, first, length in place_words(said, read, text)
        ]
        phonemes = list(zip(starts, [*names, _PAUSE], strict=True))
        return Take(said.samples.astype(np.float32), len(said.samples) / SAMPLE_RATE, phonemes, words)

    def spell(self, text: str, language: str) -> list[str]:
        """Write a text in Kokoro's symbols as the teacher of the language's presets would say it, without saying it."""
        read = normalize(text, language, in_kana=language == "ja")
        return [_NAMES[number] for number in self._studio.spell(lower_capitals(read.text, language), language)]

    def measure(self, text: str, language: str) -> float:
        """Give the seconds that espeak-ng needs for a text, in the voice that was the language's first preset."""
        from train.spoken import trim as trim_spoken

        variant, pitch = PRESETS[language][0]
        voice = ShardVoice("", "held", language, "espeak-ng", "f", variant=variant, pitch=pitch, rate=165)
        try:
            return len(trim_spoken(self._studio.say(text, language, voice, 1.0, _SEED)).samples) / SAMPLE_RATE
        except SilentTextError:
            return 0.0


def _strange_espeak() -> list[ShardVoice]:
    """List voices for Arabic, which no held-out style speaks: variants of espeak-ng that are in no shard."""
    return [
        ShardVoice(f"held_{variant}", "held", "ar", "espeak-ng", "m", variant=variant, **_HELD_ESPEAK)
        for variant in HELD_OUT
    ]


def describe_voices(voices: Sequence[ShardVoice]) -> list[TeacherVoice]:
    """Describe the presets and the held-out voices of a corpus of shards; in German there is none that is held out."""
    kept: list[TeacherVoice] = []
    for voice in voices:
        if voice.split not in ("preset", "held"):
            continue
        languages = {"kokoro": _KOKORO_LANGUAGES, "espeak-ng": tuple(TEACHER_VOICES)}.get(voice.teacher)
        if languages is None or (voice.split == "held" and voice.language is not None):
            languages = (str(voice.language),)
        language = voice.language if voice.split == "preset" else None
        kind = voice.split if voice.split == "preset" else f"held {voice.teacher}"
        kept.append(TeacherVoice(voice.name, voice.split, language, languages, kind))
    return kept
