"""Which differences mean something."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.cloning.differences import compare, least_difference, not_told_from, student_t
from voxtral.cloning.subjects import spread

VALUES = st.lists(st.lists(st.floats(-1, 1), min_size=3, max_size=3), min_size=2, max_size=6)


def as_row(values: list[list[float]]) -> dict[str, list[float]]:
    return {f"voice {number}": each for number, each in enumerate(values)}


@given(VALUES)
def test_a_difference_is_the_same_from_both_sides(values: list[list[float]]) -> None:
    first = as_row(values)
    second = as_row([each[::-1] for each in reversed(values)])
    there, back = compare(first, second), compare(second, first)
    assert there.mean == pytest.approx(-back.mean, abs=1e-12)
    assert there.least == pytest.approx(back.least, abs=1e-12)
    assert not compare(first, first).tells


def test_what_all_voices_show_is_told_and_what_one_shows_is_not() -> None:
    base = as_row([[0.1, 0.2], [0.3, 0.1], [0.2, 0.2], [0.0, 0.1], [0.1, 0.1]])
    better = {voice: [value + 0.05 + 0.002 * len(voice) for value in each] for voice, each in base.items()}
    one = {**base, "voice 0": [5.0, 5.0]}
    rows = {"base": base, "better": better, "one": one}
    assert compare(better, base).tells
    assert not_told_from("base", rows) == ["one"]
    least = least_difference({"base": base, "one": one})
    assert least is not None
    assert least > 1.0


def test_voices_that_only_one_row_has_are_left_out() -> None:
    difference = compare({"a": [1.0], "b": [2.0]}, {"b": [1.0], "c": [9.0]})
    assert (difference.mean, difference.least) == (1.0, math.inf)
    assert not difference.tells
    assert least_difference({"a": {"x": [1.0]}, "b": {"x": [2.0]}}) is None
    assert not compare({}, {}).tells


def test_quantiles_of_student_are_those_of_tables() -> None:
    table = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 6: 2.447, 10: 2.228, 30: 2.042}
    for freedom, value in table.items():
        assert student_t(freedom) == pytest.approx(value, rel=0.01)


@given(st.integers(0, 40), st.integers(0, 40))
def test_places_are_spread_over_the_list(count: int, total: int) -> None:
    places = spread(count, total)
    assert len(places) == min(count, total)
    assert places == sorted(set(places))
    assert all(0 <= place < total for place in places)
