"""Japanese numbers to kana: cardinals, decimals, and the counted things that change their sound.

Knows nothing of where a number stands in a text; `kana.py` finds them and asks here. Cardinals come from
num2words. Counters have a table of their own, in the file of Japanese, because dictionaries read number and
counter apart ("san" + "hon"), while speech joins them ("sanbon").
"""

from __future__ import annotations

import importlib
import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import cache
from types import MappingProxyType
from typing import Any

from voxtral.errors import LanguageFileError
from voxtral.text.language_data import KanaWords, load_language
from voxtral.text.spelling import MAX_DIGITS

_KANJI_DIGITS = str.maketrans("〇零一二三四五六七八九", "00123456789")
_DIGIT_NAMES = ("ぜろ", "いち", "に", "さん", "よん", "ご", "ろく", "なな", "はち", "きゅう")
_UNITS: Mapping[str, str] = MappingProxyType(
    {"十": "じゅう", "百": "ひゃく", "千": "せん", "万": "まん", "億": "おく", "兆": "ちょう"}
)
_LARGE_UNITS = (("兆", 10**12), ("億", 10**8), ("万", 10**4))
_SECTION = re.compile(r"(?:(\d?)(千))?(?:(\d?)(百))?(?:(\d?)(十))?(\d*)")
_DECIMAL = re.compile(r"([\d,]+)\.(\d+)([百千万億兆]?)")
# Longer ones are no numbers that anybody says.
_MAX_WRITTEN = 40
# A thousand of a larger unit is "issen", a thousand alone "sen"; num2words has "sen" for both.
_THOUSAND_OF_A_UNIT = re.compile("(^|おく|ちょう)せん(?=まん|おく|ちょう)")

NUMERAL = re.compile(r"[\d〇零一二三四五六七八九十百千万億兆][\d,.〇零一二三四五六七八九十百千万億兆]*")


_DOUBLED: Mapping[str, str] = MappingProxyType(
    {"いち": "いっ", "ろく": "ろっ", "はち": "はっ", "じゅう": "じゅっ", "ひゃく": "ひゃっ"}
)
# Only one, eight and ten double the sound of these rows; six and a hundred that of the others as well.
_SOFT_ROWS = "さしすせそたちつてと"
_HARD_ROWS = "かきくけこはひふへほ"
_H_TO_P = str.maketrans("はひふへほ", "ぱぴぷぺぽ")
_H_TO_B = str.maketrans("はひふへほ", "ばびぶべぼ")
# After "n", these have p; other counters of the row have b after three, a thousand and ten thousand.
_P_AFTER_N = ("ふん", "はく", "はつ", "ほ")


@cache
def kana_words() -> KanaWords:
    """Look up what the file of Japanese says of reading in kana."""
    words = load_language("ja").kana
    if words is None:
        raise LanguageFileError("ja.toml lacks the table [kana]; Japanese in kana is read by it; add it")
    return words


def read_number(written: str, counter: str = "", *, after_month: bool = False) -> str:
    """Read a number, and what it counts, in kana.

    Args:
        written: what `NUMERAL` matches: digits of any script, kanji numerals, or both ("3万5千").
        counter: a key of `counters` in `kana_words`; "" for a bare number.
        after_month: the number follows a month, so that a day 1 is the first of it.

    Returns:
        Kana. A number that is none, such as "1.2.3", is read digit by digit and keeps its separators.

    >>> read_number("3", "本"), read_number("二〇二四", "年"), read_number("0.5")
    ('さんぼん', 'にせんにじゅうよねん', 'れいてんご')
    """
    written = "".join(str(unicodedata.decimal(char)) if char.isdecimal() else char for char in written)
    reading = kana_words().counters.get(counter, "")
    if after_month and counter == "日" and written in ("1", "一"):
        return "ついたち"
    if decimal := _DECIMAL.fullmatch(written):
        whole, fraction, unit = decimal.groups()
        return _decimal(whole.replace(",", ""), fraction) + _UNITS.get(unit, "") + reading
    value = _value(written.replace(",", "").translate(_KANJI_DIGITS))
    if value is None:
        return read_digits(written) + reading
    return _count(value, counter, reading)


def read_money(written: str, sign: str) -> str:
    """Read an amount behind a currency sign, a key of `currencies` in `kana_words`."""
    return read_number(written, "円") if sign == "¥" else read_number(written) + kana_words().currencies[sign]


def _value(digits: str) -> int | None:
    """Read ASCII digits and kanji units as a number; None for codes and for what is no number."""
    if digits.isdecimal():
        is_code = len(digits) > MAX_DIGITS or (digits[0] == "0" and digits != "0")
        return None if is_code else int(digits)
    if len(digits) > _MAX_WRITTEN:
        return None
    total, rest = 0, digits
    for unit, size in _LARGE_UNITS:
        head, found, tail = rest.partition(unit)
        if not found:
            continue
        section = _section(head)
        if not section:
            return None
        total += section * size
        rest = tail
    section = _section(rest) if rest else 0
    if section is None or total + section >= 10**MAX_DIGITS:
        return None
    return total + section


def _section(written: str) -> int | None:
    """Read what stands before one of the large units, or after the last of them."""
    found = _SECTION.fullmatch(written)
    if found is None or not written:
        return None
    thousands, thousand, hundreds, hundred, tens, ten, ones = found.groups()
    value = int(ones or 0)
    for count, unit, size in ((thousands, thousand, 1000), (hundreds, hundred, 100), (tens, ten, 10)):
        if unit:
            value += int(count or 1) * size
    return value


def _cardinal(value: int) -> str:
    # num2words ships no types.
    library: Any = importlib.import_module("num2words")
    spell: Callable[..., str] = library.num2words
    words = spell(value, lang="ja", reading=True).replace(" ", "").replace("ゼロ", "ぜろ")
    return _THOUSAND_OF_A_UNIT.sub(r"\1いっせん", words)


def _decimal(whole: str, fraction: str) -> str:
    value = _value(whole)
    words = read_digits(whole) if value is None else "れい" if value == 0 else _cardinal(value)
    return _join(words, "てん") + read_digits(fraction)


def read_digits(written: str) -> str:
    """Read digits and kanji numerals one by one; anything else stays."""
    names = (_DIGIT_NAMES[int(char)] if char.isdecimal() else char for char in written.translate(_KANJI_DIGITS))
    return "".join(_UNITS.get(name, name) for name in names)


def _count(value: int, counter: str, reading: str) -> str:
    known = kana_words()
    if value in (counted := known.counted.get(counter, {})):
        return counted[value]
    words = _cardinal(value)
    for ending, changed in known.last_words.get(counter[:1], {}).items():
        if words.endswith(ending):
            return words.removesuffix(ending) + changed + reading
    return _join(words, reading)


def _join(words: str, reading: str) -> str:
    """Join a number and a counter, with the sound changes between them."""
    first, rest = reading[:1], reading[1:]
    if not first or first not in _SOFT_ROWS + _HARD_ROWS:
        return words + reading
    for ending, doubled in _DOUBLED.items():
        if words.endswith(ending) and (first in _HARD_ROWS or ending not in ("ろく", "ひゃく")):
            return words.removesuffix(ending) + doubled + first.translate(_H_TO_P) + rest
    if words.endswith(("さん", "せん", "まん", "よん")):
        if reading.startswith(_P_AFTER_N) and reading != "ほん":
            first = first.translate(_H_TO_P)
        elif not words.endswith("よん"):
            first = first.translate(_H_TO_B)
    return words + first + rest
