"""Without attention, words share the sound between the pauses that punctuation explains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.align.proportional import match_in_order, proportional_times
from voxtral.align.words import verbatim_sources
from voxtral.types import WordTime

RATE = 24000


def _times(text: str, parts: list[tuple[float, bool]]) -> tuple[WordTime, ...]:
    rng = np.random.default_rng(0)
    samples = np.concatenate([rng.standard_normal(round(s * RATE)) * (0.1 if on else 1e-5) for s, on in parts])
    return proportional_times(text, text, verbatim_sources(0, len(text)), samples.astype(np.float32), RATE)


def test_a_pause_is_given_to_the_punctuation_that_explains_it() -> None:
    text = "One two three, four five six."
    times = _times(text, [(0.1, False), (1.0, True), (0.3, False), (1.0, True), (0.1, False)])
    assert [text[time.text_start : time.text_end] for time in times] == text.split()
    assert times[0].start_s == pytest.approx(0.1, abs=0.01)
    assert 0.9 < times[2].end_s <= 1.11
    assert times[3].start_s == pytest.approx(1.4, abs=0.05)
    assert times[5].end_s <= 2.41
    assert {time.confidence for time in times} == {0.0}


def test_no_word_begins_or_ends_within_a_pause() -> None:
    times = _times("aaaaaa bbbb cc", [(0.5, True), (0.4, False), (0.5, True)])
    for time in times:
        for moment in (time.start_s, time.end_s):
            assert not 0.51 < moment < 0.89


def test_longer_words_take_longer() -> None:
    short, long = _times("ab abcdefghij", [(1.0, True)])
    assert long.end_s - long.start_s > 3 * (short.end_s - short.start_s)


def test_numbers_that_are_too_far_apart_stay_alone() -> None:
    assert match_in_order([0.1, 0.9], [0.5]) == []
    assert match_in_order([], [0.5]) == []
    assert match_in_order([0.3, 0.32], [0.31, 0.33]) == [(0, 0), (1, 1)]


@given(
    st.text(st.sampled_from(list("abé ,.。か–(\U0001f600")), max_size=30),
    st.lists(st.tuples(st.floats(0, 0.4), st.booleans()), max_size=6),
)
def test_every_word_has_a_time_in_order_and_within_the_audio(text: str, parts: list[tuple[float, bool]]) -> None:
    times = _times(text, [(0.0, True), *parts])
    assert "".join(text[time.text_start : time.text_end] for time in times) == "".join(text.split())
    latest, total = 0.0, sum(round(s * RATE) for s, _ in parts) / RATE
    for time in times:
        assert latest <= time.start_s <= time.end_s <= total + 1e-9
        latest = time.start_s
