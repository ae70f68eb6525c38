"""`[shorthand]`: abbreviations and what is said for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Shorthand:
    """Abbreviations by where they stand, each without its last point."""

    anywhere: Mapping[str, str] = field(default_factory=dict[str, str])
    without_point: Mapping[str, str] = field(default_factory=dict[str, str])
    at_end: Mapping[str, str] = field(default_factory=dict[str, str])
    before_names: Mapping[str, str] = field(default_factory=dict[str, str])
    after_names: Mapping[str, str] = field(default_factory=dict[str, str])
    before_numbers: Mapping[str, str] = field(default_factory=dict[str, str])
    word_ends: Mapping[str, str] = field(default_factory=dict[str, str])
    directions: Mapping[str, str] = field(default_factory=dict[str, str])
    states: Mapping[str, str] = field(default_factory=dict[str, str])
