"""How fractions are said: their names, and what links them to a whole number and to a noun."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

WordSet = frozenset[str]


@dataclass(frozen=True)
class FractionName:
    """The names of a part: of one, of many, and of two where the language has such a form."""

    one: str
    many: str
    two: str = ""


@dataclass(frozen=True)
class HalfWords:
    """What is said for a half before a noun, and behind one that was counted."""

    before: str
    after: str
    feminine_before: str
    feminine_after: str


@dataclass(frozen=True)
class FractionWords:
    """What is said for fractions; the keys are explained in data/README.md."""

    parts: Literal["ordinal", "stel", "avos", "over", "of"]
    over: str
    link: str
    noun_link: str = ""
    noun_link_before_vowel: str = ""
    halves: HalfWords | None = None
    largest: int = 100
    rated: WordSet = frozenset()
    out_of: str = ""
    names: Mapping[int, FractionName] = field(default_factory=dict[int, FractionName])
    wholes: Mapping[str, str] = field(default_factory=dict[str, str])
    mixed: Mapping[str, str] = field(default_factory=dict[str, str])
    fixed: Mapping[str, str] = field(default_factory=dict[str, str])
