"""The models that benchmarks run: a checkpoint, or random weights of a shape, made on the device in seconds.

Random weights are as good as trained ones for time and memory, as long as lengths are forced, values are finite and not
all alike; they say nothing about quality. Every report says which were used. Runs with torch, numpy and safetensors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.random_checkpoint import TINY, published_params, random_tensor, random_voice
from voxtral.checkpoint import PARAMS_FILE, load_model, open_checkpoint
from voxtral.config import ModelConfig, load_config, parse_config
from voxtral.device import codec_dtype_for, plan_compute
from voxtral.model.quantizer import semantic_table
from voxtral.model.voxtral import VoxtralModel, init_tables
from voxtral.models import locate_model
from voxtral.voices import VoicePrompt, list_presets, load_voice

# 10 seconds of reference and the closing row, as in the published measurements.
VOICE_ROWS = 126

_SHAPES = {"4b-random": "random weights of the published 4B shape", "tiny-random": "random weights of a tiny shape"}


@dataclass(frozen=True, eq=False)
class Subject:
    """A model that is ready to be measured.

    Attributes:
        name: as it was asked for.
        weights: what the weights are, for the report.
        model: on its device.
        voice: whoever speaks.
        num_threads: for one operation on a CPU; None leaves torch's choice.
        precision: of the weights, a key of `benchmarks.roofline.PRECISIONS`.
    """

    name: str
    weights: str
    model: VoxtralModel
    voice: VoicePrompt
    num_threads: int | None
    precision: str

    @property
    def config(self) -> ModelConfig:
        """Sizes."""
        return self.model.config


def open_subject(name: str, device: torch.device, precision: str) -> Subject:
    """Make or load a model.

    Args:
        name: 4b-random, tiny-random, nano, or the folder of a checkpoint.
        device: where.
        precision: float32 or bfloat16.

    Raises:
        VoxtralError: there is no such model, or it cannot be loaded.
    """
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    if name in _SHAPES:
        model = random_model(config_of(name), device, dtype)
        table = model.audio_embeddings.weight.float().cpu()
        rows = random_voice(model.config, table, _voice_rows(model.config), torch.Generator().manual_seed(1))
        return Subject(name, _SHAPES[name], model, VoicePrompt("random", rows), _num_threads(model, device), precision)
    checkpoint = open_checkpoint(locate_model(name, allow_download=False))
    codec_dtype, _ = codec_dtype_for(device, dtype)
    model = load_model(checkpoint, device=device, dtype=dtype, codec_dtype=codec_dtype)
    voice = load_voice(next(iter(list_presets(checkpoint.folder).values())), checkpoint.config)
    weights = f"those of {Path(name).name}"
    return Subject(name, weights, model, voice, _num_threads(model, device), precision)


def config_of(name: str) -> ModelConfig:
    """Return the sizes of a model, without its weights.

    Raises:
        VoxtralError: there is no such model.
    """
    if name == "tiny-random":
        return load_config(TINY / PARAMS_FILE)
    if name == "4b-random":
        return parse_config(published_params())
    return load_config(locate_model(name, allow_download=False) / PARAMS_FILE)


def random_model(config: ModelConfig, device: torch.device, dtype: torch.dtype) -> VoxtralModel:
    """Make a model of random weights on a device; nothing is read and nothing is written."""
    with torch.device("meta"):
        model = VoxtralModel(config, has_encoder=False)
    generator = torch.Generator(device).manual_seed(0)
    codec_dtype, _ = codec_dtype_for(device, dtype)
    for name, parameter in list(model.named_parameters()):
        value = random_tensor(name, tuple(parameter.shape), generator)
        value = value.to(codec_dtype if name.startswith("codec") else dtype)
        path, _, attribute = name.rpartition(".")
        setattr(model.get_submodule(path), attribute, torch.nn.Parameter(value, requires_grad=False))
    books, codec = config.codebooks, config.codec
    sums = torch.randn(books.semantic_size, codec.semantic_dim, generator=generator, device=device)
    model.codec.quantizer.semantic_table = semantic_table(sums, torch.ones(books.semantic_size, device=device))
    # All tokens are the same row: a table of 0.8 GB of which a prompt reads a hundred rows would only take time.
    row = torch.randn(1, config.backbone.dim, generator=torch.Generator().manual_seed(2), dtype=torch.bfloat16)
    model.text_embeddings = row.expand(config.backbone.vocab_size, -1)
    init_tables(model, device)
    return model.eval().requires_grad_(False)


def _voice_rows(config: ModelConfig) -> int:
    return VOICE_ROWS if config.backbone.dim >= 1024 else 12


def _num_threads(model: VoxtralModel, device: torch.device) -> int | None:
    num_parameters = sum(parameter.numel() for parameter in model.parameters())
    return plan_compute(device, num_parameters=num_parameters).num_threads
