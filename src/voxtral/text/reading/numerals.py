"""Numbers as digits: how a language writes them, and what they are worth.

Knows nothing of words or of what stands around a number.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

from voxtral.text.language_data import Grammar, load_language
from voxtral.text.spelling import MAX_DIGITS, MAX_GROUPED_DIGITS

_SHORT = 3
NO_BREAK = "\u00a0\u202f\u2009"

# Spanish-speaking countries that write 1,234.56.
# Source: CLDR, numbers of es_419 and of the countries that differ from it.
_SPANISH_WITH_POINT = frozenset(["419", "BZ", "CU", "DO", "GT", "HN", "MX", "NI", "PA", "PE", "PR", "SV", "US"])

# Not in the middle of digits in groups, which are a telephone number.
SPACED = rf"(?<!\d[ -])[1-9]\d{{0,2}}(?:[ {NO_BREAK}]\d{{3}})+(?![ {NO_BREAK}]?\d|[-/⁄]\d)(?:[.,٫]\d+)?"

_GROUPED_ENGLISH = re.compile(r"[1-9]\d{0,2}(?:[,٬]\d{3})+(?:[.٫]\d+)?")
_GROUPED_INDIAN = re.compile(r"[1-9]\d?(?:,\d\d)*,\d{3}(?:\.\d+)?")
_GROUPED_EUROPEAN = re.compile(r"[1-9]\d{0,2}(?:\.\d{3})+(?:,\d+)?")
_GROUPED_SWISS = re.compile(r"[1-9]\d{0,2}(?:['’]\d{3})+(?:[.,]\d+)?")
_DECIMAL = re.compile(r"\d+[.,٫]\d+")
_BARE_FRACTION = re.compile(r"[.٫]\d+")
_ADDRESS = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}")
_GROUP_MARKS = re.compile(rf"(?<=\d)[{NO_BREAK} ](?=\d)")


class Numeral(NamedTuple):
    """A number as it was written: its ASCII digits and the separator between them; `whole` is "" for ".5"."""

    whole: str
    fraction: str | None = None
    point: str = "."
    is_plain: bool = False

    @property
    def is_code(self) -> bool:
        """Tell whether leading zeros or sheer length ask for digit by digit."""
        if self.fraction is not None:
            return False
        longest = MAX_DIGITS if self.is_plain else MAX_GROUPED_DIGITS
        return len(self.whole) > longest or (self.whole[0] == "0" and self.whole != "0")

    @property
    def value(self) -> float:
        """What it is worth, roughly where it is long."""
        return float(f"{self.whole or 0}.{self.fraction or 0}"[:300])


@dataclass(frozen=True)
class Numerals:
    """How a language writes numbers.

    Attributes:
        pattern: the source of a regular expression for a number without sign; it has no groups, takes digits of any
            script and grouped thousands, and a number of ways to match that is bounded.
        grammar: of the language; None where numbers have no words.
        has_decimal_point: the point is the decimal separator.
        has_both: the comma is one as well, unless three digits follow it, as in Arabic.
        known: short numbers that were read.
    """

    pattern: str
    grammar: Grammar | None
    has_decimal_point: bool
    has_both: bool = False
    known: dict[str, Numeral | None] = field(default_factory=dict[str, "Numeral | None"], repr=False, compare=False)

    def read(self, written: str) -> Numeral | None:
        """Read digits with separators as one number; None if they are not clearly one."""
        if len(written) <= _SHORT:
            # Of these there are few, and they are the most frequent.
            if written not in self.known:
                self.known[written] = self._read(written)
            return self.known[written]
        return self._read(written)

    def _read(self, written: str) -> Numeral | None:
        chain = written if written.isascii() else to_ascii(written)
        if chain.isdigit():
            return Numeral(chain, is_plain=True)
        if not chain[-1:].isdigit():
            return None
        chain = _GROUP_MARKS.sub("", chain)
        if chain.isdigit():
            return Numeral(chain)
        if _BARE_FRACTION.fullmatch(chain):
            return Numeral("", chain[1:])
        if _GROUPED_SWISS.fullmatch(chain):
            return _split(re.sub("['’]", "", chain))
        return self._with_point(chain) if self.has_decimal_point else self._with_comma(chain)

    def _with_point(self, written: str) -> Numeral | None:
        if _GROUPED_ENGLISH.fullmatch(written) or _GROUPED_INDIAN.fullmatch(written):
            return _split(re.sub("[,٬]", "", written))
        if _GROUPED_EUROPEAN.fullmatch(written) and "," in written:
            return _split(written.replace(".", "").replace(",", "."))
        return _split(written) if _DECIMAL.fullmatch(written) and (self.has_both or "," not in written) else None

    def _with_comma(self, written: str) -> Numeral | None:
        if _GROUPED_EUROPEAN.fullmatch(written):
            return _split(written.replace(".", "")) if not _may_be_address(written) else None
        if _GROUPED_ENGLISH.fullmatch(written) and (written.count(",") > 1 or "." in written):
            return _split(written.replace(",", ""))
        # "3.14" cannot be grouped, so its point is a decimal one, as in Latin America.
        return _split(written) if _DECIMAL.fullmatch(written) else None


@cache
def numerals_of(language: str, region: str = "") -> Numerals:
    """Find out how a language writes numbers in a region."""
    grammar = load_language(language).numbers
    has_point = grammar is None or grammar.has_decimal_point or (language == "es" and region in _SPANISH_WITH_POINT)
    group, point = (",", ".") if has_point else (".", ",")
    swiss = r"\d{1,3}(?:['’]\d{3})+(?!\d)(?:[.,]\d+)?"
    grouped = rf"{swiss}|\d{{1,3}}(?:[{group}'’٬]\d{{2,3}})+(?!\d|[{group}]\d)(?:[{point}٫]\d+)?"
    return Numerals(rf"(?:{SPACED}|{grouped}|\d+(?:[.,٫]\d+)?)", grammar, has_point, language == "ar")


@cache
def scales_of(language: str, is_money: bool) -> Mapping[str, str]:
    """Gather what is said for scales ("Mio.", "bn"), by how they are written; with money also "k" and "M"."""
    data = load_language(language)
    words, grammar = data.amounts, data.numbers
    scales: dict[str, str] = dict(words.scales) if words else {}
    if is_money and words:
        scales |= words.money_scales
    if grammar:
        linked = grammar.linked_numbers.words if grammar.linked_numbers else ()
        for word in (*grammar.large_numbers, *linked):
            scales |= {word: word, word.lower(): word.lower()}
    return scales


def to_ascii(written: str) -> str:
    """Turn the decimal digits of any script into ASCII."""
    if written.isascii():
        return written
    return "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in written)


def _may_be_address(written: str) -> bool:
    """Tell whether grouped digits may be an IP address: four parts, none of them above 255 or "000"."""
    if not _ADDRESS.fullmatch(written):
        return False
    return all(part != "000" and int(part) <= 255 for part in written.split("."))


def _split(written: str) -> Numeral | None:
    whole, point, fraction = re.fullmatch(r"(\d+)(?:([.,٫])(\d+))?", written).groups()  # pyright: ignore[reportOptionalMemberAccess]
    if fraction is not None and len(whole) > 1 and whole.startswith("0"):
        return None
    return Numeral(whole, fraction, "," if point == "," else ".")
