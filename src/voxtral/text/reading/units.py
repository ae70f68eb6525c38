"""Units of measurement: which symbols a language writes, and what each is called after a number.

The names come from CLDR (`cldr.py`), corrections and what CLDR lacks from the file of the language, table `[measures]`.
Units with SI prefixes that neither of them has are made of both parts: "mV" of "milli" and "volt".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache

from voxtral.text.cldr import CldrUnit, load_cldr
from voxtral.text.language_data import load_language
from voxtral.text.reading.numerals import NO_BREAK
from voxtral.text.reading.patterns import any_of
from voxtral.text.reading.places import any_digit
from voxtral.text.tables.measures import MeasureWords, UnitWords

# Other ways to write the symbols of all languages.
_ALIASES = {
    "L": "l",
    "mL": "ml",
    "cL": "cl",
    "dL": "dl",
    "µl": "µl",
    "KB": "kB",
    "Kg": "kg",
    "KG": "kg",
    "Km": "km",
    "kph": "km/h",
    "kmh": "km/h",
    "km/hr": "km/h",
    "km/std": "km/h",
    "mi/h": "mph",
    "m2": "m²",
    "m3": "m³",
    "km2": "km²",
    "km3": "km³",
    "cm2": "cm²",
    "cm3": "cm³",
    "mm2": "mm²",
    "mm3": "mm³",
    "ft2": "ft²",
    "cc": "cm³",
    "sqm": "m²",
    "㎡": "m²",
    "m/s^2": "m/s²",
    "m/s2": "m/s²",
    "m^2": "m²",
    "m^3": "m³",
    "μm": "µm",
    "μg": "µg",
    "mcg": "µg",
    "μs": "µs",
    "°c": "°C",
    "°f": "°F",
    "º C": "°C",
    "ºC": "°C",
    "ºF": "°F",
    "° C": "°C",
    "° F": "°F",
    "℃": "°C",
    "℉": "°F",
    "mbps": "Mb/s",
    "Mbps": "Mb/s",
    "Mbit/s": "Mb/s",
    "kbps": "kb/s",
    "Kbps": "kb/s",
    "Gbps": "Gb/s",
    "gbps": "Gb/s",
    "Mbit": "Mb",
    "Gbit": "Gb",
    "kbit": "kb",
    "MBit": "Mb",
    "KHz": "kHz",
    "Mhz": "MHz",
    "Ghz": "GHz",
    "Ω": "Ω",
    "l/100 km": "l/100km",
    "L/100 km": "l/100km",
    "L/100km": "l/100km",
    "′": "ft",
    "″": "in",
    "kmph": "km/h",
}
_PREFIXES = {"n": "n", "µ": "µ", "m": "m", "c": "c", "d": "d", "h": "h", "k": "k", "M": "M", "G": "G", "T": "T"}
_BASES = ("V", "W", "A", "Hz", "J", "Pa", "g", "m", "l", "Ω", "s", "bar", "mol", "eV", "N", "F", "cal", "T", "lm")
# Of one letter, only these are written for themselves in all languages.
_ONE_LETTER = frozenset("mglthsdVWKNJA°′″%‰")


@dataclass(frozen=True)
class Unit:
    """What a unit is called.

    Attributes:
        forms: by plural category; "{0}" stands for the number, which is missing where the form says it.
        per: what stands behind another unit, "pro Stunde".
        is_feminine: the number agrees with a feminine noun.
    """

    forms: Mapping[str, str]
    per: str
    is_feminine: bool = False

    def form(self, category: str) -> str:
        """Choose the form of a plural category."""
        return self.forms.get(category) or self.forms["other"]


@dataclass(frozen=True)
class Units:
    """The units of a language.

    Attributes:
        known: by symbol, in all spellings.
        folded: symbols that are known with other capitals, in lower case.
        pattern: the source of a pattern for one symbol, or two with "/" between them, without groups.
        words: symbols that are words of the language as well.
        beginnings: the source of a pattern for what a `Filter` sees of a symbol, up to its first space.
    """

    known: Mapping[str, Unit]
    folded: Mapping[str, str]
    pattern: str
    words: frozenset[str] = field(default_factory=frozenset[str])
    beginnings: str = "(?!)"

    def find(self, written: str) -> Unit | None:
        """Look up a symbol, or two with "/" between them; None if it is unknown."""
        unit = self._one(written)
        if unit is not None or "/" not in written:
            return unit
        above, _, below = written.partition("/")
        first, second = self._one(above.strip()), self._one(below.strip())
        if first is None or second is None:
            return None
        forms = {category: f"{form} {second.per}" for category, form in first.forms.items()}
        return Unit(forms, "", first.is_feminine)

    def _one(self, symbol: str) -> Unit | None:
        unit = self.known.get(symbol)
        if unit is None and len(symbol) > 1:
            unit = self.known.get(self.folded.get(symbol.casefold(), ""))
        return unit


@cache
def units_of(language: str) -> Units:
    """Gather the units of a language, once."""
    cldr = load_cldr(language)
    words = load_language(language).measures or MeasureWords()
    by_symbol = dict(_named(language, cldr.units, words, cldr.per))
    known: dict[str, Unit] = {}
    for symbol, unit in by_symbol.items():
        found = cldr.units.get(symbol)
        for written in (symbol, *(found.symbols if found else ())):
            is_single = len(written) == 1 and written != symbol
            if (
                written not in words.not_symbols
                and not is_single
                and not (len(written) == 1 and symbol not in _ONE_LETTER)
            ):
                known.setdefault(written.rstrip("."), unit)
    for alias, symbol in (*_ALIASES.items(), *words.symbols.items()):
        unit = by_symbol.get(symbol) or (_compound(by_symbol, symbol) if "/" in symbol else None)
        if unit is not None and alias not in words.not_symbols:
            known[alias] = unit
    folded: dict[str, str] = {}
    recognition = load_language(language).recognition
    small_words = recognition.stop_words if recognition else frozenset[str]()
    for symbol in known:
        if symbol.casefold() in small_words or symbol.casefold() in words.not_symbols:
            continue
        if len(symbol) > 1 and (symbol.casefold() not in folded or symbol == symbol.casefold()):
            folded[symbol.casefold()] = symbol
    spelled = _in_any_case(known) - words.not_symbols
    one = any_of(spelled)
    pattern = rf"(?:{one}(?:{_SLASH}{one})?)"
    beginnings = any_of(any_digit(symbol.partition(" ")[0]) for symbol in spelled)
    return Units(known, folded, pattern, frozenset(words.words), beginnings)


_SLASH = rf"[ {NO_BREAK}]?/[ {NO_BREAK}]?"


def _in_any_case(symbols: Iterable[str]) -> set[str]:
    """List symbols, those of several letters also in lower case, in capitals, and with a capital first."""
    spelled = set(symbols)
    for symbol in symbols:
        if len(symbol) > 1:
            spelled |= {symbol.lower(), symbol.upper(), symbol.capitalize()}
    return spelled


def _compound(units: Mapping[str, Unit], symbol: str) -> Unit | None:
    above, _, below = symbol.partition("/")
    if above not in units or below not in units:
        return None
    forms = {category: f"{form} {units[below].per}" for category, form in units[above].forms.items()}
    return Unit(forms, "", units[above].is_feminine)


def _named(language: str, units: Mapping[str, CldrUnit], words: MeasureWords, per: str) -> Iterator[tuple[str, Unit]]:
    """Name the units of CLDR, those of the language's file, and those with SI prefixes."""
    made: dict[str, Unit] = {}
    for symbol, unit in units.items():
        forms = {key: _plain(language, form) for key, form in unit.forms.items() if key not in {"per", "gender"}}
        is_feminine = symbol in words.feminine
        if language == "ar":
            forms = _arabic(forms, is_feminine=is_feminine)
        made[symbol] = Unit(
            forms, _per(language, unit.forms.get("per", ""), forms, words, per, is_feminine), is_feminine
        )
    for symbol, own in words.units.items():
        made[symbol] = _own(language, own, words, per, is_feminine=own.is_feminine or symbol in words.feminine)
    yield from made.items()
    for base in _BASES:
        for prefix, said in words.prefixes.items():
            # Nobody counts in hectovolts, nor in teraseconds: "1 ts" is a teaspoon in a German recipe.
            is_usual = base in "gl" if prefix in "cdh" else prefix not in "MGT" or base not in ("s", "m", "g", "l")
            if prefix + base not in made and base in made and is_usual:
                yield prefix + base, _prefixed(language, said, made[base])


def _own(language: str, own: UnitWords, words: MeasureWords, per: str, *, is_feminine: bool) -> Unit:
    names = {"one": own.one, "two": own.two, "few": own.few, "other": own.other}
    # In Arabic the one and the two are said by the noun.
    bare = {"one", "two"} if language == "ar" else set[str]()
    forms = {
        key: name if key in bare else ("{0}" if language == "ja" else "{0} ") + name
        for key, name in names.items()
        if name
    }
    return Unit(forms, own.per or _per(language, "", forms, words, per, is_feminine), is_feminine)


def _plain(language: str, form: str) -> str:
    form = form.replace("\u200c", "").replace("\u200d", "")
    # Two words for one thing: "kilowatt-hour" and "フィート - 米国".
    form = re.sub(r" - \S+$", "", form)
    return form.replace(" ", "") if language == "ja" else form.replace(NO_BREAK[0], " ")


def _arabic(forms: Mapping[str, str], *, is_feminine: bool) -> dict[str, str]:
    """Say one and two by the noun: "ثانية واحدة", "ثانيتان"."""
    noun = forms["other"].replace("{0}", "").strip()
    one = f"{noun} {'واحدة' if is_feminine else 'واحد'}"
    return {**forms, "one": one, "zero": forms["other"]}


def _per(language: str, form: str, forms: Mapping[str, str], words: MeasureWords, per: str, is_feminine: bool) -> str:
    """Say what stands behind another unit."""
    if form and "/" not in form:
        return form.replace("{0}", "").strip()
    noun = forms.get("one" if language != "ar" else "other", forms["other"]).replace("{0}", "").strip()
    if language == "ja":
        return words.per + noun
    if words.per_vowel and noun[0].lower() in "aeiou":
        return words.per_vowel + noun
    if words.per:
        return (words.per_feminine if is_feminine and words.per_feminine else words.per) + noun
    return per.replace("{0}", "").replace("{1}", noun).strip()


def per_noun(language: str, noun: str) -> str:
    """Say a noun that stands behind "/": "pro Monat"; "" without one."""
    words = load_language(language).measures or MeasureWords()
    return _per(language, "", {"one": noun, "other": noun}, words, load_cldr(language).per, False) if noun else ""


def _prefixed(language: str, said: str, base: Unit) -> Unit:
    forms: dict[str, str] = {}
    for category, form in base.forms.items():
        before, place, noun = form.rpartition("{0}")
        noun = noun.strip()
        # German nouns have one capital.
        noun = said + (noun[:1].lower() + noun[1:] if language == "de" else noun)
        forms[category] = f"{before}{place} {noun}".strip() if language != "ja" else before + place + noun
    return Unit(forms, "", base.is_feminine)
