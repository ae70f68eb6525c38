"""What following the text costs: the ways are compared within rounds, and made to say the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import follow
from benchmarks.follow import WAYS, Turn


def turn(cpu_s: float, clock_s: float, *num_frames: int) -> Turn:
    return Turn(num_frames, tuple(bytes([count]) for count in num_frames), cpu_s, clock_s)


def test_a_way_is_compared_with_off_within_each_round() -> None:
    # A machine that is twice as slow in one round is so for all ways.
    rounds = [
        {"off": turn(1 * slow, 2 * slow, 60, 40), "default": turn(1.1 * slow, 2.4 * slow, 60, 40)} for slow in (1, 2, 1)
    ]
    figures = follow.summarize(rounds, "default")
    assert figures["cpu_ratio"] == [1.1, 1.1, 1.1]
    assert figures["clock_ratio"] == [1.2, 1.2, 1.2]
    assert (figures["cpu_ms"], figures["clock_ms"]) == (11.0, 24.0)


@pytest.mark.parametrize(("num_at_once", "odd"), [(1, turn(1, 1, 7)), (2, turn(1, 1, 5, 6))])
def test_ways_that_say_something_else_are_not_compared(
    monkeypatch: pytest.MonkeyPatch, num_at_once: int, odd: Turn
) -> None:
    usual = turn(1, 1, *[5] * num_at_once)
    spoken: list[tuple[int, ...]] = []

    def speak(_: Any, texts: dict[int, str], options: dict[str, Any]) -> Turn:
        spoken.append(tuple(texts))
        return odd if options == WAYS["timestamps"] and len(spoken) > 4 else usual

    monkeypatch.setattr(follow, "speak", speak)
    texts = {2: "a", 5: "b", 7: "c"}
    tts: Any = None
    with pytest.raises(RuntimeError, match="made other speech of sentences"):
        follow.measure(tts, texts, num_at_once, 0.0)
    # Round by round other sentences, the same in all ways.
    assert spoken[:8] == ([(2,)] * 4 + [(5,)] * 4 if num_at_once == 1 else [(2, 5)] * 4 + [(7, 2)] * 4)


@pytest.mark.slow
def test_it_runs_from_one_end_to_the_other(tmp_path: Path) -> None:
    follow.main(["--short", "--json", str(tmp_path / "report.json")])
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["is_complete"]
    assert [(cell["streams"], cell["way"]) for cell in report["cells"]] == [(n, way) for n in (1, 2) for way in WAYS]
    assert all(0.5 < cell["cpu_ratio"][0] < 2 for cell in report["cells"])
