"""Measures: a quantity and its unit, "5 km", "10-20 kg", "2 x 8 m²", "-5°C", "3 l/100 km", 5'10", "7.2-millimeter".

`units.py` knows the units and `amounts.py` the quantities.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache

from voxtral.text.cldr import load_cldr
from voxtral.text.language_data import load_language
from voxtral.text.reading.agreement import german_article
from voxtral.text.reading.amounts import SPACE, Amount, Amounts, glue
from voxtral.text.reading.calendar_words import ends_sentence
from voxtral.text.reading.claims import Claim, claim
from voxtral.text.reading.fraction_words import is_usual_fraction
from voxtral.text.reading.numerals import scales_of
from voxtral.text.reading.patterns import any_of
from voxtral.text.reading.places import SINGLE_FRACTIONS, Filter, filter_by
from voxtral.text.reading.units import Unit, Units, units_of
from voxtral.text.reading.written import Written

_FEET_AND_INCHES = re.compile(r"(\d{1,2})['′’](?:\s?(\d{1,2}(?:\.\d+)?)[\"″”])?(?!\w)")
_INCHES = re.compile(r"\d{1,3}(?:\.\d+)?[\"″](?!\w)")
_NOUN_AFTER = re.compile(r" [a-z]{3}")
_POINT = re.compile(r"[.](?=,| [\da-zß-ÿ])")
_QUOTE = re.compile(r'(?<!\d)"')
_ENDS = re.compile(r"\s*(?:$|[.,;:!?)\]])")


@cache
def _after(language: str) -> re.Pattern[str]:
    pattern = units_of(language).pattern
    hundred = rf"{SPACE}?/{SPACE}?(?P<count>10{{1,3}}){SPACE}?(?P<counted>{pattern})"
    # No letter, digit or mark may touch a symbol, but Japanese goes on without a space; a hyphen before a symbol makes
    # an adjective of it.
    tail = "[A-Za-z0-9_²³°]" if language == "ja" else r"[\w²³°\u0900-\u0903\u093a-\u094f]"
    return re.compile(
        rf"(?P<gap>{SPACE}|-|)(?:(?P<unit>{pattern})(?:{hundred})?|(?P<per>/{SPACE}?(?P<below>{pattern})))"
        rf"(?!{tail}|[./@'’]\w|\^)"
    )


@cache
def _measured(language: str) -> Filter:
    """Let numbers through that may have a unit, feet or inches, or another dimension."""
    unit, scales = units_of(language).beginnings, any_of(scales_of(language, is_money=False))
    tail = "[A-Za-z0-9_²³°]" if language == "ja" else r"[\w²³°]"
    return filter_by(
        rf"(?:[\d{SINGLE_FRACTIONS}]|{scales})(?:{SPACE}|-|)(?:/{SPACE}?)?{unit}(?!{tail})"
        rf"|\d['′’\"″”]|\d{SPACE}?[x×*]{SPACE}?\d|[\d{SINGLE_FRACTIONS}]{SPACE}/\Z",
    )


# What begins a row of hours, minutes and seconds.
_LASTING = filter_by(rf"\d{SPACE}?(?:h|hrs?|[Ss]td\.?|[Mm]ins?\.?|mn|m)(?:{SPACE}?\d|\Z)")


def measure_claims(written: Written) -> Iterator[Claim]:
    """Claim quantities with their units."""
    if written.data.measures is not None:
        yield from glue(written, _claims(written))
        yield from _durations(written)
        yield from _units_after_per(written)
        yield from _units_after_scale(written)


def _claims(written: Written) -> Iterator[Claim]:
    amounts, units, after = Amounts(written), units_of(written.language), _after(written.language)
    for start in written.joined_starts(_measured(written.language)):
        if not _is_free(written, start):
            continue
        for amount in amounts.at(start):
            unit = after.match(written.text, amount.end)
            if amount.fraction and not is_usual_fraction(*amount.fraction):
                continue  # "40/128 bits" are two sizes.
            spoken = None if unit is None or amount.is_code else _say(written, amounts, amount, units, unit)
            if unit is not None and spoken:
                # The point of "5 ft. 10 in." belongs to the symbol, where no sentence ends.
                point = _POINT.match(written.text, unit.end())
                yield claim(amount.start, point.end() if point else unit.end(), spoken, "measure")
                break
        else:
            marked = _feet_and_inches(written, amounts, units, start) or _dimensions(written, amounts, start)
            if marked is not None:
                yield marked


# "2 h 30 min", "1h5m3s", "2 Std. 30 Min.", "4 min 33 s"; a lone "m" between hours and seconds is a minute.
_DURATION = re.compile(
    rf"""
    (?:(?P<h>\d{{1,4}}){SPACE}?(?:h|hrs?|Std\.?|std\.?){SPACE}?(?P<min>\d{{1,2}}){SPACE}?(?:min|mins|mn|Min\.?|m)
      (?:{SPACE}?(?P<s>\d{{1,2}}){SPACE}?(?:s|secs?|Sek\.?|seg))?
    |(?P<minutes>\d{{1,3}}){SPACE}?(?:min|mins|mn|Min\.?|m){SPACE}?(?P<seconds>\d{{1,2}}){SPACE}?(?:s|secs?|Sek\.?|seg)
    )(?![^\W_]|[²³])
    """,
    re.VERBOSE,
)


_NO_LINK = frozenset(("de", "fr", "hi"))


def _durations(written: Written) -> Iterator[Claim]:
    """Claim hours, minutes and seconds in a row, with what the language says before the last."""
    if not written.has_number_words:
        return
    amounts, units = Amounts(written), units_of(written.language)
    for start in written.joined_starts(_LASTING):
        found = _DURATION.match(written.text, start) if _is_free(written, start) else None
        if found is None:
            continue
        parts = zip(("h", "min", "s", "min", "s"), found.groups(), strict=True)
        said = [
            say_with_unit(written, amounts, Amount(start, found.end(), "", (numeral,)), unit)
            for symbol, digits in parts
            if digits and (numeral := written.read_numeral(digits)) and (unit := units.find(symbol))
        ]
        words = [each for each in said if each]
        fractions = written.data.fractions
        # "Zwei Stunden dreißig Minuten", but "two hours and thirty minutes".
        link = " " if fractions is None or written.language in _NO_LINK else fractions.link
        point = "." if found.group()[-1] == "." and ends_sentence(written.text, found.end()) else ""
        yield claim(start, found.end(), f"{' '.join(words[:-1])}{link}{words[-1]}{point}", "measure")


@cache
def _after_per(language: str) -> re.Pattern[str]:
    per = re.escape(load_cldr(language).per.replace("{0}", "").replace("{1}", "").strip())
    # A pattern that begins with letters is found faster than one that first looks back.
    return re.compile(rf"{per}[ ](?P<unit>{units_of(language).pattern})(?![\w²³\u0900-\u0903\u093a-\u094f])")


@cache
def _after_scale(language: str) -> re.Pattern[str] | None:
    """Build the pattern of "milhões de km", in languages that link so."""
    grammar = load_language(language).numbers
    if grammar is None or grammar.linked_numbers is None:
        return None
    linked = grammar.linked_numbers
    return re.compile(rf"\b{any_of(linked.words)} {linked.link} (?P<unit>{units_of(language).pattern})(?![\w²³])")


def after_scales(text: str, language: str) -> list[int]:
    """Give the places of units that stand apart from their number, behind its scale."""
    pattern = _after_scale(language)
    return [found.start("unit") for found in pattern.finditer(text)] if pattern else []


def _units_after_scale(written: Written) -> Iterator[Claim]:
    """Say the unit of "3 milhões de km", which stands apart from its number."""
    pattern, units = _after_scale(written.language), units_of(written.language)
    for found in pattern.finditer(written.text) if pattern else ():
        symbol = found.group("unit")
        unit = units.find(symbol)
        if unit is not None and len(symbol) > 1 and symbol not in units.words:
            noun = unit.form("other").replace("{0}", "").strip()
            if noun != symbol:
                yield claim(found.start("unit"), found.end(), noun, "measure")


def _units_after_per(written: Written) -> Iterator[Claim]:
    """Say the unit of "5 Euro pro kg", which has no number."""
    if not written.has_number_words:
        return
    units = units_of(written.language)
    for found in _after_per(written.language).finditer(written.text):
        symbol = found.group("unit")
        unit = units.find(symbol) if written.begins_apart(found.start()) else None
        # Short forms of a language may be words: "por nós" is "by us", and not "per knots".
        is_word = found.group("unit").isalpha() and found.group("unit") not in written.cldr.units
        is_said = unit is None or is_word or unit.per in {"", found.group()}
        if unit is not None and not is_said and len(symbol) > 1 and symbol not in units.words:
            yield claim(found.start(), found.end(), unit.per, "measure")


def _is_free(written: Written, start: int) -> bool:
    """Tell whether a number may begin here: not inside of a word, a code or a formula."""
    if start == 0:
        return True
    before, far = written.text[start - 1], written.text[start - 2 : start - 1]
    return written.begins_apart(start) and not (
        before == "^" or unicodedata.category(before) == "Sc" or (before in "./-–" and (far.isalnum() or far == "%"))
    )


def _say(written: Written, amounts: Amounts, amount: Amount, units: Units, found: re.Match[str]) -> str | None:
    if found.group("per"):
        below = units.find(found.group("below"))
        words = amounts.say(amount, counts=False)
        return f"{words} {below.per}" if below and below.per and words else None
    symbol = found.group("unit")
    unit = units.find(symbol)
    if unit is None or not _is_unit(written, amount, units, found):
        return None
    is_adjective = found.group("gap") == "-"
    one = unit.form("one").partition("{0} ")[2]
    if written.language == "ar" and len(symbol) > 2 and _is_noun_of(symbol, unit):
        # A noun in full has its form already: "360 يومًا"; one and two are said by it.
        is_counted = amounts.category(amount) not in {"one", "two"} and len(amount.numerals) == 1 and not amount.scale
        words = amounts.say(amount, is_feminine=unit.is_feminine) if is_counted else None
        if words:
            return f"{words} {symbol}"
    elif (is_adjective or symbol.casefold() == one.casefold()) and written.has_number_words and one:
        # "an 8-bit sign", "5 bar": the noun stays as it is written.
        words = amounts.say(amount, is_feminine=unit.is_feminine, counts=not is_adjective)
        return f"{words}{'-' if is_adjective else ' '}{one}" if words else None
    said = say_with_unit(written, amounts, amount, unit)
    if said and found.group("count"):
        counted = units.find(found.group("counted"))
        if counted is None or not written.has_number_words:
            return None
        number = written.speller.cardinal(int(found.group("count")))
        noun = counted.form("many" if written.language == "ar" else "other").replace("{0}", number)
        return f"{said} {_per_word(written)}{noun}"
    return said


def _is_noun_of(symbol: str, unit: Unit) -> bool:
    """Tell whether an Arabic symbol is the noun itself, in whatever case: "يومًا"."""
    return any(symbol.rstrip("اً") in form for form in unit.forms.values())


def _per_word(written: Written) -> str:
    return written.cldr.per.replace("{0}", "").replace("{1}", "").strip() + " "


def _is_unit(written: Written, amount: Amount, units: Units, found: re.Match[str]) -> bool:
    """Tell whether a symbol is meant as a unit, where it may also be a word or a letter."""
    symbol, end = found.group("unit"), found.end()
    gap = found.group("gap")
    if gap == "-":
        return len(symbol) > 2 and symbol.lower() not in units.words
    ordinals = written.data.ordinals
    if gap == "" and ordinals and symbol in ordinals.suffixes:
        return False
    is_end = bool(_ENDS.match(written.text, end))
    if symbol in units.words:
        # "5 in the room": a word of the language is a unit at the end of something, or stuck to its number.
        return (gap == "" and symbol != "a") or (is_end and len(symbol) > 1)
    if len(symbol) == 1 and symbol.isalpha():
        if symbol in "KA":
            # "4K", "5 A day" and "Room 5 A" are none.
            name = written.text[max(0, amount.start - 30) : amount.start].split()[-1:]
            if not is_end or (symbol == "K" and not gap) or any(word[0].isupper() and len(word) > 2 for word in name):
                return False
        # "1990 s" and "401 k" are none.
        is_year = amount.is_plain and len(amount.numerals[0].whole) == 4 and symbol == "s"
        return not is_year
    return True


def say_with_unit(written: Written, amounts: Amounts, amount: Amount, unit: Unit) -> str | None:
    """Say a quantity and its unit in the form that fits."""
    if (half := _half(written, amounts, amount, unit)) is not None:
        return half
    words = _german_half(written, amount, unit) or amounts.say(amount, is_feminine=unit.is_feminine)
    if words is None:
        return None
    category = amounts.category(amount)
    fractions = written.data.fractions
    is_part = amount.fraction and fractions and fractions.noun_link
    form = unit.form("one" if is_part else category)
    if "{0}" not in form:
        if len(amount.numerals) == 1 and not amount.scale:
            return amounts.sign_words(amount.sign) + form
        form = unit.form("other")
    if form.startswith("時速") and written.text.endswith("時速", 0, amount.start):
        form = form.removeprefix("時速")
    noun = form.partition("{0} ")[2]
    if written.language == "de" and words in {"ein", "eine"}:
        words = german_article(written, written.word_before(amount.start), noun, is_feminine=words == "eine")
    link = amounts.link(amount, words, noun) if noun else " "
    said = form.replace("{0} ", words + link) if noun else form.replace("{0}", words)
    return _elide(written, said, noun)


def _half(written: Written, amounts: Amounts, amount: Amount, unit: Unit) -> str | None:
    """Say halves as Romance languages do: "una hora y media", "mezzo chilo"; None in all other cases."""
    words = written.data.fractions
    if amount.fraction != (1, 2) or words is None or words.halves is None or amount.scale or written.language == "nl":
        return None
    halves = words.halves
    one = unit.form("one").partition("{0} ")[2]
    sign = amounts.sign_words(amount.sign)
    if not amount.numerals:
        return f"{sign}{halves.feminine_before if unit.is_feminine else halves.before} {one}"
    whole = Amount(amount.start, amount.end, "", amount.numerals)
    counted = say_with_unit(written, amounts, whole, unit)
    return f"{sign}{counted}{words.link}{halves.feminine_after if unit.is_feminine else halves.after}"


def _german_half(written: Written, amount: Amount, unit: Unit) -> str | None:
    """Say a half before a German unit: "ein halber Liter", "eine halbe Stunde"."""
    nouns = written.data.nouns
    if written.language != "de" or nouns is None or amount.fraction != (1, 2) or amount.numerals or amount.scale:
        return None
    noun = unit.form("one").replace("{0}", "").strip().lower()
    if unit.is_feminine:
        return "eine halbe"
    is_masculine = re.search(nouns.masculine, noun) is not None
    return "ein halber" if is_masculine else "ein halbes" if re.search(nouns.neuter, noun) else None


def _elide(written: Written, said: str, noun: str) -> str:
    """Write "un'ora" for "una ora"."""
    if written.language == "it" and noun[:1].lower() in "aeiou" and noun:
        return re.sub(rf"\buna (?={re.escape(noun)}$)", "un'", said)
    return said


def _dimensions(written: Written, amounts: Amounts, start: int) -> Claim | None:
    """Read "13x13" without a unit; "0x10" is no dimension."""
    amount = next(iter(amounts.at(start)), None)
    if amount is None or amount.joint != "by" or amount.is_code or any(each.whole == "0" for each in amount.numerals):
        return None
    behind = written.text[amount.end : amount.end + 2].strip()[:1]
    if amount.sign or not written.ends_apart(amount.end) or (behind and behind in "=+*/^<>-×x"):
        return None
    words = amounts.say(amount, counts=False)
    return claim(amount.start, amount.end, words, "measure") if words else None


def _feet_and_inches(written: Written, amounts: Amounts, units: Units, start: int) -> Claim | None:
    """Read 5'10" and 12": where quotes open before the number, its sign may close them, and nothing is claimed."""
    text = written.text
    if text[start - 1 : start] in {'"', "'", "“", "‘"} or not written.has_number_words:
        return None
    feet = _FEET_AND_INCHES.match(text, start)
    inches = None if feet else _INCHES.match(text, start)
    if inches is not None:
        return _marked(written, amounts, units, start, inches.end(), ((inches.group()[:-1], "in"),))
    if feet is None or not feet.group(2):
        return None
    return _marked(written, amounts, units, start, feet.end(), ((feet.group(1), "ft"), (feet.group(2), "in")))


def _marked(
    written: Written, amounts: Amounts, units: Units, start: int, end: int, parts: tuple[tuple[str, str], ...]
) -> Claim | None:
    # An odd number of quotes before it in the paragraph: the sign closes a quotation.
    line = written.text[max(0, start - 400) : start].rpartition("\n\n")[2]
    if len(_QUOTE.findall(line)) % 2 and written.text[end - 1] == '"':
        return None
    said: list[str] = []
    for number, symbol in parts:
        numeral, unit = written.read_numeral(number), units.find(symbol)
        if numeral is None or unit is None:
            return None
        words = say_with_unit(written, amounts, Amount(start, end, "", (numeral,)), unit)
        if written.language == "en" and len(parts) == 1 and _NOUN_AFTER.match(written.text, end):
            words = f"{amounts.say(Amount(start, end, '', (numeral,)))}-inch"
        if words is None:
            return None
        said.append(words)
    return claim(start, end, " ".join(said), "measure")
