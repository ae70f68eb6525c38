"""The models that benchmarks run: a checkpoint, or random weights of a shape, made on the device in seconds.

Random weights are as good as trained ones for time and memory, as long as lengths are forced, values are finite and not
all alike; they say nothing about quality. Every report says which were used. Runs with torch, numpy and safetensors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.random_checkpoint import TINY, published_params, random_tensor, random_voice
from voxtral.config import ModelConfig, QuantizationConfig
from voxtral.device import codec_dtype_for, plan_compute
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.files import PARAMS_FILE
from voxtral.loading.inventory import expected_tensors
from voxtral.loading.load import load_model
from voxtral.loading.locate import locate_model
from voxtral.loading.params import load_config, parse_config
from voxtral.model.codebooks import semantic_table
from voxtral.model.linear import QuantizedLinear
from voxtral.model.linear_weights import Int4Weight, Int8Weight, QuantizedWeight
from voxtral.model.voxtral import VoxtralModel, init_tables, prepare_for_inference
from voxtral.quantization.recipes import choose_recipe, stored_precision
from voxtral.voices.presets import list_presets
from voxtral.voices.prompt import VoicePrompt, load_voice

# 10 seconds of reference and the closing row, as in the published measurements.
VOICE_ROWS = 126

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}

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


def open_subject(name: str, device: torch.device, precision: str, *, is_prepared: bool = True) -> Subject:
    """Make or load a model.

    Args:
        name: 4b-random, tiny-random, nano, or the folder of a checkpoint, which may be quantised already.
        device: where.
        precision: float32, bfloat16, int8, int4 or int4-all; what is not quantised is bfloat16 on a GPU and in a
            large model, else float32.
        is_prepared: joined and packed as the product does it; a plain loop wants the matrices as they are.

    Raises:
        VoxtralError: there is no such model, or it cannot be loaded.
    """
    config = config_of(name)
    is_large = config.backbone.dim >= 1024
    kept = precision if precision in _DTYPES else "bfloat16" if is_large or device.type == "cuda" else "float32"
    dtype = _DTYPES[kept]
    recipe = None if precision in _DTYPES or config.quantization else choose_recipe(precision, config)
    if name in _SHAPES:
        model = random_model(config, device, dtype, recipe, is_prepared=is_prepared)
        table = model.audio_embeddings.weight.float().cpu()
        rows = random_voice(config, table, VOICE_ROWS if is_large else 12, torch.Generator().manual_seed(1))
        voice = VoicePrompt("random", rows)
        weights = _SHAPES[name] + ("" if recipe is None else "; numbers of few bits drawn, not fitted")
    else:
        checkpoint = open_checkpoint(locate_model(name, allow_download=False))
        codec_dtype, _ = codec_dtype_for(device, dtype)
        model = load_model(
            checkpoint,
            device=device,
            dtype=dtype,
            codec_dtype=codec_dtype,
            quantization=recipe,
            prepared=is_prepared,
        )
        voice = load_voice(next(iter(list_presets(checkpoint.folder).values())), checkpoint.config)
        weights = f"those of {Path(name).name}"
    return Subject(name, weights, model, voice, _num_threads(config, device), precision)


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


def random_model(
    config: ModelConfig,
    device: torch.device,
    dtype: torch.dtype,
    recipe: QuantizationConfig | None = None,
    *,
    is_prepared: bool = True,
) -> VoxtralModel:
    """Make a model of random weights on a device; nothing is read and nothing is written.

    Layers are prepared as soon as they are there, so that the memory at the peak is little more than at the end.
    """
    with torch.device("meta"):
        model = VoxtralModel(config, has_encoder=False)
    generator = torch.Generator(device).manual_seed(0)
    codec_dtype, _ = codec_dtype_for(device, dtype)
    for parent in (*model.backbone.layers, *model.acoustic_transformer.layers, model):
        prefix = next(name for name, module in model.named_modules() if module is parent)
        for name, parameter in list(parent.named_parameters()):
            if parameter.device.type != "meta":
                continue  # of a layer that is there already
            full_name = f"{prefix}.{name}" if prefix else name
            precision = stored_precision(full_name.removeprefix("backbone."), recipe)
            if recipe is not None and precision is not None:
                weight = random_weight(tuple(parameter.shape), precision, recipe.group_size, generator)
                path, _, attribute = name.removesuffix(".weight").rpartition(".")
                bias = parent.get_submodule(name.removesuffix(".weight")).bias
                setattr(parent.get_submodule(path), attribute, QuantizedLinear(weight, bias))
                continue
            value = random_tensor(full_name, tuple(parameter.shape), generator)
            value = value.to(codec_dtype if full_name.startswith("codec") else dtype)
            path, _, attribute = name.rpartition(".")
            setattr(parent.get_submodule(path), attribute, torch.nn.Parameter(value, requires_grad=False))
        if is_prepared:
            prepare_for_inference(parent)
    books, codec = config.codebooks, config.codec
    sums = torch.randn(books.semantic_size, codec.semantic_dim, generator=generator, device=device)
    model.codec.quantizer.semantic_table = semantic_table(sums, torch.ones(books.semantic_size, device=device))
    # All tokens are the same row: a table of 0.8 GB of which a prompt reads a hundred rows would only take time.
    row = torch.randn(1, config.backbone.dim, generator=torch.Generator().manual_seed(2), dtype=torch.bfloat16)
    model.text_embeddings = row.expand(config.backbone.vocab_size, -1)
    init_tables(model, device)
    return model.eval().requires_grad_(False)


def random_weight(
    shape: tuple[int, ...], precision: str, group_size: int, generator: torch.Generator
) -> QuantizedWeight:
    """Draw a matrix [N, K] of few bits whose products keep activations of order one."""
    num_outputs, num_inputs = shape
    device = generator.device
    if precision == "int8":
        values = torch.randint(-127, 128, shape, generator=generator, device=device, dtype=torch.int8)
        # Evenly drawn whole numbers up to 127 have a deviation of 73.
        return Int8Weight(values, torch.full((num_outputs,), num_inputs**-0.5 / 73, device=device))
    size = (num_outputs, num_inputs // 2)
    packed = torch.randint(0, 256, size, generator=generator, device=device, dtype=torch.uint8)
    grid = (num_outputs, num_inputs // group_size)
    # 0 to 15: a deviation of 4.6 around 7.5.
    scale = torch.full(grid, num_inputs**-0.5 / 4.6, device=device, dtype=torch.bfloat16)
    return Int4Weight(packed, scale, torch.full(grid, 7.5, device=device, dtype=torch.float16))


def _num_threads(config: ModelConfig, device: torch.device) -> int | None:
    sizes = expected_tensors(config, with_encoder=False).values()
    return plan_compute(device, num_parameters=sum(math.prod(shape) for shape in sizes)).num_threads
