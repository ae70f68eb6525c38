"""Fractions that stand alone: "3/4", "1 1/2", "½"; no dates, no seasons, no "24/7".

`fraction_words.py` says them; those before a unit belong to `measures.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from voxtral.text.reading.amounts import Amount, Amounts
from voxtral.text.reading.claims import Claim, claim
from voxtral.text.reading.written import Written

_DENOMINATOR = re.compile(r"[/⁄](\d+)$")
_ORDINAL_ENDING = re.compile(r"(?:th|TH|rd|RD|nd|ND)s?\b")


def fraction_claims(written: Written) -> Iterator[Claim]:
    """Claim fractions."""
    if written.data.fractions is None:
        return
    amounts, fixed = Amounts(written), written.data.fractions.fixed
    for start in written.number_starts:
        for amount in amounts.at(start):
            if amount.fraction is None:
                continue
            end = amount.end
            if (ending := _ORDINAL_ENDING.match(written.text, end)) and written.language == "en":
                end = ending.end()
            if not _is_free(written, amount, end):
                continue
            source = written.text[start : amount.end]
            if (known := fixed.get(source)) is not None:
                yield claim(start, end, known, "fraction")
            elif (
                _is_fraction(source, amount)
                and not _is_named(written, amount)
                and (words := amounts.say(amount, counts=False))
            ):
                yield claim(amount.start, end, words, "fraction")
            break


def _is_free(written: Written, amount: Amount, end: int) -> bool:
    before = written.text[amount.start - 1 : amount.start] if amount.start else ""
    if before in {"/", ".", ",", ":", "-", "–", "=", "^", "_", "$"} or not written.begins_apart(amount.start):
        return False
    return written.ends_apart(end) and written.text[end : end + 1] not in {"/", "%"}


def _is_named(written: Written, amount: Amount) -> bool:
    """Tell whether a word before it makes it a name, as in "type 6/7"."""
    roman = written.data.roman
    return roman is not None and written.word_before(amount.start) in roman.cardinals_after


def _is_fraction(source: str, amount: Amount) -> bool:
    """Tell a fraction from a season such as 2019/20, a month such as 12/2023 and codes such as 01/02."""
    if amount.fraction is None:
        return False
    found = _DENOMINATOR.search(source)
    if found is None:
        return True  # one of a single character
    numerator, denominator = amount.fraction
    upper = source[: found.start()].rpartition(" ")[2]
    if (upper[0] == "0" and upper != "0") or (found.group(1)[0] == "0" and found.group(1) != "0"):
        return False
    is_season = 1800 <= numerator <= 2200 and denominator in {numerator + 1, (numerator + 1) % 100}
    # "603/604" and "6000/8000" are names of two models.
    is_pair = len(upper) == len(found.group(1)) > 2
    is_month = numerator <= 12 and 1900 <= denominator <= 2100 and denominator % 1000
    return not (is_season or is_month or is_pair)
