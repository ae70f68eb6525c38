"""A text that comes in pieces, cut into what is spoken and sent by itself."""

from __future__ import annotations

import re

from voxtral.server.dialects.vllm_omni.fields import Granularity
from voxtral.text.pieces import TextStream

# Where a clause ends: at a mark before white space, or at one that no white space follows.
_CLAUSE_END = re.compile(r"[,;:][\"'”’»)\]]*(?=\s)|[，；،؛、：][」』”’）]*")


class UnitSplitter:
    """Cuts a text that comes in pieces into what is spoken by itself.

    Args:
        granularity: "none" keeps all until `flush`; "sentence" and "clause" let go what has ended.
        language: of the text, where it is known.
    """

    def __init__(self, granularity: Granularity, language: str | None) -> None:
        self._granularity = granularity
        self._language = language
        self._pending = ""
        self._stream: TextStream = self._begin()

    def push(self, piece: str) -> list[str]:
        """Take a piece, and give the units that it finishes."""
        self._pending += piece
        if self._granularity == "none":
            return []
        given = [part for stretch in self._stream.feed(piece) for part in self._take(stretch.text)]
        if self._granularity == "clause":
            *clauses, rest = _clauses(self._pending)
            if clauses:
                given += clauses
                self._pending, self._stream = rest, self._begin()
                self._stream.push(rest)
        return [unit for unit in given if unit.strip()]

    def flush(self) -> list[str]:
        """Give what is left."""
        rest, self._pending, self._stream = self._pending, "", self._begin()
        units = _clauses(rest) if self._granularity == "clause" else [rest]
        return [unit for unit in units if unit.strip()]

    @property
    def num_waiting(self) -> int:
        """Characters that were not given."""
        return len(self._pending)

    def _take(self, text: str) -> list[str]:
        self._pending = self._pending[len(text) :]
        return _clauses(text) if self._granularity == "clause" else [text]

    def _begin(self) -> TextStream:
        return TextStream(language=self._language)


def _clauses(text: str) -> list[str]:
    """Cut a text behind its clauses; the last part may be none.

    >>> _clauses("One, two; 3,000 or")
    ['One,', ' two;', ' 3,000 or']
    """
    parts: list[str] = []
    start = 0
    for found in _CLAUSE_END.finditer(text):
        parts.append(text[start : found.end()])
        start = found.end()
    return [*parts, text[start:]]
