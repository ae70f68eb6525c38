"""The source-filter head: filters, what it remembers, what it makes of anything, and what has a gradient."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from train.shape import nano_config
from voxtral.config import SourceFilterConfig
from voxtral.model.codec import CodecDecoder, CodecState
from voxtral.model.source import NoisePlace, Pitch, draw_source_noise
from voxtral.model.source_filter import PitchOutput, SourceFilterProjection, SourceState, minimum_phase
from voxtral.model.voxtral import VoxtralModel

CODEC = replace(nano_config().codec, dim=16, source_filter_head=SourceFilterConfig(24, 12, pitch_dim=16))
STEPS, PATCH = CODEC.steps_per_frame, CODEC.patch_size


def make_head(*, scale: float = 0.3) -> SourceFilterProjection:
    torch.manual_seed(0)
    head = SourceFilterProjection(CODEC)
    for name, parameter in head.named_parameters():
        torch.nn.init.normal_(parameter, std=scale if "pitch" not in name else 0.1)
    return head.requires_grad_(False)


@pytest.fixture(scope="module")
def head() -> SourceFilterProjection:
    return make_head()


def draw(num_rows: int, num_frames: int, *, loudness: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    hidden = torch.randn(num_rows, CODEC.dim, num_frames * STEPS, generator=generator) * loudness
    return hidden, torch.randn(num_rows, CODEC.latent_dim, num_frames, generator=generator)


def run(
    head: SourceFilterProjection, hidden: Tensor, latent: Tensor, cuts: list[int], keys: list[tuple[int, int]]
) -> tuple[Tensor, SourceState]:
    """Make samples frame groups at a time."""
    state, places, parts, start = head.fresh(len(hidden)), [NoisePlace(key) for key in keys], list[Tensor](), 0
    for count in cuts:
        noise = draw_source_noise(places, count, STEPS * PATCH)
        frames = slice(start, start + count)
        steps = slice(start * STEPS, (start + count) * STEPS)
        samples, state = head(hidden[..., steps], latent[..., frames], noise, state)
        parts.append(samples)
        places, start = [place.after(count) for place in places], start + count
    return torch.cat(parts, dim=1), state


# Cutting and stacking.


@settings(max_examples=12)
@given(cuts=st.lists(st.integers(1, 5), min_size=2, max_size=6))
def test_any_cutting_gives_the_whole(head: SourceFilterProjection, cuts: list[int]) -> None:
    hidden, latent = draw(1, sum(cuts))
    whole, end = run(head, hidden, latent, [sum(cuts)], [(3, 1)])
    pieces, state = run(head, hidden, latent, cuts, [(3, 1)])
    assert (pieces - whole).abs().max() <= 1e-6 * max(1.0, float(whole.abs().max()))
    # What adds up has no error at all.
    assert torch.equal(state.phase, end.phase)
    assert torch.equal(state.f0, end.f0)


@settings(max_examples=8)
@given(chunks=st.lists(st.integers(1, 3), min_size=1, max_size=4), num_rows=st.integers(2, 4))
def test_streams_side_by_side_and_taken_apart_are_each_itself(
    source_filter_model: VoxtralModel, chunks: list[int], num_rows: int
) -> None:
    codec, books = source_filter_model.codec, source_filter_model.config.codebooks
    draw_codes = torch.Generator().manual_seed(1)
    size = (num_rows, books.num_codebooks, sum(chunks) + 1)
    codes = torch.randint(books.acoustic_size, size, generator=draw_codes)
    with torch.inference_mode():
        states = [CodecState.fresh(codec, (row, row + 1)) for row in range(num_rows)]
        heard = [[codec(codes[row : row + 1, :, :1], state)] for row, state in enumerate(states)]
        start = 1
        for size in chunks:
            assert len({state.shape for state in states}) == 1
            together = CodecState.stack(states)
            samples = codec(codes[..., start : start + size], together)
            for row, state in enumerate(states):
                state.take_row(together, row, size)
                heard[row].append(samples[row : row + 1])
            start += size
        for row in range(num_rows):
            alone = codec(codes[row : row + 1], CodecState.fresh(codec, (row, row + 1)))
            assert (torch.cat(heard[row], 1) - alone).abs().max() <= 1e-5 * max(1.0, float(alone.abs().max()))
            assert states[row].noise == (NoisePlace((row, row + 1), start),)


def test_another_key_is_other_noise_and_the_same_is_the_same(source_filter_model: VoxtralModel) -> None:
    books = source_filter_model.config.codebooks
    tokens = torch.randint(
        2, books.acoustic_size, (1, 3, books.num_codebooks), generator=torch.Generator().manual_seed(1)
    )
    with torch.inference_mode():
        made = [
            source_filter_model.decode_rows(tokens, source_filter_model.init_codec_state(key))
            for key in ((1, 0), (1, 0), (1, 1), (2, 0))
        ]
    assert torch.equal(made[0], made[1])
    assert not torch.equal(made[0], made[2])
    assert not torch.equal(made[0], made[3])


def test_the_whole_decoder_cuts_anywhere(source_filter_model: VoxtralModel) -> None:
    codec, books = source_filter_model.codec, source_filter_model.config.codebooks
    codes = torch.randint(books.acoustic_size, (1, books.num_codebooks, 24), generator=torch.Generator().manual_seed(4))

    def stream(size: int) -> Tensor:
        state = CodecState.fresh(codec, (9, 2))
        return torch.cat([codec(part, state) for part in codes.split(size, dim=-1)], dim=1)

    with torch.inference_mode():
        whole = stream(24)
        for size in (1, 5, 8):
            assert (stream(size) - whole).abs().max() <= 1e-5 * max(1.0, float(whole.abs().max())), size


# Values.


@settings(max_examples=12)
@given(loudness=st.sampled_from([0.0, 1.0, 1e3, 1e30]), sign=st.sampled_from([-1, 1]), pitch=st.floats(-1e30, 1e30))
def test_samples_are_finite_whatever_the_hidden_states(
    head: SourceFilterProjection, loudness: float, sign: int, pitch: float
) -> None:
    hidden, latent = draw(1, 2, loudness=sign * loudness)
    wild = make_head()
    wild.pitch_out.bias.fill_(pitch)
    for used in (head, wild):
        samples, state = run(used, hidden, latent, [1, 1], [(0, 0)])
        assert torch.isfinite(samples).all()
        assert all(torch.isfinite(part.double()).all() for part in state.tensors())
        assert 50 <= float(state.f0) <= 600


def test_filters_of_silence_are_silent() -> None:
    head = make_head()
    head.linear.weight.zero_()
    head.linear.bias.fill_(-100)
    hidden, latent = draw(1, 3)
    assert run(head, hidden, latent, [3], [(0, 0)])[0].abs().max() < 1e-5


@pytest.mark.parametrize("part", ["harmonic", "noise"])
def test_flat_filters_give_the_source_half_a_step_later(part: str) -> None:
    head = make_head()
    head.linear.weight.zero_()
    biases = head.linear.bias.view(2, -1)
    biases.fill_(-100)
    knots = slice(0, 24) if part == "harmonic" else slice(24, None)
    biases[:, knots] = 0
    head.pitch_out.weight.zero_()
    head.pitch_out.bias.zero_()
    head.pitch_out.bias[STEPS:] = 1  # voiced, at 150 Hz
    hidden, latent = draw(1, 3)
    made, _ = run(head, hidden, latent, [3], [(5, 0)])
    if part == "noise":
        noise = draw_source_noise([NoisePlace((5, 0))], 3, STEPS * PATCH)
        torch.testing.assert_close(made[:, head.hop :], noise[:, : -head.hop], atol=1e-4, rtol=0)
    else:
        # A pulse each 160 samples.
        peaks = (made[0] > 0.8 * made.max()).nonzero()[:, 0]
        assert set(peaks.diff().tolist()) <= {1, *range(157, 162)}
    assert float(made[:, 1000:].pow(2).mean()) == pytest.approx(1, abs=0.1)


@settings(max_examples=8)
@given(nepers=st.floats(-4, 4))
def test_a_louder_filter_is_as_much_louder(head: SourceFilterProjection, nepers: float) -> None:
    hidden, latent = draw(1, 2, loudness=0.1)
    louder = make_head()
    louder.linear.bias.add_(nepers)
    made, expected = (run(used, hidden, latent, [2], [(0, 0)])[0] for used in (louder, head))
    expected = expected * math.exp(nepers)
    torch.testing.assert_close(made, expected, atol=1e-5 * max(1.0, float(expected.abs().max())), rtol=0)


def test_a_level_is_heard_at_its_frequency() -> None:
    head = make_head()
    head.linear.weight.zero_()
    biases = head.linear.bias.view(2, -1)
    biases.fill_(-100)
    biases[:, 24:] = -5
    biases[:, 24 + 6] = 0  # the 7th of 12 frequencies
    hidden, latent = draw(1, 8)
    made, _ = run(head, hidden, latent, [8], [(0, 0)])
    power = torch.fft.rfft(made[0]).abs().pow(2)
    middle = float((power * torch.linspace(0, 12000, len(power))).sum() / power.sum())
    knots = head.noise_table[:, : head.num_bins].argmax(1) * 12000 / (head.num_bins - 1)
    assert float(knots[5]) < middle < float(knots[7])


def test_filters_are_of_minimum_phase() -> None:
    # That of log |1 + a z^-1| is the phase of 1 + a z^-1.
    size = 64
    impulse = torch.zeros(size, dtype=torch.float64)
    impulse[:2] = torch.tensor([1.0, 0.5])
    answer = torch.fft.rfft(impulse)
    torch.testing.assert_close(answer.abs().log() @ minimum_phase(size), answer.angle(), atol=1e-9, rtol=0)


def test_pitch_is_decided_in_bounds() -> None:
    output = PitchOutput(torch.tensor([[0.0, 1.0, -9.0, 9.0]]), torch.tensor([[-1.0, 0.0, 1e-3, 9.0]]))
    pitch = output.resolve()
    assert pitch.f0.tolist() == [[150, 300, 50, 600]]
    assert pitch.gate.tolist() == [[0, 0, 1, 1]]


def test_a_pitch_that_is_given_drives_the_pulses_and_has_no_gradient(source_filter_model: VoxtralModel) -> None:
    codec = source_filter_model.codec
    latent = torch.randn(1, codec.config.latent_dim, 3, generator=torch.Generator().manual_seed(2)).requires_grad_(True)
    said = codec.predict_pitch(latent)
    assert said is not None
    own, given_pitch = said.resolve(), Pitch(torch.full((1, 24), 100.0), torch.ones(1, 24))
    free = codec.decode_latent(latent)
    assert torch.equal(codec.decode_latent(latent, pitch=own), free)
    driven = codec.decode_latent(latent, pitch=given_pitch)
    assert not torch.equal(driven, free)
    driven.pow(2).sum().backward()
    assert latent.grad is not None
    assert torch.isfinite(latent.grad).all()
    assert latent.grad.abs().sum() > 0
    # Of its pitch a latent learns by what it is told, and by nothing else.
    (told,) = torch.autograd.grad(said.octaves.sum(), latent)
    assert told.abs().sum() > 0


def test_a_gradient_goes_through_the_filters_across_passes() -> None:
    decoder = CodecDecoder(CODEC_SMALL, nano_config().codebooks)
    for parameter in decoder.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    latent = torch.randn(1, CODEC_SMALL.latent_dim, 4, requires_grad=True)
    gradients = []
    for frames in (1, 4):
        (gradient,) = torch.autograd.grad(decoder.decode_latent(latent, frames_per_pass=frames).pow(2).sum(), latent)
        gradients.append(gradient)
    torch.testing.assert_close(gradients[0], gradients[1], atol=1e-3 * float(gradients[1].abs().max()), rtol=0)


CODEC_SMALL = replace(nano_config().codec, source_filter_head=SourceFilterConfig(8, 6, pitch_dim=8))


def test_the_head_computes_in_float32_and_the_pitch_in_more() -> None:
    head = make_head()
    hidden, latent = draw(1, 2)
    head.to(torch.bfloat16)
    head.init_tables(torch.device("cpu"))
    rounded, _ = run(head, hidden.bfloat16(), latent, [2], [(0, 0)])
    head.float()
    assert rounded.dtype is torch.float32
    assert torch.equal(rounded, run(head, hidden.bfloat16().float(), latent, [2], [(0, 0)])[0])
    assert head.predict_pitch(latent).octaves.dtype is torch.float64
