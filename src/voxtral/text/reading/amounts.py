"""Quantities: numbers with what may stand in and around them, and how they are said before a unit.

"1.5", "-3", "10-20", "2 x 8", "1 1/2", "½", "5 Mio." and "≥ 5" are quantities. Knows no units and no currencies; the
rules for measures, money and percentages find these around a quantity.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from typing import NamedTuple

from voxtral.text.plurals import Category
from voxtral.text.reading.claims import Claim, claim
from voxtral.text.reading.fraction_words import SINGLE, say_fraction
from voxtral.text.reading.numerals import NO_BREAK, Numeral, numerals_of, scales_of
from voxtral.text.reading.patterns import any_of
from voxtral.text.reading.written import Written

SPACE = f"[ {NO_BREAK}]"
DASHES = "-–—−"
MINUS = "-−–"
_BEFORE_SIGN = "([{«“„\"'‘:;,|—/=* \t\n" + NO_BREAK
_MONEY = "$€£¥₹"
_SPACED_SIGNS = "+±~≈<>≤≥"
_SIGNS = frozenset(MINUS + _SPACED_SIGNS)
_SPACES_OR_END = frozenset(" \n" + NO_BREAK)
_SIGN = re.compile(rf"([{MINUS}]|[{_SPACED_SIGNS}]{SPACE}?)$")
_GLUE = re.compile(rf"{SPACE}?[{DASHES}~〜]{SPACE}?")
# Longer ones are spelled digit by digit, where a text may be cut, by `numbers.py`.
_LONGEST = 40
# Scales that stand for the number itself where it is one: "mil", not "un mil".
_WITHOUT_ONE = frozenset(("mil", "mille", "mila"))


class Amount(NamedTuple):
    """A quantity as it is written.

    Attributes:
        start: of it in the text, its sign included.
        end: the character after its last one.
        sign: "-", "+" or another sign before it; "" without.
        numerals: its number; two of a range, two or three of dimensions; none of a fraction without whole.
        joint: "until" between those of a range, "by" between dimensions.
        fraction: numerator and denominator behind the whole number.
        scale: the word for its scale, as it is said; "singular/plural" where these differ; "" without.
    """

    start: int
    end: int
    sign: str
    numerals: tuple[Numeral, ...]
    joint: str = ""
    fraction: tuple[int, int] | None = None
    scale: str = ""

    @property
    def is_code(self) -> bool:
        """Tell whether a number of it is none that is counted, such as 007."""
        return bool(self.numerals) and (self.numerals[0].is_code or any(each.is_code for each in self.numerals[1:]))

    @property
    def is_ascending(self) -> bool:
        """Tell whether its numbers grow, as those of a range do."""
        return self.numerals[0].value < self.numerals[-1].value

    @property
    def is_plain(self) -> bool:
        """Tell whether it is a single number without sign, fraction and scale."""
        return len(self.numerals) == 1 and not (self.sign or self.fraction or self.scale)


@cache
def _pattern(language: str, region: str, is_money: bool) -> re.Pattern[str]:
    number = numerals_of(language, region).pattern
    scales = scales_of(language, is_money)
    return re.compile(
        rf"""
        (?:
            (?P<first>{number}|[.]\d+)
            (?:
                {SPACE}?(?:[{DASHES}~〜]|\.\.\.?){SPACE}?(?P<last>{number})
              | (?P<more>(?:{SPACE}?[x×*]{SPACE}?{number}){{1,2}})
              | [/⁄](?P<below>\d{{1,18}})
              | {SPACE}(?P<upper>\d{{1,4}})[/⁄](?P<lower>\d{{1,4}})
              | {SPACE}?(?P<single>[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])
            )?
          | (?P<alone>[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞])
        )
        (?:{SPACE}?(?P<scale>{any_of(scales)})(?![^\W\d_]))?
        """,
        re.VERBOSE,
    )


class Amounts:
    """Finds and says the quantities of one text.

    Args:
        written: the text.
        is_money: scales of one letter count, as in "$5M".
    """

    def __init__(self, written: Written, *, is_money: bool = False) -> None:
        self._written = written
        self._text = written.text
        self._known = written.quantities[is_money]
        words = written.data.amounts
        self._signs: Mapping[str, str] = words.signs if words else {}
        self._joints = {"until": words.until, "by": words.by} if words else {}
        self._scales = scales_of(written.language, is_money)
        self._number = re.compile(numerals_of(written.language, written.region).pattern)
        self._pattern = _pattern(written.language, written.region, is_money)

    def at(self, start: int) -> tuple[Amount, ...]:
        """Find the quantities whose first digit is at an offset, the longest first.

        Args:
            start: one of `number_starts`.
        """
        found = self._known.get(start)
        if found is None:
            found = self._known[start] = self._find(start)
        return found

    def _find(self, start: int) -> tuple[Amount, ...]:
        found = self._pattern.match(self._text, start)
        if found is None or found.end() - start > _LONGEST:
            return ()
        kind = found.lastgroup
        sign_start, sign = self.sign_before(start)
        first_end = found.end("first")
        first = self._written.read_numeral(found.group("first")) if first_end > 0 else None
        if kind == "first":
            # Most numbers have nothing behind them.
            return () if first is None else (Amount(sign_start, first_end, sign, (first,)),)
        # With its scale, or without.
        ends = [(found.end(), "")]
        if kind == "scale":
            before = self._text[start : found.start("scale")].rstrip(" " + NO_BREAK)
            ends = [(found.end(), self._scales[found.group("scale")]), (start + len(before), "")]
        if first is None:
            if first_end > 0:
                return ()
            alone = SINGLE[found.group("alone")]
            return tuple(Amount(sign_start, end, sign, (), "", alone, scale) for end, scale in ends)
        amounts: list[Amount] = []
        if ends[-1][0] > first_end:
            numerals, joint, fraction = self._composed(found, first)
            if joint or fraction:
                amounts += (Amount(sign_start, end, sign, numerals, joint, fraction, scale) for end, scale in ends)
            ends = [(first_end, "")]
        amounts += (Amount(sign_start, end, sign, (first,), "", None, scale) for end, scale in ends)
        return tuple(amounts)

    def _composed(
        self, found: re.Match[str], first: Numeral
    ) -> tuple[tuple[Numeral, ...], str, tuple[int, int] | None]:
        """Give numbers, joint and fraction of a match with more than one number; neither if they make nothing."""
        read, group = self._written.read_numeral, found.group
        if below := group("below"):
            return ((), "", (int(first.whole), int(below))) if first.fraction is None else ((first,), "", None)
        if last := group("last"):
            number = read(last)
            return ((first, number), "until", None) if number else ((first,), "", None)
        if more := group("more"):
            others = (read(each) for each in self._number.findall(more))
            # "0x10" is no dimension.
            is_dimension = first.whole != "0" or first.fraction
            return ((first, *filter(None, others)), "by", None) if is_dimension else ((first,), "", None)
        if first.fraction is not None or first.is_code:
            return (first,), "", None
        if single := group("single"):
            return (first,), "", SINGLE[single]
        return (first,), "", (int(group("upper")), int(group("lower")))

    def sign_before(self, start: int) -> tuple[int, str]:
        """Find the sign that belongs to a number, and where it begins."""
        near = self._text[max(0, start - 2) : start]
        may_be = near and (near[-1] in _SIGNS or (near[-1] in _SPACES_OR_END and near[0] in _SIGNS))
        found = _SIGN.search(self._text, max(0, start - 2), start) if may_be else None
        if found is None:
            return start, ""
        place = found.start()
        before = self._text[place - 1] if place else " "
        # "$-5" has a sign, "5$-10$" a dash.
        is_price = before in _MONEY and not self._text[max(0, place - 3) : place - 1].strip()[-1:].isdigit()
        if before not in _BEFORE_SIGN and not is_price:
            return start, ""
        sign = found.group().strip(" " + NO_BREAK)
        if sign in "+-−–" or sign in self._signs:
            return place, "-" if sign in MINUS else sign
        return start, ""

    # What is said -----------------------------------------------------------------------------------

    def say(self, amount: Amount, *, is_feminine: bool = False, counts: bool = True) -> str | None:
        """Say a quantity.

        Args:
            amount: of this text.
            is_feminine: of what is counted.
            counts: a noun follows, so that "uno" is "un".

        Returns:
            None if the language has no words for it.
        """
        if amount.scale:
            words = self._scaled(amount)
        elif amount.fraction:
            whole = int(amount.numerals[0].whole) if amount.numerals else None
            words = say_fraction(self._written, whole, *amount.fraction, is_feminine=is_feminine)
        else:
            said = [self._number_words(each, is_feminine=is_feminine, counts=counts) for each in amount.numerals]
            space = " " if self._written.has_number_words else ""
            words = f"{space}{self._joints.get(amount.joint, '')}{space}".join(said)
        return None if words is None else self.sign_words(amount.sign) + words

    def sign_words(self, sign: str) -> str:
        """Say a sign, with the space behind it."""
        if not sign:
            return ""
        if self._written.has_number_words:
            plain = {"-": self._written.grammar.minus, "+": self._written.grammar.plus}
            return (plain.get(sign) or self._signs[sign]) + " "
        return {"-": "マイナス", "+": "プラス"}.get(sign) or self._signs.get(sign, sign)

    def category(self, amount: Amount) -> Category:
        """Choose the form of the noun that a quantity counts."""
        if not self._written.has_number_words:
            return "other"
        if amount.scale:
            return "other" if self._written.language != "ar" else "many"
        if amount.fraction:
            return "one" if not amount.numerals else self._written.speller.category(amount.numerals[0].whole, "5")
        last = amount.numerals[-1]
        return self._written.speller.category(last.whole or "0", last.fraction)

    def link(self, amount: Amount, words: str, noun: str) -> str:
        """Choose what stands between a quantity and its noun: a space, or the "de" of Romance languages."""
        fractions = self._written.data.fractions
        if amount.fraction and fractions and fractions.noun_link and amount.fraction[1] != 2:
            if fractions.noun_link_before_vowel and noun[0].lower() in "aeiouéèh":
                return f" {fractions.noun_link_before_vowel}"
            return f" {fractions.noun_link} "
        if not self._written.has_number_words:
            return ""
        return self._written.speller.scale_link(words.rsplit(" ", 1)[-1], noun)

    def _scaled(self, amount: Amount) -> str | None:
        """Say a quantity with a scale: "fünf Millionen", "un millón", "duemila"."""
        one, _, many = amount.scale.partition("/")
        last = amount.numerals[-1] if amount.numerals else None
        is_one = last is not None and last.whole == "1" and last.fraction is None and len(amount.numerals) == 1
        word = one if is_one or not many else many
        if is_one and one in _WITHOUT_ONE:
            return "mille" if one == "mila" else one
        # German scales are feminine nouns: "eine Million"; "tausend" is none.
        is_feminine = self._written.language == "de" and word[:1].upper() in "MB"
        bare = Amount(amount.start, amount.end, "", amount.numerals, amount.joint, amount.fraction)
        words = self.say(bare, is_feminine=is_feminine)
        if words is None:
            return None
        joined = word == "mila" and last is not None and last.fraction is None
        return f"{words}{word}" if joined or not self._written.has_number_words else f"{words} {word}"

    def _number_words(self, numeral: Numeral, *, is_feminine: bool, counts: bool) -> str:
        if not self._written.has_number_words:
            return (numeral.whole or "0") + (f".{numeral.fraction}" if numeral.fraction else "")
        speller = self._written.speller
        if numeral.is_code:
            return speller.digits(numeral.whole)
        words = speller.say(numeral.whole, numeral.fraction, numeral.point)
        if numeral.fraction is None:
            return speller.before_noun(words, is_feminine=is_feminine) if counts else words
        if not (counts and is_feminine and self._written.language in {"es", "pt"}):
            return words
        # Both parts agree: "una coma cero una millas".
        comma = f" {speller.grammar.decimal_words[numeral.point]} "
        return comma.join(speller.before_noun(part, is_feminine=True) for part in words.split(comma))


def glue(written: Written, claims: Iterable[Claim]) -> Iterator[Claim]:
    """Pass on claims, and say the dashes between neighbours as ranges: "5 kg - 10 kg", "2%-10%".

    Args:
        written: the text.
        claims: of one rule, in order.
    """
    words = written.data.amounts
    before: Claim | None = None
    for each in claims:
        if before is not None and words and before.end < each.start <= before.end + 3:
            between = written.text[before.end : each.start]
            if _GLUE.fullmatch(between):
                said = f" {words.until} " if written.has_number_words else words.until
                yield claim(before.end, each.start, said, each.kind)
        yield each
        before = each
