"""A model of random weights with the widths of a checkpoint and two layers, for the first check on a machine.

Its numbers say nothing about speech, and everything about whether a path computes what the plain one does. It is there
in seconds, and costs little memory.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from voxtral.config import ModelConfig, QuantizationConfig
from voxtral.model.codebooks import semantic_table
from voxtral.model.linear import QuantizedLinear
from voxtral.model.voxtral import VoxtralModel, init_tables, prepare_for_inference
from voxtral.quantization.recipes import stored_precision
from voxtral.quantization.schemes import SCHEMES

_NUM_LAYERS = 2


def make_trial_model(
    config: ModelConfig,
    *,
    device: torch.device,
    dtype: torch.dtype,
    codec_dtype: torch.dtype,
    quantization: QuantizationConfig | None,
) -> VoxtralModel:
    """Make the model, ready to compute."""
    small = replace(
        config,
        backbone=replace(config.backbone, num_layers=min(_NUM_LAYERS, config.backbone.num_layers)),
        acoustic=replace(config.acoustic, num_layers=min(_NUM_LAYERS, config.acoustic.num_layers)),
    )
    with torch.device("meta"):
        model = VoxtralModel(small, has_encoder=False)
    generator = torch.Generator(device).manual_seed(0)
    for name, parameter in list(model.named_parameters()):
        is_codec = name.startswith("codec")
        value = _draw(name, tuple(parameter.shape), generator).to(codec_dtype if is_codec else dtype)
        precision = stored_precision(name.removeprefix("backbone."), quantization)
        path, _, attribute = name.rpartition(".")
        if quantization is None or precision is None:
            setattr(model.get_submodule(path), attribute, nn.Parameter(value, requires_grad=False))
            continue
        weight = SCHEMES[precision].fit(value, quantization.group_size)
        bias = cast("nn.Parameter | None", model.get_submodule(path).bias)
        parent, _, own = path.rpartition(".")
        setattr(model.get_submodule(parent), own, QuantizedLinear(weight, bias))
    books = small.codebooks
    sums = torch.randn(books.semantic_size, small.codec.semantic_dim, generator=generator, device=device)
    model.codec.quantizer.semantic_table = semantic_table(sums, torch.ones(books.semantic_size, device=device))
    # All texts are the same row: nobody looks at what is said.
    model.text_embeddings = torch.zeros(1, small.backbone.dim, dtype=dtype).expand(small.backbone.vocab_size, -1)
    init_tables(model, device)
    prepare_for_inference(model)
    return model.eval().requires_grad_(False)


def _draw(name: str, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw a tensor that keeps activations of order one."""
    device = generator.device
    if name.endswith("norm.weight"):
        return torch.ones(shape, device=device)
    if name.endswith("_scale"):
        return torch.full(shape, 0.1, device=device)
    fan_in = math.prod(shape[1:]) if len(shape) > 1 else 1
    return torch.randn(shape, generator=generator, device=device).mul_(0.5 if "embedding" in name else fan_in**-0.5)
