"""A text that is to be read, as rules see it: with its language, its region, and the words and tables of these."""

from __future__ import annotations

import re
import unicodedata
from functools import cache, cached_property
from typing import Any

from voxtral.text.cldr import Cldr, load_cldr
from voxtral.text.language_data import Grammar, LanguageData, load_language
from voxtral.text.reading.numerals import NO_BREAK, Numeral, Numerals, numerals_of
from voxtral.text.reading.places import HERE, SINGLE_FRACTIONS, Filter, any_digit, find_numbers, is_bare
from voxtral.text.spelling import Speller

# What no number or sign may touch: marks, which in Hindi are most of a word's ending, and numerals of other kinds.
_BOUND = frozenset({"Mn", "Mc", "Me", "No", "Nl"})
_DIGIT = re.compile(rf"[\d{SINGLE_FRACTIONS}]")
_INSIDE = re.compile(r"\d/\d")


class Written:
    """A text that is to be read.

    Args:
        text: without markup, letters plain.
        language: a code of `LANGUAGES`.
        region: of the language, such as GB, in capitals; "" where none is said.
    """

    def __init__(self, text: str, language: str, region: str = "") -> None:
        self.text = text
        self.language = language
        self.region = region
        # Quantities by place, as far as rules have looked: several ask for the same ones.
        # Without scales that count for money alone, and with them.
        self.quantities: tuple[dict[int, tuple[Any, ...]], dict[int, tuple[Any, ...]]] = ({}, {})
        # Where rules for words found what they could read if something else stood beside it.
        self.left: list[int] = []

    @cached_property
    def taken(self) -> bytearray:
        """1 for each character of what stands already; rules for what is weak look there first."""
        return bytearray(len(self.text))

    @cached_property
    def data(self) -> LanguageData:
        """What the file of the language says."""
        return load_language(self.language)

    @cached_property
    def cldr(self) -> Cldr:
        """Months, units and currencies of the language."""
        return load_cldr(self.language)

    @cached_property
    def has_digits(self) -> bool:
        """Tell whether there is any digit, or a fraction of one character."""
        return _DIGIT.search(self.text) is not None

    @cached_property
    def shape(self) -> str:
        """The text with zeros for all digits, so that numbers of one form are alike."""
        return any_digit(self.text)

    @property
    def has_number_words(self) -> bool:
        """Tell whether numbers are written in words; in Japanese they stay digits."""
        return self.data.numbers is not None

    @cached_property
    def speller(self) -> Speller:
        """Words for values.

        Raises:
            LanguageError: numbers of the language stay digits.
        """
        return Speller(self.language, self.region)

    @property
    def grammar(self) -> Grammar:
        """What is said around numbers."""
        return self.speller.grammar

    @cached_property
    def numerals(self) -> Numerals:
        """How numbers are written."""
        return numerals_of(self.language, self.region)

    @cached_property
    def _apart_before(self) -> Filter:
        return _apart_before(self.language)

    @cached_property
    def _apart_behind(self) -> Filter:
        return _apart_behind(self.language)

    @cached_property
    def _numbers(self) -> tuple[list[int], list[str]]:
        return find_numbers(self.shape, self.language) if self.has_digits else ([], [])

    @property
    def number_starts(self) -> list[int]:
        """Where numbers may begin, in order: found once, for all rules that read numbers."""
        return self._numbers[0]

    def starts(self, told: Filter) -> list[int]:
        """Give those of `number_starts` that a filter lets through."""
        return [start for start, around in zip(*self._numbers, strict=True) if told[around]]

    def joined_starts(self, told: Filter) -> list[int]:
        """Give those that have something behind that may belong to them, and that a filter lets through."""
        return [start for start, around in self._joined if told[around]]

    def priced_starts(self, told: Filter) -> list[int]:
        """Give those that have something on either side that may belong to them, and that a filter lets through."""
        joined = _joined(self.language)
        return [
            start
            for start, around in zip(*self._numbers, strict=True)
            if told[around] and (joined[around] or _may_have_sign(around))
        ]

    @cached_property
    def _joined(self) -> list[tuple[int, str]]:
        joined = _joined(self.language)
        return [number for number in zip(*self._numbers, strict=True) if joined[number[1]]]

    def read_numeral(self, written: str) -> Numeral | None:
        """Read digits with separators as one number; None if they are not clearly one."""
        return self.numerals.read(written)

    def begins_apart(self, start: int) -> bool:
        """Tell whether nothing before an offset belongs to what begins there: letter, digit, mark or sign."""
        return start == 0 or self._apart_before[self.text[max(0, start - 2) : start]]

    def is_prefix(self, place: int) -> bool:
        """Tell whether a letter is an Arabic word that is written without a space, "and" or "with": "و3 أقلام"."""
        return is_prefix(self.text[max(0, place - 1) : place + 1], self.language)

    def ends_apart(self, end: int) -> bool:
        """Tell whether nothing after an offset belongs to what ends there."""
        return self._apart_behind[self.text[end : end + 2]]

    def ties(self, char: str) -> bool:
        """Tell whether a letter or digit belongs to what it touches; in Japanese, words stand without spaces."""
        return ties(char, self.language)

    def word_before(self, start: int, within: int = 40) -> str:
        """Give the word before an offset, in lower case, without space and marks between; "" if there is none."""
        before = self.text[max(0, start - within) : start].rstrip(" \t" + NO_BREAK + "([\"'“„«:")
        word = before.rpartition(" ")[2].rpartition("\n")[2].rpartition("\u00a0")[2]
        return word.lstrip("([\"'“„«").casefold()

    def word_after(self, end: int, within: int = 40) -> str:
        """Give the word after an offset, in lower case; "" if there is none."""
        after = self.text[end : end + within].lstrip(" \t" + NO_BREAK)
        length = 0
        while length < len(after) and (after[length].isalnum() or unicodedata.category(after[length]) in {"Mn", "Mc"}):
            length += 1
        return after[:length].casefold()


def ties(char: str, language: str) -> bool:
    """Tell whether a letter or digit belongs to what it touches; in Japanese, words stand without spaces."""
    return char.isalnum() and (char.isascii() or language != "ja" or char.isdecimal())


def is_prefix(before: str, language: str) -> bool:
    """Tell whether the last of some characters is an Arabic word that is written without a space."""
    if language != "ar" or before[-1:] not in tuple("وبلفك"):
        return False
    return len(before) == 1 or not (before[-2].isalnum() or unicodedata.category(before[-2]) in _BOUND)


def _begins_apart(before: str, language: str) -> bool:
    """Judge the two characters before something."""
    last = before[-1]
    if last in " \n" or is_prefix(before, language):
        return True
    return not (ties(last, language) or last in "_@#\\" or unicodedata.category(last) in _BOUND)


def _ends_apart(behind: str, language: str) -> bool:
    """Judge the two characters behind something."""
    after, beyond = (behind + "  ")[:2]
    if ties(after, language) or after in "_@\\" or unicodedata.category(after) in _BOUND:
        return False
    return not (after in ".,:-–'’/" and beyond.isdigit())


def _may_have_sign(around: str) -> bool:
    """Tell whether something else than a number or its end stands before a number."""
    before = around[: around.index(HERE)]
    before = before[:-1] if before[-1:] in (" ", *NO_BREAK) else before
    return not (not before or before[-1].isdecimal() or before[-1] in ".,:;/(\n ")


@cache
def _apart_before(language: str) -> Filter:
    return Filter(lambda before: _begins_apart(before, language))


@cache
def _apart_behind(language: str) -> Filter:
    return Filter(lambda behind: _ends_apart(behind, language))


def is_joined(around: str, language: str) -> bool:
    """Tell whether a number has something behind it that may belong to it; `around` is what a `Filter` judges."""
    here = around.index(HERE)
    if is_bare(around) or (here > 1 and _INSIDE.match(around.replace(HERE, "", 1), here - 2)):
        return False
    return here == 0 or _begins_apart(around[max(0, here - 2) : here], language)


@cache
def _joined(language: str) -> Filter:
    return Filter(lambda around: is_joined(around, language))
