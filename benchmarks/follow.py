"""What following the text costs: time of a frame with it off, on, with times and with checks, in one process.

    python -m benchmarks.follow --json FILE

nano speaks the same sentences with the same seeds, one at a time or 16 together, in each way in turn; who is first
changes from round to round. A round is short, so that what disturbs the machine falls on all ways: one sentence of one
stream, or one sentence of each of 16. For each way the ratio to "off" of the time that a frame takes is taken within
each round and reported as the median, with the interval in which it lies by chance (95 %, bootstrap over the rounds):
of the clock, by which frames a second are judged, and of CPU time, of all threads, which others on the machine change
little. Sentences that following would change (an end that it does not believe) are left out beforehand, and every
round is held to the same samples in all ways; where rows are together, whose last bits hang on how they fall together,
to the same number of frames.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import statistics
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.compare import interval_of_median
from benchmarks.quality.cases import read_sentences
from benchmarks.report import Report
from voxtral.engine.options import EngineOptions
from voxtral.errors import VoxtralWarning
from voxtral.speech.request import make_request
from voxtral.tts import VoxtralTTS

WAYS: Mapping[str, Mapping[str, Any]] = {
    "off": {"keep_to_text": False},
    "default": {},
    "timestamps": {"timestamps": True},
    "timestamps and report": {"timestamps": True, "verify": "report"},
}
_VOICE = "en_f1"


@dataclass(frozen=True)
class Turn:
    """Sentences spoken together in one way.

    Attributes:
        num_frames: of each.
        digests: of the samples of each.
        cpu_s: CPU time of the process, by all threads.
        clock_s: from the first request to the last chunk.
    """

    num_frames: tuple[int, ...]
    digests: tuple[bytes, ...]
    cpu_s: float
    clock_s: float

    def ms(self, figure: str) -> float:
        """Milliseconds a frame, of "cpu" or "clock"."""
        return 1e3 * {"cpu": self.cpu_s, "clock": self.clock_s}[figure] / sum(self.num_frames)


def speak(tts: VoxtralTTS, texts: Mapping[int, str], options: Mapping[str, Any]) -> Turn:
    """Speak texts together.

    Args:
        tts: that speaks.
        texts: each by its seed.
        options: of the request.
    """
    requests = [make_request(text, seed=seed, voice=_VOICE, language="en", **options) for seed, text in texts.items()]
    # What earlier turns have left is theirs.
    gc.collect()
    cpu, clock = time.process_time(), time.perf_counter()
    handles = [tts.submit(request, hold_segments=True) for request in requests]
    samples = [[chunk.samples for chunk in handle.chunks()] for handle in handles]
    cpu_s, clock_s = time.process_time() - cpu, time.perf_counter() - clock
    digests = (hashlib.sha256(b"".join(part.tobytes() for part in parts)).digest() for parts in samples)
    return Turn(tuple(handle.stats.num_frames for handle in handles), tuple(digests), cpu_s, clock_s)


def choose(tts: VoxtralTTS, count: int) -> dict[int, str]:
    """Choose sentences, by their seeds, of which every way makes the same samples."""
    chosen: dict[int, str] = {}
    for seed, text in enumerate(read_sentences("test", "en")):
        if len({speak(tts, {seed: text}, options).digests for options in WAYS.values()}) == 1:
            chosen[seed] = text
        if len(chosen) == count:
            break
    return chosen


def measure(tts: VoxtralTTS, texts: Mapping[int, str], num_at_once: int, least_s: float) -> list[dict[str, Turn]]:
    """Let each way speak in turn, round by round.

    Args:
        tts: that speaks.
        texts: each by its seed; a round takes the next `num_at_once` of them.
        num_at_once: that are spoken together.
        least_s: for so long, and until each way has been in each place equally often; once at least.

    Raises:
        RuntimeError: a way made other speech than the rest.
    """
    rounds: list[dict[str, Turn]] = []
    all_texts, order = list(texts.items()), list(WAYS)
    started = time.perf_counter()
    while not rounds or len(rounds) % len(order) or time.perf_counter() - started < least_s:
        first = len(rounds) * num_at_once % len(all_texts)
        together = dict((all_texts[first:] + all_texts[:first])[:num_at_once])
        turns = {way: speak(tts, together, WAYS[way]) for way in order}
        made = {turn.digests if num_at_once == 1 else turn.num_frames for turn in turns.values()}
        if len(made) != 1:
            raise RuntimeError(f"the ways made other speech of sentences {list(together)}; their times say nothing")
        rounds.append({way: turns[way] for way in WAYS})
        order = order[1:] + order[:1]
    return rounds


def summarize(rounds: Sequence[Mapping[str, Turn]], way: str) -> dict[str, Any]:
    """Compare a way with "off": milliseconds a frame and their ratio, by the clock and of the CPU."""
    figures: dict[str, Any] = {}
    for figure in ("clock", "cpu"):
        ratios = [turns[way].ms(figure) / turns["off"].ms(figure) for turns in rounds]
        figures[f"{figure}_ms"] = round(statistics.median(turns[way].ms(figure) for turns in rounds), 4)
        figures[f"{figure}_ratio"] = [round(one, 4) for one in (statistics.median(ratios), *interval_of_median(ratios))]
    return figures


def main(words: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--seconds", type=float, default=50.0, help="of rounds, for each number of streams")
    parser.add_argument("--json", type=Path, help="written after each number of streams")
    parser.add_argument("--short", action="store_true", help="few streams and rounds: to see that it runs")
    arguments = parser.parse_args(words)
    if arguments.short:
        arguments.streams, arguments.seconds = [1, 2], 0.0
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    warnings.simplefilter("ignore", VoxtralWarning)
    report = Report("follow", arguments)
    engine = EngineOptions(max_batch=max(arguments.streams), num_threads=1)
    with VoxtralTTS.from_pretrained("nano", device="cpu", options=engine) as tts:
        texts = choose(tts, max(arguments.streams))
        report.note(sentences=list(texts))
        for streams in arguments.streams:
            rounds = measure(tts, texts, streams, arguments.seconds)
            for way in WAYS:
                report.add(streams=streams, way=way, rounds=len(rounds), **summarize(rounds, way))
    report.finish()


if __name__ == "__main__":
    main()
