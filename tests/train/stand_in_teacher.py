"""A teacher for tests: every letter is a sound of its own, made on the spot without espeak-ng.

A letter is one of twenty sounds, half of them chords of harmonics around two peaks, half of them bands of
noise. Variants move the peaks. Nobody would call it speech, but what the recipe has to learn is in it: which
letter sounds when, and in which voice.
"""

from __future__ import annotations

import unicodedata
import zlib
from functools import cache

import numpy as np

from train.data import HELD_OUT
from train.phonemes import SYMBOLS
from train.shards import SAMPLES_PER_PITCH, ShardVoice
from train.spoken import Spoken
from train.teacher import SilentTextError, Speaker, TeacherSource, Utterance

SAMPLE_RATE = 16000
SOUNDS = "abcdefghijklmnopqrst"
VARIANTS = ("high", "low", "middle", *HELD_OUT[:2])

_LETTER_SECONDS, _KANA_SECONDS, _PAUSE_SECONDS = 0.06, 0.11, 0.05
_NORMAL_RATE = 165
_EDGE_SECONDS = 0.004
_A = SYMBOLS["a"]


class StandInTeacher:
    """Says any text that has a letter or a digit in it."""

    def say(self, text: str, language: str, speaker: Speaker) -> Utterance:
        """Speak a text.

        Raises:
            SilentTextError: the text has neither letters nor digits.
        """
        parts = [np.zeros(round(0.1 * SAMPLE_RATE), np.int16)]
        phonemes: list[tuple[float, str]] = []
        words: list[tuple[float, int, int]] = []
        position = len(parts[0])
        word_first: int | None = None
        word_start = 0.0
        for index, letter in enumerate(f"{text} "):
            now = position / SAMPLE_RATE
            if is_sounding(letter):
                if word_first is None:
                    word_first, word_start = index, now
                phonemes.append((now, sound_of(letter)))
                parts.append(_render(sound_of(letter), _duration(letter, speaker.rate), speaker.pitch, speaker.variant))
            else:
                if word_first is not None:
                    words.append((word_start, word_first, index - word_first))
                    word_first = None
                phonemes.append((now, "_"))
                parts.append(np.zeros(round(_PAUSE_SECONDS * SAMPLE_RATE), np.int16))
            position += len(parts[-1])
        if not words:
            raise SilentTextError(f"no letter in {len(text)} characters of {language}; use another text")
        return Utterance(np.concatenate(parts), SAMPLE_RATE, tuple(phonemes), tuple(words))


def is_sounding(letter: str) -> bool:
    """Tell whether a character is heard: letters, digits, and the vowel signs of Hindi."""
    return unicodedata.category(letter)[0] in "LNM"


def sound_of(letter: str) -> str:
    """Name the sound of a letter; capitals sound as small letters do."""
    return SOUNDS[ord(letter.lower()[0]) % len(SOUNDS)]


def list_variants() -> list[str]:
    """Name the variants: three to train on, two that are held out."""
    return sorted(VARIANTS)


STAND_IN = TeacherSource(StandInTeacher, list_variants)


class StandInStudio:
    """Says whatever has a letter in it as `train.speak.Studio` does, after silence; fails from a given text on."""

    def __init__(self, *, fails_after: int = 1_000_000) -> None:
        self._teacher, self._left = StandInTeacher(), fails_after

    def say(self, text: str, language: str, voice: ShardVoice, speed: float, seed: int) -> Spoken:
        """Speak a text."""
        self._left -= 1
        if self._left < 0:
            raise KeyboardInterrupt
        heard = self._teacher.say(text, language, Speaker("low", 50, round(165 * speed)))
        samples = np.repeat(heard.samples.astype(np.float32) / 32768, 2)
        samples = np.pad(samples, (2400 + seed % 1000, 4800))
        at = [2400 + seed % 1000 + round(start * 32000) for start, name in heard.phonemes if name != "_"]
        pitch = np.full(-(-len(samples) // SAMPLES_PER_PITCH), 120.0, np.float32)
        words = [(at[0], len(samples) - 4800, first, length) for _, first, length in heard.words]
        return Spoken(samples, pitch, [_A] * len(at), at, len(samples) - 4800, words, "teacher", "source")

    def spell(self, text: str, language: str) -> list[int]:
        """Write each letter as the same phoneme."""
        return [_A] * sum(map(is_sounding, text))


def _duration(letter: str, rate: int) -> int:
    seconds = _KANA_SECONDS if "\u3040" <= letter <= "\u30ff" else _LETTER_SECONDS
    return round(seconds * SAMPLE_RATE * _NORMAL_RATE / rate)


@cache
def _render(sound: str, num_samples: int, pitch: int, variant: str) -> np.ndarray:
    """Make one letter: [num_samples] int16."""
    number = SOUNDS.index(sound)
    stretch = 0.9 + 0.2 * (zlib.crc32(variant.encode()) % 100) / 100
    time = np.arange(num_samples) / SAMPLE_RATE
    low, high = stretch * (250 + 60 * (number * 7 % 10)), stretch * (900 + 250 * (number * 3 % 10))
    if number % 2:
        fundamental = 80 + 2 * pitch
        frequencies = fundamental * np.arange(1, int(4000 / fundamental))
        loudness = _peak(frequencies, low, 120) + 0.7 * _peak(frequencies, high, 200)
        wave = (loudness[:, None] * np.sin(2 * np.pi * frequencies[:, None] * time)).sum(0)
    else:
        spectrum = np.fft.rfft(np.random.default_rng(number).standard_normal(num_samples))
        frequencies = np.fft.rfftfreq(num_samples, 1 / SAMPLE_RATE)
        wave = np.fft.irfft(spectrum * (_peak(frequencies, low, 80) + _peak(frequencies, 2 * high, 300)), num_samples)
    edge = np.clip(np.minimum(time, time[::-1]) / _EDGE_SECONDS, 0, 1)
    shaped = wave * edge
    return np.rint(shaped / np.abs(shaped).max() * 12000).astype(np.int16)


def _peak(frequencies: np.ndarray, centre: float, width: float) -> np.ndarray:
    return np.exp(-0.5 * ((frequencies - centre) / width) ** 2) + 1e-3
