"""Measure what a search for codes costs: python -m benchmarks.refine MODEL --seconds 3 8 16.

Opens the codec alone, searches for the codes of a sound of each length for a few steps, and reports the seconds of a
step and the peak of the process's memory. Each length runs in a process of its own. For the shape of the 4B without its
weights: `python -m benchmarks.random_checkpoint DIR --codec-only`.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from voxtral.cloning.options import STEPS_FROM_NOTHING, RefineOptions, RefineProgress
from voxtral.device import describe_machine
from voxtral.speech.codec import open_codec


def measure(model: str, seconds: float, steps: int, device: str) -> dict[str, float]:
    """Search for a few steps; sizes alone matter, so any sound will do."""
    started = time.perf_counter()
    codec = open_codec(model, device=device, local_files_only=True)
    opened_s, opened_mb = time.perf_counter() - started, _peak_mb()
    rng = np.random.default_rng(0)
    clip = (0.1 * rng.standard_normal(round(seconds * codec.sample_rate))).astype(np.float32)
    seen: list[RefineProgress] = []
    started = time.perf_counter()
    codec.create_voice((clip, codec.sample_rate), refine=RefineOptions(steps=steps), on_progress=seen.append)
    all_s = time.perf_counter() - started
    first, last = seen[0], seen[-1]
    step_s = (last.elapsed_s - first.elapsed_s) / max(last.step - first.step, 1)
    return {
        "clip_s": seconds,
        "open_s": round(opened_s, 2),
        "open_peak_mb": opened_mb,
        "study_s": round(all_s - last.elapsed_s, 2),
        "step_s": round(step_s, 3),
        "whole_clip_s": round(step_s * STEPS_FROM_NOTHING, 1),
        "peak_mb": _peak_mb(),
    }


def _peak_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)


def main() -> None:
    """Measure each length, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--seconds", type=float, nargs="+", default=[3.0, 8.0, 16.0])
    parser.add_argument("--steps", type=int, default=6, help="that are measured")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if len(options.seconds) == 1:
        rows = [measure(options.model, options.seconds[0], options.steps, options.device)]
    else:
        rows = [_aside(options, seconds) for seconds in options.seconds]
    text = json.dumps({"machine": describe_machine(), "model": Path(options.model).name, "rows": rows}, indent=1)
    sys.stdout.write(text + "\n")
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


def _aside(options: argparse.Namespace, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.refine", options.model, "--seconds", str(seconds)]
    command += ["--steps", str(options.steps), "--device", options.device]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["rows"][0]


if __name__ == "__main__":
    main()
