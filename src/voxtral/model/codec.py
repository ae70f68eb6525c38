"""The codec decoder: frames of codes in, samples out, exactly streaming through explicit state.

Everything is causal and has finite memory, so a state of a few hundred kilobytes replaces decoding
old frames again: any cutting of the frames gives the samples of the whole. The only look-ahead is in
the first few patches, whose padding reflects what follows them. Read next: `codec_encoder`, which
shares the layers, and docs/MODEL.md, "Codec decoder".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxtral.config import CodebookConfig, CodecConfig, ConvBlockConfig, TransformerBlockConfig
from voxtral.model.codebooks import Quantizer
from voxtral.model.codec_protocol import NoiseKey
from voxtral.model.kernels.window import attend_in_window, window_bias
from voxtral.model.layers import FeedForward, RMSNorm, last, split_heads
from voxtral.model.linear import concatenate_linears
from voxtral.model.source import NoisePlace, Pitch, draw_source_noise
from voxtral.model.source_filter import PitchOutput, SourceFilterProjection, SourceState

# Frames decoded at once when a whole signal is asked for: bounds the memory of the attention masks.
FRAMES_PER_PASS = 25

# Far louder than full scale, so that a wild hidden state becomes no infinity.
_MAX_LOG_MAGNITUDE = 8.0


@dataclass(eq=False)
class LayerCache:
    """Keys and values of the last positions inside a layer's window; None before the first call."""

    keys: Tensor | None = None  # [B, Hkv, n <= window, Dh]
    values: Tensor | None = None


@dataclass(eq=False)
class CodecState:
    """All that the decoder remembers between two calls; owned by whoever runs the stream.

    Rows advance together. A fresh state is `CodecState.fresh(codec)`.
    """

    conv_tails: dict[int, Tensor | None]  # by block: last kernel - stride inputs, or overlapping outputs
    layer_caches: dict[int, list[LayerCache]]  # by block
    output_tail: Tensor | None = None  # [B, D, kernel - 1], last inputs of output_proj
    pending: Tensor | None = None  # [B, D, n], inputs of output_proj that still wait for the reflection
    source: SourceState | None = None  # of a source-filter head
    noise: tuple[NoisePlace, ...] = (NoisePlace(),)  # of each row, or one for all of them
    num_frames: int = field(default=0)

    @classmethod
    def fresh(cls, codec: CodecDecoder, noise_key: NoiseKey = (0, 0)) -> CodecState:
        """Make the state of a stream that has not begun; a source-filter head makes its noise of the key."""
        tails: dict[int, Tensor | None] = {}
        caches: dict[int, list[LayerCache]] = {}
        for block in codec.config.decoder_blocks:
            if isinstance(block, ConvBlockConfig):
                tails[block.index] = None
            else:
                caches[block.index] = [LayerCache() for _ in range(block.num_layers)]
        return cls(conv_tails=tails, layer_caches=caches, noise=(NoisePlace(noise_key),))

    @property
    def noise_key(self) -> NoiseKey:
        """What the state of a single stream was begun with."""
        return self.noise[0].key

    @property
    def shape(self) -> tuple[object, ...]:
        """Equal for states whose streams can be decoded side by side."""
        tensors = (*self.conv_tails.values(), self.output_tail, self.pending)
        caches = (cache for block in self.layer_caches.values() for cache in block)
        return (
            *(None if tensor is None else tensor.shape[1:] for tensor in tensors),
            *(None if cache.keys is None else cache.keys.shape[1:] for cache in caches),
        )

    @classmethod
    def stack(cls, states: Sequence[CodecState]) -> CodecState:
        """Put streams of the same shape side by side, as rows; the states themselves stay as they are."""
        first = states[0]
        return cls(
            conv_tails={block: _stack([state.conv_tails[block] for state in states]) for block in first.conv_tails},
            layer_caches={
                block: [
                    LayerCache(
                        _stack([state.layer_caches[block][layer].keys for state in states]),
                        _stack([state.layer_caches[block][layer].values for state in states]),
                    )
                    for layer in range(len(caches))
                ]
                for block, caches in first.layer_caches.items()
            },
            output_tail=_stack([state.output_tail for state in states]),
            pending=_stack([state.pending for state in states]),
            source=SourceState.stack([state.source for state in states if state.source is not None])
            if first.source is not None
            else None,
            noise=tuple(place for state in states for place in state.noise),
            # The decoder only asks whether it is 0.
            num_frames=min(state.num_frames for state in states),
        )

    def take_row(self, stacked: CodecState, row: int, num_frames: int) -> None:
        """Go on from one row of streams that were decoded side by side, `num_frames` further."""

        def cut(tensor: Tensor | None) -> Tensor | None:
            # Copied: a view would keep the rows of all others alive.
            return None if tensor is None else tensor[row : row + 1].clone()

        self.conv_tails = {block: cut(tail) for block, tail in stacked.conv_tails.items()}
        self.layer_caches = {
            block: [LayerCache(cut(cache.keys), cut(cache.values)) for cache in caches]
            for block, caches in stacked.layer_caches.items()
        }
        self.output_tail, self.pending = cut(stacked.output_tail), cut(stacked.pending)
        self.source = None if stacked.source is None else stacked.source.row(row)
        self.noise = (stacked.noise[row],)
        self.num_frames += num_frames


def _stack(tensors: Sequence[Tensor | None]) -> Tensor | None:
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.cat(present) if present else None


class Conv(nn.Module):
    """The weight of a convolution without bias, weight norm folded at load; padding is the caller's."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(shape))


class ConvBlock(nn.Module):
    """A convolution under the name that the checkpoint gives it (`<block>.conv`), or, once `fuse`d, one matrix.

    The matrix multiplies the last `taps` inputs of each step, side by side. A library of convolutions would search for
    a plan each time that rows or frames are others than before; a product needs none.
    """

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int, *, transposed: bool = False):
        super().__init__()
        shape = (in_channels, out_channels, kernel) if transposed else (out_channels, in_channels, kernel)
        self.conv = Conv(shape)
        self.matrix: nn.Parameter | None = None
        self.kernel = kernel
        self.stride = stride
        self.is_transposed = transposed
        # A transposed convolution makes `stride` outputs of each step, which read so many inputs.
        self.taps = -(-kernel // stride) if transposed else kernel

    def fuse(self) -> None:
        """Keep the matrix in place of the convolution; for inference, and not undone."""
        if self.matrix is None:
            self.matrix = nn.Parameter(self.as_matrix().contiguous(), requires_grad=False)
            del self.conv

    def is_in(self, dtype: torch.dtype, device_type: str) -> bool:
        """Tell whether the weights have a dtype and are on a kind of device."""
        weight = self.conv.weight if self.matrix is None else self.matrix
        return weight.dtype is dtype and weight.device.type == device_type

    def as_matrix(self) -> Tensor:
        """Give the matrix [N, taps * C], the oldest input first; N is C', or stride * C', the earliest output first."""
        if self.matrix is not None:
            return self.matrix
        weight = self.conv.weight
        if not self.is_transposed:
            return weight.transpose(1, 2).flatten(1)
        whole = F.pad(weight, (0, self.taps * self.stride - self.kernel))
        newest_first = whole.unflatten(-1, (self.taps, self.stride))  # [C, C', taps, stride]
        return newest_first.flip(2).permute(3, 1, 2, 0).flatten(2).flatten(0, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve an input that is padded already: [B, C, T] to [B, C', T']."""
        if self.matrix is not None:
            return self._multiply(x, self.stride).transpose(1, 2)
        return F.conv1d(x, self.conv.weight, stride=self.stride)

    def transpose(self, x: Tensor, tail: Tensor | None) -> tuple[Tensor, Tensor]:
        """Upsample [B, C, T] to exactly [B, C', T * stride]; also return what overlaps the next call.

        The last kernel - stride outputs of a stream are dropped, none on the left.
        """
        overlap, num_final = self.kernel - self.stride, x.shape[-1] * self.stride
        if self.matrix is not None:
            steps = self._multiply(F.pad(x, (self.taps - 1, self.taps - 1)), 1)  # [B, T + taps - 1, stride * C']
            full = steps.unflatten(-1, (self.stride, -1)).flatten(1, 2).transpose(1, 2)[..., : num_final + overlap]
        else:
            full = F.conv_transpose1d(x, self.conv.weight, stride=self.stride)
        if tail is not None:
            full[..., :overlap] += tail
        return full[..., :num_final], full[..., num_final:].clone()

    def _multiply(self, x: Tensor, stride: int) -> Tensor:
        """Multiply the matrix and `taps` inputs at a time: [B, C, T] to [B, T', N]."""
        windows = x.unfold(-1, self.taps, stride)  # [B, C, T', taps]
        return F.linear(windows.permute(0, 2, 3, 1).flatten(2), self.as_matrix())


class SpectralProjection(nn.Module):
    """Hidden states to patches through spectra: an inverse short-time Fourier transform, causal.

    Stands in the place of the convolution `output_proj` where params.json has `spectral_head`. A step writes the
    logarithm of the magnitude and the phase of each frequency; its wave sounds in its own patch and the next
    kernel - 1. Always computed in float32.

    Source: this project's extension for nano (docs/MODEL.md, "Spectral head"); after Siuzdak 2023 (Vocos).
    """

    window: Tensor

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.linear = nn.Linear(config.dim, 2 * config.num_bins)
        self.init_tables(torch.device("cpu"))

    def init_tables(self, device: torch.device) -> None:
        """Compute what is no weight: the window of a wave, [patch * kernel] float32."""
        # Hann windows that follow each other by a patch add up to half the kernel.
        window = torch.hann_window(self.config.synthesis_window, dtype=torch.float32, device=device)
        self.register_buffer("window", window * (2 / self.config.patch_kernel), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map hidden states [B, D, T] that are padded already to [B, patch, T - kernel + 1] float32."""
        weight, bias = self.linear.weight.float(), self.linear.bias.float()
        magnitude, phase = F.linear(x.transpose(1, 2).float(), weight, bias).chunk(2, dim=-1)
        spectra = torch.polar(magnitude.clamp(max=_MAX_LOG_MAGNITUDE).exp(), phase)
        waves = torch.fft.irfft(spectra, n=self.config.synthesis_window) * self.window
        parts = waves.unflatten(-1, (self.config.patch_kernel, self.config.patch_size))
        reach, num_steps = self.config.patch_kernel - 1, x.shape[-1]
        # Part j of a wave sounds j patches after the step that made it.
        patches = [parts[:, reach - j : num_steps - j, j] for j in range(self.config.patch_kernel)]
        return torch.stack(patches).sum(0).transpose(1, 2)


class CodecAttention(nn.Module):
    """Causal sliding-window attention with ALiBi; q and k are normalised over their whole width."""

    alibi_slopes: Tensor

    def __init__(self, config: CodecConfig, window: int) -> None:
        super().__init__()
        self.config = config
        self.window = window
        width, kv_width = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.wq = nn.Linear(config.dim, width, bias=False)
        self.wk = nn.Linear(config.dim, kv_width, bias=False)
        self.wv = nn.Linear(config.dim, kv_width, bias=False)
        self.wo = nn.Linear(width, config.dim, bias=config.use_biases)
        self.wqkv: nn.Module | None = None
        self.widths = (width, kv_width, kv_width)
        if config.qk_norm:
            self.q_norm = RMSNorm(width, config.qk_norm_eps)
            self.k_norm = RMSNorm(kv_width, config.qk_norm_eps)
        self.init_tables(torch.device("cpu"))

    def init_tables(self, device: torch.device) -> None:
        """Compute what is no weight: the slope of each head, always float32."""
        slopes = torch.tensor(self.config.alibi_slopes, dtype=torch.float32, device=device)
        self.register_buffer("alibi_slopes", slopes, persistent=False)

    def fuse(self) -> None:
        """Put wq, wk and wv one below the other; for inference, and not undone."""
        if self.wqkv is None:
            self.wqkv = concatenate_linears((self.wq, self.wk, self.wv))
            del self.wq, self.wk, self.wv

    def project(self, x: Tensor) -> Tensor:
        """Project [B, T, D] to queries, keys and values side by side, [B, T, (H + 2 Hkv) * Dh]."""
        if self.wqkv is not None:
            return self.wqkv(x)
        return torch.cat((self.wq(x), self.wk(x), self.wv(x)), dim=-1)

    def bias(self, num_queries: int, num_keys: int) -> Tensor:
        """Make the additive bias of queries that are the last of `num_keys` positions: [H, T, S] float32."""
        return window_bias(self.alibi_slopes, self.window, num_queries, num_keys)

    def forward(self, x: Tensor, cache: LayerCache) -> Tensor:
        """Attend from [B, T, D] to itself and to the cache, which keeps the last `window` positions."""
        if self.wqkv is None:
            query, key, value = self.wq(x), self.wk(x), self.wv(x)
        else:
            query, key, value = self.wqkv(x).split(self.widths, dim=-1)
        if self.config.qk_norm:
            query, key = self.q_norm(query), self.k_norm(key)
        query, key, value = (split_heads(part, self.config.head_dim) for part in (query, key, value))
        if cache.keys is not None and cache.values is not None:
            key = torch.cat((cache.keys, key), dim=2)
            value = torch.cat((cache.values, value), dim=2)
        cache.keys = key[:, :, -self.window :].clone()
        cache.values = value[:, :, -self.window :].clone()
        return self.wo(attend_in_window(query, key, value, self.alibi_slopes, self.window))


class CodecLayer(nn.Module):
    """One pre-norm layer with layer scales."""

    def __init__(self, config: CodecConfig, window: int) -> None:
        super().__init__()
        self.attention = CodecAttention(config, window)
        self.feed_forward = FeedForward(config.dim, config.hidden_dim, use_biases=config.use_biases)
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.ffn_norm = RMSNorm(config.dim, config.norm_eps)
        self.has_scales = config.layer_scale
        if config.layer_scale:
            self.attention_scale = nn.Parameter(torch.ones(config.dim))
            self.ffn_scale = nn.Parameter(torch.ones(config.dim))

    def forward(self, x: Tensor, cache: LayerCache) -> Tensor:
        """Map [B, T, D]."""
        mixed = self.attention(self.attention_norm(x), cache)
        x = x + (self.attention_scale * mixed if self.has_scales else mixed)
        mapped = self.feed_forward(self.ffn_norm(x))
        return x + (self.ffn_scale * mapped if self.has_scales else mapped)


class CodecTransformer(nn.Module):
    """A stack of layers of one window."""

    def __init__(self, config: CodecConfig, block: TransformerBlockConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(CodecLayer(config, block.window) for _ in range(block.num_layers))

    def forward(self, x: Tensor, caches: list[LayerCache]) -> Tensor:
        """Map channels-first [B, D, T] and advance the caches."""
        x = x.transpose(1, 2)
        for layer, cache in zip(self.layers, caches, strict=True):
            x = layer(x, cache)
        return x.transpose(1, 2)


def pad_reflect_left(x: Tensor, amount: int) -> Tensor:
    """Reflect the start of [B, C, T] to the left, edge sample excluded.

    An input too short to reflect is first lengthened with zeros on the right, which go again after.
    """
    missing = max(0, amount - x.shape[-1] + 1)
    padded = F.pad(F.pad(x, (0, missing)), (amount, 0), mode="reflect")
    return padded[..., : padded.shape[-1] - missing]


class CodecDecoder(nn.Module):
    """Codes to samples."""

    def __init__(self, config: CodecConfig, codebooks: CodebookConfig) -> None:
        super().__init__()
        self.config = config
        self.quantizer = Quantizer(config, codebooks)
        blocks: list[nn.Module] = []
        for block in config.decoder_blocks:
            if isinstance(block, TransformerBlockConfig):
                blocks.append(CodecTransformer(config, block))
            else:
                transposed = block.kind == "transposed"
                blocks.append(
                    ConvBlock(block.in_channels, block.out_channels, block.kernel, block.stride, transposed=transposed)
                )
        self.decoder_blocks = nn.ModuleList(blocks)
        self.output_proj: ConvBlock | SpectralProjection | SourceFilterProjection
        if config.source_filter_head is not None:
            self.output_proj = SourceFilterProjection(config)
        elif config.spectral_head:
            self.output_proj = SpectralProjection(config)
        else:
            self.output_proj = ConvBlock(config.dim, config.patch_size, config.patch_kernel, 1)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights, hence of the computation."""
        return next(self.output_proj.parameters()).dtype

    @torch.inference_mode(False)
    def fuse(self) -> None:
        """Join matrices that read the same input, and turn convolutions into products, in place; not undone.

        For GPUs: on a CPU it would change the rounding, hence the samples of a seed.
        """
        for module in self.modules():
            if isinstance(module, ConvBlock | CodecAttention | FeedForward):
                module.fuse()

    def forward(self, codes: Tensor, state: CodecState, *, is_last: bool = False) -> Tensor:
        """Decode T more frames of a stream.

        With the published sizes every call returns its T * samples_per_frame samples at once. Where a
        frame is shorter than the reflection at the start, the first samples wait for the frames that
        they need, or for `is_last`.

        Args:
            codes: [B, K, T] int64, codec alphabet; T may be 0 with `is_last`.
            state: of this stream; advanced.
            is_last: no frame follows, so nothing needs to wait.

        Returns:
            [B, S] float32 samples, not clipped.
        """
        return self.advance(self.quantizer.codes_to_latent(codes, self.latent_dtype), state, is_last=is_last)

    @property
    def latent_dtype(self) -> torch.dtype:
        """Dtype of the latent: a pitch is told from it in float32, whatever the rest computes in."""
        return torch.float32 if isinstance(self.output_proj, SourceFilterProjection) else self.dtype

    def predict_pitch(self, latent: Tensor) -> PitchOutput | None:
        """Tell the pitch of whole signals from their latent [B, C, T], with a gradient; None from other heads."""
        head = self.output_proj
        return head.predict_pitch(latent.float()) if isinstance(head, SourceFilterProjection) else None

    def advance(self, latent: Tensor, state: CodecState, *, is_last: bool, pitch: Pitch | None = None) -> Tensor:
        """Decode the latent [B, C, T] of T more frames; as `forward`. A pitch drives a source in place of its own."""
        num_rows, num_frames = latent.shape[0], latent.shape[-1]
        x = torch.zeros(num_rows, self.config.dim, 0, device=latent.device, dtype=self.dtype)
        if num_frames:
            state.num_frames += num_frames
            x = last(self.block_outputs(latent.to(self.dtype), state))
        if isinstance(self.output_proj, SourceFilterProjection):
            return self._excite(self.output_proj, latent, x, state, pitch)
        if state.pending is not None:
            x = torch.cat((state.pending, x), dim=-1)
        reach = self.config.patch_kernel - 1
        if state.output_tail is None and x.shape[-1] <= reach and not is_last:
            state.pending = x
            return torch.zeros(num_rows, 0, device=latent.device)
        state.pending = None
        if x.shape[-1] == 0:
            return torch.zeros(num_rows, 0, device=latent.device)
        padded = pad_reflect_left(x, reach) if state.output_tail is None else torch.cat((state.output_tail, x), -1)
        state.output_tail = padded[..., padded.shape[-1] - reach :].clone()
        patches = self.output_proj(padded)  # [B, patch, steps]
        return patches.transpose(1, 2).flatten(1).float()

    def _excite(
        self, head: SourceFilterProjection, latent: Tensor, hidden: Tensor, state: CodecState, pitch: Pitch | None
    ) -> Tensor:
        num_rows, num_frames = latent.shape[0], latent.shape[-1]
        if num_frames == 0:
            return torch.zeros(num_rows, 0, device=latent.device)
        noise = draw_source_noise(state.noise, num_frames, self.config.samples_per_frame).to(latent.device)
        source = head.fresh(num_rows) if state.source is None else state.source
        samples, state.source = head(hidden, latent, noise, source, pitch)
        state.noise = tuple(place.after(num_frames) for place in state.noise)
        return samples

    def decode(self, codes: Tensor) -> Tensor:
        """Decode a whole signal, [B, K, T] to [B, T * samples_per_frame] float32."""
        return self.decode_latent(self.quantizer.codes_to_latent(codes, self.latent_dtype))

    def decode_latent(
        self, latent: Tensor, *, frames_per_pass: int = FRAMES_PER_PASS, pitch: Pitch | None = None
    ) -> Tensor:
        """Decode a whole signal from its latent, [B, C, T] to [B, T * samples_per_frame] float32.

        Where a gradient is wanted, it flows back to the latent through all passes.

        Args:
            latent: as `Quantizer.codes_to_latent` makes it; what lies between two codes is decoded, too.
            frames_per_pass: more need fewer operations, and memory for attention that grows with the square.
            pitch: of each step, [B, T * steps_per_frame]; drives a source-filter head in place of the codes' own.
        """
        state = CodecState.fresh(self)
        passes = latent.split(frames_per_pass, dim=-1)
        steps = frames_per_pass * self.config.steps_per_frame
        pitches = [None] * len(passes) if pitch is None else pitch.split(steps)
        parts = [
            self.advance(part, state, is_last=n == len(passes) - 1, pitch=driving)
            for n, (part, driving) in enumerate(zip(passes, pitches, strict=True))
        ]
        return torch.cat(parts, dim=-1)

    def block_outputs(self, latent: Tensor, state: CodecState) -> Iterator[Tensor]:
        """Yield the output [B, D, T'] of each block, given the latent [B, C, T] of new frames."""
        x = latent
        for config, block in zip(self.config.decoder_blocks, self.decoder_blocks, strict=True):
            if isinstance(block, CodecTransformer):
                x = block(x, state.layer_caches[config.index])
            elif isinstance(config, ConvBlockConfig) and isinstance(block, ConvBlock):
                x = self._convolve(block, config, x, state)
            yield x

    def _convolve(self, block: ConvBlock, config: ConvBlockConfig, x: Tensor, state: CodecState) -> Tensor:
        tail = state.conv_tails[config.index]
        if config.kind == "transposed":
            x, state.conv_tails[config.index] = block.transpose(x, tail)
            return x
        reach = config.kernel - 1
        # Replicated, not zero: the official first convolution repeats the edge (golden T7/block0).
        padded = F.pad(x, (reach, 0), mode="replicate") if tail is None else torch.cat((tail, x), dim=-1)
        state.conv_tails[config.index] = padded[..., padded.shape[-1] - reach :].clone()
        return block(padded)
