"""The benchmark of stored voices runs from one end to the other, beside another checkout; no time is asserted."""

from __future__ import annotations

import json

import pytest

from benchmarks import voices
from benchmarks.report import ROOT


@pytest.mark.slow  # two processes that import torch; the short form of a benchmark, for make soak
def test_two_checkouts_find_voices_in_turn(capsys: pytest.CaptureFixture[str]) -> None:
    voices.main(["--short", "--against", str(ROOT)])
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["is_complete"]
    assert [cell["checkout"] for cell in report["cells"]] == ["this", "other"] * 6
    assert all(cell["ms"]["low"] > 0 for cell in report["cells"])
