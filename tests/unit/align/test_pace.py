"""How much there is to say, and how quickly it can have been said."""

from __future__ import annotations

import pytest

from voxtral.align.pace import MAX_PACE, KnownPace, count_letters, least_seconds, most_seconds


def test_letters_are_weighed_by_the_least_that_they_take() -> None:
    assert count_letters("Hello, there!") == 10
    assert count_letters("... – !?") == 0
    assert count_letters("7") > count_letters("a")
    assert count_letters("漢") > count_letters("か") > count_letters("a")
    assert count_letters("한") > count_letters("a")


def test_the_least_time_follows_the_voice_where_it_is_known() -> None:
    letters = 10 * MAX_PACE
    assert least_seconds(letters) == pytest.approx(9.9)
    assert least_seconds(letters, KnownPace()) == least_seconds(letters)
    assert least_seconds(letters, KnownPace(30, 6)) == least_seconds(letters)  # too little to know it
    slow = KnownPace().with_speech(60, 6).with_speech(40, 4)
    assert slow.letters_a_second == 10
    assert least_seconds(letters, slow) == pytest.approx(0.6 * 25 - 0.1)
    assert most_seconds(letters) is None
    assert (most_seconds(letters, slow) or 0) > 3 * 25


def test_a_text_without_letters_may_take_no_time() -> None:
    assert least_seconds(count_letters("...")) <= 0
