"""Comparing two checkouts: the interval, and a run of one against itself."""

from __future__ import annotations

import json
import statistics
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import compare

ROOT = Path(__file__).parents[2]


@given(st.lists(st.floats(0.5, 2.0), min_size=3, max_size=30))
def test_the_interval_holds_the_median_and_lies_among_the_values(values: list[float]) -> None:
    low, high = compare.interval_of_median(values)
    assert min(values) <= low <= statistics.median(values) <= high <= max(values)


@pytest.mark.slow
def test_a_checkout_is_as_fast_as_itself(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    compare.main(["--against", str(ROOT), "--short", "--json", str(target)])
    cells = json.loads(target.read_text())["cells"]
    assert {cell["figure"] for cell in cells} >= {"import_ms", "load_ms", "first_audio_ms", "frames_per_s_8_streams"}
    assert all(0.1 < cell["ratio"] < 10 for cell in cells)
