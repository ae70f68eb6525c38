"""Fractions that stand alone: "3/4", "1 1/2", "½"; no dates, no seasons, no "24/7".

`fraction_words.py` says them; those before a unit belong to `measures.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from voxtral.text.edits import Edit
from voxtral.text.reading.amounts import Amount, Amounts
from voxtral.text.reading.calendar_words import stands_alone
from voxtral.text.reading.claims import Claim, Strength, claim
from voxtral.text.reading.fraction_words import is_usual_fraction
from voxtral.text.reading.numerals import NO_BREAK
from voxtral.text.reading.places import SINGLE_FRACTIONS, filter_by
from voxtral.text.reading.spelled import say_number
from voxtral.text.reading.written import Written

_BROKEN = filter_by(f"[/⁄{SINGLE_FRACTIONS}]")
_DENOMINATOR = re.compile(r"[/⁄](\d+)$")
_ORDINAL_ENDING = re.compile(r"(?:th|TH|rd|RD|nd|ND)s?\b")


def fraction_claims(written: Written) -> Iterator[Claim]:
    """Claim fractions."""
    if written.data.fractions is None:
        return
    amounts, fixed = Amounts(written), written.data.fractions.fixed
    for start in written.joined_starts(_BROKEN):
        for amount in amounts.at(start):
            if amount.fraction is None:
                continue
            end = amount.end
            if (ending := _ORDINAL_ENDING.match(written.text, end)) and written.language == "en":
                end = ending.end()
            if not _is_free(written, amount, end):
                continue
            source = written.text[start : amount.end]
            if _is_part_number(written, start, end):
                break  # "[4/9]" is the fourth of nine posts.
            if (known := fixed.get(source)) is not None:
                yield claim(start, end, known, "fraction")
            elif (
                _is_fraction(source, amount, is_sure=_is_sure(written, amount, end))
                and not _is_named(written, amount)
                and (words := amounts.say(amount, counts=False))
            ):
                yield _worded(written, amount, end, words)
            elif pair := _pair(written, amount, start, end):
                yield pair
            break


def _worded(written: Written, amount: Amount, end: int, words: str) -> Claim:
    """Claim a fraction in the words that fit what stands around it."""
    fractions, text = written.data.fractions, written.text
    if fractions is not None and fractions.rated and written.word_after(end) in fractions.rated:
        found = re.compile(r"(\d{1,2})/(\d{1,2})").fullmatch(text, amount.start, end)
        if found is not None:
            below, above = (written.speller.cardinal(int(digits)) for digits in found.groups())
            return claim(amount.start, end, f"{below} {fractions.out_of} {above}", "rating")
    half = _german_half(written, amount, end) or _half_before_noun(written, amount, end) or words
    # "een ½ liter" has its article already.
    article, _, rest = half.partition(" ")
    if rest and not amount.numerals and amount.fraction == (1, 2) and written.word_before(amount.start, 8) == article:
        half = rest
    return claim(amount.start, end, half, "fraction")


_NOUN = re.compile(r"[ \u00a0]([^\W\d_]{3,40})(?!\w)")


def _half_before_noun(written: Written, amount: Amount, end: int) -> str | None:
    """Say a half before a noun in Romance languages and Dutch: "media hora", "mezzo litro", "een half uur"."""
    words, nouns, known = written.data.fractions, written.data.nouns, written.data.recognition
    found = _NOUN.match(written.text, end)
    if amount.fraction != (1, 2) or amount.numerals or amount.sign or found is None or words is None or nouns is None:
        return None
    noun = found.group(1).lower()
    is_small = known is not None and noun in known.stop_words and not re.fullmatch(nouns.counted or "$^", noun)
    if words.halves is None or is_small:
        return None
    is_feminine = re.search(nouns.feminine, noun) is not None if nouns.feminine else False
    return words.halves.feminine_before if is_feminine else words.halves.before


def _is_part_number(written: Written, start: int, end: int) -> bool:
    return written.text[start - 1 : start] == "[" and written.text[end : end + 1] == "]"


# "1/2 Zitrone", "1/2 ausgepresste Zitrone".
_GERMAN_NOUN = re.compile(r"(?:[ \u00a0][a-zäöüß]{2,20}e[rs]?)?[ \u00a0]([A-ZÄÖÜ][a-zäöüß]{1,30})(?!\w)")


def _german_half(written: Written, amount: Amount, end: int) -> str | None:
    """Say a half before a German noun whose gender is known: "eine halbe Zitrone", "ein halber Liter"."""
    nouns = written.data.nouns
    if written.language != "de" or nouns is None or amount.fraction != (1, 2) or amount.numerals or amount.sign:
        return None
    found = _GERMAN_NOUN.match(written.text, end)
    noun = found.group(1).lower() if found else ""
    for pattern, words in (
        (nouns.masculine, "ein halber"),
        (nouns.neuter, "ein halbes"),
        (nouns.feminine, "eine halbe"),
    ):
        if noun and re.search(pattern, noun):
            return words
    return None


def _pair(written: Written, amount: Amount, start: int, end: int) -> Claim | None:
    """Say two numbers that are no fraction, such as "40/128", and keep the slash."""
    found = re.compile(r"(\d{1,4})/(\d{1,4})").fullmatch(written.text, start, amount.end)
    if found is None or amount.numerals or amount.sign or not written.has_number_words or amount.end != end:
        return None
    numerator, denominator = amount.fraction or (0, 1)
    is_month = numerator <= 12 and 1900 <= denominator <= 2100
    is_model = len(found.group(1)) == len(found.group(2)) > 2
    if is_usual_fraction(numerator, denominator) or is_month or is_model or _is_named(written, amount):
        return None
    numbers = [written.read_numeral(each) for each in found.groups()]
    if any(number is None or number.is_code for number in numbers):
        return None
    edits = tuple(Edit(*found.span(group), say_number(written, found.group(group))) for group in (1, 2))
    return Claim(start, end, edits, "pair", Strength.COMPOSED)


_THOUSANDS_AFTER = re.compile(rf"[ {NO_BREAK}]\d{{3}}(?!\d)")


def _is_free(written: Written, amount: Amount, end: int) -> bool:
    before = written.text[amount.start - 1 : amount.start] if amount.start else ""
    if before in {"/", ".", ",", ":", "-", "–", "=", "^", "_", "$"} or not written.begins_apart(amount.start):
        return False
    if _THOUSANDS_AFTER.match(written.text, end):
        return False  # "1/25 000" is a scale.
    return written.ends_apart(end) and written.text[end : end + 1] not in {"/", "%"}


def _is_sure(written: Written, amount: Amount, end: int) -> bool:
    """Tell whether two numbers are a fraction whatever they are: alone, or below a thousand where "over" is said."""
    words = written.data.fractions
    is_over = words is not None and words.parts == "over"
    return stands_alone(written.text, amount.start, end) or (is_over and (amount.fraction or (0, 0))[1] < 1000)


def _is_named(written: Written, amount: Amount) -> bool:
    """Tell whether a word before it makes it a name, as in "type 6/7"."""
    roman = written.data.roman
    return roman is not None and written.word_before(amount.start) in roman.cardinals_after


def _is_fraction(source: str, amount: Amount, *, is_sure: bool) -> bool:
    """Tell a fraction from a season such as 2019/20, a month such as 12/2023 and codes such as 01/02.

    Args:
        source: what is written.
        amount: what it was read as.
        is_sure: whatever its numbers are, because nothing stands around it.
    """
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
    is_usual = is_sure or bool(amount.numerals) or is_usual_fraction(numerator, denominator)
    return is_usual and not (is_season or is_month or is_pair)
