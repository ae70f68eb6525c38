"""Fill the figures of docs/BENCHMARKS.md from the reports in benchmarks/results: python -m benchmarks.page.

No figure is written by hand. Of several reports that measured the same the newest counts; short ones never do. What no
report has is "not measured yet".
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.quality.page import fill

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "BENCHMARKS.md"
RESULTS = ROOT / "benchmarks" / "results"
NOT_MEASURED = "not measured yet"

_BENCHMARKS = ("latency", "throughput", "memory", "kernels", "official", "profile_frame", "batch", "http")

# One stream, its flow, and many streams.
_KERNEL_ROWS = (1, 6, 32)

Report = Mapping[str, Any]
Cell = Mapping[str, Any]


@dataclass(frozen=True)
class Source:
    """Which cell of which report has a figure.

    Attributes:
        benchmark: name of the script that measures it.
        device: cuda or cpu.
        model: what the model's name has in it.
        precision: of the weights; empty where the cells of one report differ in it.
        where: what the cell must have.
    """

    benchmark: str
    device: str
    model: str
    precision: str
    where: Mapping[str, Any]


@dataclass(frozen=True)
class Target:
    """One figure that is aimed at.

    Attributes:
        what: for the table.
        anchor: what others have published, under other conditions; may be empty.
        bar: the number to reach.
        is_most: whether the bar is a most; else it is a least.
        unit: for the table; may be empty.
        source: where the figure is.
        path: keys from the cell to the figure.
        step: of `benchmarks/gpu.sh`, which measures it; empty for what a CPU does.
    """

    what: str
    anchor: str
    bar: float
    is_most: bool
    unit: str
    source: Source
    path: tuple[str, ...]
    step: str = ""

    @property
    def bar_text(self) -> str:
        """The bar as the table shows it."""
        return f"{'at most' if self.is_most else 'at least'} {self.bar:g} {self.unit}".rstrip()

    def is_met(self, value: float) -> bool:
        """Compare a figure with the bar."""
        return value <= self.bar if self.is_most else value >= self.bar


@dataclass(frozen=True, eq=False)
class Found:
    """A figure and the report that it is from."""

    value: float
    report: Report


def _frames(device: str, model: str, precision: str) -> Source:
    return Source("latency", device, model, precision, {"what": "frames", "loop": "engine"})


def _first_audio(device: str, model: str, precision: str, num_frames: int) -> Source:
    where = {"what": "first audio", "loop": "engine", "is_voice_known": True, "frames_in_first_chunk": num_frames}
    return Source("latency", device, model, precision, where)


def _closed(num_streams: int) -> Source:
    where = {"what": "closed", "loop": "engine", "streams": num_streams}
    return Source("throughput", "cuda", "4b", "bfloat16", where)


_FRAME, _RTF, _TTFA = ("frame_ms", "median"), ("rtf", "median"), ("ttfa_ms", "median")
_ONE = _frames("cuda", "4b", "bfloat16")
_ONE_INT4 = Source("memory", "cuda", "4b", "", {"precision": "int4"})
_MOST = Source("throughput", "cuda", "4b", "bfloat16", {"what": "most real-time streams"})
_NANO = ("cpu", "nano", "float32")
_OVER_HTTP = Source("http", *_NANO, {"what": "first audio", "format": "wav", "stream_format": "audio"})
_TOGETHER = Source("throughput", *_NANO, {"what": "together against alone", "streams": 8})

TARGETS = (
    Target("bf16, 1 stream, a frame", "8.2", 4.0, True, "ms", _ONE, _FRAME, "latency"),
    Target("bf16, 1 stream, RTF", "0.103", 0.05, True, "", _ONE, _RTF, "latency"),
    Target("first audio, 1 frame", "", 15, True, "ms", _first_audio("cuda", "4b", "bfloat16", 1), _TTFA, "latency"),
    Target("first audio, 5 frames", "70", 30, True, "ms", _first_audio("cuda", "4b", "bfloat16", 5), _TTFA, "latency"),
    Target("bf16, 32 streams, a step", "24", 6, True, "ms", _closed(32), _FRAME, "throughput"),
    Target("bf16, 32 streams", "1431", 5300, False, "characters/s", _closed(32), ("chars_per_s",), "throughput"),
    Target("bf16, 64 streams", "", 7000, False, "characters/s", _closed(64), ("chars_per_s",), "throughput"),
    Target("int4, 1 stream, RTF", "", 0.025, True, "", _frames("cuda", "4b", "int4"), _RTF, "quantized"),
    Target(
        "int4, 2 minutes, by torch", "20.5", 2.85, True, "GB", _ONE_INT4, ("spoken_gb", "gpu_reserved_peak"), "memory"
    ),
    Target("streams in real time", "32", 256, False, "", _MOST, ("streams",), "realtime"),
    Target("2 CPU cores, 4B int4, RTF", "58", 1.5, True, "", _frames("cpu", "4b", "int4"), _RTF),
    Target("2 CPU cores, nano, RTF", "", 0.15, True, "", _frames(*_NANO), _RTF),
    Target("2 CPU cores, nano, first audio", "", 150, True, "ms", _first_audio(*_NANO, 1), _TTFA),
    Target("2 CPU cores, nano, first audio over HTTP", "", 200, True, "ms", _OVER_HTTP, ("first_audio_ms", "median")),
    Target("2 CPU cores, nano, 8 streams against 1", "", 2.5, False, "times", _TOGETHER, ("ratio",)),
)


def read_reports(folder: Path) -> dict[str, Report]:
    """Read the reports of a folder, newest first; short runs and other files are passed over."""
    reports: dict[str, Report] = {}
    for path in folder.glob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        is_ours = isinstance(content, dict) and content.get("benchmark") in _BENCHMARKS and "cells" in content
        if is_ours and not content.get("options", {}).get("short"):
            reports[path.name] = content
    return dict(sorted(reports.items(), key=lambda item: item[1]["date"], reverse=True))


def find_target(target: Target, reports: Iterable[Report]) -> Found | None:
    """Find the newest figure for a target."""
    source = target.source
    for report in reports:
        fits = (
            report["benchmark"] == source.benchmark
            and report.get("device", "").startswith(source.device)
            and source.model in report["options"]["model"]
            and (not source.precision or report.get("precision") == source.precision)
        )
        for cell in report["cells"] if fits else ():
            if all(cell.get(name) == value for name, value in source.where.items()):
                value = _look_up(cell, target.path)
                if value is not None:
                    return Found(value, report)
    return None


def _look_up(cell: Cell, path: Sequence[str]) -> float | None:
    value: Any = cell
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def make_parts(reports: Mapping[str, Report]) -> dict[str, str]:
    """Write all parts of the page."""
    return {
        "targets": write_targets(reports),
        "frames": write_frames(reports),
        "first-audio": write_first_audio(reports),
        "streams": write_streams(reports),
        "open-loop": write_open_loop(reports),
        "batch": write_batch(reports),
        "http": write_http(reports),
        "memory": write_memory(reports),
        "official": write_official(reports),
        "kernels": write_kernels(reports),
        "reports": write_reports(reports),
    }


def write_targets(reports: Mapping[str, Report]) -> str:
    """Lay out what is aimed at, and what was reached."""
    rows = []
    for target in TARGETS:
        found = find_target(target, reports.values())
        value = NOT_MEASURED if found is None else f"{found.value:g}"
        met = "" if found is None else "yes" if target.is_met(found.value) else "no"
        is_waiting = found is None and target.step
        where = f"a GPU: `benchmarks/gpu.sh {target.step}`" if is_waiting else _place(found and found.report)
        rows.append((target.what, target.anchor or "none", target.bar_text, value, met, where))
    return _table(("what", "published", "target", "measured", "met?", "where"), rows)


def write_frames(reports: Mapping[str, Report]) -> str:
    """Lay out one stream, each way beside the engine."""
    rows = [
        (
            _subject(report),
            cell["variant"],
            _spread(cell["frame_ms"]),
            f"{cell['rtf']['median']:g}",
            f"{cell['times_the_first']:g}",
            f"{cell['floor_ms']:g}",
            f"{cell['percent_of_roofline']:g} %",
        )
        for report, cell in _cells(reports, "latency", "frames")
    ]
    return _table(
        ("model, device", "way", "ms a frame (p95)", "RTF", "times the engine", "floor, ms", "of floor"), rows
    )


def write_first_audio(reports: Mapping[str, Report]) -> str:
    """Lay out first audio."""
    rows = [
        (
            _subject(report),
            cell["variant"],
            str(cell["frames_in_first_chunk"]),
            "spoken before" if cell["is_voice_known"] else "new",
            _spread(cell["ttfa_ms"]),
        )
        for report, cell in _cells(reports, "latency", "first audio")
    ]
    return _table(("model, device", "way", "frames in the first chunk", "voice", "ms (p95)"), rows)


def write_streams(reports: Mapping[str, Report]) -> str:
    """Lay out streams that start together."""
    rows = [
        (
            _subject(report),
            cell["variant"],
            str(cell["streams"]),
            str(cell["threads"] or "auto"),
            f"{cell['audio_s_per_s']:g}",
            f"{cell['chars_per_s']:g}",
            _spread(cell["frame_ms"]),
            f"{cell['rtf']['median']:g}",
            _spread(cell["ttfa_ms"]),
            str(cell["underruns"]),
        )
        for report, cell in _cells(reports, "throughput", "closed")
    ]
    heading = ("model, device", "way", "streams", "threads", "times real time", "characters/s")
    table = _table((*heading, "ms a step (p95)", "RTF", "first audio, ms (p95)", "underruns"), rows)
    ratios = [
        f"{_subject(report)}, {cell['variant']}: {cell['streams']} streams {cell['audio_s_per_s']:g} times real time "
        f"({_threads(cell['threads'])}), 1 stream {cell['audio_s_per_s_alone']:g} ({_threads(cell['threads_alone'])}): "
        f"{cell['ratio']:g} times."
        for report, cell in _cells(reports, "throughput", "together against alone")
    ]
    return "\n\n".join([table, "\n".join(f"- {line}" for line in ratios)]).rstrip()


def write_open_loop(reports: Mapping[str, Report]) -> str:
    """Lay out streams that come by themselves, and how many keep up."""
    rows = [
        (
            _subject(report),
            f"{100 * cell['load']:g} %",
            f"{cell['requests_per_s']:g}",
            _spread(cell["ttfa_ms"]),
            f"{cell['underruns']} in {cell['streams']} streams",
        )
        for report, cell in _cells(reports, "throughput", "open")
    ]
    table = _table(("model, device", "load", "requests/s", "first audio, ms (p95)", "underruns"), rows)
    most = [
        f"- {_subject(report)}: {cell['streams']} streams keep up, all starting at once."
        for report, cell in _cells(reports, "throughput", "most real-time streams")
    ]
    return "\n\n".join([table, "\n".join(most)]).rstrip()


def write_batch(reports: Mapping[str, Report]) -> str:
    """Lay out many texts: in one process, and the commands."""
    rows = [
        (
            Path(report["options"]["model"]).name,
            cell["what"],
            f"{cell['seconds']:g}",
            f"{cell['rtf']:g}",
            f"{cell['characters_per_s']:g}",
            f"{cell['times_the_loop']:g}",
        )
        for report, cell in _cells(reports, "batch", None)
        if cell["what"] != "commands"
    ]
    table = _table(("model", "way", "seconds", "RTF", "characters/s", "times the loop"), rows)
    commands = [
        f"- {Path(report['options']['model']).name}: one `voxtral batch` takes {cell['batch_s_per_text']:g} s a text, "
        f"one `voxtral speak` for each {cell['speak_s_per_text']:g} s: {cell['times_one_by_one']:g} times."
        for report, cell in _cells(reports, "batch", "commands")
    ]
    return "\n\n".join([table, "\n".join(commands)]).rstrip()


def write_http(reports: Mapping[str, Report]) -> str:
    """Lay out the server as its clients hear it: first audio of one, and streams that start together."""
    first = [
        (
            _subject(report),
            f"{cell['format']}, over SSE" if cell["stream_format"] == "sse" else cell["format"],
            _spread(cell["first_bytes_ms"]),
            _spread(cell["first_audio_ms"]),
        )
        for report, cell in _cells(reports, "http", "first audio")
    ]
    streams = [
        (
            _subject(report),
            str(cell["streams"]),
            _spread(cell["first_audio_ms"]),
            f"{cell['audio_s_per_s']:g}",
            f"{cell['ran_dry']} of {cell['heard']}",
            f"{cell['lowest_lead_ms']:g}",
        )
        for report, cell in _cells(reports, "http", "streams")
    ]
    tables = [_table(("model, device", "format", "first bytes, ms (p95)", "first audio, ms (p95)"), first)]
    if streams:
        heading = ("model, device", "streams", "first audio, ms (p95)", "times real time")
        tables.append(_table((*heading, "ran dry", "lowest lead, ms"), streams))
    return "\n\n".join(tables)


def write_memory(reports: Mapping[str, Report]) -> str:
    """Lay out memory; a precision that failed is there with its reason."""
    rows = []
    for report, cell in _cells(reports, "memory", None):
        if "failed" in cell:
            rows.append((_subject(report), cell["precision"], cell["failed"], "", "", ""))
            continue
        spoken = cell["spoken_gb"]
        keys = ("anonymous", "resident_peak", "gpu_reserved_peak", "gpu_by_the_driver")
        rows.append((_subject(report), cell["precision"], *(_optional(spoken.get(key)) for key in keys)))
    heading = ("main memory, GB", "with mapped files, peak", "GPU, reserved by torch", "GPU, by the driver")
    return _table(("model, device", "precision", *heading), rows)


def write_official(reports: Mapping[str, Report]) -> str:
    """Lay out the official modules beside ours."""
    rows = [
        (
            _subject(report),
            cell["what"] + (f", {cell['new_frames']} frames" if "new_frames" in cell else ""),
            str(cell["streams"]),
            cell["way"],
            _spread(cell["ms"]),
            f"{cell['times_the_first']:g}",
            f"{100 * cell['equal_codes']:g} % of codes" if "equal_codes" in cell else f"to {cell['difference']:g}",
        )
        for report, cell in _cells(reports, "official", None)
    ]
    return _table(("model, device", "what", "rows", "way", "ms (p95)", "times ours", "agree"), rows)


def write_kernels(reports: Mapping[str, Report]) -> str:
    """Lay out single operations, for some numbers of rows; the reports have more."""
    rows = [
        (
            _subject(report),
            cell["operation"],
            str(cell["rows"]),
            cell["way"],
            _spread(cell["us"]),
            _optional(cell.get("gb_per_s")),
            _optional(cell.get("difference")),
        )
        for report, cell in _cells(reports, "kernels", None)
        if cell["rows"] in _KERNEL_ROWS and "failed" not in cell
    ]
    return _table(("device", "operation", "rows", "way", "µs (p95)", "GB/s", "difference"), rows)


def write_reports(reports: Mapping[str, Report]) -> str:
    """List the reports with the conditions of each."""
    rows = [
        (
            f"`{name}`",
            report["date"],
            report["commit"],
            _place(report),
            f"torch {report['machine']['torch']}",
            str(report["machine"].get("load_average", "")),
            _rates(report),
            "" if report["is_complete"] else "cut short",
        )
        for name, report in reports.items()
    ]
    return _table(("report", "date", "commit", "machine", "torch", "load before", "measured rates", ""), rows)


def _cells(reports: Mapping[str, Report], benchmark: str, what: str | None) -> Iterable[tuple[Report, Cell]]:
    """Give the cells of the newest report for each model, device and precision."""
    seen: set[tuple[str, ...]] = set()
    for report in reports.values():
        key = (report["options"]["model"], str(report.get("device")), str(report.get("precision")))
        cells = [cell for cell in report["cells"] if what is None or cell.get("what") == what]
        if report["benchmark"] != benchmark or not cells or key in seen:
            continue
        seen.add(key)
        yield from ((report, cell) for cell in cells)


def _subject(report: Report) -> str:
    return f"{Path(report['options']['model']).name}, {report.get('device')}"


def _place(report: Report | None) -> str:
    if report is None:
        return ""
    machine = report["machine"]
    gpus = [text.split(",")[0] for name, text in machine.items() if name.startswith("cuda:")]
    return gpus[0] if gpus else f"{machine.get('cpu_name', 'CPU')}, {machine['cpu']}"


def _rates(report: Report) -> str:
    rates = report.get("rates")
    if rates is None:
        return ""
    return (
        f"copy {rates['copy_gb_per_s']:g} GB/s, read {rates['read_gb_per_s']:g} GB/s, "
        f"{rates['gemm_tflop_per_s']:g} TFLOP/s"
    )


def _threads(number: int) -> str:
    return f"{number} threads" if number else "its own choice of threads"


def _spread(values: Mapping[str, float]) -> str:
    return f"{values['median']:g} ({values['p95']:g})"


def _optional(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return f"{NOT_MEASURED[0].upper()}{NOT_MEASURED[1:]}."
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(words: Sequence[str] | None = None) -> None:
    """Fill the page in place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args(words)
    page = options.page.read_text(encoding="utf-8")
    options.page.write_text(fill(page, make_parts(read_reports(options.results))), encoding="utf-8")


if __name__ == "__main__":
    main()
