"""What a model needs of a device's memory, by kind, and the precision that fits what there is.

Numbers follow from sizes alone: nothing is loaded, so that what does not fit is refused before it takes time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from voxtral.config import ModelConfig, QuantizationConfig
from voxtral.device import ComputePlan, available_memory, dtype_name
from voxtral.engine.kv_cache import kv_bytes_per_position
from voxtral.engine.options import POSITIONS_PER_SEQUENCE, EngineOptions
from voxtral.errors import DeviceError, OptionError
from voxtral.loading.checkpoint import Checkpoint
from voxtral.loading.inventory import TEXT_EMBEDDINGS, expected_tensors, quantized_tensors
from voxtral.model.codec import FRAMES_PER_PASS
from voxtral.quantization.recipes import RECIPES, choose_recipe, stored_precision

# What "auto" tries, in this order; the first that fits is taken.
_AUTO = (None, "int8", "int4")

# Of what is free, left to others when nobody stated a budget.
_SHARE_OF_FREE = 0.9

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on the device that computes, by what they are for.

    What is not counted: the interpreter and torch (about 0.35 GB of main memory), the context of a GPU (0.2 to
    0.5 GB), and the text embeddings, which stay in the file.
    """

    parts: Mapping[str, int]

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        """Write the parts.

        >>> str(MemoryPlan({"backbone": 1_700_000_000, "codec": 300_000_000}))
        'backbone 1.70 GB, codec 300 MB, together 2.00 GB'
        """
        listed = ", ".join(f"{name} {format_bytes(size)}" for name, size in self.parts.items())
        return f"{listed}, together {format_bytes(self.total)}"


def format_bytes(size: int) -> str:
    """Write a number of bytes for people.

    >>> format_bytes(2_780_000_000), format_bytes(47_000_000)
    ('2.78 GB', '47 MB')
    """
    return f"{size / 10**9:.2f} GB" if size >= 10**9 / 2 else f"{size / 10**6:.0f} MB"


def parse_memory(text: str | int) -> int:
    """Turn "3GB", "2.5 GiB" or a number of bytes into bytes.

    >>> parse_memory("3GB"), parse_memory("1.5 GiB"), parse_memory(10)
    (3000000000, 1610612736, 10)

    Raises:
        OptionError: it is no amount of memory.
    """
    match = re.fullmatch(r"\s*(\d{1,12}(?:\.\d{1,6})?)\s*([KMG]I?B)?\s*", str(text), re.IGNORECASE)
    size = int(float(match[1]) * _UNITS[(match[2] or "").upper()]) if match else 0
    if isinstance(text, bool) or size <= 0:
        raise OptionError(f"max_memory is {text!r}; it must be an amount such as 3GB, 2.5GiB or 800MB")
    return size


def check_precision(quantize: str | None, max_memory: str | int | None) -> None:
    """Refuse what could never be right, before a model is fetched for it.

    Raises:
        OptionError: there is no such recipe or amount.
    """
    if quantize is not None and quantize not in (*RECIPES, "auto", "none"):
        raise OptionError(f"quantize is {quantize!r}; it must be one of {', '.join(RECIPES)}, auto or none")
    if max_memory is not None:
        parse_memory(max_memory)


def plan_memory(
    config: ModelConfig,
    *,
    has_encoder: bool,
    dtype: torch.dtype,
    codec_dtype: torch.dtype,
    quantization: QuantizationConfig | None,
) -> MemoryPlan:
    """Add up what one stream needs."""
    parts: dict[str, int] = dict.fromkeys(("backbone", "acoustic transformer", "audio embeddings", "codec"), 0)
    for name, shape in expected_tensors(config, with_encoder=has_encoder).items():
        if name == TEXT_EMBEDDINGS:
            continue
        kind = _kind_of(name)
        precision = stored_precision(name, quantization)
        if quantization is not None and precision is not None:
            stored = quantized_tensors(name, shape, precision, quantization.group_size)
            parts[kind] += sum(part.num_bytes for part in stored.values())
        else:
            stored_in = codec_dtype if kind == "codec" else dtype
            # The table of semantic codes is computed from what the file holds, and kept in float32.
            parts[kind] += math.prod(shape) * (4 if ".semantic_codebook." in name else stored_in.itemsize)
    parts["keys and values"] = _stream_positions(config) * kv_bytes_per_position(config.backbone, dtype)
    parts["activations"] = _activation_bytes(config)
    return MemoryPlan(parts)


def choose_quantization(
    checkpoint: Checkpoint, compute: ComputePlan, quantize: str | None = None, max_memory: str | int | None = None
) -> ComputePlan:
    """Decide the precision of the weights, and see that everything fits.

    Args:
        checkpoint: what is to be loaded.
        compute: device and dtype.
        quantize: a recipe; "auto" for the first of none, int8 and int4 that fits; "none"; or None, which is "auto"
            with `max_memory` and "none" without. A checkpoint that is quantised already stays as it is.
        max_memory: a budget for all parts of a MemoryPlan; what weights and activations leave of it is for keys
            and values.

    Returns:
        The plan with quantization, its reason and kv_cache_bytes.

    Raises:
        OptionError: there is no such recipe or amount, or it contradicts the checkpoint.
        DeviceError: it does not fit; the message shows the plan.
    """
    budget = None if max_memory is None else parse_memory(max_memory)
    wanted = quantize if quantize is not None else ("none" if budget is None else "auto")
    stored = checkpoint.config.quantization
    candidates: Sequence[QuantizationConfig | None]
    if stored is not None:
        _check_agreement(stored, wanted)
        candidates, reason = [stored], "the checkpoint is stored so"
    elif wanted == "none":
        candidates, reason = [None], "as stored"
    elif wanted == "auto":
        candidates, reason = _automatic(checkpoint.config), ""
    else:
        candidates, reason = [choose_recipe(wanted, checkpoint.config)], "it was asked for"
    free = _free_memory(compute.device)
    is_limited = budget is not None or wanted == "auto"
    limit = budget if budget is not None else (int(free * _SHARE_OF_FREE) if free is not None else None)
    plans = [plan_for(checkpoint, compute, candidate) for candidate in candidates]
    chosen = 0
    if is_limited and limit is not None:
        chosen = _first_that_fits(candidates, plans, limit, compute, is_budget=budget is not None)
    if not reason:
        reason = _why(candidates, plans, chosen, limit, compute)
    kv_bytes = None if budget is None else budget - plans[chosen].total + plans[chosen].parts["keys and values"]
    return replace(compute, quantization=candidates[chosen], quantization_reason=reason, kv_cache_bytes=kv_bytes)


def limit_device_memory(device: torch.device, max_memory: str | int) -> None:
    """Hold torch to a budget on a GPU; elsewhere the plan is all there is."""
    if device.type == "cuda":
        _, total = torch.cuda.mem_get_info(device)
        torch.cuda.set_per_process_memory_fraction(min(1.0, parse_memory(max_memory) / total), device)


def plan_for(checkpoint: Checkpoint, compute: ComputePlan, quantization: QuantizationConfig | None) -> MemoryPlan:
    """Add up what a checkpoint needs in some precision; see `plan_memory`."""
    return plan_memory(
        checkpoint.config,
        has_encoder=checkpoint.has_encoder,
        dtype=compute.dtype,
        codec_dtype=compute.codec_dtype,
        quantization=quantization,
    )


def _check_agreement(stored: QuantizationConfig, wanted: str) -> None:
    if wanted not in ("none", "auto", stored.name):
        raise OptionError(
            f"quantize is {wanted!r}; this checkpoint has {stored.name} already, and what that rounded away "
            "is gone; leave the option out, or use the checkpoint that it was made from"
        )


def _automatic(config: ModelConfig) -> list[QuantizationConfig | None]:
    candidates: list[QuantizationConfig | None] = []
    for name in _AUTO:
        try:
            candidates.append(None if name is None else choose_recipe(name, config))
        except OptionError:
            continue  # groups do not fit the widths of this model
    return candidates


def _first_that_fits(
    candidates: Sequence[QuantizationConfig | None],
    plans: list[MemoryPlan],
    limit: int,
    compute: ComputePlan,
    *,
    is_budget: bool,
) -> int:
    fitting = [index for index, plan in enumerate(plans) if plan.total <= limit]
    if fitting:
        return fitting[0]
    name = _name(candidates[-1], compute)
    what = f"max_memory is {format_bytes(limit)}" if is_budget else f"{format_bytes(limit)} are free"
    advice = (
        f"allow {format_bytes(plans[-1].total)} or more" if is_budget else "free memory there or choose another device"
    )
    raise DeviceError(f"{what} on {compute.device}, and {name} needs more: {plans[-1]}; {advice}")


def _why(
    candidates: Sequence[QuantizationConfig | None],
    plans: list[MemoryPlan],
    chosen: int,
    limit: int | None,
    compute: ComputePlan,
) -> str:
    if limit is None:
        return "free memory is unknown here"
    room = f"{format_bytes(limit)} may be used"
    if chosen == 0:
        return f"it fits: {format_bytes(plans[0].total)} are needed, {room}"
    wider = chosen - 1
    return f"{_name(candidates[wider], compute)} needs {format_bytes(plans[wider].total)}, {room}"


def _name(quantization: QuantizationConfig | None, compute: ComputePlan) -> str:
    return dtype_name(compute.dtype) if quantization is None else quantization.name


def _free_memory(device: torch.device) -> int | None:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    memory = available_memory() if device.type == "cpu" else None
    return None if memory is None else memory[0]


def _kind_of(name: str) -> str:
    if name.startswith("acoustic_transformer."):
        return "acoustic transformer"
    if name.startswith("audio_tokenizer."):
        return "codec"
    return "audio embeddings" if name.startswith("mm_audio_embeddings.") else "backbone"


def _stream_positions(config: ModelConfig) -> int:
    return min(POSITIONS_PER_SEQUENCE, config.backbone.max_seq_len)


def _activation_bytes(config: ModelConfig) -> int:
    """Bound what one pass holds at once, in float32: gate, up and their product beside a few rows of the stream."""
    backbone, codec = config.backbone, config.codec
    prompt = EngineOptions.prefill_positions * (3 * backbone.hidden_dim + 8 * backbone.dim) * 4
    audio = FRAMES_PER_PASS * codec.steps_per_frame * (3 * codec.hidden_dim + 8 * codec.dim) * 4
    return max(prompt, audio) + 2**25  # and 32 MiB that libraries take to work in
