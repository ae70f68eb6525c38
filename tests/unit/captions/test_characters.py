"""Times of characters: each once, in order, within the times of the words."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.captions.characters import CharacterTimes
from voxtral.types import WordTime


def word(start_s: float, end_s: float, text_start: int, text_end: int) -> WordTime:
    return WordTime(text_start=text_start, text_end=text_end, start_s=start_s, end_s=end_s, confidence=1.0)


def test_letters_share_their_word_and_spaces_the_pause() -> None:
    times = CharacterTimes()
    given_times = times.take("Hi, you!", [word(0.1, 0.3, 0, 2), word(0.5, 0.8, 4, 7)])
    given_times += times.rest("Hi, you!", 1.0)
    assert "".join(each.character for each in given_times) == "Hi, you!"
    starts = [round(each.start_s, 3) for each in given_times]
    assert starts == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    assert given_times[-1].end_s == pytest.approx(1.0)


@given(st.data())
def test_every_character_comes_once_and_none_overlaps(data: st.DataObject) -> None:
    text = data.draw(st.text("ab ,.", min_size=1, max_size=30))
    places = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)))
    moments = sorted(data.draw(st.lists(st.floats(0, 9), min_size=2 * len(places), max_size=2 * len(places))))
    words = [
        word(moments[2 * index], moments[2 * index + 1], first, last)
        for index, (first, last) in enumerate(itertools.pairwise(places))
    ]
    times = CharacterTimes()
    cut = data.draw(st.integers(0, len(words)))
    got = times.take(text, words[:cut]) + times.take(text, words[cut:]) + times.rest(text, 9.5)
    assert "".join(each.character for each in got) == text
    assert all(each.start_s <= each.end_s for each in got)
    assert all(before.end_s <= after.start_s + 1e-9 for before, after in itertools.pairwise(got))
