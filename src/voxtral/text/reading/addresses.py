"""Postal addresses in English: house numbers, the kind of a street, directions and states.

A number before the name of a street is said in pairs ("fourteen twenty-eight Elm Street"), as nobody counts houses.
The words are in the `[shorthand]` tables of the language; one without states has no such rule.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from voxtral.text.language_data import load_language
from voxtral.text.reading.claims import Claim, Strength
from voxtral.text.reading.spelled import Piece, claim_pieces, say_digits, say_number
from voxtral.text.reading.written import Written
from voxtral.text.tables.shorthand import Shorthand

_ENDS = re.compile(r"\s*\Z")
_FULL_STREETS = "Street|Avenue|Boulevard|Road|Lane|Drive|Court|Place|Square|Highway|Parkway|Terrace|Circle|Way"


@cache
def _pattern(language: str) -> re.Pattern[str] | None:
    shorthand = load_language(language).shorthand
    if shorthand is None or not shorthand.states:
        return None
    streets = "|".join(sorted(shorthand.after_names, key=len, reverse=True))
    directions = "|".join(sorted(shorthand.directions, key=len, reverse=True))
    states = "|".join(shorthand.states)
    name = r"(?:[A-Z][a-z'’]{1,20}|\d{1,3}(?:st|nd|rd|th))"
    city = r"[A-Z][a-z]{1,20}\.?(?:[ ][A-Z][a-z]{1,20}){0,2}"
    return re.compile(
        rf"""
        (?<![\w.,:/$€£#-])(?P<house>[1-9]\d{{0,4}})[ ](?:(?P<direction>{directions})\.?[ ])?
        (?P<name>{name}(?:[ ]{name}){{0,2}}?)[ ]
        (?:(?P<street>{streets}|{streets.lower()})(?![\w])(?P<point>\.?)
            |(?P<full>{_FULL_STREETS})(?!\w))
        (?:,[ ](?P<place>{city}),?[ ](?P<state>{states})(?![\w])(?:[ ](?P<zip>\d{{5}}(?:-\d{{4}})?)(?!\d))?)?
        | (?<!\w)(?P<town>{city}),[ ](?P<home>{states})[ ](?P<code>\d{{5}}(?:-\d{{4}})?)(?!\d)
        """,
        re.VERBOSE,
    )


def address_claims(written: Written) -> Iterator[Claim]:
    """Claim the parts of addresses that are not said as they are written."""
    pattern = _pattern(written.language)
    shorthand = written.data.shorthand
    if pattern is None or shorthand is None:
        return
    for found in pattern.finditer(written.text):
        for start, end, spoken in _parts(written, found, shorthand):
            yield claim_pieces([Piece(start, end, spoken)], "address", Strength.COMPOSED)


def _parts(written: Written, found: re.Match[str], shorthand: Shorthand) -> Iterator[tuple[int, int, str]]:
    if found.group("house"):
        yield (*found.span("house"), _house_number(written, found.group("house")))
    if direction := found.group("direction"):
        start, end = found.span("direction")
        end += written.text[end : end + 1] == "."
        yield start, end, shorthand.directions[direction]
    if street := found.group("street"):
        spoken = shorthand.after_names.get(street) or shorthand.after_names[street.capitalize()]
        end = found.end("point")
        stop = "." if found.group("point") and not found.group("place") and _ends_sentence(written, end) else ""
        yield found.start("street"), end, (spoken.capitalize() if street[0].isupper() else spoken) + stop
    for group in ("state", "home"):
        if found.group(group):
            yield (*found.span(group), shorthand.states[found.group(group)])
    for group in ("zip", "code"):
        if found.group(group):
            digits = [say_digits(written, part) for part in found.group(group).split("-")]
            yield (*found.span(group), ", ".join(digits))


def _ends_sentence(written: Written, end: int) -> bool:
    """Tell whether the point of a street ends a sentence as well: at the end, or before a small word with a capital."""
    following = re.compile(r"[\"'”’)]*(\s*)([^\W\d_]+)?").match(written.text, end)
    if following is None or following.group(2) is None:
        return _ENDS.match(written.text, end) is not None or written.text[end] == "\n"
    word = following.group(2)
    small_words = written.data.recognition.stop_words if written.data.recognition else frozenset[str]()
    first_words = written.data.sentences.first_words
    is_small = word.casefold() in small_words or word in first_words
    return "\n" in following.group(1) or (word[0].isupper() and is_small)


def _house_number(written: Written, digits: str) -> str:
    """Say the number of a house: 123 in one and two digits, 1428 in pairs."""
    if len(digits) == 5:
        return say_digits(written, digits)
    if len(digits) < 3 or digits.endswith("00"):
        is_hundreds = len(digits) == 4 and not digits.endswith("000") and digits[1] != "0"
        return f"{say_number(written, digits[:2])} hundred" if is_hundreds else say_number(written, digits)
    first, last = digits[:-2], digits[-2:]
    pair = f"oh {say_number(written, last[1])}" if last[0] == "0" else say_number(written, last)
    return f"{say_number(written, first)} {pair}"
