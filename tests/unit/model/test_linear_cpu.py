"""The forms that a CPU multiplies fast: the same numbers, and each row for itself."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from cpu_forms import TORCH, use_form
from voxtral.model import linear_cpu
from voxtral.model.linear_cpu import CpuInt4Weight, CpuInt8Weight, CpuKernels, cpu_kernels, prepare_weight
from voxtral.model.linear_weights import QuantizedWeight
from voxtral.quantization.fit import fit_int4, fit_int8

needs_int8 = pytest.mark.skipif(not cpu_kernels().has_int8, reason="this processor has no fast int8 product")
needs_int4 = pytest.mark.skipif(cpu_kernels().int4_block is None, reason="this processor has no packed int4 product")


@pytest.fixture(autouse=True)
def by_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """These are torch's own products, for who has no library."""
    use_form(TORCH, monkeypatch)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def relative(got: Tensor, expected: Tensor) -> float:
    return float((got.float() - expected.float()).norm() / expected.float().norm())


@needs_int8
@pytest.mark.parametrize("shape", [(70, 36), (512, 256)])
def test_fast_int8_is_as_exact_as_two_bytes_of_activations(shape: tuple[int, int]) -> None:
    weight = fit_int8(randn(*shape))
    fast = CpuInt8Weight.pack(weight)
    x = randn(7, shape[1], seed=1)
    assert torch.equal(fast.dense(), weight.dense())
    assert fast.shape == weight.shape
    assert relative(fast.matmul(x), x @ weight.dense().T) < 5e-5


@needs_int8
def test_rows_of_fast_int8_do_not_depend_on_their_neighbours() -> None:
    fast = prepare_weight(fit_int8(randn(96, 64)))
    x = randn(20, 64, seed=1)
    x[3] *= 1000
    together = fast.matmul(x)
    for first, last in ((0, 1), (3, 4), (2, 9), (5, 20)):
        assert torch.equal(fast.matmul(x[first:last]), together[first:last])


@needs_int8
def test_fast_int8_keeps_zeros_and_what_is_not_finite() -> None:
    fast = prepare_weight(fit_int8(randn(96, 64)))
    x = randn(3, 64, seed=1)
    x[0] = 0
    x[1, 5] = torch.nan
    products = fast.matmul(x)
    assert products[0].eq(0).all()
    assert not products[1].isfinite().any()
    assert products[2].isfinite().all()


@needs_int4
@pytest.mark.parametrize("group_size", [32, 64])
def test_fast_int4_agrees_with_the_reference_at_every_number_of_rows(group_size: int) -> None:
    weight = fit_int4(randn(192, 128), group_size)
    fast = prepare_weight(weight)
    assert isinstance(fast, CpuInt4Weight)
    assert fast.shape == weight.shape
    assert relative(fast.dense(), weight.dense()) < 0.002
    x = randn(60, 128, seed=1)
    expected = x @ weight.dense().T
    for num_rows in (1, 2, 7, 60):
        assert relative(fast.matmul(x[:num_rows]), expected[:num_rows]) < 0.01


@needs_int4
def test_rows_of_packed_int4_do_not_depend_on_their_neighbours() -> None:
    fast = prepare_weight(fit_int4(randn(128, 64), 64))
    x = randn(20, 64, seed=1)
    together = fast.matmul(x)
    for first, last in ((0, 1), (3, 4), (2, 9), (5, 20)):
        assert torch.equal(fast.matmul(x[first:last]), together[first:last])


def test_a_shape_that_the_packed_product_does_not_know_stays_canonical() -> None:
    for weight in (fit_int4(randn(70, 64), 32), fit_int4(randn(64, 64), 16)):
        assert prepare_weight(weight) is weight


def test_without_fast_products_the_reference_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_cpu, "cpu_kernels", lambda: CpuKernels(False, None))
    for weight in (fit_int8(randn(64, 64)), fit_int4(randn(64, 64), 64)):
        assert prepare_weight(weight) is weight


def test_a_product_that_cuts_off_sums_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a processor without VNNI does: sums of two products are held in 16 bits."""
    exact = CpuInt8Weight.matmul
    monkeypatch.setattr(CpuInt8Weight, "matmul", lambda self, x: exact(self, x).clamp(-1e5, 1e5))
    assert not cpu_kernels.__wrapped__().has_int8


def test_a_product_that_is_not_there_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(self: object, x: Tensor) -> Tensor:
        raise NotImplementedError("no such operator")

    monkeypatch.setattr(CpuInt8Weight, "matmul", absent)
    monkeypatch.setattr(CpuInt4Weight, "matmul", absent)
    assert cpu_kernels.__wrapped__() == CpuKernels(False, None)


def test_a_product_in_another_layout_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    rightly = CpuInt4Weight.dense
    monkeypatch.setattr(CpuInt4Weight, "dense", lambda self: rightly(self).flip(0))
    assert cpu_kernels.__wrapped__().int4_block is None


@pytest.mark.parametrize("fit", [fit_int8, lambda weight: fit_int4(weight, 64)])
def test_rows_may_lie_apart_in_memory(fit: Callable[[Tensor], QuantizedWeight]) -> None:
    fast = prepare_weight(fit(randn(128, 64)))
    x = randn(3, 5, 64, seed=1).to(torch.bfloat16)
    assert torch.equal(fast.matmul(x[:, 0]), fast.matmul(x[:, 0].contiguous()))


def test_bytes_are_counted_in_every_form() -> None:
    int8, int4 = fit_int8(randn(64, 128)), fit_int4(randn(64, 128), 64)
    assert int8.num_bytes == 64 * 128 + 64 * 4
    assert int4.num_bytes == 64 * 64 + 64 * 2 * 4
    assert prepare_weight(int4).num_bytes == int4.num_bytes
    assert int8.num_bytes <= prepare_weight(int8).num_bytes <= int8.num_bytes + 8 * 64
