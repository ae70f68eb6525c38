"""When each character is heard, from the times of words: for clients that follow a text letter by letter."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from voxtral.types import WordTime


@dataclass(frozen=True)
class CharacterTime:
    """A character of the text and when it is heard, in seconds."""

    character: str
    start_s: float
    end_s: float


class CharacterTimes:
    """Gives the times of a text's characters as words become final: each character once, in order, without overlap.

    Letters share the time of their word; what stands between two words lasts from the end of one to the start of the
    next.
    """

    def __init__(self) -> None:
        self._at = 0  # characters that were given
        self._until_s = 0.0

    def take(self, text: str, words: Iterable[WordTime]) -> list[CharacterTime]:
        """Give the characters up to the end of some words.

        Args:
            text: as far as it is known, at least to the end of the words.
            words: in order, behind those that were taken before.
        """
        given: list[CharacterTime] = []
        for word in words:
            if word.text_end <= self._at:
                continue
            start_s = max(self._until_s, word.start_s)
            given += self._spread(text, max(self._at, word.text_start), start_s)
            given += self._spread(text, word.text_end, max(start_s, word.end_s))
        return given

    def rest(self, text: str, end_s: float) -> list[CharacterTime]:
        """Give the characters behind the last word, which end with the speech."""
        return self._spread(text, len(text), max(self._until_s, end_s))

    def _spread(self, text: str, stop: int, end_s: float) -> list[CharacterTime]:
        """Let the characters up to a place share the time up to a moment."""
        begin_s, part = self._until_s, text[self._at : stop]
        if not part:
            self._until_s = end_s  # a pause that no character stands for
            return []
        step_s = (end_s - begin_s) / len(part)
        self._at, self._until_s = stop, end_s
        return [
            CharacterTime(character, begin_s + index * step_s, begin_s + (index + 1) * step_s)
            for index, character in enumerate(part)
        ]
