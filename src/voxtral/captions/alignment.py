"""The time of every character, in the form that ElevenLabs' clients read: of a whole text, or as words become final.

Source of the shape: elevenlabs-python's types for /with-timestamps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from voxtral.captions.words import timed_words
from voxtral.types import SegmentInfo, WordTime


@dataclass(frozen=True)
class Alignment:
    """Characters and when each is heard; three tuples of one length.

    Attributes:
        characters: joined they are the text, exactly.
        start_times_s: seconds, never going back.
        end_times_s: seconds, each at least its start.
    """

    characters: tuple[str, ...]
    start_times_s: tuple[float, ...]
    end_times_s: tuple[float, ...]

    def to_dict(self) -> dict[str, list[str] | list[float]]:
        """Give what ElevenLabs' clients read."""
        return {
            "characters": list(self.characters),
            "character_start_times_seconds": list(self.start_times_s),
            "character_end_times_seconds": list(self.end_times_s),
        }


def align_characters(text: str, segments: Iterable[SegmentInfo]) -> Alignment:
    """Share the time of each word evenly among its characters; whitespace has no length.

    Args:
        text: as given.
        segments: of its speech, in order.
    """
    starts: list[float] = []
    ends: list[float] = []
    at_s = 0.0
    for word in timed_words(text, segments):
        # What is before the word is whitespace.
        num_blank = word.text_start - len(starts)
        starts += [at_s] * num_blank
        ends += [at_s] * num_blank
        num_letters = word.text_end - word.text_start
        length_s = word.end_s - word.start_s
        inner = (word.start_s + length_s * index / num_letters for index in range(num_letters))
        edges = [round(min(edge, word.end_s), 4) for edge in (*inner, word.end_s)]
        starts += edges[:-1]
        ends += edges[1:]
        at_s = edges[-1]
    num_blank = len(text) - len(starts)
    return Alignment(tuple(text), (*starts, *[at_s] * num_blank), (*ends, *[at_s] * num_blank))


class GrowingAlignment:
    """Gives the times of characters as words become final: each once, in order, without overlap.

    What stands between two words, punctuation too, has no length.
    """

    def __init__(self) -> None:
        self._at = 0  # characters that were given
        self._until_s: float = 0.0

    def take(self, text: str, words: Iterable[WordTime]) -> Alignment:
        """Give the characters up to the end of some words.

        Args:
            text: as far as it is known, at least to the end of the words.
            words: in order, behind those that were taken before.
        """
        starts: list[float] = []
        ends: list[float] = []
        first = self._at
        for word in words:
            if word.text_end <= self._at:
                continue
            num_before = max(self._at, word.text_start) - self._at
            starts += [self._until_s] * num_before
            ends += [self._until_s] * num_before
            start_s = max(self._until_s, word.start_s)
            end_s = max(start_s, word.end_s)
            count = word.text_end - self._at - num_before
            step_s = (end_s - start_s) / count
            edges: list[float] = [round(start_s + step_s * index, 4) for index in range(count + 1)]
            starts += edges[:-1]
            ends += edges[1:]
            self._at = word.text_end
            self._until_s = edges[-1]
        return Alignment(tuple(text[first : self._at]), tuple(starts), tuple(ends))

    def rest(self, text: str) -> Alignment:
        """Give the characters behind the last word."""
        left, self._at = text[self._at :], len(text)
        times = (self._until_s,) * len(left)
        return Alignment(tuple(left), times, times)
