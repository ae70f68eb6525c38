"""Which words tell that letters such as XIV are a number, and how it is said after or before them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

WordSet = frozenset[str]


@dataclass(frozen=True)
class RomanWords:
    """The cues of Roman numerals; the keys are explained in data/README.md."""

    kings: WordSet = frozenset()
    queens: WordSet = frozenset()
    articles: Mapping[str, str] = field(default_factory=dict[str, str])
    largest_ordinal: int = 0
    cardinals_after: WordSet = frozenset()
    ordinals_after: WordSet = frozenset()
    ordinals_before: WordSet = frozenset()
    feminine_before: WordSet = frozenset()
    lone: str = ""
