"""The loss of spectra, and the bank of waves that the input of the codec starts from.

Read next: `train.codec`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from voxtral.cloning.spectra import SpectralDistance, mel_points
from voxtral.cloning.spectra import mel_filters as mel_filters_at

SAMPLE_RATE = 24000


def mel_filters(num_bands: int, window: int, *, low: float = 0.0, high: float = 12000.0) -> Tensor:
    """Make triangular filters at the rate of the corpus; see `voxtral.cloning.spectra.mel_filters`."""
    return mel_filters_at(num_bands, window, sample_rate=SAMPLE_RATE, low=low, high=high)


class SpectralLoss(nn.Module):
    """The mean over rows of `SpectralDistance`."""

    def __init__(self) -> None:
        super().__init__()
        self.distance = SpectralDistance(SAMPLE_RATE)

    def forward(self, made: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Compare [B, S] float32 with [B, S]; return the loss and, to report, the log-mel L1 distance."""
        with torch.no_grad():
            wanted = self.distance.spectra(target)
        total, mel = self.distance(made, wanted)
        return total.mean(), mel.mean()


def filter_bank(num_bands: int, length: int, *, low: float = 60.0, high: float = 8000.0) -> tuple[Tensor, Tensor]:
    """Make windowed waves at mel-spaced frequencies, in phase and in quadrature: [bands, length] each.

    High bands get shorter windows: they need time resolution more than frequency resolution.
    """
    frequencies = mel_points(num_bands, low, high)
    time = torch.arange(length) - (length - 1) / 2
    widths = torch.where(frequencies < 1500, 1.0, torch.where(frequencies < 4000, 0.75, 0.5)) * length
    windows = torch.where(
        time.abs() < widths[:, None] / 2, 0.5 + 0.5 * torch.cos(2 * math.pi * time / widths[:, None]), 0.0
    )
    angles = 2 * math.pi * frequencies[:, None] / SAMPLE_RATE * time
    scale = windows.pow(2).sum(-1, keepdim=True).rsqrt()
    return windows * angles.cos() * scale, windows * angles.sin() * scale
