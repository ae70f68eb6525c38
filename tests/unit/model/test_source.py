"""What a source-filter head filters: noise by the number of its sample, and pulses that keep their phase."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from voxtral.model.source import NoisePlace, Pitch, draw_source_noise, pulse_train
from voxtral.options import MAX_SEED

PATCH, RATE = 240, 24000


def train(
    f0: Tensor, gate: Tensor | None = None, phase: Tensor | None = None, before: float = 0.0
) -> tuple[Tensor, Tensor]:
    gate = torch.ones_like(f0) if gate is None else gate
    phase = torch.zeros(len(f0), dtype=torch.int64) if phase is None else phase
    whole = [torch.cat((torch.full_like(part[:, :1], start), part), 1) for part, start in ((f0, before), (gate, 1.0))]
    return pulse_train(*whole, phase, patch=PATCH, sample_rate=RATE)


# Noise.


@given(
    seed=st.integers(0, MAX_SEED),
    segment=st.integers(0, 2**40),
    first=st.integers(0, 2**40),
    cuts=st.lists(st.integers(1, 3), min_size=1, max_size=4),
    size=st.sampled_from([40, 1920, 17]),
)
def test_noise_depends_on_key_frame_and_sample_alone(
    seed: int, segment: int, first: int, cuts: list[int], size: int
) -> None:
    place, parts = NoisePlace((seed, segment), first), list[Tensor]()
    for num_frames in cuts:
        parts.append(draw_source_noise([NoisePlace(), place], num_frames, size)[1])
        place = place.after(num_frames)
    whole = draw_source_noise([NoisePlace((seed, segment), first)], sum(cuts), size)[0]
    assert whole.dtype is torch.float32
    assert torch.equal(torch.cat(parts), whole)
    others = [NoisePlace((seed, segment + 1), first), NoisePlace(((seed + 1) % MAX_SEED, segment), first)]
    for other in draw_source_noise(others, 1, size):
        assert not torch.equal(other, whole[:size])


def test_noise_is_white_and_has_unit_variance() -> None:
    noise = draw_source_noise([NoisePlace((3, 1))], 200, 1920)[0].double()
    assert abs(float(noise.mean())) < 0.01
    assert float(noise.var()) == pytest.approx(1, abs=0.01)
    for lag in (1, 16, 240, 1920):
        assert abs(float((noise[lag:] * noise[:-lag]).mean())) < 0.01


def test_the_bits_of_the_noise_are_fixed() -> None:
    # Philox and 16 bits a sample: another machine or numpy must not make another voice of a seed.
    noise = draw_source_noise([NoisePlace((42, 3), 7)], 1, 1920)[0]
    levels = torch.round(noise.double() / math.sqrt(12) * 2**16 + 32767.5).long()
    assert levels[:4].tolist() == FIRST_LEVELS


FIRST_LEVELS = [14990, 13649, 55701, 18847]


# Pulses.


@given(
    f0=st.lists(st.floats(50, 600), min_size=2, max_size=12),
    gates=st.lists(st.sampled_from([0.0, 1.0]), min_size=12, max_size=12),
    cut=st.integers(1, 11),
)
def test_pulses_of_parts_are_those_of_the_whole_to_the_bit(f0: list[float], gates: list[float], cut: int) -> None:
    pitch = torch.tensor([f0])
    gate = torch.tensor([gates[: len(f0)]])
    whole, end = pulse_train(
        torch.cat((torch.zeros(1, 1), pitch), 1),
        torch.cat((torch.zeros(1, 1), gate), 1),
        torch.zeros(1, dtype=torch.int64),
        patch=PATCH,
        sample_rate=RATE,
    )
    cut = min(cut, len(f0) - 1)
    made, phase = [], torch.zeros(1, dtype=torch.int64)
    last_f0, last_gate = torch.zeros(1, 1), torch.zeros(1, 1)
    for part in (slice(0, cut), slice(cut, None)):
        samples, phase = pulse_train(
            torch.cat((last_f0, pitch[:, part]), 1),
            torch.cat((last_gate, gate[:, part]), 1),
            phase,
            patch=PATCH,
            sample_rate=RATE,
        )
        last_f0, last_gate = pitch[:, part][:, -1:], gate[:, part][:, -1:]
        made.append(samples)
    assert torch.equal(torch.cat(made, 1), whole)
    assert torch.equal(phase, end)
    assert torch.isfinite(whole).all()


@pytest.mark.parametrize("f0", [51.0, 123.4, 203.0, 590.0])
def test_pulses_come_at_their_pitch_and_are_as_loud_as_white_noise_at_all_frequencies(f0: float) -> None:
    samples, _ = train(torch.full((1, 200), f0))
    samples = samples[0].double()
    assert float(samples.pow(2).mean()) == pytest.approx(1, abs=0.06)
    spectrum = torch.fft.rfft(samples * torch.hann_window(len(samples), dtype=torch.float64)).abs()
    heard = (spectrum > 0.5 * spectrum.max()).nonzero()[:, 0] * RATE / len(samples)
    harmonics = torch.round(heard / f0)
    assert (heard - harmonics * f0).abs().max() < 1
    # All of them below half the rate, but for one that may have faded out, and no other.
    assert set(range(1, int(RATE / 2 / f0))) <= set(harmonics.int().tolist()) <= set(range(1, int(RATE / 2 / f0) + 2))


def test_a_pulse_depends_on_the_pitch_without_jumps() -> None:
    # Around 240 harmonics and around 40, where one comes or goes.
    for f0 in (50.0, 300.0):
        near = [train(torch.full((1, 2), f0 + shift))[0] for shift in (-1e-4, 1e-4)]
        assert (near[0] - near[1]).abs().max() < 0.05


def test_a_stream_begins_at_its_own_pitch_and_goes_on_from_the_last() -> None:
    begun, _ = train(torch.full((1, 1), 200.0))
    steady, _ = train(torch.full((1, 1), 200.0), before=200.0)
    assert torch.equal(begun, steady)
    gliding, _ = train(torch.full((1, 1), 200.0), before=100.0)
    assert not torch.equal(gliding, steady)


def test_nothing_sounds_where_the_gate_is_shut() -> None:
    gate = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    samples, _ = train(torch.full((1, 4), 150.0), gate)
    assert not samples[:, 2 * PATCH : 3 * PATCH].any()
    assert samples[:, 3 * PATCH :].any()


def test_a_pitch_is_cut_after_steps() -> None:
    pitch = Pitch(torch.arange(10.0)[None], torch.arange(10.0)[None] + 1)
    parts = pitch.split(4)
    assert [part.f0.shape[1] for part in parts] == [4, 4, 2]
    assert np.array_equal(torch.cat([part.gate for part in parts], 1), pitch.gate)
