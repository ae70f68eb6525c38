"""Stand-ins of a few lines: a runner that does what a test tells it, and requests for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from voxtral.engine.runner import Progress
from voxtral.engine.sequence import GenerationRequest
from voxtral.text.prompt import Prompt

SAMPLES_PER_FRAME = 10
FAKE_MODEL: Any = SimpleNamespace(config=SimpleNamespace(samples_per_frame=SAMPLES_PER_FRAME))


def fake_request(label: int = 0, max_frames: int = 5) -> GenerationRequest:
    """A request that a FakeRunner tells apart by `label`."""
    return GenerationRequest(
        prompt=Prompt(token_ids=(label,), voice_start=0, voice_stop=0),
        voice_rows=torch.zeros(0, 1),
        noise=lambda frame: np.zeros(1, dtype=np.float32),
        guidance_scale=1.0,
        noise_scale=1.0,
        num_euler_steps=1,
        max_frames=max_frames,
    )


def frame_samples(label: int, frame: int) -> np.ndarray:
    """The audio that a FakeRunner makes: loud, and different for each label and frame."""
    return np.full(SAMPLES_PER_FRAME, 0.1 + 0.01 * label + 0.001 * frame, dtype=np.float32)


@dataclass
class FakeRunner:
    """Makes one frame a step; `before_step` may block or raise; ends after `ends_after` frames."""

    before_step: Callable[[int, int], None] = lambda label, frame: None
    ends_after: int | None = None
    steps: list[tuple[int, int]] = field(default_factory=list)
    alive: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, request: GenerationRequest) -> dict[str, int]:
        return {"frame": 0}

    def advance(self, request: GenerationRequest, row: dict[str, int], trace: object) -> Progress:
        label, frame = request.prompt.token_ids[0], row["frame"]
        self.before_step(label, frame)
        self.steps.append((label, frame))
        if self.ends_after is not None and frame >= self.ends_after:
            return Progress(None, frame, "end")
        row["frame"] += 1
        stop = "length" if row["frame"] == request.max_frames else None
        return Progress(frame_samples(label, frame), row["frame"], stop)
