"""How units are said, beside their names from CLDR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

WordSet = frozenset[str]


@dataclass(frozen=True)
class UnitWords:
    """The forms of a unit's name without its number; `per` is what stands behind another unit."""

    one: str
    other: str
    two: str = ""
    few: str = ""
    per: str = ""
    is_feminine: bool = False


@dataclass(frozen=True)
class MeasureWords:
    """What CLDR does not say of units, or says otherwise than people; the keys are explained in data/README.md."""

    feminine: WordSet = frozenset()
    symbols: Mapping[str, str] = field(default_factory=dict[str, str])
    not_symbols: WordSet = frozenset()
    words: WordSet = frozenset()
    units: Mapping[str, UnitWords] = field(default_factory=dict[str, UnitWords])
    prefixes: Mapping[str, str] = field(default_factory=dict[str, str])
    per: str = ""
    per_feminine: str = ""
    per_vowel: str = ""
