"""The benchmark of batches runs from one end to the other; no time is asserted."""

from __future__ import annotations

import json

import pytest

from benchmarks import batch
from checkpoints import BRIEF


def test_batches_are_compared_with_the_loop(capsys: pytest.CaptureFixture[str]) -> None:
    batch.main(["--short", "--model", str(BRIEF), "--device", "cpu", "--speak", "0"])
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert report["is_complete"]
    cells = {cell["what"]: cell for cell in report["cells"]}
    assert list(cells) == ["loop", "batch 1", "batch 2"]
    assert all(cell["audio_s"] > 0 for cell in cells.values())
    assert report["num_texts"] == 4
