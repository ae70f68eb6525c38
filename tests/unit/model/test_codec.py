"""Facts of the codec decoder: padding, trimming, windows, slopes and the order of samples."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from checkpoints import TINY
from voxtral.config import CodecConfig
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.load import load_model
from voxtral.model.codec import (
    CodecAttention,
    CodecDecoder,
    CodecState,
    ConvBlock,
    LayerCache,
    SpectralProjection,
    pad_reflect_left,
)
from voxtral.model.voxtral import VoxtralModel


def tiny_model() -> VoxtralModel:
    checkpoint = open_checkpoint(TINY)
    return load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32, codec_dtype=torch.float32)


@pytest.fixture(scope="module")
def codec() -> CodecDecoder:
    return tiny_model().codec


def random_codes(codec: CodecDecoder, num_frames: int) -> torch.Tensor:
    books, generator = codec.quantizer.codebooks, torch.Generator().manual_seed(0)
    semantic = torch.randint(books.semantic_size, (1, 1, num_frames), generator=generator)
    acoustic = torch.randint(books.acoustic_size, (1, books.num_acoustic, num_frames), generator=generator)
    return torch.cat((semantic, acoustic), dim=1)


def decode(codec: CodecDecoder, codes: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return codec.decode(codes)[0]


# Samples.


@pytest.mark.parametrize("num_frames", [1, 2, 24, 25, 26, 51])
def test_a_frame_is_1920_samples(codec: CodecDecoder, num_frames: int) -> None:
    samples = decode(codec, random_codes(codec, num_frames))
    assert samples.shape == (1920 * num_frames,)
    assert samples.dtype is torch.float32


def test_samples_are_not_clipped() -> None:
    codec = tiny_model().codec
    codes = random_codes(codec, 3)
    quiet = decode(codec, codes)
    codec.output_proj.conv.weight.mul_(50)
    loud = decode(codec, codes)
    assert loud.abs().max() > 1
    torch.testing.assert_close(loud, 50 * quiet, atol=1e-4, rtol=1e-5)


def test_each_patch_is_emitted_as_a_whole(codec: CodecDecoder) -> None:
    weight = codec.output_proj.conv.weight
    original = weight.clone()
    try:
        weight[7:] = 0
        patches = decode(codec, random_codes(codec, 2)).view(16, 240)
    finally:
        weight.copy_(original)
    assert patches[:, :7].abs().min() > 0
    assert not patches[:, 7:].any()


def test_a_frame_is_heard_for_no_more_than_21_frames(codec: CodecDecoder) -> None:
    codes = random_codes(codec, 30)
    changed = codes.clone()
    changed[0, :, 2] = (changed[0, :, 2] + 5) % 20
    is_equal = (decode(codec, codes) == decode(codec, changed)).view(30, 1920).all(dim=1).tolist()
    assert is_equal[:2] == [True] * 2
    assert not any(is_equal[2:12])
    # 20.5 frames of reach, so that the last one touched is the 21st after it.
    assert all(is_equal[2 + 22 :])


def test_no_frames_make_no_samples(codec: CodecDecoder) -> None:
    state = CodecState.fresh(codec)
    with torch.inference_mode():
        assert codec(random_codes(codec, 0), state, is_last=True).shape == (1, 0)


# Padding.


@given(st.integers(1, 12), st.integers(0, 8))
def test_reflection_is_that_of_numpy(length: int, amount: int) -> None:
    x = torch.arange(1.0, length + 1)[None, None]
    padded = pad_reflect_left(x, amount)[0, 0].tolist()
    # Short inputs are lengthened with zeros first, which go again.
    missing = max(0, amount - length + 1)
    lengthened = np.concatenate((np.arange(1.0, length + 1), np.zeros(missing)))
    assert padded == np.pad(lengthened, (amount, 0), mode="reflect")[: amount + length].tolist()


def test_the_first_convolution_repeats_its_first_input(codec: CodecDecoder) -> None:
    # Equal frames: with the edge repeated, every step looks the same, from the first on.
    codes = random_codes(codec, 1).expand(-1, -1, 6)
    latent = codec.quantizer.codes_to_latent(codes, codec.dtype)
    with torch.inference_mode():
        first = next(codec.block_outputs(latent, CodecState.fresh(codec)))
    torch.testing.assert_close(first, first[..., :1].expand_as(first), atol=1e-5, rtol=0)


def test_transposed_convolutions_drop_on_the_right_only() -> None:
    block = ConvBlock(1, 1, 4, 2, transposed=True)
    block.conv.weight = torch.nn.Parameter(torch.tensor([[[1.0, 2.0, 3.0, 4.0]]]), requires_grad=False)
    output, overlap = block.transpose(torch.tensor([[[1.0, 10.0]]]), None)
    assert output.tolist() == [[[1.0, 2.0, 13.0, 24.0]]]
    assert overlap.tolist() == [[[30.0, 40.0]]]
    continued, _ = block.transpose(torch.tensor([[[100.0]]]), overlap)
    assert continued.tolist() == [[[130.0, 240.0]]]


# Attention.


def make_attention(codec: CodecDecoder, window: int, **changes: object) -> tuple[CodecAttention, CodecConfig]:
    config = replace(codec.config, **changes)
    torch.manual_seed(0)
    attention = CodecAttention(config, window)
    for parameter in attention.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return attention.requires_grad_(False), config


@pytest.mark.parametrize("window", [2, 4, 16])
def test_a_window_of_w_is_w_plus_one_keys(codec: CodecDecoder, window: int) -> None:
    attention, config = make_attention(codec, window)
    x = torch.randn(1, 24, config.dim, generator=torch.Generator().manual_seed(1))
    changed = x.clone()
    changed[0, 4] += 1
    before, after = attention(x, LayerCache()), attention(changed, LayerCache())
    seen = (before != after).any(dim=-1)[0].nonzero()[:, 0].tolist()
    assert seen == list(range(4, min(24, 4 + window + 1)))


def test_the_bias_falls_with_the_distance_by_each_heads_slope(codec: CodecDecoder) -> None:
    bias = make_attention(codec, 2)[0].bias(2, 4)
    inf = float("inf")
    for head in range(8):
        slope = 2.0**-head
        assert bias[head].tolist() == [[-2 * slope, -slope, 0.0, -inf], [-inf, -2 * slope, -slope, 0.0]]


def test_queries_and_keys_are_normalised_over_their_whole_width(codec: CodecDecoder) -> None:
    attention, config = make_attention(codec, 2)
    # One head's share of q is made huge: a norm over the whole width then starves the others.
    attention.wq.weight[: config.head_dim] *= 1000
    x = torch.randn(1, 5, config.dim, generator=torch.Generator().manual_seed(1))
    query = attention.q_norm(attention.wq(x)) / attention.q_norm.weight
    assert query[..., config.head_dim :].abs().max() < 0.1
    torch.testing.assert_close(query.square().mean(dim=-1), torch.ones(1, 5), atol=1e-4, rtol=0)


def test_norms_of_q_and_k_can_be_absent(codec: CodecDecoder) -> None:
    attention, config = make_attention(codec, 2, qk_norm=False)
    assert {name for name, _ in attention.named_parameters()} == {f"{part}.weight" for part in ("wq", "wk", "wv", "wo")}
    assert attention(torch.zeros(1, 3, config.dim), LayerCache()).shape == (1, 3, config.dim)


# The spectral head.


def make_spectral(codec: CodecDecoder, *, dim: int) -> SpectralProjection:
    head = SpectralProjection(replace(codec.config, spectral_head=True, dim=dim, patch_size=60, patch_kernel=4))
    torch.nn.init.zeros_(head.linear.weight)
    torch.nn.init.zeros_(head.linear.bias)
    return head.requires_grad_(False)


def test_spectra_of_a_signal_become_the_signal(codec: CodecDecoder) -> None:
    window, patch = 240, 60
    num_bins = window // 2 + 1
    head = make_spectral(codec, dim=2 * num_bins)
    head.linear.weight.copy_(torch.eye(2 * num_bins))
    signal = torch.randn(1, patch * 20, generator=torch.Generator().manual_seed(3)) * 0.3
    spectra = torch.fft.rfft(signal.unfold(1, window, patch))  # of the window that begins with each step's own patch
    hidden = torch.cat((spectra.abs().log(), spectra.angle()), dim=-1).transpose(1, 2)
    made = head(hidden).transpose(1, 2).flatten(1)
    # Before the fourth step not all waves are there.
    torch.testing.assert_close(made, signal[:, 3 * patch : -3 * patch], atol=1e-5, rtol=0)


def test_a_frequency_is_heard_at_its_place(codec: CodecDecoder) -> None:
    head = make_spectral(codec, dim=1)
    number, window, patch = 10, 240, 60
    head.linear.bias[: window // 2 + 1] = -30
    head.linear.bias[number] = math.log(0.25 * window)
    head.linear.weight[window // 2 + 1 + number] = 2 * math.pi * number * patch / window
    made = head(torch.arange(12.0)[None, None]).transpose(1, 2).flatten()
    time = torch.arange(len(made)) + 3 * patch
    torch.testing.assert_close(made, 0.5 * torch.cos(2 * math.pi * number / window * time), atol=1e-4, rtol=0)


def test_wild_hidden_states_stay_finite(codec: CodecDecoder) -> None:
    head = make_spectral(codec, dim=1)
    head.linear.weight[:121] = 1
    assert torch.isfinite(head(torch.full((1, 1, 9), 1e6))).all()
    assert not head(torch.full((1, 1, 9), -1e6)).any()


def test_the_spectral_head_computes_in_float32(codec: CodecDecoder) -> None:
    torch.manual_seed(0)
    head = make_spectral(codec, dim=8)
    torch.nn.init.normal_(head.linear.weight, std=3)
    hidden = torch.randn(1, 8, 12).bfloat16()
    head.linear.to(torch.bfloat16)
    rounded = head(hidden)
    head.linear.float()
    assert rounded.dtype is torch.float32
    assert torch.equal(rounded, head(hidden.float()))
