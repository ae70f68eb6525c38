"""What the Unicode CLDR knows of each language: months, weekdays, units and currencies.

The files in `data/cldr` are written by `recipes/cldr_tables.py` and never by hand; what is wrong in them for speech is
corrected in the file of the language (`language_data.py`). A file is read when it is first needed.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from voxtral.errors import LanguageFileError

Forms = Mapping[str, str]


@dataclass(frozen=True)
class CldrUnit:
    """A unit of measurement.

    Attributes:
        symbols: short forms beside the international one.
        forms: by plural category (zero, one, two, few, many, other) the number and the unit, with "{0}" for the
            number, which may be missing; "per" for what stands behind another unit; "gender" where CLDR knows it.
    """

    symbols: tuple[str, ...]
    forms: Forms


@dataclass(frozen=True)
class CldrCurrency:
    """A currency.

    Attributes:
        symbol: of it in texts of the language.
        forms: its name by plural category.
    """

    symbol: str
    forms: Forms


@dataclass(frozen=True)
class Cldr:
    """The tables of a language.

    Attributes:
        months: their names, January first; as they stand in dates.
        months_alone: as they stand alone.
        months_short: short, as they stand in dates.
        months_short_alone: short, as they stand alone.
        weekdays: Monday first.
        weekdays_short: short.
        short_date: the order of a date in digits, such as "dd.MM.yy".
        per: what stands for "/" between units: "{0} per {1}".
        units: by their international symbol.
        currencies: by their ISO code.
    """

    months: tuple[str, ...]
    months_alone: tuple[str, ...]
    months_short: tuple[str, ...]
    months_short_alone: tuple[str, ...]
    weekdays: tuple[str, ...]
    weekdays_short: tuple[str, ...]
    short_date: str
    per: str
    units: Mapping[str, CldrUnit]
    currencies: Mapping[str, CldrCurrency]


@cache
def load_cldr(code: str) -> Cldr:
    """Read the tables of a language, once.

    Args:
        code: a key of `LANGUAGES`.

    Raises:
        LanguageFileError: the file is missing or damaged.
    """
    file = files("voxtral.text") / "data" / "cldr" / f"{code}.toml"
    try:
        found: dict[str, Any] = tomllib.loads(file.read_text(encoding="utf-8"))
        return Cldr(
            months=tuple(found["months_wide"]),
            months_alone=tuple(found.get("months_wide_alone", found["months_wide"])),
            months_short=tuple(found["months_abbreviated"]),
            months_short_alone=tuple(found.get("months_abbreviated_alone", found["months_abbreviated"])),
            weekdays=tuple(found["weekdays_wide"]),
            weekdays_short=tuple(found["weekdays_abbreviated"]),
            short_date=found["short_date"],
            per=found["per"],
            units={name: CldrUnit(tuple(unit["symbols"]), unit["forms"]) for name, unit in found["units"].items()},
            currencies={
                name: CldrCurrency(currency["symbol"], currency["forms"])
                for name, currency in found["currencies"].items()
            },
        )
    except (OSError, ValueError, KeyError) as error:
        raise LanguageFileError(
            f"{file} cannot be read ({error!r}); every language needs its tables; install voxtral-tts again"
        ) from error
