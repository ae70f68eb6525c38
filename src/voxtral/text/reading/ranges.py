"""Ranges of plain numbers: "10-20", "1914–1918", "10 – 20"; no scores and no telephone numbers.

Those with a unit or a sign belong to the rules for measures, money and percentages.
"""

from __future__ import annotations

from collections.abc import Iterator

from voxtral.text.reading.amounts import DASHES, SPACE, Amount, Amounts
from voxtral.text.reading.claims import Claim, Strength, claim
from voxtral.text.reading.numbers import say_plain
from voxtral.text.reading.places import filter_by
from voxtral.text.reading.written import Written

_RANGED = filter_by(rf"(?:[{DASHES}~〜]|\.\.){SPACE}?\d")


def range_claims(written: Written) -> Iterator[Claim]:
    """Claim two numbers with a dash between them that grow, as the bounds of a range do."""
    if not written.has_number_words:
        return
    amounts = Amounts(written)
    for start in written.joined_starts(_RANGED):
        for amount in amounts.at(start):
            if amount.joint == "until" and not amount.sign:
                if _is_range(written, amount):
                    low, high = (say_plain(written, each) for each in amount.numerals)
                    words = f"{low} {written.grammar.until} {high}"
                    if amount.scale:
                        words = amounts.say(amount) or words
                    yield claim(amount.start, amount.end, words, "range", Strength.COMPOSED)
                break


def _is_range(written: Written, amount: Amount) -> bool:
    low, high = amount.numerals
    before = written.text[amount.start - 1 : amount.start] if amount.start else ""
    if before in {"/", ".", "-", "–", "$", "=", "+", ")", "'"} or not written.begins_apart(amount.start):
        return False
    if not written.ends_apart(amount.end) or low.is_code or high.is_code or not amount.is_ascending:
        return False
    after = written.text[amount.end : amount.end + 2]
    if after[:1] in {"/", "=", "+", "*", "^"} or (after[:1] == "-" and after[1:].isalnum()):
        return False
    if not (low.is_plain and high.is_plain):
        # "1003.1-2001" is a standard.
        return (low.fraction is None) == (high.fraction is None) or high.value < 1000
    # "1-8090", "555-1234" and "3333-4444" are no range: years may be. Nor is the dash of "Dec 20 - 2008".
    digits = len(low.whole), len(high.whole)
    if digits == (4, 4):
        return int(high.whole) <= 2200
    is_spaced = " - " in written.text[amount.start : amount.end]
    return digits != (3, 4) and digits[1] <= 4 and digits[1] - digits[0] <= (1 if is_spaced else 2)
