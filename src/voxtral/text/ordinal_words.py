"""Ordinals made of cardinals, and their forms by gender, number and place before a noun.

For languages whose ordinals num2words does not have or gets wrong: French, Spanish, Arabic and Hindi. `spelling.py`
asks here; knows nothing of where a number stands.
"""

from __future__ import annotations

import re
from collections.abc import Callable

Cardinal = Callable[[int], str]

# Spanish: Real Academia Española, Ortografía (2010), "Los numerales ordinales".
_SPANISH_UNITS = ("", *["primero", "segundo", "tercero", "cuarto", "quinto", "sexto", "séptimo", "octavo", "noveno"])
_SPANISH_TENS = (
    *("", "décimo", "vigésimo", "trigésimo", "cuadragésimo", "quincuagésimo"),
    *("sexagésimo", "septuagésimo", "octogésimo", "nonagésimo"),
)
_SPANISH_HUNDREDS = (
    *("", "centésimo", "ducentésimo", "tricentésimo", "cuadringentésimo", "quingentésimo"),
    *("sexcentésimo", "septingentésimo", "octingentésimo", "noningentésimo"),
)
_ARABIC_UNITS = ("", *["أول", "ثاني", "ثالث", "رابع", "خامس", "سادس", "سابع", "ثامن", "تاسع", "عاشر"])
_HINDI_FIRST = {1: "पहला", 2: "दूसरा", 3: "तीसरा", 4: "चौथा", 6: "छठा"}


def french_ordinal(value: int, cardinal: Cardinal) -> str:
    """Make a French ordinal: "quatre-vingtième", not "quatre-vingtsième".

    Args:
        value: at least 0.
        cardinal: gives the words of a value.
    """
    if value == 1:
        return "premier"
    words = cardinal(value)
    if words.endswith("neuf"):
        return words[:-1] + "vième"
    if words.endswith("cinq"):
        return words + "uième"
    # "cents", "quatre-vingts" and "millions" lose the sign of their plural, "trois" is none.
    words = re.sub(r"(cent|vingt|llion|lliard)s$", r"\1", words)
    return re.sub(r"e$", "", words) + "ième"


def spanish_ordinal(value: int, cardinal: Cardinal) -> str:
    """Make a Spanish ordinal in its masculine form.

    Args:
        value: at least 1.
        cardinal: gives the words of a value.
    """
    for size, name in ((10**6, "millonésimo"), (1000, "milésimo")):
        count, rest = divmod(value, size)
        if count:
            # "dosmilésimo" is one word; counts of one are not said.
            before = "" if count == 1 else cardinal(count)
            return f"{before}{name}" + (f" {spanish_ordinal(rest, cardinal)}" if rest else "")
    hundreds, below = divmod(value, 100)
    tens, units = divmod(below, 10)
    words = [_SPANISH_HUNDREDS[hundreds]] if hundreds else []
    if below in {11, 12}:
        words.append({11: "undécimo", 12: "duodécimo"}[below])
    elif tens in {1, 2} and units:
        # Written as one word the accent moves: "decimotercero", but "decimoséptimo".
        words.append((("decimo", "vigesimo")[tens - 1] + _SPANISH_UNITS[units]).replace("oo", "o"))
    else:
        words += [word for word in (_SPANISH_TENS[tens], _SPANISH_UNITS[units]) if word]
    return " ".join(words)


def arabic_ordinal(value: int, cardinal: Cardinal, *, is_definite: bool = False, is_feminine: bool = False) -> str:
    """Make an Arabic ordinal: "حادي عشر", "خامس وعشرون".

    Args:
        value: at least 1.
        cardinal: gives the words of a value.
        is_definite: with the article.
        is_feminine: with a feminine noun.
    """
    article = "ال" if is_definite else ""
    hundreds, below = divmod(value, 100)
    tens, units = divmod(below, 10)
    if value > 99 and below:
        after = "بعد المئة" if hundreds == 1 else "بعد " + cardinal(hundreds * 100)
        return f"{arabic_ordinal(below, cardinal, is_definite=is_definite, is_feminine=is_feminine)} {after}"
    if value > 99 or (tens > 1 and not units):
        return article + cardinal(value)
    unit = _ARABIC_UNITS[below if below <= 10 else units]
    if units == 1 and below > 10:
        unit = "حادية" if is_feminine else "حادي"
    elif is_feminine:
        unit = "أولى" if below == 1 else unit + "ة"
    if below <= 10:
        return article + unit
    if below < 20:
        return f"{article}{unit} {'عشرة' if is_feminine else 'عشر'}"
    return f"{article}{unit} و{article}{cardinal(tens * 10)}"


def hindi_ordinal(value: int, cardinal: Cardinal) -> str:
    """Make a Hindi ordinal in its masculine form: "पहला", "सातवां".

    Args:
        value: at least 1.
        cardinal: gives the words of a value.
    """
    # "सौवां" has no "one" before the hundred.
    words = cardinal(value).removeprefix("एक ") if value in {100, 1000, 100_000} else cardinal(value)
    return _HINDI_FIRST.get(value, words + "वां")


def romance_form(words: str, form: str) -> str:
    """Give a Spanish, Italian or Portuguese ordinal another form.

    Args:
        words: the masculine singular.
        form: masculine, feminine, with " plural" for many; "short" as in "primer piso".
    """
    if form == "short":
        return re.sub(r"(primer|tercer)o$", r"\1", words.replace("undécimo", "decimoprimero"))
    if form.startswith("feminine"):
        words = re.sub(r"o\b", "a", words)
    return words


def romance_plural(words: str, language: str) -> str:
    """Put the last word of a Spanish, Italian or Portuguese ordinal in the plural."""
    if language == "it":
        return re.sub(r"o$", "i", re.sub(r"a$", "e", words))
    return words + "s"
