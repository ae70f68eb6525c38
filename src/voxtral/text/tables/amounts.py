"""What is said in and around quantities: scales, the "by" of dimensions, signs before a number."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class AmountWords:
    """Words around the numbers of quantities; the keys are explained in data/README.md."""

    until: str
    by: str
    signs: Mapping[str, str]
    scales: Mapping[str, str] = field(default_factory=dict[str, str])
    money_scales: Mapping[str, str] = field(default_factory=dict[str, str])
