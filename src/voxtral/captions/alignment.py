"""The time of every character, in the form that ElevenLabs' clients read.

Source of the shape: elevenlabs-python's types for /with-timestamps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from voxtral.captions.words import timed_words
from voxtral.types import SegmentInfo


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
