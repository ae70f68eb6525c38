"""Matrices of few bits as files hold them: packing, dequantising and the plain product."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from voxtral.model import linear_weights
from voxtral.model.linear_weights import Int4Weight, Int8Weight, QuantizedWeight, pack_nibbles
from voxtral.quantization.fit import fit_int4, fit_int8


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def relative(got: Tensor, expected: Tensor) -> float:
    return float((got.float() - expected.float()).norm() / expected.float().norm())


@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 2**31))
def test_nibbles_are_unpacked_as_they_were_packed(num_rows: int, num_pairs: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    quantised = torch.randint(0, 16, (num_rows, 2 * num_pairs), generator=generator, dtype=torch.uint8)
    ones = torch.ones(num_rows, 1)
    weight = Int4Weight(pack_nibbles(quantised), ones.bfloat16(), ones.half())
    assert torch.equal(weight.quantised(), quantised)
    assert torch.equal(weight.dense(), quantised.float() - 1)


def test_an_int4_weight_is_its_number_less_zero_times_scale() -> None:
    quantised = torch.arange(16, dtype=torch.uint8).repeat(2, 2)  # [2, 32], groups of 16
    scale = torch.tensor([[0.5, 2.0], [1.0, 0.25]])
    zero = torch.tensor([[8.0, 7.5], [0.0, 15.0]])
    weight = Int4Weight(pack_nibbles(quantised), scale.bfloat16(), zero.half())
    assert weight.shape == (2, 32)
    assert weight.group_size == 16
    assert weight.dense()[0, [0, 15, 16, 31]].tolist() == [-4.0, 3.5, -15.0, 15.0]
    assert weight.dense()[1, [0, 15, 16, 31]].tolist() == [0.0, 15.0, -3.75, 0.0]


@pytest.mark.parametrize("weight", [fit_int8(randn(70, 64)), fit_int4(randn(70, 64), 32)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_reference_multiplies_with_the_dequantised_matrix(weight: QuantizedWeight, dtype: torch.dtype) -> None:
    x = randn(3, 64, seed=1).to(dtype)
    products = weight.matmul(x)
    assert products.dtype == dtype
    assert relative(products, x.float() @ weight.dense().T) < (1e-6 if dtype == torch.float32 else 0.01)


def test_the_reference_multiplies_block_by_block(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, x = fit_int8(randn(70, 64)), randn(3, 64, seed=1)
    whole = weight.matmul(x)
    monkeypatch.setattr(linear_weights, "ROWS_PER_BLOCK", 32)
    assert relative(weight.matmul(x), whole) < 1e-6


def test_a_weight_knows_its_form() -> None:
    assert isinstance(fit_int8(randn(4, 8)), Int8Weight)
    assert isinstance(fit_int4(randn(4, 8), 8), Int4Weight)
