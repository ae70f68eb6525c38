"""What a model needs of a device's memory, by kind, and the precision that fits what there is.

Numbers follow from sizes alone: nothing is loaded, so that what does not fit is refused before it takes time.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from voxtral.config import ModelConfig, Precision, QuantizationConfig
from voxtral.device import ComputePlan, dtype_name, free_memory
from voxtral.engine.needs import Needs
from voxtral.engine.options import default_max_batch
from voxtral.errors import DeviceError, OptionError
from voxtral.loading.checkpoint import Checkpoint
from voxtral.loading.inventory import TEXT_EMBEDDINGS, expected_tensors, quantized_tensors
from voxtral.model.kernels.dispatch import KERNELS
from voxtral.model.linear import product_way, why_slow
from voxtral.quantization.recipes import RECIPES, choose_recipe, stored_precision

# What "auto" tries, in this order; the first that fits is taken.
_AUTO = (None, "int8", "int4")

# Of what is free, the part that "auto" may use: a GPU's driver loads code as it is first used, and other programs
# want some, too.
_SHARE_OF_FREE = 0.9

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes on the device that computes, by what they are for.

    What is not counted: the interpreter and torch (about 0.35 GB of main memory), the context of a GPU (0.2 to
    0.5 GB), and the text embeddings, which stay in the file. The reserve is for what torch and its libraries take
    beside tensors.
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
    if isinstance(text, str) and match and not match[2] and size < 10**6:
        raise OptionError(f"max_memory is {text!r}, which is {size} bytes; it needs a unit: write {text.strip()}GB")
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
    device_type: str = "cpu",
    has_kernels: bool = True,
    num_rows: int = 1,
) -> MemoryPlan:
    """Add up what so many streams need that have keys and values of one.

    Args:
        config: sizes.
        has_encoder: of the codec.
        dtype: of what is not quantised.
        codec_dtype: of the codec.
        quantization: of the matrices, as they are held.
        device_type: "cuda" or another.
        has_kernels: see `Needs`.
        num_rows: sequences side by side.
    """
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
    needs = Needs(config, dtype, codec_dtype, device_type, has_kernels)
    parts["keys and values"] = needs.cache(needs.stream_positions)
    parts["activations"] = needs.work(num_rows)
    reserve = needs.reserve(sum(parts.values()))
    return MemoryPlan(parts | ({"reserve": reserve} if reserve else {}))


@dataclass(frozen=True)
class _Candidate:
    """One way to hold the weights."""

    name: str
    quantization: QuantizationConfig | None  # of the file or the recipe
    plan: MemoryPlan
    is_dequantized: bool = False
    problem: str | None = None  # why it would be slower than speech


def choose_quantization(
    checkpoint: Checkpoint,
    compute: ComputePlan,
    quantize: str | None = None,
    max_memory: str | int | None = None,
    *,
    max_batch: int | None = None,
) -> ComputePlan:
    """Decide the precision of the weights, and see that everything fits.

    On a GPU nothing is loaded that does not fit what is free: on Windows the driver would move the rest to main memory
    without a word, and speech would be many times slower.

    Args:
        checkpoint: what is to be loaded.
        compute: device and dtype.
        quantize: a recipe; "auto" for the first of none, int8 and int4 that fits; "none"; or None, which is "auto"
            on a GPU and with `max_memory`, else "none". A checkpoint that is quantised already stays as it is, but
            where a GPU has no fast product for it, its weights are held in the dtype if they fit.
        max_memory: a budget for all parts of a MemoryPlan; what weights and activations leave of it is for keys
            and values.
        max_batch: sequences side by side, where that has been said.

    Returns:
        The plan with quantization and its reason, and what there is room for.

    Raises:
        OptionError: there is no such recipe or amount, or it contradicts the checkpoint.
        DeviceError: it does not fit, or "auto" would be slower than speech; the message shows the plan.
    """
    budget = None if max_memory is None else parse_memory(max_memory)
    is_gpu = compute.device.type == "cuda"
    wanted = quantize if quantize is not None else ("auto" if is_gpu or budget is not None else "none")
    candidates = _candidates(checkpoint, compute, wanted, max_batch or 1)
    free = free_memory(compute.device)
    limit = budget
    if budget is None and free is not None:
        limit = int(free * _SHARE_OF_FREE) if wanted == "auto" else free
    is_limited = budget is not None or wanted == "auto" or is_gpu
    is_stored = checkpoint.config.quantization is not None
    chosen = _choose(
        candidates,
        limit if is_limited else None,
        compute,
        wanted,
        is_budget=budget is not None,
        is_stored=is_stored,
    )
    reason = _why(candidates, chosen, limit, wanted, checkpoint)
    is_changed = chosen.is_dequantized or (wanted not in ("none", "auto") and chosen is not candidates[-1])
    remark = _remark(candidates, chosen, reason, is_changed=is_changed) if is_gpu else None
    planned = replace(
        compute,
        quantization=chosen.quantization,
        quantization_reason=reason,
        is_dequantized=chosen.is_dequantized,
        budget_bytes=budget,
        memory=str(chosen.plan),
        remarks=compute.remarks + ((remark,) if remark else ()),
    )
    return _divide(planned, checkpoint.config, chosen.plan, limit if is_limited else None, max_batch)


def _divide(
    compute: ComputePlan, config: ModelConfig, plan: MemoryPlan, limit: int | None, max_batch: int | None
) -> ComputePlan:
    """Say how many sequences, and with a budget how many bytes of keys and values, there is room for."""
    is_gpu = compute.device.type == "cuda"
    if limit is None or (compute.budget_bytes is None and not is_gpu):
        return compute
    kinds = ("keys and values", "activations")
    left = limit - plan.total + sum(plan.parts[kind] for kind in kinds)
    needs = Needs(config, compute.dtype, compute.codec_dtype, compute.device.type, _has_kernels(compute))
    most = default_max_batch(compute.device.type)
    if max_batch is not None:
        num_rows, kv_bytes = max_batch, left - needs.work(max_batch)
    else:
        num_rows, kv_bytes = needs.divide(left, most)
    return replace(
        compute,
        max_batch=num_rows if num_rows < most or max_batch is not None else None,
        kv_cache_bytes=None if compute.budget_bytes is None else kv_bytes,
    )


def _candidates(checkpoint: Checkpoint, compute: ComputePlan, wanted: str, num_rows: int) -> list[_Candidate]:
    """List the ways that may be taken, the best first."""
    stored = checkpoint.config.quantization
    if stored is not None:
        _check_agreement(stored, wanted)
        recipes: list[QuantizationConfig | None] = [stored]
    elif wanted == "none":
        recipes = [None]
    elif wanted == "auto":
        recipes = _automatic(checkpoint.config)
    else:
        recipes = [choose_recipe(wanted, checkpoint.config)]
    candidates: list[_Candidate] = []
    for recipe in recipes:
        problem = _product_problem(compute, recipe)
        plain = plan_for(checkpoint, compute, None, num_rows)
        if stored is not None and not _is_by_kernels(compute, recipe):
            # Once, at loading; every frame then costs what the dtype does, which is known to be faster than speech.
            name = f"{dtype_name(compute.dtype)}, dequantised at loading"
            candidates.append(_Candidate(name, None, plain, is_dequantized=True))
        elif problem is not None and wanted != "auto":
            candidates.append(_Candidate(_name(None, compute), None, plain))
        plan = plan_for(checkpoint, compute, recipe, num_rows)
        candidates.append(_Candidate(_name(recipe, compute), recipe, plan, problem=problem))
    return candidates


def plan_for(
    checkpoint: Checkpoint, compute: ComputePlan, quantization: QuantizationConfig | None, num_rows: int
) -> MemoryPlan:
    """Add up what a checkpoint needs in some precision with rows side by side; see `plan_memory`."""
    return plan_memory(
        checkpoint.config,
        has_encoder=checkpoint.has_encoder or checkpoint.encoder is not None,
        dtype=compute.dtype,
        codec_dtype=compute.codec_dtype,
        quantization=quantization,
        device_type=compute.device.type,
        has_kernels=_has_kernels(compute),
        num_rows=num_rows,
    )


def _has_kernels(compute: ComputePlan) -> bool:
    return compute.device.type != "cuda" or KERNELS.is_on("attend_rotating", compute.device, compute.dtype)


def _is_by_kernels(compute: ComputePlan, quantization: QuantizationConfig | None) -> bool:
    ways = (product_way(precision, compute.device, compute.dtype) for precision in _precisions(quantization))
    return compute.device.type != "cuda" or all(way == "kernel" for way in ways)


def _product_problem(compute: ComputePlan, quantization: QuantizationConfig | None) -> str | None:
    """Say why a GPU would be slower than speech with matrices of few bits; None where it would not."""
    if compute.device.type != "cuda":
        return None
    device, dtype = compute.device, compute.dtype
    for precision in _precisions(quantization):
        if product_way(precision, device, dtype) == "none":
            return f"nothing here multiplies {precision} fast ({why_slow(precision, device, dtype)})"
    return None


def _precisions(quantization: QuantizationConfig | None) -> list[Precision]:
    if quantization is None:
        return []
    return sorted({quantization.backbone, quantization.acoustic, quantization.semantic_head})


def _check_agreement(stored: QuantizationConfig, wanted: str) -> None:
    if wanted not in ("none", "auto", stored.name):
        raise OptionError(
            f"quantize is {wanted!r}; this checkpoint has {stored.name} already, and what that rounded away "
            "is gone; leave the option out, or use the checkpoint that it was made from"
        )


def _automatic(config: ModelConfig) -> list[QuantizationConfig | None]:
    recipes: list[QuantizationConfig | None] = []
    for name in _AUTO:
        try:
            recipes.append(None if name is None else choose_recipe(name, config))
        except OptionError:
            continue  # groups do not fit the widths of this model
    return recipes


def _choose(
    candidates: list[_Candidate],
    limit: int | None,
    compute: ComputePlan,
    wanted: str,
    *,
    is_budget: bool,
    is_stored: bool,
) -> _Candidate:
    if limit is None:
        return candidates[0]
    fitting = [candidate for candidate in candidates if candidate.plan.total <= limit]
    fast = [candidate for candidate in fitting if candidate.problem is None]
    # Who names a recipe, or has only that file, may be slow; a choice that nobody made must not be.
    is_asked_for = wanted != "auto" or is_stored
    if fast or (fitting and is_asked_for):
        return (fast or fitting)[0]
    least = candidates[-1]
    what = f"max_memory is {format_bytes(limit)}" if is_budget else f"{format_bytes(limit)} are free"
    if fitting:
        raise DeviceError(
            f"{what} on {compute.device}, {candidates[0].name} needs {format_bytes(candidates[0].plan.total)}, and "
            f"with fewer bits speech would be slower than it is heard: {least.problem}; install Triton, use a larger "
            f"GPU, or ask for it all the same with --quantize {fitting[-1].name} (quantize={fitting[-1].name!r})"
        )
    raise DeviceError(
        f"{what} on {compute.device}, and {least.name} needs more: {least.plan}; {_advice(least, wanted, is_budget)}"
    )


def _advice(least: _Candidate, wanted: str, is_budget: bool) -> str:
    enough = (
        f"allow {format_bytes(least.plan.total)} or more" if is_budget else "free memory there or choose another device"
    )
    fewer = "" if wanted == "auto" or least.quantization is not None else "take fewer bits with --quantize int4, "
    return f"{fewer}{enough}"


def _why(
    candidates: list[_Candidate], chosen: _Candidate, limit: int | None, wanted: str, checkpoint: Checkpoint
) -> str:
    asked_for = candidates[-1]
    if chosen.is_dequantized:
        return f"no kernel here multiplies {asked_for.name}, and {format_bytes(chosen.plan.total)} fit"
    if wanted not in ("none", "auto") and chosen is not asked_for:
        return f"{asked_for.name} was asked for, and {asked_for.problem}; {format_bytes(chosen.plan.total)} fit"
    if checkpoint.config.quantization is not None:
        return "the checkpoint is stored so"
    if wanted != "auto":
        return "as stored" if wanted == "none" else "it was asked for"
    if limit is None:
        return "free memory is unknown here"
    room = f"{format_bytes(limit)} may be used"
    number = candidates.index(chosen)
    if number == 0:
        return f"it fits: {format_bytes(chosen.plan.total)} are needed, {room}"
    wider = candidates[number - 1]
    return f"{wider.name} needs {format_bytes(wider.plan.total)}, {room}"


def _remark(candidates: list[_Candidate], chosen: _Candidate, reason: str, *, is_changed: bool) -> str | None:
    """Say what a person would not expect: fewer bits than the file has, other numbers, or products that are slow."""
    if chosen.problem is not None:
        return f"weights: {chosen.name}, slower than speech; {chosen.problem}"
    is_expected = len(candidates) == 1 or (chosen is candidates[0] and not is_changed)
    return None if is_expected else f"weights: {chosen.name}; {reason}"


def _name(quantization: QuantizationConfig | None, compute: ComputePlan) -> str:
    return dtype_name(compute.dtype) if quantization is None else quantization.name


def _kind_of(name: str) -> str:
    if name.startswith("acoustic_transformer."):
        return "acoustic transformer"
    if name.startswith("audio_tokenizer."):
        return "codec"
    return "audio embeddings" if name.startswith("mm_audio_embeddings.") else "backbone"
