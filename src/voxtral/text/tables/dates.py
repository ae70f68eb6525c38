"""What a language says for dates, and how it writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Order = Literal["dmy", "mdy", "ymd"]


@dataclass(frozen=True)
class DateWords:
    """How dates are written and said."""

    order: Order
    spoken: Mapping[str, str]
    regions: Mapping[str, Order] = field(default_factory=dict[str, Order])
    first: str = ""
    ordinal_days: bool = False
    day_link: str = ""
    year_link: str = ""
    links: frozenset[str] = frozenset()
    joints: Mapping[str, str] = field(default_factory=dict[str, str])
    day_suffixes: tuple[str, ...] = ()
    month_first: bool = False
    months: Mapping[str, int] = field(default_factory=dict[str, int])
    doubtful: frozenset[str] = frozenset()
    weekdays: Mapping[str, int] = field(default_factory=dict[str, int])
    cues: frozenset[str] = frozenset()
    not_after: frozenset[str] = frozenset()
    lone_hyphens: bool = False
    fixed: Mapping[str, str] = field(default_factory=dict[str, str])
