"""Where the time of a frame goes: operations of torch, or kernels of a GPU, by their own time.

    python -m benchmarks.profile_frame --model 4b-random --loops eager --table FILE.txt --json FILE.json

On a GPU every loop can be profiled, graphs included; calls a frame are then kernels launched or replayed. On a CPU
only plain loops: the engine computes on a thread of its own, which the profiler does not see.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch.profiler import ProfilerActivity, profile

from benchmarks.loops import Round, make_loop
from benchmarks.options import make_parser, make_variants
from benchmarks.report import Report
from benchmarks.subjects import open_subject
from benchmarks.worker import Variant
from voxtral.bench import round_figure
from voxtral.device import resolve_device

_NUM_ROWS = 25


def main(words: Sequence[str] | None = None) -> None:
    """Profile and report."""
    parser = make_parser(__doc__)
    parser.set_defaults(loops="eager")
    parser.add_argument("--streams", type=int, default=1)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--table", type=Path, help="where the table goes")
    arguments = parser.parse_args(words)
    if arguments.short:
        arguments.frames = 2
    (variant,) = make_variants(arguments)
    report = Report("profile_frame", arguments)
    profile_variant(report, variant, arguments.streams, arguments.frames, arguments.table)
    report.finish()


def profile_variant(report: Report, variant: Variant, num_streams: int, num_frames: int, table: Path | None) -> None:
    """Run a round that does not count, then one under the profiler.

    Raises:
        ValueError: the engine on a CPU.
    """
    device, _ = resolve_device(variant.device)
    is_cuda = device.type == "cuda"
    if variant.loop == "engine" and not is_cuda:
        raise ValueError("got the engine on a CPU; its thread is not seen by the profiler; use --loops eager")
    subject = open_subject(variant.model, device, variant.precision, is_prepared=variant.loop == "engine")
    report.note(device=str(device), precision=variant.precision, weights=subject.weights, variant=variant.label)
    loop = make_loop(variant.loop, subject, variant.options)
    round_ = Round(num_streams, num_frames)
    loop.run(round_)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if is_cuda else [])]
    with profile(activities=activities) as recorded:
        loop.run(round_)
    loop.close()
    averages = recorded.key_averages()
    key = "self_device_time_total" if is_cuda else "self_cpu_time_total"
    total = sum(getattr(event, key) for event in averages)
    for event in sorted(averages, key=lambda event: -getattr(event, key))[:_NUM_ROWS]:
        report.add(
            operation=event.key,
            calls_per_frame=round_figure(event.count / num_frames),
            own_ms_per_frame=round_figure(getattr(event, key) / 1e3 / num_frames),
            percent=round_figure(100 * getattr(event, key) / total),
        )
    if table is not None:
        table.parent.mkdir(parents=True, exist_ok=True)
        text = averages.table(sort_by=key, row_limit=_NUM_ROWS, max_name_column_width=60)
        heading = f"{variant.label}, {subject.weights}, {device}, {num_streams} streams, prompt and {num_frames} frames"
        table.write_text(f"{heading}\n{text}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
