"""Where the time of a frame goes in the plain loop: the operations of torch, by their own time.

    python -m benchmarks.profile_eager --model 4b-random --table FILE.txt --json FILE.json

The loop is `benchmarks.loops.EagerLoop`: our own modules, no graph, no scheduler.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

from benchmarks.loops import EagerLoop, Round
from benchmarks.options import make_parser, resolve
from benchmarks.report import Report
from benchmarks.subjects import open_subject
from voxtral.bench import round_figure

_NUM_ROWS = 25


def main(words: Sequence[str] | None = None) -> None:
    """Profile and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--table", type=Path, help="where the table goes")
    arguments = parser.parse_args(words)
    if arguments.short:
        arguments.frames = 2
    device, precision = resolve(arguments)
    report = Report("profile_eager", arguments)
    subject = open_subject(arguments.model, device, precision, is_prepared=False)
    report.note(device=str(device), precision=precision, weights=subject.weights)
    loop = EagerLoop(subject)
    round_ = Round(arguments.streams, arguments.frames)
    loop.run(round_)
    is_cuda = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_cuda else [])]
    with profile(activities=activities) as recorded:
        loop.run(round_)
    averages = recorded.key_averages()
    key = "self_device_time_total" if is_cuda else "self_cpu_time_total"
    total = sum(getattr(event, key) for event in averages)
    for event in sorted(averages, key=lambda event: -getattr(event, key))[:_NUM_ROWS]:
        report.add(
            operation=event.key,
            calls_per_frame=round_figure(event.count / arguments.frames),
            own_ms_per_frame=round_figure(getattr(event, key) / 1e3 / arguments.frames),
            percent=round_figure(100 * getattr(event, key) / total),
        )
    if arguments.table is not None:
        arguments.table.parent.mkdir(parents=True, exist_ok=True)
        table = averages.table(sort_by=key, row_limit=_NUM_ROWS, max_name_column_width=60)
        heading = f"{subject.name} ({subject.weights}), {device}, {precision}, {arguments.streams} streams"
        arguments.table.write_text(f"{heading}, prompt and {arguments.frames} frames\n{table}\n", encoding="utf-8")
    report.finish()


if __name__ == "__main__":
    main()
