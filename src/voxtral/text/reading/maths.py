"""Arithmetic: "2+3", "x > 3", "2 x 8 = 16", "x²", "√9", and scores such as "3:2" beside a word that tells.

A chain of numbers and single letters with a sign of arithmetic between is claimed as a whole. A hyphen or a slash alone
makes no formula: "1-2" and "3/4" have other rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from heapq import merge

from voxtral.text.reading.amounts import SPACE, Amounts
from voxtral.text.reading.claims import Claim, Strength, claim
from voxtral.text.reading.numerals import numerals_of
from voxtral.text.reading.places import HERE, Filter, filter_by
from voxtral.text.reading.written import Written
from voxtral.text.tables.maths import MathsWords

# Between numbers or letters these are arithmetic for themselves; the others need one of these beside them.
_SURE = "+×÷=≠<>≤≥≈±*^"
_IS_SURE = re.compile(f"[{_SURE}]")
_WORDS_AROUND = re.compile(r"[^\W\d_]+")


@cache
def _pattern(language: str, region: str) -> re.Pattern[str]:
    number = numerals_of(language, region).pattern
    operand = rf"√?(?:(?<!\w){number}[a-zA-Zα-ω]?|(?<![\w'’])[a-zA-Zα-ωπ])[²³]?(?!\w)"
    # "12:30" is a time, "6 : 2" a division.
    operator = rf"(?:{SPACE}?[+\-−–×÷=≠<>≤≥≈±*/^xX]{SPACE}?|{SPACE}:{SPACE}|:(?=\d{{1,9}}{SPACE}?=))[-−]?"
    # A formula begins with a digit, a root or a letter that stands alone.
    return re.compile(rf"(?<![\w./:@#$&,;=%\\-]){operand}(?:{operator}{operand}){{1,12}}(?![\w²³])")


@cache
def _parts(language: str, region: str) -> re.Pattern[str]:
    number = numerals_of(language, region).pattern
    return re.compile(
        rf"(?P<number>{number})|(?P<letter>[a-zA-Zα-ω](?![a-zA-Z]))|(?P<power>[²³])|(?P<sign>[^\s\w²³])|\s+"
    )


def maths_claims(written: Written) -> Iterator[Claim]:
    """Claim formulas, powers, roots and scores."""
    words = written.data.maths
    if words is None:
        return
    yield from _scores(written, words)
    yield from _comparisons(written)
    pattern = _pattern(written.language, written.region)
    last_end = 0
    for start in _places(written) if _IS_SURE.search(written.text) else ():
        found = pattern.match(written.text, start) if start >= last_end else None
        if found is not None and _is_formula(written, found):
            spoken = _say(written, words, found.group())
            if spoken is not None:
                last_end = found.end()
                yield claim(start, found.end(), spoken, "maths")
    for found in _POWERS.finditer(written.text):
        if found.group()[-1] == "x" and not written.has_number_words:
            continue
        spoken = _say(written, words, found.group())
        if spoken is not None:
            yield claim(found.start(), found.end(), spoken, "maths")


# "√9", "x²", and "2x" as in "2x faster".
_POWERS = re.compile(
    r"(?<![\w./,-])(?:√\d{1,15}|(?:\d{1,15}|[a-zA-Z])[²³]|[1-9]\d{0,5}x|[1-9]\d?[.,]\d{1,3}x)(?![\w-])"
)
# A letter is a variable where a sign of arithmetic follows.
_LETTER = re.compile(r"(?<![\w'’])[a-zA-Zα-ω][²³]?[ ]?[+×÷=≠<>≤≥≈±*^\-−][ ]?[-−√\w]|√[\w]")


# What stands behind the first number of a formula.
_OPERATED = filter_by(rf"\d[a-zA-Zα-ω]?[²³]?{SPACE}?[+\-−–×÷=≠<>≤≥≈±*/^xX:]")


def _places(written: Written) -> Iterator[int]:
    letters = (found.start() for found in _LETTER.finditer(written.text))
    yield from merge(written.joined_starts(_OPERATED), letters)


def _is_formula(written: Written, found: re.Match[str]) -> bool:
    """Tell a formula from a keyboard shortcut, a score and a word with a hyphen."""
    source = found.group()
    token = written.text[max(0, found.start() - 200) : found.start()].rpartition(" ")[2]
    if not any(char in _SURE for char in source) or "://" in token or "www." in token:
        return False
    letters = re.findall(r"[a-zA-Z]", source.replace("x", "") if re.search(r"\d\s?x\s?\d", source) else source)
    # "A + B" and "C>D" are vitamins and menus as often as sums: letters alone need an equals sign.
    if not re.search(r"\d", source) and "=" not in source:
        # "o <o <o" is a drawing.
        if (len(set(letters)) == 1 and len(letters) > 1) or re.search(r"\s[<>]\S|\S[<>]\s", source):
            return False
        return len(letters) > 0 and all(letter.islower() for letter in letters) and written.has_number_words
    return True


def _say(written: Written, words: MathsWords, source: str) -> str | None:
    said: list[str] = []
    parts = list(_parts(written.language, written.region).finditer(source))
    is_operand_before = False
    for index, part in enumerate(parts):
        kind, text = part.lastgroup, part.group()
        # "2x3" and "2x" are multiplied, "2x + 1" has a variable.
        following = next((each.lastgroup for each in parts[index + 1 :] if each.lastgroup), "number")
        if kind == "number":
            numeral = written.read_numeral(text)
            if numeral is None or numeral.is_code:
                return None
            said.append(_number(written, numeral.whole, numeral.fraction, numeral.point))
        elif kind == "letter" and text in "xX" and is_operand_before and following != "sign":
            said.append(words.operators["×"])
            is_operand_before = False
            continue
        elif kind == "letter":
            said.append(text)
        elif kind == "power":
            said.append(words.powers[text])
        elif kind == "sign":
            sign = "-" if text in "−–" else text
            spoken = words.root if sign == "√" else words.operators.get(sign)
            if spoken is None:
                return None
            if sign == "-" and not is_operand_before and written.has_number_words:
                spoken = written.grammar.minus
            said.append(spoken)
        if kind is not None:
            is_operand_before = kind in {"number", "letter", "power"}
    return (" " if written.has_number_words else "").join(said)


# What `Amounts.sign_before` finds and this rule says.
_COMPARISON = re.compile("[±~≈<>≤≥]")
_COMPARED = Filter(lambda around: _COMPARISON.search(around, 0, around.index(HERE)) is not None)


def _number(written: Written, whole: str, fraction: str | None, point: str) -> str:
    if not written.has_number_words:
        return whole + (f".{fraction}" if fraction else "")
    return written.speller.say(whole, fraction, point)


def _comparisons(written: Written) -> Iterator[Claim]:
    """Say a sign before a number, "≥ 18", whatever reads the number."""
    if not _COMPARISON.search(written.text):
        return
    amounts = Amounts(written)
    for start in written.starts(_COMPARED):
        sign_start, sign = amounts.sign_before(start)
        if sign and sign not in "+-":
            said = amounts.sign_words(sign)
            yield claim(sign_start, start, said, "maths", Strength.NUMBER)


# Scores ---------------------------------------------------------------------------------------------

_SCORE = re.compile(r"(\d{1,3})(?: ?([-–:]) ?)(\d{1,3})(?![\w:/.,–-]?\d)(?!\w|:\d|%| ?=)")


_MAY_BE_SCORE = re.compile(r"\d ?[-–:] ?\d")
_SCORED = filter_by(_MAY_BE_SCORE.pattern)
# "2-0で勝利": what is won, lost or drawn by it stands behind.
_JAPANESE_SCORE = re.compile(
    r"(?<![\w/.,-])(\d{1,2})([-–−])(?=\d{1,2}(?:で|の)(?:勝|負|敗|引き?分|快勝|完封|完勝|圧勝|辛勝))"
)


def _scores(written: Written, words: MathsWords) -> Iterator[Claim]:
    if not written.has_number_words:
        for found in _JAPANESE_SCORE.finditer(written.text):
            yield claim(*found.span(2), words.score, "score")
        return
    if not _MAY_BE_SCORE.search(written.text):
        return
    text, cues = written.text, words.score_cues
    for start in written.starts(_SCORED):
        found = _SCORE.match(text, start)
        if found is None or not written.begins_apart(start):
            continue
        before = text[start - 1 : start] if start else ""
        first, sign, second = found.groups()
        if before in {"-", "–", "/", ".", ":", "+"} or _is_code(first) or _is_code(second):
            continue
        # "4:3" cannot be a time, but "Ezekiel 2:1" is a verse; other pairs need a word that tells.
        name = _WORDS_AROUND.findall(text[max(0, start - 30) : start])[-1:]
        is_ratio = (
            sign == ":"
            and " " not in found.group()
            and len(second) == 1
            and len(first) <= 2
            and not any(word[0].isupper() for word in name)
        )
        if is_ratio or _is_nil(text, found) or _has_cue(text, start, found.end(), cues):
            said = [written.speller.cardinal(int(each)) for each in (first, second)]
            yield claim(start, found.end(), f"{said[0]} {words.score} {said[1]}", "score")


def _is_nil(text: str, found: re.Match[str]) -> bool:
    """Tell whether "2-0" goes down to nothing, as no range does, or "0-2" stands between two names."""
    first, sign, second = found.groups()
    if sign not in "-–" or len(first + second) != 2 or " " in found.group() or "0" not in first + second:
        return False
    start, end = found.span()
    names = text[max(0, start - 20) : start].split(" ")[-2:-1] + text[end : end + 20].split(" ")[1:2]
    if text[start - 1 : start] == " " and text[end : end + 1] == " " and len(names) == 2:
        return all(name[:1].isupper() and name[1:2].islower() for name in names)
    return False


def _is_code(digits: str) -> bool:
    return len(digits) > 1 and digits[0] == "0"


def _has_cue(text: str, start: int, end: int, cues: frozenset[str]) -> bool:
    """Tell whether one of the three words before or the next behind speaks of a game."""
    # Only in the same part of the sentence.
    before = _WORDS_AROUND.findall(re.split(r"[.;!?؛]", text[max(0, start - 40) : start])[-1])[-3:]
    after = _WORDS_AROUND.findall(text[end : end + 20])[:2]
    return any(word.lower() in cues for word in (*before, *after))
