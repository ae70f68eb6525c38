"""Plain numbers: integers and decimals with every grouping, signed ones, lists, and codes digit by digit.

What has a unit, a sign or a suffix belongs to other rules; what is not clearly a number, such as a version or the
digits inside of a word, stays as it is. `numerals.py` knows how numbers are written, `spelling.py` has the words.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from functools import cache

from voxtral.text.edits import Edit, share_out
from voxtral.text.language_data import PointOrdinals
from voxtral.text.reading.agreement import before_noun, noun_after
from voxtral.text.reading.amounts import Amounts
from voxtral.text.reading.claims import Claim, Strength, claim
from voxtral.text.reading.numerals import SPACED, Numeral, scales_of, to_ascii
from voxtral.text.reading.ordinals import german_ending, is_small, words_before
from voxtral.text.reading.patterns import any_of
from voxtral.text.reading.places import HERE, Filter, filter_by
from voxtral.text.reading.written import Written
from voxtral.text.spelling import MAX_DIGITS

# Between other numbers, marks and line ends, what is said for a number depends on itself alone. In German a point
# behind it may be that of an ordinal.
_ALONE = tuple(
    Filter(re.compile(rf"(?:|[^\0]?\n|\d[ ]){HERE}(?:|\n.?|[ ]\d|[,;!?)][ \n]|{point})", re.DOTALL).fullmatch)
    for point in (r"\.[ \n]?", "(?!)")
)
_COMMA_LIST = re.compile(r"\d+(?:,\d+)+")
_AFTER_POINT = re.compile(r"\.\s(?:([^\W\d_]+)|(\d))")
_SCALE_BEFORE = re.compile(r"[:/]\d{1,3}[ \u00a0\u202f]$")
_NEXT_OF_LIST = re.compile(r" [^\W\d_]{1,4} (\d)(?![\w.,]\d|\w)")
# Categories that tie a digit to its neighbour: marks, currency signs that are not read here, other numerals.
_BOUND = frozenset({"Mn", "Mc", "Me", "Sc", "No", "Nl"})

# Whatever has digits; each alternative starts with a fixed character or a digit.
_TOKEN = re.compile(
    rf"""(?=[\d+\-−.(]|https?:|ftp:|www[.])(?:
      (?P<skip>(?:https?|ftp)://\S+|www\.\S+)
    | (?P<sign>[-−+])?
      (?P<chain>
          {SPACED}
        | \d+(?:[.,:/'’٫٬_^*=×<>+\-–−]\d+)*
        | (?<![\w.])\.\d+
      ))
    """,
    re.VERBOSE,
)


def number_claims(written: Written) -> Iterator[Claim]:
    """Claim the numbers of a text; none where they stay digits, as in Japanese."""
    if written.has_number_words:
        yield from _Finder(written).claims()
        yield from _scaled_claims(written)


@cache
def _scaled(language: str) -> Filter:
    return filter_by(any_of(scales_of(language, is_money=False)))


def _scaled_claims(written: Written) -> Iterator[Claim]:
    """Claim numbers with a scale: "5 Mio. Einwohner", "1 Million"."""
    amounts = Amounts(written)
    for start in written.joined_starts(_scaled(written.language)):
        amount = next(iter(amounts.at(start)), None)
        if amount is None or not amount.scale or amount.is_code or not written.begins_apart(amount.start):
            continue
        words = amounts.say(amount) if written.ends_apart(amount.end) else None
        if words is not None:
            yield claim(amount.start, amount.end, words, "number", Strength.NUMBER)


def say_plain(written: Written, number: Numeral, *, is_signed: bool = False, is_counting: bool = False) -> str:
    """Say a number that stands alone; one of four digits as a year where the language does so.

    Args:
        written: tells the language.
        number: what to say.
        is_signed: a sign stands before it.
        is_counting: it counts what follows, and is no year.
    """
    speller = written.speller
    if number.is_code:
        return speller.digits(number.whole)
    years = written.grammar.years
    is_year = number.is_plain and len(number.whole) == 4 and not (is_signed or is_counting)
    if is_year and years and int(number.whole) in years:
        return speller.year(int(number.whole))
    return speller.say(number.whole, number.fraction, number.point)


class _Finder:
    """Finds the numbers of one text."""

    def __init__(self, written: Written) -> None:
        self._written = written
        self._text = written.text
        self._language = written.language
        self._speller = written.speller
        self._grammar = written.grammar
        # What is said for digits that nothing stands beside, by the digits.
        self._bare: dict[str, str | None] = {}

    def claims(self) -> Iterator[Claim]:
        """Claim each number that is understood."""
        taken, bare, text = self._written.taken, self._bare, self._text
        has_scales = ":" in text or "/" in text
        alone = _ALONE[self._grammar.ordinals_with_point is not None]
        for token in _TOKEN.finditer(text):
            start, end = token.span()
            if taken.find(1, start, end) >= 0:
                continue
            around = f"{text[max(0, start - 2) : start]}{HERE}{text[end : end + 2]}"
            if alone[around] and end - start <= MAX_DIGITS and not (has_scales and self._is_rest_of_scale(start)):
                chain = token.group()
                words = bare.get(chain)
                if words is None:
                    words = bare[chain] = self._say_alone(token)
                if words:
                    yield Claim(start, end, (Edit(start, end, words),), "number", Strength.NUMBER)
                continue
            edit = None if token.lastgroup == "skip" else self._spell(token)
            if edit is not None:
                edits = tuple(self._in_pieces(token, edit))
                yield Claim(edit.start, edit.end, edits, "number", Strength.NUMBER)

    def _say_alone(self, token: re.Match[str]) -> str:
        """Say a number that other numbers, marks or line ends stand beside; "" if it is not understood."""
        chain = token.group()
        if chain.isdecimal():
            return say_plain(self._written, Numeral(to_ascii(chain), is_plain=True))
        edit = None if token.lastgroup == "skip" else self._spell(token)
        return "" if edit is None else edit.replacement

    def _in_pieces(self, token: re.Match[str], edit: Edit) -> Iterator[Edit]:
        """Make an edit of each digit, or number of a list, where there are many: the text may be cut between them."""
        start, end = token.span("chain") if token.group("chain") else (0, 0)
        places = [place for place in range(start, end) if self._text[place].isdecimal()]
        if len(places) <= MAX_DIGITS:
            yield edit
            return
        names = [self._speller.digits(to_ascii(self._text[place])) for place in places]
        separator = next((place for place in range(end - 1, start, -1) if not self._text[place].isdecimal()), start)
        # What is spelled so is a whole code, or the fraction of a number.
        for first in (0, bisect_right(places, separator)):
            before, spelled, after = edit.replacement.rpartition(" ".join(names[first:]))
            if spelled and len(names) - first > 1:
                stops = [place + 1 for place in places[first:-1]]
                yield from share_out(edit, stops, names[first:], before, after, " ")
                return
        items = edit.replacement.split(", ")
        stops = [place for place in range(start, end) if self._text[place] == ","]
        if len(items) == len(stops) + 1 > 1:
            yield from share_out(edit, stops, items, "", "", ", ")
        else:
            yield edit

    def _spell(self, token: re.Match[str]) -> Edit | None:
        if not self._is_free(token):
            return None
        chain = to_ascii(token.group("chain"))
        number = self._written.read_numeral(chain)
        if self._is_death(token):
            return None
        if self._goes_on(chain, token.end()):
            return self._replace(token, self._list(chain))
        if number is None:
            is_list = (
                self._written.numerals.has_decimal_point and _COMMA_LIST.fullmatch(chain) and not token.group("sign")
            )
            return self._replace(token, self._list(chain) if is_list else None)
        ordinals = self._grammar.ordinals_with_point
        if ordinals and not token.group("sign") and self._text[token.end() : token.end() + 1] == ".":
            return self._before_point(token, number, ordinals)
        words = self._words(token, number)
        sign = {"": "", "+": self._grammar.plus + " "}.get(token.group("sign") or "", self._grammar.minus + " ")
        return self._replace(token, sign + words if words else None)

    def _replace(self, token: re.Match[str], words: str | None) -> Edit | None:
        if words is None:
            return None
        # "un'amica" has no space.
        return Edit(token.start(), token.end() + words.endswith("'"), words)

    def _is_death(self, token: re.Match[str]) -> bool:
        """Tell whether a sign before a year is the dash of a life, "(-1994)"."""
        chain = token.group("chain")
        is_year = token.group("sign") and len(chain) == 4 and chain.isdecimal() and chain[0] in "12"
        around = self._text[token.start() - 1 : token.start()] + self._text[token.end() : token.end() + 1]
        return bool(is_year) and around == "()"

    def _goes_on(self, chain: str, end: int) -> bool:
        """Tell whether "1,2 ou 3" counts on, so that its comma is that of a list."""
        if len(chain) != 3 or chain[1] != "," or not self._text.startswith(" ", end):
            return False
        after = _NEXT_OF_LIST.match(self._text, end)
        return after is not None and ord(chain[0]) + 2 == ord(chain[2]) + 1 == ord(to_ascii(after.group(1)))

    # What stands around a number ------------------------------------------------------------------

    def _is_free(self, token: re.Match[str]) -> bool:
        """Tell whether a number stands for itself and is not part of a word, an address or a formula."""
        return self._is_free_before(token) and self._is_free_after(token.end())

    def _is_rest_of_scale(self, start: int) -> bool:
        """Tell whether a number is the rest of "1:25 000", which says nothing by itself."""
        return _SCALE_BEFORE.search(self._text, max(0, start - 5), start) is not None

    def _is_free_before(self, token: re.Match[str]) -> bool:
        start = token.start()
        before = self._text[start - 1] if start else " "
        if before.isspace():
            return not self._is_rest_of_scale(start)
        far = self._text[start - 2] if start > 1 else " "
        if token.group("sign") or before in "-–−":
            # "COVID-19" and "A–5" are names; a sign stands free, after a bracket or after a quote.
            return before in "([{«“„\"'‘:;,|—" or (before in "–—" and far.isspace())
        if before in "'’#@§№©":
            return far.isspace()
        if start and self._written.is_prefix(start - 1):
            return True
        return not (before.isalnum() or before in "_./\\&=^*×+$" or unicodedata.category(before) in _BOUND)

    def _is_free_after(self, end: int) -> bool:
        after, beyond = (self._text[end : end + 2] + "  ")[:2]
        if after.isalnum() or after in "_°℃℉′″" or unicodedata.category(after) in _BOUND:
            return False
        if after == " " and beyond in "°℃℉":
            return False
        if after in "-–" and beyond.isdigit():
            return False  # The rest of a range that is not understood.
        if after == "." and self._language == "de" and beyond in "-–":
            return False
        return not (after in ".@/\\:=<>*^×+" and beyond.isalnum())

    # What a number says ---------------------------------------------------------------------------

    def _words(self, token: re.Match[str], number: Numeral) -> str | None:
        is_signed = bool(token.group("sign"))
        is_counting = self._counts(token.start(), noun_after(self._written, token.end()))
        if self._language == "de":
            is_counting = is_counting or self._is_labelled(token.start())
        if self._is_old_year(token, number, is_counting=is_counting):
            return self._speller.year(int(number.whole))
        words = say_plain(self._written, number, is_signed=is_signed, is_counting=is_counting)
        if number.fraction is not None:
            if len(number.fraction) == 2 and self._is_labelled(token.start()):
                # "Section 6.10" goes up to ten; others are said digit by digit.
                return self._section(number) or words
            return words
        if is_signed or number.is_code:
            return words
        return before_noun(self._written, words, token.start(), token.end(), is_one=number.whole == "1")

    def _counts(self, start: int, noun: str) -> bool:
        """Tell whether a number of four digits counts what follows: "1428 people", but "in 1984 people"."""
        words = self._written.data.nouns
        if words is None or not words.counted or self._written.word_before(start) in words.before_years:
            return False
        return bool(re.fullmatch(words.counted, noun))

    def _is_old_year(self, token: re.Match[str], number: Numeral, *, is_counting: bool) -> bool:
        """Tell whether an English number below 1100 is a year: "in 1066", "(1066)"."""
        if self._language != "en" or not number.is_plain or is_counting or token.group("sign"):
            return False
        years, start, end = self._written.data.years, token.start(), token.end()
        if years is None or len(number.whole) != 4 or not 1010 <= int(number.whole) < 1100:
            return False
        around = self._text[start - 1 : start] + self._text[end : end + 1]
        # "in 1066 cases" counts something.
        is_followed = noun_after(self._written, end)
        known = self._written.data.recognition
        is_noun = bool(is_followed) and not (known and is_followed.lower() in known.stop_words)
        return around == "()" or (self._written.word_before(start) in years.cues | {"year"} and not is_noun)

    def _is_labelled(self, start: int) -> bool:
        """Tell whether the word before a number is named by it: "Section 6.10", "Nr. 1292"."""
        dates, roman = self._written.data.dates, self._written.data.roman
        before = self._written.word_before(start).rstrip(".")
        if dates is not None and before in dates.not_after:
            return True
        return roman is not None and before in roman.cardinals_after

    def _section(self, number: Numeral) -> str | None:
        if number.fraction is None or number.fraction[0] == "0" or number.is_code or number.point != ".":
            return None
        point = self._grammar.decimal_words["."]
        return (
            f"{self._speller.cardinal(int(number.whole or 0))} {point} {self._speller.cardinal(int(number.fraction))}"
        )

    def _list(self, chain: str) -> str | None:
        numbers = [Numeral(part, is_plain=True) for part in chain.split(",")]
        if any(len(number.whole) > MAX_DIGITS for number in numbers):
            return None
        return ", ".join(say_plain(self._written, number) for number in numbers)

    # German ---------------------------------------------------------------------------------------

    def _before_point(self, token: re.Match[str], number: Numeral, ordinals: PointOrdinals) -> Edit | None:
        """Read a German number before a point, unless it may be a date or an ordinal whose ending is not known."""
        start, end = token.span()
        following = _AFTER_POINT.match(self._text, end)
        if number.fraction is not None and number.point == "." and len(number.whole + number.fraction) <= 4:
            return None  # A date such as 24.12.
        if following is None or not is_small(number):
            return self._replace(token, self._words(token, number))
        if following.group(2):
            return None  # A date such as 24. 12.
        far, near = words_before(self._text, start)
        if german_ending(far, near, following.group(1), ordinals) is None:
            is_end = following.group(1)[0].isupper() and near
            return self._replace(token, self._words(token, number)) if is_end else None
        return None
