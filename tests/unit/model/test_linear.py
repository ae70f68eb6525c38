"""Linear layers of few bits, and layers joined into one."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from launches import as_on_gpu
from voxtral.model.linear import QuantizedLinear, concatenate_linears, product
from voxtral.quantization.fit import fit_int4, fit_int8


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def relative(got: Tensor, expected: Tensor) -> float:
    return float((got.float() - expected.float()).norm() / expected.float().norm())


def test_a_quantised_layer_adds_its_bias_and_keeps_leading_axes() -> None:
    bias = nn.Parameter(randn(70, seed=2), requires_grad=False)
    layer = QuantizedLinear(fit_int8(randn(70, 64)), bias)
    x = randn(2, 3, 64, seed=1)
    expected = x @ layer.dense_weight().T + bias
    assert relative(layer(x), expected) < 1e-6
    layer.prepare(torch.float32)
    layer.prepare(torch.float32)
    assert layer(x).shape == (2, 3, 70)
    assert relative(layer(x), expected) < 1e-3


@pytest.mark.parametrize("biases", [(False, False), (True, False), (True, True)])
def test_joined_layers_give_what_the_parts_give(biases: tuple[bool, bool]) -> None:
    x = randn(3, 64, seed=1)
    parts = [nn.Linear(64, size, bias=has_bias) for size, has_bias in zip((8, 24), biases, strict=True)]
    with torch.no_grad():
        for part in parts:
            part.weight.copy_(randn(*part.weight.shape))
            if part.bias is not None:
                part.bias.copy_(randn(len(part.bias)))
        expected = torch.cat([part(x) for part in parts], dim=-1)
        assert relative(concatenate_linears(parts)(x), expected) < 1e-6
        for fit in (fit_int8, lambda weight: fit_int4(weight, 64)):
            quantised = [QuantizedLinear(fit(part.weight), part.bias) for part in parts]
            expected = torch.cat([part(x) for part in quantised], dim=-1)
            assert relative(concatenate_linears(quantised)(x), expected) < 1e-6


def test_forms_that_differ_cannot_be_joined() -> None:
    int8, int4 = fit_int8(randn(64, 64)), fit_int4(randn(64, 64), 64)
    with pytest.raises(AssertionError, match="one canonical form"):
        concatenate_linears([QuantizedLinear(int8), QuantizedLinear(int4)])


@pytest.mark.parametrize("has_bias", [False, True])
def test_on_a_gpu_the_library_adds_a_product_of_many_rows_to_the_residual_stream(*, has_bias: bool) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(6, 8, bias=has_bias).requires_grad_(False)
    x, tokens = torch.randn(70, 1, 6), torch.randn(70, 3, 8)
    norm = (torch.randn(6), 1e-5)
    expected = product(linear, x, norm=norm, residual=tokens[:, :1])
    with as_on_gpu():
        found = product(linear, x, norm=norm, residual=tokens[:, :1])
    torch.testing.assert_close(found, expected)
    assert found.shape == (70, 1, 8)
    # It writes over what it was given, and only where no bias is to be added first.
    assert torch.equal(found, tokens[:, :1]) is not has_bias
