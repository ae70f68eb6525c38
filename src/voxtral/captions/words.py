"""All of a text as words with times, whatever is known of them: what every format of captions starts from.

Read next: `voxtral.captions.cues`, which puts them on the screen.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace

from voxtral.types import SegmentInfo, WordTime

_VISIBLE = re.compile(r"\S+")


def timed_words(text: str, segments: Iterable[SegmentInfo]) -> list[WordTime]:
    """Give each character of a text that is no whitespace a place in one word with times, in order.

    Times never go back, and no word lasts longer than to the next one's start. The words of a segment that has none
    share its time by their letters, with confidence 0. What stands in no word, such as markup that is not spoken,
    joins the word that it touches, else it is a word of its own, without length.

    Args:
        text: as given.
        segments: of its speech, in order.
    """
    words: list[WordTime] = []
    for segment in segments:
        words += segment.words or _shared(text, segment)
    return _in_order(_with_gaps(text, words))


def words_of(text: str, segment: SegmentInfo) -> Sequence[WordTime]:
    """Give the words of a segment, or, where it has none, those that share its time."""
    return segment.words or _shared(text, segment)


def _shared(text: str, segment: SegmentInfo) -> tuple[WordTime, ...]:
    """Share the time of a segment among what stands between its spaces, by the number of letters."""
    found = list(_VISIBLE.finditer(text, segment.text_start, segment.text_end))
    weights = [1 + sum(character.isalnum() for character in word.group()) for word in found]
    scale = (segment.end_s - segment.start_s) / max(1, sum(weights))
    words: list[WordTime] = []
    start_s = segment.start_s
    for word, weight in zip(found, weights, strict=True):
        end_s = start_s + weight * scale
        words.append(WordTime(word.start(), word.end(), start_s, end_s, 0.0))
        start_s = end_s
    return tuple(words)


def _with_gaps(text: str, words: list[WordTime]) -> list[WordTime]:
    """Find a place for what stands in no word."""
    made: list[WordTime] = []
    for word in words:
        start = _take_gap(text, made, word.text_start)
        made.append(replace(word, text_start=start))
    _take_gap(text, made, len(text))
    return made


def _take_gap(text: str, made: list[WordTime], stop: int) -> int:
    """Find a place for what stands between the last word and the next, and return where that one begins now."""
    at, at_s = (made[-1].text_end, made[-1].end_s) if made else (0, 0.0)
    for found in _VISIBLE.finditer(text, at, stop):
        start, end = found.span()
        if made and start == at:
            made[-1] = replace(made[-1], text_end=end)
        elif end == stop < len(text):
            return start
        else:
            made.append(WordTime(start, end, at_s, at_s, 0.0))
    return stop


def _in_order(words: list[WordTime]) -> list[WordTime]:
    """Hold each word back until the one before has begun, and end it where the next one begins at the latest."""
    start_s = 0.0
    for index, word in enumerate(words):
        start_s = max(start_s, word.start_s)
        words[index] = replace(word, start_s=start_s, end_s=max(start_s, word.end_s))
    for index in range(len(words) - 1):
        words[index] = replace(words[index], end_s=min(words[index].end_s, words[index + 1].start_s))
    return words
