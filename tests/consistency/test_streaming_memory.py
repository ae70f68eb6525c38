"""A minute of speech streams from its first frame, and costs no memory but its KV cache."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any

import numpy as np
import pytest
import torch

from voxtral.engine.engine import Engine
from voxtral.engine.noise import SeededNoise
from voxtral.engine.sequence import GenerationRequest
from voxtral.model.voxtral import VoxtralModel
from voxtral.text.prompt import Prompt

# 60 s of audio; the end is excluded until then. Two steps of the flow: more take time, and leave nothing behind either.
MEASURE = """
import sys
import numpy as np
import torch
from pathlib import Path
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.load import load_model
from voxtral.engine.engine import Engine
from voxtral.engine.noise import SeededNoise
from voxtral.engine.sequence import GenerationRequest
from voxtral.text.prompt import Prompt

def anonymous():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))

torch.set_num_threads(1)
cpu = torch.device("cpu")
model = load_model(open_checkpoint(Path(sys.argv[1])), device=cpu, dtype=torch.float32, codec_dtype=torch.float32)
prompt = Prompt(token_ids=(1, 25, 36, 1072, 35, 25), voice_start=2, voice_stop=2)
noise = SeededNoise(1, 0, 36)
request = GenerationRequest(prompt, torch.zeros(0, 64), noise, 1.2, 1.0, 2, max_frames=750, min_frames=750)
engine = Engine(model)
seconds, at = 0.0, {}
for chunk in engine.submit(request).chunks():
    seconds += len(chunk) / 24000
    for mark in (30, 60):
        if seconds >= mark and mark not in at:
            at[mark] = anonymous()
engine.close()
print(seconds, at[60] - at[30])
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.slow  # three seconds
def test_a_minute_grows_by_its_kv_cache_only(tiny_folder: Any) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(tiny_folder)], capture_output=True, text=True, timeout=110, check=True
    )
    seconds, grown = (float(value) for value in done.stdout.split())
    assert seconds == pytest.approx(60)
    # 375 frames of 2 layers, keys and values, 2 heads of 16 in float32 are 0.2 MB; the allocator and the
    # outbox's chunks add a little. 30 s of samples alone would be 2.9 MB. Not from the start: the system
    # may commit the cache in pieces of 2 MB, which happens once.
    assert grown < 1.5e6


def test_the_first_chunk_is_there_after_one_decode_step(tiny_model: VoxtralModel, monkeypatch: Any) -> None:
    steps: list[str] = []
    was_read = threading.Event()
    make_frame, feed_back = tiny_model.generate_frame, tiny_model.embed_frames

    def counting_frame(*arguments: Any, **options: Any) -> Any:
        if steps.count("frame") == 1:
            assert was_read.wait(30), "the first chunk was not given out before the second frame"
        steps.append("frame")
        return make_frame(*arguments, **options)

    def counting_step(*arguments: Any) -> Any:
        steps.append("step")
        return feed_back(*arguments)

    monkeypatch.setattr(tiny_model, "generate_frame", counting_frame)
    monkeypatch.setattr(tiny_model, "embed_frames", counting_step)
    engine = Engine(tiny_model)
    prompt = Prompt(token_ids=(1, 25, 36, 1072, 35, 25), voice_start=2, voice_stop=2)
    request = GenerationRequest(prompt, torch.zeros(0, 64), SeededNoise(1, 0, 36), 1.2, 1.0, 7, 4, min_frames=4)
    chunks = engine.submit(request).chunks()
    first = next(chunks)
    assert first.samples.shape == (1920,)
    assert first.samples.dtype == np.float32
    assert steps.count("frame") == 1
    was_read.set()
    rest = list(chunks)
    engine.close()
    assert sum(map(len, rest)) == 3 * 1920
    # Each frame is embedded in the step that makes it, so that the host need not wait; the last one in vain.
    assert steps == ["frame", "step"] * 4
