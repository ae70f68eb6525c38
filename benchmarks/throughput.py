"""Many streams: throughput, underruns and first audio as the number of streams, or the load, grows.

    python -m benchmarks.throughput --model 4b-random --streams 1,8,16,32,64,128 --open-loop --real-time --json FILE

    closed     so many streams, all present from the start
    open       streams that come by themselves (Poisson), at parts of the best closed throughput
    real time  the most streams of which no player runs dry

Characters are counted at 12.5 for a second of audio. A player starts with the first chunk of its stream.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch

from benchmarks.latency import compare_with_roofline
from benchmarks.loops import Round
from benchmarks.options import make_parser, make_variants, read_numbers, resolve
from benchmarks.report import Report, measure_rates
from benchmarks.roofline import Rates
from benchmarks.subjects import config_of
from benchmarks.worker import Worker
from voxtral.bench import (
    StreamsReport,
    StreamTiming,
    poisson_arrivals,
    round_figure,
    summarize_rounds,
    warm_up_frames,
)
from voxtral.config import ModelConfig

_LOADS = (0.5, 0.7, 0.9)


def main(words: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--streams", type=read_numbers, default=(1, 4, 8, 16))
    parser.add_argument(
        "--threads", type=read_numbers, default=(0,), help="CPU threads to try; 0: the product's choice"
    )
    parser.add_argument("--frames", type=int, default=125, help="of each stream; 125 are 10 s of audio")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--open-loop", action="store_true")
    parser.add_argument("--seconds", type=float, default=30.0, help="of each open-loop load")
    parser.add_argument("--real-time", action="store_true", help="search the most streams without underrun")
    parser.add_argument("--most-streams", type=int, default=512, help="where that search ends")
    arguments = parser.parse_args(words)
    if arguments.short:
        arguments.streams, arguments.frames, arguments.rounds = (1, 3), 6, 1
        arguments.seconds, arguments.most_streams = 1.0, 4
    device, precision = resolve(arguments)
    report = Report("throughput", arguments)
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    rates, measured = measure_rates(device, dtype, is_short=arguments.short)
    report.note(rates=measured, precision=precision, device=str(device))
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(variant)) for variant in make_variants(arguments)]
        report.note(subjects={worker.variant.label: worker.facts for worker in workers})
        config = config_of(arguments.model)
        best = measure_closed(report, workers, config, rates, arguments)
        engine = workers[0]
        if arguments.open_loop:
            measure_open(report, engine, config, best, arguments)
        if arguments.real_time:
            find_most_streams(report, engine, config, arguments)
        report.note(memory_gb={worker.variant.label: worker.memory() for worker in workers})
    report.finish()


def measure_closed(
    report: Report, workers: list[Worker], config: ModelConfig, rates: Rates, arguments: argparse.Namespace
) -> float:
    """Time rounds of streams that start together, the variants in turn.

    Then each number of streams at its best thread count is compared with one stream at its own.

    Returns:
        The most audio seconds a second of the first variant.
    """
    best: dict[tuple[str, int], tuple[float, int]] = {}
    for num_streams in arguments.streams:
        for worker, num_threads, found in _closed_cells(workers, config, num_streams, arguments):
            label = worker.variant.label
            report.add(
                what="closed",
                loop=worker.variant.loop,
                variant=label,
                threads=num_threads,
                frames=arguments.frames,
                **found.to_dict(),
                **compare_with_roofline(found, config, worker.facts, rates, arguments.frames),
            )
            best[label, num_streams] = max(best.get((label, num_streams), (0.0, 0)), (found.audio_s_per_s, num_threads))
    for (label, num_streams), (rate, num_threads) in best.items():
        if num_streams > 1 and (label, 1) in best:
            rate_alone, threads_alone = best[label, 1]
            report.add(
                what="together against alone",
                variant=label,
                streams=num_streams,
                audio_s_per_s=round_figure(rate),
                threads=num_threads,
                audio_s_per_s_alone=round_figure(rate_alone),
                threads_alone=threads_alone,
                ratio=round_figure(rate / rate_alone),
            )
    return max(rate for (label, _), (rate, _) in best.items() if label == workers[0].variant.label)


def _closed_cells(
    workers: list[Worker], config: ModelConfig, num_streams: int, arguments: argparse.Namespace
) -> list[tuple[Worker, int, StreamsReport]]:
    """Run the variants in turn; the first round of each is a short one that does not count."""
    cells = [(worker, num_threads) for worker in workers for num_threads in arguments.threads]
    rounds: dict[tuple[str, int], list[list[StreamTiming]]] = {
        (worker.variant.label, num_threads): [] for worker, num_threads in cells
    }
    for number in range(arguments.rounds + 1):
        for worker, num_threads in cells:
            num_frames = arguments.frames if number else min(arguments.frames, warm_up_frames(num_streams))
            timings = worker.run(Round(num_streams, num_frames, num_threads=num_threads or None))
            if number:
                rounds[worker.variant.label, num_threads].append(timings)
    return [
        (worker, num_threads, summarize_rounds(rounds[worker.variant.label, num_threads], config))
        for worker, num_threads in cells
    ]


def measure_open(
    report: Report, worker: Worker, config: ModelConfig, capacity: float, arguments: argparse.Namespace
) -> None:
    """Let streams come by themselves at parts of the capacity (audio seconds a second)."""
    audio_s = arguments.frames / config.frame_rate
    for load in _LOADS:
        offsets = poisson_arrivals(load * capacity / audio_s, arguments.seconds, seed=round(100 * load)) or [0.0]
        timings = worker.run(Round(len(offsets), arguments.frames, offsets_s=tuple(offsets)))
        found = summarize_rounds([timings], config)
        report.add(
            what="open",
            loop=worker.variant.loop,
            variant=worker.variant.label,
            load=load,
            requests_per_s=round_figure(load * capacity / audio_s),
            frames=arguments.frames,
            **found.to_dict(),
        )


def find_most_streams(report: Report, worker: Worker, config: ModelConfig, arguments: argparse.Namespace) -> None:
    """Search the most streams, all starting at once, that all keep up; every trial is a cell."""

    def keep_up(num_streams: int) -> bool:
        # The first time that a batch has a size costs more.
        worker.run(Round(num_streams, min(arguments.frames, warm_up_frames(num_streams))))
        found = summarize_rounds([worker.run(Round(num_streams, arguments.frames))], config)
        # Whoever begins too late plays without a gap too; it has to be done within the time of its audio.
        is_good = found.underruns.count == 0 and found.rtf.high <= 1
        report.add(
            what="real time", variant=worker.variant.label, frames=arguments.frames, keeps_up=is_good, **found.to_dict()
        )
        return is_good

    most = search_most(keep_up, 8, arguments.most_streams)
    report.add(what="most real-time streams", variant=worker.variant.label, streams=most, frames=arguments.frames)


def search_most(is_good: Callable[[int], bool], first: int, limit: int) -> int:
    """Find about the largest good number from 1 to `limit`, 0 if there is none; all below a good one are good.

    Doubles from `first` on until one is bad, then halves the gap until it is an eighth.

    >>> search_most(lambda number: number <= 100, 8, 512)
    96
    """
    good, bad = 0, limit + 1
    candidate = min(first, limit)
    while bad - good > max(1, good // 8):
        if is_good(candidate):
            good = candidate
        else:
            bad = candidate
        candidate = min(2 * good, limit) if bad > limit else (good + bad) // 2
    return good


if __name__ == "__main__":
    main()
