"""What is said for signs that stand alone, or before a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class SignWords:
    """Words for signs; the keys are explained in data/README.md."""

    between: Mapping[str, str] = field(default_factory=dict[str, str])
    before_number: Mapping[str, str] = field(default_factory=dict[str, str])
    alone: Mapping[str, str] = field(default_factory=dict[str, str])
    unsaid: str = ""
