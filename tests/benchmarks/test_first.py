"""The first run on a GPU, on a CPU: it runs to its end, says what is wrong, and is not ended by it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from benchmarks import first
from voxtral.model.acoustic import AcousticTransformer

Lines = list[dict[str, Any]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Lines]:
    def run(*options: str) -> Lines:
        first.main(["--model", "tiny-random", "--device", "cpu", *options])
        return [json.loads(line) for line in capsys.readouterr().out.splitlines()]

    return run


def test_every_path_computes_what_the_plain_one_does(run: Callable[..., Lines]) -> None:
    lines = run("--short")
    *_, summary = lines
    assert summary["part"] == "summary"
    assert summary["ok"]
    assert (summary["failed"], summary["left_out"]) == ([], [])
    parts = [line["part"] for line in lines if line.get("ok") and "part" in line]
    assert [part.partition(" ")[0] for part in parts] == [
        *("machine", "model", "paths", "paths", "codec", "codec"),
        *("model", "products", "paths", "paths") * 2,
        "summary",
    ]
    paths = [line for line in lines if "path" in line]
    assert {line["precision"] for line in paths} == {"float32", "int8", "int4"}
    assert {line["rows"] for line in paths} == {1, 4}
    # Four ways each, and a path that were wrong would be off by far more, or choose other codes.
    assert len(paths) == 4 * 3 * 2
    assert all(max(line["hidden_off"], line["flow_off"]) < 1e-3 and line["is_finite"] for line in paths)
    assert all(line["same_codes"] == 1.0 for line in paths)
    assert [line["codec_frames"] for line in lines if "codec_frames" in line] == [1, 1, 2, 2, 3, 4, 6, 8, 3]
    assert summary["worst"]["codec in chunks"] < 1e-4
    assert all(summary[f"{name}, {rows} rows, ms"] > 0 for name in ("float32", "int8", "int4") for rows in (1, 4))


def test_a_path_that_is_wrong_is_seen_and_one_that_breaks_costs_nobody_else(
    run: Callable[..., Lines], monkeypatch: pytest.MonkeyPatch
) -> None:
    build = first.FoldedFlow.build.__func__

    def build_wrongly(cls: Any, acoustic: AcousticTransformer) -> Any:
        folded = build(cls, acoustic)
        folded.state_table.mul_(1.05)
        return folded

    def fail(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(first.FoldedFlow, "build", classmethod(build_wrongly))
    monkeypatch.setattr(first, "try_codec", fail)
    *_, summary = run("--short", "--recipes", "none")
    assert summary["worst"]["float32, static, folded, plain operations"] > 1e-3
    assert summary["worst"]["float32, static, plain operations"] < 1e-4
    assert (summary["ok"], summary["failed"]) == (False, ["codec"])
    assert summary["float32, 4 rows, ms"] > 0


def test_what_would_begin_too_late_is_named(run: Callable[..., Lines]) -> None:
    (summary,) = run("--short", "--seconds", "0")
    assert summary["left_out"] == ["machine", "model float32", "model int8", "model int4"]


@pytest.mark.slow
def test_the_long_form_has_profiles(run: Callable[..., Lines]) -> None:
    lines = run("--recipes", "none")
    assert lines[-1]["ok"]
    assert sum("operation" in line for line in lines) == 2 * 14
