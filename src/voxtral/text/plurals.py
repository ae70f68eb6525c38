"""Plural categories: which form of a noun a number takes, by the rules of the Unicode CLDR for ten languages.

Knows nothing of words. The categories are CLDR's: zero, one, two, few, many and other.
Source: CLDR, supplemental/plurals.xml.
"""

from __future__ import annotations

from typing import Literal

Category = Literal["zero", "one", "two", "few", "many", "other"]


def plural_category(language: str, whole: str, fraction: str | None = None, region: str = "") -> Category:
    """Choose the category of a number.

    Args:
        language: a code of `LANGUAGES`.
        whole: ASCII digits before the decimal separator.
        fraction: those after it; None without separator.
        region: of the language, such as PT, where it decides.

    >>> plural_category("fr", "1", "5"), plural_category("en", "1", "5"), plural_category("ar", "103")
    ('one', 'other', 'few')
    """
    value = int(whole) if len(whole) <= 40 else 10**40 + int(whole[-2:])
    is_whole = fraction is None
    if language == "ar":
        return _arabic(value) if is_whole or not fraction.strip("0") else "other"
    is_one = False
    if language in {"en", "de", "nl", "it"} or (language == "pt" and region == "PT"):
        is_one = value == 1 and is_whole
    elif language in {"fr", "pt"}:
        is_one = value in {0, 1}
    elif language == "es":
        is_one = value == 1 and (is_whole or not fraction.strip("0"))
    elif language == "hi":
        is_one = value == 0 or (value == 1 and (is_whole or not fraction.strip("0")))
    return "one" if is_one else "other"


def _arabic(value: int) -> Category:
    if value <= 2:
        return ("zero", "one", "two")[value]
    return "few" if 3 <= value % 100 <= 10 else "many" if value % 100 >= 11 else "other"
