"""How large a training is, and what fits where."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.cloning.plan import MemoryNeed, choose_rows, choose_size, disk_bytes, parse_shards, plan_shards
from voxtral.errors import DeviceError, OptionError

LARGE, SMALL = 149_471_524, 1_950_000


@pytest.mark.parametrize(
    ("parameters", "is_fast", "hours", "seen"),
    [(LARGE, False, 40, 700), (LARGE, True, 4, 60), (SMALL, False, 1, 8), (SMALL, True, 0.4, 2.5)],
)
def test_sizes_by_default(parameters: int, is_fast: bool, hours: float, seen: float) -> None:
    size = choose_size(parameters, 12.5, is_fast=is_fast, hours=None, seen_hours=None)
    assert (size.hours, size.seen_hours) == (hours, seen)
    assert size.hours_of(size.steps, 12.5) == pytest.approx(seen, rel=0.01)


def test_given_hours_win_and_nonsense_is_refused() -> None:
    size = choose_size(LARGE, 12.5, is_fast=True, hours=7, seen_hours=70)
    assert (size.hours, size.seen_hours, size.rows, size.frames) == (7, 70, 32, 50)
    for hours in (0, -1, float("nan"), float("inf"), 1e9):
        with pytest.raises(OptionError, match="--hours"):
            choose_size(LARGE, 12.5, is_fast=False, hours=hours, seen_hours=None)
        with pytest.raises(OptionError, match="--seen-hours"):
            choose_size(LARGE, 12.5, is_fast=False, hours=None, seen_hours=hours)


@given(st.floats(0.001, 300, allow_nan=False))
def test_shards_hold_all_hours_and_none_is_longer_than_one(hours: float) -> None:
    plan = plan_shards(hours, 12.5)
    assert sum(plan.frames) == max(1, round(hours * 45000))
    assert all(0 < count <= plan.shard_frames for count in plan.frames)


@pytest.mark.parametrize("text", ["", "x", "1-", "-1", "3-1", "9", "0-1-2", "1e1", "٣", "0,1", "9999999999"])
def test_shards_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="--shards"):
        parse_shards(text, 5)


@given(st.integers(0, 10**10), st.integers(1, 10**9), st.integers(1, 64), st.integers(1, 10**12))
def test_rows_are_halved_until_they_fit(fixed: int, row: int, rows: int, budget: int) -> None:
    need = MemoryNeed(fixed, row)
    if need.total(1) > budget:
        with pytest.raises(DeviceError, match="allow more"):
            choose_rows(need, rows, budget)
        return
    chosen = choose_rows(need, rows, budget)
    assert need.total(chosen) <= budget
    assert chosen in {rows >> shift for shift in range(7)}
    assert chosen == rows or need.total(min(rows, 2 * chosen + 1)) > budget


def test_pairs_of_an_hour_take_under_two_megabytes() -> None:
    assert disk_bytes(40, 12.5, 0) == pytest.approx(40 * 1.71e6, rel=0.01)
