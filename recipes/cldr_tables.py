"""Write the tables of CLDR that the package ships: months, weekdays, units, currencies and emoji of ten languages.

    pip install babel
    npm install cldr-annotations-full@48.2.0 cldr-annotations-derived-full@48.2.0
    python recipes/cldr_tables.py node_modules

It is run when CLDR has something new, never when the package is used. What it writes, `src/voxtral/text/data/cldr/`,
is under the Unicode licence, whose text lies beside the tables. `UNITS`, `currencies` and `is_named` say what is taken.
Names of emoji are packed, because they are many; their digits are written as words, so that they can be spoken as they
are.
"""

from __future__ import annotations

import gzip
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from babel import Locale
from babel import __version__ as babel_version
from babel.core import get_global

from voxtral.text.normalize import normalize

FOLDER = Path(__file__).parents[1] / "src/voxtral/text/data/cldr"
LANGUAGES = ("ar", "de", "en", "es", "fr", "hi", "it", "ja", "nl", "pt")

# Emoji by default or by a variation selector; what is read as text without one, such as ♪, is none.
_EMOJI = re.compile(
    "[\u00a9\u00ae\u203c\u2049\u2122\u2139\u2194-\u2199\u21a9\u21aa\u231a\u231b\u2328\u23cf\u23e9-\u23f3\u23f8-\u23fa\u24c2"
    "\u25aa\u25ab\u25b6\u25c0\u25fb-\u25fe\u2600-\u2669\u266c\u2670-\u2775\u2794-\u27bf\u2934\u2935\u2b05-\u2b07\u2b1b\u2b1c\u2b50"
    "\u2b55\u3030\u303d\u3297\u3299\U0001f000-\U0001faff]"
)
# What has a gender that no rule knows.
_IN_WORDS = {"de": {"1 Erwachsene(r)": "ein Erwachsener", "1 Kind": "ein Kind"}}
_SKIN = re.compile("[\U0001f3fb-\U0001f3ff]")

# By the symbol that is written in all languages; CLDR's names.
UNITS = {
    "nm": "length-nanometer",
    "µm": "length-micrometer",
    "mm": "length-millimeter",
    "cm": "length-centimeter",
    "dm": "length-decimeter",
    "m": "length-meter",
    "km": "length-kilometer",
    "in": "length-inch",
    "ft": "length-foot",
    "yd": "length-yard",
    "mi": "length-mile",
    "ly": "length-light-year",
    "mm²": "area-square-millimeter",
    "cm²": "area-square-centimeter",
    "m²": "area-square-meter",
    "km²": "area-square-kilometer",
    "ft²": "area-square-foot",
    "mi²": "area-square-mile",
    "in²": "area-square-inch",
    "yd²": "area-square-yard",
    "ha": "area-hectare",
    "ac": "area-acre",
    "cm³": "volume-cubic-centimeter",
    "m³": "volume-cubic-meter",
    "km³": "volume-cubic-kilometer",
    "ft³": "volume-cubic-foot",
    "in³": "volume-cubic-inch",
    "yd³": "volume-cubic-yard",
    "ml": "volume-milliliter",
    "cl": "volume-centiliter",
    "dl": "volume-deciliter",
    "l": "volume-liter",
    "hl": "volume-hectoliter",
    "gal": "volume-gallon",
    "qt": "volume-quart",
    "pt": "volume-pint",
    "cup": "volume-cup",
    "tbsp": "volume-tablespoon",
    "tsp": "volume-teaspoon",
    "bbl": "volume-barrel",
    "µg": "mass-microgram",
    "mg": "mass-milligram",
    "g": "mass-gram",
    "kg": "mass-kilogram",
    "t": "mass-tonne",
    "oz": "mass-ounce",
    "lb": "mass-pound",
    "ct": "mass-carat",
    "st": "mass-stone",
    "ns": "duration-nanosecond",
    "µs": "duration-microsecond",
    "ms": "duration-millisecond",
    "s": "duration-second",
    "min": "duration-minute",
    "h": "duration-hour",
    "d": "duration-day",
    "wk": "duration-week",
    "mo": "duration-month",
    "yr": "duration-year",
    "m/s": "speed-meter-per-second",
    "km/h": "speed-kilometer-per-hour",
    "mph": "speed-mile-per-hour",
    "kn": "speed-knot",
    "m/s²": "acceleration-meter-per-square-second",
    "°": "angle-degree",
    "°C": "temperature-celsius",
    "°F": "temperature-fahrenheit",
    "K": "temperature-kelvin",
    "Pa": "pressure-pascal",
    "hPa": "pressure-hectopascal",
    "kPa": "pressure-kilopascal",
    "MPa": "pressure-megapascal",
    "bar": "pressure-bar",
    "mbar": "pressure-millibar",
    "mmHg": "pressure-millimeter-ofhg",
    "psi": "pressure-pound-force-per-square-inch",
    "atm": "pressure-atmosphere",
    "J": "energy-joule",
    "kJ": "energy-kilojoule",
    "cal": "energy-calorie",
    "kcal": "energy-kilocalorie",
    "kWh": "energy-kilowatt-hour",
    "eV": "energy-electronvolt",
    "mW": "power-milliwatt",
    "W": "power-watt",
    "kW": "power-kilowatt",
    "MW": "power-megawatt",
    "GW": "power-gigawatt",
    "hp": "power-horsepower",
    "N": "force-newton",
    "Hz": "frequency-hertz",
    "kHz": "frequency-kilohertz",
    "MHz": "frequency-megahertz",
    "GHz": "frequency-gigahertz",
    "A": "electric-ampere",
    "mA": "electric-milliampere",
    "V": "electric-volt",
    "Ω": "electric-ohm",
    "F": "electric-farad",
    "T": "magnetic-tesla",
    "lx": "light-lux",
    "lm": "light-lumen",
    "cd": "light-candela",
    "bit": "digital-bit",
    "B": "digital-byte",
    "kB": "digital-kilobyte",
    "MB": "digital-megabyte",
    "GB": "digital-gigabyte",
    "TB": "digital-terabyte",
    "PB": "digital-petabyte",
    "kb": "digital-kilobit",
    "Mb": "digital-megabit",
    "Gb": "digital-gigabit",
    "px": "graphics-pixel",
    "MP": "graphics-megapixel",
    "dpi": "graphics-dot-per-inch",
    "dB": "sound-decibel",
    "mol": "concentr-mole",
    "ppm": "concentr-part-per-1e6",
    "‰": "concentr-permille",
    "l/km": "consumption-liter-per-kilometer",
    "l/100km": "consumption-liter-per-100-kilometer",
    "mpg": "consumption-mile-per-gallon",
}
# Currencies that are no longer tender, but are still written of; those that are come from CLDR.
FORMER_CURRENCIES = [
    "DEM",
    "FRF",
    "ITL",
    "ESP",
    "PTE",
    "NLG",
    "BEF",
    "ATS",
    "FIM",
    "GRD",
    "IEP",
    "HRK",
    "BGN",
    "SUR",
    "BTC",
]


def quoted(text: str) -> str:
    """Write a TOML string."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def table(items: Mapping[str, str]) -> str:
    """Write an inline table."""
    return "{ " + ", ".join(f"{quoted(key)} = {quoted(value)}" for key, value in items.items()) + " }"


def words(items: Iterable[str]) -> str:
    """Write a list of texts."""
    return "[" + ", ".join(map(quoted, items)) + "]"


def symbols_of(unit: Mapping[str, Any]) -> Iterator[str]:
    """Give the short forms of a unit, without the place of the number."""
    for width in ("short", "narrow"):
        for key, pattern in unit.get(width, {}).items():
            if isinstance(pattern, str) and key in {"zero", "one", "two", "few", "many", "other"}:
                symbol = re.sub(r"[{]0[}]|[\u200e\u200f\u061c]", "", pattern).strip(" \u00a0\u202f")
                if symbol and "{" not in symbol:
                    yield symbol


def currencies() -> list[str]:
    """List the codes of the currencies that are tender somewhere, and of some that were."""
    tender = {
        currency
        for history in get_global("territory_currencies").values()
        for currency, _, until, is_tender in history
        if until is None and is_tender
    }
    return sorted({*tender, *FORMER_CURRENCIES})


def lines_of(code: str) -> Iterator[str]:
    """Give the lines of the file of a language."""
    locale = Locale.parse(code)
    data: Any = locale._data
    yield f"# {locale.english_name}: from the Unicode CLDR by Babel {babel_version}, written by recipes/cldr_tables.py."
    yield "# Copyright Unicode, Inc.; LICENSE.txt in this folder. Corrections belong into ../" + code + ".toml."
    yield ""
    for name, source in (("months", locale.months), ("weekdays", locale.days)):
        for width in ("wide", "abbreviated"):
            forms: list[str] = []
            for context in ("format", "stand-alone"):
                forms.append(words(source[context][width][key] for key in sorted(source[context][width])))
            yield f"{name}_{width} = {forms[0]}"
            if forms[1] != forms[0]:
                yield f"{name}_{width}_alone = {forms[1]}"
    yield f"day_periods = {table({key: locale.periods[key] for key in ('am', 'pm') if key in locale.periods})}"
    yield f"short_date = {quoted(locale.date_formats['short'].pattern)}"
    patterns: dict[str, str] = data.get("compound_unit_patterns", {}).get("per", {}).get("long", {})
    yield f"per = {quoted(patterns.get('compound', ''))}"
    yield ""
    yield "[units]"
    for symbol, name in UNITS.items():
        unit = data["unit_patterns"].get(name)
        if unit is None or "long" not in unit:
            continue
        long = {key: value for key, value in unit["long"].items() if isinstance(value, str)}
        forms = {
            key: long[key] for key in ("zero", "one", "two", "few", "many", "other", "per", "gender") if key in long
        }
        if "gender" in unit:
            forms["gender"] = unit["gender"]
        short = [form for form in dict.fromkeys(symbols_of(unit)) if form != symbol]
        yield f"{quoted(symbol)} = {{ symbols = {words(short)}, forms = {table(forms)} }}"
    yield ""
    yield "[currencies]"
    for currency in currencies():
        # Where the name does not change with the number, there is no list of forms.
        names: dict[str, str] = dict(data["currency_names_plural"].get(currency, {}))
        name = locale.currencies.get(currency)
        if not names and name is None:
            continue
        symbol = locale.currency_symbols.get(currency, currency)
        yield f"{currency} = {{ symbol = {quoted(symbol)}, forms = {table(names or {'other': str(name)})} }}"


def names_of(folder: Path, code: str) -> dict[str, str]:
    """Read the short names of all that has one."""
    found: dict[str, str] = {}
    for package, name in (
        ("cldr-annotations-full", "annotations"),
        ("cldr-annotations-derived-full", "annotationsDerived"),
    ):
        path = folder / package / name / code / "annotations.json"
        entries: dict[str, dict[str, list[str]]] = json.loads(path.read_text("utf-8"))[name]["annotations"]
        found |= {key: entry["tts"][0] for key, entry in entries.items() if "tts" in entry}
    return found


def is_named(key: str) -> bool:
    """Tell whether an emoji gets a name: with no tone of skin, and no key, whose digit is read."""
    is_key = key == "\U0001f51f" or key[0] in "#*0123456789"
    return not is_key and _EMOJI.search(key) is not None and not _SKIN.search(key)


def spoken_name(name: str, code: str) -> str:
    """Write a name as it is said."""
    if code == "hi" and any(char.isdigit() for char in name):
        name = name.partition(",")[0]  # the others repeat the time of a clock
    for figure, words in _IN_WORDS.get(code, {}).items():
        name = name.replace(figure, words)
    said = normalize(" ".join(name.split()), code).text
    return said if code == "ja" else " ".join(said.split())


def write_emoji(folder: Path, code: str) -> None:
    """Write the packed names of a language."""
    names = {key: spoken_name(name, code) for key, name in names_of(folder, code).items() if is_named(key)}
    head = f"# Names of emoji in {code}: from the Unicode CLDR, Copyright Unicode, Inc.; ../LICENSE.txt\n"
    text = head + "".join(f"{key}\t{name}\n" for key, name in sorted(names.items()))
    (FOLDER / "emoji").mkdir(exist_ok=True)
    # Without a time, so that the same names are the same file.
    (FOLDER / "emoji" / f"{code}.txt.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def main() -> None:
    """Write all files; those of emoji where the folder of npm's packages is given."""
    FOLDER.mkdir(exist_ok=True)
    for code in LANGUAGES:
        (FOLDER / f"{code}.toml").write_text("\n".join(lines_of(code)) + "\n", encoding="utf-8")
        for folder in map(Path, sys.argv[1:]):
            write_emoji(folder, code)


if __name__ == "__main__":
    main()
