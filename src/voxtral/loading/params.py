"""Reading params.json: what it says of a model, checked, as a `ModelConfig`.

The official names and defaults of its keys are here, and so is what this package refuses to compute. It reads a
dictionary or a file and knows no tensors. Read next: `voxtral.config` (the values) and docs/MODEL.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

from voxtral.config import (
    PUBLISHED_LANGUAGES,
    AcousticConfig,
    BackboneConfig,
    CodebookConfig,
    CodecBlock,
    CodecConfig,
    ConvBlockConfig,
    GenerationDefaults,
    ModelConfig,
    Precision,
    QuantizationConfig,
    SourceFilterConfig,
    TransformerBlockConfig,
)
from voxtral.disk import ABSENT, UnfitFileError, read_regular
from voxtral.errors import ConfigError, quoted
from voxtral.loading.section import Section
from voxtral.options import GUIDANCE_SCALE, NOISE_SCALE, NUM_EULER_STEPS

# Far above any model of this family; a damaged file must not make us list millions of tensors.
_MAX_LAYERS = 1000

# The published file has 3 kB.
_MAX_FILE_BYTES = 2**20

# What no tensor of the file vouches for and memory or time is set aside for: twice the longest context, the
# highest sample rate and the widest window that anybody uses; and the tables of transforms, which grow with the square.
_MAX_POSITIONS, _MAX_SAMPLE_RATE, _MAX_WINDOW, _MAX_SEGMENT_CHARS = 2**17, 384_000, 2**14, 100_000
_MAX_SOURCE_PATCH = 1024

# Name and version of the layout of matrices of few bits (docs/QUANTIZATION.md, "The file").
QUANTIZATION_FORMAT = "voxtral-1"
_PRECISIONS: tuple[Precision, ...] = get_args(Precision)


def load_config(path: Path) -> ModelConfig:
    """Read params.json.

    Raises:
        ConfigError: the file is missing, cannot be read, is no JSON object, or breaks a rule of `parse_config`.
    """
    try:
        raw = json.loads(read_regular(path, max_bytes=_MAX_FILE_BYTES).decode(), parse_constant=_refuse_constant)
    except UnfitFileError as error:
        raise ConfigError(f"{path} {error}; it must be the checkpoint's own params.json; download it again") from error
    except ABSENT as error:
        raise ConfigError(
            f"{path.name} is missing in {path.parent}; a checkpoint folder needs it; download the checkpoint again"
        ) from error
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read ({error.strerror or error}); check its permissions and the disk, or try again"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} cannot be read as JSON ({error}); it must be the checkpoint's own params.json; download it again"
        ) from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} holds {type(raw).__name__}; it must hold a JSON object; download it again")
    return parse_config(cast(dict[str, Any], raw))


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def parse_config(raw: Mapping[str, Any]) -> ModelConfig:
    """Turn the content of params.json into a ModelConfig; unknown keys are ignored.

    Raises:
        ConfigError: a key is missing or of the wrong kind, two keys contradict each other, or a key
            asks for a computation that this package does not have. The message names the key.
    """
    top = Section(raw, "params.json")
    _refuse_unsupported(top)
    multimodal = top.section("multimodal")
    audio = multimodal.section("audio_model_args")
    codec_args = multimodal.section("audio_tokenizer_args")
    codebooks = _parse_codebooks(audio)
    backbone = _parse_backbone(top)
    acoustic = _parse_acoustic(audio.section("acoustic_transformer_args"))
    codec = _parse_codec(codec_args)
    _check_agreement(backbone, acoustic, codebooks, codec, codec_args)
    encoding = audio.section("audio_encoding_args", optional=True)
    if encoding.integer("sampling_rate", codec.sample_rate) != codec.sample_rate:
        raise ConfigError(
            "params.json: audio_encoding_args.sampling_rate differs from audio_tokenizer_args.sampling_rate; both must "
            "be one number; use the checkpoint's own file"
        )
    voices = codec_args.mapping("voice")
    return ModelConfig(
        backbone=backbone,
        acoustic=acoustic,
        codebooks=codebooks,
        codec=codec,
        generation=_parse_generation(top, audio.section("acoustic_transformer_args")),
        audio_token_id=audio.integer("audio_token_id", 24),
        begin_audio_token_id=audio.integer("begin_audio_token_id", 25),
        bos_token_id=multimodal.integer("bos_token_id", 1),
        voices=tuple(voices),
        languages=_parse_languages(top),
        quantization=_parse_quantization(top, backbone, acoustic),
        raw=raw,
    )


def _refuse_unsupported(top: Section) -> None:
    model_type = top.get("model_type")
    if model_type not in (None, "voxtral_tts"):
        raise ConfigError(
            f'params.json: model_type is {quoted(model_type)}; it must be "voxtral_tts"; choose a TTS checkpoint'
        )
    # Each of these would change the numbers; ignoring them would speak, but not as this checkpoint does.
    for key in ("sliding_window", "rope_scaling", "yarn", "llama_4_scaling", "moe"):
        if top.get(key):
            raise ConfigError(f"params.json: {key} is {quoted(top.get(key))}; this package computes without it only")
    if top.flag("use_biases", False):
        raise ConfigError("params.json: use_biases is true; the backbone of this model family has no biases")
    if not top.flag("causal", True):
        raise ConfigError("params.json: causal is false; the backbone of this model family is causal")


def _parse_backbone(top: Section) -> BackboneConfig:
    config = BackboneConfig(
        dim=top.integer("dim"),
        num_layers=top.integer("n_layers", maximum=_MAX_LAYERS),
        num_heads=top.integer("n_heads"),
        num_kv_heads=top.integer("n_kv_heads"),
        head_dim=top.integer("head_dim"),
        hidden_dim=top.integer("hidden_dim"),
        vocab_size=top.integer("vocab_size"),
        norm_eps=top.number("norm_eps"),
        rope_theta=top.number("rope_theta"),
        max_seq_len=top.integer("max_seq_len", 65536, maximum=_MAX_POSITIONS),
        is_text_head_tied=top.flag("tied_embeddings", False),
    )
    _check_heads("params.json", config.num_heads, config.num_kv_heads)
    if config.head_dim % 2:
        raise ConfigError(f"params.json: head_dim is {config.head_dim}; rotary positions need an even number")
    return config


def _parse_acoustic(args: Section) -> AcousticConfig:
    # Defaults of the official loader, for keys that a file may leave out.
    config = AcousticConfig(
        input_dim=args.integer("input_dim"),
        dim=args.integer("dim", 768),
        num_layers=args.integer("n_layers", 3, maximum=_MAX_LAYERS),
        num_heads=args.integer("n_heads", 6),
        num_kv_heads=args.integer("n_kv_heads", 2),
        head_dim=args.integer("head_dim", 128),
        hidden_dim=args.integer("hidden_dim", 2048),
        norm_eps=args.number("norm_eps", 1e-5),
        use_biases=args.flag("use_biases", False),
    )
    _check_heads("acoustic_transformer_args", config.num_heads, config.num_kv_heads)
    if config.dim % 2:
        raise ConfigError(f"acoustic_transformer_args: dim is {config.dim}; the time embedding needs an even number")
    return config


def _parse_codebooks(audio: Section) -> CodebookConfig:
    concat = audio.get("input_embedding_concat_type")
    if concat not in (None, "sum"):
        raise ConfigError(f'audio_model_args: input_embedding_concat_type is {quoted(concat)}; only "sum" is supported')
    legacy = audio.get("codebook_sizes")
    if legacy is not None:
        sizes = audio.integers("codebook_sizes", "", minimum=2)
        if len(sizes) < 2 or len(set(sizes[1:])) != 1:
            raise ConfigError(
                f"audio_model_args: codebook_sizes is {quoted(legacy)}; acoustic codebooks must be of one size"
            )
        return CodebookConfig(semantic_size=sizes[0], acoustic_size=sizes[1], num_acoustic=len(sizes) - 1)
    return CodebookConfig(
        semantic_size=audio.integer("semantic_codebook_size"),
        acoustic_size=audio.integer("acoustic_codebook_size", minimum=2),
        num_acoustic=audio.integer("n_acoustic_codebook"),
    )


def _parse_codec(args: Section) -> CodecConfig:
    if not args.flag("causal", True):
        raise ConfigError("audio_tokenizer_args: causal is false; only the causal codec is supported")
    if args.integer("channels", 1) != 1:
        raise ConfigError(f"audio_tokenizer_args: channels is {quoted(args.get('channels'))}; the codec is mono")
    semantic_dim = args.integer("semantic_dim", 256)
    acoustic_dim = args.integer("acoustic_dim", 36)
    dim = args.integer("dim", 1024)
    window = args.integer("attn_sliding_window_size", 16, maximum=_MAX_WINDOW)
    halve = args.flag("half_attn_window_upon_downsampling", True)
    encoder_blocks, inner_window = _encoder_blocks(args, dim, semantic_dim + acoustic_dim, window, halve)
    config = CodecConfig(
        sample_rate=args.integer("sampling_rate", 24000, maximum=_MAX_SAMPLE_RATE),
        patch_size=args.integer("pretransform_patch_size", 240),
        patch_kernel=args.integer("patch_proj_kernel_size", 7),
        semantic_dim=semantic_dim,
        acoustic_dim=acoustic_dim,
        dim=dim,
        hidden_dim=args.integer("hidden_dim", 4096),
        head_dim=args.integer("head_dim", 128),
        num_heads=args.integer("n_heads", 8),
        num_kv_heads=args.integer("n_kv_heads", 8),
        norm_eps=args.number("norm_eps", 1e-2),
        qk_norm=args.flag("qk_norm", True),
        qk_norm_eps=args.number("qk_norm_eps", 1e-6),
        use_biases=args.flag("use_biases", False),
        layer_scale=args.flag("layer_scale", True),
        conv_weight_norm=args.flag("conv_weight_norm", True),
        spectral_head=args.flag("spectral_head", False),
        decoder_blocks=_decoder_blocks(args, dim, semantic_dim + acoustic_dim, inner_window, halve),
        encoder_blocks=encoder_blocks,
        source_filter_head=_parse_source_filter(args),
        mel_bands=None if args.get("mel_input") is None else args.integer("mel_input", maximum=_MAX_WINDOW),
    )
    _check_heads("audio_tokenizer_args", config.num_heads, config.num_kv_heads)
    _check_source_filter(config)
    if config.spectral_head and (config.synthesis_window % 2 or config.patch_kernel < 2):
        raise ConfigError(
            f"audio_tokenizer_args: spectral_head with {config.patch_kernel} patches of {config.patch_size}; it needs "
            "two patches or more, of an even number of samples together"
        )
    strides = [b.stride for b in encoder_blocks if isinstance(b, ConvBlockConfig)]
    if math.prod(strides) != config.steps_per_frame:
        raise ConfigError(
            f"audio_tokenizer_args: encoder strides {strides} and decoder strides multiply to different numbers; "
            "both must make the same frame"
        )
    return config


def _parse_source_filter(args: Section) -> SourceFilterConfig | None:
    if args.get("source_filter_head") is None:
        return None
    head = args.section("source_filter_head")
    head.refuse_others(("harmonic_knots", "noise_knots", "pitch_frames", "pitch_dim"))
    return SourceFilterConfig(
        harmonic_knots=head.integer("harmonic_knots", minimum=2, maximum=_MAX_WINDOW),
        noise_knots=head.integer("noise_knots", minimum=2, maximum=_MAX_WINDOW),
        pitch_frames=head.integer("pitch_frames", SourceFilterConfig.pitch_frames, maximum=_MAX_WINDOW),
        pitch_dim=head.integer("pitch_dim", SourceFilterConfig.pitch_dim),
    )


def _check_source_filter(config: CodecConfig) -> None:
    """Refuse what contradicts a source-filter head or a mel input.

    Raises:
        ConfigError: the contradiction.
    """
    if config.source_filter_head is not None and config.spectral_head:
        raise ConfigError(
            "audio_tokenizer_args: spectral_head and source_filter_head are both there; a codec has one head; "
            "use the params.json that came with the weights"
        )
    if config.source_filter_head is not None and (config.patch_size % 2 or config.patch_size > _MAX_SOURCE_PATCH):
        raise ConfigError(
            f"audio_tokenizer_args: source_filter_head with patches of {config.patch_size} samples; each is made in "
            f"two halves, so the number must be even, and at most {_MAX_SOURCE_PATCH}"
        )
    if config.mel_bands is not None and (config.synthesis_window % 2 or config.synthesis_window > _MAX_WINDOW):
        raise ConfigError(
            f"audio_tokenizer_args: mel_input with {config.patch_kernel} patches of {config.patch_size}; together they "
            f"must have an even number of samples, and at most {_MAX_WINDOW}"
        )


def _stage_lists(args: Section, side: str, kernels: str, strides: str) -> list[tuple[int, int, int]]:
    # A stage of no layers is allowed: it passes its input on, and still takes an index in the file.
    lengths = args.integers(f"{side}_transformer_lengths_str", "2,2,2,2", minimum=0)
    kernel_list = args.integers(f"{side}_convs_kernels_str", kernels)
    stride_list = args.integers(f"{side}_convs_strides_str", strides)
    if not len(lengths) == len(kernel_list) == len(stride_list):
        raise ConfigError(
            f"audio_tokenizer_args: the {side} lists hold {len(lengths)} lengths, {len(kernel_list)} kernels and "
            f"{len(stride_list)} strides; they must be of one length"
        )
    for kernel, stride in zip(kernel_list, stride_list, strict=True):
        if kernel < stride:
            raise ConfigError(f"audio_tokenizer_args: {side} kernel {kernel} is smaller than its stride {stride}")
    return list(zip(lengths, kernel_list, stride_list, strict=True))


def _encoder_blocks(
    args: Section, dim: int, latent_dim: int, window: int, halve: bool
) -> tuple[tuple[CodecBlock, ...], int]:
    stages = _stage_lists(args, "encoder", "4,4,4,3", "2,2,2,1")
    blocks: list[CodecBlock] = []
    for stage, (num_layers, kernel, stride) in enumerate(stages):
        blocks.append(TransformerBlockConfig(len(blocks), num_layers, window))
        is_last = stage == len(stages) - 1
        # A stage that would not change the rate has no convolution in the file, and takes no index.
        if kernel != 1 or stride != 1 or is_last:
            channels = latent_dim if is_last else dim
            blocks.append(ConvBlockConfig(len(blocks), "conv", dim, channels, kernel, stride))
            window = _scaled_window(window, stride, halve, up=False)
    return tuple(blocks), window


def _decoder_blocks(args: Section, dim: int, latent_dim: int, window: int, halve: bool) -> tuple[CodecBlock, ...]:
    stages = _stage_lists(args, "decoder", "3,4,4,4", "1,2,2,2")
    _, first_kernel, first_stride = stages[0]
    if first_stride != 1:
        raise ConfigError(
            f"audio_tokenizer_args: the first decoder stride is {first_stride}; the first convolution keeps the "
            "frame rate, so it must be 1"
        )
    blocks: list[CodecBlock] = [ConvBlockConfig(0, "conv", latent_dim, dim, first_kernel, 1)]
    for stage, (num_layers, _, _) in enumerate(stages):
        blocks.append(TransformerBlockConfig(len(blocks), num_layers, window))
        if stage + 1 == len(stages):
            break
        _, kernel, stride = stages[stage + 1]
        if kernel != 1 or stride != 1:
            blocks.append(ConvBlockConfig(len(blocks), "transposed", dim, dim, kernel, stride))
            window = _scaled_window(window, stride, halve, up=True)
    return tuple(blocks)


def _scaled_window(window: int, stride: int, halve: bool, *, up: bool) -> int:
    if not halve or stride == 1:
        return window
    if stride != 2:
        raise ConfigError(
            f"audio_tokenizer_args: a stride is {stride}; with half_attn_window_upon_downsampling it must be 1 or 2"
        )
    scaled = window * 2 if up else window // 2
    if scaled < 2:
        raise ConfigError(f"audio_tokenizer_args: attn_sliding_window_size halves to {scaled}; it must stay at least 2")
    return scaled


def _check_heads(where: str, num_heads: int, num_kv_heads: int) -> None:
    if num_heads % num_kv_heads:
        raise ConfigError(f"{where}: n_heads {num_heads} is no multiple of n_kv_heads {num_kv_heads}")


def _check_agreement(
    backbone: BackboneConfig,
    acoustic: AcousticConfig,
    codebooks: CodebookConfig,
    codec: CodecConfig,
    codec_args: Section,
) -> None:
    # The semantic head belongs to the acoustic transformer but reads the backbone's hidden state.
    if not backbone.dim == acoustic.input_dim == acoustic.dim:
        raise ConfigError(
            f"params.json: dim {backbone.dim}, acoustic input_dim {acoustic.input_dim} and acoustic dim {acoustic.dim} "
            "differ; they must be equal"
        )
    if codec.acoustic_dim != codebooks.num_acoustic:
        raise ConfigError(
            f"params.json: acoustic_dim {codec.acoustic_dim} and n_acoustic_codebook {codebooks.num_acoustic} differ"
        )
    sizes = (
        codec_args.integer("semantic_codebook_size", codebooks.semantic_size),
        # The official default, which holds whatever the size that the language model states.
        codec_args.integer("acoustic_codebook_size", 21),
    )
    if sizes != (codebooks.semantic_size, codebooks.acoustic_size):
        raise ConfigError(
            f"params.json: the codec has codebooks of {sizes}, the language model of "
            f"{(codebooks.semantic_size, codebooks.acoustic_size)} codes; they must be equal"
        )


def _parse_generation(top: Section, acoustic_args: Section) -> GenerationDefaults:
    args = top.section("generation", optional=True)
    defaults = GenerationDefaults()
    # n_decoding_steps is the official name of the step count; null and absent mean its default.
    official_steps = acoustic_args.get("n_decoding_steps")
    most = int(NUM_EULER_STEPS.high or 0)
    steps = defaults.num_euler_steps
    if official_steps is not None:
        steps = acoustic_args.integer("n_decoding_steps", maximum=most)
    # The same ranges as a request may ask for.
    return GenerationDefaults(
        guidance_scale=args.number_in("guidance_scale", defaults.guidance_scale, GUIDANCE_SCALE),
        noise_scale=args.number_in("noise_scale", defaults.noise_scale, NOISE_SCALE),
        num_euler_steps=args.integer("num_euler_steps", steps, maximum=most),
        max_segment_chars=args.integer("max_segment_chars", defaults.max_segment_chars, maximum=_MAX_SEGMENT_CHARS),
    )


def _parse_quantization(top: Section, backbone: BackboneConfig, acoustic: AcousticConfig) -> QuantizationConfig | None:
    if not top.get("quantization"):
        return None
    args = top.section("quantization")
    if args.get("format") != QUANTIZATION_FORMAT:
        raise ConfigError(
            f"params.json: quantization is {quoted(top.get('quantization'))}; this package reads "
            f"{QUANTIZATION_FORMAT!r} alone, which `voxtral quantize` writes; use the checkpoint that this one "
            "was made from"
        )
    config = QuantizationConfig(
        backbone=args.choice("backbone", _PRECISIONS),
        acoustic=args.choice("acoustic", _PRECISIONS),
        semantic_head=args.choice("semantic_head", _PRECISIONS),
        group_size=args.integer("group_size", maximum=2**16),
    )
    if config.semantic_head != "int8":
        raise ConfigError("params.json: quantization: semantic_head is 'int4'; only 'int8' is supported")
    for name, part, precision in (("backbone", backbone, config.backbone), ("acoustic", acoustic, config.acoustic)):
        widths = (part.dim, part.hidden_dim, part.num_heads * part.head_dim)
        if precision == "int4" and any(width % config.group_size for width in widths):
            raise ConfigError(
                f"params.json: quantization: group_size is {config.group_size}; the widths {widths} of the {name} must "
                "be multiples of it"
            )
    return config


def _parse_languages(top: Section) -> tuple[str, ...]:
    value: Any = top.get("languages")
    if value is None:
        return PUBLISHED_LANGUAGES
    if not isinstance(value, list):
        raise ConfigError(f"params.json: languages is {quoted(value)}; it must be a list of language codes")
    codes = cast(list[Any], value)
    if not codes or not all(isinstance(code, str) for code in codes):
        raise ConfigError(f"params.json: languages is {quoted(codes)}; it must be a list of language codes")
    return tuple(str(code) for code in codes)
