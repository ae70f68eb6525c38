"""Memory of one stream, for each precision in a process of its own: after loading, and at the peak.

    python -m benchmarks.memory --model 4b-random --precisions bfloat16,int8,int4 --frames 1500 --json FILE

Main memory as the system counts it, GPU memory as torch reserves it, and what the driver counts for the whole device
before and with the process, which includes the CUDA context (and whatever else runs there).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.loops import Round
from benchmarks.options import make_parser, read_engine_options, resolve
from benchmarks.report import Report, describe_gpu
from benchmarks.worker import Variant, Worker, WorkerError
from voxtral.bench import round_figure


def main(words: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--precisions", help="with commas between; default: what --precision says")
    parser.add_argument("--frames", type=int, default=1500, help="of the stream; 1500 are 2 minutes")
    arguments = parser.parse_args(words)
    if arguments.short:
        arguments.frames = 6
    device, precision = resolve(arguments)
    report = Report("memory", arguments)
    report.note(device=str(device))
    for name in (arguments.precisions or precision).split(","):
        variant = Variant("engine", arguments.model, str(device), name, read_engine_options(arguments.engine))
        before = device_gb()
        try:
            with Worker(variant) as worker:
                worker.run(Round(1, arguments.frames))
                report.add(precision=name, frames=arguments.frames, **describe_worker(worker, before))
        except WorkerError as error:
            # A precision that does not fit, or that this version has not, must not cost the others.
            report.add(precision=name, failed=str(error))
    report.finish()


def describe_worker(worker: Worker, device_gb_before: float | None) -> dict[str, Any]:
    """Say what a worker holds now, and what it held when it had loaded."""
    now = device_gb()
    driver: dict[str, float] = {}
    if now is not None and device_gb_before is not None:
        driver = {"gpu_by_the_driver": round_figure(now - device_gb_before)}
    return {
        "weights": worker.facts["weights"],
        "load_s": worker.facts["load_s"],
        "loaded_gb": worker.facts["memory_gb"],
        "spoken_gb": worker.memory() | driver,
    }


def device_gb() -> float | None:
    """Ask the driver what is in use on the device, in GB."""
    used = describe_gpu().get("gpu_memory_used")
    return int(used) * 2**20 / 1e9 if used is not None else None


if __name__ == "__main__":
    main()
