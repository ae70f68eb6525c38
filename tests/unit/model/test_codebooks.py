"""The two codebooks: codes to latent, latent to codes, and codes that are none."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from checkpoints import TINY
from voxtral.config import CodebookConfig
from voxtral.errors import CodeRangeError
from voxtral.loading.params import parse_config
from voxtral.model.codebooks import Quantizer, check_codes, semantic_table

BOOKS = CodebookConfig(semantic_size=40, acoustic_size=21, num_acoustic=5)


def make_quantizer() -> Quantizer:
    params = (TINY / "params.json").read_text(encoding="utf-8")
    codec = replace(parse_config(json.loads(params)).codec, semantic_dim=8, acoustic_dim=5)
    quantizer = Quantizer(codec, BOOKS)
    quantizer.semantic_table = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))
    return quantizer


def codes_of(semantic: int, acoustic: list[int]) -> torch.Tensor:
    return torch.tensor([semantic, *acoustic])[None, :, None]


def test_levels_are_rescaled_in_the_official_order() -> None:
    # As floats, c * 0.1 - 1 is one step off for some levels, which the codec amplifies sixtyfold.
    levels = np.arange(21)
    official = (levels * 2).astype(np.float32) / np.float32(20) - np.float32(1)
    codes = torch.tensor(levels).expand(5, 21)[None]
    latent = make_quantizer().codes_to_latent(torch.cat((codes[:, :1] * 0, codes), dim=1), torch.float32)
    assert torch.equal(latent[0, 8], torch.from_numpy(official))
    assert not np.array_equal(official, levels.astype(np.float32) * np.float32(0.1) - np.float32(1))


def test_ends_and_middle_of_the_levels() -> None:
    latent = make_quantizer().codes_to_latent(codes_of(0, [0, 10, 20, 5, 15]), torch.float32)
    assert latent[0, 8:, 0].tolist() == [-1, 0, 1, -0.5, 0.5]


def test_semantic_channels_come_first() -> None:
    quantizer = make_quantizer()
    latent = quantizer.codes_to_latent(codes_of(7, [0] * 5), torch.float32)
    assert latent.shape == (1, 13, 1)
    assert torch.equal(latent[0, :8, 0], quantizer.semantic_table[7])


def test_the_latent_has_the_dtype_asked_for_and_the_table_stays() -> None:
    quantizer = make_quantizer()
    assert quantizer.codes_to_latent(codes_of(7, [3] * 5), torch.bfloat16).dtype is torch.bfloat16
    assert quantizer.semantic_table.dtype is torch.float32


@given(st.lists(st.tuples(st.integers(0, 39), st.lists(st.integers(0, 20), min_size=5, max_size=5)), min_size=1))
def test_latents_of_codes_give_the_codes(frames: list[tuple[int, list[int]]]) -> None:
    quantizer = make_quantizer()
    codes = torch.cat([codes_of(semantic, acoustic) for semantic, acoustic in frames], dim=2)
    latent = quantizer.codes_to_latent(codes, torch.float32)
    latent[:, 8:] = torch.atanh(latent[:, 8:].clamp(-1 + 1e-6, 1 - 1e-6))  # the encoder's side applies tanh
    assert torch.equal(quantizer.latent_to_codes(latent), codes)


def test_the_nearest_entry_is_euclidean() -> None:
    quantizer = make_quantizer()
    latent = torch.randn(1, 13, 50, generator=torch.Generator().manual_seed(1))
    points = latent[0, :8].T.double().numpy()
    table = quantizer.semantic_table.double().numpy()
    nearest = ((points[:, None] - table) ** 2).sum(axis=-1).argmin(axis=-1)
    assert quantizer.latent_to_codes(latent)[0, 0].tolist() == nearest.tolist()


def test_close_entries_far_from_zero_are_told_apart() -> None:
    # The usual expansion |x|^2 - 2xy + |y|^2 loses these digits.
    quantizer = make_quantizer()
    quantizer.semantic_table = 1000 + torch.arange(40.0)[:, None].expand(40, 8) * 1e-3
    latent = torch.zeros(1, 13, 40)
    latent[0, :8] = quantizer.semantic_table.T
    assert quantizer.latent_to_codes(latent)[0, 0].tolist() == list(range(40))


def test_the_table_is_the_sum_over_the_floored_usage() -> None:
    sums = torch.tensor([[2.0, 4.0], [1.0, -1.0], [3.0, 0.0]], dtype=torch.bfloat16)
    usage = torch.tensor([2.0, 0.0, 1e-7], dtype=torch.bfloat16)
    table = semantic_table(sums, usage)
    assert table.dtype is torch.float32
    torch.testing.assert_close(table, torch.tensor([[1.0, 2.0], [1e5, -1e5], [3e5, 0.0]]))


# Codes that are none.


def test_codes_at_the_edges_are_codes() -> None:
    check_codes(torch.cat((codes_of(0, [0] * 5), codes_of(39, [20] * 5)), dim=2), BOOKS)
    check_codes(torch.zeros(1, 6, 0, dtype=torch.int64), BOOKS)


@pytest.mark.parametrize(
    ("codebook", "value", "largest"), [(0, -1, 39), (0, 40, 39), (1, 21, 20), (5, 22, 20), (3, -7, 20)]
)
def test_a_code_outside_its_codebook_is_named(codebook: int, value: int, largest: int) -> None:
    codes = torch.zeros(1, 6, 4, dtype=torch.int32)
    codes[0, codebook, 2] = value
    with pytest.raises(CodeRangeError) as caught:
        check_codes(codes, BOOKS)
    assert f"code {value} in codebook {codebook}, frame 2; it must be 0 .. {largest}" in str(caught.value)


@pytest.mark.parametrize("shape", [(6, 4), (1, 5, 4), (1, 7, 4), (1, 1, 6, 4)])
def test_codes_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(CodeRangeError, match=r"they must be \[rows, 6, frames\]"):
        check_codes(torch.zeros(shape, dtype=torch.int64), BOOKS)
