"""Finding numbers in a text and writing them out: integers, decimals, money, percentages, ordinals.

Reads the thousands and decimal separators of the language. What it does not recognise with certainty,
such as dates, times, versions, addresses and digits inside of words, stays as it is. `spelling.py` has
the words.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator

from voxtral.text.edits import Edit, share_out
from voxtral.text.language_data import Grammar, PointOrdinals
from voxtral.text.reading.claims import Claim, Strength
from voxtral.text.reading.numerals import NO_BREAK, Numeral, read_numeral, to_ascii
from voxtral.text.reading.written import Written
from voxtral.text.spelling import MAX_DIGITS

# Marks are no word characters for `re`, and in Hindi they are most of a word's ending.
_INDIC_MARKS = "\u0900-\u0903\u093a-\u094f"
# Two currency signs may differ only in the letters before the dollar; others, such as "C$", are not ours.
_CURRENCY_SIGN = r"(?:(?:US|R)?\$|[€£¥₹])"
_RANGE = re.compile(r"(\d[\d.,]*)[-–−](\d[\d.,]*)")
_COMMA_LIST = re.compile(r"\d+(?:,\d+)+")

_AFTER_POINT = re.compile(r"\.\s(?:([^\W\d_]+)|(\d))")
_LAST_WORDS = re.compile(r"(?:(\w+)[ \u00a0])?(\w+)[ \u00a0]$")


def number_claims(written: Written) -> Iterator[Claim]:
    """Claim the numbers of a text; none where they stay digits, as in Japanese."""
    if written.has_number_words:
        yield from _Finder(written).claims()


class _Finder:
    """Finds the numbers of one text."""

    def __init__(self, written: Written) -> None:
        self._text = written.text
        self._language = written.language
        self._speller = written.speller
        self._grammar = written.grammar
        self._pattern = _token_pattern(self._grammar)

    def claims(self) -> Iterator[Claim]:
        """Claim each number that is understood."""
        for token in self._pattern.finditer(self._text):
            edit = None if token.lastgroup == "skip" else self._spell(token)
            if edit is not None:
                edits = tuple(self._in_pieces(token, edit))
                yield Claim(edit.start, edit.end, edits, "number", Strength.NUMBER)

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
        signed = bool(token.group("sign"))
        span = _RANGE.fullmatch(chain)
        if span and not signed:
            return self._replace(token, self._range(token, *span.groups()))
        number = read_numeral(chain, self._grammar)
        if number is None:
            listed = _COMMA_LIST.fullmatch(chain) if self._grammar.has_decimal_point else None
            return self._replace(token, self._list(chain) if listed and not _has_affix(token) else None)
        ordinals = self._grammar.ordinals_with_point
        if ordinals and not _has_affix(token) and self._text[token.end() : token.end() + 1] == ".":
            return self._before_point(token, number, ordinals)
        words = self._words(token, number)
        sign = {"": "", "+": self._grammar.plus + " "}.get(token.group("sign") or "", self._grammar.minus + " ")
        return self._replace(token, sign + words if words else None)

    def _replace(self, token: re.Match[str], words: str | None) -> Edit | None:
        return None if words is None else Edit(token.start(), token.end(), words)

    # What stands around a number ------------------------------------------------------------------

    def _is_free(self, token: re.Match[str]) -> bool:
        """Tell whether a number stands for itself and is not part of a word, an address or a formula."""
        return self._is_free_before(token) and self._is_free_after(token.end())

    def _is_free_before(self, token: re.Match[str]) -> bool:
        start = token.start()
        before = self._text[start - 1] if start else " "
        if before.isspace():
            return True
        far = self._text[start - 2] if start > 1 else " "
        if token.group("sign") or before in "-–−":
            # "COVID-19" and "A–5" are names; a sign stands free, after a bracket or after a quote.
            return before in "([{«“„\"'‘:;,|—" or (before in "–—" and far.isspace())
        if before in "'’":
            return far.isspace()
        return not (before.isalnum() or before in "_./\\@#&=^*×+$" or unicodedata.category(before) in _BOUND)

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
        before, after, scale = token.group("before"), token.group("after"), token.group("scale")
        if (before and after) or (token.group("ordinal") and _has_value_affix(token)):
            return None
        if before or after:
            return self._money(before or after, number, scale)
        if token.group("ordinal"):
            return self._ordinal(number, token.group("ordinal"))
        words = self._plain(number, is_signed=bool(token.group("sign")))
        if token.group("percent"):
            if not number.is_code and number.fraction is None and self._language == "de":
                words = self._speller.before_noun(words)
            return f"{words} {self._grammar.percent}"
        if scale:
            if self._speller.agrees(words):
                return None
            return words + token.group()[token.end("chain") - token.start() :]
        # "1 casa" is "una casa": without the gender of the next word the digit is the better choice.
        if self._speller.agrees(words) and re.compile(r"[ \u00a0][^\W\d_]").match(self._text, token.end()):
            return None
        return words

    def _plain(self, number: Numeral, *, is_signed: bool = False) -> str:
        if number.is_code:
            return self._speller.digits(number.whole)
        is_year = number.is_plain and len(number.whole) == 4 and not is_signed
        if is_year and self._grammar.years and int(number.whole) in self._grammar.years:
            return self._speller.year(int(number.whole))
        return self._speller.number(number.whole, number.fraction, number.point)

    def _money(self, sign: str, number: Numeral, scale: str | None) -> str | None:
        currency = self._grammar.currencies.get(sign.removeprefix("US"))
        if currency is None or number.is_code:
            return None
        if scale:
            words = self._speller.number(number.whole, number.fraction, number.point)
            if self._speller.agrees(words):
                return None
            return f"{words} {scale}{self._speller.scale_link(scale, currency.unit.many)}{currency.unit.many}"
        return self._speller.amount(currency, number.whole, number.fraction, number.point)

    def _ordinal(self, number: Numeral, suffix: str) -> str | None:
        if number.fraction is not None or number.is_code or not 0 < int(number.whole) <= self._grammar.largest_ordinal:
            return None
        words = self._speller.ordinal(int(number.whole))
        if self._language == "fr":
            return _french_ordinal(words, suffix)
        if suffix.endswith("ª"):
            words = re.sub(r"o\b", "a", words)
        return words

    def _range(self, token: re.Match[str], first: str, last: str) -> str | None:
        """Spell "10-20" as a range; what does not grow, such as a score or a model number, is none."""
        low, high = read_numeral(first, self._grammar), read_numeral(last, self._grammar)
        if low is None or high is None or low.is_code or high.is_code or token.group("ordinal"):
            return None
        if len(low.fraction or "") > MAX_DIGITS:
            return None
        if float(f"{low.whole}.{low.fraction or 0}") >= float(f"{high.whole}.{high.fraction or 0}"):
            return None
        if _has_affix(token):
            start = self._speller.number(low.whole, low.fraction, low.point)
            end = self._words(token, high)
        else:
            start, end = self._plain(low), self._plain(high)
        return None if end is None else f"{start} {self._grammar.until} {end}"

    def _list(self, chain: str) -> str | None:
        numbers = [Numeral(part) for part in chain.split(",")]
        if any(len(number.whole) > MAX_DIGITS for number in numbers):
            return None
        return ", ".join(self._plain(number) for number in numbers)

    # German ---------------------------------------------------------------------------------------

    def _before_point(self, token: re.Match[str], number: Numeral, ordinals: PointOrdinals) -> Edit | None:
        """Decide what the point after a German number is: "am 3. Mai" has an ordinal, "um 3. Dann" an end."""
        start, end = token.span()
        following = _AFTER_POINT.match(self._text, end)
        is_small = number.is_plain and len(number.whole) <= 3 and not number.is_code and number.whole != "0"
        if number.fraction is not None and number.point == "." and len(number.whole + number.fraction) <= 4:
            return None  # A date such as 24.12.
        if following is None or not is_small:
            return self._replace(token, self._words(token, number))
        if following.group(2):
            return None  # A date such as 24. 12.
        last_words = _LAST_WORDS.search(self._text[max(0, start - 40) : start])
        far, near = (word.lower() if word else "" for word in (last_words.groups() if last_words else ("", "")))
        ending = _german_ending(far, near, following.group(1), ordinals)
        if ending is None:
            is_end = following.group(1)[0].isupper() and near
            return self._replace(token, self._words(token, number)) if is_end else None
        return Edit(start, end + 1, self._speller.ordinal(int(number.whole)) + ending)


# Categories that tie a digit to its neighbour: marks, currency signs that are not read here, other numerals.
_BOUND = frozenset({"Mn", "Mc", "Me", "Sc", "No", "Nl"})


def _token_pattern(grammar: Grammar) -> re.Pattern[str]:
    """Build the pattern of whatever has digits; each alternative starts with a fixed character or a digit."""
    spaces = NO_BREAK + (" " if grammar.written == "1 234,56" else "")
    large = [*grammar.large_numbers, *(grammar.linked_numbers.words if grammar.linked_numbers else ())]
    scales = "|".join(sorted(large, key=len, reverse=True))
    suffixes = "|".join(map(re.escape, grammar.ordinal_suffixes))
    ordinal = rf"(?:{suffixes})\b" if suffixes else r"(?!)"
    return re.compile(
        rf"""
          (?P<skip>(?:https?|ftp)://\S+|www\.\S+)
        | (?P<sign>[-−+])?
          (?:(?P<before>{_CURRENCY_SIGN})[ {NO_BREAK}]?)?
          (?P<chain>
              \d{{1,3}}(?:[{spaces}]\d{{3}})+(?!\d)(?:[.,]\d+)?
            | \d+(?:[.,:/'’٫٬_^*=×<>+\-–−]\d+)*
          )
          (?:(?P<ordinal>{ordinal}))?
          (?:[ {NO_BREAK}](?P<scale>{scales})(?![\w{_INDIC_MARKS}]))?
          (?:[ {NO_BREAK}]?(?:(?P<percent>[%٪])|(?P<after>{_CURRENCY_SIGN})(?![\w$]|[ {NO_BREAK}]\d)))?
        """,
        re.VERBOSE,
    )


def _has_affix(token: re.Match[str]) -> bool:
    return bool(token.group("ordinal")) or _has_value_affix(token)


def _has_value_affix(token: re.Match[str]) -> bool:
    return any(token.group(name) for name in ("sign", "before", "after", "percent", "scale"))


def _french_ordinal(words: str, suffix: str) -> str | None:
    if words == "premier":
        return {"er": "premier", "ers": "premiers"}.get(suffix, "première" if suffix in {"re", "ère"} else None)
    if suffix.startswith("nd"):
        return "second" + suffix[2:] if words == "deuxième" else None
    return words if suffix in {"e", "ème", "eme"} else words + "s" if suffix in {"es", "èmes", "emes"} else None


def _german_ending(far: str, near: str, following: str, ordinals: PointOrdinals) -> str | None:
    """Choose the ending of a German ordinal by the words around it; None if it is none.

    Args:
        far: the word before `near`, in lower case.
        near: the word before the number, in lower case.
        following: the word after the number.
        ordinals: the words that tell.
    """
    if near in ordinals.n_after or (near in ordinals.articles and far in ordinals.prepositions):
        return "n"
    if near in ordinals.articles:
        return ""
    return "r" if following.lower() in ordinals.months else None
