"""VoxtralModel: the three networks and the two embedding tables, as one object without state.

Dimensions, here and in the whole package:

    B rows (sequences)      T positions or frames       P prompt positions     D width of the backbone
    K codebooks             A = K - 1 acoustic ones     N rows of a voice      S samples
    L layers                H heads, Hkv key heads      Dh width of a head     C latent channels

It knows no text, no requests and no threads. Read next: `voxtral.engine.runner`, which drives it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxtral.config import EMPTY_AUDIO, END_AUDIO, NUM_SPECIAL_CODES, ModelConfig
from voxtral.errors import DeviceError, OptionError
from voxtral.model.acoustic import AcousticLayer, AcousticTransformer, Flow, FlowSchedule, FrameStep
from voxtral.model.backbone import Backbone, BackboneLayer
from voxtral.model.codebooks import check_codes
from voxtral.model.codec import CodecDecoder, CodecState, ConvBlock
from voxtral.model.codec_encoder import CodecEncoder
from voxtral.model.codec_protocol import NoiseKey
from voxtral.model.codec_step import CodecStep
from voxtral.model.kernels.cpu.products import NumBytes
from voxtral.model.kernels.float8 import check_float8
from voxtral.model.kernels.tokens import sum_embeddings
from voxtral.model.layers import Embedding
from voxtral.model.linear import QuantizedLinear, round_to_float8
from voxtral.model.linear_kernel import KernelWeight
from voxtral.model.linear_weights import Float8Weight


class CodecModel(nn.Module):
    """The codec and the embeddings of audio tokens: what makes voices and turns codes into sound, and speaks nothing.

    Args:
        config: sizes.
        has_encoder: whether there is a codec encoder from the start.
    """

    codebook_offsets: Tensor

    def __init__(self, config: ModelConfig, *, has_encoder: bool) -> None:
        super().__init__()
        self.config = config
        self.audio_embeddings = Embedding(config.codebooks.embedding_rows, config.backbone.dim)
        self.codec = CodecDecoder(config.codec, config.codebooks)
        self.codec_encoder = CodecEncoder(config.codec) if has_encoder else None
        self.init_tables(torch.device("cpu"))

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.audio_embeddings.weight.device

    def init_tables(self, device: torch.device) -> None:
        """Compute what is no weight: the first row of each codebook in the audio embeddings."""
        offsets = torch.tensor(self.config.codebooks.offsets, device=device)
        self.register_buffer("codebook_offsets", offsets, persistent=False)

    def embed_frames(self, audio_tokens: Tensor) -> Tensor:
        """Sum the embeddings of the K audio tokens of each frame: [T, K] int64 to [T, D]."""
        return sum_embeddings(audio_tokens, self.codebook_offsets, self.audio_embeddings.weight)

    def embed_codes(self, codes: Tensor) -> Tensor:
        """Make the rows of a voice from the codes of a reference: its frames, then END_AUDIO.

        Args:
            codes: [K, T] int64, codec alphabet.

        Returns:
            [T + 1, D]. The closing frame holds END_AUDIO and, unlike a generated one, EMPTY_AUDIO
            unshifted in every acoustic codebook.
        """
        closing = torch.full_like(codes[:, :1], EMPTY_AUDIO)
        closing[0] = END_AUDIO
        return self.embed_frames(torch.cat((codes + NUM_SPECIAL_CODES, closing), dim=1).T)

    def init_codec_state(self, noise_key: NoiseKey = (0, 0)) -> CodecState:
        """Make the codec state of a stream that has not begun; see StreamingCodec."""
        return CodecState.fresh(self.codec, noise_key)

    def flush_codec(self, state: CodecState) -> Tensor:
        """End a stream: return the samples that still waited for frames to come, if any, [S] float32."""
        codes = torch.zeros(1, self.config.codebooks.num_codebooks, 0, dtype=torch.int64, device=self.device)
        return self.codec(codes, state, is_last=True)[0]

    def decode_codes(self, codes: Tensor) -> Tensor:
        """Decode a whole signal of codes [K, T] to [S] float32 samples.

        Raises:
            CodeRangeError: a code is outside its codebook.
        """
        check_codes(codes[None], self.config.codebooks)
        return self.codec.decode(codes[None].to(device=self.device, dtype=torch.int64))[0]

    def encode_audio(self, samples: Tensor) -> Tensor:
        """Encode a clip: [S] float32 to codes [K, T] int64. Needs `codec_encoder`."""
        assert self.codec_encoder is not None, "this checkpoint holds no encoder"
        latent = self.codec_encoder(samples.to(self.device)[None])
        return self.codec.quantizer.latent_to_codes(latent)[0]


class VoxtralModel(CodecModel):
    """Everything that has weights.

    Args:
        config: sizes.
        has_encoder: whether the checkpoint holds the codec encoder.
    """

    # Not a parameter: it stays in CPU memory, possibly memory-mapped, whatever the device of the rest.
    text_embeddings: Tensor  # [V, D]

    def __init__(self, config: ModelConfig, *, has_encoder: bool) -> None:
        super().__init__(config, has_encoder=has_encoder)
        self.text_embeddings = torch.zeros(0, config.backbone.dim)
        self.backbone = Backbone(config.backbone)
        self.acoustic_transformer = AcousticTransformer(config.acoustic, config.codebooks)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the backbone and the acoustic transformer; the codec has its own."""
        return self.backbone.norm.weight.dtype

    def embed_text(self, token_ids: Tensor) -> Tensor:
        """Look up text tokens: [P] int64 to [P, D] on the model's device."""
        rows = F.embedding(token_ids.to(self.text_embeddings.device), self.text_embeddings)
        return rows.to(device=self.device, dtype=self.dtype)

    def embed_prompt(self, token_ids: Tensor, voice_rows: Tensor) -> Tensor:
        """Embed a prompt: token rows, with the voice written over the audio placeholders in order.

        Args:
            token_ids: [P] int64.
            voice_rows: [N, D]; N equals the number of placeholders.

        Returns:
            [P, D].
        """
        embeds = self.embed_text(token_ids)
        # Found where the ids are, in CPU memory: a mask on a GPU would make the host wait for all that it computes.
        is_voice = (token_ids == self.config.audio_token_id).nonzero()[:, 0]
        num_placeholders = len(is_voice)
        assert num_placeholders == voice_rows.shape[0], f"{num_placeholders} placeholders, {voice_rows.shape[0]} rows"
        is_voice = is_voice.to(embeds.device)
        embeds[is_voice] = voice_rows.to(device=embeds.device, dtype=embeds.dtype)
        return embeds

    def generate_frame(
        self,
        hidden: Tensor,
        noise: Tensor,
        guidance_scale: Tensor,
        schedule: FlowSchedule,
        *,
        may_end: bool | Tensor = True,
        flow: Flow | None = None,
    ) -> FrameStep:
        """Turn hidden states [B, D] and noise [B, A] into one frame for each row; see AcousticTransformer."""
        return self.acoustic_transformer(hidden, noise, guidance_scale, schedule, may_end=may_end, flow=flow)

    def decode_rows(self, audio_tokens: Tensor, state: CodecState, *, is_last: bool = False) -> Tensor:
        """Decode T frames of each of B streams side by side: [B, T, K] to [B, S] float32 samples.

        None of the frames is END_AUDIO.
        """
        codes = (audio_tokens - NUM_SPECIAL_CODES).transpose(1, 2)
        return self.codec(codes, state, is_last=is_last)

    def make_codec_step(self) -> CodecStep | None:
        """Make the codec in static shapes; None where its first frames must wait for others."""
        return CodecStep(self.codec) if CodecStep.can_step(self.codec) else None


def move_model(
    model: VoxtralModel, *, device: torch.device, dtype: torch.dtype, codec_dtype: torch.dtype
) -> VoxtralModel:
    """Move and cast in place, one tensor at a time, and recompute the tables.

    The text embeddings stay where they are, and the codebook stays float32.

    Raises:
        DeviceError: the model is quantised, a weight does not fit the dtype, or the device has no room; the model is
            as before.
    """
    if is_quantized(model):
        raise DeviceError(
            "the model is quantised, and its weights are laid out for the device and dtype that it was loaded with; "
            "load it again with device=... and dtype=..."
        )
    for name, parameter in model.named_parameters():
        limit = torch.finfo(codec_dtype if name.startswith("codec") else dtype).max
        if max(abs(float(extreme)) for extreme in torch.aminmax(parameter)) > limit:
            raise DeviceError(
                f"{name} holds values beyond {limit:.3g}, the largest of that dtype; use bfloat16 or float32"
            )
    before = (model.device, model.dtype, model.codec.dtype)
    try:
        _move(model, device, dtype, codec_dtype)
    except RuntimeError as error:
        _move(model, *before)
        raise DeviceError(
            f"the model cannot move to {device} ({error}); free memory there or choose another"
        ) from error
    return model


@torch.inference_mode(False)
def _move(model: VoxtralModel, device: torch.device, dtype: torch.dtype, codec_dtype: torch.dtype) -> None:
    for name, parameter in model.named_parameters():
        target = codec_dtype if name.startswith("codec") else dtype
        parameter.data = parameter.data.to(device=device, dtype=target)
    quantizer = model.codec.quantizer
    quantizer.semantic_table = quantizer.semantic_table.to(device)
    init_tables(model, device)


def prepare_for_inference(part: nn.Module) -> None:
    """Join matrices that read the same input, and put quantised ones into the form that this machine multiplies fast.

    Done in place; a second call changes nothing, and nothing undoes it. Names of parameters change: training and
    conversion want a model that is not prepared.

    Args:
        part: a VoxtralModel or a part of it, such as a layer that has just been loaded. Of the codec only convolutions
            in bfloat16 on a CPU change.
    """
    dtype = _dtype_of(part)
    for module in part.modules():
        # For each of them torch reorders the whole weight in every call, which takes longer than its product does.
        if isinstance(module, ConvBlock) and module.is_in(torch.bfloat16, "cpu"):
            module.fuse()
    for module in part.modules():
        if isinstance(module, BackboneLayer | AcousticLayer):
            module.attention.fuse()
            module.feed_forward.fuse()
    for module in part.modules():
        if isinstance(module, QuantizedLinear):
            module.prepare(dtype)


def _dtype_of(part: nn.Module) -> torch.dtype:
    """Give the dtype of what is not quantised, which activations have."""
    floats = (parameter.dtype for parameter in part.parameters() if parameter.is_floating_point())
    return next(floats, torch.get_default_dtype())


def round_flow_to_float8(model: VoxtralModel) -> None:
    """Round the matrices of the flow's layers to float8, in place, once; nothing undoes it.

    Raises:
        DeviceError: the model is on a GPU that has no float8; nothing was changed.
        OptionError: the flow has matrices of few bits already; nothing was changed.
    """
    check_float8(model.device)
    layers = model.acoustic_transformer.layers
    quantized = [module.quantized_weight for module in layers.modules() if isinstance(module, QuantizedLinear)]
    other = next((weight.name for weight in quantized if not isinstance(weight, Float8Weight)), None)
    if other is not None:
        raise OptionError(
            f"flow_dtype is float8, and the flow's matrices are {other} already; a matrix is rounded once: load the "
            "model with quantize='none', or leave flow_dtype out"
        )
    round_to_float8(layers)


def set_flow_activations(model: VoxtralModel, num_bytes: NumBytes) -> None:
    """Choose how many bytes the activations have that the flow's matrices of few bits multiply, in place.

    Where torch's own products compute they stay as they are: exact, and slower.

    Raises:
        OptionError: one byte is asked for, and the flow's matrices do not have few bits, or are not on a CPU.
    """
    layers = model.acoustic_transformer.layers
    linears = [
        module
        for module in layers.modules()
        if isinstance(module, QuantizedLinear) and not isinstance(module.quantized_weight, Float8Weight)
    ]
    if num_bytes == 1 and (not linears or model.device.type != "cpu"):
        found = f"they are {model.dtype}" if not linears else f"the model is on {model.device}"
        raise OptionError(
            f"activations is int8, which matrices of few bits take on a CPU, and {found}; load the model with "
            "quantize='int8' or 'int4' on a CPU, or leave activations out"
        )
    for linear in linears:
        if isinstance(weight := linear.quantized_weight, KernelWeight):
            linear.quantized_weight = weight.with_activations(num_bytes)


def is_quantized(model: VoxtralModel) -> bool:
    """Tell whether any matrix has few bits."""
    return any(isinstance(module, QuantizedLinear) for module in model.modules())


def init_tables(model: nn.Module, device: torch.device) -> None:
    """Compute every table that is no weight on `device`; needed after building on the meta device."""
    for module in model.modules():
        compute = getattr(module, "init_tables", None)
        if compute is not None:
            compute(device)
