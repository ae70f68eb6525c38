"""Currencies: which signs and codes a language writes for them, and what each is called.

Names come from CLDR, short ones ("won" for "South Korean won") are made of them, and those of the commonest signs are
in the file of the language, table `[numbers.currencies]`, with hundredths and further signs in `[money]`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache

from voxtral.text.cldr import Cldr, load_cldr
from voxtral.text.language_data import Currency, load_language
from voxtral.text.reading.patterns import any_of
from voxtral.text.reading.places import any_digit
from voxtral.text.spelling import Speller
from voxtral.text.tables.counted import Unit
from voxtral.text.tables.money import MoneyWords, RegionMoney

# Signs of one currency each; the name is short, since the sign says no country.
_SIGNS = {
    "₩": "KRW",
    "₺": "TRY",
    "₽": "RUB",
    "₴": "UAH",
    "₪": "ILS",
    "₫": "VND",
    "₦": "NGN",
    "₱": "PHP",
    "₲": "PYG",
    "₡": "CRC",
    "₵": "GHS",
    "₸": "KZT",
    "₼": "AZN",
    "₾": "GEL",
    "฿": "THB",
    "₭": "LAK",
    "₮": "MNT",
    "৳": "BDT",
    "₧": "ESP",
    "₤": "ITL",
    "₿": "BTC",
    "zł": "PLN",
    "Kč": "CZK",
    "Ft": "HUF",
    "元": "CNY",
    "﷼": "IRR",
}
# Signs that name the country as well.
_LETTERED = {
    "US$": "USD",
    "$US": "USD",
    "U$S": "USD",
    "A$": "AUD",
    "AU$": "AUD",
    "$AU": "AUD",
    "C$": "CAD",
    "CA$": "CAD",
    "$CA": "CAD",
    "Can$": "CAD",
    "NZ$": "NZD",
    "$NZ": "NZD",
    "HK$": "HKD",
    "$HK": "HKD",
    "S$": "SGD",
    "SG$": "SGD",
    "NT$": "TWD",
    "MX$": "MXN",
    "Mex$": "MXN",
    "$MX": "MXN",
    "R$": "BRL",
    "AR$": "ARS",
    "CL$": "CLP",
    "CO$": "COP",
    "CN¥": "CNY",
    "JP¥": "JPY",
    "RMB": "CNY",
    "£GB": "GBP",
    "£E": "EGP",
    "E£": "EGP",
    "RM": "MYR",
    "Rp": "IDR",
    "J$": "JMD",
    "TT$": "TTD",
    "B/.": "PAB",
    "RD$": "DOP",
    "FCFA": "XAF",
    "F CFA": "XOF",
    "CFA": "XOF",
}
# Codes that are said like a sign of the language's own.
_LIKE_SIGNS = {"EUR": "€", "GBP": "£", "JPY": "¥", "INR": "₹", "BRL": "R$"}
# Codes that are words or names as well: never before a number ("TOP 10", "PHP 8"), never in small letters.
WORDS = frozenset(
    [
        "ALL",
        "TOP",
        "TRY",
        "CUP",
        "PEN",
        "SOS",
        "MOP",
        "MAD",
        "BAM",
        "GEL",
        "BOB",
        "SUR",
        "RON",
        "LAK",
        "ANG",
        "STD",
        "ARS",
        "SAR",
        "PHP",
        "MGA",
        "KES",
        "ERN",
        "AMD",
        "BSD",
        "STN",
        "SSP",
        "CDF",
        "BIF",
        "GIP",
        "SLL",
        "LSL",
        "BND",
    ]
)
# Those that are words far more often than money, even behind a number: "4.2 BSD", "5 TOP". Cents alone tell.
MOSTLY_WORDS = frozenset(["BSD", "STD", "ALL", "TOP", "SOS", "CUP", "PEN", "ERN", "GIP", "ANG", "SUR"])


@dataclass(frozen=True)
class Currencies:
    """The currencies of a language.

    Attributes:
        known: by sign and code.
        before: the source of a pattern, without groups, for what may stand before a number.
        after: the same for what may stand behind one.
        last_characters: of what may stand before a number.
        last_parts: the last characters of what may stand before a number: a sign, two letters, or a letter and what
            parts it from a word.
        first_characters: of what may stand behind one.
        named: those with hundredths by name, as it is written and in lower case; names of weights are left out.
        names: the source of a pattern for these names.
        beginnings: the same for what a `Filter` sees behind a number, up to the first space.
    """

    known: Mapping[str, Currency]
    before: str
    after: str
    last_characters: frozenset[str]
    last_parts: frozenset[str]
    first_characters: frozenset[str]
    named: Mapping[str, Currency]
    names: str
    beginnings: str


def currencies_of(language: str, region: str = "") -> Currencies:
    """Gather the currencies of a language as a region writes them, once."""
    words = load_language(language).money
    return _gather(language, region if words is not None and region in words.regions else "")


@cache
def _gather(language: str, region: str) -> Currencies:
    cldr, data = load_cldr(language), load_language(language)
    words = data.money or MoneyWords("last")
    regional = words.regions.get(region, RegionMoney())
    makes = _Maker(language, cldr, words, regional)
    own = dict(data.numbers.currencies) if data.numbers else {}
    for sign, code in (("$", "USD"), *((sign, code) for code, sign in _LIKE_SIGNS.items())):
        if sign in own and (cent := makes.cent(code)) is not None and makes.is_regional(code):
            own[sign] = replace(own[sign], cent=cent)
    own |= {sign: makes.short(code) for sign, code in regional.signs.items()}
    codes = {code: makes.plainest(code) for code in cldr.currencies}
    codes |= {code: own[sign] for code, sign in _LIKE_SIGNS.items() if sign in own}
    signs = {sign: makes.short(code) for sign, code in _SIGNS.items() if code in codes}
    if not own:
        signs |= {"$": makes.short("USD"), "€": makes.short("EUR"), "£": makes.short("GBP"), "¥": makes.short("JPY")}
        signs |= {"₹": makes.short("INR")}
    lettered = {sign: codes[code] for sign, code in _LETTERED.items() if code in codes}
    for code, currency in cldr.currencies.items():
        symbol = re.sub("[\u200e\u200f]", "", currency.symbol).rstrip(".")
        if symbol != code and symbol not in signs and len(symbol) > 1:
            lettered[symbol] = codes[code]
    # Arabic signs are the initials of the currency and its country.
    make = makes.named if language == "ar" else makes.short
    for sign, code in words.signs.items():
        if code in codes:
            signs[sign] = codes[code] if "$" in sign or code in _LIKE_SIGNS else make(code)
    stop_words = data.recognition.stop_words if data.recognition else frozenset[str]()
    small = {
        code.lower(): currency
        for code, currency in codes.items()
        if code not in WORDS and code.lower() not in stop_words
    }
    known = {**codes, **small, **lettered, **signs, **own}
    if "USD" in codes:
        known["US$"] = codes["USD"]
    hundredths: dict[str, Currency] = {}
    for sign, code in {**words.hundredths, **regional.hundredths}.items():
        cent = makes.cent(code)
        if cent is not None:
            hundredths[sign] = Currency(cent)
    named = _named(language, cldr, makes, own, regional)
    before = [key for key in known if key not in WORDS]
    known |= hundredths
    spellings = [*_spellings(named)]
    return Currencies(
        known,
        any_of(before),
        any_of(known),
        frozenset(key[-1] for key in before),
        _last_parts(before),
        frozenset(key[0] for key in (*known, *spellings) if key),
        named,
        any_of(spellings),
        any_of(any_digit(each.partition(" ")[0]) for each in (*known, *spellings) if each),
    )


def _last_parts(keys: Iterable[str]) -> frozenset[str]:
    single = [key for key in keys if len(key) == 1 and key.isalpha()]
    signs = [key[-1] for key in keys if not key[-1].isalpha() and key[-1] != "."]
    beside = " .,;:!?()[]{}<>|/\"'“”„«»‘’-–—+*=\n\t\u00a0\u202f\u2009\u060c\u061f"
    apart = [char + key for key in single for char in beside]
    return frozenset(["", *signs, *apart, *(key[-2:] for key in keys if len(key) > 1)])


def _named(
    language: str, cldr: Cldr, makes: _Maker, own: Mapping[str, Currency], regional: RegionMoney
) -> dict[str, Currency]:
    """Gather currencies with hundredths by their names: "euros", "Schweizer Franken", "dollars canadiens"."""
    names: list[str] = []
    named: dict[str, Currency] = {}
    # Where several have a name, the first is meant.
    first = [*regional.signs.values(), "USD", "EUR", "CHF", "INR", "MXN", "BRL", "SAR", "EGP", "SEK", "PLN", "ZAR"]
    codes = [*(code for code in first if code in cldr.currencies), *cldr.currencies]
    for code in codes:
        for currency in (makes.short(code), makes.named(code)):
            if currency.cent is None:
                continue
            written = [currency.unit.many, currency.unit.few, makes.bare(currency.unit)]
            if " " in currency.unit.many:
                written += cldr.currencies[code].forms.values()
            for name in filter(None, written):
                named.setdefault(name.lower(), currency)
                names.append(name)
    for currency in own.values():
        for name in filter(None, (currency.unit.many, makes.bare(currency.unit))):
            if currency.cent is not None:
                named[name.lower()] = currency
                names.append(name)
    measured = {form.replace("{0}", "").strip().lower() for unit in cldr.units.values() for form in unit.forms.values()}
    small = load_language(language).recognition
    return {
        name: currency
        for name, currency in (named | {name: named[name.lower()] for name in names}).items()
        if name.lower() not in measured and len(name) > 2 and not (small and name.lower() in small.stop_words)
    }


def _spellings(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield from (name, name.title(), name.capitalize(), name.upper())
        # German nouns have a capital behind an adjective, too.
        first, _, last = name.rpartition(" ")
        yield f"{first.capitalize()} {last.capitalize()}".strip()
        yield f"{first} {last.capitalize()}".strip()


class _Maker:
    """Makes the currencies of one language of what CLDR calls them."""

    def __init__(self, language: str, cldr: Cldr, words: MoneyWords, regional: RegionMoney) -> None:
        self._language = language
        self._cldr = cldr
        self._words = words
        self._speller = Speller(language) if load_language(language).numbers else None
        self._regional = {code: cent for cent in regional.cents for code in cent.currencies}
        self._cents = {code: cent for cent in words.cents for code in cent.currencies} | self._regional
        heads = [self._head(each.forms["other"]) for each in cldr.currencies.values()]
        self._shared = {head for head in heads if heads.count(head) > 1}

    def plainest(self, code: str) -> Currency:
        """Give a currency its short name, if no other has the same: "zlotys", but "Swiss francs"."""
        forms = self._cldr.currencies[code].forms
        return self.named(code) if self._head(forms["other"]) in self._shared else self.short(code)

    def named(self, code: str) -> Currency:
        """Give a currency its full name."""
        forms = {key: re.sub(r" ?\([^)]*\)", "", form) for key, form in self._cldr.currencies[code].forms.items()}
        return self._currency(code, forms)

    def short(self, code: str) -> Currency:
        """Give a currency its name without the country."""
        forms = {key: self._head(form) for key, form in self._cldr.currencies[code].forms.items()}
        return self._currency(code, forms)

    def _head(self, name: str) -> str:
        name = re.sub(r" ?\([^)]*\)", "", name)
        if self._language == "ja":
            return re.sub(r"^[\u4e00-\u9fff]+(?=[\u30a1-\u30fa])", "", name.rpartition(" ")[2])
        if self._words.head == "last":
            return re.split(r"[ -]", name)[-1]
        return next((word for word in name.split() if word not in self._words.adjectives), name)

    def _currency(self, code: str, forms: Mapping[str, str]) -> Currency:
        many = forms["other"]
        one = forms.get("one", many)
        if self._speller is None:
            return Currency(Unit(many.replace(" ", ""), many.replace(" ", "")))
        is_feminine = not self._words.feminine.isdisjoint(re.split(r"[ -]", many))
        unit = self._unit(one, many, "", forms.get("few", ""), is_feminine=is_feminine)
        return Currency(unit, self.cent(code))

    def is_regional(self, code: str) -> bool:
        """Tell whether the region has a name of its own for the hundredth of a currency."""
        return code in self._regional

    def cent(self, code: str) -> Unit | None:
        """Give the hundredth of a currency; None where it has none."""
        cent = self._cents.get(code)
        if cent is None:
            return None
        return self._unit(cent.one, cent.many, cent.two, cent.few, is_feminine=cent.is_feminine)

    def bare(self, unit: Unit) -> str:
        """Give the singular of a unit without its number."""
        before, _, after = unit.one.partition(" ")
        return before if self._language == "ar" else after

    def _unit(self, one: str, many: str, two: str, few: str, *, is_feminine: bool) -> Unit:
        if self._speller is None:
            return Unit(one, many)
        if self._language == "ar":
            return Unit(f"{one} {'واحدة' if is_feminine else 'واحد'}", many, two, few, is_feminine)
        return Unit(f"{self._speller.counting(1, is_feminine=is_feminine)} {one}", many, two, few, is_feminine)
