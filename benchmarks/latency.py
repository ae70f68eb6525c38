"""One stream: milliseconds a frame, RTF and first audio, beside plain loops and the machine's own limit.

    python -m benchmarks.latency --model 4b-random --loops engine,eager,stand-in --json FILE

Variants run in processes of their own and take turns. First audio is the time from the request to the first chunk in
the reader's hands, of 1 frame and of 5, with a voice that has spoken before and with one that never has.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch

from benchmarks.loops import CHUNK_FRAMES, OFFICIAL_CHUNK_FRAMES, Round
from benchmarks.options import make_parser, make_variants, resolve
from benchmarks.report import Report, measure_rates
from benchmarks.roofline import PRECISIONS, Rates, frame_cost
from benchmarks.subjects import config_of
from benchmarks.worker import Worker
from voxtral.bench import Spread, StreamsReport, round_figure, summarize_rounds, text_tokens_for
from voxtral.config import ModelConfig


def main(words: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = make_parser(__doc__)
    parser.add_argument("--frames", type=int, default=125, help="of each round; 125 are 10 s of audio")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args(words)
    if arguments.short:
        arguments.frames, arguments.rounds = 8, 2
    device, precision = resolve(arguments)
    report = Report("latency", arguments)
    dtype = torch.float32 if precision == "float32" else torch.bfloat16
    rates, measured = measure_rates(device, dtype, is_short=arguments.short)
    report.note(rates=measured, precision=precision, device=str(device))
    with ExitStack() as stack:
        workers = [stack.enter_context(Worker(variant)) for variant in make_variants(arguments)]
        report.note(subjects={worker.variant.label: worker.facts for worker in workers})
        config = config_of(arguments.model)
        measure_frames(report, workers, config, rates, arguments.frames, arguments.rounds)
        measure_first_audio(report, workers, arguments.rounds)
        report.note(memory_gb={worker.variant.label: worker.memory() for worker in workers})
    report.finish()


def measure_frames(
    report: Report, workers: list[Worker], config: ModelConfig, rates: Rates, num_frames: int, num_rounds: int
) -> None:
    """Time whole streams, the variants in turn; the first round of each does not count."""
    round_ = Round(num_streams=1, num_frames=num_frames)
    rounds: dict[str, list[Any]] = {worker.variant.label: [] for worker in workers}
    for number in range(num_rounds + 1):
        for worker in workers:
            timings = worker.run(round_)
            if number > 0:
                rounds[worker.variant.label].append(timings)
    found = {label: summarize_rounds(timings, config) for label, timings in rounds.items()}
    own = found[workers[0].variant.label]
    for worker in workers:
        one = found[worker.variant.label]
        report.add(
            what="frames",
            loop=worker.variant.loop,
            variant=worker.variant.label,
            frames=num_frames,
            chunk_frames=CHUNK_FRAMES,
            **one.to_dict(),
            **compare_with_roofline(one, config, worker.facts, rates, num_frames),
            times_the_first=round_figure(one.frame_s.median / own.frame_s.median),
        )


def compare_with_roofline(
    found: StreamsReport, config: ModelConfig, facts: dict[str, Any], rates: Rates, num_frames: int
) -> dict[str, float]:
    """Say what the machine's rates would allow for these frames, and which part of that was reached."""
    prompt = 5 + facts["voice_rows"] + text_tokens_for(config)
    floor_s = frame_cost(
        config,
        PRECISIONS[facts["precision"]],
        num_streams=found.num_streams,
        context=prompt + num_frames // 2,
        num_euler_steps=config.generation.num_euler_steps,
        frames_per_codec_call=min(CHUNK_FRAMES[-1], num_frames),
    ).floor_s(rates)
    percent = round_figure(100 * floor_s / found.frame_s.median)
    return {"floor_ms": round_figure(floor_s * 1e3), "percent_of_roofline": percent}


def measure_first_audio(report: Report, workers: list[Worker], num_rounds: int) -> None:
    """Time first chunks of 1 and of 5 frames, known voice and new."""
    for chunk_frames in (CHUNK_FRAMES, OFFICIAL_CHUNK_FRAMES):
        for is_voice_known in (True, False):
            round_ = Round(1, chunk_frames[0], chunk_frames=chunk_frames, is_voice_known=is_voice_known)
            found: dict[str, list[float]] = {worker.variant.label: [] for worker in workers}
            for number in range(2 * num_rounds + 1):
                for worker in workers:
                    ttfa_s = worker.run(round_)[0].ttfa_s
                    if number > 0:
                        found[worker.variant.label].append(ttfa_s)
            for worker in workers:
                report.add(
                    what="first audio",
                    loop=worker.variant.loop,
                    variant=worker.variant.label,
                    frames_in_first_chunk=chunk_frames[0],
                    is_voice_known=is_voice_known,
                    ttfa_ms=Spread.of(found[worker.variant.label]).to_dict(1e3),
                )


if __name__ == "__main__":
    main()
