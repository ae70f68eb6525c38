"""Months, weekdays and years of a language: which words mean them, and what is said for them.

Knows nothing of where they stand in a text; `dates.py`, `years.py` and `times.py` find them and ask here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from voxtral.text.cldr import load_cldr
from voxtral.text.language_data import load_language
from voxtral.text.reading.claims import Claim, claim
from voxtral.text.reading.numerals import NO_BREAK
from voxtral.text.reading.written import Written

# What stands between words; many texts have lines of one length, and break them anywhere.
SPACE = rf"[ {NO_BREAK}\n]"
# Around dashes a line end may be that of an item of a list.
GAP = f"[ {NO_BREAK}]"
DASH = re.compile(rf"{GAP}?[-–—]{GAP}?")
# What is a year, if it is one; dates before 1000 are not written with four digits.
FIRST_YEAR, LAST_YEAR = 1000, 2199
# Short years up to this one are of this century.
_LAST_SHORT_YEAR = 29
_MAX_WORD = 24
_AROUND = "()[]«»“”„\"'‘’,;:!?-–"
_CELL_ENDS = "\n|\t"
_CLOSING = " .!?;:,…)" + NO_BREAK


@dataclass(frozen=True)
class Calendar:
    """The names of months and weekdays in a language.

    Attributes:
        months: 1 to 12 by each way to write one, in lower case and without a final point.
        month_names: what is said, January first.
        weekdays: 0 to 6 by each short way to write one, as `months`.
        weekday_names: what is said, Monday first.
        month_pattern: the source of a regular expression for any month; a point may follow.
        weekday_pattern: the same for weekdays, short ones alone.
        has_capitals: whether months are written with a capital letter.
    """

    months: Mapping[str, int]
    month_names: tuple[str, ...]
    weekdays: Mapping[str, int]
    weekday_names: tuple[str, ...]
    month_pattern: str
    weekday_pattern: str
    has_capitals: bool


@cache
def calendar_of(language: str) -> Calendar:
    """Put together how months and weekdays of a language are written."""
    cldr, words = load_cldr(language), load_language(language).dates
    months = _numbered((cldr.months, cldr.months_alone, cldr.months_short, cldr.months_short_alone), first=1)
    weekdays = _numbered((cldr.weekdays_short,), first=0)
    if words is not None:
        months |= words.months
        weekdays |= words.weekdays
    return Calendar(
        months=months,
        month_names=cldr.months,
        weekdays=weekdays,
        weekday_names=cldr.weekdays,
        month_pattern=any_of(months),
        weekday_pattern=any_of(weekdays),
        has_capitals=cldr.months[0][0].isupper(),
    )


def _numbered(forms: Iterable[tuple[str, ...]], first: int) -> dict[str, int]:
    return {name.casefold().rstrip("."): number for names in forms for number, name in enumerate(names, first)}


def any_of(words: Iterable[str]) -> str:
    """Write a regular expression for any of some words, the longest first; spaces stand for any space."""
    ordered = sorted(words, key=len, reverse=True)
    return "|".join(re.escape(word).replace(r"\ ", SPACE) for word in ordered) or "(?!)"


def year_words(written: Written, value: int) -> str:
    """Write out a year."""
    speller, words = written.speller, written.data.years
    if value % 1000 >= 100 and words is not None and words.hundreds:
        # "Nineteen hundred", which the language says for years alone.
        rest = f" {speller.cardinal(value % 100)}" if value % 100 else ""
        return f"{speller.cardinal(value // 100)} {words.hundreds}{rest}"
    usual = written.grammar.years
    is_late = words is not None and usual is not None and usual.last < value <= words.last and value % 1000 >= 100
    return speller.year(value) if is_late or (usual is not None and value in usual) else speller.cardinal(value)


def short_year_words(written: Written, digits: str, *, is_marked: bool = False) -> str:
    """Write out a year of two digits: those of the last century are said short, those of this one are not.

    Args:
        written: the text.
        digits: two ASCII digits.
        is_marked: an apostrophe before them says that the century is left out.
    """
    value, words = int(digits), written.data.years
    if value < 10 and words is not None and words.short_zero:
        return f"{words.short_zero} {written.speller.cardinal(value)}"
    is_full = value < 10 or (value <= _LAST_SHORT_YEAR and not is_marked)
    return year_words(written, 2000 + value) if is_full else written.speller.cardinal(value)


def last_word(text: str, end: int) -> tuple[int, str]:
    """Give the start of the word that ends right before an offset, and the word; its length is bounded."""
    start = end
    while (
        start > 0 and end - start < _MAX_WORD and not (text[start - 1].isspace() or text[start - 1] in '([{«“„"/-–—,')
    ):
        start -= 1
    return start, text[start:end]


def words_before(text: str, start: int, count: int) -> list[str]:
    """List the last words before an offset, the nearest first, in lower case and without marks around them."""
    before = text[max(0, start - _MAX_WORD * count) : start].rpartition("\n")[2]
    words: list[str] = []
    # Most words are no lone marks, so that few of them are needed.
    for written in reversed(before.rsplit(maxsplit=count)[-count:]):
        if word := written.strip(_AROUND):
            words.append(word.lower())
    if len(words) == count:
        return words
    words = [word.strip(_AROUND).lower() for word in before.split()]
    return [word for word in reversed(words) if word][:count]


def stands_alone(text: str, start: int, end: int) -> bool:
    """Tell whether a span is all that its line, or its cell of a table, has."""
    while start > 0 and text[start - 1] in " (" + NO_BREAK:
        start -= 1
    while end < len(text) and text[end] in _CLOSING:
        end += 1
    return (start == 0 or text[start - 1] in _CELL_ENDS) and (end == len(text) or text[end] in _CELL_ENDS)


def ends_sentence(text: str, end: int) -> bool:
    """Tell whether the point before an offset, which belongs to an abbreviation, ends a sentence as well."""
    rest = text[end : end + 3].lstrip(" " + NO_BREAK + "\"'”’»)")
    return not rest or rest[0].isupper() or rest[0] == "\n"


def joined(written: Written, claims: Iterable[Claim], kind: str) -> Iterator[Claim]:
    """Claim the dashes between claims, each of which is a "to".

    Args:
        written: the text.
        claims: in any order; they may overlap.
        kind: of what is found.
    """
    outermost: list[Claim] = []
    for each in sorted(claims, key=lambda found: (found.start, -found.end)):
        if not outermost or each.start >= outermost[-1].end:
            outermost.append(each)
    for first, second in pairwise(outermost):
        if first.end < second.start <= first.end + 3 and DASH.fullmatch(written.text, first.end, second.start):
            yield claim(first.end, second.start, f" {written.grammar.until} ", kind)
