"""Load a checkpoint and make frames: load time, memory and seconds per frame on this machine.

    python -m benchmarks.load_and_speak DIR [--device cpu] [--dtype auto] [--frames 20] [--text-tokens 115]

Generation is forced to the given length; random weights are as good as real ones here, and the report
must say which were used. Runs with torch, numpy and safetensors alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch

from voxtral.checkpoint import load_model, open_checkpoint
from voxtral.config import END_AUDIO
from voxtral.device import describe_machine, dtype_name, plan_compute
from voxtral.engine.engine import Engine
from voxtral.engine.noise import SeededNoise
from voxtral.engine.sequence import GenerationRequest
from voxtral.text.prompt import prompt_from_text_ids
from voxtral.text.tokenizer import PromptTokens
from voxtral.voices import list_presets, load_voice


class PeakMemory:
    """Samples this process's anonymous memory (Linux) until it is stopped."""

    def __init__(self) -> None:
        self.peak_bytes = 0
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_stopped.wait(0.02):
            self.peak_bytes = max(self.peak_bytes, anonymous_bytes())


def anonymous_bytes() -> int:
    """Read the anonymous resident memory of this process; 0 where the system does not tell."""
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))
    except (OSError, StopIteration):
        return 0


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--text-tokens", type=int, default=115)
    arguments = parser.parse_args()

    checkpoint = open_checkpoint(arguments.folder)
    compute = plan_compute(arguments.device, arguments.dtype, num_parameters=checkpoint.num_parameters)
    before = anonymous_bytes()
    started = time.perf_counter()
    with PeakMemory() as memory:
        model = load_model(checkpoint, device=compute.device, dtype=compute.dtype, codec_dtype=compute.codec_dtype)
    load_s = time.perf_counter() - started
    loaded = anonymous_bytes()

    # The end is masked, so that the length is the one asked for whatever the weights say.
    head = model.acoustic_transformer.semantic_codebook_output
    with torch.no_grad():
        head.weight[END_AUDIO] = 0
    presets = list_presets(checkpoint.folder)
    voice = load_voice(next(iter(presets.values())), checkpoint.config)
    tokens = PromptTokens(
        bos=1, audio=checkpoint.config.audio_token_id, begin_audio=25, text_to_audio=36, audio_to_text=35
    )
    text_ids = np.random.default_rng(0).integers(1000, 4000, arguments.text_tokens).tolist()
    prompt = prompt_from_text_ids(tokens, text_ids, voice.rows.shape[0])
    frame_times: list[float] = []
    noise = SeededNoise(0, 0, checkpoint.config.codebooks.num_acoustic)

    def timed_noise(frame: int) -> np.ndarray:
        frame_times.append(time.perf_counter())
        return noise(frame)

    generation = checkpoint.config.generation
    request = GenerationRequest(
        prompt, voice.rows, timed_noise, generation.guidance_scale, 1.0, generation.num_euler_steps, arguments.frames
    )
    engine = Engine(model)
    handle = engine.submit(request)
    num_samples = sum(len(chunk) for chunk in handle.chunks())
    engine.close()
    steps = np.diff(frame_times)
    seconds = num_samples / checkpoint.config.sample_rate
    first = handle.stats.first_chunk_at or 0.0
    report = {
        "benchmark": "load_and_speak",
        "weights": "as in the folder; state whether they are random",
        "machine": describe_machine(),
        "device": str(compute.device),
        "dtype": dtype_name(compute.dtype),
        "parameters": checkpoint.num_parameters,
        "load_s": round(load_s, 2),
        "anonymous_after_load_gb": round((loaded - before) / 1e9, 3),
        "anonymous_peak_gb": round((memory.peak_bytes - before) / 1e9, 3),
        "prompt_tokens": len(prompt.token_ids),
        "frames": handle.stats.num_frames,
        "ttfa_s": round(first - handle.stats.submitted_at, 3),
        "frame_s_median": round(statistics.median(steps), 4) if len(steps) else None,
        "frame_s_min": round(float(steps.min()), 4) if len(steps) else None,
        "rtf": round(handle.stats.compute_s / seconds, 3) if seconds else None,
    }
    if compute.device.type == "cuda":
        report["gpu_reserved_gb"] = round(torch.cuda.max_memory_reserved(compute.device) / 1e9, 3)
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
