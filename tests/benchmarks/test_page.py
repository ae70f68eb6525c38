"""docs/BENCHMARKS.md: its figures are those of the reports."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.page import NOT_MEASURED, PAGE, RESULTS, ROOT, TARGETS, find_target, main, make_parts, read_reports
from benchmarks.quality.page import fill

SPREAD = {"median": 3.5, "p95": 4.5, "low": 3.0, "high": 5.0, "count": 9}


def report(benchmark: str, *cells: dict[str, Any], **facts: Any) -> dict[str, Any]:
    return {
        "benchmark": benchmark,
        "is_complete": True,
        "date": "2026-11-22T12:00Z",
        "commit": "abc",
        "options": {"model": "4b-random"},
        "machine": {"torch": "2.11", "cpu": "2 cores", "cuda:0": "NVIDIA H200, 100 GiB free of 139"},
        "device": "cuda",
        "precision": "bfloat16",
        "cells": list(cells),
    } | facts


FRAMES = {
    "what": "frames",
    "loop": "engine",
    "variant": "engine bfloat16",
    "frame_ms": SPREAD,
    "rtf": SPREAD,
    "times_the_first": 1.0,
    "floor_ms": 2.6,
    "percent_of_roofline": 74.3,
}


def test_the_page_is_what_the_reports_say() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert fill(page, make_parts(read_reports(RESULTS))) == page, "run python -m benchmarks.page"


def test_without_reports_nothing_is_measured() -> None:
    parts = make_parts({})
    assert parts["targets"].count(NOT_MEASURED) == len(TARGETS)
    assert all("not measured yet" in part.lower() for part in parts.values())


def test_what_waits_for_a_gpu_names_the_command_that_measures_it() -> None:
    script = (ROOT / "benchmarks" / "gpu.sh").read_text(encoding="utf-8")
    (listed,) = re.findall(r"^STEPS=\((.*)\)$", script, re.MULTILINE)
    steps = listed.split()
    page = PAGE.read_text(encoding="utf-8")
    waiting = page[page.index("## Waiting for a GPU") : page.index("## Reports")]
    assert [step for step in steps if f"`{step}`" not in waiting] == []
    lines = make_parts({})["targets"].splitlines()
    for target in TARGETS:
        (line,) = (line for line in lines if line.startswith(f"| {target.what} |"))
        assert ("CPU" in target.what) is (target.step == "")
        assert target.step == "" or target.step in steps
        assert f"`benchmarks/gpu.sh {target.step}`" in line or target.step == ""


def test_a_figure_is_held_against_its_target() -> None:
    lines = make_parts({"a.json": report("latency", FRAMES)})["targets"].splitlines()
    frame = next(line for line in lines if line.startswith("| bf16, 1 stream, a frame"))
    assert frame == "| bf16, 1 stream, a frame | 8.2 | at most 4 ms | 3.5 | yes | NVIDIA H200 |"
    rtf = next(line for line in lines if line.startswith("| bf16, 1 stream, RTF"))
    assert "| 3.5 | no |" in rtf


@pytest.mark.parametrize(
    "other",
    [
        {"device": "cpu"},
        {"precision": "float32"},
        {"options": {"model": "nano"}},
        {"benchmark": "throughput"},
        {"cells": [FRAMES | {"loop": "eager"}]},
        {"cells": [FRAMES | {"frame_ms": {}}]},
    ],
)
def test_a_figure_of_something_else_does_not_count(other: dict[str, Any]) -> None:
    assert find_target(TARGETS[0], [report("latency", FRAMES)]) is not None
    assert find_target(TARGETS[0], [report("latency", FRAMES) | other]) is None


def test_the_newest_report_counts_and_short_ones_never_do(tmp_path: Path) -> None:
    old, new = report("latency", FRAMES), report("latency", FRAMES | {"frame_ms": SPREAD | {"median": 3.1}})
    new["date"] = "2026-12-01T00:00Z"
    short = report("latency", FRAMES, options={"model": "4b-random", "short": True})
    short["date"] = "2027-01-01T00:00Z"
    for name, content in (("old", old), ("new", new), ("short", short), ("other", {"benchmark": "quality"})):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "list.json").write_text("[]")
    reports = read_reports(tmp_path)
    assert list(reports) == ["new.json", "old.json"]
    found = find_target(TARGETS[0], reports.values())
    assert found is not None
    assert found.value == 3.1
    assert "3.1 (4.5)" in make_parts(reports)["frames"]
    assert "3.5 (4.5)" not in make_parts(reports)["frames"]


def test_reports_of_every_script_are_laid_out(tmp_path: Path) -> None:
    """With real reports, those of the tiny run, as if they were no short ones."""
    folder = max(RESULTS.glob("gpu-sh-tiny-cpu-*"))
    for path in folder.glob("*.json"):
        content = json.loads(path.read_text())
        if "options" in content:
            content["options"]["short"] = False
            (tmp_path / path.name).write_text(json.dumps(content))
    parts = make_parts(read_reports(tmp_path))
    unmeasured = [name for name, part in parts.items() if part == "Not measured yet."]
    assert unmeasured == ["batch", "http"]  # which have no step there
    rows = [line for part in parts.values() for line in part.splitlines() if line.startswith("|")]
    widths = {line.count("|") for line in parts["streams"].splitlines() if line.startswith("|")}
    assert len(rows) > 100
    assert len(widths) == 1
    assert "times." in parts["streams"]
    assert "keep up" in parts["open-loop"]


def test_the_server_is_laid_out_as_its_clients_hear_it() -> None:
    first = {"what": "first audio", "format": "wav", "stream_format": "audio", "streams": 1}
    first |= {"first_bytes_ms": SPREAD, "first_audio_ms": SPREAD}
    streams = {"what": "streams", "streams": 8, "first_audio_ms": SPREAD, "audio_s_per_s": 20.0}
    streams |= {"ran_dry": 1, "heard": 24, "lowest_lead_ms": -3.2}
    cells = (first, first | {"format": "mp3", "stream_format": "sse"}, streams)
    parts = make_parts({"a.json": report("http", *cells, device="cpu", precision="float32", options={"model": "nano"})})
    assert parts["http"].splitlines()[2:] == [
        "| nano, cpu | wav | 3.5 (4.5) | 3.5 (4.5) |",
        "| nano, cpu | mp3, over SSE | 3.5 (4.5) | 3.5 (4.5) |",
        "",
        "| model, device | streams | first audio, ms (p95) | times real time | ran dry | lowest lead, ms |",
        "| --- | --- | --- | --- | --- | --- |",
        "| nano, cpu | 8 | 3.5 (4.5) | 20 | 1 of 24 | -3.2 |",
    ]
    assert "| 2 CPU cores, nano, first audio over HTTP | none | at most 200 ms | 3.5 | yes |" in parts["targets"]


def test_filling_twice_changes_nothing_more(tmp_path: Path) -> None:
    page, results = tmp_path / "page.md", tmp_path / "results"
    results.mkdir()
    page.write_text(PAGE.read_text(encoding="utf-8"), encoding="utf-8")
    (results / "a.json").write_text(json.dumps(report("latency", FRAMES)))
    main(["--page", str(page), "--results", str(results)])
    filled = page.read_text(encoding="utf-8")
    assert "74.3 %" in filled
    main(["--page", str(page), "--results", str(results)])
    assert page.read_text(encoding="utf-8") == filled
