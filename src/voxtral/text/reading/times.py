"""Times of the day: on the clock, with parts of the day, zones and ranges; with seconds also how long something took.

A colon with two digits for the minutes says it by itself; a point, or a bare hour, only with a word that does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from voxtral.text.reading.calendar_words import (
    GAP,
    SPACE,
    any_of,
    calendar_of,
    ends_sentence,
    joined,
    last_word,
    stands_alone,
    words_before,
)
from voxtral.text.reading.claims import Claim, claim
from voxtral.text.reading.numerals import NO_BREAK
from voxtral.text.reading.places import HERE, Filter
from voxtral.text.reading.written import Written
from voxtral.text.tables.counted import Unit
from voxtral.text.tables.times import TimeForm, TimeWords

_ZONES = (
    *("UTC", "GMT", "EST", "EDT", "CST", "CDT", "MST", "MDT", "PST", "PDT", "AKST", "HST", "BRT", "ART"),
    *("CET", "CEST", "WET", "WEST", "EET", "EEST", "BST", "MEZ", "MESZ", "MSK", "IST", "JST", "KST", "HKT", "SGT"),
    *("AEST", "AEDT", "ACST", "AWST", "NZST", "NZDT"),
)
# In small letters the others are too easily words.
_SMALL_ZONES = frozenset({"est", "e.s.t.", "e.s.t", "gmt", "g.m.t.", "g.m.t", "utc", "pst", "p.s.t.", "p.s.t"})
_BARE_HOUR = re.compile(r"[ \u00a0](?P<hour>\d{1,2})(?!\w|[.,:/-]\d)")
# After "a las 21"; before another word that could be counted, the number stays.
_AFTER_HOURS = frozenset({"de", "da", "del", "do", "en", "em", "y", "e"})
_LAST_HOUR, _LAST_MINUTE = 24, 59


def time_claims(written: Written) -> Iterator[Claim]:
    """Claim the times of a text."""
    words = written.data.times
    if words is None or not written.has_number_words:
        return
    finder = _Finder(written, words)
    claims = list(finder.times())
    yield from claims
    yield from joined(written, claims, "time")
    yield from finder.bare_hours()


@cache
def _pattern(
    letters: str, own_parts: frozenset[str], marks: frozenset[str], small_zones: frozenset[str]
) -> re.Pattern[str]:
    """Build the pattern of a time, or of two with a dash between them.

    Args:
        letters: that may stand between hours and minutes.
        own_parts: what the language writes for AM and PM, beside these.
        marks: that may stand behind a time, such as "Uhr".
        small_zones: time zones in small letters.
    """
    letter = f"[{letters}]" if letters else "(?!)"
    part = _PART
    own_part = any_of(own_parts)
    zones = any_of([*_ZONES, *small_zones])
    end = r"(?![^\W_]|[\u0900-\u0903\u093a-\u094f])"

    units = any_of(marks)

    def clock(name: str) -> str:
        return rf"""
        (?P<hour{name}>\d{{1,2}})
        (?:
            (?P<mark{name}>[:.]|{SPACE}?{letter}{SPACE}?)(?P<minute{name}>\d{{2}})
            (?:(?:[:.]|m(?:in)?)(?P<second{name}>\d{{2}})s?)?(?!\d)
            (?:(?<=[^\W\d_]\d\d)m(?:in|n)?\b)?
        )?
        (?:{SPACE}?(?P<unit{name}>{units}){end})?
        (?:{SPACE}?(?P<part{name}>{part}|{own_part})(?:(?<=\.)|{end}))?
        """

    return re.compile(
        rf"""
        (?:{clock("0")}{GAP}?[-–—]{GAP}?)?
        {clock("")}
        (?:(?P<zulu>Z)(?![^\W_])|{SPACE}?(?P<zone>{zones}){end}(?:(?P<sign>[-+−–])(?P<offset>\d{{1,2}})(?::(?P<more>\d{{2}}))?)?)?
        """,
        re.VERBOSE,
    )


_PART = rf"(?:[ap]{SPACE}?\.{SPACE}?m\.?|[ap]m|AM|PM|A\.M\.?|P\.M\.?)"


@cache
def _timed(letters: str, own_parts: frozenset[str], marks: frozenset[str]) -> Filter:
    """Let numbers through that may be the hour of a time; the arguments are those of `_pattern`."""
    letter = f"[{letters}]" if letters else "(?!)"
    # A part of two words is seen by the first.
    parts = any_of(part.partition(" ")[0] for part in own_parts)
    beside = rf"[-–—]{SPACE}?\d|[-–—]\Z|{letter}{SPACE}?\d|{letter}\Z|{any_of(marks)}|[ap]{SPACE}?\.|{_PART}|{parts}"
    match = re.compile(rf"(?:(?P<point>\d{{1,2}}\.\d)|\d{{1,2}}(?:[:]\d|{SPACE}?(?:{beside})))").match

    def judge(around: str) -> bool:
        here = around.index(HERE)
        found = match(around, here + 1)
        # A point is that of a time beside words alone.
        return found is not None and (not found.group("point") or not _AMONG_NUMBERS.fullmatch(around))

    return Filter(judge)


_AMONG_NUMBERS = re.compile(rf"[^\w\n|\t]?[^\n|\t]?\d[^\w\n|\t]{{0,2}}{HERE}(?:[^\w:]|\d)*")


class _Finder:
    """Finds the times of one text."""

    def __init__(self, written: Written, words: TimeWords) -> None:
        self._written = written
        self._text = written.text
        self._words = words

    def times(self) -> Iterator[Claim]:
        """Claim what is clearly a time."""
        text, position = self._text, 0
        words = self._words
        own = words.letters, words.am | words.pm, words.marks | words.bare_marks
        match = _pattern(*own, _SMALL_ZONES - words.not_zones).match
        for first in self._written.starts(_timed(*own)):
            found = match(text, first) if first >= position else None
            if found is None:
                continue
            start, end = found.span()
            if not self._begins_apart(start) or not self._ends_apart(end):
                continue
            spoken = self._spoken(found)
            if spoken is None:
                continue
            if self._words.afternoon and text.startswith(" " + self._words.afternoon, end):
                spoken = self._spoken(found, is_afternoon=True) or spoken
            if text[end - 1] == "." and ends_sentence(text, end):
                spoken += "."
            start, spoken = self._with_weekday(start, spoken)
            yield claim(start, end, spoken, "time")
            position = end

    def _spoken(self, found: re.Match[str], *, is_afternoon: bool = False) -> str | None:
        """Say a match, if it is a time."""
        if not self._is_evident(found):
            return None
        part, unit = found.group("part"), found.group("unit")
        last = self._one(found, "", part, unit, is_afternoon=is_afternoon)
        if last is None:
            return None
        if found.group("hour0"):
            first = self._one(found, "0", found.group("part0"), found.group("unit0"), is_afternoon=is_afternoon)
            if first is None:
                return None
            last = f"{first} {self._written.grammar.until} {last}"
        return last + self._zone(found)

    def _is_evident(self, found: re.Match[str]) -> bool:
        """Tell whether something says that a match is a time."""
        start, end = found.span()
        before = words_before(self._text, start, 3)
        near = before[0] if before else ""
        if any(word.rstrip(".") in self._words.not_after for word in before):
            return False
        if self._written.word_after(end) in self._words.not_before | {"f", "ff"}:
            return False  # verses, and what measures how long something takes
        part, unit = found.group("part"), found.group("unit")
        marks = [found.group(name) for name in ("mark0", "mark") if found.group(name)]
        is_letter = unit is not None and unit in self._words.letters and self._text[found.start("unit") - 1].isdigit()
        if part or is_letter or (unit and (unit.casefold() in self._words.bare_marks or marks)):
            return True
        if not marks or (found.group("hour0") and len(marks) == 1):
            return False
        if marks[-1] == ".":
            if found.group("second") or self._counts(end):
                return False
            is_lone = self._words.lone_point and int(found.group("minute")) % 5 == 0
            return (
                near in self._words.cues
                or bool(found.group("zone"))
                or (is_lone and stands_alone(self._text, start, end))
            )
        return True

    def _counts(self, end: int) -> bool:
        """Tell whether what follows is counted, so that a point before it is that of a number."""
        following = self._text[end : end + 2].lstrip(" " + NO_BREAK)
        after, years = self._written.word_after(end), self._written.data.years
        is_counted = after in self._written.grammar.large_numbers or (years is not None and after in years.counted)
        return is_counted or following[:1] in ("%", "°", "$", "€", "£", "¥", "₹")

    def _one(
        self, found: re.Match[str], name: str, part: str | None, unit: str | None, *, is_afternoon: bool
    ) -> str | None:
        """Say one time; None if it is none."""
        hour = int(found.group("hour" + name))
        minute, second = found.group("minute" + name), found.group("second" + name)
        mark = found.group("mark" + name)
        if hour > _LAST_HOUR or int(minute or 0) > _LAST_MINUTE or int(second or 0) > _LAST_MINUTE:
            return None
        if hour > 12:
            part = None  # "16:00 pm"
        words = self._words
        if is_afternoon and 13 <= hour <= 19:
            hour -= 12
        is_dropped = words.drops_zero_seconds and int(second or 0) == 0
        if second is not None and not is_dropped:
            return self._with_seconds((hour, int(minute), int(second)), part, found.start("hour" + name))
        if not minute and not part:
            return self._hour(hour) if name and not unit else self._form(words.bare, hour)
        form = words.plain
        if part:
            form = words.with_part
        elif words.casual and (mark != ":" or second is not None):
            form = words.casual
        return self._say(form, hour, int(minute or 0), part, found.start("hour" + name))

    def _say(self, form: TimeForm, hour: int, minute: int, part: str | None, start: int) -> str:
        words = self._words
        part_words = self._part(hour, part) if part else ""
        if form is words.plain and minute == 0 and hour in words.whole:
            return words.whole[hour]
        if hour in words.named and not part:
            spoken = words.named[hour] + (f" {self._minute(form, minute)}" if minute else "")
        else:
            spoken = self._form(form.clock if minute else form.full, hour, self._minute(form, minute), part_words)
        if form is words.plain and words.articles and hour < _LAST_HOUR:
            article = words.articles.get(hour, words.articles[0])
            if (words_before(self._text, start, 1) or [""])[0] not in words.articles.values():
                spoken = f"{article} {spoken}"
        return spoken

    def _form(self, template: str, hour: int, minute: str = "", part: str = "") -> str:
        return template.format(
            hour=self._hour(hour), hours=self._counted(hour, self._words.hour), minute=minute, part=part
        )

    def _hour(self, hour: int) -> str:
        return self._words.hours.get(hour) or self._written.speller.cardinal(hour)

    def _minute(self, form: TimeForm, minute: int) -> str:
        names = form.minutes or self._words.minute_names
        return names.get(minute) or self._written.speller.cardinal(minute)

    def _part(self, hour: int, part: str) -> str:
        """Say the part of the day."""
        is_pm = part.casefold().startswith("p") or part in self._words.pm
        full_hour = hour % 12 + (12 if is_pm else 0)
        return self._words.parts[max(first for first in self._words.parts if first <= full_hour)]

    def _with_seconds(self, time: tuple[int, int, int], part: str | None, start: int) -> str:
        words, (hour, minute, second) = self._words, time
        is_clock = words.clock_seconds and (words_before(self._text, start, 1) or [""])[0] in words.cues
        spoken = (words.clock_seconds if is_clock else words.with_seconds).format(
            hour=self._hour(hour),
            hours=self._counted(hour, words.hour),
            minute=self._minute(words.plain, minute),
            minutes=self._counted(minute, words.minute),
            seconds=self._counted(second, words.second),
        )
        if not part:
            return spoken
        part_words = self._part(hour, part)
        return f"{part_words} {spoken}" if words.with_part.full.startswith("{part}") else f"{spoken} {part_words}"

    def _counted(self, value: int, unit: Unit) -> str:
        if value == 1:
            return unit.one
        if value == 2 and unit.two:
            return unit.two
        noun = unit.few if unit.few and 3 <= value <= 10 else unit.many
        words = self._written.speller.before_noun(self._written.speller.cardinal(value), is_feminine=unit.is_feminine)
        return f"{words} {noun}"

    def _zone(self, found: re.Match[str]) -> str:
        zone = "UTC" if found.group("zulu") else found.group("zone")
        if not zone:
            return ""
        spoken = " " + zone.replace(".", "").upper()
        if found.group("sign"):
            grammar, speller = self._written.grammar, self._written.speller
            sign = grammar.plus if found.group("sign") == "+" else grammar.minus
            spoken += f" {sign} {speller.cardinal(int(found.group('offset')))}"
            if found.group("more") and int(found.group("more")):
                spoken += f" {speller.cardinal(int(found.group('more')))}"
        return spoken

    def bare_hours(self) -> Iterator[Claim]:
        """Claim "a las 21", whose hour has a form of its own."""
        if not self._words.hour_cues:
            return
        for found in _BARE_HOUR.finditer(self._text):
            hour = int(found.group("hour"))
            if hour not in self._words.hours:
                continue
            before = words_before(self._text, found.start(), 1)
            after = self._text[found.end() : found.end() + 2]
            if not before or before[0] not in self._words.hour_cues:
                continue
            following = self._written.word_after(found.end())
            if not after.strip() or not after[0].isspace() or following in _AFTER_HOURS:
                yield claim(found.start("hour"), found.end(), self._words.hours[hour], "time")

    def _with_weekday(self, start: int, spoken: str) -> tuple[int, str]:
        calendar = calendar_of(self._written.language)
        if start < 2 or self._text[start - 1] not in " " + NO_BREAK:
            return start, spoken
        end = start - 1
        comma = self._text[end - 1] if self._text[end - 1] in ",:" else ""
        word_start, word = last_word(self._text, end - len(comma))
        number = calendar.weekdays.get(word.casefold().rstrip("."))
        is_written_so = number is not None and (word[0].isupper() or not calendar.has_capitals)
        if number is None or not is_written_so or not self._written.begins_apart(word_start):
            return start, spoken
        if word_start > 0 and self._text[word_start - 1] in "-–":
            return start, spoken
        return word_start, f"{calendar.weekday_names[number]}{comma} {spoken}"

    def _begins_apart(self, start: int) -> bool:
        text = self._text
        if start and text[start - 1] == "T" and start > 1 and text[start - 2].isdigit():
            return True
        if not self._written.begins_apart(start):
            return False
        before = text[max(0, start - 2) : start]
        if before[-1:] in tuple(":/.,+×=*$€£'’"):
            return before[-1:] in tuple(":,") and len(before) == 2 and before[0].isalpha()
        return not (before[-1:] in tuple("-–") and before[0].isalnum())

    def _ends_apart(self, end: int) -> bool:
        after, beyond = (self._text[end : end + 2] + "  ")[:2]
        if after.isalnum() or after in "_@\\°%€$£+=×*^":
            return False
        if after == "," and self._text[end - 1].isalpha():
            return True  # "11:20AM,2:40PM"
        return not (after in ".,:-–'’/" and beyond.isdigit()) and not (after == "-" and beyond.isalpha())
