"""The loss of spectra, at the rate of the corpus.

Read next: `train.codec`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from voxtral.cloning.spectra import SpectralDistance
from voxtral.model.mel import mel_filters as mel_filters_at

SAMPLE_RATE = 24000


def mel_filters(num_bands: int, window: int, *, low: float = 0.0, high: float = 12000.0) -> Tensor:
    """Make triangular filters at the rate of the corpus; see `voxtral.model.mel.mel_filters`."""
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
