"""Patterns of many words, as fast to match as one word.

An alternation of hundreds of words is tried word by word at every place; one that branches by letter is not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable


def any_of(words: Iterable[str]) -> str:
    """Write the source of a pattern that matches the longest of some words, without groups.

    Args:
        words: none of them empty; without any, the pattern matches nowhere.

    >>> any_of(["km", "km/h", "m"])
    '(?:km(?:/h)?|m)'
    """
    listed = sorted(set(words))
    if not listed:
        return "(?!)"
    return _branch(listed)


def _branch(words: list[str]) -> str:
    """Branch by the first letter; the words are sorted and differ."""
    by_letter: dict[str, list[str]] = {}
    for word in words:
        by_letter.setdefault(word[:1], []).append(word[1:])
    is_optional = "" in by_letter
    by_letter.pop("", None)
    if not by_letter:
        return ""
    branches = [re.escape(letter) + _branch(rests) for letter, rests in by_letter.items()]
    if len(branches) == 1 and not is_optional:
        return branches[0]
    return f"(?:{'|'.join(branches)})" + ("?" if is_optional else "")
