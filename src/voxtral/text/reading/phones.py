"""Telephone numbers, and other numbers that nobody counts with: cards, accounts, PINs, postal codes with their word.

All are said digit by digit, with a comma between the groups as they are written. A telephone number is one by its form
(a plan that no quantity is written in), or by a word beside it (`cues` of the `[phones]` table). Dates, years, ranges,
and thousands that are grouped are none.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise

from voxtral.text.language_data import load_language
from voxtral.text.reading.claims import Claim, Strength
from voxtral.text.reading.numerals import to_ascii
from voxtral.text.reading.patterns import any_of
from voxtral.text.reading.phone_plans import (
    CARDS,
    CLEAR,
    CLEAR_IN,
    HYPHEN,
    LIKELY,
    PLUS,
    SPACE,
    any_of_plans,
    compiled,
    may_be_plan,
)
from voxtral.text.reading.spelled import Piece, claim_pieces, say_digits, say_number, say_word
from voxtral.text.reading.written import Written
from voxtral.text.tables.phones import PhoneWords

_MIN_DIGITS, _MAX_DIGITS = 7, 15
# Groups of digits with what telephone numbers have between them; possessive, so that there is one way to match.
_RUN = (
    rf"[({PLUS}]{{0,2}}+\d{{1,17}}+\)?+"
    rf"(?:(?:[{SPACE}./{HYPHEN}]{{1,3}}+\(?+|\(|(?<=\)))\d{{1,17}}+\)?+){{0,7}}+"
)
_CANDIDATE = re.compile(rf"(?<![\w.,:/@#_$€£¥₹{PLUS}])(?<![^\W\d_][{HYPHEN}]){_RUN}")
# Japanese has no spaces between words.
_JAPANESE_CANDIDATE = re.compile(rf"(?<![A-Za-z\d.,:/@#_$€£¥₹{PLUS}])(?<![A-Za-z][{HYPHEN}]){_RUN}")
_COUNTED_IN_JAPANESE = re.compile(r"[A-Za-z\d_@%]|[.,:/\-][\d]|[ 　]?[円年月日時分秒人個本枚台回件名歳万億千百%]")
_GROUP = re.compile(r"\d+")
_GOES_ON = re.compile(rf"[{SPACE}]\d")

_DATE = re.compile(
    rf"\d{{1,2}}([./{HYPHEN} ])\d{{1,2}}\1(?:\d{{2}}|\d{{4}})|\d{{4}}([./{HYPHEN}])\d{{1,2}}\2\d{{1,2}}"
    rf"|(?:1[1-9]|20)\d\d[{SPACE}]?[{HYPHEN}][{SPACE}]?(?:1[1-9]|20)\d\d"
)
_THOUSANDS = re.compile(rf"\d{{1,2}}(?:[{SPACE}]\d{{3}})+|\d{{1,3}}(?:\.\d{{3}})+|[\d .]*[{SPACE}.]000")
_SIGN_AFTER = re.compile(rf"[{SPACE}]?[%‰€$£¥₹°]")
_WORD = re.compile(r"[^\s,;:=()\[\]!?«»„“”\"。、・]+")
_MARK = re.compile(r"[:=#＃：№]")
_NEAR, _NEAR_IN_JAPANESE = 60, (16, 26)
# No number that is told digit by digit is shorter.
_FEWEST_SIGNS = 3
_VANITY = re.compile(
    r"(?<![\w.-])(?:(?P<trunk>[01])[-. ])?(?P<free>0?8(?:00|88|77|66|55|44|33))[-. ]"
    r"(?=[A-Z0-9-]{4,15}+(?![\w-]))(?=[0-9-]{0,4}[A-Z-]{3})(?P<name>[A-Z0-9]{1,12}+(?:-[A-Z0-9]{1,12}+){0,4}+)(?!\w)"
)


def phone_claims(written: Written) -> Iterator[Claim]:
    """Claim telephone numbers, and the codes that are read like them."""
    words = written.data.phones
    if words is not None:
        yield from _Phones(written, words).claims()


@cache
def _cue_pattern(language: str) -> re.Pattern[str]:
    """Build the pattern of all words that tell; in Japanese wherever they stand in others."""
    words = load_language(language).phones
    cues = words.cues | words.labels | words.codes if words else frozenset[str]()
    pattern = any_of(cues | {cue.replace("ss", "ß") for cue in cues})
    return re.compile(pattern if language == "ja" else rf"(?<![^\W\d_]){pattern}(?![^\W\d_])")


def _cue_places(text: str, language: str) -> list[int] | None:
    """List where there may be a word that tells; None where folding the case of the text moves what follows."""
    folded = text.casefold()
    if len(folded) != len(text):
        folded = "".join(each if each == "ß" else each.casefold() for each in text)
        if len(folded) != len(text):
            return None
    return [found.start() for found in _cue_pattern(language).finditer(folded)]


@dataclass(frozen=True)
class _Cue:
    """What the words before a number say of it.

    Attributes:
        is_phone: one of the last few words is of telephones.
        is_label: the last word is the name of a telephone, or of a code; links between do not count.
        is_code: that name is of a code.
        is_marked: a colon, a point or such a link stands between.
        is_near: nothing but links stands between.
    """

    is_phone: bool = False
    is_label: bool = False
    is_code: bool = False
    is_marked: bool = False
    is_near: bool = False


_NO_CUE = _Cue()
_LETTER = re.compile(r"[^\W\d_]")


class _Phones:
    """Finds the telephone numbers of one text."""

    def __init__(self, written: Written, words: PhoneWords) -> None:
        self._written = written
        self._text = written.text
        self._words = words
        self._clear = compiled(CLEAR + CLEAR_IN.get(written.language, ()))
        self._likely = compiled(LIKELY)
        self._cards = compiled(CARDS)
        self._any_plan = any_of_plans(self._cards + self._clear)
        self._may_be_plan = may_be_plan(written.language)
        self._extension = _extension_pattern(words.extensions)
        self._pause = {"ja": "、", "ar": "،"}.get(written.language, ",")
        self._looks_behind = written.language in {"hi", "de", "ja"}
        self._told = _cue_places(written.text, written.language)

    def claims(self) -> Iterator[Claim]:
        """Claim what is a telephone number or a code."""
        for vanity in _VANITY.finditer(self._text):
            yield self._claim_vanity(vanity)
        if not self._written.has_digits:
            return
        pattern = _JAPANESE_CANDIDATE if self._written.language == "ja" else _CANDIDATE
        last_end = -2
        for candidate in pattern.finditer(self._written.shape):
            (start, end), shape = candidate.span(), candidate.group()
            # More groups in a row than any number has are a list; its end is one, too.
            is_list = start <= last_end + 1 or _GOES_ON.match(self._text, end) is not None
            last_end = end if is_list else -2
            if end - start < _FEWEST_SIGNS:
                continue
            is_plan = self._may_be_plan[shape] and not (is_list and "+" not in shape and "(" not in shape)
            if is_plan or self._may_be_told(start, end):
                yield from self._claims_in(start, end)

    def _may_be_told(self, start: int, end: int) -> bool:
        """Tell whether there are words near a number that may say what it is."""
        if self._told is None:
            return True
        before, behind = _NEAR_IN_JAPANESE if self._written.language == "ja" else (_NEAR, _NEAR)
        place = bisect_left(self._told, start - before)
        return place < len(self._told) and self._told[place] < (end + behind if self._looks_behind else start)

    def _claims_in(self, start: int, end: int) -> Iterator[Claim]:
        is_told = self._may_be_told(start, end)
        if not is_told and self._any_plan.search(self._text, start, end) is None:
            return
        groups = list(_GROUP.finditer(self._text, start, end))
        if all(len(group.group()) == 1 for group in groups):
            return
        first = 0
        rest = sum(len(group.group()) for group in groups)
        while first < len(groups):
            # A bracket or plus before the group belongs to it.
            begin = groups[first].start()
            while begin > start and self._text[begin - 1] in "(+\uff0b":
                begin -= 1
            if rest < 3:
                return
            stop, kind = self._end_of_number(begin, end, groups[first:], rest, is_told=is_told)
            if not stop:
                rest -= len(groups[first].group())
                first += 1
                continue
            yield self._claim(begin, stop, kind)
            while first < len(groups) and groups[first].start() < stop:
                rest -= len(groups[first].group())
                first += 1

    def _end_of_number(
        self, begin: int, end: int, groups: list[re.Match[str]], num_digits: int, *, is_told: bool
    ) -> tuple[int, str]:
        """Find where the number that begins at a place ends, and what it is; 0 where there is none.

        Args:
            begin: the place.
            end: where the last group ends.
            groups: of digits, from the place on.
            num_digits: of all groups together.
            is_told: words near may say what the number is.
        """
        if num_digits >= _MIN_DIGITS and self._any_plan.match(self._text, begin, end):
            if stop := self._longest(self._cards, begin, end):
                return stop, "card"
            if stop := self._longest(self._clear, begin, end):
                return stop, "phone"
        if not is_told:
            return 0, ""
        cue = self._cue_before(begin)
        if not (cue.is_phone or cue.is_label):
            return 0, ""
        if cue.is_code:
            return self._end_of_code(cue, begin, end, groups), "code"
        if num_digits < _MIN_DIGITS:
            return self._end_of_short(cue, groups), "phone"
        stop = self._longest(self._likely, begin, end) or self._whole(begin, groups)
        return stop, "phone"

    def _longest(self, plans: tuple[re.Pattern[str], ...], begin: int, end: int) -> int:
        """Find the longest match of some plans, as a number of 7 to 15 digits (cards: more) that stands apart."""
        best = 0
        if any_of_plans(plans).match(self._text, begin, end) is None:
            return 0
        for plan in plans:
            found = plan.match(self._text, begin, end)
            if found and found.end() > best and self._is_number(found, plan):
                best = found.end()
        return best

    def _is_number(self, found: re.Match[str], plan: re.Pattern[str]) -> bool:
        written = to_ascii(found.group())
        num_digits = sum(map(str.isdecimal, written))
        longest = 19 if plan in self._cards else _MAX_DIGITS
        if not _MIN_DIGITS <= num_digits <= longest or not self._stands_apart(found.end()):
            return False
        if _DATE.fullmatch(written):
            return False
        groups = _GROUP.findall(written)
        if written[0] in "(0" and all(len(group) <= 2 for group in groups) and len(groups) != 5:
            return False  # Small numbers in a row, such as drawn lots.
        is_signed = written[0] in "+(0"
        return not (_THOUSANDS.fullmatch(written.lstrip("+(")) and (not is_signed or written.endswith("000")))

    def _stands_apart(self, end: int) -> bool:
        if self._written.language == "ja":
            return _COUNTED_IN_JAPANESE.match(self._text, end) is None
        return self._written.ends_apart(end) and _SIGN_AFTER.match(self._text, end) is None

    def _whole(self, begin: int, groups: list[re.Match[str]]) -> int:
        """Take as many groups as a telephone number can have, after a word that says it is one."""
        count, stop = 0, 0
        for group in groups:
            count += len(group.group())
            if count > _MAX_DIGITS:
                break
            stop = group.end()
        written = to_ascii(self._text[begin:stop])
        num_digits = sum(map(str.isdecimal, written))
        if num_digits < _MIN_DIGITS or not self._stands_apart(stop):
            return 0
        return 0 if _DATE.fullmatch(written) or _THOUSANDS.fullmatch(written) or "." in written else stop

    def _end_of_short(self, cue: _Cue, groups: list[re.Match[str]]) -> int:
        """Judge a number of a few digits: an emergency number, or an extension after the name of a telephone."""
        if len(groups) != 1 or not self._stands_apart(groups[0].end()):
            return 0
        digits = to_ascii(groups[0].group())
        is_number = cue.is_label and (len(digits) >= 5 or (cue.is_marked and len(digits) >= 3))
        is_number = is_number or (cue.is_near and digits in self._words.short_numbers)
        return groups[0].end() if is_number else 0

    def _end_of_code(self, cue: _Cue, begin: int, end: int, groups: list[re.Match[str]]) -> int:
        stop = groups[0].end()
        # Groups with hyphens are one code; after a space a quantity may follow, unless all groups are long enough.
        for group, following in pairwise(groups):
            between = self._text[group.end() : following.start()].strip("()")
            is_joined = between in {"-", "\u2010", "\u2011"}
            is_spaced = between.strip(SPACE) == "" and len(group.group()) >= 2 and len(following.group()) >= 2
            if not (is_joined or is_spaced):
                break
            stop = following.end()
        num_digits = sum(map(str.isdecimal, self._text[begin:stop]))
        if num_digits < 3 or _DATE.fullmatch(to_ascii(self._text[begin:stop])):
            return 0
        if check := re.compile(r"[- ]?X(?!\w)").match(self._text, stop):
            stop = check.end()
        if not self._stands_apart(stop):
            return 0
        # "auf dem Konto 500 Euro", "code 404 means" are quantities or names as soon as a word follows.
        following = self._text[stop : stop + 2].strip(SPACE)
        is_sure = cue.is_marked or num_digits >= 5 or not following[:1].isalpha()
        return stop if is_sure or cue.is_phone else 0

    # What stands before ---------------------------------------------------------------------------

    def _cue_before(self, begin: int) -> _Cue:
        before = self._text[max(0, begin - _NEAR) : begin].rpartition("\n")[2]
        if not _LETTER.search(before) and self._written.language not in {"hi", "de", "ja"}:
            return _NO_CUE if _MARK.search(before[-3:]) is None else _Cue(is_marked=True, is_near=False)
        if self._written.language == "ja":
            return self._japanese_cue(before.casefold(), self._text[begin : begin + _NEAR].partition("\n")[0])
        is_label = is_code = is_phone = False
        is_marked = _MARK.search(before[-3:]) is not None
        is_near = True
        has_near_cue = False
        found = [word.group().casefold() for word in _WORD.finditer(before)]
        for distance, word in enumerate(reversed(found[-6:])):
            bare = word.rstrip(".").lstrip("'’-–+")
            bare = bare.rpartition("'")[2].rpartition("’")[2]
            if is_near and (bare in self._words.codes or word in self._words.codes):
                is_label = is_code = True
                is_phone = is_phone or bare in _SHORT_CODES
                break
            if word in self._words.cues or bare in self._words.cues:
                is_label = is_label or (is_near and (bare in self._words.labels or word in self._words.labels))
                is_marked = is_marked or (is_near and word.endswith("."))
                is_phone = True
                has_near_cue = has_near_cue or is_near
                if bare not in self._words.links:
                    break
            if word in self._words.links or bare in self._words.links:
                is_marked = is_marked or is_near
                continue
            is_near = False
            if word.endswith(".") or distance >= 4:
                break
        if not is_phone and self._written.language in {"hi", "de"}:
            after = self._text[begin : begin + _NEAR].partition("\n")[0]
            near = [word.group().casefold().strip(".।") for word in _WORD.finditer(after)]
            near = [word for word in near if not any(map(str.isdecimal, word))]
            is_phone = any(word in self._words.cues for word in near[:4])
        return _Cue(is_phone, is_label, is_code, is_marked, has_near_cue)

    def _japanese_cue(self, before: str, after: str) -> _Cue:
        near = before[-14:]
        for code in self._words.codes:
            # "Pin-Priority が 990" and 「コードページ 850」 are other words.
            if _JAPANESE_LINK.fullmatch(near.rpartition(code)[2]) and code in near:
                return _Cue(is_label=True, is_code=True, is_marked=True)
        is_phone = any(cue in near or cue in after[:24].casefold() for cue in self._words.cues)
        is_label = any(label in near for label in self._words.labels)
        return _Cue(is_phone, is_label, False, is_marked=True, is_near=is_label)

    # What is said ---------------------------------------------------------------------------------

    def _claim(self, begin: int, stop: int, kind: str) -> Claim:
        if self._text[begin] == "(":
            closing = self._text.find(")", begin, stop)
            # A bracket around the whole is not part of it.
            if closing < 0 or closing == stop - 1:
                begin += 1
        while self._text[stop - 1] == ")" and self._text.count("(", begin, stop) < self._text.count(")", begin, stop):
            stop -= 1
        pieces: list[Piece] = []
        plus = re.compile(f"[{PLUS}]").search(self._text, begin, begin + 2)
        if plus:
            pieces.append(Piece(begin, plus.end(), self._plus()))
        groups = list(_GROUP.finditer(self._text, begin, stop))
        extension = self._extension.match(self._text, stop) if kind == "phone" else None
        for index, group in enumerate(groups):
            pause = self._pause if index + 1 < len(groups) or extension else ""
            # The edit of the first group covers a bracket before it.
            start = begin if not pieces else group.start()
            pieces.append(Piece(start, group.end(), say_digits(self._written, group.group()) + pause))
        last = stop
        if extension and self._written.ends_apart(extension.end()):
            number = f"{self._words.extension} {say_digits(self._written, extension.group('number'))}"
            pieces.append(Piece(extension.start(), extension.end(), number))
            last = extension.end()
        elif extension:
            # What looked like one goes on.
            pieces[-1] = pieces[-1]._replace(spoken=pieces[-1].spoken.removesuffix(self._pause))
        if kind == "code" and self._text[stop - 1] == "X":
            pieces[-1] = pieces[-1]._replace(spoken=pieces[-1].spoken + " X")
        return claim_pieces(pieces, kind, Strength.COMPOSED, end=last)

    def _plus(self) -> str:
        spelled = self._written.data.spelled
        return spelled.signs["+"] if spelled else "+"

    def _claim_vanity(self, found: re.Match[str]) -> Claim:
        pieces: list[Piece] = []
        if found.group("trunk"):
            pieces.append(Piece(*found.span("trunk"), say_digits(self._written, found.group("trunk")) + self._pause))
        free = found.group("free")
        is_round = free == "800" and self._written.language == "en"
        said = say_number(self._written, free) if is_round else say_digits(self._written, free)
        pieces.append(Piece(*found.span("free"), said + self._pause))
        for run in re.compile(r"\d+|[A-Z]+").finditer(self._text, *found.span("name")):
            is_digits = run.group().isdecimal()
            said = say_digits(self._written, run.group()) if is_digits else self._say_name(run.group())
            pieces.append(Piece(*run.span(), said))
        return claim_pieces(pieces, "phone", Strength.COMPOSED)

    def _say_name(self, letters: str) -> str:
        # Such a name is a word, however short.
        return letters if len(letters) > 1 else say_word(self._written, letters)


_JAPANESE_LINK = re.compile(r"(?:番号|コード|ナンバー|は|が|の|を|で|:|：|「|『|（|\(|No\.?|[ \u3000#＃、])*")

# Codes that a word after them does not make a quantity.
_SHORT_CODES = frozenset(
    [
        "pin",
        "pins",
        "otp",
        "cvv",
        "cvc",
        "zip",
        "zipcode",
        "plz",
        "cap",
        "cep",
        "postcode",
        "pincode",
        "isbn",
        "issn",
        "पिन",
        "ओटीपी",
        "सीवीवी",
        "अंक",
    ]
)


@cache
def _extension_pattern(signs: tuple[str, ...]) -> re.Pattern[str]:
    names = "|".join(re.escape(sign) for sign in sorted(signs, key=len, reverse=True))
    return re.compile(
        rf",?[{SPACE}]?(?:{names})\.?[{SPACE}]?(?:n[.º°]\s?)?:?[{SPACE}]?(?P<number>\d{{1,6}})(?!\d)", re.IGNORECASE
    )
