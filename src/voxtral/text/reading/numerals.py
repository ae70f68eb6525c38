"""Numbers as digits: how a language writes them, and what they are worth.

Knows nothing of words or of what stands around a number.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from voxtral.text.language_data import Grammar, load_language
from voxtral.text.spelling import MAX_DIGITS

NO_BREAK = "\u00a0\u202f\u2009"

_GROUPED_ENGLISH = re.compile(r"(?:[1-9]\d{0,2}(?:[,٬]\d{3})+)(?:[.٫]\d+)?")
_GROUPED_INDIAN = re.compile(r"[1-9]\d?(?:,\d\d)*,\d{3}(?:\.\d+)?")
_GROUPED_EUROPEAN = re.compile(r"[1-9]\d{0,2}(?:\.\d{3})+(?:,\d+)?")
_GROUPED_SWISS = re.compile(r"[1-9]\d{0,2}(?:['’]\d{3})+(?:[.,]\d+)?")
_DECIMAL = re.compile(r"\d+[.,٫]\d+")
_ADDRESS = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}")


@dataclass(frozen=True)
class Numeral:
    """A number as it was written: its ASCII digits and the separator between them."""

    whole: str
    fraction: str | None = None
    point: str = "."
    is_plain: bool = False

    @property
    def is_code(self) -> bool:
        """Tell whether leading zeros or sheer length ask for digit by digit."""
        return self.fraction is None and (len(self.whole) > MAX_DIGITS or (self.whole[0] == "0" and self.whole != "0"))


@dataclass(frozen=True)
class Numerals:
    """How a language writes numbers.

    Attributes:
        pattern: the source of a regular expression for a number without sign; it has no groups, takes digits of any
            script and grouped thousands, and a number of ways to match that is bounded.
        grammar: of the language; None where numbers have no words.
    """

    pattern: str
    grammar: Grammar | None

    def read(self, written: str) -> Numeral | None:
        """Read digits with separators as one number; None if they are not clearly one."""
        if self.grammar is None:
            ascii_digits = to_ascii(written).replace(",", "")
            return _split(ascii_digits) if _DECIMAL.fullmatch(ascii_digits) or ascii_digits.isdigit() else None
        return read_numeral(to_ascii(written), self.grammar)


@cache
def numerals_of(language: str, region: str = "") -> Numerals:
    """Find out how a language writes numbers in a region."""
    del region  # so far all regions of a language are read alike
    grammar = load_language(language).numbers
    group, point = (",", ".") if grammar is None or grammar.has_decimal_point else (".", ",")
    spaced = rf"\d{{1,3}}(?:[ {NO_BREAK}]\d{{3}})+(?!\d)(?:[.,٫]\d+)?"
    grouped = rf"\d{{1,3}}(?:[{group}'’٬]\d{{2,3}})+(?![\d{group}])(?:[{point}٫]\d+)?"
    return Numerals(rf"(?:{spaced}|{grouped}|\d+(?:[.,٫]\d+)?)", grammar)


def to_ascii(written: str) -> str:
    """Turn the decimal digits of any script into ASCII."""
    if written.isascii():
        return written
    return "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in written)


def read_numeral(chain: str, grammar: Grammar) -> Numeral | None:
    """Read digits with separators as one number; None if they are not clearly one."""
    if chain.isdigit():
        return Numeral(chain, is_plain=True)
    written = re.sub(f"[ {NO_BREAK}]", "", chain)
    if written.isdigit():
        return Numeral(written)
    read: Callable[[str], Numeral | None] = _parse_english if grammar.has_decimal_point else _parse_european
    return read(written)


def _parse_english(written: str) -> Numeral | None:
    if _GROUPED_ENGLISH.fullmatch(written) or _GROUPED_INDIAN.fullmatch(written):
        return _split(re.sub("[,٬]", "", written))
    if _GROUPED_EUROPEAN.fullmatch(written) and "," in written:
        return _split(written.replace(".", "").replace(",", "."))
    if _DECIMAL.fullmatch(written) and "," not in written:
        return _split(written)
    return None


def _parse_european(written: str) -> Numeral | None:
    if _GROUPED_EUROPEAN.fullmatch(written) and not _ADDRESS.fullmatch(written):
        return _split(written.replace(".", ""))
    if _GROUPED_SWISS.fullmatch(written):
        return _split(re.sub("['’]", "", written))
    if _GROUPED_ENGLISH.fullmatch(written) and (written.count(",") > 1 or "." in written):
        return _split(written.replace(",", ""))
    # "3.14" cannot be grouped, so its point is a decimal one, as in Latin America.
    return _split(written) if _DECIMAL.fullmatch(written) else None


def _split(written: str) -> Numeral | None:
    whole, point, fraction = re.fullmatch(r"(\d+)(?:([.,٫])(\d+))?", written).groups()  # pyright: ignore[reportOptionalMemberAccess]
    if fraction is not None and len(whole) > 1 and whole.startswith("0"):
        return None
    return Numeral(whole, fraction, "," if point == "," else ".")
