"""The shared building blocks against their formulas."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from voxtral.model.layers import (
    Embedding,
    FeedForward,
    RMSNorm,
    apply_rope,
    last,
    rope_inverse_frequencies,
    rope_rotation,
    split_heads,
)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_rms_norm_is_its_formula(eps: float) -> None:
    norm, x = RMSNorm(16, eps), randn(3, 16) * 0.1
    norm.weight = torch.nn.Parameter(randn(16, seed=1))
    wide = x.double()
    expected = wide / (wide.square().mean(dim=-1, keepdim=True) + eps).sqrt() * norm.weight.double()
    torch.testing.assert_close(norm(x).double(), expected, atol=1e-6, rtol=0)


def test_rms_norm_takes_its_statistics_in_float32() -> None:
    # In float16 the square of 300 is infinite, and the norm would be zero.
    x = torch.full((1, 64), 300.0, dtype=torch.float16)
    norm = RMSNorm(64, 1e-5).half()
    torch.testing.assert_close(norm(x), torch.ones(1, 64, dtype=torch.float16))


def test_feed_forward_gates_the_first_projection() -> None:
    layer, x = FeedForward(4, 6), randn(2, 4)
    w1, w2, w3 = (weight.weight.detach() for weight in (layer.w1, layer.w2, layer.w3))
    gate = x @ w1.T
    expected = (gate / (1 + torch.exp(-gate)) * (x @ w3.T)) @ w2.T
    torch.testing.assert_close(layer(x).detach(), expected, atol=1e-6, rtol=0)


def test_last_runs_through_all_and_returns_the_last() -> None:
    seen: list[int] = []

    def stages():
        for stage in range(3):
            seen.append(stage)
            yield torch.tensor(stage)

    assert last(stages()).item() == 2
    assert seen == [0, 1, 2]


def test_heads_are_neighbouring_channels() -> None:
    x = torch.arange(2 * 3 * 8).view(2, 3, 8)
    split = split_heads(x, 4)
    assert split.shape == (2, 2, 3, 4)
    assert split[1, 1, 2].tolist() == x[1, 2, 4:].tolist()


def test_an_embedding_looks_up_rows() -> None:
    table = Embedding(5, 2)
    table.weight = torch.nn.Parameter(torch.arange(10.0).view(5, 2))
    assert table(torch.tensor([[4, 0]])).tolist() == [[[8.0, 9.0], [0.0, 1.0]]]


# Rotary positions.

THETA = 1e6


def rotate(x: torch.Tensor, positions: list[int]) -> torch.Tensor:
    return apply_rope(x, rope_rotation(torch.tensor(positions), rope_inverse_frequencies(x.shape[-1], THETA)))


def test_pairs_turn_like_complex_numbers() -> None:
    x, positions = randn(2, 4, 16), [0, 1, 100, 4095]
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())
    frequencies = THETA ** (-torch.arange(0, 16, 2, dtype=torch.float64) / 16)
    turned = pairs * torch.polar(torch.ones(4, 8, dtype=torch.float64), torch.tensor(positions)[:, None] * frequencies)
    # Angles are float32: at position 4095 they are known to 2e-4.
    torch.testing.assert_close(rotate(x, positions).double(), torch.view_as_real(turned).flatten(-2), atol=2e-3, rtol=0)


def test_interleaved_rotation_is_half_rotation_of_permuted_rows() -> None:
    weight, x, positions = randn(2 * 16, 24), randn(5, 24, seed=1), torch.arange(5)
    frequencies = rope_inverse_frequencies(16, THETA)
    ours = apply_rope((x @ weight.T).view(5, 2, 16).transpose(0, 1), rope_rotation(positions, frequencies))
    permuted = weight.view(2, 8, 2, 24).transpose(1, 2).reshape(32, 24)
    halves = (x @ permuted.T).view(5, 2, 16).transpose(0, 1)
    angles = positions[:, None] * frequencies
    cos, sin = torch.cat((angles.cos(),) * 2, -1), torch.cat((angles.sin(),) * 2, -1)
    theirs = halves * cos + torch.cat((-halves[..., 8:], halves[..., :8]), -1) * sin
    torch.testing.assert_close(ours.unflatten(-1, (8, 2)).transpose(-1, -2).flatten(-2), theirs, atol=1e-5, rtol=0)


@given(st.integers(0, 2000), st.integers(0, 2000), st.integers(0, 2000))
def test_products_depend_on_the_distance_alone(first: int, second: int, shift: int) -> None:
    query, key = randn(1, 1, 16), randn(1, 1, 16, seed=1)

    def product(i: int, j: int) -> float:
        return float((rotate(query, [i]) * rotate(key, [j])).sum())

    assert math.isclose(product(first, second), product(first + shift, second + shift), abs_tol=5e-3)


def test_position_0_turns_nothing_and_lengths_stay() -> None:
    x = randn(3, 6, 16)
    assert torch.equal(rotate(x[:, :1], [0]), x[:, :1])
    torch.testing.assert_close(rotate(x, [5, 6, 7, 8, 9, 65535]).norm(dim=-1), x.norm(dim=-1))


def test_the_rotation_is_float32_whatever_comes_in() -> None:
    x = randn(1, 3, 16).bfloat16()
    assert torch.equal(rotate(x, [7, 8, 3000]), rotate(x.float(), [7, 8, 3000]).bfloat16())
