"""Dates around the name of a month: "3 May 2024", "1.–3. Mai", "May 2024"; and ranges of weekdays.

`numeric_dates.py` has the dates in digits alone, `years.py` the years that stand by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from voxtral.text.edits import Edit
from voxtral.text.language_data import load_language
from voxtral.text.reading.calendar_words import (
    GAP,
    SPACE,
    any_of,
    calendar_of,
    ends_sentence,
    joined,
    last_word,
    words_before,
)
from voxtral.text.reading.claims import Claim, claim
from voxtral.text.reading.date_parts import LAST_DAY, DateParts
from voxtral.text.reading.numerals import NO_BREAK, to_ascii
from voxtral.text.reading.patterns import any_of as one_of
from voxtral.text.reading.written import Written
from voxtral.text.tables.dates import DateWords

_DASHES = frozenset("-–—")
# How long days may be before their month: "15., 16. und 17.".
_DAYS_LENGTH = 60
_YEAR = r"\d{4}(?!\d)|['’]\d{2}(?!\d)"
_NO_LETTER_AFTER = r"(?![^\W\d_]|[\u0900-\u0903\u093a-\u094f])"


def date_claims(written: Written) -> Iterator[Claim]:
    """Claim the dates of a text that have the name of a month, and ranges of weekdays."""
    words = written.data.dates
    is_possible = written.has_digits or "-" in written.text or "–" in written.text
    if words is None or not (written.has_number_words and is_possible):
        return
    finder = _Finder(written, words)
    claims = [*finder.day_first(), *finder.month_first()]
    yield from claims
    yield from joined(written, claims, "date")
    yield from finder.weekday_ranges()


@cache
def _pieces(language: str) -> tuple[str, str, str, bool]:
    """Give the sources of regular expressions for suffixes of days, for links and for what joins days."""
    words = load_language(language).dates or DateWords(order="dmy", spoken={})
    suffix = rf"(?:{any_of(words.day_suffixes)}){_NO_LETTER_AFTER}"
    joints = rf"{GAP}?[-–—/]{GAP}?|,?{SPACE}(?:{any_of(words.joints)}){SPACE}"
    links = rf"(?:(?:{any_of(words.links)})(?:{SPACE}|(?<=['’])))?"
    return suffix, joints, links, words.month_first


@cache
def _month_pattern(language: str) -> re.Pattern[str]:
    return re.compile(one_of(calendar_of(language).months), re.IGNORECASE)


def _months_in(text: str, language: str) -> list[tuple[int, int]]:
    """Find the spans of what may be names of months, perhaps inside of other words."""
    small = text.lower()
    if not any(month in small for month in calendar_of(language).months):
        return []
    return [found.span() for found in _month_pattern(language).finditer(text)]


@cache
def _day_first_pattern(language: str) -> re.Pattern[str]:
    suffix, joints, links, _ = _pieces(language)
    return re.compile(
        rf"""
        (?=\d{{1,2}}[\W\d]{{0,16}}+[^\W\d_])
        (?P<day>\d{{1,2}})(?P<suffix>{suffix})?
        (?:(?P<joint2>{joints})(?P<day2>\d{{1,2}})(?P<suffix2>{suffix})?)?
        (?:(?P<joint3>{joints})(?P<day3>\d{{1,2}})(?P<suffix3>{suffix})?)?
        (?P<link>-|{SPACE}?{links})
        (?P<month>{calendar_of(language).month_pattern}){_NO_LETTER_AFTER}(?P<point>\.)?
        (?:(?P<year_link>-|,?{SPACE}?{links})(?P<year>{_YEAR}))?
        """,
        re.VERBOSE | re.IGNORECASE,
    )


@cache
def _month_first_pattern(language: str) -> re.Pattern[str]:
    """Build the pattern of what follows a month; the month before it is looked up."""
    suffix, joints, links, has_days = _pieces(language)
    days = rf"""
        (?P<day>\d{{1,2}})(?P<suffix>{suffix})?(?!\d|[.,:]\d)
        (?:(?P<joint2>{joints})(?P<day2>\d{{1,2}})(?P<suffix2>{suffix})?(?!\d|[.,:]\d))?
        (?:(?P<year_link>,{SPACE}?|{SPACE}{links})(?P<year>{_YEAR}))?"""
    no_days = "(?P<day>(?!))(?P<suffix>)(?P<joint2>)(?P<day2>)(?P<suffix2>)(?P<year_link>)(?P<year>)"
    return re.compile(
        rf"(?<!\d)(?P<link>,{SPACE}|[ {NO_BREAK}\n-]{links})(?:{days if has_days else no_days}|(?P<only>{_YEAR}))",
        re.VERBOSE | re.IGNORECASE,
    )


@cache
def _weekday_range_pattern(language: str) -> re.Pattern[str]:
    return re.compile(rf"[-–](?P<last>{calendar_of(language).weekday_pattern})(?![^\W_])\.?", re.IGNORECASE)


class _Finder:
    """Finds the dates of one text."""

    def __init__(self, written: Written, words: DateWords) -> None:
        self._written = written
        self._text = written.text
        self._words = words
        self._parts = DateParts(written, words)
        self._calendar = self._parts.calendar
        self._months = _months_in(written.text, written.language) if written.has_digits else []

    def _before_months(self) -> Iterator[int]:
        """Give where numbers begin that the name of a month may follow."""
        months, index = self._months, 0
        for start in self._written.number_starts if months else ():
            while index < len(months) and months[index][0] <= start:
                index += 1
            if index == len(months):
                return
            if months[index][0] - start <= _DAYS_LENGTH:
                yield start

    # The day before the month ---------------------------------------------------------------------

    def day_first(self) -> Iterator[Claim]:
        """Claim "3 May", "3rd of May, 2024", "3.–5. Mai", with the years behind them."""
        match, last_end = _day_first_pattern(self._written.language).match, 0
        for start in self._before_months():
            found = match(self._text, start) if start >= last_end else None
            if found is None:
                continue
            last_end = found.end()
            end, year = found.end(), found.group("year")
            if not self._parts.begins_apart(found.start()) or not _are_days(found, ("day", "day2", "day3")):
                continue
            if year is not None and not self._parts.is_year(year):
                end, year = max(found.end("point"), found.end("month")), None
            if self._parts.ends_apart(end) and self._is_month(found, is_dated=year is not None):
                edits = [*self._day_edits(found), *self._month_edits(found, end, year)]
                yield self._parts.claim(edits, end)

    def _is_month(self, found: re.Match[str], *, is_dated: bool) -> bool:
        """Tell whether the word after a day is the month; some are other words as well."""
        month, link = found.group("month"), found.group("link").strip()
        if not found.group("link") and not found.group("suffix"):
            return False  # "3sep" is a code.
        if month.casefold() not in self._words.doubtful or is_dated or found.group("suffix"):
            return True
        if (self._calendar.has_capitals and month[0].isupper()) or link not in {"", "-"}:
            return True
        before = words_before(self._text, found.start(), 1)
        return bool(before) and (before[0] in self._words.cues or self._parts.is_weekday(before[0]))

    def _day_edits(self, found: re.Match[str]) -> Iterator[Edit]:
        """Say the days, and what stands between them and the month."""
        ending = self._parts.ending_after(found.start())
        has_article = words_before(self._text, found.start(), 1) == ["the"]
        article = "the " if self._words.spoken["dm"].startswith("the ") and not has_article else ""
        for number in ("", "2", "3"):
            if not found.group(f"day{number}"):
                continue
            if number:
                joint = found.group(f"joint{number}").strip(" ,\n" + NO_BREAK)
                # "Les 17-18-19 juin" and "1./2. Mai" are lists.
                is_list = joint == "/" or found.group("day3") is not None
                yield from self._joint_edit(found, f"joint{number}", is_list=is_list)
                # "15. bis 17. März" stands without an article.
                is_bare = ending == "r" and joint.casefold() == "bis"
                ending = ending if is_bare else self._words.joints.get(joint.casefold(), "") or ending
            edit = self._day_edit(found, number, ending, article if not number else "")
            # "The first of" is said before the month alone.
            is_last = not found.group(f"day{int(number or 1) + 1}") if number != "3" else True
            yield edit if is_last else edit._replace(replacement=edit.replacement.removesuffix(" من"))
        yield from self._link_edit(found, "link", self._words.day_link)

    def _month_edits(self, found: re.Match[str], end: int, year: str | None) -> Iterator[Edit]:
        """Write a short month in full, and say the year."""
        written_month, (start, month_end) = found.group("month"), found.span("month")
        name, has_point = self._parts.month(written_month), bool(found.group("point"))
        if name != written_month:
            is_end = has_point and not year and ends_sentence(self._text, month_end + 1)
            yield Edit(start, month_end + (has_point and not is_end), name)
        elif year and has_point:
            yield Edit(month_end, month_end + 1, "")
        if year:
            yield from self._link_edit(found, "year_link", self._words.year_link)
            yield Edit(found.start("year"), end, self._parts.year(year))

    # The month before the day ---------------------------------------------------------------------

    def month_first(self) -> Iterator[Claim]:
        """Claim "May 3", "May 3-5, 2024" and "May 2024"."""
        match = _month_first_pattern(self._written.language).match
        for _, month_end in self._months:
            found = match(self._text, month_end + self._text.startswith(".", month_end))
            if found is None:
                continue
            has_point = self._text[found.start() - 1 : found.start()] == "."
            start, month = last_word(self._text, found.start() - has_point)
            if month.casefold() not in self._calendar.months or not self._parts.begins_apart(start):
                continue
            end, year = found.end(), found.group("only") or found.group("year")
            if year is not None and not self._parts.is_year(year):
                end, year = max(found.end(name) for name in ("day", "suffix", "day2", "suffix2")), None
            is_date = end > found.start() and _are_days(found, ("day", "day2")) and self._parts.ends_apart(end)
            if is_date and self._follows_month(found, month, end, year):
                edits = [*self._first_month_edits(found, start, month), *self._later_edits(found, end, year)]
                yield self._parts.claim(edits, end)

    def _follows_month(self, found: re.Match[str], month: str, end: int, year: str | None) -> bool:
        """Tell whether a number after the name of a month is its day or its year."""
        has_day, has_point = bool(found.group("day")), self._text[found.start() - 1] == "."
        is_named = self._calendar.has_capitals and month[0].isupper()
        if month.casefold() in self._words.doubtful and not is_named and not (year and (has_day or has_point)):
            return False
        if has_day and "," in found.group("link"):
            return False  # "in May, 5 people"
        return not has_day or bool(year) or bool(found.group("suffix")) or not self._is_counted(end)

    def _is_counted(self, end: int) -> bool:
        """Tell whether what stands behind a number is counted by it: "en mayo 5 personas"."""
        after, years = self._written.word_after(end), self._written.data.years
        if self._text[end : end + 2].lstrip(" " + NO_BREAK)[:1] in tuple("%°€$£"):
            return True
        if self._calendar.has_capitals:
            return years is not None and after in years.counted
        recognition = self._written.data.recognition
        is_small_word = recognition is not None and after in recognition.stop_words
        return after != "" and self._text[end] != "," and not is_small_word

    def _first_month_edits(self, found: re.Match[str], start: int, month: str) -> Iterator[Edit]:
        """Write a month in full that has another one before it ("Jan-Feb 2020") or none."""
        if start > 1 and self._text[start - 1] in _DASHES:
            first_start, first = last_word(self._text, start - 1)
            first = first.rstrip(".")
            if first.casefold() in self._calendar.months and self._parts.begins_apart(first_start):
                yield Edit(first_start, start, f"{self._parts.month(first)} {self._written.grammar.until} ")
        name = self._parts.month(month)
        if name != month:
            yield Edit(start, found.start(), name)
        elif self._text[found.start() - 1] == ".":
            yield Edit(found.start() - 1, found.start(), "")
        is_year = not found.group("day") and "," not in found.group("link")
        yield from self._link_edit(found, "link", self._words.year_link if is_year else "")

    def _later_edits(self, found: re.Match[str], end: int, year: str | None) -> Iterator[Edit]:
        """Say the days and the year after a month."""
        if found.group("day"):
            yield self._day_edit(found, "", "")
        if found.group("day2"):
            yield from self._joint_edit(found, "joint2", is_list=found.group("joint2").strip() == "/")
            yield self._day_edit(found, "2", "")
        if year and found.group("day"):
            yield from self._link_edit(found, "year_link", self._words.year_link)
        if year:
            yield Edit(found.start("only" if found.group("only") else "year"), end, self._parts.year(year))

    # Parts ----------------------------------------------------------------------------------------

    def _day_edit(self, found: re.Match[str], number: str, ending: str, article: str = "") -> Edit:
        suffix = found.group(f"suffix{number}") or ""
        spoken = self._parts.day(to_ascii(found.group(f"day{number}")), suffix, ending)
        return Edit(found.start(f"day{number}"), found.end(f"day{number}") + len(suffix), article + spoken)

    def _joint_edit(self, found: re.Match[str], name: str, *, is_list: bool) -> Iterator[Edit]:
        """Say the sign between two days; a word there stays."""
        if found.group(name).strip() in {*_DASHES, "/"}:
            yield Edit(*found.span(name), " " if is_list else f" {self._written.grammar.until} ")

    def _link_edit(self, found: re.Match[str], name: str, word: str) -> Iterator[Edit]:
        """Say what links the parts of a date, where nothing or a hyphen is written; a word or a comma stays."""
        written_link = found.group(name)
        spoken = f" {word} " if word else " "
        if written_link.strip() in {"", "-"} and written_link != spoken:
            yield Edit(*found.span(name), spoken)

    def weekday_ranges(self) -> Iterator[Claim]:
        """Claim "Mon-Fri"."""
        for found in _weekday_range_pattern(self._written.language).finditer(self._text):
            start, first = last_word(self._text, found.start())
            number = self._calendar.weekdays.get(first.casefold().rstrip("."))
            last = self._calendar.weekdays[found.group("last").casefold()]
            if number is None or number == last or not self._parts.begins_apart(start):
                continue
            if self._calendar.has_capitals and not (first[0].isupper() and found.group("last")[0].isupper()):
                continue
            names = self._calendar.weekday_names
            spoken = f"{names[number]} {self._written.grammar.until} {names[last]}"
            yield claim(start, found.end(), spoken, "date")


def _are_days(found: re.Match[str], names: tuple[str, ...]) -> bool:
    return all(0 < int(found.group(name)) <= LAST_DAY for name in names if found.group(name))
