"""Phonemes in Kokoro's alphabet, and which word each belongs to, by espeak-ng's rules for most languages.

All teachers' phonemes are written in this alphabet of 114 symbols, so that a codec and a recogniser have one
numbering for everything. How espeak-ng's IPA is written in it follows what Kokoro was trained with, as
`docs/QUALITY.md` says. English has a dictionary of its own (`train.english`), Japanese a table of kana
(`train.kana`). Read next: `train.kokoro`.
"""

from __future__ import annotations

import ctypes
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

from train.teacher import TEACHER_VOICES, TeacherError, load_espeak

PUNCTUATION = ';:,.!?—…"()“”'
STRESS = "ˈˌ"
MODIFIERS = "ːʰʲ\u0303ᵝ"

# Kokoro's numbering of its symbols; 0 is silence.
SYMBOLS = {
    ";": 1, ":": 2, ",": 3, ".": 4, "!": 5, "?": 6, "—": 9, "…": 10, '"': 11, "(": 12, ")": 13, "“": 14, "”": 15,
    " ": 16, "\u0303": 17, "ʣ": 18, "ʥ": 19, "ʦ": 20, "ʨ": 21, "ᵝ": 22, "ꭧ": 23, "A": 24, "I": 25, "O": 31, "Q": 33,
    "S": 35, "T": 36, "W": 39, "Y": 41, "ᵊ": 42, "a": 43, "b": 44, "c": 45, "d": 46, "e": 47, "f": 48, "h": 50,
    "i": 51, "j": 52, "k": 53, "l": 54, "m": 55, "n": 56, "o": 57, "p": 58, "q": 59, "r": 60, "s": 61, "t": 62,
    "u": 63, "v": 64, "w": 65, "x": 66, "y": 67, "z": 68, "ɑ": 69, "ɐ": 70, "ɒ": 71, "æ": 72, "β": 75, "ɔ": 76,
    "ɕ": 77, "ç": 78, "ɖ": 80, "ð": 81, "ʤ": 82, "ə": 83, "ɚ": 85, "ɛ": 86, "ɜ": 87, "ɟ": 90, "ɡ": 92, "ɥ": 99,
    "ɨ": 101, "ɪ": 102, "ʝ": 103, "ɯ": 110, "ɰ": 111, "ŋ": 112, "ɳ": 113, "ɲ": 114, "ɴ": 115, "ø": 116, "ɸ": 118,
    "θ": 119, "œ": 120, "ɹ": 123, "ɾ": 125, "ɻ": 126, "ʁ": 128, "ɽ": 129, "ʂ": 130, "ʃ": 131, "ʈ": 132, "ʧ": 133,
    "ʊ": 135, "ʋ": 136, "ʌ": 138, "ɣ": 139, "ɤ": 140, "χ": 142, "ʎ": 143, "ʒ": 147, "ʔ": 148, "ˈ": 156, "ˌ": 157,
    "ː": 158, "ʰ": 162, "ʲ": 164, "↓": 169, "→": 171, "↗": 172, "↘": 173, "ᵻ": 177,
}  # fmt: skip

# Pairs of letters that are one symbol; "^" stands between the letters of one phoneme.
_TIED = (
    ("d^z", "ʣ"), ("d^ʒ", "ʤ"), ("t^s", "ʦ"), ("t^ʃ", "ʧ"), ("tʃ", "ʧ"), ("dʒ", "ʤ"), ("ts", "ʦ"), ("dz", "ʣ"),
    ("a^ɪ", "I"), ("a^ʊ", "W"), ("e^ɪ", "A"), ("ɔ^ɪ", "Y"), ("o^ʊ", "O"), ("ə^ʊ", "Q"),
)  # fmt: skip

# What the alphabet lacks, by its nearest.
_NEAREST = {
    "g": "ɡ", "ħ": "h", "ʕ": "ʔ", "ˤ": "", "ʏ": "y", "ɵ": "ø", "ɫ": "l", "ʉ": "u", "ɘ": "ə", "ɱ": "m",
    "ɦ": "h", "ɭ": "l", "ɺ": "ɾ", "ʀ": "ʁ", "ɝ": "ɜ", "ʑ": "ʒ", "ɬ": "l", "ʍ": "w", "'": "", "^": "",
    "-": "", "\u0329": "", "\u200d": "", "\u032a": "", "|": "",
}  # fmt: skip

_MARKS = {
    "।": ".", "॥": ".", "؟": "?", "،": ",", "؛": ";", "。": ".", "、": ",", "？": "?", "！": "!", "「": "“", "」": "”",
    "『": "“", "』": "”", "«": "“", "»": "”", "„": "“", "–": "—", "：": ":", "；": ";", "（": "(", "）": ")", "‹": "“",
    "›": "”", "[": "(", "]": ")", "~": "—", "〜": "—", "・": ",",
}  # fmt: skip
_PAUSES = {mark: mark for mark in PUNCTUATION} | _MARKS
# Letters and digits; within a word also apostrophes, hyphens, and the signs of Hindi, Arabic and kana.
_INNER = "'’\\-\u0300-\u036f\u0900-\u0963\u200c\u200d\u064b-\u0652ー・"
_ENDING = "\u0900-\u0903\u093a-\u094f\u064b-\u0652"
_WORD = re.compile(rf"[^\W_]+(?:[^\W_]|[{_INNER}](?=[^\W_])|[{_ENDING}])*")


@dataclass(frozen=True)
class Pronunciation:
    """A text as phonemes.

    Attributes:
        symbols: of `SYMBOLS`; spaces and punctuation among them.
        owners: for each symbol the number of its word, -1 for none.
        words: first character and length of each word in the text.
    """

    symbols: str
    owners: tuple[int, ...]
    words: tuple[tuple[int, int], ...]

    @property
    def ids(self) -> list[int]:
        """Numbers of the symbols."""
        return [SYMBOLS[symbol] for symbol in self.symbols]


class Phonemizer(Protocol):
    """Whoever writes texts in phonemes."""

    def pronounce(self, text: str) -> Pronunciation:
        """Write a text in phonemes; no symbols that sound if nothing in it does."""
        ...


def find_words(text: str) -> list[tuple[int, int]]:
    """List first character and length of each word.

    >>> find_words("Hello, l'été -- 3 men.")
    [(0, 5), (7, 5), (16, 1), (18, 3)]
    """
    return [(found.start(), found.end() - found.start()) for found in _WORD.finditer(text)]


def is_sound(symbol: str) -> bool:
    """Tell what sounds from spaces, punctuation and stress marks."""
    return symbol != " " and symbol not in PUNCTUATION and symbol not in STRESS


def reduce_ipa(ipa: str) -> str:
    """Write espeak-ng's IPA, tied with "^", in Kokoro's alphabet; what it lacks falls away.

    >>> reduce_ipa("t^ʃˈa^ɪ")
    'ʧˈI'
    """
    ipa = re.sub(r"\([a-z-]+\)", "", ipa).replace("r.", "ɽ")
    for pair, symbol in _TIED:
        ipa = ipa.replace(pair, symbol)
    ipa = "".join(_NEAREST.get(char, char) for char in unicodedata.normalize("NFD", ipa).replace("c\u0327", "ç"))
    return "".join(char for char in ipa if char in SYMBOLS and char not in PUNCTUATION)


def clean_marks(between: str) -> str:
    """Reduce what stands between two words to at most one mark that Kokoro knows, and spaces where they belong.

    >>> clean_marks(" ... "), clean_marks("?!?! "), clean_marks(" - "), clean_marks("-"), clean_marks(', "')
    ('… ', '! ', '— ', ' ', ', “')
    """
    if re.search(r"\.\s*\.|…", between):
        return "… "
    marks = re.sub(r"(?<=\s)[-\u2010-\u2012](?=\s)|--+", "—", between)
    found = "".join(" " if char.isspace() else _PAUSES.get(char, "") for char in marks)
    strongest = next((mark for mark in "!?.…:;—," if mark in found), "")
    # A straight quote, or the German one, ends what is quoted where it stands right behind a word.
    ends = re.match(r"[.,!?;:]*(?:[”)\"“]|\s*”)", found)
    begins = re.search(r"\s[“(\"]\s*$|[“(]\s*$", found[ends.end() :] if ends else found)
    return strongest + ("”" if ends else "") + (" “" if begins else " ")


class EspeakPhonemizer:
    """Phonemes of one language by espeak-ng's rules, whatever else the library is used for.

    Args:
        language: of the texts, a code.
        table: more replacements, for phonemes that Kokoro was not taught.

    Raises:
        TeacherError: espeak-ng is not installed.
    """

    def __init__(self, language: str, table: Sequence[tuple[str, str]] = ()) -> None:
        self.language = language
        self._table = tuple(table)
        self._library = load_espeak()
        self._library.espeak_TextToPhonemes.restype = ctypes.c_void_p
        self._library.espeak_TextToPhonemes.argtypes = (ctypes.POINTER(ctypes.c_void_p), ctypes.c_int, ctypes.c_int)
        self._word = lru_cache(maxsize=50_000)(self._translate)

    def _translate(self, text: str) -> str:
        voice = TEACHER_VOICES[self.language]
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise TeacherError(f"espeak-ng refuses the voice {voice}; install a complete espeak-ng-data")
        data = ctypes.create_string_buffer(text.encode())
        place = ctypes.c_void_p(ctypes.addressof(data))
        parts: list[str] = []
        while place.value:
            found = self._library.espeak_TextToPhonemes(ctypes.byref(place), 1, (ord("^") << 8) | 0x82)
            if found:
                parts.append(ctypes.string_at(found).decode())
        ipa = reduce_ipa(" ".join(" ".join(parts).split()))
        for old, new in self._table:
            ipa = ipa.replace(old, new)
        return ipa

    def pronounce(self, text: str) -> Pronunciation:
        """Write a text in phonemes.

        Words between two marks are translated together, because their neighbours change them (liaison); which symbol
        belongs to which of them follows from their sounds alone.
        """
        words = find_words(text)
        symbols: list[str] = []
        owners: list[int] = []
        for first, stop in group_words(text, words):
            start, end = words[first][0], sum(words[stop - 1])
            whole = self._translate(" ".join(text[start:end].split()))
            alone = [self._word(text[at : at + length]) for at, length in words[first:stop]]
            symbols += whole
            owners += [first + owner if owner >= 0 else -1 for owner in assign_words(whole, alone)]
            following = words[stop][0] if stop < len(words) else len(text)
            marks = clean_marks(text[end:following])
            symbols += marks
            owners += [-1] * len(marks)
        return tidy("".join(symbols), owners, words)


def group_words(text: str, words: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Group the words between which only spaces, hyphens and apostrophes stand: first and stop of each group."""
    groups: list[tuple[int, int]] = []
    first = 0
    for index, (start, length) in enumerate(words):
        following = words[index + 1][0] if index + 1 < len(words) else None
        if following is None or text[start + length : following].strip(" '’-\n\t\u00a0\u202f"):
            groups.append((first, index + 1))
            first = index + 1
    return groups


def assign_words(whole: str, alone: Sequence[str]) -> list[int]:
    """Tell for each symbol of a phrase which word it belongs to, by aligning it with the words one by one.

    Args:
        whole: symbols of the phrase.
        alone: symbols of each of its words by itself.

    Returns:
        The number of the word, -1 for spaces.

    >>> assign_words("ab cd", ["ab", "cd"])
    [0, 0, -1, 1, 1]
    """
    parts = whole.split(" ")
    if len(parts) == len(alone):
        return [owner for number, part in enumerate(parts) for owner in ([-1] if number else []) + [number] * len(part)]
    target = [(symbol, number) for number, word in enumerate(alone) for symbol in word if symbol != " "]
    rows, columns = len(whole), len(target)
    cost = [[float(column) for column in range(columns + 1)]]
    for row in range(1, rows + 1):
        line = [cost[-1][0] + (0 if whole[row - 1] == " " else 1)]
        for column in range(1, columns + 1):
            same = whole[row - 1] == target[column - 1][0]
            skip = 0.0 if whole[row - 1] == " " else 1.0
            line.append(min(cost[-1][column - 1] + (0 if same else 1.2), cost[-1][column] + skip, line[-1] + 1))
        cost.append(line)
    owners = [-1] * rows
    row, column = rows, columns
    while row > 0:
        skip = 0.0 if whole[row - 1] == " " else 1.0
        same = column > 0 and whole[row - 1] == target[column - 1][0]
        if column > 0 and cost[row][column] == cost[row - 1][column - 1] + (0 if same else 1.2):
            owners[row - 1] = -1 if whole[row - 1] == " " else target[column - 1][1]
            row, column = row - 1, column - 1
        elif cost[row][column] == cost[row - 1][column] + skip:
            row -= 1
        else:
            column -= 1
    last = 0
    for index, symbol in enumerate(whole):
        if symbol != " ":
            last = max(last, owners[index])
            owners[index] = last
    return owners


def tidy(symbols: str, owners: Sequence[int], words: Sequence[tuple[int, int]]) -> Pronunciation:
    """Drop spaces at the edges and doubled ones, and what Kokoro's alphabet lacks."""
    kept: list[tuple[str, int]] = []
    for symbol, owner in zip(symbols, owners, strict=True):
        if symbol not in SYMBOLS or (symbol == " " and (not kept or kept[-1][0] == " ")):
            continue
        kept.append((symbol, owner))
    while kept and kept[-1][0] == " ":
        kept.pop()
    return Pronunciation("".join(symbol for symbol, _ in kept), tuple(owner for _, owner in kept), tuple(words))
