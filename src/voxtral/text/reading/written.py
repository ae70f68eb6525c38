"""A text that is to be read, as rules see it: with its language, its region, and the words and tables of these."""

from __future__ import annotations

import re
import unicodedata
from functools import cached_property
from typing import Any

from voxtral.text.cldr import Cldr, load_cldr
from voxtral.text.language_data import Grammar, LanguageData, load_language
from voxtral.text.reading.numerals import NO_BREAK, Numeral, Numerals, numerals_of
from voxtral.text.spelling import Speller

# What no number or sign may touch: marks, which in Hindi are most of a word's ending, and numerals of other kinds.
_BOUND = frozenset({"Mn", "Mc", "Me", "No", "Nl"})
# Where a number may begin: not inside of one, of a version such as "v1.2" or of an address.
_NUMBER_START = re.compile(
    r"(?P<address>(?:https?|ftp)://\S+|www\.\S+)|(?<![\w.,])[.](?=\d)|(?<!\d)(?<![\d.][.,'’٫٬:])[\d½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]"
)
_DIGIT = re.compile(r"[\d½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]")
# Numbers and dates in a row, and a mark, the end of the line or another number behind them: no part of anything.
_ONE = r"\d++(?:/\d++/\d++)?+"
_BARE = re.compile(
    rf"{_ONE}(?:[.,:'’٫٬]{_ONE}|[ ]\d{{3}}(?!\d)){{0,6}}+"
    rf"(?=[ ]?(?:\n|$)|[ ]{_ONE}(?![½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞/⁄])|[,;:!?)\]]+(?:[ \n]|$)|[.](?:[ \n]|$))"
)
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
    def number_starts(self) -> tuple[int, ...]:
        """Where numbers may begin, in order: found once, for all rules that read numbers."""
        if not self.has_digits:
            return ()
        return tuple(found.start() for found in _NUMBER_START.finditer(self.text) if not found.lastgroup)

    @cached_property
    def joined_starts(self) -> tuple[int, ...]:
        """Those of `number_starts` with something behind that may belong to their number: a unit, a sign, a dash."""
        text, is_bare, is_inside = self.text, _BARE.match, _INSIDE.match
        return tuple(
            start
            for start in self.number_starts
            if not is_bare(text, start) and not (start > 1 and is_inside(text, start - 2)) and self.begins_apart(start)
        )

    @cached_property
    def priced_starts(self) -> tuple[int, ...]:
        """Those of `number_starts` with something on either side that may belong to their number."""
        joined = frozenset(self.joined_starts)
        return tuple(start for start in self.number_starts if start in joined or self._may_have_sign(start))

    def _may_have_sign(self, start: int) -> bool:
        """Tell whether something else than a number or its end stands before a number."""
        before = self.text[max(0, start - 2) : start]
        if before[-1:] in (" ", *NO_BREAK):
            before = before[:-1]
        return not (not before or before[-1].isdecimal() or before[-1] in ".,:;/(\n ")

    def read_numeral(self, written: str) -> Numeral | None:
        """Read digits with separators as one number; None if they are not clearly one."""
        return self.numerals.read(written)

    def begins_apart(self, start: int) -> bool:
        """Tell whether nothing before an offset belongs to what begins there: letter, digit, mark or sign."""
        if start == 0:
            return True
        before = self.text[start - 1]
        if before == " " or before == "\n" or self.is_prefix(start - 1):
            return True
        return not (self.ties(before) or before in "_@#\\" or unicodedata.category(before) in _BOUND)

    def is_prefix(self, place: int) -> bool:
        """Tell whether a letter is an Arabic word that is written without a space, "and" or "with": "و3 أقلام"."""
        if self.language != "ar" or self.text[place] not in "وبلفك":
            return False
        return place == 0 or not (
            self.text[place - 1].isalnum() or unicodedata.category(self.text[place - 1]) in _BOUND
        )

    def ends_apart(self, end: int) -> bool:
        """Tell whether nothing after an offset belongs to what ends there."""
        after, beyond = (self.text[end : end + 2] + "  ")[:2]
        if self.ties(after) or after in "_@\\" or unicodedata.category(after) in _BOUND:
            return False
        return not (after in ".,:-–'’/" and beyond.isdigit())

    def ties(self, char: str) -> bool:
        """Tell whether a letter or digit belongs to what it touches; in Japanese, words stand without spaces."""
        return char.isalnum() and (char.isascii() or self.language != "ja" or char.isdecimal())

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
