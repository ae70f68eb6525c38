"""The pitch of a voice: found where there is one, and read between."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from voxtral.cloning.pitch import PitchCurve, measure_pitch, places_of_steps

RATE = 24000


def voice(f0: np.ndarray, num_harmonics: int = 20) -> np.ndarray:
    """Sing a pitch, one value for each sample."""
    phase = np.cumsum(f0) / RATE
    return sum(np.cos(2 * np.pi * k * phase) / k for k in range(1, num_harmonics)) * 0.05


@settings(max_examples=8)
@given(low=st.floats(80, 200), width=st.floats(0, 0.8), noise=st.sampled_from([0.0, 0.005]))
def test_a_glide_is_followed(low: float, width: float, noise: float) -> None:
    time = np.arange(RATE) / RATE
    f0 = low * 2 ** (width * (0.5 + 0.5 * np.sin(2 * np.pi * time)))
    samples = voice(f0) + noise * np.random.default_rng(0).standard_normal(RATE)
    places = np.arange(2400, RATE - 2400, 240)
    found, gate = measure_pitch(samples, RATE).at(places)
    assert gate.min() == 1
    assert np.abs(12 * np.log2(found / f0[places])).max() < 0.3


def test_nothing_is_heard_in_noise_and_silence() -> None:
    rng = np.random.default_rng(1)
    samples = np.concatenate((np.zeros(6000), 0.05 * rng.standard_normal(12000), voice(np.full(6000, 140.0))))
    curve = measure_pitch(samples, RATE)
    assert (curve.f0[:70] > 0).mean() < 0.05
    assert (curve.f0[80:] > 0).mean() > 0.7


@pytest.mark.parametrize("num_samples", [0, 1, 100, 1300])
def test_the_shortest_clips_have_a_curve(num_samples: int) -> None:
    curve = measure_pitch(voice(np.full(num_samples, 140.0)), RATE)
    f0, gate = curve.at(places_of_steps(4, 240))
    assert f0.shape == gate.shape == (4,)
    assert np.isfinite(f0).all()
    assert (f0 > 0).all()


def test_a_curve_is_carried_over_what_is_voiceless_in_a_line_of_its_logarithm() -> None:
    curve = PitchCurve(np.array([0.0, 100.0, 0.0, 0.0, 0.0, 400.0, 0.0]), 300)
    f0, gate = curve.at(np.array([-900.0, 300.0, 900.0, 1500.0, 9000.0]))
    assert f0 == pytest.approx([100, 100, 200, 400, 400])
    assert gate.tolist() == [0, 1, 0, 1, 0]
    nothing, gate = PitchCurve(np.zeros(4), 300).at(np.array([0.0, 600.0]))
    assert (nothing > 0).all()
    assert not gate.any()


def test_the_pitch_of_a_step_is_that_at_its_end_half_a_step_later() -> None:
    assert places_of_steps(3, 240).tolist() == [360, 600, 840]
    assert places_of_steps(1, 240, lateness=480).tolist() == [-120]
