"""docs/CLONING.md: its figures are those of the reports, and what nobody measured is empty."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from benchmarks.quality.cloning_page import PAGE, RESULTS, main, make_parts, read_reports
from benchmarks.quality.page import PageError, fill


def report(**rows: float) -> dict[str, Any]:
    return {
        "format": "voxtral-evaluation-1",
        "machine": {"system": "Linux", "cpu": "2 cores", "device": "cpu", "torch": "2.9"},
        "setting": {
            "of": "people",
            "voices": 7,
            "sentences": 20,
            "steps": 300,
            "seed": 1,
            "measures": ["resemblyzer", "timbre_and_pitch"],
        },
        "n": 140,
        "rows": {
            name.replace("_", " "): {
                "agreement": {},
                "copy": {"distance": 1.5, "likeness": {"resemblyzer": 0.75, "timbre_and_pitch": 0.1}},
                "clone": {"same_minus_other": {"resemblyzer": value, "timbre_and_pitch": 0.0}},
                "ms_per_s": None,
            }
            for name, value in rows.items()
        },
        "least_difference": {"same_minus_other": 0.02, "right": 0.1, "distance": 0.1, "likeness": 0.05},
        "not_told_from": {"row": "this encoder", "same_minus_other": ["nearest preset"]},
    }


def cells(table: str, name: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_page_is_what_the_reports_say() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert fill(page, make_parts(read_reports(RESULTS))) == page, "run python -m benchmarks.quality.cloning_page"


def test_figures_come_onto_the_page_and_the_rest_is_empty() -> None:
    parts = make_parts({"nano": ("cloning-nano-2030-01-02.json", report(this_encoder=0.125, nearest_preset=0.09))})
    row = cells(parts["clones"], "this encoder")
    assert "0.125" in row
    assert row[-3:] == ["", "", ""]  # both of the 4B, and what it costs
    assert "0.090" in cells(parts["clones"], "*nearest preset*")
    assert "cloning-nano-2030-01-02.json" in parts["conditions"]
    assert "nearest preset" in parts["differences"]
    large = {"4b": ("cloning-4b-2030-01-02.json", report(this_encoder=0.5))}
    assert cells(make_parts(large)["clones"], "this encoder")[-3:-1] == ["0.75", "0.500"]


def test_the_short_form_has_a_row_and_stands_for_the_whole_where_that_is_missing() -> None:
    short = report(inversion_only=0.1)
    short["setting"]["steps"], short["n"] = 60, 28
    reports = {"nano-fast": ("cloning-nano-fast-2030-01-02.json", short)}
    assert "0.100" in cells(make_parts(reports)["clones"], "inversion only")
    reports["nano"] = ("cloning-nano-2030-01-02.json", report(inversion_only=0.2))
    both = make_parts(reports)["clones"]
    assert "0.200" in cells(both, "inversion only")
    assert "0.100" in cells(both, r"inversion only, 60 steps (n = 28)")


def test_the_newest_report_counts(tmp_path: Path) -> None:
    for date, value in (("2030-01-02", 0.2), ("2029-12-31", 0.1)):
        (tmp_path / f"cloning-nano-{date}.json").write_text(json.dumps(report(this_encoder=value)))
    (tmp_path / "cloning-other.json").write_text("{}")
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text(encoding="utf-8"))
    main(["--page", str(page), "--results", str(tmp_path)])
    assert re.search(r"\| this encoder \|.* 0\.200 ", page.read_text())


def test_what_is_no_report_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cloning-4b-2030-01-02.json").write_text("{}")
    with pytest.raises(PageError, match="is no voxtral-evaluation-1"):
        read_reports(tmp_path)
