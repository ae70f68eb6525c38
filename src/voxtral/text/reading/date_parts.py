"""What is said for the parts of a date: days, months, years, and the short weekday before them.

Knows nothing of how dates are found; `dates.py` and `numeric_dates.py` find them and ask here.
"""

from __future__ import annotations

from voxtral.text.edits import Edit
from voxtral.text.reading.calendar_words import (
    FIRST_YEAR,
    LAST_YEAR,
    calendar_of,
    last_word,
    short_year_words,
    words_before,
    year_words,
)
from voxtral.text.reading.claims import Claim
from voxtral.text.reading.numerals import NO_BREAK, to_ascii
from voxtral.text.reading.written import Written
from voxtral.text.tables.dates import DateWords

LAST_DAY, LAST_MONTH = 31, 12
_SIGNS_BEFORE = "./:,-–+$€£"


class DateParts:
    """Says the parts of the dates of one text.

    Args:
        written: the text.
        words: what its language says for dates.
    """

    def __init__(self, written: Written, words: DateWords) -> None:
        self.written = written
        self.words = words
        self.calendar = calendar_of(written.language)
        self.order = words.regions.get(written.region, words.order)

    def day(self, digits: str, suffix: str = "", ending: str = "") -> str:
        """Say the day of a month.

        Args:
            digits: in any script.
            suffix: what made an ordinal of it, such as "th"; "" for nothing.
            ending: of a German ordinal, from `ending_after`.
        """
        value, speller = int(digits), self.written.speller
        if value == 1 and self.words.first and suffix != ".":
            return self.words.first
        if self.words.ordinal_days:
            return speller.ordinal(value) + ending
        return speller.ordinal(value) if suffix and suffix != "." else speller.cardinal(value)

    def ending_after(self, start: int) -> str:
        """Choose the ending of a German ordinal by the words before it."""
        ordinals = self.written.grammar.ordinals_with_point
        if ordinals is None:
            return ""
        before = words_before(self.written.text, start, 4)
        if before and self.is_weekday(before[0]):
            before = before[1:]
        near, far = [*before, "", ""][:2]
        if near in ordinals.n_after or (near in ordinals.articles and far in ordinals.prepositions):
            return "n"
        # "den ganzen 17. April", "der schöne 3. Mai".
        if near.endswith("en") and far in ordinals.n_after | ordinals.articles:
            return "n"
        if near.endswith("e") and far in ordinals.articles and near not in ordinals.articles:
            return ""
        is_article = near in ordinals.articles or near.startswith(("jede", "diese"))
        return ("n" if near.endswith(("en", "em")) else "") if is_article else "r"

    def month(self, name: str) -> str:
        """Write a short month in full; another name of it stays."""
        full = self.calendar.month_names[self.calendar.months[name.casefold()] - 1]
        is_short = len(name) < len(full) and full[0].casefold() == name[0].casefold()
        return full if is_short else name

    def year(self, digits: str) -> str:
        """Say a year of two or four digits, perhaps with an apostrophe before them."""
        plain = to_ascii(digits).lstrip("'’")
        if len(plain) == 4:
            return year_words(self.written, int(plain))
        return short_year_words(self.written, plain, is_marked=len(plain) < len(digits))

    def is_year(self, digits: str) -> bool:
        """Tell whether digits may be a year."""
        plain = to_ascii(digits).lstrip("'’")
        return len(plain) == 2 or FIRST_YEAR <= int(plain) <= LAST_YEAR

    def is_weekday(self, word: str) -> bool:
        """Tell whether a word in lower case is a weekday, short or long."""
        is_long = word in (name.casefold() for name in self.calendar.weekday_names)
        return is_long or word.rstrip(".") in self.calendar.weekdays

    def claim(self, edits: list[Edit], end: int) -> Claim:
        """Claim a date, with the short weekday before it.

        Args:
            edits: in order.
            end: of the date.
        """
        text = self.written.text
        start = before = edits[0].start
        while before > 0 and start - before < 3 and text[before - 1] in " ," + NO_BREAK:
            before -= 1
        weekday_start, weekday = last_word(text, before)
        number = self.calendar.weekdays.get(weekday.casefold().rstrip("."))
        if before < start and number is not None and self.begins_apart(weekday_start):
            name = self.calendar.weekday_names[number]
            if name.casefold() != weekday.casefold():
                edits = [Edit(weekday_start, before, name), *edits]
                start = weekday_start
        return Claim(start, end, tuple(edits), "date")

    def begins_apart(self, start: int) -> bool:
        """Tell whether no letter, digit or sign before an offset belongs to what begins there."""
        if not self.written.begins_apart(start):
            return False
        before = self.written.text[max(0, start - 2) : start]
        if not before or before[-1] not in _SIGNS_BEFORE:
            return True
        return before[-1] not in "/$€£+" and not before[0].isdigit()

    def ends_apart(self, end: int) -> bool:
        """Tell whether no letter or digit after an offset belongs to what ends there."""
        after = self.written.text[end : end + 2]
        return not (after[:1].isalnum() or after[:1] in ("_", "@") or (after[:1] in (":", "/") and after[1:].isdigit()))
