"""The sounds that a recogniser of a corpus of shards tells apart: Kokoro's symbols, less what no listener could name.

Teachers write more than is heard, and not the same: espeak-ng's rules tell allophones apart that depend on stress
(Portuguese final vowels, flapped r), misaki writes English without length and diphthongs as one letter. A sound is
judged where two words of the language can differ by it. So

    left out        stress, punctuation, spaces, length (but of Japanese vowels; elsewhere the vowel itself differs, or
                    the teachers do not agree), consonants said twice, the glottal stop before a Japanese consonant
    told apart      nasal vowels, aspirated stops, long vowels in Japanese
    written as one  what `_FOLDED` says of a language, with both ways of writing English and Japanese
    written as two  diphthongs, `ɚ`, palatalised consonants

Emphatic consonants of Arabic, and its long vowels, are no longer in the corpus and cannot be judged. Read next:
`train.recogniser`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from train.corpus import Phonemes
from train.phonemes import PUNCTUATION, STRESS

IPA = "ipa"

_LENGTH, _PALATAL, _NASAL, _ASPIRATED = "ː", "ʲ", "\u0303", "ʰ"
_MARKS = f"{_LENGTH}{_PALATAL}{_NASAL}{_ASPIRATED}ᵝ"
_PAUSE = "_"

# One letter each.
_PLAIN = "abcdefhijklmnopqrstuvwxyzɑɐɒæβɔɕçɖðʤəɛɜɟɡɥɨɪʝɯɰŋɳɲɴøɸθœɹɾɻʁɽʂʃʈʧʊʋʌɣɤχʎʒʔʣʥʦʨ"
_MARKED = [
    *(vowel + _NASAL for vowel in "aɐɑeɛəiɪoɔœuʊæ"),
    *(stop + _ASPIRATED for stop in "bpdtɖʈɟcɡkɽ"),
    *(vowel + _LENGTH for vowel in "aeioɯ"),
]

SOUNDS = {sound: number for number, sound in enumerate((*_PLAIN, *_MARKED), start=1)}
"""Their numbers; 0 is silence."""

_EVERYWHERE = {
    "A": "e ɪ", "I": "a ɪ", "O": "o ʊ", "Q": "ə ʊ", "W": "a ʊ", "Y": "ɔ ɪ", "T": "ɾ", "ᵊ": "ə", "ᵻ": "ɪ", "ɚ": "ə ɹ",
    "ꭧ": "ʈ ʂ", "S": "ʃ",
}  # fmt: skip

# By language: a symbol with its marks, and the sounds that it is; "" for none.
_FOLDED = {
    "en": {
        # espeak-ng's vowels before r, and what misaki writes for them
        "ɜː": "ə ɹ", "oː": "ɔ", "ɜ": "ə",
        "ʌ": "ə", "ɐ": "ə", "ɒ": "ɑ",
        # a flapped t is a flapped d
        "ɾ": "d", "T": "d", "ʔ": "t", "r": "ɹ", "x": "k",
    },
    "fr": {"r": "ʁ", "ɹ": "ʁ", "œ\u0303": "ɛ\u0303", "ɪ": "i", "ʊ": "u", "ʌ": "œ", "ɜ": "œ", "ɒ": "ɔ"},
    "de": {"ɾ": "r", "ɹ": "r"},
    "es": {"β": "b", "ð": "d", "ɣ": "ɡ", "ʎ": "ʝ", "ŋ": "n", "ɛ": "e", "ɪ": "i", "ʊ": "u"},
    "it": {"ɪ": "i", "ʊ": "u", "ɾ": "r", "ŋ": "n"},
    "pt": {
        # unstressed vowels, and the one that is heard between r and a consonant
        "æ": "a", "ɐ": "a", "y": "i", "ɪ": "i", "ʊ": "u", "ə": "",
        "r": "ɾ", "ɹ": "ɾ",
    },
    "nl": {"ɾ": "r", "ɣ": "x", "ʊ": "u", "ʦ": "t s", "ʣ": "d z"},
    "ar": {"x": "χ", "ɪ": "i", "ə": "a"},
    "hi": {"ʌ": "ə", "r": "ɾ", "ʂ": "ʃ", "w": "ʋ", "v": "ʋ", "ŋ": "n", "ɲ": "n", "ʧ": "c", "ʤ": "ɟ"},
    "ja": {
        "ɽ": "ɾ", "r": "ɾ", "ɨ": "ɯ", "β": "w", "ɴ": "ŋ", "u\u0303": "ŋ", "ʨ": "t ɕ", "ʥ": "ʒ", "ʤ": "ʒ", "ʣ": "z",
        "ʔ": "", "ə": "",
    },
}  # fmt: skip

# Languages whose vowels differ by length alone; whoever writes a vowel twice means a long one.
_LONG_VOWELS = {"ja": "aeioɯ"}
# What is palatal by itself, and so before i in Japanese, where no mark says it.
_PALATAL_ALONE = {"ja": {"ɲ": "n"}}


@dataclass(frozen=True)
class _Symbol:
    """A symbol with the marks behind it, and the stress mark before it."""

    start: float  # seconds
    base: str  # _PAUSE for silence
    marks: str


class Sounds(Phonemes):
    """The numbering of `SOUNDS`, for phonemes in Kokoro's symbols."""

    @property
    def alphabet(self) -> str:
        """See Phonemes."""
        return IPA

    def time(self, phonemes: Sequence[tuple[float, str]], language: str) -> list[tuple[float, str]]:
        """Turn timed symbols into timed sounds; a pause is `_`. Two sounds of a symbol share its time.

        >>> Sounds(SOUNDS, {}).time([(0.0, "ˈ"), (0.1, "A"), (0.3, " "), (0.4, "t"), (0.5, "_")], "en")
        [(0.0, 'e'), (0.2, 'ɪ'), (0.4, 't'), (0.5, '_')]
        """
        symbols = list(_join_marks(phonemes))
        # The last one lasts until nobody knows.
        ends = [symbol.start for symbol in (*symbols[1:], *symbols[-1:])]
        timed: list[tuple[float, str]] = []
        for index, (symbol, end) in enumerate(zip(symbols, ends, strict=True)):
            following = symbols[index + 1].base if index + 1 < len(symbols) else ""
            sounds = name_sounds(symbol.base, symbol.marks, following, language)
            length = (end - symbol.start) / max(1, len(sounds))
            for number, sound in enumerate(sounds):
                _append(timed, symbol.start + number * length, sound, _LONG_VOWELS.get(language, ""))
        return timed


def _append(timed: list[tuple[float, str]], start: float, sound: str, long_vowels: str) -> None:
    before = timed[-1][1] if timed else ""
    if sound[:1] in long_vowels and before[:1] == sound[:1]:
        timed[-1] = (timed[-1][0], sound[0] + _LENGTH)
    else:
        timed.append((start, sound))


def _join_marks(phonemes: Sequence[tuple[float, str]]) -> Iterator[_Symbol]:
    """Give each symbol its marks and the time of the stress mark before it; a space belongs to what is before it."""
    current: _Symbol | None = None
    stressed: float | None = None
    for start, symbol in phonemes:
        if symbol in _MARKS and symbol:
            if current is not None:
                current = _Symbol(current.start, current.base, current.marks + symbol)
        elif symbol in STRESS:
            stressed = start if stressed is None else stressed
        elif symbol != " ":
            if current is not None:
                yield current
            is_sound = symbol in SOUNDS or symbol in _EVERYWHERE
            is_pause = not is_sound or symbol in PUNCTUATION
            current = _Symbol(start if stressed is None else stressed, _PAUSE if is_pause else symbol, "")
            stressed = None
    if current is not None:
        yield current


def name_sounds(base: str, marks: str, following: str, language: str) -> list[str]:
    """Name the sounds of a symbol with its marks.

    Args:
        base: the symbol, or `_`.
        marks: that follow it.
        following: the symbol after them, which decides whether something palatal is said as two.
        language: of the text.

    >>> name_sounds("ɜ", "ː", "d", "en"), name_sounds("k", "ʲ", "a", "ja"), name_sounds("k", "ʲ", "i", "ja")
    (['ə', 'ɹ'], ['k', 'j'], ['k'])
    """
    if base == _PAUSE:
        return [_PAUSE]
    table = _FOLDED[language]
    if base + marks in table:
        return table[base + marks].split()
    plain = marks.replace(_LENGTH, "")
    if plain and base + plain in table:
        return table[base + plain].split()
    alone = _PALATAL_ALONE.get(language, {})
    said = table[base] if base in table else _EVERYWHERE.get(base, alone.get(base, base))
    sounds = [folded for sound in said.split() for folded in table.get(sound, sound).split()]
    if not sounds:
        return []
    for mark in (_NASAL, _ASPIRATED):
        if mark in plain and sounds[-1] + mark in SOUNDS:
            sounds[-1] += mark
    if _LENGTH in marks and sounds[-1] in _LONG_VOWELS.get(language, ""):
        sounds[-1] += _LENGTH
    if (_PALATAL in plain or base in alone) and following not in ("i", "j"):
        sounds.append("j")
    return sounds
