"""Where numbers may begin in a text, and what stands around each: found by one scan, for all rules.

A rule that reads numbers says by a `Filter` beside which signs, letters and numbers it has anything to do, and looks at
those places alone. Digits are alike in what stands around, so that most places of a long text were judged before.
Knows nothing of what is read there.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

from voxtral.text.reading.numerals import NO_BREAK, scales_of
from voxtral.text.reading.patterns import any_of

SINGLE_FRACTIONS = "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"
# In what stands around a number: before the number itself, and behind the end of the text.
HERE, END = "\x00", "\x03"
_BEFORE = 3
# Judgements that a filter remembers; what stands around numbers differs little in lists, and there are few in prose.
_MOST_KNOWN = 4096
_DIGITS = "123456789٠١٢٣٤٥٦٧٨٩۰۱۲۳۴۵۶۷۸۹०१२३४५६७८९"

_SPACE = f"[ {NO_BREAK}]"
# Numbers and dates in a row, and a mark, the end of the line or another number behind them: no part of anything.
_ONE = r"\d++(?:/\d++/\d++)?+"
_BARE = re.compile(
    rf"{_ONE}(?:[.,:'’٫٬]{_ONE}|[ ]\d{{3}}(?!\d)){{0,6}}+"
    rf"(?=[ ]?[\n{END}]|[ ]{_ONE}(?![{SINGLE_FRACTIONS}/⁄])|[,;:!?)\]]+[ \n{END}]|[.][ \n{END}])"
)


class Filter(dict[str, bool]):
    """Judges places by what stands around their numbers, and remembers some thousand judgements.

    Args:
        judge: says what is true for what is let through. Most are given the three characters before a number, `HERE`,
            and the number with what stands behind it, all digits zeros; `END` stands at the end of the text.
    """

    def __init__(self, judge: Callable[[str], object]) -> None:
        super().__init__()
        self._judge = judge

    def __missing__(self, around: str) -> bool:
        if len(self) >= _MOST_KNOWN:
            self.clear()
        self[around] = answer = bool(self._judge(around))
        return answer


@cache
def filter_by(pattern: str) -> Filter:
    """Let numbers through around which a pattern matches somewhere.

    Args:
        pattern: for the number, `HERE` before it, and what stands around; all digits are zeros.
    """
    matches = re.compile(pattern).search
    return Filter(lambda around: matches(around) is not None)


def any_digit(text: str) -> str:
    """Write zeros for the digits of a text, so that numbers of one form are alike."""
    digits = _DIGITS if not text.isascii() else _DIGITS[:9]
    for digit in digits:
        text = text.replace(digit, "0")
    return text


@cache
def _pattern(language: str) -> re.Pattern[str]:
    """Build the pattern of a number's first character, with what stands behind it as a group.

    That is the rest of the word and, if they go on with it, groups of thousands, a second number and a scale; and
    the word behind all these. Not inside of a number, of a version such as "v1.2" or of an address.
    """
    goes_on = rf"\d{{3}}(?!\d)|[-–—−~〜x×*](?:{_SPACE}?\d)?|\d{{1,4}}[/⁄]\d|[{SINGLE_FRACTIONS}]"
    # Japanese goes on without spaces.
    word = r"[^\s\u3040-\u30ff\u3400-\u9fff]{0,44}\S{0,8}" if language == "ja" else r"\S{0,44}"
    return re.compile(
        rf"""
        (?P<address>(?:https?|ftp)://[!-~À-ɏ]+|www\.[!-~À-ɏ]+)
        |(?:(?<![\w.,])[.](?=\d)|(?<!\d)(?:(?<![\d.][.,'’٫٬:])|(?<=\.\.\.))[\d{SINGLE_FRACTIONS}])
         (?=(?P<rest>
            {word}
            (?:{_SPACE}(?:{goes_on})\S{{0,12}}){{0,4}}
            (?:{_SPACE}?(?:{any_of(scales_of(language, is_money=True))})(?![^\W\d_])\S{{0,4}})?
            (?:{_SPACE}?\n[^\s{END}]{{0,8}}{END}?|{_SPACE}[^\s{END}]{{0,20}}{END}?)?
         ))
        """,
        re.VERBOSE,
    )


def find_numbers(shape: str, language: str) -> tuple[list[int], list[str]]:
    """Find where numbers may begin, in order, and what stands around each as a `Filter` takes it.

    Args:
        shape: the text with zeros for all digits.
        language: of the text.
    """
    shape += END
    starts: list[int] = []
    around: list[str] = []
    for found in _pattern(language).finditer(shape):
        rest = found.group("rest")
        if rest is not None:
            start = found.start()
            starts.append(start)
            around.append(f"{shape[max(0, start - _BEFORE) : start]}{HERE}{found.group()}{rest}")
    return starts, around


def is_bare(around: str) -> bool:
    """Tell whether nothing behind a number may belong to it: a mark, the end of the line, or another number."""
    return _BARE.match(around, around.index(HERE) + 1) is not None
