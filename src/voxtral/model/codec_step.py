"""The codec decoder in static shapes: what a CUDA graph can hold, for any number of streams side by side.

`voxtral.model.codec` is the reference; here the same layers compute from a state that is one row of numbers, of one
size from the first frame on, so that streams of any age are decoded together and nothing depends on how long they have
been. Time is the second axis throughout, and every convolution is a product. Read next:
`voxtral.engine.audio_maker`, which keeps the rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from voxtral.config import NUM_SPECIAL_CODES, ConvBlockConfig
from voxtral.model.codec import (
    CodecDecoder,
    CodecLayer,
    CodecState,
    CodecTransformer,
    ConvBlock,
    LayerCache,
    SpectralProjection,
)
from voxtral.model.codec_protocol import NoiseKey
from voxtral.model.kernels.shifts import Start, past_of, shifted_columns
from voxtral.model.kernels.window import attend_after_past
from voxtral.model.layers import split_heads
from voxtral.model.source import NoisePlace, draw_source_noise
from voxtral.model.source_filter import SourceFilterProjection, SourceState


@dataclass(frozen=True)
class _Place:
    """Where a part of the state lies in its row: `length` steps of `width` numbers from `start` on."""

    start: int
    length: int
    width: int

    def of(self, packed: Tensor) -> Tensor:
        """View the part of each row, [B, length, width]."""
        part = packed[:, self.start : self.start + self.length * self.width]
        return part.unflatten(1, (self.length, self.width))


class CodecStep:
    """Decodes frames from packed states, on the device of the codec.

    Launches depend on the sizes of the model alone. Products are the library's at any number of rows: this package's
    own would share counters with those of the frame that is computed beside it on another stream.

    Attributes:
        width: numbers of a packed state. All zeros is the state of a stream that has not begun.
        dtype: of the numbers.
        noise_per_frame: samples of noise that a frame takes; 0 where the head has no source.

    Args:
        codec: `can_step`; on its device.
    """

    def __init__(self, codec: CodecDecoder) -> None:
        self._codec: Final = codec
        self._places: dict[tuple[int, int], _Place] = {}
        self.width = 0
        self.dtype = codec.dtype
        config = codec.config
        for block, module in zip(config.decoder_blocks, codec.decoder_blocks, strict=True):
            if isinstance(block, ConvBlockConfig) and isinstance(module, ConvBlock):
                self._add_place((block.index, 0), module.taps - 1, block.in_channels)
            elif isinstance(module, CodecTransformer):
                for number, layer in enumerate(module.layers):
                    assert isinstance(layer, CodecLayer)
                    kv_width = layer.attention.widths[1]
                    self._add_place((block.index, number), layer.attention.window, 2 * kv_width)
        head = codec.output_proj
        if isinstance(head, SourceFilterProjection):
            num_bytes = 4 * pack_source(head.fresh(1)).shape[1]
            self._output_place = self._add_place((-1, 0), 1, num_bytes // self.dtype.itemsize)
            self.noise_per_frame = config.samples_per_frame
        else:
            self._output_place = self._add_place((-1, 0), config.patch_kernel - 1, config.dim)
            self.noise_per_frame = 0
        books = codec.quantizer.codebooks
        # As `Quantizer.codes_to_latent` computes them, by audio token.
        levels = torch.arange(books.acoustic_size, device=codec.quantizer.semantic_table.device)
        self._levels = F.pad(levels * 2 / (books.acoustic_size - 1) - 1, (NUM_SPECIAL_CODES, 0))

    @staticmethod
    def can_step(codec: CodecDecoder) -> bool:
        """Tell whether every frame of a codec gives its samples at once, from the first on."""
        blocks = [block for block in codec.config.decoder_blocks if isinstance(block, ConvBlockConfig)]
        upsamples_alone = all(
            block.stride <= block.kernel if block.kind == "transposed" else block.stride == 1 for block in blocks
        )
        # A source-filter head reflects nothing.
        waits = codec.config.source_filter_head is None and codec.config.steps_per_frame < codec.config.patch_kernel
        return upsamples_alone and not waits

    def draw_noise(self, streams: Sequence[tuple[NoiseKey, int]], num_frames: int) -> Tensor:
        """See StaticCodec."""
        places = [NoisePlace(key, frame) for key, frame in streams]
        return draw_source_noise(places, num_frames, self.noise_per_frame)

    def __call__(self, audio_tokens: Tensor, packed: Tensor, before: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Decode T more frames of each of B streams.

        Args:
            audio_tokens: [B, T, K] int64, no END_AUDIO.
            packed: [B, width], the states.
            before: [B] int64, frames that each stream has had.
            noise: [B, T * noise_per_frame] float32.

        Returns:
            Samples [B, S] float32, not clipped; and the states after these frames.
        """
        renewed = torch.empty_like(packed)
        latent = self._latent(audio_tokens)
        x = latent.to(self.dtype)
        num_steps = 1  # of a frame
        for block, module in zip(self._codec.config.decoder_blocks, self._codec.decoder_blocks, strict=True):
            if isinstance(module, ConvBlock):
                start = "zeros" if module.is_transposed else "repeat"
                x = self._convolve(module, x, (self._places[block.index, 0], packed, renewed), before, start)
                num_steps *= module.stride
            elif isinstance(module, CodecTransformer):
                positions = before * num_steps
                for number, layer in enumerate(module.layers):
                    assert isinstance(layer, CodecLayer)
                    place = self._places[block.index, number]
                    x = self._run_layer(layer, x, place.of(packed), place.of(renewed), positions)
        head = self._codec.output_proj
        if isinstance(head, SourceFilterProjection):
            return self._excite(head, x, latent, noise, packed, renewed), renewed
        return self._to_samples(head, x, packed, renewed, before), renewed

    def unpack(self, packed: Tensor, num_frames: int, noise_key: NoiseKey) -> CodecState:
        """Make the state of the reference from one stream's packed state [width] after some frames."""
        state = CodecState.fresh(self._codec, noise_key)
        state.num_frames = num_frames
        state.noise = (NoisePlace(noise_key, num_frames),)
        if num_frames == 0:
            return state
        row, num_steps = packed[None].clone(), 1
        for block, module in zip(self._codec.config.decoder_blocks, self._codec.decoder_blocks, strict=True):
            if isinstance(module, ConvBlock):
                tail = self._places[block.index, 0].of(row).transpose(1, 2)
                if module.is_transposed:
                    # It keeps what overlaps the next outputs, and not the inputs that make it.
                    num_outputs = module.as_matrix().shape[0] // module.stride
                    tail = module.transpose(tail, None)[1] if tail.shape[-1] else tail.new_zeros(1, num_outputs, 0)
                state.conv_tails[block.index] = tail
                num_steps *= module.stride
            elif isinstance(module, CodecTransformer):
                for number, layer in enumerate(module.layers):
                    assert isinstance(layer, CodecLayer)
                    past = self._places[block.index, number].of(row)
                    num_seen = min(past.shape[1], num_frames * num_steps)
                    cache = _unpack_cache(layer, past[:, past.shape[1] - num_seen :])
                    state.layer_caches[block.index][number] = cache
        if isinstance(self._codec.output_proj, SourceFilterProjection):
            state.source = unpack_source(self._output_place.of(row)[:, 0], self._codec.output_proj)
        else:
            state.output_tail = self._output_place.of(row).transpose(1, 2)
        return state

    def _add_place(self, key: tuple[int, int], length: int, width: int) -> _Place:
        place = self._places[key] = _Place(self.width, length, width)
        self.width += length * width
        return place

    def _latent(self, audio_tokens: Tensor) -> Tensor:
        """Look up what the decoder reads, [B, T, C]."""
        table = self._codec.quantizer.semantic_table
        semantic = F.embedding(audio_tokens[..., 0] - NUM_SPECIAL_CODES, table)
        return torch.cat((semantic, self._levels[audio_tokens[..., 1:]]), dim=-1)

    def _convolve(
        self, block: ConvBlock, x: Tensor, state: tuple[_Place, Tensor, Tensor], before: Tensor, start: Start
    ) -> Tensor:
        place, packed, renewed = state
        if place.length:
            x = shifted_columns(x, place.of(packed), place.of(renewed), before, start)
        outputs = F.linear(x, block.as_matrix())
        if not block.is_transposed:
            return outputs
        return outputs.unflatten(-1, (block.stride, -1)).flatten(1, 2)

    def _run_layer(self, layer: CodecLayer, x: Tensor, past: Tensor, kept: Tensor, positions: Tensor) -> Tensor:
        attention, config = layer.attention, self._codec.config
        projected = attention.project(layer.attention_norm(x))
        norms = None
        if config.qk_norm:
            norms = (attention.q_norm.weight, attention.k_norm.weight, config.qk_norm_eps)
        slopes, head_dim = attention.alibi_slopes, config.head_dim
        mixed = attention.wo(attend_after_past(projected, past, kept, positions, slopes, norms, head_dim))
        x = torch.addcmul(x, mixed, layer.attention_scale) if layer.has_scales else x + mixed
        mapped = layer.feed_forward(layer.ffn_norm(x))
        return torch.addcmul(x, mapped, layer.ffn_scale) if layer.has_scales else x + mapped

    def _excite(
        self, head: SourceFilterProjection, x: Tensor, latent: Tensor, noise: Tensor, packed: Tensor, renewed: Tensor
    ) -> Tensor:
        state = unpack_source(self._output_place.of(packed)[:, 0], head)
        samples, after = head(x.transpose(1, 2), latent.transpose(1, 2), noise, state)
        self._output_place.of(renewed)[:, 0].copy_(pack_source(after).view(self.dtype))
        return samples

    def _to_samples(
        self, head: ConvBlock | SpectralProjection, x: Tensor, packed: Tensor, renewed: Tensor, before: Tensor
    ) -> Tensor:
        place = self._output_place
        if isinstance(head, ConvBlock):
            patches = self._convolve(head, x, (place, packed, renewed), before, "reflect")
        else:
            padded = torch.cat((past_of(x, place.of(packed), before, "reflect"), x), dim=1)
            place.of(renewed).copy_(padded[:, x.shape[1] :])
            patches = head(padded.transpose(1, 2)).transpose(1, 2)
        return patches.flatten(1).float()


def _unpack_cache(layer: CodecLayer, past: Tensor) -> LayerCache:
    key, value = past.chunk(2, dim=-1)
    if layer.attention.config.qk_norm:
        key = layer.attention.k_norm(key)
    head_dim = layer.attention.config.head_dim
    return LayerCache(split_heads(key, head_dim), split_heads(value, head_dim))


def pack_source(state: SourceState) -> Tensor:
    """Lay the state of a source side by side, [B, N] float32; a phase takes the bits of one number."""
    # Its 32 bits as a whole number with a sign.
    phase = (state.phase - ((state.phase >> 31) << 32)).to(torch.int32).view(torch.float32)
    parts = [phase if tensor is state.phase else tensor for tensor in state.tensors()]
    return torch.cat([part.reshape(len(part), -1) for part in parts], dim=1)


def unpack_source(packed: Tensor, head: SourceFilterProjection) -> SourceState:
    """Make the state of a source from what `pack_source` laid side by side, in numbers of any size."""
    # Copied: a view of another size must begin at a whole number.
    numbers = packed.clone(memory_format=torch.contiguous_format).view(torch.float32)
    shapes = [tensor.shape[1:] for tensor in head.fresh(1).tensors()]
    parts = numbers.split([shape.numel() for shape in shapes], dim=1)
    state = SourceState(*(part.reshape(-1, *shape) for part, shape in zip(parts, shapes, strict=True)))
    state.phase = state.phase.contiguous().view(torch.int32).long() & 0xFFFFFFFF
    return state
