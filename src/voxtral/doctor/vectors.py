"""Golden vectors: every entry of a set, computed by the product's own code and compared.

A set is two files, vectors.json and vectors.safetensors. Cases, names and sizes come from the set;
nothing is assumed about them but the meaning of the name parts, which `_GROUPS` lists.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import load_file
from torch import Tensor

from voxtral.checkpoint import TOKENIZER_FILE, Checkpoint, load_model
from voxtral.config import END_AUDIO, NUM_SPECIAL_CODES
from voxtral.engine.engine import Engine
from voxtral.engine.sequence import GenerationRequest, GenerationTrace
from voxtral.errors import CheckpointError
from voxtral.model.acoustic import embed_time, time_inverse_frequencies
from voxtral.model.layers import apply_rope, rope_inverse_frequencies
from voxtral.model.voxtral import VoxtralModel
from voxtral.text.prompt import build_prompt, prompt_from_ids
from voxtral.text.tokenizer import SpeechTokenizer, TokenizerMissingError, load_tokenizer
from voxtral.voices import list_presets, load_voice

Kind = Literal["output", "input", "informational"]

# Code paths of the engine that e2e cases go through; each must give the same frames.
CODE_PATHS: tuple[str, ...] = ("eager",)


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
    missing = sorted(set(entries) ^ set(tensors))
    if missing:
        raise CheckpointError(f"vectors.json and vectors.safetensors disagree about {missing[0]}; copy the set again")
    return VectorSet(tensors, entries, described.get("cases", {}), described.get("constants", {}))


@dataclass(frozen=True)
class _Skip:
    reason: str


@dataclass(frozen=True)
class _Input:
    pass


@dataclass(frozen=True)
class _Quirk:
    """A value that the official code has and this product on purpose has not."""

    value: Tensor
    reason: str


_Value = Tensor | _Skip | _Input | _Quirk
_Yield = Iterator[tuple[str, _Value]]


@dataclass(frozen=True)
class _Context:
    checkpoint: Checkpoint
    model: VoxtralModel
    tokenizer: SpeechTokenizer | None
    no_tokenizer: str
    vectors: VectorSet
    code_path: str = CODE_PATHS[0]

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
    tokenizer, reason = _load_tokenizer(checkpoint)
    with _without_tf32(), torch.inference_mode():
        context = _Context(checkpoint, _load(checkpoint, device, torch.float32), tokenizer, reason, vectors)
        values, errors = _compute(context)
        for path in CODE_PATHS[1:]:
            other, more_errors = _compute(replace(context, code_path=path), prefix="e2e/")
            values = _keep_worse(vectors, values, other)
            errors |= more_errors
        results = {name: _judge(vectors, name, values, errors) for name in vectors.entries}
        if vectors.under("bf16/"):
            results |= _run_bf16(replace(context, model=_load(checkpoint, device, torch.bfloat16)))
    return VectorReport(tuple(results.values()))


def _load(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> VoxtralModel:
    return load_model(checkpoint, device=device, dtype=dtype, codec_dtype=dtype)


def _load_tokenizer(checkpoint: Checkpoint) -> tuple[SpeechTokenizer | None, str]:
    try:
        return load_tokenizer(checkpoint.folder / TOKENIZER_FILE), ""
    except (TokenizerMissingError, CheckpointError) as error:
        return None, str(error)


class _without_tf32:
    """Full float32 products on GPUs that would shorten them."""

    def __enter__(self) -> None:
        self._before = (torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False

    def __exit__(self, *_: object) -> None:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = self._before


def _compute(context: _Context, prefix: str = "") -> tuple[dict[str, _Value], dict[str, str]]:
    """Run the groups; a group that raises leaves its remaining entries to the error."""
    values: dict[str, _Value] = {}
    errors: dict[str, str] = {}
    for group_prefix, group in _GROUPS.items():
        if not group_prefix.startswith(prefix):
            continue
        try:
            for name, value in group(context):
                if context.vectors.has(name):
                    values[name] = value
        # A broken computation is a failed entry, not the end of the report.
        except Exception as error:  # noqa: BLE001
            errors[group_prefix] = f"{type(error).__name__}: {error}"
    return values, errors


def _keep_worse(vectors: VectorSet, first: dict[str, _Value], second: dict[str, _Value]) -> dict[str, _Value]:
    def distance(name: str, value: _Value) -> float:
        return _max_abs(value, vectors.tensors[name]) if isinstance(value, Tensor) else -1.0

    worse = {name: value for name, value in second.items() if distance(name, value) > distance(name, first[name])}
    return first | worse


def _judge(vectors: VectorSet, name: str, values: Mapping[str, _Value], errors: Mapping[str, str]) -> EntryResult:
    entry = EntryResult(name, "output", vectors.entries[name].get("tolerance"))
    if name.startswith(("bf16/", "prompt_full_vocab/", "codec/bf16_divided_table/")):
        reason = "needs the published vocabulary" if name.startswith("prompt_full") else "official serving rounding"
        return replace(entry, kind="informational", detail=reason)
    value = values.get(name)
    if isinstance(value, _Input):
        return replace(entry, kind="input")
    if isinstance(value, _Skip):
        return replace(entry, detail=value.reason)
    if isinstance(value, _Quirk):
        return replace(entry, kind="informational", detail=value.reason)
    if value is None:
        error = next((text for prefix, text in errors.items() if name.startswith(prefix)), "no check knows this entry")
        return replace(entry, ok=False, detail=error)
    reference = vectors.tensors[name]
    if value.shape != reference.shape:
        return replace(entry, ok=False, detail=f"shape {list(value.shape)}, expected {list(reference.shape)}")
    return replace(entry, ok=_within(value, reference, entry.tolerance), max_abs=_max_abs(value, reference))


def _max_abs(value: Tensor, reference: Tensor) -> float:
    if value.shape != reference.shape:
        return float("inf")
    value, reference = value.cpu().double(), reference.double()
    # Equal infinities (masked logits) differ by nothing; any other meeting of them by infinity.
    difference = torch.where(value == reference, 0.0, (value - reference).abs())
    infinite = torch.full_like(difference, torch.inf)
    return float(torch.where(difference.isnan(), infinite, difference).max()) if difference.numel() else 0.0


def _within(value: Tensor, reference: Tensor, tolerance: Any) -> bool:
    if not isinstance(tolerance, dict):
        return bool(torch.equal(value.cpu().to(reference.dtype), reference))
    value, reference = value.cpu().double(), reference.double()
    allowed = float(tolerance.get("atol", 0.0)) + float(tolerance.get("rtol", 0.0)) * reference.abs().nan_to_num()
    difference = torch.where(value == reference, 0.0, (value - reference).abs())
    return bool((difference <= allowed.nan_to_num(posinf=0.0)).all())


def _run_bf16(context: _Context) -> dict[str, EntryResult]:
    """Compare our bfloat16 with the official one where a counterpart exists; informational."""
    values, _ = _compute(context)
    results: dict[str, EntryResult] = {}
    for name in context.vectors.under("bf16/"):
        tolerance = context.vectors.entries[name].get("tolerance")
        result = EntryResult(name, "informational", tolerance, detail="official serving rounding")
        value = values.get(name.removeprefix("bf16/"))
        reference = context.vectors.tensors[name]
        if isinstance(value, Tensor) and value.shape == reference.shape:
            distance = _max_abs(value, reference)
            rms = float((value.cpu().double() - reference.double()).norm() / reference.double().norm().clamp(min=1e-12))
            bound = tolerance.get("relative_rms") if isinstance(tolerance, dict) else None
            ok = None if bound is None else rms <= float(bound)
            result = replace(result, max_abs=distance, ok=ok, detail=f"relative rms {rms:.2g} to the official bf16")
        results[name] = result
    return results


# The groups: what an entry's name means, and which code of the product makes it.


def _prompts(context: _Context) -> _Yield:
    for case, given in context.vectors.cases.items():
        if not case.startswith("prompt/"):
            continue
        if "ref_audio" in given:
            yield from _clip_prompt(context, case, given)
        elif "n_samples_24k" in given:
            num_rows = context.model.config.codec.num_frames(int(given["n_samples_24k"])) + 1
            value = _prompt_ids(context, given["text"], num_rows)
            stated = int(given.get("n_audio_placeholders", num_rows))
            if isinstance(value, Tensor) and stated != num_rows:
                value = _Quirk(value, f"mistral-common counts {stated} placeholders for {num_rows} rows")
            yield f"{case}/ids", value
        else:
            yield f"{case}/ids", _prompt_ids(context, given["text"], context.voice_rows(given["voice"]).shape[0])


def _prompt_ids(context: _Context, text: str, num_rows: int) -> Tensor | _Skip:
    if context.tokenizer is None:
        return _Skip(context.no_tokenizer)
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
    model = context.model
    for case, given in context.vectors.cases.items():
        if not case.startswith("embed_prompt/"):
            continue
        if "audio" in given:
            yield from _embedded_clip(context, case, given)
            continue
        rows = context.voice_rows(given["voice"])
        yield f"{case}/ids", _prompt_ids(context, given["text"], rows.shape[0])
        ids = context.get(f"{case}/ids")
        yield f"{case}/text_embeds_only", model.embed_text(ids)
        yield f"{case}/embeds", model.embed_prompt(ids, rows)


def _embedded_clip(context: _Context, case: str, given: Mapping[str, Any]) -> _Yield:
    if context.model.codec_encoder is None:
        yield f"{case}/codes", _Skip(_NO_ENCODER)
    else:
        yield f"{case}/codes", context.model.encode_audio(context.get(given["audio"]))
    rows = context.model.embed_codes(context.get(f"{case}/codes"))
    yield f"{case}/audio_embeds", rows
    yield f"{case}/embeds", context.model.embed_prompt(context.get(given["ids"]), rows)


def _backbone(context: _Context) -> _Yield:
    backbone, vectors = context.model.backbone, context.vectors
    prompts = [name for name in vectors.holders("lm/", "hidden") if vectors.has(f"{name}/embeds")]
    cache = None
    for name in (name for name in prompts if not vectors.has(f"{name}/frames")):
        yield f"{name}/embeds", _Input()
        embeds = context.floats(f"{name}/embeds")
        cache = context.model.init_kv_cache(
            embeds.shape[0] + sum(vectors.tensors[n].shape[0] for n in vectors.under("lm/"))
        )
        x = embeds[None]
        for layer, x in enumerate(backbone.layer_outputs(embeds[None], cache)):
            yield f"{name}/layer{layer}_residual", x[0]
        yield f"{name}/hidden", backbone.norm(x[0])
    for name in (name for name in prompts if vectors.has(f"{name}/frames")):
        yield f"{name}/frames", _Input()
        frames = context.get(f"{name}/frames")
        yield f"{name}/embeds", context.model.embed_frames(frames)
        if cache is None:
            raise CheckpointError(f"{name} continues a prompt, and the set has none under lm/")
        yield f"{name}/hidden", torch.cat([context.model.decode_step(frame[None], cache) for frame in frames])


def _rope(context: _Context) -> _Yield:
    yield "rope/x", _Input()
    yield "rope/positions", _Input()
    config = context.model.config.backbone
    if context.vectors.has("rope/x"):
        frequencies = rope_inverse_frequencies(config.head_dim, config.rope_theta).to(context.model.device)
        x = context.floats("rope/x").transpose(0, 1)  # [H, T, Dh]
        yield "rope/y", apply_rope(x, context.get("rope/positions"), frequencies).transpose(0, 1)


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
_BIAS_NAME = re.compile(r"codec/attn_bias/block(\d+)_window(\d+)")
_WEIGHT_NAME = re.compile(r"codec/(decoder|encoder)_block(\d+)_weight")


def _codec_tables(context: _Context) -> _Yield:
    codec, vectors = context.model.codec, context.vectors
    yield "codec/alibi_slopes", torch.tensor(codec.config.alibi_slopes)
    yield "codec/output_proj_weight", codec.output_proj.conv.weight
    encoder = context.model.codec_encoder
    yield "codec/input_proj_weight", encoder.input_proj.conv.weight if encoder else _Skip(_NO_ENCODER)
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
    for case, given in context.vectors.cases.items():
        if case.startswith("e2e/"):
            yield from _generation(context, case, given)


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
        chunks = [torch.from_numpy(chunk) for chunk in engine.submit(request, trace=trace).chunks()]
    finally:
        engine.close()
    samples = torch.cat(chunks) if chunks else torch.zeros(0)
    yield f"{case}/frames", torch.stack(trace.audio_tokens)
    yield f"{case}/hidden", torch.stack(trace.hidden)
    yield f"{case}/x_final", torch.stack(trace.flow_states)
    yield f"{case}/waveform", samples
    yield f"{case}/waveform_streamed", samples


_GROUPS: dict[str, Callable[[_Context], _Yield]] = {
    "prompt/": _prompts,
    "embed_prompt/": _embedded_prompts,
    "lm/": _backbone,
    "rope/": _rope,
    "frame_embed/": _frame_embeds,
    "semantic/": _semantic,
    "fm/": _flow,
    "codec/": _codec_tables,
    "codec/decode": _codec_decode,
    "codec/encode": _codec_encode,
    "e2e/": _end_to_end,
}
