"""`[phones]`: which words tell that digits are a telephone number, an extension or a code."""

from __future__ import annotations

from dataclasses import dataclass

Words = tuple[str, ...]
WordSet = frozenset[str]


@dataclass(frozen=True)
class PhoneWords:
    """What stands around telephone numbers and codes."""

    cues: WordSet
    labels: WordSet
    codes: WordSet
    links: WordSet
    extension: str
    extensions: Words
    short_numbers: WordSet = frozenset()
