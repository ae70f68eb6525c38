"""Values to words: cardinals, years, ordinals, decimals and amounts of money in nine languages.

Knows nothing of where a number stands in a text; the rules in `reading` find them and ask here. Cardinals, years and
most ordinals come from num2words, mended where it errs; all other words from the files of the languages
(`language_data.py`). Commas inside of number words are dropped, because each would be spoken as a pause.
"""

from __future__ import annotations

import copy
import importlib
import re
from collections.abc import Callable
from typing import Any

from voxtral.errors import LanguageError, quoted
from voxtral.text.language_data import Currency, Grammar, OwnWords, load_language
from voxtral.text.ordinal_words import (
    arabic_ordinal,
    french_ordinal,
    hindi_ordinal,
    romance_form,
    romance_plural,
    spanish_ordinal,
)
from voxtral.text.plurals import Category, plural_category
from voxtral.text.tables.counted import Unit

# Longer numbers are spelled digit by digit: nobody says quadrillions.
MAX_DIGITS = 15
# Where thousands are grouped, a longer number is a quantity all the same. The Portuguese of num2words ends here.
MAX_GROUPED_DIGITS = 18

# num2words leaves a final dual in the form that only stands before a noun.
_ARABIC_DUAL = re.compile(r"(?:مئتا|ألفا|مليونا|مليارا|تريليونا)$")
_SPANISH_ONE_BEFORE_SCALE = re.compile(r"(veinti)?uno(?= (?:mil|millones|billones)\b)")
# Other slips of num2words 0.5.14, by language: what is wrong and what is right, whatever the value.
_SLIPS: dict[str, tuple[tuple[re.Pattern[str], str], ...]] = {
    "it": ((re.compile(r"dicott"), "diciott"),),
    "de": (
        (re.compile(r"eins(?=tausend)"), "ein"),
        (re.compile(r"eins(?= (?:Milli|Billi|Trilli))"), "eine"),
    ),
    # The singular that is counted has its ending after 11 to 99 alone: "ستمائة ألف".
    "ar": ((re.compile(r"(?:(?<=مائة )|(?<=مئتا ))(ألف|مليون|مليار|تريليون)اً"), r"\1"),),
}

# Languages whose numbers are those of their groups of three digits in a row: what stands between them behind a million
# and behind a thousand, and the same before a last group below a hundred. Elsewhere groups change beside others.
_JOINTS: dict[str, tuple[str, str, str, str]] = {
    "en": (" ", " ", " and ", " and "),
    "de": (" ", "", " ", ""),
    "fr": (" ", " ", " ", " "),
    "es": (" ", " ", " ", " "),
    "nl": (" ", "", " ", ""),
}


def grammar_of(language: str) -> Grammar | None:
    """Look up what a language says around numbers; None where numbers stay digits, as in Japanese.

    Japanese reads a number by what it counts, and the digits of a text leave that choice to the model;
    `kana_numbers.py` makes it for models that know kana alone.
    """
    return load_language(language).numbers


class Speller:
    """Words for values in one language; remembers them for as long as it lives, which is one text.

    Args:
        language: a code for which `grammar_of` has a grammar.
        region: of the language, such as PT, where its numbers are others; "" for the usual ones.

    Raises:
        LanguageError: it has none.
    """

    def __init__(self, language: str, region: str = "") -> None:
        grammar = grammar_of(language)
        if grammar is None:
            raise LanguageError(
                f"the language {quoted(language)} has no words for numbers; they stay digits; leave them"
            )
        self.language = language
        self.region = region
        self.grammar = grammar
        self._known: dict[tuple[int, str], str] = {}
        self._digits: dict[str, str] = {}
        self._agreed: dict[tuple[str, bool], str] = {}
        self._converter: Any = None

    def cardinal(self, value: int) -> str:
        """Spell a number of at most `MAX_GROUPED_DIGITS` digits."""
        return self._look_up(value, "cardinal")

    def counting(self, value: int, *, is_feminine: bool = False) -> str:
        """Spell a number in the form that stands before a noun."""
        return self.before_noun(self.cardinal(value), is_feminine=is_feminine)

    def year(self, value: int) -> str:
        """Spell a number of `grammar.years` as a year."""
        return self._look_up(value, "year")

    def ordinal(self, value: int, form: str = "masculine") -> str:
        """Spell an ordinal.

        Args:
            value: at least 1.
            form: masculine or feminine, with " plural" for many; "short" before a noun in Spanish; "oblique" in Hindi.
                Languages without such forms, and German, whose caller adds the ending to "dritte", ignore it.
        """
        words = self._look_up(value, "ordinal")
        if self.language in {"es", "it", "pt"}:
            words = romance_form(words, form)
            return romance_plural(words, self.language) if form.endswith("plural") else words
        if self.language == "fr":
            words = "première" if words == "premier" and form.startswith("feminine") else words
            return words + "s" if form.endswith("plural") else words
        if self.language == "hi":
            vowel, nasal = {"feminine": ("ी", "वीं"), "oblique": ("े", "वें")}.get(form, ("ा", "वां"))
            return words[:-3] + nasal if words.endswith("वां") else words[:-1] + vowel
        if self.language == "ar" and form != "masculine":
            return arabic_ordinal(
                value, self.cardinal, is_definite="definite" in form, is_feminine=form.startswith("feminine")
            )
        return words

    def category(self, whole: str, fraction: str | None = None) -> Category:
        """Choose the plural category of a number given by its ASCII digits."""
        return plural_category(self.language, whole, fraction, self.region)

    def digits(self, digits: str) -> str:
        """Spell ASCII digits one by one."""
        if not self._digits:
            self._digits = {digit: self.cardinal(int(digit)) for digit in "0123456789"}
        names = self._digits
        return " ".join([names[digit] for digit in digits])

    def number(self, whole: str, fraction: str | None = None, point: str = ".") -> str:
        """Spell a number given by the ASCII digits before and after its decimal separator."""
        words = self.digits(whole) if len(whole) > MAX_GROUPED_DIGITS else self.cardinal(int(whole))
        if fraction is None:
            return words
        parts = self.grammar.decimal_parts.get(len(fraction), "") if point == "," else ""
        if parts and int(fraction):
            return f"{words} {parts.format(self.cardinal(int(fraction)))}"
        if self.grammar.pair_fractions and len(fraction) <= 2 and not fraction.startswith("0"):
            after = self.cardinal(int(fraction))
        else:
            after = self.digits(fraction)
        return f"{words} {self.grammar.decimal_words[point]} {after}"

    def say(self, whole: str, fraction: str | None, point: str) -> str:
        """Spell a number as `number` does; one without whole part as "point five", where that is usual."""
        if not whole and self.language == "en":
            return f"{self.grammar.decimal_words[point]} {self.digits(fraction or '')}"
        return self.number(whole or "0", fraction, point)

    def amount(self, currency: Currency, whole: str, fraction: str | None, point: str) -> str:
        """Spell an amount of money; two digits of fraction are cents where the currency has them."""
        if len(whole) > MAX_GROUPED_DIGITS or (fraction and (len(fraction) != 2 or currency.cent is None)):
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
        linked = self.grammar.linked_numbers
        if linked is None or scale not in linked.words:
            return " "
        # "d'euros" has no space.
        return f" {linked.link_before_vowel}" if linked.link_before_vowel and noun[0] in "aeiou" else f" {linked.link} "

    def before_noun(self, words: str, *, is_feminine: bool = False) -> str:
        """Make number words agree with a noun that follows."""
        agreed = self._agreed.get((words, is_feminine))
        if agreed is None:
            agreed = words
            for rule in self.grammar.agreement:
                agreed = re.sub(rule.ending, rule.feminine if is_feminine else rule.masculine, agreed)
            self._agreed[words, is_feminine] = agreed
        return agreed

    def _look_up(self, value: int, form: str) -> str:
        if value < 1000:
            # Others are made of these, in most languages.
            shared = self.language, self.region, value, form
            if shared not in _SMALL:
                _SMALL[shared] = self._spell(value, form)
            return _SMALL[shared]
        key = value, form
        if key not in self._known:
            self._known[key] = self._spell(value, form)
        return self._known[key]

    def _spell(self, value: int, form: str) -> str:
        own_words = self.grammar.own_words if form != "ordinal" else None
        composed = self._composed(value) if form == "cardinal" and not own_words else None
        if composed:
            return composed
        return _from_own_words(value, own_words) if own_words else self._from_library(value, form)

    def _composed(self, value: int) -> str | None:
        """Put a cardinal together from its groups of three digits, each of which is looked up once."""
        if value < 1000 or self.language not in _JOINTS:
            return None
        parts: list[int] = []
        size, left = 1, value
        while left:
            # "Mil doscientos millones": in Spanish all above a million is one group.
            left, group = divmod(left, 1000) if self.language != "es" or size < 10**6 else (0, left)
            if group:
                parts.append(group * size)
            size *= 1000
        if len(parts) == 1:
            return None
        joints = _JOINTS[self.language]
        said = self._look_up(parts[-1], "cardinal")
        for part, before in zip(reversed(parts[:-1]), reversed(parts), strict=False):
            joint = joints[(before < 10**6) + 2 * (part < 100)]
            said += joint + self._look_up(part, "cardinal")
        return said

    def _from_library(self, value: int, form: str) -> str:
        if form == "ordinal" and self.language in _OWN_ORDINALS:
            return _OWN_ORDINALS[self.language](value, self.cardinal)
        if self._converter is None:
            regional = self.grammar.regional_num2words.get(self.region)
            self._converter = _copy_converter(regional or self.grammar.num2words or self.language)
        words: str = getattr(self._converter, f"to_{form}")(value).replace(",", "")
        if self.language == "ar":
            words = _ARABIC_DUAL.sub(r"\g<0>ن", words.replace(" و ", " و"))
        elif self.language == "es":
            words = _SPANISH_ONE_BEFORE_SCALE.sub(lambda found: "veintiún" if found.group(1) else "un", words)
        elif self.language == "nl" and form == "year":
            words = words.replace(" ", "")
        elif self.language in {"it", "nl"} and form == "ordinal":
            # "un milionesimo" is a fraction.
            words = re.sub(r"^(?:un|een) ", "", words)
        for slip, right in _SLIPS.get(self.language, ()):
            words = slip.sub(right, words)
        return words


_OWN_ORDINALS: dict[str, Callable[[int, Callable[[int], str]], str]] = {
    "fr": french_ordinal,
    "es": spanish_ordinal,
    "ar": arabic_ordinal,
    "hi": hindi_ordinal,
}


# Words for values below a thousand, by language, region, value and form.
_SMALL: dict[tuple[str, str, int, str], str] = {}


def _copy_converter(name: str) -> Any:
    """Copy what num2words has under a name, for one text.

    Some of its converters hold the number that they are writing: of two texts in two threads one would get numbers of
    the other. And they look through all their words from the largest down, so those that are never asked for are left
    out: German, with words up to 10**600, takes a quarter of the time.
    """
    library: Any = importlib.import_module("num2words")  # ships no types
    converter = copy.copy(library.CONVERTER_CLASSES[name])
    if hasattr(converter, "cards"):
        converter.cards = {size: word for size, word in converter.cards.items() if size < 10**MAX_GROUPED_DIGITS}
    return converter


def _from_own_words(value: int, words: OwnWords) -> str:
    """Spell a number as so many of each power, the largest first, and the rest."""
    if value < 100:
        return words.below_100[value]
    spoken: list[str] = []
    for size in sorted(words.powers, reverse=True):
        count, value = divmod(value, size)
        if count:
            spoken += (_from_own_words(count, words), words.powers[size])
    if value:
        spoken.append(words.below_100[value])
    return " ".join(spoken)
