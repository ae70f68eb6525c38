"""What a language says for years and decades, and what tells them from quantities."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class YearWords:
    """How years are told from quantities, and how they are said."""

    cues: frozenset[str] = frozenset()
    weak_cues: frozenset[str] = frozenset()
    cues_after: frozenset[str] = frozenset()
    counted: frozenset[str] = frozenset()
    plural_endings: tuple[str, ...] = ()
    decades: Mapping[str, str] = field(default_factory=dict[str, str])
    decade_suffixes: tuple[str, ...] = ()
    decade_cues: frozenset[str] = frozenset()
    eras: Mapping[str, str] = field(default_factory=dict[str, str])
    hundreds: str = ""
    short_zero: str = ""
    last: int = 0
