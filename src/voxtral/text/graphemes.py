"""Graphemes: what a reader sees as one character, by the rules of Unicode (UAX 29) as the package regex has them.

Knows nothing of words or sentences; `segment.py` asks where a text without spaces may be cut, and whoever takes names
asks whether they can be seen.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any


@cache
def _invisible() -> Any:
    library: Any = importlib.import_module("regex")
    # What Unicode says is shown as nothing, besides controls, formats, the blank of Braille and what is not assigned.
    return library.compile(
        r"[\p{Default_Ignorable_Code_Point}\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Cn}\p{Zl}\p{Zp}\u2800\U0001D159]"
    )


def find_invisible(name: str) -> str | None:
    r"""Find a character of a name that nobody sees or that turns the direction of others; None if there is none.

    >>> find_invisible("a\u3164b"), find_invisible("a\u202eb"), find_invisible("Zo\u00eb 2")
    ('\u3164', '\u202e', None)
    """
    found = _invisible().search(name)
    return found.group() if found else None


@cache
def _pattern() -> Any:
    # At first need, because the doctor runs on a machine with torch, numpy and safetensors alone.
    library: Any = importlib.import_module("regex")  # ships no types
    # Flags by themselves: at each of them \X counts the letters before it back to where the flags begin.
    return library.compile(r"\p{Regional_Indicator}{2}[\p{GCB=Extend}\p{GCB=ZWJ}\p{GCB=SpacingMark}]*|\X")


def starts_grapheme(text: str, place: int) -> bool:
    r"""Tell whether a character begins a grapheme of its own after a space or a mark of punctuation.

    >>> starts_grapheme(" e", 1), starts_grapheme(" \u0301", 1)
    (True, False)
    """
    # Nothing below continues a grapheme, and most texts have nothing else after their spaces.
    return text[place] < "\u0300" or _pattern().match(text, place - 1, place + 1).end() == place


def grapheme_ends(text: str, start: int, stop: int) -> list[int]:
    r"""List where graphemes end, from `start`, where one begins, to `stop` at most.

    >>> grapheme_ends("ne\u0301e", 0, 4)
    [1, 3, 4]
    """
    # One character more tells whether a grapheme goes on at `stop`.
    graphemes = _pattern().finditer(text, start, stop + 1)
    return [end for grapheme in graphemes if (end := grapheme.end()) <= stop]


@cache
def _unspaced() -> Any:
    library: Any = importlib.import_module("regex")
    return library.compile(
        r"[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}"
        r"\p{Script=Myanmar}\p{Script=Tibetan}\u30fc\uff70]"
    )


def has_unspaced_script(text: str) -> bool:
    """Tell whether a text has letters of a script that writes no spaces between words.

    >>> has_unspaced_script("ab ア"), has_unspaced_script("한국 ab")
    (True, False)
    """
    # Most texts have nothing above, and need no library for that.
    return bool(text) and max(text) >= "\u0e00" and _unspaced().search(text) is not None
