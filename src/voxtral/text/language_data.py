"""What is known of each language: words, abbreviations, names. Read from its file in `data/`, which needs no Python.

`data/README.md` says what the keys of the files mean; the fields of the dataclasses are these keys, and a key whose
field has a default may be left out. A file is read and checked when its language is first needed, never at import.
Knows nothing of texts: `language.py`, `spelling.py`, `abbreviations.py` and `kana_numbers.py` ask here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from voxtral.errors import LanguageFileError
from voxtral.text.tables.amounts import AmountWords
from voxtral.text.tables.counted import Unit
from voxtral.text.tables.dates import DateWords
from voxtral.text.tables.fractions import FractionWords
from voxtral.text.tables.maths import MathsWords
from voxtral.text.tables.measures import MeasureWords
from voxtral.text.tables.money import MoneyWords
from voxtral.text.tables.nouns import NounWords
from voxtral.text.tables.ordinals import OrdinalWords
from voxtral.text.tables.phones import PhoneWords
from voxtral.text.tables.roman import RomanWords
from voxtral.text.tables.shorthand import Shorthand
from voxtral.text.tables.signs import SignWords
from voxtral.text.tables.spelled import SpelledWords
from voxtral.text.tables.times import TimeWords
from voxtral.text.tables.years import YearWords

Words = tuple[str, ...]
WordSet = frozenset[str]


@dataclass(frozen=True)
class SentenceWords:
    """What tells the end of a sentence from an abbreviation."""

    abbreviations: WordSet = frozenset()
    abbreviations_in_small_letters: WordSet = frozenset()
    abbreviations_at_end: WordSet = frozenset()
    abbreviations_before_numbers: WordSet = frozenset()
    acronyms: WordSet = frozenset()
    first_words: WordSet = frozenset()


@dataclass(frozen=True)
class Currency:
    """A currency: its unit and the hundredth of it, where prices use one."""

    unit: Unit
    cent: Unit | None = None


@dataclass(frozen=True)
class Years:
    """The numbers of four digits that are said as years, both ends included."""

    first: int
    last: int

    def __contains__(self, value: int) -> bool:
        return self.first <= value <= self.last


@dataclass(frozen=True)
class LinkedNumbers:
    """Words such as "million" with the word that links them to what is counted."""

    words: Words
    link: str
    link_before_vowel: str = ""


@dataclass(frozen=True)
class Agreement:
    """How the end of number words changes before a noun; `ending` is a regular expression."""

    ending: str
    masculine: str
    feminine: str


@dataclass(frozen=True)
class PointOrdinals:
    """What tells an ordinal with its point ("am 3. Mai") from the end of a sentence, and which ending it has."""

    months: WordSet
    short_months: WordSet
    n_after: WordSet
    articles: WordSet
    prepositions: WordSet
    other_determiners: WordSet
    masculine: WordSet = frozenset()
    feminine: WordSet = frozenset()
    neuter: WordSet = frozenset()


@dataclass(frozen=True)
class OwnWords:
    """The number words of a language that num2words does not have; `powers` by their value."""

    below_100: Words
    powers: Mapping[int, str]


@dataclass(frozen=True)
class Grammar:
    """What a language says around numbers."""

    written: Literal["1,234.56", "1.234,56", "1 234,56"]
    minus: str
    plus: str
    percent: str
    until: str
    decimal_words: Mapping[str, str]
    money_link: str
    currencies: Mapping[str, Currency]
    large_numbers: Words = ()
    linked_numbers: LinkedNumbers | None = None
    agreement: tuple[Agreement, ...] = ()
    pair_fractions: bool = False
    decimal_parts: Mapping[int, str] = field(default_factory=dict[int, str])
    years: Years | None = None
    ordinals_with_point: PointOrdinals | None = None
    num2words: str = ""
    regional_num2words: Mapping[str, str] = field(default_factory=dict[str, str])
    own_words: OwnWords | None = None

    @property
    def has_decimal_point(self) -> bool:
        """Tell whether the point is the decimal separator and the comma that of thousands."""
        return self.written == "1,234.56"


@dataclass(frozen=True)
class KanaWords:
    """How Japanese is read in kana."""

    letter_names: Mapping[str, str]
    common_readings: Mapping[str, str]
    greetings: WordSet
    currencies: Mapping[str, str]
    counters: Mapping[str, str]
    counted: Mapping[str, Mapping[int, str]]
    last_words: Mapping[str, Mapping[str, str]]


@dataclass(frozen=True)
class Recognition:
    """What tells a text of the language from those of others: its small words, and the letters beside a to z."""

    stop_words: WordSet
    letters: str = ""


@dataclass(frozen=True)
class Neighbours:
    """Languages in the scripts of ours, by name."""

    neighbours: Mapping[str, Recognition]


@dataclass(frozen=True)
class LanguageData:
    """All that a file says of its language."""

    names: Words
    scripts: WordSet
    sample: str
    recognition: Recognition | None = None
    sentences: SentenceWords = field(default_factory=SentenceWords)
    numbers: Grammar | None = None
    kana: KanaWords | None = None
    nouns: NounWords | None = None
    amounts: AmountWords | None = None
    ordinals: OrdinalWords | None = None
    fractions: FractionWords | None = None
    maths: MathsWords | None = None
    money: MoneyWords | None = None
    measures: MeasureWords | None = None
    roman: RomanWords | None = None
    signs: SignWords | None = None
    spelled: SpelledWords | None = None
    phones: PhoneWords | None = None
    shorthand: Shorthand | None = None
    dates: DateWords | None = None
    years: YearWords | None = None
    times: TimeWords | None = None


@cache
def load_language(code: str) -> LanguageData:
    """Read the file of a language, once.

    Args:
        code: a key of `LANGUAGES`.

    Raises:
        LanguageFileError: the file is missing, or it breaks a rule; the message names the place.
    """
    return parse_language(_read_file(f"{code}.toml"), f"{code}.toml")


@cache
def load_neighbours() -> Mapping[str, Recognition]:
    """Read the file of the languages that are not ours, once.

    Raises:
        LanguageFileError: as `load_language`.
    """
    name = "neighbours.toml"
    found: Neighbours = _read_table(Neighbours, _parse(_read_file(name), name), name)
    return found.neighbours


def _read_file(name: str) -> str:
    file = files("voxtral.text") / "data" / name
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LanguageFileError(
            f"{file} cannot be read ({error}); every language needs its file, in UTF-8; install voxtral-tts again"
        ) from error


# Reading ---------------------------------------------------------------------------------------------

_KINDS = {str: "a text in quotes", int: "a whole number", bool: "true or false", dict: "a table", list: "a list"}


def parse_language(source: str, name: str) -> LanguageData:
    """Read what a file says of its language.

    Args:
        source: the text of the file.
        name: what the file is called, for messages.

    Raises:
        LanguageFileError: it is no TOML, or a key is unknown, missing or of the wrong kind, or a list has a word twice.
    """
    return _read_table(LanguageData, _parse(source, name), name)


def _parse(source: str, name: str) -> dict[str, Any]:
    # Here, because a language is first needed long after the import.
    import tomllib

    try:
        return tomllib.loads(source)
    except tomllib.TOMLDecodeError as error:
        raise LanguageFileError(f"{name} is no TOML ({error}); mend that line") from error


@cache
def _hints(kind: type[Any]) -> dict[str, Any]:
    return get_type_hints(kind)


def _read_table(kind: type[Any], value: object, where: str) -> Any:
    """Make a dataclass of a table whose keys are its fields."""
    table = _expect(dict, value, where)
    known = _hints(kind)
    for key in table:
        if key not in known:
            raise LanguageFileError(f"{where} has the unknown key {key!r}; it may have {', '.join(known)}; correct it")
    for item in fields(kind):
        is_needed = item.default is MISSING and item.default_factory is MISSING
        if is_needed and item.name not in table:
            raise LanguageFileError(f"{where} lacks the key {item.name!r}; data/README.md says what it is; add it")
    return kind(**{key: _read(known[key], item, f"{where}: {key}") for key, item in table.items()})


def _read(hint: Any, value: object, where: str) -> Any:
    """Read a value as the type of its field says."""
    kind: Any = get_origin(hint) or hint
    parts = get_args(hint)
    result: Any = value
    if kind is UnionType:
        result = _read(parts[0], value, where)  # "or None" is for a key that is left out
    elif kind is Literal:
        if value not in parts:
            raise LanguageFileError(f"{where} is {value!r}; it must be one of {', '.join(map(repr, parts))}")
    elif kind is Mapping:
        table = _expect(dict, value, where)
        result = MappingProxyType(
            {_read_key(parts[0], key, where): _read(parts[1], item, f"{where}: {key}") for key, item in table.items()}
        )
    elif hint in (Words, WordSet):
        result = kind(_read_words(value, where))
    elif parts:  # a tuple of tables
        result = tuple(_read(parts[0], item, where) for item in _expect(list, value, where))
    elif is_dataclass(hint):
        result = _read_table(kind, value, where)
    else:
        result = _expect(kind, value, where)
    return result


def _read_words(value: object, where: str) -> list[str]:
    words: list[str] = _expect(str, value, where).split()
    for index, word in enumerate(words):
        if word in words[:index]:
            raise LanguageFileError(f"{where} has the word {word!r} twice; leave one of them out")
    return words


def _read_key(kind: type[Any], key: str, where: str) -> Any:
    if kind is int and not key.isdecimal():
        raise LanguageFileError(f"{where} has the key {key!r}; its keys must be whole numbers; correct it")
    return kind(key)


def _expect(kind: type[Any], value: object, where: str) -> Any:
    # Not isinstance, to which true is a number.
    if type(value) is not kind:
        raise LanguageFileError(f"{where} is {value!r}; it must be {_KINDS[kind]}; correct it")
    return value
