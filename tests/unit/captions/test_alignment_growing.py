"""Times of characters as words become final: each once, in order, within the times of the words."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.captions.alignment import GrowingAlignment
from voxtral.types import WordTime


def word(start_s: float, end_s: float, text_start: int, text_end: int) -> WordTime:
    return WordTime(text_start=text_start, text_end=text_end, start_s=start_s, end_s=end_s, confidence=1.0)


def test_letters_share_their_word_and_what_is_between_has_no_length() -> None:
    growing = GrowingAlignment()
    first = growing.take("Hi, you!", [word(0.1, 0.3, 0, 2), word(0.5, 0.8, 4, 7)])
    assert "".join(first.characters) == "Hi, you"
    assert first.start_times_s == pytest.approx([0.1, 0.2, 0.3, 0.3, 0.5, 0.6, 0.7])
    rest = growing.rest("Hi, you!")
    assert (rest.characters, rest.start_times_s, rest.end_times_s) == (("!",), (0.8,), (0.8,))


@given(st.data())
def test_every_character_comes_once_and_none_overlaps(data: st.DataObject) -> None:
    text = data.draw(st.text("ab ,.", min_size=1, max_size=30))
    places = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)))
    moments = sorted(data.draw(st.lists(st.floats(0, 9), min_size=2 * len(places), max_size=2 * len(places))))
    words = [
        word(moments[2 * index], moments[2 * index + 1], first, last)
        for index, (first, last) in enumerate(itertools.pairwise(places))
    ]
    growing = GrowingAlignment()
    cut = data.draw(st.integers(0, len(words)))
    parts = [growing.take(text, words[:cut]), growing.take(text, words[cut:]), growing.rest(text)]
    characters = [each for part in parts for each in part.characters]
    starts = [each for part in parts for each in part.start_times_s]
    ends = [each for part in parts for each in part.end_times_s]
    assert "".join(characters) == text
    assert len(starts) == len(ends) == len(text)
    assert all(start <= end for start, end in zip(starts, ends, strict=True))
    assert all(before <= after + 1e-9 for before, after in zip(ends, starts[1:], strict=False))
