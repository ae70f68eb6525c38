"""The sizes and defaults of a model, as frozen dataclasses, and every size that follows from them.

This is the only file that knows how codebook sizes, offsets and hops are derived; nothing else in the package holds
such a number. It reads no file and knows no tensors. Read next: `voxtral.loading.params` (where the values come from),
`voxtral.loading.inventory` (which tensors they imply) and docs/MODEL.md.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

# Ids that audio codebooks reserve in front of the quantizer's codes (docs/MODEL.md, "Audio tokens").
EMPTY_AUDIO = 0
END_AUDIO = 1
NUM_SPECIAL_CODES = 2

# The audio embedding table and the semantic head are padded to a multiple of this many rows.
_ROW_MULTIPLE = 128

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
class SourceFilterConfig:
    """Sizes of the source-filter head; see docs/MODEL.md, "Source-filter head".

    Attributes:
        harmonic_knots: frequencies at which the filter of the pulses is given.
        noise_knots: the same of the noise.
        pitch_frames: whose codes tell the pitch of a frame: its own and those before it.
        pitch_dim: width of the network that tells it.
    """

    harmonic_knots: int
    noise_knots: int
    pitch_frames: int = 3
    pitch_dim: int = 256

    @property
    def outputs_per_step(self) -> int:
        """Log magnitudes that a step writes: of both filters, in each of its halves."""
        return 2 * (self.harmonic_knots + self.noise_knots)


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
    source_filter_head: SourceFilterConfig | None = None
    mel_bands: int | None = None  # that the encoder hears in place of samples; params.json calls it mel_input

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
