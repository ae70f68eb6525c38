"""What the nouns of a language tell of the numbers before them: their gender, and whether they are counted."""

from __future__ import annotations

from dataclasses import dataclass

WordSet = frozenset[str]


@dataclass(frozen=True)
class NounWords:
    """Regular expressions for nouns; the keys are explained in data/README.md."""

    feminine: str = ""
    masculine: str = ""
    neuter: str = ""
    names_numbers: WordSet = frozenset()
    labels: WordSet = frozenset()
    before_counts: WordSet = frozenset()
    before_objects: WordSet = frozenset()
    counted: str = ""
    before_years: WordSet = frozenset()
