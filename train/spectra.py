"""Spectra as losses, and the bank of waves that the input of the codec starts from.

Read next: `train.codec`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

SAMPLE_RATE = 24000

# Window, hop, mel bands.
_RESOLUTIONS = ((2048, 480, 80), (1024, 240, 80), (512, 120, 64), (256, 60, 32))
_REPORTED_WINDOW = 1024
_MEL_FLOOR, _STFT_FLOOR = 1e-3, 3e-3


def mel_filters(
    num_bands: int, window: int, *, sample_rate: int = SAMPLE_RATE, low: float = 0.0, high: float = 12000.0
) -> Tensor:
    """Make triangular filters that are even on the mel scale: [bands, window / 2 + 1]."""
    edges = mel_points(num_bands + 2, low, high)
    bins = torch.linspace(0, sample_rate / 2, window // 2 + 1)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0)


def mel_points(count: int, low: float, high: float) -> Tensor:
    """Place `count` frequencies in Hz evenly on the mel scale from `low` to `high`."""
    low_mel, high_mel = (2595 * math.log10(1 + frequency / 700) for frequency in (low, high))
    return 700 * (10 ** (torch.linspace(low_mel, high_mel, count) / 2595) - 1)


class SpectralLoss(nn.Module):
    """Distance of log-mel and log-STFT magnitudes, with spectral convergence, at four resolutions."""

    def __init__(self) -> None:
        super().__init__()
        for window, _, bands in _RESOLUTIONS:
            self.register_buffer(f"window_{window}", torch.hann_window(window), persistent=False)
            self.register_buffer(f"filters_{window}", mel_filters(bands, window), persistent=False)

    def _magnitude(self, samples: Tensor, window: int, hop: int) -> Tensor:
        shape = self.get_buffer(f"window_{window}")
        spectrum = torch.stft(samples, window, hop, window=shape, return_complex=True)
        return torch.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-7)

    def forward(self, made: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """Compare [B, S] float32 with [B, S]; return the loss and, to report, the log-mel L1 distance."""
        total = made.new_zeros(())
        reported = made.new_zeros(())
        for window, hop, _ in _RESOLUTIONS:
            got = self._magnitude(made, window, hop)
            with torch.no_grad():
                wanted = self._magnitude(target, window, hop)
            filters = self.get_buffer(f"filters_{window}")
            mel = _log_distance(filters @ got, filters @ wanted, _MEL_FLOOR)
            error = (got - wanted).pow(2).mean((1, 2)).sqrt()
            convergence = (error / (wanted.pow(2).mean((1, 2)).sqrt() + 1e-2)).mean()
            total = total + mel + 0.3 * _log_distance(got, wanted, _STFT_FLOOR) + 0.5 * convergence
            if window == _REPORTED_WINDOW:
                reported = mel.detach()
        return total / len(_RESOLUTIONS), reported


def _log_distance(got: Tensor, wanted: Tensor, floor: float) -> Tensor:
    return (got.clamp(min=floor).log() - wanted.clamp(min=floor).log()).abs().mean()


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
