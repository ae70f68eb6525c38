"""Filters and losses of spectra."""

from __future__ import annotations

import math

import pytest
import torch

from train.spectra import SAMPLE_RATE, SpectralLoss, mel_filters
from voxtral.cloning.start import filter_bank
from voxtral.model.mel import mel_points


def test_the_filter_bank_measures_energy_whatever_the_phase() -> None:
    cosines, sines = filter_bank(80, 960, sample_rate=SAMPLE_RATE)
    assert torch.allclose(cosines.pow(2).sum(-1).mean(), torch.tensor(0.5), atol=0.02)
    # High bands have shorter windows.
    lengths = (cosines.abs() + sines.abs() > 0).sum(-1)
    assert lengths[0] == 960
    assert lengths[-1] == 480
    frequencies = mel_points(80, 60.0, 8000.0)
    time = torch.arange(960) / SAMPLE_RATE
    for band in (10, 40, 75):
        energies = []
        for phase in torch.linspace(0, math.pi, 7):
            wave = torch.cos(2 * math.pi * frequencies[band] * time + phase)
            energy = (cosines @ wave) ** 2 + (sines @ wave) ** 2
            assert abs(int(energy.argmax()) - band) <= 1
            energies.append(energy[band])
        spread = torch.stack(energies)
        assert spread.std() < 0.01 * spread.mean()


def test_mel_filters_are_triangles_that_cover_the_band() -> None:
    filters = mel_filters(40, 1024)
    assert filters.shape == (40, 513)
    assert (filters >= 0).all()
    assert (filters <= 1).all()
    peaks = filters.argmax(-1)
    assert (peaks[1:] > peaks[:-1]).all()
    # Between the first and the last peak, neighbours add up to one.
    inside = filters[:, int(peaks[0]) + 1 : int(peaks[-1])].sum(0)
    assert torch.allclose(inside, torch.ones_like(inside), atol=1e-4)


def test_the_spectral_loss_grows_with_the_error() -> None:
    generator = torch.Generator().manual_seed(2)
    target = torch.randn(2, 9600, generator=generator) * 0.1
    noise = torch.randn(2, 9600, generator=generator) * 0.1
    loss = SpectralLoss()
    none, zero_mel = loss(target, target)
    assert float(none) == pytest.approx(0, abs=1e-5)
    assert float(zero_mel) == 0
    totals = [float(loss(target + share * noise, target)[0]) for share in (0.1, 0.5, 2.0)]
    assert totals == sorted(totals)
    assert totals[0] > 0.05
    # A shift by half a millisecond, which nobody hears, costs far less than silence.
    assert loss(target.roll(12, dims=1), target)[1] < 0.3 * loss(torch.zeros_like(target), target)[1]
