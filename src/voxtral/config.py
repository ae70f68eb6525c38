"""What params.json says, as frozen dataclasses, and every size that follows from it.

This is the only file that knows how codebook sizes, offsets, hops and windows are derived; nothing
else in the package holds such a number. It reads a dictionary or a file and knows no tensors.
Read next: `voxtral.loading.checkpoint` (which tensors a config implies) and docs/MODEL.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from voxtral.errors import ConfigError

# Ids that audio codebooks reserve in front of the quantizer's codes (docs/MODEL.md, "Audio tokens").
EMPTY_AUDIO = 0
END_AUDIO = 1
NUM_SPECIAL_CODES = 2

# The audio embedding table and the semantic head are padded to a multiple of this many rows.
_ROW_MULTIPLE = 128

# Far above any model of this family; a damaged file must not make us list millions of tensors.
_MAX_LAYERS = 1000

# Name and version of the layout of matrices of few bits (docs/QUANTIZATION.md, "The file").
QUANTIZATION_FORMAT = "voxtral-1"

# Published languages of mistralai/Voxtral-4B-TTS-2603 (model card); params.json does not list them.
PUBLISHED_LANGUAGES = ("en", "fr", "es", "de", "it", "pt", "nl", "ar", "hi")


@dataclass(frozen=True)
class BackboneConfig:
    """The causal language model: embeddings in, hidden states out.

    Source: params.json, top level.
    """

    dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    hidden_dim: int
    vocab_size: int
    norm_eps: float
    rope_theta: float
    max_seq_len: int
    is_text_head_tied: bool


@dataclass(frozen=True)
class AcousticConfig:
    """The flow-matching transformer: hidden state and noise in, acoustic values out.

    Source: params.json, multimodal.audio_model_args.acoustic_transformer_args.
    """

    input_dim: int
    dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    hidden_dim: int
    norm_eps: float
    use_biases: bool


@dataclass(frozen=True)
class CodebookConfig:
    """The alphabets: one semantic codebook and `num_acoustic` acoustic ones, equal in size.

    Codes are the codec's alphabet; audio tokens are codes shifted by `NUM_SPECIAL_CODES`.
    """

    semantic_size: int
    acoustic_size: int
    num_acoustic: int

    @property
    def num_codebooks(self) -> int:
        """K, semantic codebook included."""
        return 1 + self.num_acoustic

    @property
    def semantic_vocab(self) -> int:
        """Audio tokens of the semantic codebook, special ids included, padding excluded."""
        return self.semantic_size + NUM_SPECIAL_CODES

    @property
    def acoustic_vocab(self) -> int:
        """Audio tokens of one acoustic codebook, special ids included."""
        return self.acoustic_size + NUM_SPECIAL_CODES

    @property
    def semantic_head_rows(self) -> int:
        """Rows of the semantic head: `semantic_vocab` padded."""
        return _round_up(self.semantic_vocab)

    @property
    def offsets(self) -> tuple[int, ...]:
        """First row of each codebook in the audio embedding table; unpadded sizes add up.

        >>> CodebookConfig(semantic_size=8192, acoustic_size=21, num_acoustic=36).offsets[:3]
        (0, 8194, 8217)
        """
        first_acoustic = self.semantic_vocab
        return (0, *(first_acoustic + self.acoustic_vocab * k for k in range(self.num_acoustic)))

    @property
    def embedding_rows(self) -> int:
        """Rows of the audio embedding table, padding included."""
        return _round_up(self.semantic_vocab + self.acoustic_vocab * self.num_acoustic)


ConvKind = Literal["conv", "transposed"]


@dataclass(frozen=True)
class TransformerBlockConfig:
    """One stack of sliding-window transformer layers of the codec."""

    index: int
    num_layers: int
    window: int


@dataclass(frozen=True)
class ConvBlockConfig:
    """One convolution of the codec; `index` is its place in the block list of the checkpoint."""

    index: int
    kind: ConvKind
    in_channels: int
    out_channels: int
    kernel: int
    stride: int


CodecBlock = TransformerBlockConfig | ConvBlockConfig


@dataclass(frozen=True)
class CodecConfig:
    """The codec: frames of codes to samples, and samples to codes where there is an encoder.

    Source: params.json, multimodal.audio_tokenizer_args.
    """

    sample_rate: int
    patch_size: int
    patch_kernel: int
    semantic_dim: int
    acoustic_dim: int
    dim: int
    hidden_dim: int
    head_dim: int
    num_heads: int
    num_kv_heads: int
    norm_eps: float
    qk_norm: bool
    qk_norm_eps: float
    use_biases: bool
    layer_scale: bool
    conv_weight_norm: bool
    spectral_head: bool
    decoder_blocks: tuple[CodecBlock, ...]
    encoder_blocks: tuple[CodecBlock, ...]

    @property
    def latent_dim(self) -> int:
        """Channels of the latent: semantic first, then acoustic."""
        return self.semantic_dim + self.acoustic_dim

    @property
    def steps_per_frame(self) -> int:
        """Patches that the decoder makes of one frame."""
        return math.prod(block.stride for block in self.decoder_blocks if isinstance(block, ConvBlockConfig))

    @property
    def samples_per_frame(self) -> int:
        """Samples of one frame."""
        return self.patch_size * self.steps_per_frame

    @property
    def synthesis_window(self) -> int:
        """Samples that one step reaches, over its own patch and the next ones."""
        return self.patch_size * self.patch_kernel

    @property
    def num_bins(self) -> int:
        """Frequencies of the spectral head, from 0 to half the sample rate."""
        return self.synthesis_window // 2 + 1

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.sample_rate / self.samples_per_frame

    @property
    def alibi_slopes(self) -> tuple[float, ...]:
        """Slope of each head: a geometric series that starts at 1, not at its ratio.

        For a head count that is no power of two the series of the next lower power is followed by
        every other slope of the next higher one.

        Source: official codec; golden entry codec/alibi_slopes.
        """
        return _alibi_slopes(self.num_heads)

    def num_frames(self, num_samples: int) -> int:
        """Frames that the encoder makes of `num_samples`: partial frames count as whole.

        Integer arithmetic on purpose: the float formula of mistral-common is one too high for some
        exact multiples (docs/MODEL.md, "Prompt").
        """
        return -(-num_samples // self.samples_per_frame)


@dataclass(frozen=True)
class GenerationDefaults:
    """What a request uses where it does not say otherwise.

    `max_segment_chars` is how long a text the checkpoint can speak in one go; longer ones are cut.
    """

    guidance_scale: float = 1.2
    noise_scale: float = 1.0
    num_euler_steps: int = 7
    max_segment_chars: int = 400


Precision = Literal["int8", "int4"]


@dataclass(frozen=True)
class QuantizationConfig:
    """Which matrices have few bits, and how many: the layers of the two transformers, and the semantic head.

    Source: params.json, quantization, of a checkpoint that `voxtral quantize` wrote; or a choice at load.
    """

    backbone: Precision
    acoustic: Precision
    semantic_head: Precision
    group_size: int  # inputs that share a scale; of int4

    @property
    def name(self) -> str:
        """A word for it.

        >>> QuantizationConfig("int4", "int8", "int8", 64).name
        'int4'
        """
        return "int4-all" if self.backbone == self.acoustic == "int4" else self.backbone


@dataclass(frozen=True)
class ModelConfig:
    """All of params.json that has an effect."""

    backbone: BackboneConfig
    acoustic: AcousticConfig
    codebooks: CodebookConfig
    codec: CodecConfig
    generation: GenerationDefaults
    audio_token_id: int
    begin_audio_token_id: int
    bos_token_id: int
    voices: tuple[str, ...]
    languages: tuple[str, ...]
    quantization: QuantizationConfig | None = None
    raw: Mapping[str, Any] = field(repr=False, compare=False, default_factory=dict[str, Any])

    @property
    def sample_rate(self) -> int:
        """Samples per second of all audio in and out of the model."""
        return self.codec.sample_rate

    @property
    def samples_per_frame(self) -> int:
        """Samples of one frame."""
        return self.codec.samples_per_frame

    @property
    def frame_rate(self) -> float:
        """Frames per second."""
        return self.codec.frame_rate


def load_config(path: Path) -> ModelConfig:
    """Read params.json.

    Raises:
        ConfigError: the file is missing, is no JSON object, or breaks a rule of `parse_config`.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path.name} is missing in {path.parent}; a checkpoint folder needs it; download the checkpoint again"
        ) from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            f"{path} cannot be read as JSON ({error}); it must be the checkpoint's own params.json; download it again"
        ) from error
    if not isinstance(raw, dict):
        raise ConfigError(f"{path} holds {type(raw).__name__}; it must hold a JSON object; download it again")
    return parse_config(cast(dict[str, Any], raw))


def parse_config(raw: Mapping[str, Any]) -> ModelConfig:
    """Turn the content of params.json into a ModelConfig; unknown keys are ignored.

    Raises:
        ConfigError: a key is missing or of the wrong kind, two keys contradict each other, or a key
            asks for a computation that this package does not have. The message names the key.
    """
    top = _Section(raw, "params.json")
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


def _round_up(rows: int) -> int:
    return _ROW_MULTIPLE * ((rows + _ROW_MULTIPLE - 1) // _ROW_MULTIPLE)


def _alibi_slopes(num_heads: int) -> tuple[float, ...]:
    def series(count: int) -> list[float]:
        ratio = 2.0 ** (-8.0 / count)
        return [ratio**head for head in range(count)]

    power = 2 ** (num_heads.bit_length() - 1)
    slopes = series(power)
    if power != num_heads:
        slopes += series(2 * power)[::2][: num_heads - power]
    return tuple(slopes)


class _Section:
    """One JSON object with its path, so that a message can name the key."""

    def __init__(self, values: Mapping[str, Any], path: str) -> None:
        self._values = values
        self._path = path

    def section(self, key: str, *, optional: bool = False) -> _Section:
        return _Section(self.mapping(key, optional=optional), f"{self._path}: {key}")

    def mapping(self, key: str, *, optional: bool = True) -> Mapping[str, Any]:
        value = self._values.get(key)
        if value is None and optional:
            return {}
        if not isinstance(value, dict):
            raise ConfigError(f"{self._path}: {key} is {value!r}; it must be an object; use the checkpoint's own file")
        return cast(dict[str, Any], value)

    def get(self, key: str) -> Any:
        return self._values.get(key)

    def integer(self, key: str, default: int | None = None, *, minimum: int = 1, maximum: int = 2**31) -> int:
        value = self._values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
            raise ConfigError(
                f"{self._path}: {key} is {value!r}; it must be a whole number from {minimum} to {maximum}"
            )
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self._values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e30:
            raise ConfigError(f"{self._path}: {key} is {value!r}; it must be a number above 0")
        return float(value)

    def precision(self, key: str) -> Precision:
        value = self._values.get(key)
        if value not in ("int8", "int4"):
            raise ConfigError(f"{self._path}: {key} is {value!r}; it must be 'int8' or 'int4'")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self._values.get(key, default)
        # Officially a null goes on as it is and counts as false, whatever the default.
        if value is None:
            return False
        if not isinstance(value, bool):
            raise ConfigError(f"{self._path}: {key} is {value!r}; it must be true or false")
        return value

    def integers(self, key: str, default: str, *, minimum: int = 1) -> tuple[int, ...]:
        value = self._values.get(key)
        text = default if value is None else value
        try:
            numbers = tuple(int(part) for part in str(text).split(","))
        except ValueError:
            numbers = ()
        if not 0 < len(numbers) <= _MAX_LAYERS or min(numbers) < minimum or max(numbers) > 2**20:
            raise ConfigError(
                f"{self._path}: {key} is {text!r}; it must be whole numbers of at least {minimum} with commas between"
            )
        return numbers


def _refuse_unsupported(top: _Section) -> None:
    model_type = top.get("model_type")
    if model_type not in (None, "voxtral_tts"):
        raise ConfigError(
            f'params.json: model_type is {model_type!r}; it must be "voxtral_tts"; choose a TTS checkpoint'
        )
    # Each of these would change the numbers; ignoring them would speak, but not as this checkpoint does.
    for key in ("sliding_window", "rope_scaling", "yarn", "llama_4_scaling", "moe"):
        if top.get(key):
            raise ConfigError(f"params.json: {key} is {top.get(key)!r}; this package computes without it only")
    if top.flag("use_biases", False):
        raise ConfigError("params.json: use_biases is true; the backbone of this model family has no biases")
    if not top.flag("causal", True):
        raise ConfigError("params.json: causal is false; the backbone of this model family is causal")


def _parse_backbone(top: _Section) -> BackboneConfig:
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
        max_seq_len=top.integer("max_seq_len", 65536),
        is_text_head_tied=top.flag("tied_embeddings", False),
    )
    _check_heads("params.json", config.num_heads, config.num_kv_heads)
    if config.head_dim % 2:
        raise ConfigError(f"params.json: head_dim is {config.head_dim}; rotary positions need an even number")
    return config


def _parse_acoustic(args: _Section) -> AcousticConfig:
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


def _parse_codebooks(audio: _Section) -> CodebookConfig:
    concat = audio.get("input_embedding_concat_type")
    if concat not in (None, "sum"):
        raise ConfigError(f'audio_model_args: input_embedding_concat_type is {concat!r}; only "sum" is supported')
    legacy = audio.get("codebook_sizes")
    if legacy is not None:
        sizes = audio.integers("codebook_sizes", "", minimum=2)
        if len(sizes) < 2 or len(set(sizes[1:])) != 1:
            raise ConfigError(f"audio_model_args: codebook_sizes is {legacy!r}; acoustic codebooks must be of one size")
        return CodebookConfig(semantic_size=sizes[0], acoustic_size=sizes[1], num_acoustic=len(sizes) - 1)
    return CodebookConfig(
        semantic_size=audio.integer("semantic_codebook_size"),
        acoustic_size=audio.integer("acoustic_codebook_size", minimum=2),
        num_acoustic=audio.integer("n_acoustic_codebook"),
    )


def _parse_codec(args: _Section) -> CodecConfig:
    if not args.flag("causal", True):
        raise ConfigError("audio_tokenizer_args: causal is false; only the causal codec is supported")
    if args.integer("channels", 1) != 1:
        raise ConfigError(f"audio_tokenizer_args: channels is {args.get('channels')}; the codec is mono")
    semantic_dim = args.integer("semantic_dim", 256)
    acoustic_dim = args.integer("acoustic_dim", 36)
    dim = args.integer("dim", 1024)
    window = args.integer("attn_sliding_window_size", 16)
    halve = args.flag("half_attn_window_upon_downsampling", True)
    encoder_blocks, inner_window = _encoder_blocks(args, dim, semantic_dim + acoustic_dim, window, halve)
    config = CodecConfig(
        sample_rate=args.integer("sampling_rate", 24000),
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
    )
    _check_heads("audio_tokenizer_args", config.num_heads, config.num_kv_heads)
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


def _stage_lists(args: _Section, side: str, kernels: str, strides: str) -> list[tuple[int, int, int]]:
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
    args: _Section, dim: int, latent_dim: int, window: int, halve: bool
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


def _decoder_blocks(args: _Section, dim: int, latent_dim: int, window: int, halve: bool) -> tuple[CodecBlock, ...]:
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
    codec_args: _Section,
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


def _parse_generation(top: _Section, acoustic_args: _Section) -> GenerationDefaults:
    args = top.section("generation", optional=True)
    defaults = GenerationDefaults()
    # n_decoding_steps is the official name of the step count; null and absent mean its default.
    official_steps = acoustic_args.get("n_decoding_steps")
    steps = defaults.num_euler_steps if official_steps is None else acoustic_args.integer("n_decoding_steps")
    noise_scale = args.get("noise_scale")
    if noise_scale is not None and noise_scale != 0:
        args.number("noise_scale")
    return GenerationDefaults(
        guidance_scale=args.number("guidance_scale", defaults.guidance_scale),
        noise_scale=defaults.noise_scale if noise_scale is None else float(noise_scale),
        num_euler_steps=args.integer("num_euler_steps", steps),
        max_segment_chars=args.integer("max_segment_chars", defaults.max_segment_chars),
    )


def _parse_quantization(top: _Section, backbone: BackboneConfig, acoustic: AcousticConfig) -> QuantizationConfig | None:
    if not top.get("quantization"):
        return None
    args = top.section("quantization")
    if args.get("format") != QUANTIZATION_FORMAT:
        raise ConfigError(
            f"params.json: quantization is {top.get('quantization')!r}; this package reads {QUANTIZATION_FORMAT!r} "
            "alone, which `voxtral quantize` writes; use the checkpoint that this one was made from"
        )
    config = QuantizationConfig(
        backbone=args.precision("backbone"),
        acoustic=args.precision("acoustic"),
        semantic_head=args.precision("semantic_head"),
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


def _parse_languages(top: _Section) -> tuple[str, ...]:
    value: Any = top.get("languages")
    if value is None:
        return PUBLISHED_LANGUAGES
    if not isinstance(value, list):
        raise ConfigError(f"params.json: languages is {value!r}; it must be a list of language codes")
    codes = cast(list[Any], value)
    if not codes or not all(isinstance(code, str) for code in codes):
        raise ConfigError(f"params.json: languages is {value!r}; it must be a list of language codes")
    return tuple(str(code) for code in codes)
