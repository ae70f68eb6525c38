"""Money: "$3.50", "5 EUR", "€5 Mio.", "$5-10", "$250-$300", "MX$48.41", "$1/d".

`currencies.py` knows what is written for currencies and what they are called, `amounts.py` the quantities.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache

from voxtral.text.language_data import Currency
from voxtral.text.reading.amounts import MINUS, SPACE, Amount, Amounts, glue
from voxtral.text.reading.claims import Claim, claim
from voxtral.text.reading.currencies import MOSTLY_WORDS, WORDS, Currencies, currencies_of
from voxtral.text.reading.numerals import NO_BREAK, scales_of
from voxtral.text.reading.patterns import any_of
from voxtral.text.reading.places import HERE, SINGLE_FRACTIONS, Filter
from voxtral.text.reading.units import per_noun, units_of
from voxtral.text.reading.written import Written


@cache
def _patterns(language: str, region: str) -> tuple[re.Pattern[str], ...]:
    """Build what stands before a number, behind it, behind a price, and behind one with hundredths."""
    known = currencies_of(language, region)
    before = re.compile(rf"(?P<sign>[{MINUS}+±~≈<>≤≥])?(?P<currency>{known.before}){SPACE}?$")
    tail = "[A-Za-z0-9_$]" if language == "ja" else r"[\w$\u0900-\u0903\u093a-\u094f]"
    after = re.compile(rf"{SPACE}?(?P<currency>{known.after})(?!{tail}|{SPACE}\d)")
    per = re.compile(rf"{SPACE}?/{SPACE}?(?:(?P<unit>{units_of(language).pattern})|(?P<word>[^\W\d_]{{3,20}}))(?!\w)")
    named = re.compile(rf"{SPACE}(?P<currency>{known.names})(?!{tail}|-)")
    return before, after, per, named


_SPACES = tuple(" " + NO_BREAK)
# What may stand between a currency and its number: spaces, the end of a line, signs.
_BETWEEN = f" {NO_BREAK}\n{MINUS}+±~≈<>≤≥"
# The point of "50 Rp. pro Stück" belongs to the abbreviation, where no sentence ends.
_POINT = re.compile(r"[.](?= [a-zß-ÿ])")
_NO_CENTS = re.compile(r"[.,][-–—]{1,2}(?![\w-])")


@cache
def _priced(language: str, region: str) -> Filter:
    """Let numbers through that may have a currency before or behind them."""
    known = currencies_of(language, region)
    tail = "[A-Za-z0-9_$]" if language == "ja" else r"[\w$]"
    scales = any_of(scales_of(language, is_money=True))
    dash = r"(?:[.,][-–—]{1,2})?"
    behind = re.compile(rf"(?:[\d{SINGLE_FRACTIONS}]|{scales}){dash}{SPACE}?{known.beginnings}(?!{tail})")

    def judge(around: str) -> bool:
        here = around.index(HERE)
        before = around[:here].rstrip(_BETWEEN)[-2:]
        # Of one character alone nobody sees what stands before it: the start of the text, or what is too far away.
        parts = known.last_characters if len(before) == 1 else known.last_parts
        is_before = here > 0 and (before in parts or before[-1:] in parts)
        return is_before or behind.search(around, here) is not None

    return Filter(judge)


def money_claims(written: Written) -> Iterator[Claim]:
    """Claim amounts of money."""
    if written.data.money is not None:
        yield from glue(written, _claims(written))


def _claims(written: Written) -> Iterator[Claim]:
    plain, priced, known = (
        Amounts(written),
        Amounts(written, is_money=True),
        currencies_of(written.language, written.region),
    )
    text, before_pattern = written.text, _patterns(written.language, written.region)[0]
    scales = tuple(written.data.amounts.money_scales) if written.data.amounts else ()
    for start in written.priced_starts(_priced(written.language, written.region)):
        has_sign = _may_follow(text, known, start) and before_pattern.search(text, max(0, start - 8), start) is not None
        if not has_sign and not written.begins_apart(start):
            continue
        # "$5M" and "5M €": the quantities that all rules share have no such scales.
        found = None if has_sign else _first(written, plain, known, start)
        if found is None and (has_sign or _has_scale(text, plain, start, scales)):
            found = _first(written, priced, known, start)
        if found is not None:
            yield found


def _first(written: Written, amounts: Amounts, known: Currencies, start: int) -> Claim | None:
    """Find the longest amount of money at a place."""
    text = written.text
    for amount in amounts.at(start):
        if not (_may_precede(text, known, amount.end) or _may_follow(text, known, amount.start)) or amount.is_code:
            continue
        found = _claim(written, amounts, known, amount)
        if found is not None:
            return found
    return None


def _may_follow(text: str, known: Currencies, start: int) -> bool:
    """Tell by one character whether a currency may stand before an offset."""
    # The line may end between them.
    before = text[max(0, start - 3) : start].removesuffix("\n")
    return (before[-2:-1] if before[-1:] in _SPACES else before[-1:]) in known.last_characters


def _may_precede(text: str, known: Currencies, end: int) -> bool:
    """Tell by one character whether a currency, or "no cents" and a currency, may stand behind an offset."""
    after = text[end : end + 2]
    after = after[1:] if after[:1] in _SPACES else after[:1]
    return after in known.first_characters or after in (".", ",")


def _has_scale(text: str, amounts: Amounts, start: int, scales: tuple[str, ...]) -> bool:
    for amount in amounts.at(start):
        end = amount.end
        if not amount.scale and text.startswith(scales, end + (text[end : end + 1] in _SPACES)):
            return True
    return False


def _claim(written: Written, amounts: Amounts, known: Currencies, amount: Amount) -> Claim | None:
    text = written.text
    per_pattern = _patterns(written.language, written.region)[2]
    # "€ 10,-" has no cents.
    dash = _NO_CENTS.match(text, amount.end)
    number_end = dash.end() if dash else amount.end
    before, after, is_named = _around(written, amount, number_end)
    if before is None and after is None:
        return None
    end = after.end() if after else number_end
    if after is not None and after.group("currency").isalpha() and (point := _POINT.match(text, end)):
        end = point.end()
    if not after and not _ends(written, end):
        return None
    written_as = (after or before).group("currency")  # pyright: ignore[reportOptionalMemberAccess]
    currency = known.named[written_as.lower()] if is_named else known.known[written_as]
    words = _say(written, amounts, amount, currency)
    if words is None:
        return None
    begin = amount.start
    if before is not None:
        begin = before.start()
        words = amounts.sign_words(_plain_sign(before.group("sign"))) + words
    if (per := per_pattern.match(text, end)) is not None:
        unit = units_of(written.language).find(per.group("unit")) if per.group("unit") else None
        behind = unit.per if unit else per_noun(written.language, per.group("word") or "")
        if behind:
            words, end = f"{words} {behind}", per.end()
    return claim(begin, end, words, "money")


def _around(
    written: Written, amount: Amount, number_end: int
) -> tuple[re.Match[str] | None, re.Match[str] | None, bool]:
    """Find the currency before a quantity and the one behind it, and tell whether that is a name."""
    before_pattern, after_pattern, _, named_pattern = _patterns(written.language, written.region)
    before = _free_before(written, before_pattern, amount)
    if before is None and not _may_begin(written, amount):
        return None, None, False
    after = after_pattern.match(written.text, number_end)
    if after is not None and before is not None and not after.group("currency").isalpha():
        after = None
    if after is not None and after.group("currency") in WORDS and after.group() in WORDS:
        after = None  # "0BSD" is a name.
    if after is not None and after.group("currency") in MOSTLY_WORDS and not _has_cents(amount):
        after = None
    if before is not None and len(before.group("currency")) == 1 and before.group("currency").isalpha():
        # "Q50.10" is a price, "Q4" and "F1" are none.
        before = before if _has_cents(amount) else None
    if before is None and after is None and _is_price(amount) and written.has_number_words:
        # "7,50 Euro" has hundredths, "7,5 Euro" and "7 Euro" are plain numbers.
        after = named_pattern.match(written.text, number_end)
        return None, after, True
    return before, after, False


def _has_cents(amount: Amount) -> bool:
    return bool(amount.numerals) and len(amount.numerals[-1].fraction or "") == 2


def _is_price(amount: Amount) -> bool:
    return len(amount.numerals) == 1 and not (amount.fraction or amount.scale) and _has_cents(amount)


def _plain_sign(sign: str | None) -> str:
    return "-" if sign and sign in MINUS else sign or ""


def _free_before(written: Written, pattern: re.Pattern[str], amount: Amount) -> re.Match[str] | None:
    """Find a currency before a number; letters must not be the end of a word."""
    found = pattern.search(written.text, max(0, amount.start - 8), amount.start)
    if found is None:
        return None
    before = written.text[found.start() - 1] if found.start() else " "
    if found.group("sign") and not (before.isspace() or before in "([{\"'“„«"):
        # A dash between prices belongs to a range.
        return pattern.search(written.text, found.start("currency"), amount.start)
    return None if written.ties(before) or before in "_$@#\\" else found


def _may_begin(written: Written, amount: Amount) -> bool:
    before = written.text[amount.start - 1 : amount.start] if amount.start else ""
    return written.begins_apart(amount.start) and before not in {"/", ".", "-", "+", "^", "="}


def _ends(written: Written, end: int) -> bool:
    after, beyond = (written.text[end : end + 2] + "  ")[:2]
    return not (written.ties(after) or after in "_@" or (after in ".,:" and beyond.isdigit()))


def _say(written: Written, amounts: Amounts, amount: Amount, currency: Currency) -> str | None:
    """Say an amount; its hundredths by their name."""
    bare = Amount(amount.start, amount.end, "", amount.numerals, amount.joint, amount.fraction, amount.scale)
    sign = amounts.sign_words(amount.sign)
    unit = currency.unit
    if not written.has_number_words:
        words = amounts.say(bare)
        return None if words is None else sign + words + unit.many
    if len(amount.numerals) == 1 and not (amount.scale or amount.fraction):
        number = amount.numerals[0]
        fraction = number.fraction
        if fraction and currency.cent is not None and not fraction[2:].strip("0"):
            # "$20.5" is twenty dollars fifty, "$20.500" as well.
            fraction = fraction[:2].ljust(2, "0")
        return sign + written.speller.amount(currency, number.whole or "0", fraction, number.point)
    words = amounts.say(bare, is_feminine=unit.is_feminine)
    if words is None:
        return None
    noun = unit.many
    if written.language == "ar" and unit.few and not amount.scale and amounts.category(amount) == "few":
        noun = unit.few
    return sign + words + amounts.link(bare, words, noun) + noun
