"""How money is said, beside the names of currencies from CLDR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Words = tuple[str, ...]
WordSet = frozenset[str]


@dataclass(frozen=True)
class CentWords:
    """The hundredth of some currencies: forms of its name, as for a `unit`, without the number."""

    currencies: Words
    one: str
    many: str
    two: str = ""
    few: str = ""
    is_feminine: bool = False


@dataclass(frozen=True)
class RegionMoney:
    """What a region of a language writes or says otherwise; the keys are those of `MoneyWords`."""

    signs: Mapping[str, str] = field(default_factory=dict[str, str])
    cents: tuple[CentWords, ...] = ()
    hundredths: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class MoneyWords:
    """What is needed to say an amount of any currency; the keys are explained in data/README.md."""

    head: Literal["first", "last"]
    feminine: WordSet = frozenset()
    adjectives: WordSet = frozenset()
    signs: Mapping[str, str] = field(default_factory=dict[str, str])
    cents: tuple[CentWords, ...] = ()
    hundredths: Mapping[str, str] = field(default_factory=dict[str, str])
    regions: Mapping[str, RegionMoney] = field(default_factory=dict[str, RegionMoney])
