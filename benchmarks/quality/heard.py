"""What a recogniser of people's speech wrote, against what was said: words and characters, without their dress.

Pure; `outside.py` asks the recogniser.
"""

from __future__ import annotations

import random
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.quality.phonemes import edit_distance
from voxtral.errors import TextError
from voxtral.text.normalize import normalize

# Written as one in some spellings and as two in others, or left out by whoever does not vocalise.
_ARABIC_SIGNS = re.compile("[\u064b-\u0652\u0640]")
_ARABIC_ONE = str.maketrans({"أ": "ا", "إ": "ا", "آ": "ا", "ى": "ي", "ة": "ه"})
_NUM_RESAMPLES = 400


@dataclass(frozen=True)
class Heard:
    """One sentence and what was heard of it, in edits.

    Attributes:
        word_edits: to turn one into the other, at most as many as there are words.
        words: of what was said.
        character_edits: likewise, spaces left out.
        characters: of what was said.
    """

    word_edits: int
    words: int
    character_edits: int
    characters: int


@dataclass(frozen=True)
class Rates:
    """Error rates over sentences, each with half the width of the range in which 95 % of resamples lie."""

    words: float
    words_spread: float
    characters: float
    characters_spread: float


def plain(text: str, language: str) -> str:
    """Reduce a text to what is heard: numbers in words, small letters, no marks; Japanese in kana.

    >>> plain("Well, it's 5 o'clock!", "en")
    "well it's five o'clock"
    """
    try:
        said = normalize(text, language, in_kana=language == "ja").text
    except TextError:
        said = normalize(text, language).text  # a recogniser's own word in kanji, which nobody can read
    said = unicodedata.normalize("NFKC", said).casefold().replace("’", "'")
    if language == "ar":
        said = _ARABIC_SIGNS.sub("", said).translate(_ARABIC_ONE)
    if language == "ja":
        said = "".join(chr(ord(char) - 0x60) if "ァ" <= char <= "ヶ" else char for char in said)
    kept = [char if _is_heard(char) else " " for char in said]
    return " ".join(word.strip("'") for word in "".join(kept).split())


def _is_heard(char: str) -> bool:
    return unicodedata.category(char)[0] in "LMN" or char == "'"


def compare(said: str, heard: str, language: str) -> Heard:
    """Count the edits between what was said and what was heard, no more than there is to lose.

    >>> compare("the cat sat", "The cat, sad.", "en")
    Heard(word_edits=1, words=3, character_edits=1, characters=9)
    """
    first, second = plain(said, language), plain(heard, language)
    words, others = first.split(), second.split()
    numbers = {word: number for number, word in enumerate(sorted({*words, *others}))}
    word_edits = edit_distance([numbers[word] for word in others], [numbers[word] for word in words])
    letters, written = first.replace(" ", ""), second.replace(" ", "")
    edits = edit_distance([ord(char) for char in written], [ord(char) for char in letters])
    return Heard(min(word_edits, len(words)), len(words), min(edits, len(letters)), len(letters))


def summarise(sentences: Sequence[Heard], seed: int = 1) -> Rates:
    """Pool sentences; the spread is from resampling them."""
    rng = random.Random(seed)
    drawn = [_pool(rng.choices(sentences, k=len(sentences))) for _ in range(_NUM_RESAMPLES)]
    words, characters = _pool(sentences)
    return Rates(words, _half_width([each[0] for each in drawn]), characters, _half_width([each[1] for each in drawn]))


def _pool(sentences: Sequence[Heard]) -> tuple[float, float]:
    words = sum(each.word_edits for each in sentences) / max(1, sum(each.words for each in sentences))
    characters = sum(each.character_edits for each in sentences) / max(1, sum(each.characters for each in sentences))
    return words, characters


def _half_width(values: Sequence[float]) -> float:
    ordered = sorted(values)
    return (ordered[int(0.975 * (len(ordered) - 1))] - ordered[int(0.025 * (len(ordered) - 1))]) / 2
