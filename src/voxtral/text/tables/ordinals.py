"""How ordinals are written: the suffixes behind a number, and the words after which a number is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

WordSet = frozenset[str]


@dataclass(frozen=True)
class OrdinalWords:
    """What makes a number an ordinal; the keys are explained in data/README.md."""

    suffixes: Mapping[str, str] = field(default_factory=dict[str, str])
    fixed: Mapping[str, str] = field(default_factory=dict[str, str])
    degree_after: WordSet = frozenset()
    degree_before: WordSet = frozenset()
    after: WordSet = frozenset()
    after_feminine: WordSet = frozenset()
