"""Golden vectors: every entry of a set, computed by the product's own code and compared.

A set is two files, vectors.json and vectors.safetensors. Cases, names and sizes come from the set;
nothing is assumed about them but the meaning of the name parts, which `_GROUPS` lists.

`voxtral doctor --vectors` loads this file from the checkout that it lies in, by its path and where torch, numpy and
safetensors alone may be installed; so it is one file, longer than others, and imports nothing else of the tests.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

from voxtral.config import END_AUDIO, NUM_SPECIAL_CODES, Precision, QuantizationConfig
from voxtral.engine.engine import Engine
from voxtral.engine.kv_cache import Span, SpanMemory, StepMemory, make_pages
from voxtral.engine.sequence import GenerationRequest, GenerationTrace
from voxtral.errors import CheckpointError, TokenizerMissingError
from voxtral.loading.checkpoint import Checkpoint
from voxtral.loading.files import TOKENIZER_FILE
from voxtral.loading.load import load_model
from voxtral.model.acoustic import embed_time, time_inverse_frequencies
from voxtral.model.codec import ConvBlock
from voxtral.model.codec_encoder import CodecEncoder
from voxtral.model.layers import apply_rope, rope_inverse_frequencies, rope_rotation
from voxtral.model.voxtral import VoxtralModel
from voxtral.text.prompt import build_prompt, prompt_from_ids
from voxtral.text.tokenizer import SpeechTokenizer, load_tokenizer
from voxtral.voices.presets import list_presets
from voxtral.voices.prompt import load_voice

Kind = Literal["output", "input", "informational"]

# How far an entry may be off, of its largest number, where quantised matrices have a part in it. For networks of the
# size of the sets' tiny one, 64 wide with random weights; larger ones are closer (docs/QUANTIZATION.md).
QUANTISED_BOUNDS: dict[Precision, float] = {"int8": 0.05, "int4": 0.4}
_QUANTISED_PARTS = ("lm", "fm", "semantic", "e2e")

# Positions in a block of the KV cache: few, so that a prompt of the sets and its frames do not fit one.
_BLOCK_SIZE = 16


@dataclass(frozen=True)
class EntryResult:
    """One entry of a set. `ok` is None where nothing was to be compared."""

    name: str
    kind: Kind
    tolerance: Any
    ok: bool | None = None
    max_abs: float | None = None
    detail: str = ""


@dataclass(frozen=True)
class VectorReport:
    """All entries, in the order of the set."""

    results: tuple[EntryResult, ...]

    def count(self, ok: bool | None) -> int:
        """Count output entries that passed (True), failed (False) or were skipped (None)."""
        return sum(1 for result in self.results if result.kind == "output" and result.ok is ok)

    @property
    def ok(self) -> bool:
        """Whether something passed and nothing failed."""
        return self.count(True) > 0 and self.count(False) == 0

    def to_dict(self) -> dict[str, Any]:
        """Give the machine-readable form."""
        return {
            "ok": self.ok,
            "passed": self.count(True),
            "failed": self.count(False),
            "skipped": self.count(None),
            "entries": {
                result.name: {
                    "ok": result.ok,
                    "max_abs": result.max_abs,
                    "tolerance": result.tolerance,
                    "kind": result.kind,
                    "detail": result.detail,
                }
                for result in self.results
            },
        }

    def lines(self, quantization: QuantizationConfig | None) -> Iterator[str]:
        """Give the form for people: a line for each entry, and the verdict on a checkpoint that is quantised so."""
        for result in self.results:
            yield _entry_line(result)
        counts = f"{self.count(True)} passed, {self.count(False)} failed, {self.count(None)} skipped"
        if quantization is not None:
            yield f"{counts}: {'within' if self.ok else 'NOT within'} the bounds of {quantization.name}"
        else:
            yield f"{counts}: {'the numbers are the official ones' if self.ok else 'NOT the official numbers'}"


def _entry_line(result: EntryResult) -> str:
    verdict = {True: "ok", False: "FAILED", None: "-"}[result.ok]
    distance = "" if result.max_abs is None else f"{result.max_abs:.2g}"
    tolerance = result.tolerance
    allowed = f"{tolerance.get('atol', tolerance)}" if isinstance(tolerance, dict) else str(tolerance)
    kind = "" if result.kind == "output" else result.kind
    return f"{verdict:<7}{result.name:<44}{distance:>9}  of {allowed:<9} {kind}  {result.detail}".rstrip()


@dataclass(frozen=True)
class VectorSet:
    """The content of the two files."""

    tensors: Mapping[str, Tensor]
    entries: Mapping[str, Mapping[str, Any]]
    cases: Mapping[str, Mapping[str, Any]]
    constants: Mapping[str, Any]

    def under(self, prefix: str) -> list[str]:
        """Name the entries below a prefix."""
        return [name for name in self.entries if name.startswith(prefix)]

    def holders(self, prefix: str, leaf: str) -> list[str]:
        """Name the groups below a prefix that have an entry called `leaf`."""
        return [name.removesuffix(f"/{leaf}") for name in self.under(prefix) if name.endswith(f"/{leaf}")]

    def has(self, name: str) -> bool:
        """Tell whether the set has an entry."""
        return name in self.entries


def load_vectors(folder: Path) -> VectorSet:
    """Read a golden set.

    Raises:
        CheckpointError: a file is missing or damaged, or the two disagree.
    """
    try:
        described: dict[str, Any] = json.loads((folder / "vectors.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "vectors.safetensors")
        entries = dict(described["entries"])
    # safetensors has an error type of its own that is no OSError.
    except Exception as error:
        raise CheckpointError(
            f"{folder} holds no golden vectors ({type(error).__name__}: {error}); a set is vectors.json and "
            "vectors.safetensors"
        ) from error
    missing = sorted(set(entries) ^ set(tensors)) or [
        name for name, entry in entries.items() if not isinstance(entry, dict)
    ]
    if missing:
        raise CheckpointError(f"vectors.json and vectors.safetensors disagree about {missing[0]}; copy the set again")
    for name, entry in entries.items():
        _check_tolerance(name, entry.get("tolerance"))
    return VectorSet(tensors, entries, described.get("cases", {}), described.get("constants", {}))


def _check_tolerance(name: str, tolerance: Any) -> None:
    numbers = list(tolerance.values()) if isinstance(tolerance, dict) else [tolerance]
    for number in numbers:
        is_number = isinstance(number, int | float) and math.isfinite(number) and number >= 0
        if not is_number and (isinstance(tolerance, dict) or isinstance(number, int | float)):
            raise CheckpointError(f"vectors.json: {name} has tolerance {tolerance!r}; it must hold numbers from 0 on")


@dataclass(frozen=True)
class _Skip:
    reason: str


@dataclass(frozen=True)
class _Input:
    pass


@dataclass(frozen=True)
class _Quirk:
    """The official code has a value here that this product on purpose has not."""

    reason: str


@dataclass(frozen=True)
class _Failure:
    error: str


_Value = Tensor | _Skip | _Input | _Quirk | _Failure
_Yield = Iterator[tuple[str, _Value]]


@dataclass(frozen=True)
class _Context:
    checkpoint: Checkpoint
    model: VoxtralModel
    tokenizer: SpeechTokenizer | _Skip | _Failure
    vectors: VectorSet

    def get(self, name: str) -> Tensor:
        tensor = self.vectors.tensors[name]
        return tensor.to(self.model.device)

    def floats(self, name: str) -> Tensor:
        return self.get(name).to(self.model.dtype)

    def voice_rows(self, name: str) -> Tensor:
        return load_voice(list_presets(self.checkpoint.folder)[name], self.model.config).rows

    @property
    def num_euler_steps(self) -> int:
        # The product's own count on purpose: the set's constants would hide a wrong default.
        return self.model.config.generation.num_euler_steps


def run_vectors(checkpoint: Checkpoint, vectors: VectorSet, device: torch.device) -> VectorReport:
    """Compute every entry in float32 (TF32 off), and the bf16 entries for information.

    Raises:
        CheckpointError: the weights cannot be loaded.
    """
    tokenizer = _load_tokenizer(checkpoint)
    with _without_tf32(), torch.inference_mode():
        context = _Context(checkpoint, _load(checkpoint, device, torch.float32), tokenizer, vectors)
        values = _compute(context)
        results = {name: _judge(vectors, name, values) for name in vectors.entries}
        if (quantization := checkpoint.config.quantization) is not None:
            results = {name: _allow_rounding(vectors, result, quantization) for name, result in results.items()}
        if vectors.under("bf16/") and checkpoint.config.quantization is None:
            results |= _run_bf16(replace(context, model=_load(checkpoint, device, torch.bfloat16)))
    return VectorReport(tuple(results.values()))


def _load(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> VoxtralModel:
    return load_model(checkpoint, device=device, dtype=dtype, codec_dtype=dtype)


def _load_tokenizer(checkpoint: Checkpoint) -> SpeechTokenizer | _Skip | _Failure:
    try:
        return load_tokenizer(checkpoint.folder / TOKENIZER_FILE)
    except TokenizerMissingError as error:
        return _Skip(str(error))
    # A tokenizer file that is missing or damaged is a fault of the checkpoint, not of this machine.
    except CheckpointError as error:
        return _Failure(str(error))


class _without_tf32:
    """Full float32 products on GPUs that would shorten them."""

    def __enter__(self) -> None:
        self._before = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def __exit__(self, *_: object) -> None:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = self._before


def _compute(context: _Context, prefix: str = "") -> dict[str, _Value]:
    """Run the groups below a prefix. What a failing group or case leaves open is a failure with its reason."""
    values: dict[str, _Value] = {}
    for group_prefix, group in _GROUPS:
        if not group_prefix.startswith(prefix):
            continue
        for name, value in _guarded(context, group_prefix, group(context)):
            if not context.vectors.has(name):
                continue
            if isinstance(value, _Failure) and not isinstance(values.get(name, value), _Failure):
                continue
            values[name] = value
    return values


def _guarded(context: _Context, prefix: str, values: _Yield) -> _Yield:
    """Pass values on; an exception becomes a failure of everything below the prefix that has no value."""
    try:
        yield from values
    # A broken computation is a failed entry, not the end of the report.
    except Exception as error:  # noqa: BLE001
        for name in context.vectors.under(prefix):
            yield name, _Failure(f"{type(error).__name__}: {error}")


def _judge(vectors: VectorSet, name: str, values: Mapping[str, _Value]) -> EntryResult:
    entry = EntryResult(name, "output", vectors.entries[name].get("tolerance"))
    if name.startswith(("bf16/", "prompt_full_vocab/", "codec/bf16_divided_table/")):
        reason = "needs the published vocabulary" if name.startswith("prompt_full") else "official serving rounding"
        return replace(entry, kind="informational", detail=reason)
    match values.get(name, _Failure("no check knows this entry")):
        case _Input():
            return replace(entry, kind="input")
        case _Skip(reason):
            return replace(entry, detail=reason)
        case _Quirk(reason):
            return replace(entry, kind="informational", detail=reason)
        case _Failure(error):
            return replace(entry, ok=False, detail=error)
        case Tensor() as value:
            return _compare(entry, value, vectors.tensors[name])


def _allow_rounding(vectors: VectorSet, result: EntryResult, quantization: QuantizationConfig) -> EntryResult:
    """Judge what quantised matrices have a part in by the bounds of their precision, and not at all where codes follow.

    A code near the edge of its bin falls to the other side, and what is generated after it is other speech.
    """
    part = result.name.partition("/")[0]
    if result.kind != "output" or result.ok is not False or part not in _QUANTISED_PARTS:
        return result
    if part == "e2e" or not vectors.tensors[result.name].is_floating_point() or result.max_abs is None:
        return replace(result, ok=None, detail="rounding to few bits may choose another code")
    # The semantic head reads vectors of the set, and is int8 in every recipe.
    precisions: dict[str, Precision] = {
        "lm": quantization.backbone,
        "fm": quantization.acoustic,
        "semantic": quantization.semantic_head,
    }
    precision = precisions[part]
    allowed = QUANTISED_BOUNDS[precision] * float(vectors.tensors[result.name].nan_to_num(neginf=0.0).abs().max())
    return replace(result, ok=result.max_abs <= allowed, detail=f"{allowed:.2g} allowed for {precision}")


def _compare(entry: EntryResult, value: Tensor, reference: Tensor) -> EntryResult:
    if value.shape != reference.shape:
        detail = f"shape {list(value.shape)}, expected {list(reference.shape)}"
        return replace(entry, ok=False, detail=detail)
    if value.is_floating_point() != reference.is_floating_point():
        return replace(entry, ok=False, detail=f"{value.dtype}, expected {reference.dtype}")
    difference = _difference(value, reference)
    allowed, detail = _allowed(entry.tolerance, reference)
    is_within = bool((difference <= allowed).all())
    largest = float(difference.max()) if difference.numel() else 0.0
    if largest == float("inf"):
        return replace(entry, ok=False, detail="a value is infinite or no number, and the expected one is not")
    return replace(entry, ok=is_within, max_abs=largest, detail=detail)


def _difference(value: Tensor, reference: Tensor) -> Tensor:
    """Subtract in float64; equal infinities (masked logits) differ by nothing, other ones by infinity."""
    value, reference = value.cpu().double(), reference.double()
    difference = torch.where(value == reference, 0.0, (value - reference).abs())
    return torch.where(difference.isnan(), torch.inf, difference)


def _allowed(tolerance: Any, reference: Tensor) -> tuple[Tensor, str]:
    """Turn a tolerance into the allowed difference of each value; integers must be equal."""
    zeros = torch.zeros(reference.shape, dtype=torch.float64)
    if isinstance(tolerance, dict):
        scale = reference.double().abs().nan_to_num(posinf=0.0)
        return zeros + float(tolerance.get("atol", 0.0)) + float(tolerance.get("rtol", 0.0)) * scale, ""
    if isinstance(tolerance, int | float) and not isinstance(tolerance, bool):
        return zeros + float(tolerance), ""
    return zeros, "" if tolerance == "exact" else f"tolerance {tolerance!r} is taken as exact"


def _run_bf16(context: _Context) -> dict[str, EntryResult]:
    """Compare our bfloat16 with the official one where a counterpart exists; informational."""
    values = _compute(context)
    results: dict[str, EntryResult] = {}
    for name in context.vectors.under("bf16/"):
        tolerance = context.vectors.entries[name].get("tolerance")
        result = EntryResult(name, "informational", tolerance, detail="official serving rounding")
        value = values.get(name.removeprefix("bf16/"))
        reference = context.vectors.tensors[name]
        if isinstance(value, Tensor) and value.shape == reference.shape:
            largest = float(_difference(value, reference).max()) if value.numel() else 0.0
            distance = largest if math.isfinite(largest) else None
            rms = float((value.cpu().double() - reference.double()).norm() / reference.double().norm().clamp(min=1e-12))
            bound = tolerance.get("relative_rms") if isinstance(tolerance, dict) else None
            ok = None if bound is None else rms <= float(bound)
            result = replace(result, max_abs=distance, ok=ok, detail=f"relative rms {rms:.2g} to the official bf16")
        results[name] = result
    return results


# The groups: what an entry's name means, and which code of the product makes it.


def _cases(context: _Context, prefix: str, check: Callable[[_Context, str, Mapping[str, Any]], _Yield]) -> _Yield:
    """Check each case of a group by itself, so that one that fails leaves the others alone."""
    for case, given in context.vectors.cases.items():
        if case.startswith(prefix) and context.vectors.under(f"{case}/"):
            yield from _guarded(context, f"{case}/", check(context, case, given))


def _prompts(context: _Context) -> _Yield:
    yield from _cases(context, "prompt/", _prompt)


def _prompt(context: _Context, case: str, given: Mapping[str, Any]) -> _Yield:
    if "ref_audio" in given:
        yield from _clip_prompt(context, case, given)
    elif "n_samples_24k" in given:
        num_rows = context.model.config.codec.num_frames(int(given["n_samples_24k"])) + 1
        stated = int(given.get("n_audio_placeholders", num_rows))
        quirk = _Quirk(f"mistral-common counts {stated} placeholders for {num_rows} rows")
        yield f"{case}/ids", _prompt_ids(context, given["text"], num_rows) if stated == num_rows else quirk
    else:
        yield f"{case}/ids", _prompt_ids(context, given["text"], context.voice_rows(given["voice"]).shape[0])


def _prompt_ids(context: _Context, text: str, num_rows: int) -> Tensor | _Skip | _Failure:
    if not isinstance(context.tokenizer, SpeechTokenizer):
        return context.tokenizer
    return torch.tensor(build_prompt(context.tokenizer, text, num_rows).token_ids)


def _clip_prompt(context: _Context, case: str, given: Mapping[str, Any]) -> _Yield:
    source = str(given["ref_audio"])
    yield source, _Input()
    try:
        from voxtral.audio.read import read_audio

        clip = bytes(context.vectors.tensors[source].tolist())
        samples = torch.from_numpy(read_audio(clip, sample_rate=context.model.config.sample_rate))
    except ImportError as error:
        skip = _Skip(f"{error.name} is not installed; it reads audio files")
        yield f"{case}/audio_array", skip
        yield f"{case}/ids", skip
        return
    yield f"{case}/audio_array", samples
    num_rows = context.model.config.codec.num_frames(len(samples)) + 1
    yield f"{case}/ids", _prompt_ids(context, given["text"], num_rows)


def _embedded_prompts(context: _Context) -> _Yield:
    yield from _cases(context, "embed_prompt/", _embedded_prompt)


def _embedded_prompt(context: _Context, case: str, given: Mapping[str, Any]) -> _Yield:
    if "audio" in given:
        yield from _embedded_clip(context, case, given)
        return
    rows = context.voice_rows(given["voice"])
    yield f"{case}/ids", _prompt_ids(context, given["text"], rows.shape[0])
    ids = context.get(f"{case}/ids")
    yield f"{case}/text_embeds_only", context.model.embed_text(ids)
    yield f"{case}/embeds", context.model.embed_prompt(ids, rows)


def _embedded_clip(context: _Context, case: str, given: Mapping[str, Any]) -> _Yield:
    if context.model.codec_encoder is None:
        yield f"{case}/codes", _Skip(_NO_ENCODER)
    else:
        yield f"{case}/codes", context.model.encode_audio(context.get(given["audio"]))
    rows = context.model.embed_codes(context.get(f"{case}/codes"))
    yield f"{case}/audio_embeds", rows
    yield f"{case}/embeds", context.model.embed_prompt(context.get(given["ids"]), rows)


def _backbone(context: _Context) -> _Yield:
    """Run prompts, then groups of frames that continue a prompt, or a group before them, one by one."""
    vectors = context.vectors
    groups = [name for name in vectors.holders("lm/", "hidden") if vectors.has(f"{name}/embeds")]
    prompts = [name for name in groups if not vectors.has(f"{name}/frames")]
    for name in prompts:
        yield from _guarded(context, f"{name}/", _lm_prompt(context, name))
    pasts = [(name,) for name in prompts]
    for name in (name for name in groups if name not in prompts):
        yield from _guarded(context, f"{name}/", _lm_steps(context, name, pasts))


def _lm_prompt(context: _Context, name: str) -> _Yield:
    yield f"{name}/embeds", _Input()
    embeds = context.floats(f"{name}/embeds")
    sequence = PagedSequence(context.model, embeds.shape[0])
    with _layer_outputs(context.model) as outputs:
        hidden = sequence.extend(embeds)
    for layer, output in enumerate(outputs):
        yield f"{name}/layer{layer}_residual", output[0]
    yield f"{name}/hidden", hidden


@contextmanager
def _layer_outputs(model: VoxtralModel) -> Iterator[list[Tensor]]:
    """Collect what each layer of the backbone returns, [1, T, D], in a pass within the block."""
    outputs: list[Tensor] = []
    hooks = [layer.register_forward_hook(lambda *call: outputs.append(call[-1])) for layer in model.backbone.layers]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def _lm_steps(context: _Context, name: str, pasts: list[tuple[str, ...]]) -> _Yield:
    """Continue with the frames of a group.

    A set does not say what a group continues. Every past that it can have is computed, and the one that
    comes nearest is taken: a wrong computation comes near with none. The engine feeds a frame back by one pass on
    a CPU and by another on a GPU; both are run, and the one that is farther off is judged.
    """
    yield f"{name}/frames", _Input()
    yield f"{name}/embeds", context.model.embed_frames(context.get(f"{name}/frames"))
    if not pasts:
        raise CheckpointError(f"{name} continues a prompt, and the set has none under lm/")
    reference = context.vectors.tensors[f"{name}/hidden"]

    def distance(hidden: Tensor) -> float:
        return float(_difference(hidden, reference).max())

    passes = (PagedSequence.extend, PagedSequence.step)
    outcomes = {past: max((_continue(context, past, name, run) for run in passes), key=distance) for past in pasts}
    nearest = min(outcomes, key=lambda past: distance(outcomes[past]))
    pasts.append((*nearest, name))
    yield f"{name}/hidden", outcomes[nearest]


def _continue(
    context: _Context, past: tuple[str, ...], name: str, run: Callable[[PagedSequence, Tensor], Tensor]
) -> Tensor:
    prompt, *steps = past
    embeds = context.floats(f"{prompt}/embeds")
    frames = [context.get(f"{group}/frames") for group in (*steps, name)]
    sequence = PagedSequence(context.model, embeds.shape[0] + sum(len(part) for part in frames))
    sequence.extend(embeds)
    hidden = [run(sequence, context.model.embed_frames(frame[None])) for part in frames for frame in part]
    return torch.cat(hidden[-len(frames[-1]) :])


class PagedSequence:
    """One sequence in the engine's memory, run by the passes that the engine makes.

    Args:
        model: on its device.
        capacity: positions that it can hold.
    """

    def __init__(self, model: VoxtralModel, capacity: int) -> None:
        num_blocks = -(-capacity // _BLOCK_SIZE)
        config, device = model.config.backbone, model.device
        self._backbone = model.backbone
        self._pages = make_pages(config, num_blocks + 1, _BLOCK_SIZE, device=device, dtype=model.dtype)
        # In reverse, so that an order that is taken for granted shows; block 0 is the engine's scratch block.
        self._blocks = torch.arange(num_blocks, 0, -1, device=device)
        self._length = 0

    def extend(self, embeds: Tensor) -> Tensor:
        """Run T new positions as a prompt is run, or frames on a CPU: [T, D] to hidden states [T, D]."""
        positions, slot_mapping = self._advance(embeds.shape[0])
        memory = SpanMemory(self._pages, slot_mapping, [Span(0, embeds.shape[0], self._blocks, self._length)])
        return self._backbone.extend(embeds, positions, memory)

    def step(self, embeds: Tensor) -> Tensor:
        """Run one new position as a frame is run on a GPU: [1, D] to the hidden state [1, D]."""
        positions, slot_mapping = self._advance(1)
        tables, lengths = self._blocks[None].int(), (positions + 1).int()
        return self._backbone.step(embeds, positions, StepMemory(self._pages, slot_mapping, tables, lengths))

    def _advance(self, num_new: int) -> tuple[Tensor, Tensor]:
        positions = torch.arange(self._length, self._length + num_new, device=self._blocks.device)
        self._length += num_new
        slot_mapping = self._blocks[positions // _BLOCK_SIZE] * _BLOCK_SIZE + positions % _BLOCK_SIZE
        return positions, slot_mapping


def _rope(context: _Context) -> _Yield:
    yield "rope/x", _Input()
    yield "rope/positions", _Input()
    config = context.model.config.backbone
    if context.vectors.has("rope/x"):
        frequencies = rope_inverse_frequencies(config.head_dim, config.rope_theta).to(context.model.device)
        x = context.floats("rope/x").transpose(0, 1)  # [H, T, Dh]
        yield "rope/y", apply_rope(x, rope_rotation(context.get("rope/positions"), frequencies)).transpose(0, 1)


def _frame_embeds(context: _Context) -> _Yield:
    yield "frame_embed/offsets", context.model.codebook_offsets
    for name in context.vectors.holders("frame_embed", "frames"):
        yield f"{name}/frames", _Input()
        yield f"{name}/embeds", context.model.embed_frames(context.get(f"{name}/frames"))


def _semantic(context: _Context) -> _Yield:
    head = context.model.acoustic_transformer
    for name in context.vectors.holders("semantic", "hidden"):
        yield f"{name}/hidden", _Input()
        logits = head.semantic_logits(context.floats(f"{name}/hidden"))
        masked = head.mask_semantic_logits(logits)
        yield f"{name}/logits_raw", logits
        yield f"{name}/logits_masked", masked
        yield f"{name}/code", masked.argmax(dim=-1)


def _flow(context: _Context) -> _Yield:
    head, vectors = context.model.acoustic_transformer, context.vectors
    schedule = head.make_schedule(context.num_euler_steps)
    yield "fm/inv_freq", time_inverse_frequencies(head.config.dim)
    yield "fm/timesteps", schedule.times
    yield "fm/dts", schedule.steps
    if vectors.has("fm/timesteps"):
        embedded = embed_time(context.get("fm/timesteps"), head.inverse_frequencies)
        yield "fm/time_embedding", embedded
        yield "fm/time_projected", head.time_projection(embedded.to(context.model.dtype))
    for name in ("fm/hidden", "fm/x0"):
        yield name, _Input()
    for case in vectors.holders("fm/", "cfg_alpha"):
        yield from _flow_case(context, case)


def _flow_case(context: _Context, case: str) -> _Yield:
    head, vectors = context.model.acoustic_transformer, context.vectors
    inputs = {leaf: f"{case}/{leaf}" if vectors.has(f"{case}/{leaf}") else f"fm/{leaf}" for leaf in ("hidden", "x0")}
    for name in (*inputs.values(), f"{case}/cfg_alpha"):
        yield name, _Input()
    guidance = context.get(f"{case}/cfg_alpha").float()
    hidden = context.floats(inputs["hidden"])
    noise = context.get(inputs["x0"]).float()[: hidden.shape[0]]
    schedule = head.make_schedule(context.num_euler_steps)
    states = torch.stack(list(head.flow_states(hidden, noise, guidance, schedule)))
    step = context.model.generate_frame(hidden, noise, guidance, schedule)
    llm_token = head.llm_projection(hidden)
    yield f"{case}/codes", step.audio_tokens
    yield f"{case}/x_final", step.flow_state
    yield f"{case}/x", states
    yield f"{case}/llm_projected", llm_token
    if vectors.has(f"{case}/x"):
        for leaf, token in (("v_cond", llm_token), ("v_uncond", torch.zeros_like(llm_token))):
            given = context.get(f"{case}/x").float()
            velocities = [head.velocity(x, time, token) for x, time in zip(given, schedule.time_tokens, strict=False)]
            yield f"{case}/{leaf}", torch.stack(velocities)


_NO_ENCODER = "the checkpoint holds no encoder"
_OTHER_HEAD = "the checkpoint has another head"
_OTHER_INPUT = "the checkpoint's encoder has another input"
_BIAS_NAME = re.compile(r"codec/attn_bias/block(\d+)_window(\d+)")
_WEIGHT_NAME = re.compile(r"codec/(decoder|encoder)_block(\d+)_weight")


def _codec_tables(context: _Context) -> _Yield:
    codec, vectors = context.model.codec, context.vectors
    yield "codec/alibi_slopes", torch.tensor(codec.config.alibi_slopes)
    head = codec.output_proj
    yield "codec/output_proj_weight", head.conv.weight if isinstance(head, ConvBlock) else _Skip(_OTHER_HEAD)
    encoder = context.model.codec_encoder
    yield "codec/input_proj_weight", _input_weight(encoder)
    yield "codec/semantic_table_row_ids", _Input()
    if vectors.has("codec/semantic_table_row_ids"):
        rows = codec.quantizer.semantic_table[context.get("codec/semantic_table_row_ids")]
        yield "codec/semantic_table_rows", rows
    for name in vectors.under("codec/attn_bias/"):
        if match := _BIAS_NAME.fullmatch(name):
            attention: Any = codec.get_submodule(f"decoder_blocks.{match[1]}.layers.0.attention")
            size = vectors.tensors[name].shape[-1]
            yield name, attention.bias(size, size)
    for name in vectors.under("codec/"):
        if match := _WEIGHT_NAME.fullmatch(name):
            yield name, _conv_weight(context.model, match[1], match[2])


def _input_weight(encoder: CodecEncoder | None) -> Tensor | _Skip:
    if encoder is None:
        return _Skip(_NO_ENCODER)
    entry = encoder.input_proj
    return entry.conv.weight if isinstance(entry, ConvBlock) else _Skip(_OTHER_INPUT)


def _conv_weight(model: VoxtralModel, side: str, index: str) -> Tensor | _Skip:
    root = model.codec if side == "decoder" else model.codec_encoder
    if root is None:
        return _Skip(_NO_ENCODER)
    block: Any = root.get_submodule(f"{side}_blocks.{index}")
    return block.conv.weight


def _codec_decode(context: _Context) -> _Yield:
    model, vectors = context.model, context.vectors
    for case in vectors.holders("codec/", "waveform"):
        if vectors.has(f"{case}/codes"):
            codes = context.get(f"{case}/codes")
            yield f"{case}/codes", _Input()
            latent = model.codec.quantizer.codes_to_latent(codes[None], model.codec.dtype)
            yield f"{case}/latents", latent[0].T
            for index, output in enumerate(model.codec.block_outputs(latent, model.init_codec_state())):
                yield f"{case}/block{index}", output[0].T
            yield f"{case}/waveform", model.decode_codes(codes)
        elif vectors.has(f"{case}/ids"):
            yield f"{case}/ids", _Input()
            ids = context.get(f"{case}/ids")
            is_end = ids[:, 0] == END_AUDIO
            num_frames = int(is_end.int().argmax()) if bool(is_end.any()) else ids.shape[0]
            yield f"{case}/waveform", model.decode_codes(ids[:num_frames].T - NUM_SPECIAL_CODES)
    for case in vectors.holders("codec/stream", "ids"):
        yield f"{case}/ids", _Input()


def _codec_encode(context: _Context) -> _Yield:
    model, encoder = context.model, context.model.codec_encoder
    for case in context.vectors.holders("codec/", "wav"):
        yield f"{case}/wav", _Input()
        if encoder is None:
            for name in context.vectors.under(f"{case}/"):
                if not name.endswith(("/wav", "/lm_embeds")):
                    yield name, _Skip(_NO_ENCODER)
        else:
            samples = context.get(f"{case}/wav")
            outputs = [output[0].T for output in encoder.block_outputs(samples[None])]
            yield f"{case}/input_proj", outputs[0]
            for config, output in zip(model.config.codec.encoder_blocks, outputs[1:], strict=True):
                yield f"{case}/block{config.index}", output
            yield f"{case}/latents", outputs[-1]
            yield f"{case}/codes", model.encode_audio(samples)
        if context.vectors.has(f"{case}/codes"):
            yield f"{case}/lm_embeds", model.embed_codes(context.get(f"{case}/codes"))


def _end_to_end(context: _Context) -> _Yield:
    yield from _cases(context, "e2e/", _generation)


def _generation(context: _Context, case: str, given: Mapping[str, Any]) -> _Yield:
    """Run one case through `submit`, as any request runs, with the recorded noise."""
    model = context.model
    noise = context.vectors.tensors[f"{case}/noise"]
    yield f"{case}/noise", _Input()
    if "voice" in given:
        ids = context.get(f"{case}/ids")
        rows = context.voice_rows(given["voice"])
        yield f"{case}/ids", _prompt_ids(context, given["text"], rows.shape[0])
    else:
        ids = context.get(given["ids"])
        rows = context.get(given["embeds"])[ids == model.config.audio_token_id]
    trace = GenerationTrace()
    request = GenerationRequest(
        prompt=prompt_from_ids(ids.tolist(), model.config.audio_token_id),
        voice_rows=rows,
        noise=lambda frame: noise[frame].numpy(),
        guidance_scale=float(given.get("cfg_alpha", context.vectors.constants.get("cfg_alpha", 1.2))),
        noise_scale=1.0,  # the noise is recorded as it was used
        num_euler_steps=context.num_euler_steps,
        max_frames=int(given["max_frames"]),
    )
    engine = Engine(model)
    try:
        chunks = [torch.from_numpy(chunk.samples) for chunk in engine.submit(request, trace=trace).chunks()]
    finally:
        engine.close()
    samples = torch.cat(chunks) if chunks else torch.zeros(0)
    yield f"{case}/frames", torch.stack(trace.audio_tokens)
    yield f"{case}/hidden", torch.stack(trace.hidden)
    yield f"{case}/x_final", torch.stack(trace.flow_states)
    yield f"{case}/waveform", samples
    yield f"{case}/waveform_streamed", samples


_GROUPS: tuple[tuple[str, Callable[[_Context], _Yield]], ...] = (
    ("prompt/", _prompts),
    ("embed_prompt/", _embedded_prompts),
    ("lm/", _backbone),
    ("rope/", _rope),
    ("frame_embed/", _frame_embeds),
    ("semantic/", _semantic),
    ("fm/", _flow),
    ("codec/", _codec_tables),
    ("codec/", _codec_decode),
    ("codec/", _codec_encode),
    ("e2e/", _end_to_end),
)
