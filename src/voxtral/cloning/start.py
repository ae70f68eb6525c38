"""What an encoder begins its training with: weights that hear bands of frequency, and its optimisers.

From random weights a training takes several times as long (docs/LOG.md). The recipe of nano begins its whole codec
with the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxtral.model.codec import CodecLayer, CodecTransformer, ConvBlock
from voxtral.model.codec_encoder import CodecEncoder, MelProjection
from voxtral.model.layers import FeedForward
from voxtral.model.mel import mel_points

# What layers add at first. The .01 of checkpoints is for long trainings.
_LAYER_SCALE = 0.3
_NUM_BANDS = 80


def start_encoder(encoder: CodecEncoder, samples: Tensor, sample_rate: int) -> None:
    """Give an encoder the weights that its training begins with, drawn from torch's generator.

    Args:
        encoder: its weights are replaced.
        samples: [B, S], speech as it will hear.
        sample_rate: theirs, in Hz.
    """
    initialise_layers(encoder, (encoder.encoder_blocks,))
    initialise_input(encoder, samples, sample_rate)


@torch.no_grad()
def initialise_layers(network: nn.Module, stacks: Iterable[nn.ModuleList]) -> None:
    """Scale the weights of all products by their fan-in, and what layers add.

    Args:
        network: all of its linear layers.
        stacks: blocks whose convolutions and layer scales are meant.
    """
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0, module.in_features**-0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for stack in stacks:
        for block in stack:
            if isinstance(block, ConvBlock):
                weight = block.conv.weight
                # A transposed convolution sums as many terms as its stride leaves of its kernel.
                fan_in = weight.shape[0] * 2 if block.is_transposed else weight.shape[1] * weight.shape[2]
                nn.init.normal_(weight, 0, fan_in**-0.5)
            elif isinstance(block, CodecTransformer):
                for layer in cast("Iterable[CodecLayer]", block.layers):
                    if not layer.has_scales:
                        continue
                    nn.init.constant_(layer.attention_scale, _LAYER_SCALE)
                    nn.init.constant_(layer.ffn_scale, _LAYER_SCALE)


@torch.no_grad()
def initialise_input(encoder: CodecEncoder, samples: Tensor, sample_rate: int) -> None:
    """Let an encoder begin with the energy of bands, scaled by what samples [B, S] hold in each."""
    if isinstance(encoder.input_proj, MelProjection):
        _initialise_mel_input(encoder.input_proj, samples)
        return
    weight = encoder.input_proj.conv.weight  # [D, patch, kernel]
    patch, kernel = weight.shape[1:]
    first = cast(FeedForward, encoder.encoder_blocks[0].get_submodule("layers.0.feed_forward"))
    bands = min(_NUM_BANDS, len(weight) // 3, encoder.config.hidden_dim // 3)
    cosines, sines = filter_bank(bands, patch * kernel, sample_rate=sample_rate)
    waves = torch.cat((cosines, sines))
    heard = F.conv1d(samples[:, None], waves[:, None], stride=patch)
    waves = waves / (heard.pow(2).mean((0, 2)).sqrt()[:, None] + 1e-4)
    weight.zero_()
    weight[: 2 * bands] = waves.unflatten(1, (kernel, patch)).transpose(1, 2)
    nn.init.normal_(weight[2 * bands :], 0, (patch * kernel) ** -0.5)
    # The first feed-forward layer squares each band at three phases, which together do not depend on the phase,
    # and writes the energy to channels of its own.
    gate, up, down = (first.get_parameter(f"{name}.weight") for name in ("w1", "w3", "w2"))
    for phase in range(3):
        angle = 2 * math.pi * phase / 3
        rows = slice(phase * bands, (phase + 1) * bands)
        bank = torch.eye(bands) * 1.5
        wave = torch.cat((bank * math.cos(angle), bank * math.sin(angle)), dim=1)
        for matrix in (gate, up):
            matrix[rows] = 0
            matrix[rows, : 2 * bands] = wave
        down[:, rows] = 0
        energies = torch.arange(bands) + 2 * bands
        down[energies, torch.arange(bands) + phase * bands] = 1.0


def _initialise_mel_input(entry: MelProjection, samples: Tensor) -> None:
    """Let a mel input begin with random mixtures of its bands, each brought to mean 0 and variance 1."""
    patch = entry.config.patch_size
    whole = samples[:, : samples.shape[-1] // patch * patch]
    bands = entry.bands(whole.unflatten(-1, (-1, patch)).transpose(1, 2)).flatten(0, 1)
    mixtures = torch.randn(entry.linear.weight.shape) * entry.num_bands**-0.5
    entry.linear.weight.copy_(mixtures / (bands.std(0) + 1e-2))
    entry.linear.bias.copy_(-(entry.linear.weight @ bands.mean(0)))


def filter_bank(
    num_bands: int, length: int, *, sample_rate: int, low: float = 60.0, high: float = 8000.0
) -> tuple[Tensor, Tensor]:
    """Make windowed waves at mel-spaced frequencies, in phase and in quadrature: [bands, length] each.

    High bands get shorter windows: they need time resolution more than frequency resolution.
    """
    frequencies = mel_points(num_bands, low, high)
    time = torch.arange(length) - (length - 1) / 2
    widths = torch.where(frequencies < 1500, 1.0, torch.where(frequencies < 4000, 0.75, 0.5)) * length
    windows = torch.where(
        time.abs() < widths[:, None] / 2, 0.5 + 0.5 * torch.cos(2 * math.pi * time / widths[:, None]), 0.0
    )
    angles = 2 * math.pi * frequencies[:, None] / sample_rate * time
    scale = windows.pow(2).sum(-1, keepdim=True).rsqrt()
    return windows * angles.cos() * scale, windows * angles.sin() * scale


def make_optimisers(trained: nn.Module, rate: float) -> list[torch.optim.Optimizer]:
    """Make Muon for the matrices of the transformers and AdamW for the rest, at one scale of steps.

    With AdamW alone the decoder stays at the distance where Muon begins to fall (docs/LOG.md). Before torch 2.9, which
    has no Muon, AdamW gets all.
    """
    matrices, others = [], []
    has_muon = hasattr(torch.optim, "Muon")
    for name, parameter in trained.named_parameters():
        is_inner = parameter.ndim == 2 and "blocks" in name
        (matrices if is_inner and has_muon else others).append(parameter)
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(others, lr=rate, betas=(0.8, 0.99), weight_decay=0.01, fused=True)
    ]
    if has_muon:
        optimisers.append(torch.optim.Muon(matrices, lr=rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"))
    return optimisers
