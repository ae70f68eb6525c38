"""What following the text costs: frames a second with it off, on, with times and with checks, in one process.

    python -m benchmarks.follow --json FILE

nano speaks the same sentences with the same seeds, one after the other and 16 at a time, in each way in turn; who is
first changes from round to round. For each way the ratio to "off" of the time that a frame takes is taken within each
round and reported as the median, with the interval in which it lies by chance (95 %, bootstrap over the rounds): of CPU
time, which others on the machine change little, and of the clock. Sentences that following would change (an end that it
does not believe) are left out beforehand, so that all ways make the same frames.
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections import deque
from collections.abc import Mapping, Sequence
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

_WAYS: Mapping[str, Mapping[str, Any]] = {
    "off": {"keep_to_text": False},
    "default": {},
    "timestamps": {"timestamps": True},
    "report": {"verify": "report"},
}
_VOICE = "en_f1"


def speak(tts: VoxtralTTS, texts: Sequence[str], num_at_once: int, options: Mapping[str, Any]) -> tuple[int, ...]:
    """Speak texts, so many at once, and count the frames of each."""
    todo, started, counts = deque(enumerate(texts)), deque[Any](), list[int]()
    while todo or started:
        while todo and len(started) < num_at_once:
            seed, text = todo.popleft()
            request = make_request(text, seed=seed, voice=_VOICE, language="en", **options)
            started.append(tts.submit(request, hold_segments=True))
        handle = started.popleft()
        for _ in handle.chunks():
            pass
        counts.append(handle.stats.num_frames)
    return tuple(counts)


def choose(tts: VoxtralTTS, count: int) -> list[str]:
    """Choose sentences of which every way makes the same frames."""
    texts = read_sentences("test", "en")
    # Seeds go by place, so the first that differs is left out until none does.
    while True:
        counts = [speak(tts, texts[:count], 16, options) for options in _WAYS.values()]
        differing = [place for place, several in enumerate(zip(*counts, strict=True)) if len(set(several)) > 1]
        if not differing:
            return texts[:count]
        del texts[differing[0]]


def measure(tts: VoxtralTTS, texts: Sequence[str], num_at_once: int, options: Mapping[str, Any]) -> tuple[float, float]:
    """Time the texts: milliseconds a frame of CPU time and of the clock."""
    cpu, clock = time.process_time(), time.perf_counter()
    num_frames = sum(speak(tts, texts, num_at_once, options))
    return (time.process_time() - cpu) * 1e3 / num_frames, (time.perf_counter() - clock) * 1e3 / num_frames


def main(words: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--texts", type=int, default=16, help="sentences of each round")
    parser.add_argument("--json", type=Path, help="written at the end")
    arguments = parser.parse_args(words)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    warnings.simplefilter("ignore", VoxtralWarning)
    report = Report("follow", arguments)
    engine = EngineOptions(max_batch=max(arguments.streams), num_threads=1)
    with VoxtralTTS.from_pretrained("nano", device="cpu", options=engine) as tts:
        texts = choose(tts, arguments.texts)
        for streams in arguments.streams:
            found: dict[str, list[tuple[float, float]]] = {way: [] for way in _WAYS}
            for number in range(arguments.rounds):
                order = list(_WAYS)
                for way in order[number % len(order) :] + order[: number % len(order)]:
                    found[way].append(measure(tts, texts, streams, _WAYS[way]))
            for way, timings in found.items():
                figures: dict[str, Any] = {}
                for place, figure in enumerate(("cpu", "clock")):
                    ratios = [one[place] / off[place] for one, off in zip(timings, found["off"], strict=True)]
                    low, high = interval_of_median(ratios)
                    figures[f"{figure}_ms"] = round(statistics.median(one[place] for one in timings), 4)
                    figures[f"{figure}_ratio"] = [round(one, 4) for one in (statistics.median(ratios), low, high)]
                rate = round(1e3 / statistics.median(clock for _, clock in timings), 1)
                report.add(streams=streams, way=way, frames_per_s=rate, rounds=arguments.rounds, **figures)
    report.finish()


if __name__ == "__main__":
    main()
