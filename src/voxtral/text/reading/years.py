"""Years and decades that stand by themselves, with their eras; and numbers like years that count something.

A number of four digits is a year where a word before or after it says so. Where neither that nor anything counted is
in sight, the plain rule of `numbers.py` decides, as for "1984".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from voxtral.text.language_data import load_language
from voxtral.text.reading.calendar_words import (
    GAP,
    SPACE,
    any_of,
    ends_sentence,
    joined,
    last_word,
    short_year_words,
    stands_alone,
    words_before,
    year_words,
)
from voxtral.text.reading.claims import Claim, claim
from voxtral.text.reading.numerals import NO_BREAK, to_ascii
from voxtral.text.reading.places import HERE, Filter, filter_by
from voxtral.text.reading.written import Written
from voxtral.text.tables.years import YearWords

# What a number of four digits must be to be taken for a year without its era.
_FIRST, _LAST = 1100, 2199
_RANGE_MARKS = "-–—"
_SIGNS_BEFORE = "/.,:-–−+$€£'’#=×"


def year_claims(written: Written) -> Iterator[Claim]:
    """Claim the years and decades of a text."""
    words = written.data.years
    if words is not None and written.has_number_words:
        finder = _Finder(written, words)
        yield from finder.eras()
        decades = list(finder.decades())
        yield from decades
        yield from joined(written, decades, "year")
        yield from finder.short()
        yield from finder.years()


@cache
def _era_pattern(language: str) -> re.Pattern[str]:
    words = load_language(language).years or YearWords()
    eras = any_of(words.eras)
    return re.compile(
        rf"""
        (?:(?P<year>\d{{1,3}}(?:[.,]\d{{3}})+|\d{{1,5}})(?:{GAP}?[-–]{GAP}?(?P<last>\d{{1,5}}))?|[IVXLivxl]{{1,6}})
        {SPACE}(?P<era>{eras})(?![^\W_])(?!\.?[^\W_])(?:[-–](?P<beyond>\d{{1,4}})(?![\d/.]))?
        """,
        re.VERBOSE,
    )


@cache
def _any_era(language: str) -> re.Pattern[str]:
    words = load_language(language).years or YearWords()
    return re.compile(rf"{SPACE}(?:{any_of(words.eras)})(?![^\W_])")


@cache
def _decade_pattern(language: str) -> re.Pattern[str]:
    words = load_language(language).years or YearWords()
    suffixes = any_of(words.decade_suffixes)
    return re.compile(rf"(?:(?P<full>\d{{3}}0)|['’]?(?P<short>\d0))['’]?(?P<suffix>{suffixes})(?![^\W_])")


@cache
def _in_decades(language: str) -> Filter:
    """Let numbers through that have a suffix of decades."""
    words = load_language(language).years or YearWords()
    return filter_by(rf"\d['’]?(?:{any_of(words.decade_suffixes)})(?![^\W_])")


_YEAR = re.compile(rf"(?P<year>\d{{4}})(?:(?P<dash>{GAP}?[-–—/]{GAP}?)(?:(?P<last>\d{{4}})|(?P<short>\d{{2}})))?(?!\d)")
_FOUR_DIGITS = filter_by(rf"{HERE}\d{{4}}(?!\d)")
_SHORT_YEAR = re.compile(r"['’](?P<year>\d{2})(?![\w'’])")


def _stops(text: str, end: int) -> bool:
    """Tell whether a mark or the end of the text follows, so that nothing is counted."""
    return text[end : end + 1] in ("", ",", "।", ")", "?", "!", ";")


class _Finder:
    """Finds the years of one text."""

    def __init__(self, written: Written, words: YearWords) -> None:
        self._written = written
        self._text = written.text
        self._words = words

    def eras(self) -> Iterator[Claim]:
        """Claim "384–322 BC", with the words of the era."""
        if not self._words.eras or not _any_era(self._written.language).search(self._text):
            return
        for found in _era_pattern(self._written.language).finditer(self._text):
            start, end = found.span()
            era = self._words.eras[re.sub(SPACE, " ", found.group("era"))]
            if not self._written.begins_apart(start) or self._is_bound_before(start):
                self._written.left.append(start)
                continue
            if era[-1] != "." and self._text[end - 1] == "." and ends_sentence(self._text, end):
                era += "."
            if found.group("year") is None:
                yield claim(found.start("era"), end, era, "year")
                continue
            numbers = [re.sub("[.,]", "", to_ascii(part)) for part in found.group("year", "last") if part]
            spoken = f" {self._written.grammar.until} ".join(self._era_year(digits) for digits in numbers)
            if beyond := found.group("beyond"):
                # "43 a. C.-17" ends in our era.
                era = f"{era.rstrip('.')} {self._written.grammar.until} {self._era_year(to_ascii(beyond))}"
            yield claim(start, end, f"{spoken} {era}", "year")

    def _era_year(self, digits: str) -> str:
        value = int(digits)
        return year_words(self._written, value) if _FIRST <= value <= _LAST else self._written.speller.cardinal(value)

    def decades(self) -> Iterator[Claim]:
        """Claim "the 1980s", "mid-80s" and "die 90er Jahre"."""
        if not (self._words.decade_suffixes and self._written.starts(_in_decades(self._written.language))):
            return
        for found in _decade_pattern(self._written.language).finditer(self._text):
            start, end = found.span()
            full, short = (to_ascii(part) if part else "" for part in found.group("full", "short"))
            if full and not _FIRST <= int(full) <= _LAST:
                continue
            if not self._may_begin(start):
                continue
            decade = (short or full)[-2:]
            ending = self._words.decades.get(decade)
            if short and ending is None:
                continue
            before = words_before(self._text, start, 1)
            if short and self._needs_cue(found) and not (before and before[0] in self._words.decade_cues):
                continue
            yield claim(start, end, self._decade(full, ending), "year")

    def _decade(self, full: str, ending: str | None) -> str:
        """Say a decade, given by its first year or "" and by what its last two digits become."""
        if not full:
            return ending or ""
        year = year_words(self._written, int(full))
        if ending is None or full.endswith("00"):
            return self._words.decades.get("00", "{}").format(year)
        # As in the year without its last two digits: "nineteen eighty" and "eighties".
        return year.removesuffix(self._written.speller.cardinal(int(full[-2:]))) + ending

    def _needs_cue(self, found: re.Match[str]) -> bool:
        # "'80s" says it; "80s" may be seconds.
        return self._text[found.start()] not in "'’" and found.group("suffix") == "s"

    def _may_begin(self, start: int) -> bool:
        """Tell whether a decade may begin; "mid-80s" and "1960s-1980s" have a hyphen before it."""
        before = self._text[start - 1] if start else " "
        return before in _RANGE_MARKS or (self._written.begins_apart(start) and before not in ".,:/$€£")

    def short(self) -> Iterator[Claim]:
        """Claim "'68" after a word that takes a year, as in "of '68"."""
        for found in _SHORT_YEAR.finditer(self._text) if "'" in self._text or "’" in self._text else ():
            start, end = found.span()
            before = words_before(self._text, start, 1)
            is_apart = start > 0 and self._text[start - 1] in " (" + NO_BREAK
            # A quotation goes on after its first number.
            is_last = self._text[end : end + 1] in ("", ".", ",", ";", ":", ")", "!", "?", "\n")
            if is_apart and before and (is_last or self._takes_short_year(before[0])):
                digits = to_ascii(found.group("year"))
                is_decade = before[0] in self._words.decade_cues and int(digits) % 10 == 0
                words = self._written.speller.cardinal(int(digits)) if is_decade else None
                yield claim(start, end, words or short_year_words(self._written, digits, is_marked=True), "year")

    def _takes_short_year(self, word: str) -> bool:
        return word in self._words.cues or word in self._words.weak_cues or word in self._words.decade_cues

    def years(self) -> Iterator[Claim]:
        """Claim years with a word that says so, ranges of years, and quantities that look like a year."""
        last_match = 0
        for start in self._written.starts(_FOUR_DIGITS):
            found = _YEAR.match(self._text, start) if start >= last_match else None
            if found is None:
                continue
            last_match = end = found.end()
            if self._is_bound_before(start) or not self._written.begins_apart(start) or not self._ends_apart(end):
                continue
            year = int(found.group("year"))
            if not _FIRST <= year <= _LAST:
                continue
            spoken = self._range(found, year) if found.group("dash") else self._single(start, end, year)
            if spoken is not None:
                yield claim(start, end, spoken, "year")

    def _range(self, found: re.Match[str], year: int) -> str | None:
        first = year_words(self._written, year)
        if found.group("last"):
            last = int(found.group("last"))
            dash = found.group("dash").strip(" " + NO_BREAK)
            if dash == "/" or not year < last <= _LAST or self._is_counted(found.start(), found.end()):
                return None
            return f"{first} {self._written.grammar.until} {year_words(self._written, last)}"
        digits = to_ascii(found.group("short"))
        dash = found.group("dash")
        if int(digits) <= year % 100 or dash.strip(" " + NO_BREAK) != dash:
            return None
        if dash == "/":
            # A season, "2023/24", if it is the next year.
            return f"{first} {self._written.speller.cardinal(int(digits))}" if int(digits) == year % 100 + 1 else None
        last_words = self._written.speller.cardinal(int(digits))
        return f"{first} {self._written.grammar.until} {last_words}"

    def _single(self, start: int, end: int, year: int) -> str | None:
        before = words_before(self._text, start, 2)
        near = before[0] if before else ""
        after = self._written.word_after(end)
        is_adjacent = start > 0 and self._text[start - 1] in " (-" + NO_BREAK
        if after in self._words.cues_after or (is_adjacent and near in self._words.cues):
            return year_words(self._written, year)
        if self._is_counted(start, end):
            has_years = self._written.grammar.years is not None and year in self._written.grammar.years
            return self._written.speller.cardinal(year) if has_years else None
        is_weak = is_adjacent and near in self._words.weak_cues
        is_usual = self._written.grammar.years is not None and year in self._written.grammar.years
        is_recent = 1900 <= year <= 2099 or (bool(self._words.hundreds) and year > _FIRST and _stops(self._text, end))
        is_lone = year <= self._words.last and stands_alone(self._text, start, end)
        if is_weak or is_lone or (is_recent and not is_usual):
            return year_words(self._written, year)
        return None

    def _is_counted(self, start: int, end: int) -> bool:
        """Tell whether a number counts what stands behind it."""
        following = self._text[end : end + 1]
        if following not in (" ", *NO_BREAK):
            return False
        after = self._written.word_after(end)
        if after in self._words.counted:
            return True
        recognition = self._written.data.recognition
        if not after or not self._words.plural_endings or (recognition and after in recognition.stop_words):
            return False
        word = self._text[end + 1 : end + 1 + len(after)]
        if not word.islower() or not after.endswith(self._words.plural_endings):
            return False
        # "The 1984 elections" and "RFC 1918 defines" count nothing.
        _, before = last_word(self._text, start - 1) if start else (0, "")
        return before == "" or (before.islower() and before not in self._words.decade_cues)

    def _is_bound_before(self, start: int) -> bool:
        """Tell whether a sign right before a number belongs to it; a hyphen after "pre" does not."""
        if start == 0 or self._text[start - 1] not in _SIGNS_BEFORE:
            return False
        is_hyphen = self._text[start - 1] == "-"
        return not (is_hyphen and last_word(self._text, start - 1)[1].lower() in self._words.cues)

    def _ends_apart(self, end: int) -> bool:
        after, beyond = (self._text[end : end + 2] + "  ")[:2]
        if after.isalnum() or after in "_@\\°%€$£+=×*^":
            return False
        if after == " " and beyond in "€$£%°":
            return False
        return not (after in ".,:-–'’/" and beyond.isalnum() and (beyond.isdigit() or after in ":'’/"))
