"""The codec encoder: samples in, frames of codes out.

Only some checkpoints hold it: the published 4B file does not, so cloning from audio needs another
one. Works on a whole clip at once. Read next: `voxtral.voices.prompt`, which makes a voice from codes.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxtral.config import CodecConfig, ConvBlockConfig, TransformerBlockConfig
from voxtral.model.codec import CodecTransformer, ConvBlock, LayerCache, pad_reflect_left
from voxtral.model.layers import last
from voxtral.model.mel import mel_filters

# Steps that a transformer sees at once: bounds the memory of the attention masks, changes no result.
_STEPS_PER_PASS = 256


# Of the bands of a mel input: what is taken for silence, and what brings speech near to 0.
_MEL_FLOOR, _MEL_OFFSET = 1e-3, 2.0


class MelProjection(nn.Module):
    """What the encoder hears, as log energies of bands: patches to hidden states, with silence before the first.

    Stands in the place of the convolution `input_proj` where params.json has `mel_input`. A step hears the same patches
    as the convolution does. Computed in float32.

    Source: this project's extension for nano (docs/MODEL.md, "Mel input").
    """

    window: Tensor
    filters: Tensor

    def __init__(self, config: CodecConfig, num_bands: int) -> None:
        super().__init__()
        self.config = config
        self.num_bands = num_bands
        self.linear = nn.Linear(num_bands, config.dim)
        self.init_tables(torch.device("cpu"))

    def init_tables(self, device: torch.device) -> None:
        """Compute what is no weight, float32: the window and the filters [size / 2 + 1, bands]."""
        size, rate = self.config.synthesis_window, self.config.sample_rate
        self.register_buffer("window", torch.hann_window(size, dtype=torch.float32, device=device), persistent=False)
        filters = mel_filters(self.num_bands, size, sample_rate=rate, high=rate / 2)
        self.register_buffer("filters", filters.T.contiguous().to(device), persistent=False)

    def bands(self, patches: Tensor) -> Tensor:
        """Give the log energies of [B, patch, T], [B, T, bands] float32."""
        samples = patches.transpose(1, 2).flatten(1).float()
        size, patch = self.config.synthesis_window, self.config.patch_size
        heard = F.pad(samples, (size - patch, 0)).unfold(1, size, patch) * self.window
        return (torch.fft.rfft(heard).abs() @ self.filters).clamp(min=_MEL_FLOOR).log() + _MEL_OFFSET

    def forward(self, patches: Tensor) -> Tensor:
        """Map [B, patch, T] to [B, D, T] in the dtype of the weights."""
        with torch.autocast(patches.device.type, enabled=False):
            return self.linear(self.bands(patches).to(self.linear.weight.dtype)).transpose(1, 2)


class CodecEncoder(nn.Module):
    """Samples to latent; the decoder's quantizer turns the latent into codes."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.input_proj: ConvBlock | MelProjection = (
            ConvBlock(config.patch_size, config.dim, config.patch_kernel, 1)
            if config.mel_bands is None
            else MelProjection(config, config.mel_bands)
        )
        blocks: list[nn.Module] = []
        for block in config.encoder_blocks:
            if isinstance(block, TransformerBlockConfig):
                blocks.append(CodecTransformer(config, block))
            else:
                blocks.append(ConvBlock(block.in_channels, block.out_channels, block.kernel, block.stride))
        self.encoder_blocks = nn.ModuleList(blocks)

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the weights, hence of the computation."""
        return next(self.input_proj.parameters()).dtype

    def forward(self, samples: Tensor) -> Tensor:
        """Encode a whole clip.

        Args:
            samples: [B, S] float32 in [-1, 1], S at least 1; zeros complete the last patch.

        Returns:
            [B, C, T], one column for each frame, partial frames included.
        """
        return last(self.block_outputs(samples))

    def block_outputs(self, samples: Tensor) -> Iterator[Tensor]:
        """Yield the output [B, D, T'] of input_proj, then of each block; argument as in `forward`."""
        patch = self.config.patch_size
        padded = F.pad(samples, (0, -samples.shape[-1] % patch))
        x = padded.unflatten(-1, (-1, patch)).transpose(1, 2)  # [B, patch, steps]
        if isinstance(self.input_proj, MelProjection):
            x = self.input_proj(x)
        else:
            x = self.input_proj(pad_reflect_left(x.to(self.dtype), self.config.patch_kernel - 1))
        yield x
        for config, block in zip(self.config.encoder_blocks, self.encoder_blocks, strict=True):
            if isinstance(block, CodecTransformer):
                x = _run_in_passes(block, x)
            elif isinstance(config, ConvBlockConfig) and isinstance(block, ConvBlock):
                x = block(_pad_replicate(x, config))
            yield x


def _pad_replicate(x: Tensor, config: ConvBlockConfig) -> Tensor:
    # The right side is completed to whole strides with the edge too, not with zeros.
    return F.pad(x, (config.kernel - config.stride, -x.shape[-1] % config.stride), mode="replicate")


def _run_in_passes(block: CodecTransformer, x: Tensor) -> Tensor:
    caches = [LayerCache() for _ in block.layers]
    return torch.cat([block(part, caches) for part in x.split(_STEPS_PER_PASS, dim=-1)], dim=-1)
