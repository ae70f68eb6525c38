"""Checkpoints on disk: which tensors a config implies, and loading them strictly and frugally.

Every tensor of the file is accounted for by name, shape and dtype before the first byte of data is
read; then tensors are copied one at a time, so that loading needs little more than the final size.
Nothing is downloaded here (`voxtral.loading.hub` does that) and voices are read elsewhere (`voxtral.voices.prompt`).
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from voxtral.config import (
    BackboneConfig,
    CodecConfig,
    ConvBlockConfig,
    ModelConfig,
    Precision,
    QuantizationConfig,
    TransformerBlockConfig,
)
from voxtral.errors import CheckpointError
from voxtral.loading.params import load_config
from voxtral.model.codebooks import semantic_table
from voxtral.model.linear import QuantizedLinear
from voxtral.model.linear_weights import Int4Weight, Int8Weight, QuantizedWeight
from voxtral.model.voxtral import VoxtralModel, init_tables, prepare_for_inference
from voxtral.quantization.fit import quantize_weight, stored_precision

PARAMS_FILE = "params.json"
WEIGHTS_FILE = "consolidated.safetensors"
TOKENIZER_FILE = "tekken.json"
VOICE_FOLDER = "voice_embedding"

TEXT_EMBEDDINGS = "mm_audio_embeddings.tok_embeddings.weight"
_AUDIO_EMBEDDINGS = "mm_audio_embeddings.audio_codebook_embeddings.embeddings.weight"
# Present where it is not tied to the embeddings; speech never evaluates it, so it is checked and not read.
_TEXT_HEAD = "output.weight"
_CODEBOOK = "audio_tokenizer.quantizer.semantic_codebook."
_ENCODER_PREFIXES = ("audio_tokenizer.input_proj.", "audio_tokenizer.encoder_blocks.")
# Older exports store this table, which is computed; it is checked for its shape and not read.
_TIME_TABLE = "acoustic_transformer.time_embedding.inv_freq"
_GAIN, _DIRECTION = ".parametrizations.weight.original0", ".parametrizations.weight.original1"

_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
_ALL_DTYPES = _DTYPES | {"I8": torch.int8, "U8": torch.uint8}

# What stands in a file for a quantised matrix, beside its name, in the order of the fields of its canonical form.
_PARTS: dict[Precision, tuple[str, ...]] = {"int8": ("_int8", "_scale"), "int4": ("_int4", "_scale", "_zero")}
_INT4_PART, _GRID_PARTS = "weight_int4", ("weight_scale", "weight_zero")

_MAX_HEADER_BYTES = 100 * 2**20

# What `fingerprint` looks at: so many pieces of so many bytes, spread over the file.
_FINGERPRINT_SAMPLES, _FINGERPRINT_BYTES = 256, 4096


@dataclass(frozen=True)
class TensorEntry:
    """One tensor as the header of a safetensors file describes it; offsets in bytes from file start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def num_bytes(self) -> int:
        """Size of the data."""
        return self.stop - self.start


@dataclass(frozen=True)
class StoredAs:
    """What the header of a file must say of a tensor; dtype None is any of bfloat16, float16 and float32."""

    dtype: str | None
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder whose inventory has been checked; no data has been read yet."""

    folder: Path
    config: ModelConfig
    tensors: dict[str, TensorEntry]
    has_encoder: bool

    @property
    def num_parameters(self) -> int:
        """Numbers of the model: where a matrix is quantised, those of the matrix."""
        quantization = self.config.quantization
        return sum(
            math.prod(entry.shape) * (2 if name.endswith(_INT4_PART) else 1)
            for name, entry in self.tensors.items()
            if quantization is None or not name.endswith(_GRID_PARTS)
        )

    @property
    def data_bytes(self) -> int:
        """Bytes of tensor data in the file."""
        return sum(entry.num_bytes for entry in self.tensors.values())


def fingerprint(checkpoint: Checkpoint, *, with_time: bool = True) -> str:
    """Tell weights apart without reading all of them.

    A digest of params.json, the inventory, samples of the data and the time when the file was written, which
    tells of changes between the samples.

    Args:
        checkpoint: whose weights.
        with_time: False leaves the time out, for what should still be found after the same checkpoint was installed
            again.

    Raises:
        CheckpointError: a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        digest.update((checkpoint.folder / PARAMS_FILE).read_bytes())
        digest.update(repr(sorted(checkpoint.tensors.items())).encode())
        with (checkpoint.folder / WEIGHTS_FILE).open("rb") as file:
            size, written = os.fstat(file.fileno()).st_size, os.fstat(file.fileno()).st_mtime_ns
            digest.update(f"{size} {written if with_time else ''}".encode())
            for number in range(_FINGERPRINT_SAMPLES):
                file.seek(size * number // _FINGERPRINT_SAMPLES)
                digest.update(file.read(_FINGERPRINT_BYTES))
    except OSError as error:
        raise CheckpointError(f"{checkpoint.folder} cannot be read ({error.strerror}); check the disk") from error
    return digest.hexdigest()


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read params.json and the header of the weights, and check the inventory.

    Raises:
        CheckpointError: a file is missing or damaged, or a tensor is missing, extra, misshapen, of a
            wrong dtype or cut off; the message names it.
        ConfigError: params.json breaks a rule.
    """
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder; a checkpoint is a folder with {PARAMS_FILE} and {WEIGHTS_FILE}")
    config = load_config(folder / PARAMS_FILE)
    tensors = read_header(folder / WEIGHTS_FILE)
    check_inventory(config, tensors)
    has_encoder = any(name.startswith(_ENCODER_PREFIXES) for name in tensors)
    return Checkpoint(folder=folder, config=config, tensors=tensors, has_encoder=has_encoder)


def read_header(path: Path) -> dict[str, TensorEntry]:
    """Read the header of a safetensors file and check that all its data is there.

    Raises:
        CheckpointError: the file is missing, is no safetensors file, or ends before its data does.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            if size < 8 or not 2 <= header_bytes <= min(size - 8, _MAX_HEADER_BYTES):
                raise CheckpointError(
                    f"{path} is no safetensors file or is cut off ({size} bytes); download the checkpoint again"
                )
            header = json.loads(file.read(header_bytes), object_pairs_hook=_without_duplicates)
        header.pop("__metadata__", None)
        entries = [_parse_entry(name, value, 8 + header_bytes) for name, value in header.items()]
    except FileNotFoundError as error:
        raise CheckpointError(
            f"{path} is missing; a checkpoint folder needs it; download the checkpoint again"
        ) from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path} has no readable safetensors header ({error}); download it again") from error
    _check_layout(path, entries, 8 + header_bytes, size)
    return {entry.name: entry for entry in entries}


def _check_layout(path: Path, entries: list[TensorEntry], data_start: int, size: int) -> None:
    """Check that the data of all tensors lies end to end and fills the file."""
    position = data_start
    for entry in sorted(entries, key=lambda entry: (entry.start, entry.stop)):
        if entry.stop > size:
            raise CheckpointError(
                f"{path} is cut off: {entry.name} ends at byte {entry.stop}, the file at {size}; download it again"
            )
        if entry.start != position:
            raise CheckpointError(
                f"{path} is damaged: {entry.name} begins at byte {entry.start}, the data before it ends at {position}; "
                "tensors must lie end to end; download it again"
            )
        position = entry.stop
    if position != size:
        raise CheckpointError(
            f"{path} has {size - position} bytes after its last tensor; tensors must fill the file; download it again"
        )


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name occurs twice")
    return values


def _parse_entry(name: str, value: dict[str, Any], data_start: int) -> TensorEntry:
    begin, end = value["data_offsets"]
    shape = tuple(value["shape"])
    if not all(type(number) is int and number >= 0 for number in (begin, end, *shape)) or end < begin:
        raise ValueError(f"{name} has shape {value['shape']} and offsets {value['data_offsets']}")
    entry = TensorEntry(name, value["dtype"], shape, data_start + begin, data_start + end)
    if entry.dtype in _ALL_DTYPES and entry.num_bytes != math.prod(shape) * _ALL_DTYPES[entry.dtype].itemsize:
        raise ValueError(f"{name} holds {entry.num_bytes} bytes for shape {shape} in {entry.dtype}")
    return entry


def expected_tensors(config: ModelConfig, *, with_encoder: bool) -> dict[str, tuple[int, ...]]:
    """List names and shapes of all tensors that a checkpoint of this config holds.

    Source: docs/MODEL.md, "Checkpoint"; the published 4B file has 386 of them, 500 with encoder.
    """
    backbone, acoustic, books, codec = config.backbone, config.acoustic, config.codebooks, config.codec
    shapes: dict[str, tuple[int, ...]] = {
        TEXT_EMBEDDINGS: (backbone.vocab_size, backbone.dim),
        _AUDIO_EMBEDDINGS: (books.embedding_rows, backbone.dim),
        "norm.weight": (backbone.dim,),
    }
    for layer in range(backbone.num_layers):
        shapes |= _attention_layer(f"layers.{layer}.", backbone, use_biases=False)
    head = "acoustic_transformer."
    shapes |= {
        f"{head}input_projection.weight": (acoustic.dim, books.num_acoustic),
        f"{head}time_projection.weight": (acoustic.dim, acoustic.dim),
        f"{head}llm_projection.weight": (acoustic.dim, acoustic.input_dim),
        f"{head}semantic_codebook_output.weight": (books.semantic_head_rows, acoustic.dim),
        f"{head}acoustic_codebook_output.weight": (books.num_acoustic, acoustic.dim),
        f"{head}norm.weight": (acoustic.dim,),
    }
    if acoustic.use_biases:
        width, kv_width = acoustic.num_heads * acoustic.head_dim, acoustic.num_kv_heads * acoustic.head_dim
        shapes[f"{head}semantic_codebook_output.bias"] = (books.semantic_head_rows,)
        for layer in range(acoustic.num_layers):
            shapes[f"{head}layers.{layer}.attention.wq.bias"] = (width,)
            shapes[f"{head}layers.{layer}.attention.wv.bias"] = (kv_width,)
    for layer in range(acoustic.num_layers):
        shapes |= _attention_layer(f"{head}layers.{layer}.", acoustic, use_biases=acoustic.use_biases)
    shapes |= {
        f"{_CODEBOOK}embedding_sum": (books.semantic_size, codec.semantic_dim),
        f"{_CODEBOOK}cluster_usage": (books.semantic_size,),
    }
    shapes |= _output_projection(codec)
    shapes |= _codec_blocks(codec, "audio_tokenizer.decoder_blocks.", codec.decoder_blocks)
    if with_encoder:
        shapes |= _conv(codec, "audio_tokenizer.input_proj.conv", (codec.dim, codec.patch_size, codec.patch_kernel))
        shapes |= _codec_blocks(codec, "audio_tokenizer.encoder_blocks.", codec.encoder_blocks)
    return shapes


def _attention_layer(prefix: str, config: Any, *, use_biases: bool) -> dict[str, tuple[int, ...]]:
    """Name the tensors that the layers of all three networks have in common."""
    width, kv_width = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        f"{prefix}attention.wq.weight": (width, config.dim),
        f"{prefix}attention.wk.weight": (kv_width, config.dim),
        f"{prefix}attention.wv.weight": (kv_width, config.dim),
        f"{prefix}attention.wo.weight": (config.dim, width),
        f"{prefix}attention_norm.weight": (config.dim,),
        f"{prefix}ffn_norm.weight": (config.dim,),
        f"{prefix}feed_forward.w1.weight": (config.hidden_dim, config.dim),
        f"{prefix}feed_forward.w2.weight": (config.dim, config.hidden_dim),
        f"{prefix}feed_forward.w3.weight": (config.hidden_dim, config.dim),
    }
    if use_biases:
        shapes |= {f"{prefix}attention.wo.bias": (config.dim,), f"{prefix}feed_forward.w2.bias": (config.dim,)}
    return shapes


def _codec_blocks(codec: CodecConfig, prefix: str, blocks: tuple[Any, ...]) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}
    for block in blocks:
        if isinstance(block, ConvBlockConfig):
            channels = (block.in_channels, block.out_channels)
            shape = (*channels, block.kernel) if block.kind == "transposed" else (*channels[::-1], block.kernel)
            # Only input_proj and output_proj heed conv_weight_norm; block convolutions always have it.
            shapes |= _weight_norm(f"{prefix}{block.index}.conv", shape)
        elif isinstance(block, TransformerBlockConfig):
            for layer in range(block.num_layers):
                shapes |= _codec_layer(codec, f"{prefix}{block.index}.layers.{layer}.")
    return shapes


def _codec_layer(codec: CodecConfig, prefix: str) -> dict[str, tuple[int, ...]]:
    shapes = _attention_layer(prefix, codec, use_biases=codec.use_biases)
    if codec.qk_norm:
        shapes |= {
            f"{prefix}attention.q_norm.weight": (codec.num_heads * codec.head_dim,),
            f"{prefix}attention.k_norm.weight": (codec.num_kv_heads * codec.head_dim,),
        }
    if codec.layer_scale:
        shapes |= {f"{prefix}attention_scale": (codec.dim,), f"{prefix}ffn_scale": (codec.dim,)}
    return shapes


def _output_projection(codec: CodecConfig) -> dict[str, tuple[int, ...]]:
    name = "audio_tokenizer.output_proj"
    if not codec.spectral_head:
        return _conv(codec, f"{name}.conv", (codec.patch_size, codec.dim, codec.patch_kernel))
    rows = 2 * codec.num_bins
    return {f"{name}.linear.weight": (rows, codec.dim), f"{name}.linear.bias": (rows,)}


def _conv(codec: CodecConfig, name: str, shape: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    return _weight_norm(name, shape) if codec.conv_weight_norm else {f"{name}.weight": shape}


def _weight_norm(name: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {f"{name}{_GAIN}": (shape[0], 1, 1), f"{name}{_DIRECTION}": shape}


def check_inventory(config: ModelConfig, tensors: dict[str, TensorEntry]) -> None:
    """Compare the tensors of a file with those that its config implies.

    Raises:
        CheckpointError: naming the first tensors that are missing, extra, misshapen or of a dtype other
            than bfloat16, float16 and float32.
    """
    with_encoder = any(name.startswith(_ENCODER_PREFIXES) for name in tensors)
    expected = expected_tensors(config, with_encoder=with_encoder)
    if _TEXT_HEAD in tensors and not config.backbone.is_text_head_tied:
        expected[_TEXT_HEAD] = expected[TEXT_EMBEDDINGS]
    if _TIME_TABLE in tensors:
        expected[_TIME_TABLE] = (config.acoustic.dim // 2,)
    stored = _stored_tensors(expected, config.quantization)
    present = set(tensors)
    missing, extra = sorted(set(stored) - present), sorted(present - set(stored))
    if missing:
        raise CheckpointError(
            f"{WEIGHTS_FILE} lacks {_name_some(missing)}; params.json implies {len(stored)} tensors; "
            "download the checkpoint again"
        )
    if extra:
        raise CheckpointError(
            f"{WEIGHTS_FILE} holds {_name_some(extra)}, which params.json does not imply; weights and params.json "
            "must come from one checkpoint"
        )
    for name, rule in stored.items():
        entry = tensors[name]
        if entry.shape != rule.shape:
            raise CheckpointError(
                f"{name} has shape {list(entry.shape)}; params.json implies {list(rule.shape)}; weights and "
                "params.json must come from one checkpoint"
            )
        allowed = tuple(_DTYPES) if rule.dtype is None else (rule.dtype,)
        if entry.dtype not in allowed:
            raise CheckpointError(f"{name} is stored as {entry.dtype}; it must be one of {', '.join(allowed)}")


def quantized_tensors(name: str, shape: tuple[int, ...], precision: Precision, group_size: int) -> dict[str, StoredAs]:
    """List what stands in a file for a quantised matrix, in the order of the fields of its canonical form.

    Source: docs/QUANTIZATION.md, "The file".
    """
    num_rows, width = shape
    if precision == "int8":
        rules = (StoredAs("I8", shape), StoredAs("F32", (num_rows,)))
    else:
        groups = (num_rows, width // group_size)
        rules = (StoredAs("U8", (num_rows, width // 2)), StoredAs("BF16", groups), StoredAs("F16", groups))
    return {f"{name}{part}": rule for part, rule in zip(_PARTS[precision], rules, strict=True)}


def _stored_tensors(shapes: dict[str, tuple[int, ...]], quantization: QuantizationConfig | None) -> dict[str, StoredAs]:
    """Say how each tensor of a checkpoint is stored, quantised ones in their parts."""
    stored: dict[str, StoredAs] = {}
    for name, shape in shapes.items():
        precision = stored_precision(name, quantization)
        if quantization is None or precision is None:
            stored[name] = StoredAs(None, shape)
        else:
            stored |= quantized_tensors(name, shape, precision, quantization.group_size)
    return stored


def _name_some(names: list[str]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def load_model(
    checkpoint: Checkpoint,
    *,
    device: torch.device,
    dtype: torch.dtype,
    codec_dtype: torch.dtype,
    quantization: QuantizationConfig | None = None,
    prepared: bool = False,
) -> VoxtralModel:
    """Build the model and copy the weights, one tensor at a time.

    The text embeddings stay memory-mapped; the computed tables are float32; convolutions get their
    weight norm folded in float32 before they are cast.

    Args:
        checkpoint: what to load.
        device: where to.
        dtype: of what is not quantised, the codec excepted.
        codec_dtype: of the codec.
        quantization: quantise while loading; a checkpoint that is quantised already is loaded as it is.
        prepared: see `prepare_for_inference`; each layer is prepared as soon as it is there, so that no second copy
            of more than a layer is ever held.

    Raises:
        CheckpointError: a value is not finite, or overflows in `dtype`; the message names the tensor.
    """
    with torch.device("meta"):
        model = VoxtralModel(checkpoint.config, has_encoder=checkpoint.has_encoder)
    reader = TensorReader(checkpoint)
    targets = dict(model.named_parameters())
    filled: set[str] = set()
    num_missing = Counter(_layer_of(target) for target in targets)
    for name, target, value in _converted(reader, checkpoint):
        precision = stored_precision(name, quantization)
        # A matrix that the file holds quantised is no tensor any more.
        if isinstance(value, Tensor) and quantization is not None and precision is not None:
            check_finite(name, value)
            value = quantize_weight(value.to(device), precision, quantization.group_size)
        if isinstance(value, Tensor):
            value = value.to(device=device, dtype=codec_dtype if target.startswith("codec") else dtype)
            check_finite(name, value)
            _assign(model, target, value)
        else:
            _assign_quantised(model, target, value, device)
        filled.add(target)
        num_missing[layer := _layer_of(target)] -= 1
        if prepared and layer and not num_missing[layer]:
            prepare_for_inference(model.get_submodule(layer))
    left_over = set(targets) ^ filled
    if left_over:
        raise CheckpointError(f"the model and the inventory disagree about {_name_some(sorted(left_over))}")
    model.codec.quantizer.semantic_table = _read_codebook(reader).to(device)
    model.text_embeddings = reader.map(TEXT_EMBEDDINGS)
    check_finite(TEXT_EMBEDDINGS, model.text_embeddings)
    init_tables(model, device)
    if prepared:
        prepare_for_inference(model)
    return model.eval().requires_grad_(False)


class TensorReader:
    """Reads tensors of one checkpoint, one at a time."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._path = checkpoint.folder / WEIGHTS_FILE
        self._tensors = checkpoint.tensors

    def read(self, name: str) -> Tensor:
        """Read one tensor into memory, in its stored dtype.

        Raises:
            CheckpointError: the file ends early or cannot be read.
        """
        entry = self._tensors[name]
        # Read, not mapped: copying through a mapping faults page by page and is several times slower.
        data = np.empty(entry.num_bytes, dtype=np.uint8)
        try:
            with self._path.open("rb", buffering=0) as file:
                file.seek(entry.start)
                view, num_read = data.data, 0
                while num_read < len(data) and (count := file.readinto(view[num_read:])):
                    num_read += count
        except OSError as error:
            raise CheckpointError(
                f"{self._path} cannot be read at {name} ({error.strerror}); check the disk"
            ) from error
        if num_read < len(data):
            raise CheckpointError(f"{self._path} ended inside {name} while it was read; download it again")
        return torch.from_numpy(data).view(_ALL_DTYPES[entry.dtype]).view(entry.shape)

    def map(self, name: str) -> Tensor:
        """Return a tensor that stays in the file and costs memory only where it is looked at."""
        entry = self._tensors[name]
        if entry.start % _DTYPES[entry.dtype].itemsize:
            return self.read(name)  # a view needs aligned data; well-made files always have it
        # Copy-on-write: torch refuses read-only memory, and nobody writes.
        mapped = np.memmap(self._path, dtype=np.uint8, mode="c", offset=entry.start, shape=(entry.num_bytes,))
        return torch.from_numpy(mapped).view(_DTYPES[entry.dtype]).view(entry.shape)


def _read_codebook(reader: TensorReader) -> Tensor:
    sums, usage = reader.read(f"{_CODEBOOK}embedding_sum"), reader.read(f"{_CODEBOOK}cluster_usage")
    check_finite(f"{_CODEBOOK}cluster_usage", usage)
    check_finite(f"{_CODEBOOK}embedding_sum", sums)
    return semantic_table(sums, usage)


def _converted(reader: TensorReader, checkpoint: Checkpoint) -> Iterator[tuple[str, str, Tensor | QuantizedWeight]]:
    """Yield (name, parameter, value) for all parameters; convolutions folded, in float32."""
    skipped = {TEXT_EMBEDDINGS, _TEXT_HEAD, _TIME_TABLE}
    is_quantised = checkpoint.config.quantization is not None
    for name in checkpoint.tensors:
        if name in skipped or name.startswith(_CODEBOOK) or name.endswith(_GAIN):
            continue
        if is_quantised and name.endswith(_GRID_PARTS):
            continue  # read beside the numbers that they belong to
        if is_quantised and name.endswith(tuple(parts[0] for parts in _PARTS.values())):
            plain = name.rpartition("_")[0]
            yield (
                plain,
                _parameter_name(plain),
                _read_quantised(reader, plain, "int8" if name.endswith("8") else "int4"),
            )
        elif name.endswith(_DIRECTION):
            stem = name.removesuffix(_DIRECTION)
            weight = _fold_weight_norm(reader.read(f"{stem}{_GAIN}"), reader.read(name))
            yield name, _parameter_name(f"{stem}.weight"), weight
        else:
            yield name, _parameter_name(name), reader.read(name)


def _read_quantised(reader: TensorReader, name: str, precision: Precision) -> QuantizedWeight:
    numbers, *grid = (reader.read(f"{name}{part}") for part in _PARTS[precision])
    for part, value in zip(_PARTS[precision][1:], grid, strict=True):
        check_finite(f"{name}{part}", value)
    return Int8Weight(numbers, *grid) if precision == "int8" else Int4Weight(numbers, *grid)


def _fold_weight_norm(gain: Tensor, direction: Tensor) -> Tensor:
    # One norm for each index of dimension 0: the output channel of a convolution, the input channel
    # of a transposed one.
    weight = direction.to(torch.float32, copy=True)
    return weight.mul_(gain.float() / weight.flatten(1).norm(dim=1)[:, None, None])


def _parameter_name(name: str) -> str:
    """Map a checkpoint name to the attribute path in VoxtralModel: prefixes only."""
    if name == _AUDIO_EMBEDDINGS:
        return "audio_embeddings.weight"
    if name == "norm.weight" or name.startswith("layers."):
        return f"backbone.{name}"
    if name.startswith(_ENCODER_PREFIXES):
        return name.replace("audio_tokenizer.", "codec_encoder.", 1)
    return name.replace("audio_tokenizer.", "codec.", 1)


def _layer_of(target: str) -> str:
    """Give the path of the transformer layer that a parameter belongs to; empty if there is none."""
    match = re.match(r"(backbone|acoustic_transformer)\.layers\.\d+(?=\.)", target)
    return match.group() if match else ""


def check_finite(name: str, value: Tensor) -> None:
    """Refuse a tensor with a value that is infinite or no number.

    Raises:
        CheckpointError: naming the tensor.
    """
    # The extremes show any inf or nan, and take no memory as a mask or a sum in float32 would.
    if value.numel() and not bool(torch.isfinite(torch.stack(torch.aminmax(value))).all()):
        raise CheckpointError(
            f"{name} holds values that are not finite in {str(value.dtype).removeprefix('torch.')}; the file is "
            "damaged, or its values do not fit that dtype; download it again or choose bfloat16 or float32"
        )


def _assign(model: VoxtralModel, target: str, value: Tensor) -> None:
    parent_path, _, attribute = target.rpartition(".")
    setattr(model.get_submodule(parent_path), attribute, torch.nn.Parameter(value, requires_grad=False))


def _assign_quantised(model: VoxtralModel, target: str, value: QuantizedWeight, device: torch.device) -> None:
    """Put a quantised layer in the place of the one that a matrix belongs to, and keep its bias."""
    path = target.removesuffix(".weight")
    parent_path, _, attribute = path.rpartition(".")
    bias = cast("torch.nn.Parameter | None", model.get_submodule(path).bias)
    setattr(model.get_submodule(parent_path), attribute, QuantizedLinear(value.to(device), bias))


def backbone_parameter_count(config: BackboneConfig) -> int:
    """Count the parameters that every decode step reads: layers and norm, no embeddings."""
    layer = _attention_layer("", config, use_biases=False)
    return config.num_layers * sum(math.prod(shape) for shape in layer.values()) + config.dim
