"""Values to words: cardinals, years, ordinals, decimals, percentages and amounts of money in nine languages.

Knows nothing of where a number stands in a text; `numbers.py` finds them and asks here. Hindi has its
own table because num2words has none, Portuguese is spelled as in Brazil (most of its speakers), and
commas inside of number words are dropped, because each would be spoken as a pause.
"""

from __future__ import annotations

import copy
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

# Longer numbers are spelled digit by digit: nobody says quadrillions, and the libraries disagree on them.
MAX_DIGITS = 15


@dataclass(frozen=True)
class Unit:
    """The forms of a counted noun.

    Attributes:
        one: the noun with its "one", such as "one dollar".
        many: the noun after any other number.
        two: the noun for exactly two, number included; Arabic only.
        few: the noun after 3 to 10; Arabic only.
        is_feminine: the number agrees with a feminine noun.
    """

    one: str
    many: str
    two: str = ""
    few: str = ""
    is_feminine: bool = False


@dataclass(frozen=True)
class Currency:
    """A currency: its unit and the hundredth of it, where prices use one."""

    unit: Unit
    cent: Unit | None = None


@dataclass(frozen=True)
class Grammar:
    """What a language says around numbers.

    Attributes:
        points: the word for a decimal separator, by separator.
        pair_fractions: a fraction of two digits is said as one number ("virgule quatorze").
        scales: words such as "million" that may stand between a number and its currency, each with what
            links it to the currency.
        money_link: between unit and cents; Arabic attaches it to the next word.
        year_range: plain four-digit numbers that are said as years.
    """

    minus: str
    plus: str
    percent: str
    until: str
    points: Mapping[str, str]
    currencies: Mapping[str, Currency]
    money_link: str
    scales: Mapping[str, str] = field(default_factory=dict[str, str])
    pair_fractions: bool = False
    year_range: range = range(0)


def _words(words: str) -> tuple[str, ...]:
    return tuple(words.split())


def _scales(words: str, link: str = " ") -> dict[str, str]:
    return dict.fromkeys(words.split(), link)


_GRAMMARS: Mapping[str, Grammar] = MappingProxyType(
    {
        "en": Grammar(
            "minus",
            "plus",
            "percent",
            "to",
            {".": "point", ",": "point"},
            {
                "$": Currency(Unit("one dollar", "dollars"), Unit("one cent", "cents")),
                "€": Currency(Unit("one euro", "euros"), Unit("one cent", "cents")),
                "£": Currency(Unit("one pound", "pounds"), Unit("one penny", "pence")),
                "¥": Currency(Unit("one yen", "yen")),
                "₹": Currency(Unit("one rupee", "rupees"), Unit("one paisa", "paise")),
            },
            " and ",
            _scales("thousand million billion trillion lakh crore"),
            year_range=range(1100, 2100),
        ),
        "fr": Grammar(
            "moins",
            "plus",
            "pour cent",
            "à",
            {",": "virgule", ".": "point"},
            {
                "$": Currency(Unit("un dollar", "dollars"), Unit("un cent", "cents")),
                "€": Currency(Unit("un euro", "euros"), Unit("un centime", "centimes")),
                "£": Currency(Unit("une livre", "livres", is_feminine=True), Unit("un penny", "pence")),
                "¥": Currency(Unit("un yen", "yens")),
                "₹": Currency(Unit("une roupie", "roupies", is_feminine=True), Unit("un paisa", "paisas")),
            },
            " et ",
            {**_scales("mille"), **_scales("million millions milliard milliards billion billions", " de ")},
            pair_fractions=True,
        ),
        "es": Grammar(
            "menos",
            "más",
            "por ciento",
            "a",
            {",": "coma", ".": "punto"},
            {
                "$": Currency(Unit("un dólar", "dólares"), Unit("un centavo", "centavos")),
                "€": Currency(Unit("un euro", "euros"), Unit("un céntimo", "céntimos")),
                "£": Currency(Unit("una libra", "libras", is_feminine=True), Unit("un penique", "peniques")),
                "¥": Currency(Unit("un yen", "yenes")),
                "₹": Currency(
                    Unit("una rupia", "rupias", is_feminine=True), Unit("una paisa", "paisas", is_feminine=True)
                ),
            },
            " con ",
            {**_scales("mil"), **_scales("millón millones billón billones", " de ")},
            pair_fractions=True,
        ),
        "de": Grammar(
            "minus",
            "plus",
            "Prozent",
            "bis",
            {",": "Komma", ".": "Punkt"},
            {
                "$": Currency(Unit("ein Dollar", "Dollar"), Unit("ein Cent", "Cent")),
                "€": Currency(Unit("ein Euro", "Euro"), Unit("ein Cent", "Cent")),
                "£": Currency(Unit("ein Pfund", "Pfund"), Unit("ein Penny", "Pence")),
                "¥": Currency(Unit("ein Yen", "Yen")),
                "₹": Currency(Unit("eine Rupie", "Rupien", is_feminine=True), Unit("ein Paisa", "Paisa")),
            },
            " und ",
            _scales("Tausend tausend Million Millionen Milliarde Milliarden Billion Billionen"),
            year_range=range(1100, 2000),
        ),
        "it": Grammar(
            "meno",
            "più",
            "per cento",
            "a",
            {",": "virgola", ".": "punto"},
            {
                "$": Currency(Unit("un dollaro", "dollari"), Unit("un centesimo", "centesimi")),
                "€": Currency(Unit("un euro", "euro"), Unit("un centesimo", "centesimi")),
                "£": Currency(Unit("una sterlina", "sterline", is_feminine=True), Unit("un penny", "penny")),
                "¥": Currency(Unit("uno yen", "yen")),
                "₹": Currency(Unit("una rupia", "rupie", is_feminine=True)),
            },
            " e ",
            {**_scales("mila"), **_scales("milione milioni miliardo miliardi", " di ")},
            pair_fractions=True,
        ),
        "pt": Grammar(
            "menos",
            "mais",
            "por cento",
            "a",
            {",": "vírgula", ".": "ponto"},
            {
                "$": Currency(Unit("um dólar", "dólares"), Unit("um centavo", "centavos")),
                "R$": Currency(Unit("um real", "reais"), Unit("um centavo", "centavos")),
                "€": Currency(Unit("um euro", "euros"), Unit("um centavo", "centavos")),
                "£": Currency(Unit("uma libra", "libras", is_feminine=True), Unit("um penny", "pence")),
                "¥": Currency(Unit("um iene", "ienes")),
                "₹": Currency(Unit("uma rupia", "rupias", is_feminine=True)),
            },
            " e ",
            {**_scales("mil"), **_scales("milhão milhões bilhão bilhões trilhão trilhões", " de ")},
            pair_fractions=True,
        ),
        "nl": Grammar(
            "min",
            "plus",
            "procent",
            "tot",
            {",": "komma", ".": "punt"},
            {
                "$": Currency(Unit("één dollar", "dollar"), Unit("één cent", "cent")),
                "€": Currency(Unit("één euro", "euro"), Unit("één cent", "cent")),
                "£": Currency(Unit("één pond", "pond"), Unit("één penny", "pence")),
                "¥": Currency(Unit("één yen", "yen")),
                "₹": Currency(Unit("één roepie", "roepies")),
            },
            " en ",
            _scales("duizend miljoen miljard biljoen"),
            year_range=range(1100, 2000),
        ),
        "ar": Grammar(
            "سالب",
            "زائد",
            "بالمئة",
            "إلى",
            {".": "فاصلة"},
            {
                "$": Currency(
                    Unit("دولار واحد", "دولار", "دولاران", "دولارات"), Unit("سنت واحد", "سنت", "سنتان", "سنتات")
                ),
                "€": Currency(
                    Unit("يورو واحد", "يورو", "اثنان يورو", "يورو"), Unit("سنت واحد", "سنت", "سنتان", "سنتات")
                ),
                "£": Currency(
                    Unit("جنيه إسترليني واحد", "جنيه إسترليني", "جنيهان إسترلينيان", "جنيهات إسترلينية"),
                    Unit("بنس واحد", "بنس", "بنسان", "بنسات"),
                ),
                "¥": Currency(Unit("ين واحد", "ين", "ينان", "ينات")),
                "₹": Currency(Unit("روبية واحدة", "روبية", "روبيتان", "روبيات", is_feminine=True)),
            },
            " و",
            _scales("ألف مليون مليار تريليون"),
        ),
        "hi": Grammar(
            "माइनस",
            "प्लस",
            "प्रतिशत",
            "से",
            {".": "दशमलव"},
            {
                "$": Currency(Unit("एक डॉलर", "डॉलर"), Unit("एक सेंट", "सेंट")),
                "€": Currency(Unit("एक यूरो", "यूरो"), Unit("एक सेंट", "सेंट")),
                "£": Currency(Unit("एक पाउंड", "पाउंड"), Unit("एक पेनी", "पेंस")),
                "¥": Currency(Unit("एक येन", "येन")),
                "₹": Currency(Unit("एक रुपया", "रुपये"), Unit("एक पैसा", "पैसे")),
            },
            " और ",
            _scales("हज़ार हजार लाख करोड़ करोड़ अरब खरब"),
        ),
    }
)

_HINDI_BELOW_100 = _words(
    "शून्य एक दो तीन चार पाँच छह सात आठ नौ "
    "दस ग्यारह बारह तेरह चौदह पंद्रह सोलह सत्रह अठारह उन्नीस "
    "बीस इक्कीस बाईस तेईस चौबीस पच्चीस छब्बीस सत्ताईस अट्ठाईस उनतीस "
    "तीस इकतीस बत्तीस तैंतीस चौंतीस पैंतीस छत्तीस सैंतीस अड़तीस उनतालीस "
    "चालीस इकतालीस बयालीस तैंतालीस चौवालीस पैंतालीस छियालीस सैंतालीस अड़तालीस उनचास "
    "पचास इक्यावन बावन तिरपन चौवन पचपन छप्पन सत्तावन अट्ठावन उनसठ "
    "साठ इकसठ बासठ तिरसठ चौंसठ पैंसठ छियासठ सड़सठ अड़सठ उनहत्तर "
    "सत्तर इकहत्तर बहत्तर तिहत्तर चौहत्तर पचहत्तर छिहत्तर सतहत्तर अठहत्तर उनासी "
    "अस्सी इक्यासी बयासी तिरासी चौरासी पचासी छियासी सत्तासी अट्ठासी नवासी "
    "नब्बे इक्यानवे बानवे तिरानवे चौरानवे पचानवे छियानवे सत्तानवे अट्ठानवे निन्यानवे"
)
_HINDI_SCALES = (
    (10**13, "नील"),
    (10**11, "खरब"),
    (10**9, "अरब"),
    (10**7, "करोड़"),
    (10**5, "लाख"),
    (10**3, "हज़ार"),
    (100, "सौ"),
)
# num2words leaves a final dual in the form that only stands before a noun.
_ARABIC_DUAL = re.compile(r"(?:مئتا|ألفا|مليونا|مليارا|تريليونا)$")
_SPANISH_ONE_BEFORE_SCALE = re.compile(r"(veinti)?uno(?= (?:mil|millones|billones)\b)")


def grammar_of(language: str) -> Grammar | None:
    """Look up what a language says around numbers; None where numbers stay digits, as in Japanese.

    Japanese reads a number by what it counts, and the digits of a text leave that choice to the model;
    `kana_numbers.py` makes it for models that know kana alone.
    """
    return _GRAMMARS.get(language)


class Speller:
    """Words for values in one language; remembers them for as long as it lives, which is one text.

    Args:
        language: a code for which `grammar_of` has a grammar.
    """

    def __init__(self, language: str) -> None:
        self.language = language
        self.grammar = _GRAMMARS[language]
        self._known: dict[tuple[int, str], str] = {}
        self._converter: Any = None

    def cardinal(self, value: int) -> str:
        """Spell a number of at most `MAX_DIGITS` digits."""
        return self._look_up(value, "cardinal")

    def year(self, value: int) -> str:
        """Spell a number of `grammar.year_range` as a year."""
        return self._look_up(value, "year")

    def ordinal(self, value: int) -> str:
        """Spell an ordinal in its basic (masculine) form."""
        return self._look_up(value, "ordinal")

    def digits(self, digits: str) -> str:
        """Spell ASCII digits one by one."""
        names = {digit: self.cardinal(int(digit)) for digit in set(digits)}
        return " ".join(names[digit] for digit in digits)

    def number(self, whole: str, fraction: str | None = None, point: str = ".") -> str:
        """Spell a number given by the ASCII digits before and after its decimal separator."""
        words = self.digits(whole) if len(whole) > MAX_DIGITS else self.cardinal(int(whole))
        if fraction is None:
            return words
        if self.grammar.pair_fractions and len(fraction) <= 2 and not fraction.startswith("0"):
            after = self.cardinal(int(fraction))
        else:
            after = self.digits(fraction)
        return f"{words} {self.grammar.points[point]} {after}"

    def amount(self, currency: Currency, whole: str, fraction: str | None, point: str) -> str:
        """Spell an amount of money; two digits of fraction are cents where the currency has them."""
        if len(whole) > MAX_DIGITS or (fraction and (len(fraction) != 2 or currency.cent is None)):
            return f"{self.number(whole, fraction, point)} {currency.unit.many}"
        units, cents = int(whole), int(fraction or 0)
        if cents == 0 or currency.cent is None:
            return self.counted(units, currency.unit)
        if units == 0:
            return self.counted(cents, currency.cent)
        return self.counted(units, currency.unit) + self.grammar.money_link + self.counted(cents, currency.cent)

    def counted(self, value: int, unit: Unit) -> str:
        """Spell a number and the noun that it counts."""
        if value == 1:
            return unit.one
        if value == 2 and unit.two:
            return unit.two
        noun = unit.few if unit.few and 3 <= value % 100 <= 10 else unit.many
        words = self.before_noun(self.cardinal(value), is_feminine=unit.is_feminine)
        return words + self.scale_link(words.rsplit(" ", 1)[-1], noun) + noun

    def scale_link(self, scale: str, noun: str) -> str:
        """Choose what stands between "million" and a noun: a space, or the "de" of Romance languages."""
        link = self.grammar.scales.get(scale, " ")
        return " d'" if self.language == "fr" and link == " de " and noun[0] in "aeiou" else link

    def before_noun(self, words: str, *, is_feminine: bool = False) -> str:
        """Make number words agree with a noun that follows."""
        for pattern, masculine, feminine in _AGREEMENT.get(self.language, ()):
            words = re.sub(pattern, feminine if is_feminine else masculine, words)
        return words

    def agrees(self, words: str) -> bool:
        """Tell whether number words would change their form with the gender of a noun after them."""
        ending = _GENDERED_ENDINGS.get(self.language)
        return ending is not None and re.search(ending, words) is not None

    def _look_up(self, value: int, form: str) -> str:
        key = value, form
        if key not in self._known:
            self._known[key] = _hindi(value) if self.language == "hi" else self._from_library(value, form)
        return self._known[key]

    def _from_library(self, value: int, form: str) -> str:
        if self._converter is None:
            self._converter = _copy_converter(self.language)
        words: str = getattr(self._converter, f"to_{form}")(value).replace(",", "")
        if self.language == "ar":
            words = _ARABIC_DUAL.sub(r"\g<0>ن", words.replace(" و ", " و"))
        elif self.language == "es":
            words = _SPANISH_ONE_BEFORE_SCALE.sub(lambda found: "veintiún" if found.group(1) else "un", words)
        elif self.language == "nl" and form == "year":
            words = words.replace(" ", "")
        return words


# By language: (pattern at the end of number words, form with a masculine noun, form with a feminine noun).
_AGREEMENT: Mapping[str, tuple[tuple[str, str, str], ...]] = MappingProxyType(
    {
        "de": ((r"eins$", "ein", "eine"),),
        "es": (
            (r"veintiuno$", "veintiún", "veintiuna"),
            (r"\buno$", "un", "una"),
            (r"(cient|quinient|novecient|setecient)os\b", r"\1os", r"\1as"),
        ),
        "fr": ((r"\bun$", "un", "une"),),
        "pt": (
            (r"\bum$", "um", "uma"),
            (r"\bdois$", "dois", "duas"),
            (r"\bdois mil\b", "dois mil", "duas mil"),
            (r"(cent|quinhent|duzent|trezent)os\b", r"\1os", r"\1as"),
        ),
        "ar": (
            (r"(مئتا|ألفا|مليونا|مليارا|تريليونا)ن$", r"\1", r"\1"),
            (r"^ثمانية$", "ثمانية", "ثماني"),
            (r"^(ثلاث|أربع|خمس|ست|سبع|تسع|عشر)ة$", r"\1ة", r"\1"),
        ),
    }
)
_GENDERED_ENDINGS: Mapping[str, str] = MappingProxyType(
    {"de": r"eins$", "es": r"uno$", "fr": r"\bun$", "it": r"^uno$", "pt": r"\b(?:um|dois)$"}
)


def _copy_converter(language: str) -> Any:
    """Copy what num2words has for a language, for one text.

    Some of its converters hold the number that they are writing: of two texts in two threads one would get numbers of
    the other. And they look through all their words from the largest down, so those that are never asked for are left
    out: German, with words up to 10**600, takes a quarter of the time.
    """
    library: Any = importlib.import_module("num2words")  # ships no types
    converter = copy.copy(library.CONVERTER_CLASSES["pt_BR" if language == "pt" else language])
    if hasattr(converter, "cards"):
        converter.cards = {size: word for size, word in converter.cards.items() if size < 10**MAX_DIGITS}
    return converter


def _hindi(value: int) -> str:
    """Spell a number in the Indian system of lakh and crore."""
    if value < 100:
        return _HINDI_BELOW_100[value]
    words: list[str] = []
    for size, name in _HINDI_SCALES:
        count, value = divmod(value, size)
        if count:
            words += (_hindi(count), name)
    if value:
        words.append(_HINDI_BELOW_100[value])
    return " ".join(words)
