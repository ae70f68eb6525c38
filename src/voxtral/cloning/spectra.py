"""How far one sound is from another by its spectra, and one pitch from another, in a way that has a gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxtral.model.mel import mel_filters
from voxtral.model.source import MIDDLE_PITCH, Pitch
from voxtral.model.source_filter import PitchOutput

# Window, hop, mel bands.
_RESOLUTIONS = ((2048, 480, 80), (1024, 240, 80), (512, 120, 64), (256, 60, 32))
_REPORTED_WINDOW = 1024
_MEL_FLOOR, _STFT_FLOOR = 1e-3, 3e-3
_STFT_WEIGHT, _CONVERGENCE_WEIGHT = 0.3, 0.5


@dataclass(frozen=True, eq=False)
class Spectrum:
    """A sound as one resolution shows it; F bins, M bands, N steps in time.

    Attributes:
        magnitude: [B, F, N].
        log_magnitude: [B, F, N].
        log_mel: [B, M, N].
    """

    magnitude: Tensor
    log_magnitude: Tensor
    log_mel: Tensor

    def take(self, rows: Tensor) -> Spectrum:
        """Take some of the rows, or one several times."""
        return Spectrum(self.magnitude[rows], self.log_magnitude[rows], self.log_mel[rows])


class SpectralDistance(nn.Module):
    """Distance of log-mel and log-STFT magnitudes, with spectral convergence, at four resolutions, for each row.

    Rows are of different length where they are told to be; what follows the end of one counts for nothing, so that a
    row has the same distance whatever lies beside it.

    Args:
        sample_rate: of the sounds, in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        super().__init__()
        for window, _, bands in _RESOLUTIONS:
            filters = mel_filters(bands, window, sample_rate=sample_rate, high=sample_rate / 2)
            self.register_buffer(f"window_{window}", torch.hann_window(window), persistent=False)
            self.register_buffer(f"filters_{window}", filters, persistent=False)

    def spectra(self, samples: Tensor) -> list[Spectrum]:
        """Look at [B, S] float32 in each resolution; silence lies before and after."""
        if samples.device.type == "mps":
            # The gradient of torch's transform is wrong there for more than a few seconds (docs/CLONING.md).
            samples = samples.cpu()
        return [self._look(samples, window, hop) for window, hop, _ in _RESOLUTIONS]

    def _look(self, samples: Tensor, window: int, hop: int) -> Spectrum:
        shape = cast(Tensor, self.get_buffer(f"window_{window}"))
        padded = F.pad(samples, (window // 2, window // 2))
        spectrum = torch.stft(padded, window, hop, window=shape, center=False, return_complex=True)
        magnitude = torch.sqrt(spectrum.real**2 + spectrum.imag**2 + 1e-7)
        mel = self.get_buffer(f"filters_{window}") @ magnitude
        return Spectrum(magnitude, magnitude.clamp(min=_STFT_FLOOR).log(), mel.clamp(min=_MEL_FLOOR).log())

    def forward(self, made: Tensor, target: list[Spectrum], lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Compare sounds with the spectra of others.

        Args:
            made: [B, S] float32.
            target: `spectra` of [B, S] float32, zero after the end of each.
            lengths: [B] int64, samples of each row; all of them by default.

        Returns:
            The distance of each row, and its distance in log-mel alone, to report: [B] each.
        """
        if lengths is not None:
            made = made * (torch.arange(made.shape[-1], device=made.device) < lengths[:, None])
        total = reported = made.new_zeros(len(made))
        for (window, hop, _), got, wanted in zip(_RESOLUTIONS, self.spectra(made), target, strict=True):
            steps = torch.arange(got.magnitude.shape[-1], device=got.magnitude.device)
            counts = torch.full((len(made), 1, len(steps)), 1.0 / len(steps), device=steps.device)
            if lengths is not None:
                num_steps = lengths.to(steps.device) // hop + 1
                counts = ((steps < num_steps[:, None]) / num_steps[:, None])[:, None]
            mel = _mean((got.log_mel - wanted.log_mel).abs(), counts)
            stft = _mean((got.log_magnitude - wanted.log_magnitude).abs(), counts)
            error = _mean((got.magnitude - wanted.magnitude) ** 2, counts).sqrt()
            level = _mean(wanted.magnitude**2, counts).sqrt()
            total = total + mel + _STFT_WEIGHT * stft + _CONVERGENCE_WEIGHT * error / (level + 1e-2)
            if window == _REPORTED_WINDOW:
                reported = mel.detach()
        return total / len(_RESOLUTIONS), reported


def pitch_distance(made: PitchOutput, wanted: Pitch, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Compare what a pitch network says with a pitch, for each row.

    Args:
        made: of B rows, T steps.
        wanted: of these.
        counts: [B, T] bool, steps that count.

    Returns:
        Octaves of error where it is voiced, 0 where it never is, and the cross-entropy of voicing in nats; [B] each.
    """
    voiced = (wanted.gate > 0.5).float()
    error = (made.octaves.float() - torch.log2(wanted.f0 / MIDDLE_PITCH)).abs()
    entropy = F.binary_cross_entropy_with_logits(made.voicing.float(), voiced, reduction="none")
    heard = voiced * counts
    octaves = (error * heard).sum(1) / heard.sum(1).clamp(min=1)
    return octaves, (entropy * counts).sum(1) / counts.sum(1).clamp(min=1)


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    """Average [B, F, N] over bins, and over steps by weights [B, 1, N] that add up to 1."""
    return (values.mean(1, keepdim=True) * weights).sum((1, 2))
