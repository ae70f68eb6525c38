"""What SSML's say-as asks for: the reading of a span by the kind that its author named."""

from __future__ import annotations

import re

from voxtral.text.edits import Draft
from voxtral.text.reading.numerals import to_ascii
from voxtral.text.reading.reader import read_aloud
from voxtral.text.reading.written import Written
from voxtral.text.spelling import MAX_DIGITS
from voxtral.text.ssml import Asked

_DATE_PARTS = re.compile(r"\d+")


def say_as(text: str, asked: Asked, written: Written) -> str:
    """Say a span as its author asks.

    Args:
        text: of the span.
        asked: by the author.
        written: any text of the language.

    Returns:
        What is to be spoken; what cannot be read as that kind is read as without it.
    """
    text = " ".join(text.split())
    if asked.kind == "characters":
        return " ".join(_letters(text, written))
    if not written.has_number_words:
        return _by_rules(_as_iso_date(text, asked.value) if asked.kind == "date" else text, written)
    if asked.kind == "digits":
        return _digits(text, written)
    numeral = written.read_numeral(text.lstrip("+-−"))
    if asked.kind == "cardinal" and numeral is not None:
        sign = {"+": written.grammar.plus, "-": written.grammar.minus, "−": written.grammar.minus}.get(text[0], "")
        words = written.speller.number(numeral.whole, numeral.fraction, numeral.point)
        return f"{sign} {words}".strip()
    if (
        asked.kind == "ordinal"
        and numeral is not None
        and numeral.fraction is None
        and len(numeral.whole) <= MAX_DIGITS
    ):
        return written.speller.ordinal(int(numeral.whole)) if int(numeral.whole) else _by_rules(text, written)
    if asked.kind == "date":
        text = _as_iso_date(text, asked.value)
    return _by_rules(text, written)


def _by_rules(text: str, written: Written) -> str:
    return read_aloud(Draft.of(text), written.language, written.region).text


def _letters(text: str, written: Written) -> list[str]:
    """Part a text into its letters; digits are named where the language has words for them."""
    letters: list[str] = []
    for char in text:
        if char.isdecimal() and written.has_number_words:
            letters.append(written.speller.digits(to_ascii(char)))
        elif not char.isspace():
            letters.append(char.upper() if len(char.upper()) == 1 else char)
    return letters


def _digits(text: str, written: Written) -> str:
    """Name digits one by one; groups are parted by commas, and letters stay."""
    groups: list[str] = []
    for found in re.finditer(r"\+|\d+|[^\W\d_]+", text):
        group = found.group()
        if group == "+":
            groups.append(written.grammar.plus)
        elif group[0].isdecimal():
            groups.append(written.speller.digits(to_ascii(group)))
        else:
            groups.append(group)
    return ", ".join(groups) or text


def _as_iso_date(text: str, format: str) -> str:
    """Put the parts of a date into the order that all languages read alike, if the format says which is which."""
    parts = _DATE_PARTS.findall(to_ascii(text))
    order = [letter for letter in format.lower() if letter in "ymd"]
    if sorted(order) != ["d", "m", "y"] or len(parts) != 3:
        return text
    found = dict(zip(order, parts, strict=True))
    year = found["y"] if len(found["y"]) == 4 else f"20{found['y']:0>2}"
    return f"{year}-{found['m']:0>2}-{found['d']:0>2}"
