"""Fill the figures of docs/CLONING.md: python -m benchmarks.quality.cloning_page.

They are those of the newest reports in benchmarks/results, which `voxtral evaluate-encoder --json` writes:
cloning-nano-DATE.json, cloning-nano-fast-DATE.json of its short form, and cloning-4b-DATE.json. The short form has a
row of its own, for fewer steps, and stands for the whole where that was not measured. Where there is none, cells stay
empty. Figures stand between two comments, as in docs/QUALITY.md; nothing else of the page is touched.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.quality.page import PageError, fill
from voxtral.cloning.report import CONTROLS, FORMAT, INVERSION, ROWS

ROOT = Path(__file__).parents[2]
PAGE, RESULTS = ROOT / "docs" / "CLONING.md", ROOT / "benchmarks" / "results"

NANO, FAST, LARGE = "nano", "nano-fast", "4b"
_NAME = re.compile(rf"cloning-({NANO}|{FAST}|{LARGE})-(\d{{4}}-\d\d-\d\d)\.json")

_SAME, _ALIKE = ("clone", "same_minus_other", 3), ("copy", "likeness", 2)
# Heading, part of a row, field, decimals.
_COLUMNS = (
    ("codes: semantic", "agreement", "semantic", 2),
    ("codes: levels off", "agreement", "levels", 2),
    ("copy: spectral", "copy", "distance", 2),
    ("copy: MCD", "copy", "cepstral", 1),
    ("copy: alike", *_ALIKE),
    ("clone: same - other", *_SAME),
    ("clone: right", "clone", "right", 2),
    ("length", "clone", "length", 2),
    ("ended", "clone", "ended", 2),
)
_LARGE_COLUMNS = (("4B: copy, alike", *_ALIKE), ("4B: same - other", *_SAME))

_MEASURES = {"resemblyzer": "Resemblyzer", "timbre_and_pitch": "timbre and pitch", "ecapa": "ECAPA"}

Report = Mapping[str, Any]


def read_reports(folder: Path) -> dict[str, tuple[str, Report]]:
    """Find the newest report of each kind: its name and what it says.

    Raises:
        PageError: one is no report of an evaluation.
    """
    found: dict[str, tuple[str, Report]] = {}
    for path in sorted(folder.glob("cloning-*.json")):
        if (match := _NAME.fullmatch(path.name)) is None:
            continue
        report = json.loads(path.read_text(encoding="utf-8"))
        if report.get("format") != FORMAT:
            raise PageError(
                f"{path.name} is no {FORMAT}; make one by voxtral evaluate-encoder --json; remove or rename it"
            )
        found[match[1]] = (path.name, report)  # names sort by date
    return found


def make_parts(reports: Mapping[str, tuple[str, Report]]) -> dict[str, str]:
    """Write all parts of the page."""
    nano, fast, large = (reports.get(kind, ("", {})) for kind in (NANO, FAST, LARGE))
    if NANO not in reports:  # the short form says less, and more than nothing
        nano, fast = fast, ("", {})
    return {
        "conditions": "\n".join(_conditions(kind, *reports[kind]) for kind in (NANO, FAST, LARGE) if kind in reports),
        "clones": _table(nano[1], fast[1], large[1]),
        "differences": _differences(nano[1]),
    }


def _conditions(kind: str, name: str, report: Report) -> str:
    """Say in a line where figures are from."""
    setting, machine = report["setting"], report["machine"]
    return (
        f"- {kind}: `{name}`; {setting['voices']} {setting['of']}, {setting['sentences']} sentences each "
        f"(n = {report['n']}), seed {setting['seed']}, {setting['steps']} steps from nothing; voices compared by "
        f"{_MEASURES[setting['measures'][0]]}; {machine['system']}, {machine['cpu']}, {machine['device']}, torch "
        f"{machine['torch']}"
    )


def _table(nano: Report, fast: Report, large: Report) -> str:
    headings = ["", *(heading for heading, *_ in (*_COLUMNS, *_LARGE_COLUMNS)), "ms for 1 s of clip"]
    lines = [headings, ["---"] * len(headings)]
    for row in ROWS:
        if not any(row in report.get("rows", {}) for report in (nano, large)):
            continue
        name = f"*{row}*" if row in CONTROLS else row
        lines.append(_line(name, nano, large, row))
        if row == INVERSION and fast:
            lines.append(_line(f"{row}, {fast['setting']['steps']} steps (n = {fast['n']})", fast, {}, row))
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _line(name: str, report: Report, large: Report, row: str) -> list[str]:
    cells = [_cell(report, row, *column) for _, *column in _COLUMNS]
    cells += [_cell(large, row, *column) for _, *column in _LARGE_COLUMNS]
    cost = report.get("rows", {}).get(row, {}).get("ms_per_s")
    return [name, *cells, "" if cost is None else f"{cost:.0f}"]


def _cell(report: Report, row: str, part: str, field: str, decimals: int) -> str:
    value = (report.get("rows", {}).get(row, {}).get(part) or {}).get(field)
    if isinstance(value, Mapping):
        value = value.get(report["setting"]["measures"][0])
    return "" if value is None else f"{value:.{decimals}f}"


def _differences(report: Report) -> str:
    """Say which differences of nano's rows mean nothing."""
    if not report:
        return "Not measured."
    least, untold = report["least_difference"], report["not_told_from"]
    return (
        f"On nano a difference of *same - other* below {least['same_minus_other']:.3f}, of *right* below "
        f"{least['right']:.2f}, of *spectral* below {least['distance']:.2f} and of *alike* below "
        f"{least['likeness']:.2f} means nothing. By *same - other* these cannot be told from {untold['row']}: "
        f"{', '.join(untold['same_minus_other']) or 'none'}."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Fill the page in place."""
    parser = argparse.ArgumentParser(prog="benchmarks.quality.cloning_page", description=__doc__)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--results", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    page = options.page.read_text(encoding="utf-8")
    options.page.write_text(fill(page, make_parts(read_reports(options.results))), encoding="utf-8")


if __name__ == "__main__":
    main()
