"""Bands of frequency that are even on the mel scale. Tables only; torch computes them on the CPU."""

from __future__ import annotations

import math

import torch
from torch import Tensor

_CPU = torch.device("cpu")


def mel_points(count: int, low: float, high: float) -> Tensor:
    """Place `count` frequencies in Hz evenly on the mel scale from `low` to `high`."""
    low_mel, high_mel = (2595 * math.log10(1 + frequency / 700) for frequency in (low, high))
    return 700 * (10 ** (torch.linspace(low_mel, high_mel, count, device=_CPU) / 2595) - 1)


def mel_filters(num_bands: int, window: int, *, sample_rate: int, low: float = 0.0, high: float) -> Tensor:
    """Make triangular filters that are even on the mel scale: [bands, window / 2 + 1]."""
    edges = mel_points(num_bands + 2, low, high)
    bins = torch.linspace(0, sample_rate / 2, window // 2 + 1, device=_CPU)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return torch.minimum(rising, falling).clamp(min=0)


def mel_interpolation(num_knots: int, num_bins: int, sample_rate: int) -> Tensor:
    """Make the table that turns values at mel-spaced knots into values at all bins, linearly in between.

    Args:
        num_knots: frequencies from 0 to half the sample rate, even on the mel scale; two at least.
        num_bins: frequencies from 0 to half the sample rate, even in Hz.
        sample_rate: in Hz.

    Returns:
        [num_knots, num_bins] float64; columns add up to 1.
    """
    knots = mel_points(num_knots, 0.0, sample_rate / 2).double()
    bins = torch.linspace(0, sample_rate / 2, num_bins, device=_CPU, dtype=torch.float64)
    right = torch.searchsorted(knots, bins, right=True).clamp(1, num_knots - 1)
    share = ((bins - knots[right - 1]) / (knots[right] - knots[right - 1])).clamp(0, 1)
    table = torch.zeros(num_knots, num_bins, device=_CPU, dtype=torch.float64)
    columns = torch.arange(num_bins, device=_CPU)
    table[right - 1, columns] = 1 - share
    table[right, columns] += share
    return table
