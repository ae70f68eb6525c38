"""From an opened checkpoint to a model in memory, strictly and frugally.

Tensors are copied one at a time, so that loading needs little more than the final size. Names map to the attributes of
`VoxtralModel` by prefix alone; convolutions and matrices of few bits are put together from their parts.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor

from voxtral import __version__
from voxtral.config import QuantizationConfig
from voxtral.device import ComputePlan, is_out_of_memory, release_memory, run_aside
from voxtral.errors import CheckpointError, DeviceError, EncoderFileError
from voxtral.loading.checkpoint import Checkpoint, TensorReader, check_finite, fingerprint
from voxtral.loading.encoder_file import EncoderFile, read_encoder
from voxtral.loading.files import TOKENIZER_FILE, cache_folder
from voxtral.loading.inventory import (
    AUDIO_EMBEDDINGS,
    CODEBOOK,
    CODEC_PREFIX,
    DIRECTION,
    ENCODER_PREFIXES,
    GAIN,
    TEXT_EMBEDDINGS,
    TEXT_HEAD,
    TIME_TABLE,
    name_some,
)
from voxtral.model.codebooks import semantic_table
from voxtral.model.codec_encoder import CodecEncoder
from voxtral.model.kernels.dispatch import one_line
from voxtral.model.kernels.float8 import check_float8
from voxtral.model.linear import QuantizedLinear, describe_form
from voxtral.model.linear_weights import QuantizedWeight
from voxtral.model.voxtral import CodecModel, VoxtralModel, init_tables, prepare_for_inference
from voxtral.quantization.recipes import stored_precision
from voxtral.quantization.schemes import SCHEMES, Scheme
from voxtral.text.tokenizer import SpeechTokenizer, load_tokenizer

if TYPE_CHECKING:
    from voxtral.engine.options import EngineOptions  # training loads models too, and needs no engine

# Above this many parameters a CPU keeps the keys and values of preset voices on disk.
_KEPT_VOICE_PARAMETERS = 500_000_000


def load_as_planned(checkpoint: Checkpoint, compute: ComputePlan) -> VoxtralModel:
    """Load the weights for speaking: where and in which precision a plan says, prepared, in a thread of its own.

    Raises:
        CheckpointError: a file is damaged, or a value does not fit the dtype.
        DeviceError: the device ran out of memory all the same; the message shows the plan.
    """
    try:
        return run_aside(
            lambda: load_model(
                checkpoint,
                device=compute.device,
                dtype=compute.dtype,
                codec_dtype=compute.codec_dtype,
                quantization=compute.quantization,
                dequantized=compute.is_dequantized,
                prepared=True,
            )
        )
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        problem = one_line(str(error))
    # Outside of the handler: the error would hold what has been loaded.
    release_memory()
    planned = f" (planned: {compute.memory})" if compute.memory else ""
    raise DeviceError(
        f"out of memory on {compute.device} while the model was loaded{planned}: {problem}; load it with fewer bits "
        '(--quantize int4, quantize="int4"), or close what else uses the device'
    )


def load_model(
    checkpoint: Checkpoint,
    *,
    device: torch.device,
    dtype: torch.dtype,
    codec_dtype: torch.dtype,
    quantization: QuantizationConfig | None = None,
    dequantized: bool = False,
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
        dequantized: hold what the file has in few bits in `dtype`.
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
    for name, target, value in _converted(checkpoint, reader):
        precision = stored_precision(name, quantization)
        # A matrix that the file holds quantised is no tensor any more.
        if isinstance(value, Tensor) and quantization is not None and precision is not None:
            check_finite(name, value)
            value = SCHEMES[precision].fit(value.to(device), quantization.group_size)
        if dequantized and not isinstance(value, Tensor):
            value = value.to(device).to_dense(dtype)
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
        raise CheckpointError(f"the model and the inventory disagree about {name_some(sorted(left_over))}")
    model.codec.quantizer.semantic_table = _read_codebook(reader).to(device)
    model.text_embeddings = reader.map(TEXT_EMBEDDINGS)
    check_finite(TEXT_EMBEDDINGS, model.text_embeddings)
    init_tables(model, device)
    if prepared:
        prepare_for_inference(model)
    return model.eval().requires_grad_(False)


def load_codec(
    checkpoint: Checkpoint, *, device: torch.device, dtype: torch.dtype, codec_dtype: torch.dtype
) -> CodecModel:
    """Build what makes voices and sound, and leave the networks that speak in the file.

    Args:
        checkpoint: what to load.
        device: where to.
        dtype: of the embeddings, hence of the rows of voices.
        codec_dtype: of the codec.

    Raises:
        CheckpointError: as `load_model`.
    """
    with torch.device("meta"):
        model = CodecModel(checkpoint.config, has_encoder=checkpoint.has_encoder)
    reader = TensorReader(checkpoint)
    missing = set(dict(model.named_parameters()))
    for name, target, value in _converted(checkpoint, reader, is_wanted=_is_of_codec):
        if not isinstance(value, Tensor):
            value = value.to(device).to_dense(dtype)
        value = value.to(device=device, dtype=codec_dtype if target.startswith("codec") else dtype)
        check_finite(name, value)
        _assign(model, target, value)
        missing.remove(target)
    if missing:
        raise CheckpointError(f"the model and the inventory disagree about {name_some(sorted(missing))}")
    model.codec.quantizer.semantic_table = _read_codebook(reader).to(device)
    init_tables(model, device)
    return model.eval().requires_grad_(False)


def _is_of_codec(name: str) -> bool:
    return name.startswith((CODEC_PREFIX, AUDIO_EMBEDDINGS.removesuffix(".weight")))


def load_encoder(
    file: EncoderFile, checkpoint: Checkpoint, *, device: torch.device, dtype: torch.dtype
) -> CodecEncoder:
    """Build the codec encoder of an encoder file.

    Raises:
        EncoderFileError: a value is not finite, also in `dtype`, or the file cannot be read.
    """
    return make_encoder(read_encoder(file, checkpoint), checkpoint, device=device, dtype=dtype)


def make_encoder(
    tensors: Mapping[str, Tensor], checkpoint: Checkpoint, *, device: torch.device, dtype: torch.dtype
) -> CodecEncoder:
    """Build the codec encoder of tensors as a file has them.

    Raises:
        EncoderFileError: a value does not fit `dtype`.
    """
    with torch.device("meta"):
        encoder = CodecEncoder(checkpoint.config.codec)
    for name, value in tensors.items():
        if name.endswith(GAIN):
            continue
        target = name.removeprefix(CODEC_PREFIX)
        if name.endswith(DIRECTION):
            stem = name.removesuffix(DIRECTION)
            target = f"{stem.removeprefix(CODEC_PREFIX)}.weight"
            value = _fold_weight_norm(tensors[f"{stem}{GAIN}"], value)
        value = value.to(device=device, dtype=dtype)
        try:
            check_finite(name, value)
        except CheckpointError as error:
            raise EncoderFileError(str(error)) from error
        _assign(encoder, target, value)
    init_tables(encoder, device)
    return encoder.eval().requires_grad_(False)


def _read_codebook(reader: TensorReader) -> Tensor:
    sums, usage = reader.read(f"{CODEBOOK}embedding_sum"), reader.read(f"{CODEBOOK}cluster_usage")
    check_finite(f"{CODEBOOK}cluster_usage", usage)
    check_finite(f"{CODEBOOK}embedding_sum", sums)
    return semantic_table(sums, usage)


def _converted(
    checkpoint: Checkpoint, reader: TensorReader, *, is_wanted: Callable[[str], bool] = lambda name: True
) -> Iterator[tuple[str, str, Tensor | QuantizedWeight]]:
    """Yield (name, parameter, value) for all parameters that are wanted; convolutions folded, in float32."""
    for name in filter(is_wanted, checkpoint.tensors):
        if name in (TEXT_EMBEDDINGS, TEXT_HEAD, TIME_TABLE) or name.startswith(CODEBOOK):
            continue
        # A quantised matrix NAME.weight stands there as NAME.weight_int4, NAME.weight_scale and so on.
        stem, _, part = name.partition(".weight_")
        if part in SCHEMES:
            plain = f"{stem}.weight"
            yield plain, _parameter_name(plain), _read_quantised(reader, plain, SCHEMES[part])
        elif part or name.endswith(GAIN):
            continue  # read beside what it belongs to
        elif name.endswith(DIRECTION):
            stem = name.removesuffix(DIRECTION)
            weight = _fold_weight_norm(reader.read(f"{stem}{GAIN}"), reader.read(name))
            yield name, _parameter_name(f"{stem}.weight"), weight
        else:
            yield name, _parameter_name(name), reader.read(name)


def _read_quantised(reader: TensorReader, name: str, scheme: Scheme) -> QuantizedWeight:
    parts = {part: reader.read(f"{name}_{part}") for part in scheme.parts}
    for part, value in parts.items():
        if value.is_floating_point():
            check_finite(f"{name}_{part}", value)
    return scheme.weight(*parts.values())


def _fold_weight_norm(gain: Tensor, direction: Tensor) -> Tensor:
    # One norm for each index of dimension 0: the output channel of a convolution, the input channel
    # of a transposed one.
    weight = direction.to(torch.float32, copy=True)
    return weight.mul_(gain.float() / weight.flatten(1).norm(dim=1)[:, None, None])


def _parameter_name(name: str) -> str:
    """Map a checkpoint name to the attribute path in VoxtralModel: prefixes only."""
    if name == AUDIO_EMBEDDINGS:
        return "audio_embeddings.weight"
    if name == "norm.weight" or name.startswith("layers."):
        return f"backbone.{name}"
    if name.startswith(ENCODER_PREFIXES):
        return name.replace("audio_tokenizer.", "codec_encoder.", 1)
    return name.replace("audio_tokenizer.", "codec.", 1)


def _layer_of(target: str) -> str:
    """Give the path of the transformer layer that a parameter belongs to; empty if there is none."""
    match = re.match(r"(backbone|acoustic_transformer)\.layers\.\d+(?=\.)", target)
    return match.group() if match else ""


def _assign(model: torch.nn.Module, target: str, value: Tensor) -> None:
    parent_path, _, attribute = target.rpartition(".")
    setattr(model.get_submodule(parent_path), attribute, torch.nn.Parameter(value, requires_grad=False))


def _assign_quantised(model: VoxtralModel, target: str, value: QuantizedWeight, device: torch.device) -> None:
    """Put a quantised layer in the place of the one that a matrix belongs to, and keep its bias."""
    path = target.removesuffix(".weight")
    parent_path, _, attribute = path.rpartition(".")
    bias = cast("torch.nn.Parameter | None", model.get_submodule(path).bias)
    setattr(model.get_submodule(parent_path), attribute, QuantizedLinear(value.to(device), bias))


def open_tokenizer(checkpoint: Checkpoint) -> SpeechTokenizer:
    """Read the tokenizer of a checkpoint.

    Raises:
        TokenizerMissingError: mistral-common is not installed.
        CheckpointError: the file is missing or damaged, or belongs to another checkpoint.
    """
    tokenizer = load_tokenizer(checkpoint.folder / TOKENIZER_FILE)
    config = checkpoint.config
    if tokenizer.tokens.audio != config.audio_token_id:
        raise CheckpointError(
            f"tekken.json has [AUDIO] at {tokenizer.tokens.audio}, params.json at {config.audio_token_id}; both must "
            "come from one checkpoint; download it again"
        )
    if tokenizer.vocab_size > config.backbone.vocab_size:
        raise CheckpointError(
            f"tekken.json has {tokenizer.vocab_size} tokens, the model {config.backbone.vocab_size}; both must come "
            "from one checkpoint; download it again"
        )
    return tokenizer


def check_flow_dtype(options: EngineOptions | None, device: torch.device) -> None:
    """Refuse float8 for the flow where a GPU has none.

    Raises:
        DeviceError: the options ask for it, and the GPU is too old or Triton is not there.
    """
    if options is not None and options.flow_dtype == "float8":
        check_float8(device)


def keep_voices_on_disk(options: EngineOptions, checkpoint: Checkpoint, compute: ComputePlan) -> EngineOptions:
    """Let a large model on a CPU keep the voices' part of the prompt, which takes it seconds."""
    is_slow = compute.device.type == "cpu" and checkpoint.num_parameters > _KEPT_VOICE_PARAMETERS
    base = cache_folder()
    if options.prefix_folder is not None or not is_slow or base is None:
        return options
    # Products of another form round otherwise.
    products = "" if compute.quantization is None else describe_form(compute.device)
    made_by = f"{__version__} {compute.quantization} {products} {fingerprint(checkpoint)}"
    return replace(options, prefix_folder=base / "voices", prefix_fingerprint=made_by)
