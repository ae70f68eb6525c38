"""Dates in digits alone: 25/12/2023, 2024-12-25, and "24.12." where something says that it is one.

Two numbers are a date only after a word that takes one, with leading zeros, or on a line of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from voxtral.text.edits import Edit
from voxtral.text.language_data import load_language
from voxtral.text.reading.calendar_words import DASH, joined, stands_alone, words_before
from voxtral.text.reading.claims import Claim, claim
from voxtral.text.reading.date_parts import LAST_DAY, LAST_MONTH, DateParts
from voxtral.text.reading.numerals import to_ascii
from voxtral.text.reading.places import HERE, Filter, any_digit
from voxtral.text.reading.written import Written
from voxtral.text.tables.dates import DateWords

_DATE = re.compile(
    r"""
    (?P<a>\d{1,4})\u200f?(?P<mark>[-/]|\.[ \u00a0\u202f]?)(?P<b>\d{4}|\d{1,2})
    (?:\u200f?(?P=mark)(?P<c>\d{4}|\d{1,2}))?(?!\d)
    """,
    re.VERBOSE,
)
_TIME_OF_ISO = re.compile(r"T\d{2}:\d{2}")
_HEADING = re.compile(r"\. [A-ZÄÖÜ]")
# Two numbers with a year that is neither history nor a count.
_FIRST_LONE_YEAR, _LAST_LONE_YEAR = 1900, 2199


def numeric_date_claims(written: Written) -> Iterator[Claim]:
    """Claim the dates of a text that are digits alone."""
    words = written.data.dates
    if words is None or not written.has_number_words:
        return
    claims = list(_Finder(written, words).claims())
    yield from claims
    yield from joined(written, claims, "date")


@cache
def _dated(language: str) -> Filter:
    """Let numbers through that are three with signs between, or two where something before them may say that."""
    data = load_language(language)
    fixed = {any_digit(written) for written in data.dates.fixed} if data.dates else set[str]()
    has_points = data.numbers is not None and data.numbers.ordinals_with_point is not None

    def judge(around: str) -> bool:
        found = _DATE.match(around, around.index(HERE) + 1)
        if found is None:
            return False
        is_short = found.group("c") is None and len(found.group("a")) <= 2 and len(found.group("b")) <= 2
        if not is_short or found.group() in fixed or (has_points and found.group("mark")[0] == "."):
            return True
        return not _AFTER_NUMBER.match(around)

    return Filter(judge)


# Neither a word nor the beginning of a line stands before it.
_AFTER_NUMBER = re.compile(rf"[^\0]{{0,2}}?\d[^\w\n|\t]{{0,2}}{HERE}")


@dataclass(frozen=True)
class _Date:
    """A date that was read.

    Attributes:
        order: of its parts, such as "dmy" or "my".
        day: 0 for none.
        month: 1 to 12.
        year: two or four ASCII digits; "" for none.
    """

    order: str
    day: int
    month: int
    year: str = ""


class _Finder:
    """Finds the dates of one text."""

    def __init__(self, written: Written, words: DateWords) -> None:
        self._written = written
        self._text = written.text
        self._words = words
        self._parts = DateParts(written, words)
        self._has_ordinal_point = written.grammar.ordinals_with_point is not None
        # In Japanese order only what begins with a year can be told.
        self._order = "mdy" if self._parts.order == "mdy" else "dmy"

    def claims(self) -> Iterator[Claim]:
        """Claim each date."""
        last_match, last_end, last_ending = 0, 0, ""
        for place in self._written.starts(_dated(self._written.language)):
            found = _DATE.match(self._text, place) if place >= last_match else None
            if found is None:
                continue
            start, end = found.span()
            last_match = end
            is_stamp = _TIME_OF_ISO.match(self._text, end) is not None
            if not self._parts.begins_apart(start) or not (is_stamp or self._written.ends_apart(end)):
                continue
            if fixed := self._words.fixed.get(found.group()):
                yield claim(start, end, fixed, "date")
                continue
            date = self._three(found) if found.group("c") else self._two(found)
            if date is None:
                continue
            if not date.year and self._has_point(found):
                end += 1
            # In "vom 1.5.–3.5." both have the ending of the first.
            is_joined = 0 < last_end <= start and DASH.fullmatch(self._text, last_end, start)
            last_ending = last_ending if is_joined else self._parts.ending_after(start)
            last_end = end
            edits = [Edit(start, end, self._say(date, last_ending, start))]
            if is_stamp:
                edits.append(Edit(end, end + 1, " "))
            yield self._parts.claim(edits, end + is_stamp)

    def _three(self, found: re.Match[str]) -> _Date | None:
        """Read three numbers, if they are a date."""
        a, b, c = (to_ascii(part) for part in found.group("a", "b", "c"))
        near = self._near(found.start())
        if len(b) > 2 or near.rstrip(".") in self._words.not_after:
            return None
        if len(a) == 4 and len(c) <= 2:
            day, month, year = (b, c, a) if int(b) > LAST_MONTH else (c, b, a)
            order = self._order
        elif len(a) <= 2 and len(c) != 1:
            order = self._order_of(a, b)
            day, month, year = (a, b, c) if order == "dmy" else (b, a, c)
        else:
            return None
        if not self._is_day(int(day), int(month)) or not self._parts.is_year(year):
            return None
        is_short = len(year) == 2 and found.group("mark") != "/"
        return (
            None
            if is_short and not self._is_short_date(int(day), found, near)
            else _Date(order, int(day), int(month), year)
        )

    def _is_short_date(self, day: int, found: re.Match[str], near: str) -> bool:
        """Tell a date with two digits for the year from a version ("1.2.10") and from three numbers."""
        if near in self._words.cues or stands_alone(self._text, *found.span()):
            return True
        is_full = len(found.group("a")) == len(found.group("b")) == 2
        return found.group("mark") != "-" and (is_full or (self._has_ordinal_point and day > LAST_MONTH))

    def _two(self, found: re.Match[str]) -> _Date | None:
        """Read two numbers, if something says that they are a date."""
        a, b = (to_ascii(part) for part in found.group("a", "b"))
        near = self._near(found.start())
        if near.rstrip(".") in self._words.not_after or self._text[found.end() : found.end() + 1] in ("%", "°"):
            return None
        if len(a) > 2 or len(b) > 2:
            return self._month_and_year(found, a, b, near)
        order = self._order_of(a, b)[:2]
        day, month = (int(a), int(b)) if order == "dm" else (int(b), int(a))
        return _Date(order, day, month) if self._is_day(day, month) and self._is_told(found, a, b, day) else None

    def _month_and_year(self, found: re.Match[str], a: str, b: str, near: str) -> _Date | None:
        is_alone = stands_alone(self._text, *found.span())
        month, year = (b, a) if len(a) == 4 else (a, b)
        is_date = len(month) <= 2 and 0 < int(month) <= LAST_MONTH
        if not is_date or not _FIRST_LONE_YEAR <= int(year) <= _LAST_LONE_YEAR:
            return None
        if len(a) == 4:
            # "2001-02" may be a season; "2003-03" is none.
            is_told = len(b) == 2 and found.group("mark") == "-" and int(b) <= int(a) % 100
            is_told = is_told and (is_alone or self._is_cued(near))
        else:
            years = self._written.data.years
            is_told = (years is not None and near in years.cues) or (
                is_alone and (len(a) == 2 or self._words.lone_hyphens)
            )
        return _Date("my", 0, int(month), year) if is_told else None

    def _is_told(self, found: re.Match[str], a: str, b: str, day: int) -> bool:
        """Tell whether something says that two numbers are a day and a month."""
        mark = found.group("mark")
        is_cued = self._is_cued(self._near(found.start()))
        is_alone = stands_alone(self._text, *found.span())
        has_zeros = a.startswith("0") or b.startswith("0")
        if mark == "/":
            # "3/4" is a fraction rather than a day, and so is "7/10 of".
            return (
                is_cued and self._written.word_after(found.end()) not in self._words.links and not int(a) < int(b) <= 4
            )
        if mark == "-":
            # "Sat 10-4" are hours.
            is_weekday = self._parts.is_weekday(self._near(found.start()))
            return (is_cued and (has_zeros or not is_weekday)) or (is_alone and has_zeros and self._words.lone_hyphens)
        if self._has_point(found) and (is_cued or day > LAST_MONTH or has_zeros):
            # "14.3. Wie geht das?" on a line of its own is the number of a section.
            return is_cued or not _HEADING.match(self._text, found.end()) or not self._begins_line(found.start())
        # Where decimals have a comma, these are none.
        is_padded = has_zeros and len(a) == len(b) == 2 and not self._written.grammar.has_decimal_point
        return is_padded and (is_cued or (is_alone and self._has_ordinal_point))

    def _begins_line(self, start: int) -> bool:
        return start == 0 or self._text[start - 1] == "\n"

    def _has_point(self, found: re.Match[str]) -> bool:
        """Tell whether the second point of "24.12." stands behind two numbers."""
        has_mark = self._has_ordinal_point and found.group("mark").startswith(".")
        return has_mark and self._text[found.end() : found.end() + 1] == "."

    def _order_of(self, a: str, b: str) -> str:
        """Choose the order of two numbers; one above 12 is no month."""
        if self._order == "dmy":
            return "mdy" if int(b) > LAST_MONTH else "dmy"
        return "dmy" if int(a) > LAST_MONTH else "mdy"

    def _is_day(self, day: int, month: int) -> bool:
        return 0 < day <= LAST_DAY and 0 < month <= LAST_MONTH

    def _is_cued(self, near: str) -> bool:
        return near in self._words.cues or self._parts.is_weekday(near)

    def _near(self, start: int) -> str:
        return (words_before(self._text, start, 1) or [""])[0]

    def _say(self, date: _Date, ending: str, start: int) -> str:
        """Say a date in the order in which it is written, where the language has words for that."""
        spoken = self._words.spoken
        template = spoken.get(date.order) or spoken["dmy" if date.year else "dm"]
        if self._near(start) == "the":
            template = template.removeprefix("the ")
        return template.format(
            day=self._parts.day(str(date.day), ending=ending) if date.day else "",
            month=self._parts.calendar.month_names[date.month - 1],
            year=self._parts.year(date.year) if date.year else "",
        )
