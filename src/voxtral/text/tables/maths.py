"""What is said for the signs of arithmetic, for powers, roots and scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

WordSet = frozenset[str]


@dataclass(frozen=True)
class MathsWords:
    """Words for signs between numbers and variables; the keys are explained in data/README.md."""

    operators: Mapping[str, str]
    powers: Mapping[str, str]
    root: str
    score: str
    score_cues: WordSet = frozenset()
