"""Requests for the engine alone, without the speaking layer above, and what they say to a lone engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from voxtral.config import QuantizationConfig
from voxtral.engine.engine import Engine
from voxtral.engine.noise import SeededNoise
from voxtral.engine.options import EngineOptions
from voxtral.engine.sequence import GenerationHandle, GenerationRequest
from voxtral.loading.checkpoint import Checkpoint
from voxtral.loading.load import load_model
from voxtral.model.voxtral import VoxtralModel
from voxtral.text.prompt import build_prompt
from voxtral.text.tokenizer import load_tokenizer
from voxtral.voices.presets import list_presets
from voxtral.voices.prompt import load_voice


class RequestMaker:
    """Makes requests for one checkpoint, which differ in text, voice, seed and options."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._config = checkpoint.config
        self._tokenizer = load_tokenizer(checkpoint.folder / "tekken.json")
        presets = list_presets(checkpoint.folder)
        self._voices = {name: load_voice(presets[name], checkpoint.config).rows for name in sorted(presets)}
        self.voice_names = list(self._voices)

    def request(
        self, text: str, voice: int = 0, *, seed: int = 0, max_frames: int = 12, **changes: Any
    ) -> GenerationRequest:
        """Make one; by default it shares its voice, and makes exactly `max_frames`."""
        name = self.voice_names[voice % len(self.voice_names)]
        settings: dict[str, Any] = {
            "voice_rows": self._voices[name],
            "noise": SeededNoise(seed, 0, self._config.codebooks.num_acoustic),
            "guidance_scale": 1.2,
            "noise_scale": 1.0,
            "num_euler_steps": 4,
            "min_frames": max_frames,
            "voice_key": name,
        }
        rows = self._voices[name]
        return GenerationRequest(
            prompt=build_prompt(self._tokenizer, text, rows.shape[0]), max_frames=max_frames, **(settings | changes)
        )


def load_on_cpu(checkpoint: Checkpoint, quantization: QuantizationConfig | None = None) -> VoxtralModel:
    """Load in float32, in the form in which the package runs it."""
    return load_model(
        checkpoint,
        device=torch.device("cpu"),
        dtype=torch.float32,
        codec_dtype=torch.float32,
        quantization=quantization,
        prepared=True,
    )


def collect(handle: GenerationHandle) -> np.ndarray:
    """Read a request to its end."""
    return np.concatenate([np.zeros(0, np.float32), *(chunk.samples for chunk in handle.chunks())])


def speak_alone(model: VoxtralModel, options: EngineOptions, make: Callable[[], GenerationRequest]) -> np.ndarray:
    """Run one request in an engine that nobody else uses or used before."""
    engine = Engine(model, options)
    try:
        return collect(engine.submit(make()))
    finally:
        engine.close()
