"""The fit of few bits: never worse than rounding, row by row."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from voxtral.quantization import fit
from voxtral.quantization.fit import fit_int4, fit_int8


def weights(num_rows: int, width: int, seed: int, tail: float) -> Tensor:
    """Numbers with outliers: the larger `tail`, the heavier."""
    normal = torch.randn(num_rows, width, generator=torch.Generator().manual_seed(seed))
    return normal * normal.abs().pow(tail) * 0.02


def rounding_error(weight: Tensor, group_size: int) -> Tensor:
    """Squared error of each group when its range is cut into 15 equal steps."""
    groups = weight.unflatten(1, (-1, group_size))
    low, high = groups.amin(-1, keepdim=True).clamp(max=0), groups.amax(-1, keepdim=True).clamp(min=0)
    scale = ((high - low) / 15).bfloat16().float()
    zero = (7.5 - (low + high) / 2 / scale).half().float()
    rounded = ((groups / scale + zero).round().clamp(0, 15) - zero) * scale
    return (groups - rounded).square().sum(-1)


def squared_error(weight: Tensor, fitted: Tensor, group_size: int) -> Tensor:
    return (weight - fitted).unflatten(1, (-1, group_size)).square().sum(-1)


@given(st.integers(1, 4), st.sampled_from([32, 64, 128]), st.integers(0, 2**31), st.floats(0, 2))
def test_int4_is_never_worse_than_rounding(num_rows: int, group_size: int, seed: int, tail: float) -> None:
    weight = weights(num_rows, 2 * group_size, seed, tail)
    error = squared_error(weight, fit_int4(weight, group_size).dense(), group_size)
    assert (error <= rounding_error(weight, group_size) * 1.001).all()


def test_int4_is_clearly_better_than_rounding_on_the_whole() -> None:
    weight = weights(64, 512, 0, 0.0)
    fitted = squared_error(weight, fit_int4(weight, 64).dense(), 64).sum()
    assert fitted < 0.9 * rounding_error(weight, 64).sum()


@given(st.integers(0, 2**31), st.floats(-30, 30))
def test_fits_scale_with_the_weights(seed: int, exponent: float) -> None:
    weight = weights(2, 64, seed, 0.5)
    factor = 2.0 ** round(exponent)
    for fitted in (fit_int8, lambda weight: fit_int4(weight, 32)):
        torch.testing.assert_close(fitted(weight * factor).dense(), fitted(weight).dense() * factor, rtol=1e-5, atol=0)


def test_each_row_is_fitted_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = weights(40, 128, 0, 0.5)
    for fitted in (fit_int8, lambda weight: fit_int4(weight, 64)):
        whole = fitted(weight).dense()
        assert torch.equal(fitted(weight[7:9]).dense(), whole[7:9])
        assert torch.equal(fitted(weight.bfloat16()).dense(), fitted(weight.bfloat16().float()).dense())
        with monkeypatch.context() as patch:
            patch.setattr(fit, "_BLOCK_NUMBERS", 3 * 128)
            assert torch.equal(fitted(weight).dense(), whole)


def test_int8_is_off_by_at_most_half_a_step() -> None:
    weight = weights(16, 100, 0, 0.5)
    error = (fit_int8(weight).dense() - weight).abs().amax(1)
    assert (error <= weight.abs().amax(1) / 127 * 0.501).all()


def test_rows_without_a_range_stay_what_they_are() -> None:
    rows = torch.zeros(3, 64)
    rows[1] = 0.5
    rows[2] = -1e-30
    assert torch.equal(fit_int8(rows).dense()[0], rows[0])
    assert torch.equal(fit_int4(rows, 32).dense()[0], rows[0])
    torch.testing.assert_close(fit_int8(rows).dense(), rows, rtol=1e-6, atol=0)
    torch.testing.assert_close(fit_int4(rows, 32).dense(), rows, rtol=0.01, atol=0)
