"""What a language says for times of the day, and how it writes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from voxtral.text.tables.counted import Unit


@dataclass(frozen=True)
class TimeForm:
    """How one way to write a time is said; with places for `hour`, `minute` and `part`."""

    full: str
    clock: str
    minutes: Mapping[int, str] = field(default_factory=dict[int, str])


@dataclass(frozen=True)
class TimeWords:
    """How times are written and said."""

    plain: TimeForm
    with_part: TimeForm
    parts: Mapping[int, str]
    with_seconds: str
    hour: Unit
    minute: Unit
    second: Unit
    clock_seconds: str = ""
    casual: TimeForm | None = None
    hours: Mapping[int, str] = field(default_factory=dict[int, str])
    whole: Mapping[int, str] = field(default_factory=dict[int, str])
    named: Mapping[int, str] = field(default_factory=dict[int, str])
    articles: Mapping[int, str] = field(default_factory=dict[int, str])
    letters: str = ""
    am: frozenset[str] = frozenset()
    pm: frozenset[str] = frozenset()
    afternoon: str = ""
    marks: frozenset[str] = frozenset()
    bare_marks: frozenset[str] = frozenset()
    cues: frozenset[str] = frozenset()
    hour_cues: frozenset[str] = frozenset()
    not_after: frozenset[str] = frozenset()
    not_before: frozenset[str] = frozenset()
    not_zones: frozenset[str] = frozenset()
    lone_point: bool = False
    bare: str = "{hours}"
    drops_zero_seconds: bool = False
    minute_names: Mapping[int, str] = field(default_factory=dict[int, str])
