"""Which letter sounds in each frame."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from train.data import Item
from train.encode import align


@st.composite
def spoken(draw: st.DrawFn) -> tuple[Item, list[int]]:
    """Words of random lengths and durations, in letters of one to three tokens."""
    lengths = draw(st.lists(st.integers(1, 9), min_size=1, max_size=8))
    words, first, now = [], 0, draw(st.floats(0, 0.3))
    for length in lengths:
        words.append((now, first, length))
        first += length + 1
        now += draw(st.floats(0.01, 1.0))
    widths = draw(st.lists(st.integers(1, 3), min_size=first - 1, max_size=first - 1))
    starts = [0, *np.cumsum(widths).tolist()][:-1]
    return Item(0, round((now + 0.1) * 24000), "x" * (first - 1), "en", 0, [], words), starts


@given(spoken(), st.integers(0, 5))
def test_alignment_never_goes_back_and_stays_in_the_text(case: tuple[Item, list[int]], num_extra: int) -> None:
    item, starts = case
    num_frames = -(-item.num_samples // 1920) + num_extra
    aligned = align(item, num_frames, starts)
    assert aligned.shape == (num_frames,)
    assert (np.diff(aligned) >= 0).all()
    assert set(aligned.tolist()) <= set(starts)


@given(spoken())
def test_a_frame_belongs_to_the_word_that_sounds_in_its_middle(case: tuple[Item, list[int]]) -> None:
    item, starts = case
    aligned = align(item, item.num_samples // 1920, starts)
    for frame, token in enumerate(aligned.tolist()):
        middle = (frame + 0.5) * 0.08
        sounding = [word for word in item.words if word[0] <= middle] or [item.words[0]]
        _, first, length = sounding[-1]
        assert starts[first] <= token <= starts[min(len(starts) - 1, first + length)]


def test_ends_of_clauses_are_no_words() -> None:
    # The teacher reports them with no letters, before the text or at an earlier clause.
    words = [(0.0, 0, 2), (0.4, -1, 0), (0.5, 3, 2), (0.9, 0, 0)]
    item = Item(0, 24000, "ab cd", "en", 0, [], words)
    aligned = align(item, 12, [0, 1, 2, 3, 4])
    assert (np.diff(aligned) >= 0).all()
    assert aligned[5] <= 2
    assert aligned[-1] == 4


def test_a_text_without_words_points_at_its_first_token() -> None:
    assert align(Item(0, 4800, "1", "en", 0, [], []), 3, [0]).tolist() == [0, 0, 0]


def test_a_word_is_passed_evenly() -> None:
    item = Item(0, 24000, "abcd", "en", 0, [], [(0.0, 0, 4)])
    assert align(item, 10, [0, 1, 2, 3]).tolist() == [0, 0, 1, 1, 1, 2, 2, 3, 3, 3]
