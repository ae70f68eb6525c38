"""The forms of a noun that is counted, which several tables have."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """The forms of a counted noun."""

    one: str
    many: str
    two: str = ""
    few: str = ""
    is_feminine: bool = False
