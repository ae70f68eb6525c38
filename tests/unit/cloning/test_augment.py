"""What is done to codes and to sound: as much as is said, of the shape that it was, and the same again."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from voxtral.cloning.augment import draw_disturbance, vary_codes

RATE = 24000


@given(st.integers(0, 10**6), st.integers(1, 5), st.integers(1, 9), st.integers(2, 30))
def test_codes_stay_codes_and_semantic_ones_stay_as_they_are(seed: int, rows: int, frames: int, levels: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    codes = torch.randint(levels, (rows, 4, frames), generator=generator)
    varied = vary_codes(codes, levels, np.random.default_rng(seed))
    assert varied.shape == codes.shape
    assert torch.equal(varied[:, 0], codes[:, 0])
    assert int(varied.min()) >= 0
    assert int(varied[:, 1:].max()) < levels
    assert torch.equal(varied, vary_codes(codes, levels, np.random.default_rng(seed)))


def test_voices_are_constant_and_a_third_stay_as_they_are() -> None:
    codes = torch.full((2000, 3, 8), 50)
    away = (vary_codes(codes, 101, np.random.default_rng(0)) - codes)[:, 1:].float()
    untouched = float((away == 0).all(2).all(1).float().mean())
    assert 0.24 < untouched < 0.36
    halves = away[..., :4].mean(-1) - away[..., 4:].mean(-1)
    assert 0.05 < float((halves.abs() > 1).any(1).float().mean()) < 0.15
    assert 1.0 < float(away.std()) < 1.8


@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(500, 4000))
def test_sound_keeps_its_length_and_is_the_same_again(seed: int, rows: int, size: int) -> None:
    samples = torch.randn(rows, size, generator=torch.Generator().manual_seed(seed)) * 0.05
    first, second = (
        draw_disturbance(rows, size, RATE, np.random.default_rng(seed)).apply(samples, RATE) for _ in range(2)
    )
    assert first.shape == samples.shape
    assert bool(torch.isfinite(first).all())
    assert torch.equal(first, second)


def test_gain_is_little_noise_is_below_the_sound_and_speech_is_not_late() -> None:
    time = torch.arange(12000) / RATE
    samples = (0.1 * torch.sin(2 * torch.pi * 440 * time)).repeat(150, 1)
    drawn = draw_disturbance(150, 12000, RATE, np.random.default_rng(1))
    heard = drawn.apply(samples, RATE)
    assert 0.84 < float(drawn.gain.min()) < float(drawn.gain.max()) < 1.19
    assert 0.36 < float((drawn.noise > 0).float().mean()) < 0.64
    assert float(drawn.noise.max()) <= 10 ** (-10 / 20)
    assert 0.01 < float((drawn.hum > 0).float().mean()) < 0.12
    likeness = torch.nn.functional.cosine_similarity(heard[:, 2000:-2000], samples[:, 2000:-2000])
    assert float(likeness.median()) > 0.98
    assert float((likeness > 0.8).float().mean()) > 0.95


def test_rows_can_be_computed_one_after_the_other() -> None:
    samples = torch.randn(3, 5000, generator=torch.Generator().manual_seed(0))
    drawn = draw_disturbance(3, 5000, RATE, np.random.default_rng(3))
    quiet = type(drawn)(**{**vars(drawn), "noise": torch.zeros(3, 1)})  # noise is drawn for rows side by side
    whole = quiet.apply(samples, RATE)
    parts = [quiet.take(slice(row, row + 1)).apply(samples[row : row + 1], RATE) for row in range(3)]
    assert torch.allclose(whole, torch.cat(parts), atol=1e-5)
