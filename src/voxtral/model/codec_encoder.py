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

# Steps that a transformer sees at once: bounds the memory of the attention masks, changes no result.
_STEPS_PER_PASS = 256


class CodecEncoder(nn.Module):
    """Samples to latent; the decoder's quantizer turns the latent into codes."""

    def __init__(self, config: CodecConfig) -> None:
        super().__init__()
        self.config = config
        self.input_proj = ConvBlock(config.patch_size, config.dim, config.patch_kernel, 1)
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
        return self.input_proj.conv.weight.dtype

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
        padded = F.pad(samples, (0, -samples.shape[-1] % patch)).to(self.dtype)
        x = padded.unflatten(-1, (-1, patch)).transpose(1, 2)  # [B, patch, steps]
        x = self.input_proj(pad_reflect_left(x, self.config.patch_kernel - 1))
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
