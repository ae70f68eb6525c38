"""`[spelled]`: what is said for letters, signs and words where a text is spelled: addresses, paths, codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class SpelledWords:
    """What a language says where something is spelled."""

    signs: Mapping[str, str]
    version: str
    version_point: str
    hashtag: str
    words: Mapping[str, str] = field(default_factory=dict[str, str])
    letters: Mapping[str, str] = field(default_factory=dict[str, str])
