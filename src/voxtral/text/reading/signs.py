"""Signs that are said: "&" between words, "#" and "§" before a number, a lone "%"; and those that nobody says, "™".

The words are in the files of the languages, table `[signs]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from voxtral.text.language_data import load_language
from voxtral.text.reading.claims import Claim, Strength, claim
from voxtral.text.reading.numerals import NO_BREAK
from voxtral.text.reading.patterns import any_of
from voxtral.text.reading.written import Written
from voxtral.text.tables.signs import SignWords

_SPACES = f" {NO_BREAK}"


@cache
def _pattern(language: str) -> re.Pattern[str]:
    words = load_language(language).signs or SignWords()
    before = any_of(words.before_number)
    # Each alternative begins with a fixed character.
    return re.compile(
        rf"(?P<number>{before})(?P<gap>[{_SPACES}]?)(?=\d)"
        rf"|(?P<between>{any_of(words.between)})(?=[{_SPACES}])"
        rf"|(?P<alone>{any_of(words.alone)})(?=[.,;:!?)]?(?:\s|$))"
        rf"|(?P<unsaid>[{re.escape(words.unsaid.replace(' ', ''))}])"
    )


def sign_claims(written: Written) -> Iterator[Claim]:
    """Claim signs, weaker than every rule that reads them with what stands around."""
    words = written.data.signs
    if words is None:
        return
    for found in _pattern(written.language).finditer(written.text):
        spoken = _say(written, words, found)
        if spoken is not None:
            yield claim(found.start(), found.end(), spoken, "sign", Strength.WORD)


def _say(written: Written, words: SignWords, found: re.Match[str]) -> str | None:
    text, start, end = written.text, found.start(), found.end()
    before = text[start - 1 : start] if start else " "
    space = " " if written.has_number_words else ""
    if (sign := found.group("number")) is not None:
        if not written.begins_apart(start) or before in "/&%":
            return None
        return words.before_number[sign] + space
    if found.group("between"):
        # Of a list's bullets and of quotations only the sign stands on the line's edge.
        is_between = before in _SPACES and start > 1 and text[start - 2].isalnum() and text[end + 1 : end + 2].isalnum()
        return words.between[found.group("between")] if is_between else None
    if found.group("alone"):
        linked = written.data.numbers.linked_numbers if written.data.numbers else None
        currency = written.data.numbers.currencies.get(found.group("alone")) if written.data.numbers else None
        if linked and currency and text.endswith(f" {linked.link} ", 0, start):
            return currency.unit.many  # "millones de $"
        is_alone = before in _SPACES + "\n(" or start == 0
        return (
            words.alone[found.group("alone")]
            if is_alone and not text[end : end + 2].strip(_SPACES)[:1].isdigit()
            else None
        )
    return ""
