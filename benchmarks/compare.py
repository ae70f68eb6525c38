"""How this checkout and another one start and speak, in alternating pairs of processes.

    python -m benchmarks.compare --against ../other-checkout --pairs 15 --json FILE

Each process imports the package, loads a model and speaks, through the public API alone, so that any two checkouts can
be compared. For every figure the ratio this / other is taken within each pair, and reported as the median with the
interval in which it lies by chance (95 %, bootstrap over the pairs).
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import random
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

_NUM_BOOTSTRAPS = 2000

# Speech that lasts for its frames whatever a checkpoint would like, and one sentence that does not.
_SCRIPT = """
import json, sys, threading, time

started = time.perf_counter()
import voxtral
import_s = time.perf_counter() - started
from voxtral import SamplingOptions, SpeechRequest, VoxtralTTS
import_all_s = time.perf_counter() - started
started = time.perf_counter()
model = VoxtralTTS.from_pretrained(sys.argv[1], device="cpu")
load_s = time.perf_counter() - started
TEXT = "The quick brown fox jumps over the lazy dog, and then it rests in the warm grass by the river. "


def speak(seed, repeats):
    handle = model.submit(SpeechRequest(TEXT * repeats, seed=seed))
    for chunk in handle.chunks():
        pass
    return handle.stats


def frames_per_s(num_streams, repeats):
    stats = []
    readers = [
        threading.Thread(target=lambda seed=seed: stats.append(speak(seed, repeats))) for seed in range(num_streams)
    ]
    began = time.perf_counter()
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    return sum(one.num_frames for one in stats) / (time.perf_counter() - began)


speak(0, 1)
first_audio = sorted(speak(seed, 1).ttfa_s for seed in range(int(sys.argv[2])))
print(json.dumps({
    "import_ms": import_s * 1e3,
    "import_all_ms": import_all_s * 1e3,
    "load_ms": load_s * 1e3,
    "first_audio_ms": first_audio[len(first_audio) // 2] * 1e3,
    "frames_per_s_1_stream": frames_per_s(1, int(sys.argv[3])),
    "frames_per_s_8_streams": frames_per_s(8, int(sys.argv[3])),
}))
"""


def main(words: Sequence[str] | None = None) -> None:
    """Measure and report."""
    from benchmarks.report import Report

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", type=Path, required=True, help="another checkout")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--json", type=Path, help="written at the end")
    parser.add_argument("--short", action="store_true", help="few and small pairs: to see that it runs")
    arguments = parser.parse_args(words)
    num_pairs, num_utterances, repeats = (2, 1, 1) if arguments.short else (arguments.pairs, 7, 1)
    report = Report("compare", arguments)
    sides = {"this": ROOT, "other": arguments.against}
    found: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for checkout in sides.values():
        # A fresh checkout, where bytecode is not kept, would be compiled in each of its processes.
        compileall.compile_dir(checkout / "src", quiet=1)
    for pair in range(num_pairs):
        # Who is first changes, so that what the first does to the machine falls on both.
        for side in list(sides) if pair % 2 else list(sides)[::-1]:
            found[side].append(_run(sides[side], arguments.model, num_utterances, repeats))
        print(f"pair {pair + 1} of {num_pairs}: {found['this'][-1]} {found['other'][-1]}", file=sys.stderr)
    for figure in found["this"][0]:
        this, other = ([run[figure] for run in found[side]] for side in sides)
        ratios = [mine / theirs for mine, theirs in zip(this, other, strict=True)]
        low, high = interval_of_median(ratios)
        report.add(
            figure=figure,
            this=round(statistics.median(this), 3),
            other=round(statistics.median(other), 3),
            ratio=round(statistics.median(ratios), 4),
            low=round(low, 4),
            high=round(high, 4),
            num_pairs=num_pairs,
        )
    report.finish()


def interval_of_median(values: Sequence[float], seed: int = 0) -> tuple[float, float]:
    """Return between what values the median lies with 95 %, by drawing the sample again and again.

    >>> interval_of_median([1.0] * 5)
    (1.0, 1.0)
    """
    draw = random.Random(seed)
    medians = sorted(statistics.median(draw.choices(values, k=len(values))) for _ in range(_NUM_BOOTSTRAPS))
    return medians[_NUM_BOOTSTRAPS // 40], medians[-1 - _NUM_BOOTSTRAPS // 40]


def _run(checkout: Path, model: str, num_utterances: int, repeats: int) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, model, str(num_utterances), str(repeats)],
        check=True,
        capture_output=True,
        text=True,
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout.resolve() / "src")},
    )
    return json.loads(done.stdout)


if __name__ == "__main__":
    main()
