"""Which tensors a config implies, how each is stored, and whether a file holds just these.

Knows names, shapes and dtypes, and reads nothing. Read next: docs/MODEL.md, "Checkpoint", and `voxtral.loading.load`,
which puts the tensors where the model wants them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from voxtral.config import (
    CodecConfig,
    ConvBlockConfig,
    ModelConfig,
    Precision,
    TransformerBlockConfig,
)
from voxtral.errors import CheckpointError
from voxtral.loading.files import WEIGHTS_FILE
from voxtral.loading.header import DTYPES, FLOAT_DTYPES, TensorEntry
from voxtral.quantization.recipes import stored_precision
from voxtral.quantization.schemes import SCHEMES

TEXT_EMBEDDINGS = "mm_audio_embeddings.tok_embeddings.weight"
AUDIO_EMBEDDINGS = "mm_audio_embeddings.audio_codebook_embeddings.embeddings.weight"
# Present where it is not tied to the embeddings; speech never evaluates it, so it is checked and not read.
TEXT_HEAD = "output.weight"
# Older exports store this table, which is computed; it is checked for its shape and not read.
TIME_TABLE = "acoustic_transformer.time_embedding.inv_freq"
CODEBOOK = "audio_tokenizer.quantizer.semantic_codebook."
CODEC_PREFIX = "audio_tokenizer."
ENCODER_PREFIXES = ("audio_tokenizer.input_proj.", "audio_tokenizer.encoder_blocks.")
# The two parts of a weight under weight norm.
GAIN, DIRECTION = ".parametrizations.weight.original0", ".parametrizations.weight.original1"


@dataclass(frozen=True)
class StoredAs:
    """How a tensor is stored; the dtype as a safetensors file names it."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def num_bytes(self) -> int:
        """Size of the data."""
        return DTYPES[self.dtype].itemsize * math.prod(self.shape)


def expected_tensors(config: ModelConfig, *, with_encoder: bool) -> dict[str, tuple[int, ...]]:
    """List names and shapes of all tensors that a checkpoint of this config holds.

    Source: docs/MODEL.md, "Checkpoint"; the published 4B file has 386 of them, 500 with encoder.
    """
    backbone, acoustic, books, codec = config.backbone, config.acoustic, config.codebooks, config.codec
    shapes: dict[str, tuple[int, ...]] = {
        TEXT_EMBEDDINGS: (backbone.vocab_size, backbone.dim),
        AUDIO_EMBEDDINGS: (books.embedding_rows, backbone.dim),
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
        f"{CODEBOOK}embedding_sum": (books.semantic_size, codec.semantic_dim),
        f"{CODEBOOK}cluster_usage": (books.semantic_size,),
    }
    shapes |= _output_projection(codec)
    shapes |= _codec_blocks(codec, "audio_tokenizer.decoder_blocks.", codec.decoder_blocks)
    return shapes | (encoder_tensors(config) if with_encoder else {})


def encoder_tensors(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """List names and shapes of the codec's encoder; the 4B has 114 of them."""
    codec = config.codec
    name = "audio_tokenizer.input_proj"
    if codec.mel_bands is None:
        shapes = _conv(codec, f"{name}.conv", (codec.dim, codec.patch_size, codec.patch_kernel))
    else:
        shapes = _linear(f"{name}.linear", codec.dim, codec.mel_bands)
    return shapes | _codec_blocks(codec, "audio_tokenizer.encoder_blocks.", codec.encoder_blocks)


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
    name, source_filter = "audio_tokenizer.output_proj", codec.source_filter_head
    if source_filter is not None:
        inputs = source_filter.pitch_frames * codec.latent_dim
        return (
            _linear(f"{name}.linear", source_filter.outputs_per_step, codec.dim)
            | _linear(f"{name}.pitch_in", source_filter.pitch_dim, inputs)
            | _linear(f"{name}.pitch_out", 2 * codec.steps_per_frame, source_filter.pitch_dim)
        )
    if codec.spectral_head:
        return _linear(f"{name}.linear", 2 * codec.num_bins, codec.dim)
    return _conv(codec, f"{name}.conv", (codec.patch_size, codec.dim, codec.patch_kernel))


def _linear(name: str, num_outputs: int, num_inputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (num_outputs, num_inputs), f"{name}.bias": (num_outputs,)}


def _conv(codec: CodecConfig, name: str, shape: tuple[int, int, int]) -> dict[str, tuple[int, ...]]:
    return _weight_norm(name, shape) if codec.conv_weight_norm else {f"{name}.weight": shape}


def _weight_norm(name: str, shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    return {f"{name}{GAIN}": (shape[0], 1, 1), f"{name}{DIRECTION}": shape}


def has_encoder(tensors: Collection[str]) -> bool:
    """Tell whether tensors of these names have some of the codec's encoder, and so must have all."""
    return any(name.startswith(ENCODER_PREFIXES) for name in tensors)


def plain_tensors(config: ModelConfig, present: Collection[str]) -> dict[str, tuple[int, ...]]:
    """List names and shapes of what a file with certain tensors must hold, matrices of few bits by their plain names.

    Args:
        config: of the file.
        present: names of its tensors; they say which of the optional ones it has.
    """
    shapes = expected_tensors(config, with_encoder=has_encoder(present))
    if TEXT_HEAD in present and not config.backbone.is_text_head_tied:
        shapes[TEXT_HEAD] = shapes[TEXT_EMBEDDINGS]
    if TIME_TABLE in present:
        shapes[TIME_TABLE] = (config.acoustic.dim // 2,)
    return shapes


def quantized_tensors(name: str, shape: tuple[int, ...], precision: Precision, group_size: int) -> dict[str, StoredAs]:
    """List what stands in a file for a quantised matrix, in the order of the fields of its canonical form."""
    num_rows, width = shape
    parts = SCHEMES[precision].parts.items()
    return {f"{name}_{key}": StoredAs(part.dtype, part.shape(num_rows, width, group_size)) for key, part in parts}


def check_inventory(config: ModelConfig, tensors: Mapping[str, TensorEntry]) -> None:
    """Compare the tensors of a file with those that its config implies.

    Raises:
        CheckpointError: naming the first tensors that are missing, extra, misshapen or of a wrong dtype; weights that
            are not quantised may be bfloat16, float16 and float32.
    """
    rules: dict[str, tuple[tuple[int, ...], tuple[str, ...]]] = {}
    for name, shape in plain_tensors(config, tensors).items():
        precision = stored_precision(name, config.quantization)
        if config.quantization is None or precision is None:
            rules[name] = (shape, tuple(FLOAT_DTYPES))
        else:
            parts = quantized_tensors(name, shape, precision, config.quantization.group_size)
            rules |= {part: (stored.shape, (stored.dtype,)) for part, stored in parts.items()}
    if missing := sorted(set(rules) - set(tensors)):
        raise CheckpointError(
            f"{WEIGHTS_FILE} lacks {name_some(missing)}; params.json implies {len(rules)} tensors; "
            "download the checkpoint again"
        )
    if extra := sorted(set(tensors) - set(rules)):
        raise CheckpointError(
            f"{WEIGHTS_FILE} holds {name_some(extra)}, which params.json does not imply; weights and params.json "
            "must come from one checkpoint"
        )
    for name, (shape, dtypes) in rules.items():
        entry = tensors[name]
        if entry.shape != shape:
            raise CheckpointError(
                f"{name} has shape {list(entry.shape)}; params.json implies {list(shape)}; weights and "
                "params.json must come from one checkpoint"
            )
        if entry.dtype not in dtypes:
            raise CheckpointError(f"{name} is stored as {entry.dtype}; it must be one of {', '.join(dtypes)}")


def name_some(names: list[str]) -> str:
    """Name the first three, and count the others.

    >>> name_some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
