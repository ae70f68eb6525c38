"""Fractions in words: "three quarters", "dos tercios", "ein Zwanzigstel", and their mixed forms with a whole number.

Knows nothing of where a fraction stands; `fractions.py` and `amounts.py` ask here. The words are in the files of the
languages, table `[fractions]`.
"""

from __future__ import annotations

from math import gcd

from voxtral.text.ordinal_words import romance_plural
from voxtral.text.reading.written import Written
from voxtral.text.spelling import Speller
from voxtral.text.tables.fractions import FractionWords

# Unicode has a character for each of these.
SINGLE = {
    "½": (1, 2),
    "⅓": (1, 3),
    "⅔": (2, 3),
    "¼": (1, 4),
    "¾": (3, 4),
    "⅕": (1, 5),
    "⅖": (2, 5),
    "⅗": (3, 5),
    "⅘": (4, 5),
    "⅙": (1, 6),
    "⅚": (5, 6),
    "⅛": (1, 8),
    "⅜": (3, 8),
    "⅝": (5, 8),
    "⅞": (7, 8),
}


# Parts that people name, beside those up to 20 and powers of ten.
_USUAL_PARTS = frozenset((24, 25, 30, 32, 36, 40, 48, 50, 60, 64, 75, 80, 90, 128, 256, 512))


def is_usual_fraction(numerator: int, denominator: int) -> bool:
    """Tell whether two numbers are a fraction that somebody would say: "7/16" and "1/250", but not "40/128" and "5/5".

    >>> is_usual_fraction(7, 16), is_usual_fraction(1, 250), is_usual_fraction(40, 128), is_usual_fraction(97, 2000)
    (True, True, False, False)
    """
    if numerator == denominator:
        return False
    if denominator <= 20 or numerator == 1:
        return True
    is_round = str(denominator).strip("0") == "1"
    return (is_round or denominator in _USUAL_PARTS) and (is_round or gcd(numerator, denominator) == 1)


def say_fraction(
    written: Written, whole: int | None, numerator: int, denominator: int, *, is_feminine: bool = False
) -> str | None:
    """Say a fraction, perhaps behind a whole number.

    Args:
        written: tells the language.
        whole: what stands before the fraction.
        numerator: at least 0.
        denominator: at least 0.
        is_feminine: of what is counted by the whole number.

    Returns:
        None if the language has no words for it.
    """
    words = written.data.fractions
    if words is None:
        return None
    plain = f"{numerator}/{denominator}"
    if words.parts == "of":
        fraction = f"{denominator}{words.over}{numerator}"
        return fraction if whole is None else f"{whole}{words.link}{fraction}"
    speller = written.speller
    if whole is None:
        return words.wholes.get(plain) or _plain(speller, words, numerator, denominator)
    if (known := words.mixed.get(f"{whole} {plain}")) is not None:
        return known
    fraction = words.mixed.get(plain) or words.wholes.get(plain) or _plain(speller, words, numerator, denominator)
    said = speller.counting(whole, is_feminine=True) if is_feminine else speller.cardinal(whole)
    return said + words.link + fraction


def _plain(speller: Speller, words: FractionWords, numerator: int, denominator: int) -> str:
    if (name := words.names.get(denominator)) is not None:
        if name.two and numerator <= 2:
            return name.one if numerator == 1 else name.two
        return f"{speller.counting(numerator)} {name.one if numerator == 1 else name.many}"
    part = None if denominator < 2 else _part(speller, words, denominator, is_plural=numerator != 1)
    if part is None:
        return f"{speller.cardinal(numerator)} {words.over} {speller.cardinal(denominator)}"
    return f"{speller.counting(numerator)} {part}"


def _part(speller: Speller, words: FractionWords, denominator: int, *, is_plural: bool) -> str | None:
    """Name a part by its denominator; None where a fraction is said with both of its numbers."""
    is_round = str(denominator).strip("0") == "1"
    if denominator > words.largest and not is_round and words.parts != "avos":
        return None
    if words.parts == "avos":
        return _avos(speller, denominator, is_plural=is_plural)
    if words.parts == "stel":
        # "dritte" gives "Drittel".
        return (speller.ordinal(denominator) + "l").capitalize()
    if words.parts != "ordinal":
        return None
    ordinal = speller.ordinal(denominator)
    if not is_plural or speller.language == "nl":
        return ordinal
    return romance_plural(ordinal, "it") if speller.language == "it" else ordinal + "s"


def _avos(speller: Speller, denominator: int, *, is_plural: bool) -> str | None:
    """Name a part in Spanish or Portuguese: ordinals up to ten and for round numbers, else cardinals with "avo"."""
    ordinal = speller.ordinal(denominator)
    if denominator <= 10 or (" " not in ordinal and denominator >= 100):
        return ordinal + "s" if is_plural else ordinal
    cardinal = speller.cardinal(denominator)
    if speller.language == "pt":
        return cardinal + " avos"
    if denominator >= 100:
        return None
    # "veintidós" gives "veintidosavo", "treinta y uno" "treintaiunavo".
    stem = cardinal.replace(" y ", "i").replace("ó", "o").replace("é", "e").removesuffix("o").removesuffix("a")
    return stem + ("avos" if is_plural else "avo")
