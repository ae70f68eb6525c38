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
import torch

from voxtral.cloning.options import STEPS_FROM_NOTHING, RefineOptions, RefineProgress
from voxtral.cloning.search import CodeSearch
from voxtral.device import describe_machine
from voxtral.speech.codec import open_codec


def measure(model: str, seconds: float, steps: int, device: str, *, with_study: bool) -> dict[str, float]:
    """Search for a few steps; sizes alone matter, so any sound will do."""
    started = time.perf_counter()
    codec = open_codec(model, device=device, local_files_only=True)
    row = {"clip_s": seconds, "open_s": time.perf_counter() - started, "open_peak_mb": _peak_mb()}
    rows = [codec.load_voice(voice.name).rows for voice in codec.voices] if with_study else []
    search = CodeSearch(codec.run, lambda: rows)
    started = time.perf_counter()
    _ = search.speechlike
    row["study_s"] = time.perf_counter() - started
    clip = torch.from_numpy(np.random.default_rng(0).normal(0, 0.1, round(seconds * codec.sample_rate)))
    seen: list[RefineProgress] = []
    search.find([clip.float()], RefineOptions(steps=steps), on_progress=seen.append)
    first, last = seen[0], seen[-1]
    row["step_s"] = (last.elapsed_s - first.elapsed_s) / max(last.step - first.step, 1)
    row |= {"whole_clip_s": row["step_s"] * STEPS_FROM_NOTHING, "peak_mb": _peak_mb()}
    return {key: round(value, 2) for key, value in row.items()}


def _peak_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)


def main() -> None:
    """Measure each length, and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--seconds", type=float, nargs="+", default=[3.0, 8.0, 16.0])
    parser.add_argument("--steps", type=int, default=6, help="that are measured")
    parser.add_argument("--study", action="store_true", help="also time what is found out of the presets, once")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if len(options.seconds) == 1:
        rows = [measure(options.model, options.seconds[0], options.steps, options.device, with_study=options.study)]
    else:
        rows = [_aside(options, seconds) for seconds in options.seconds]
    text = json.dumps({"machine": describe_machine(), "model": Path(options.model).name, "rows": rows}, indent=1)
    sys.stdout.write(text + "\n")
    if options.json:
        options.json.write_text(text + "\n", encoding="utf-8")


def _aside(options: argparse.Namespace, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.refine", options.model, "--seconds", str(seconds)]
    command += ["--steps", str(options.steps), "--device", options.device, *["--study"] * options.study]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)["rows"][0]


if __name__ == "__main__":
    main()
