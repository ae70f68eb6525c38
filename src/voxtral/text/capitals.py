"""Capitals: what is written in them to be loud, in small letters, for weights that were not taught to read them.

A model that has seen capitals at the beginning of words alone takes a word in capitals for other letters, and mumbles
it (docs/QUALITY.md). In small letters it is the same word. What capitals say is kept where they are not there to be
loud: initials, numerals, and what is spelled letter by letter. Every letter stays in its place, so no offset changes.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

# A word alone, if it has so many letters: shorter ones may be spelled ("NATO" is not, "IBAN" may be), and do no harm.
_LONG = 5
# So many words in a row are no row of initials.
_MANY = 4

_WORD = re.compile(r"[^\W_]+(?:['\u2019][^\W_]+)*")
# Short ones with other letters are words more often ("DI", "MIX").
_NUMERAL = re.compile("[IVX]{2,}|(?=.{4})M*(?:CM|CD|D?C{0,3})(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})")
_VOWELS = frozenset("AEIOUY")
_SENTENCE_END = frozenset(".!?:\u2026\n\u00a1\u00bf")
# Between a sentence's end and the first of the next one.
_OPENING = " \t\"'([{\u2018\u201c\u201e\u00ab\u2013\u2014-"


@dataclass(frozen=True)
class _Word:
    start: int
    end: int
    text: str


def lower_capitals(text: str, language: str) -> str:
    """Write in small letters what is written in capitals to be loud; a text of the same length.

    Words of five letters and more, and shorter ones in a row with them, or with three others. The first letter of a
    sentence stays. Takes time in proportion to the length.

    Args:
        text: any string.
        language: of the text, a code.

    Returns:
        The same object where there is nothing to do.

    >>> lower_capitals("He cried DO NOT CROSS! Then the BBC came, and NASA.", "en")
    'He cried do not cross! Then the BBC came, and NASA.'
    >>> lower_capitals("EVERY VISITOR MUST SIGN. THANK YOU, J. SMITH XIV.", "en")
    'Every visitor must sign. Thank you, J. Smith XIV.'
    """
    pieces: list[str] = []
    position = 0
    for row in _rows(text):
        if not _is_loud(row):
            continue
        for word in row:
            if _is_read_as_capitals(text, word, language):
                continue
            start = word.start + _begins_sentence(text, word.start)
            pieces += (text[position:start], _lower(text[start : word.end]))
            position = word.end
    return "".join([*pieces, text[position:]]) if pieces else text


def _rows(text: str) -> Iterator[list[_Word]]:
    """List the rows of words in capitals that no other word parts, and no blank line."""
    row: list[_Word] = []
    for found in _WORD.finditer(text):
        word = _Word(found.start(), found.end(), found.group())
        if row and (not _is_in_capitals(word.text) or "\n\n" in text[row[-1].end : word.start]):
            yield row
            row = []
        if _is_in_capitals(word.text):
            row.append(word)
    if row:
        yield row


def _is_in_capitals(word: str) -> bool:
    return word.isupper() and not any(map(str.isdigit, word))


def _is_loud(row: list[_Word]) -> bool:
    return len(row) >= _MANY or any(_is_long(word.text) for word in row)


def _is_long(word: str) -> bool:
    return sum(map(str.isalpha, word)) >= _LONG and _may_be_a_word(word) and _NUMERAL.fullmatch(word) is None


def _may_be_a_word(word: str) -> bool:
    """Tell whether there is a vowel, as far as that can be told of a letter; without one a word is spelled."""
    return any(not "A" <= letter <= "Z" or letter in _VOWELS for letter in map(_base, word) if letter.isalpha())


def _base(letter: str) -> str:
    return unicodedata.normalize("NFD", letter)[0]


def _is_read_as_capitals(text: str, word: _Word, language: str) -> bool:
    if len(word.text) == 1:
        is_initial = text[word.end : word.end + 1] == "."
        return is_initial or (language == "en" and word.text == "I")
    return _NUMERAL.fullmatch(word.text) is not None or not _may_be_a_word(word.text)


def _begins_sentence(text: str, place: int) -> bool:
    while place and text[place - 1] in _OPENING:
        place -= 1
    return not place or text[place - 1] in _SENTENCE_END


def _lower(letters: str) -> str:
    return "".join(small if len(small := letter.lower()) == 1 else letter for letter in letters)
