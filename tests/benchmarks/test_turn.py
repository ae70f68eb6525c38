"""The time of a turn: the worker makes every frame that it times, in this checkout."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import turn

ROOT = Path(__file__).parents[2]


def test_the_worker_times_turns_of_this_checkout() -> None:
    found = turn.measure(ROOT, 16, [1, 3])
    assert set(found) == {"1", "3"}
    assert all(0 < codec < 1e6 and 0 < host < 1e6 for host, codec in found.values())


@pytest.mark.slow
def test_a_checkout_costs_what_it_costs(tmp_path: Path) -> None:
    target = tmp_path / "report.json"
    turn.main(["--against", str(ROOT), "--pairs", "3", "--rows", "4", "--turns", "80", "--json", str(target)])
    cells = json.loads(target.read_text())["cells"]
    assert [(cell["figure"], cell["rows"]) for cell in cells] == [("turn_us", 4), ("codec_us", 4)]
    assert all(0.2 < cell["ratio"] < 5 for cell in cells)
