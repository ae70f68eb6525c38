"""Matrices of few bits by our own C: exact against double precision, each row for itself, in every form."""

from __future__ import annotations

import functools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from cpu_forms import form_or_skip
from voxtral.errors import OptionError
from voxtral.model import linear_kernel
from voxtral.model.kernels.cpu import library
from voxtral.model.kernels.cpu.building import NoLibraryError
from voxtral.model.kernels.cpu.library import FORM_NAMES, CpuForm, find_form
from voxtral.model.kernels.cpu.products import Part, multiply
from voxtral.model.linear import QuantizedLinear, feed_forward_by_kernel, product
from voxtral.model.linear_cpu import prepare_weight
from voxtral.model.linear_kernel import KernelChoice, KernelInt4Weight, KernelInt8Weight, KernelWeight, kernel_choice
from voxtral.model.linear_weights import Int4Weight, Int8Weight, QuantizedWeight
from voxtral.quantization.fit import fit_int4, fit_int8

EVERY_FORM = pytest.mark.parametrize("name", FORM_NAMES)


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def relative(got: Tensor, expected: Tensor) -> float:
    return float((got.double() - expected.double()).norm() / expected.double().norm())


def pack(weight: QuantizedWeight, form: CpuForm) -> KernelWeight:
    if isinstance(weight, Int8Weight):
        return KernelInt8Weight.pack(weight, form)
    assert isinstance(weight, Int4Weight)
    return KernelInt4Weight.pack(weight, form)


@st.composite
def problems(draw: st.DrawFn) -> tuple[QuantizedWeight, Tensor]:
    """Matrices of any shape and group, and activations with outliers, zeros, and the largest and smallest numbers."""
    num_outputs, num_rows = draw(st.integers(1, 100)), draw(st.integers(1, 20))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    if draw(st.booleans()):
        num_inputs = draw(st.integers(1, 300))
        values = torch.randint(-127, 128, (num_outputs, num_inputs), generator=generator).to(torch.int8)
        weight = Int8Weight(values, torch.rand(num_outputs, generator=generator) + 0.01)
    else:
        group = draw(st.sampled_from([2, 6, 8, 16, 32, 64, 128]))
        num_groups = draw(st.integers(1, 4))
        num_inputs = group * num_groups
        packed = torch.randint(0, 256, (num_outputs, num_inputs // 2), generator=generator, dtype=torch.uint8)
        scale = torch.rand(num_outputs, num_groups, generator=generator).add_(0.01).to(torch.bfloat16)
        zero = torch.rand(num_outputs, num_groups, generator=generator).mul_(15).to(torch.float16)
        weight = Int4Weight(packed, scale, zero)
    x = torch.randn(num_rows, num_inputs, generator=generator)
    x *= draw(st.sampled_from([1.0, 1e-30, 1e30]))
    x[:, :: draw(st.integers(1, 40))] *= draw(st.sampled_from([0.0, 1.0, 1000.0]))
    return weight, x


def bound(fast: KernelWeight, weight: QuantizedWeight, x: Tensor) -> Tensor:
    """What rounding each activation by half a step of its group may move each output, and float32 besides."""
    group, width = fast.matrix.group, weight.shape[1]
    missing = -width % group
    largest = torch.nn.functional.pad(x.double(), (0, missing)).unflatten(1, (-1, group)).abs().amax(2)
    weights = torch.nn.functional.pad(weight.dense().double(), (0, missing)).unflatten(1, (-1, group)).abs().sum(2)
    most = {1: 127, 2: 127 * 256}[fast.num_bytes_of_activation]
    return largest @ weights.T * (0.5 / most + 4e-6) + 1e-37


@EVERY_FORM
def test_products_are_as_exact_as_their_activations_and_rows_do_not_see_each_other(name: str) -> None:
    form = form_or_skip(name)

    @given(problems(), st.sampled_from([torch.float32, torch.bfloat16]))
    def check(problem: tuple[QuantizedWeight, Tensor], dtype: torch.dtype) -> None:
        weight, x = problem
        x = x.to(dtype)
        two_bytes = pack(weight, form)
        assert torch.equal(two_bytes.dense(), weight.dense())
        expected = x.double() @ weight.dense().double().T
        for fast in (two_bytes, two_bytes.with_activations(1)):
            products = multiply([Part(fast.matrix, x, fast.num_bytes_of_activation, dtype=torch.float32)], 2)
            assert bool(((products - expected).abs() <= bound(fast, weight, x)).all())
            count = 1 + len(x) // 2
            for part in (slice(0, 1), slice(0, count), slice(len(x) - 1, len(x))):
                alone = multiply([Part(fast.matrix, x[part], fast.num_bytes_of_activation, dtype=torch.float32)], 1)
                assert torch.equal(alone, products[part])

    check()


def test_all_forms_give_the_same_bits() -> None:
    library_forms = [form for name in FORM_NAMES if (form := _form_or_none(name)) is not None]
    if len(library_forms) < 2:
        pytest.skip("this processor has one form")
    x = randn(7, 192, seed=1)
    for weight in (fit_int8(randn(70, 192)), fit_int4(randn(70, 192), 64)):
        for num_bytes in (1, 2):
            first, *others = (
                pack(weight, form).with_activations(1 if num_bytes == 1 else 2).matmul(x) for form in library_forms
            )
            assert all(torch.equal(first, other) for other in others)


def _form_or_none(name: str) -> CpuForm | None:
    try:
        return form_or_skip(name)
    except pytest.skip.Exception:
        return None


@functools.cache
def best() -> CpuForm:
    return next(form for name in ("avx512vnni", "avxvnni", "avx2", "i8mm", "dotprod") if (form := _form_or_none(name)))


@pytest.fixture
def form() -> CpuForm:
    if not any(_form_or_none(name) for name in FORM_NAMES):
        pytest.skip("no form runs here")
    return best()


def test_two_bytes_are_closer_than_torchs_two_bytes_are_documented(form: CpuForm) -> None:
    """docs/QUANTIZATION.md has 3e-5 for one step a row; with outliers a step for each group tells."""
    weight = fit_int8(randn(512, 3072))
    x = randn(7, 3072, seed=1)
    expected = x.double() @ weight.dense().double().T
    assert relative(pack(weight, form).matmul(x), expected) < 3e-5
    x[:, ::97] *= 20
    assert relative(pack(weight, form).matmul(x), x.double() @ weight.dense().double().T) < 1e-4


def test_zeros_stay_zero_and_what_is_not_finite_stays_so(form: CpuForm) -> None:
    for weight in (fit_int8(randn(96, 64)), fit_int4(randn(96, 64), 32)):
        x = randn(4, 64, seed=1)
        x[0] = 0
        x[1, 5] = torch.nan
        x[3, 60] = torch.inf
        products = pack(weight, form).matmul(x)
        assert products[0].eq(0).all()
        assert not products[1].isfinite().any()
        assert products[2].isfinite().all()
        assert not products[3].isfinite().any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_norm_bias_and_residual_are_part_of_a_product(dtype: torch.dtype, form: CpuForm) -> None:
    weight = fit_int8(randn(70, 96))
    bias = torch.nn.Parameter(randn(70, seed=3).to(dtype), requires_grad=False)
    layer = QuantizedLinear(pack(weight, form), bias)
    x, residual = randn(2, 3, 96, seed=1).to(dtype), randn(2, 3, 70, seed=2).to(dtype)
    norm = (randn(96, seed=4).to(dtype if dtype is not torch.float16 else torch.float32), 1e-5)
    normed = torch.nn.functional.rms_norm(x.double(), (96,), norm[0].double(), 1e-5)
    expected = residual.double() + bias.double() + normed @ weight.dense().double().T
    precision = {torch.float32: 1e-4, torch.bfloat16: 4e-3, torch.float16: 1e-3}[dtype]
    found = product(layer, x, norm=norm, residual=residual)
    assert found.dtype is dtype
    assert relative(found, expected) < precision
    gated = product(layer, x, is_gated=True)
    gate, up = layer(x).float().chunk(2, dim=-1)
    assert relative(gated, torch.nn.functional.silu(gate) * up) < precision


@pytest.mark.parametrize("num_rows", [1, 6, 40])
def test_a_feed_forward_is_one_call(num_rows: int, form: CpuForm) -> None:
    w13, w2 = fit_int4(randn(192, 64) / 4, 32), fit_int8(randn(64, 96) / 8)
    layers = [QuantizedLinear(pack(weight, form)) for weight in (w13, w2)]
    x = randn(num_rows, 64, seed=1)
    norm = (randn(64, seed=2), 1e-6)
    gate, up = (torch.nn.functional.rms_norm(x, (64,), *norm) @ w13.dense().T).chunk(2, dim=-1)
    expected = x + (torch.nn.functional.silu(gate) * up) @ w2.dense().T
    found = feed_forward_by_kernel(layers[0], layers[1], x, norm=norm, residual=x)
    assert found is not None
    assert relative(found, expected) < 1e-4
    for row in range(min(num_rows, 3)):
        alone = feed_forward_by_kernel(layers[0], layers[1], x[row : row + 1], norm=norm, residual=x[row : row + 1])
        assert torch.equal(alone, found[row : row + 1])
    assert feed_forward_by_kernel(layers[0], torch.nn.Linear(96, 64), x) is None


def test_rows_may_lie_apart_in_memory(form: CpuForm) -> None:
    fast = pack(fit_int8(randn(128, 64)), form)
    x = randn(3, 5, 64, seed=1).to(torch.bfloat16)
    assert torch.equal(fast.matmul(x[:, 0]), fast.matmul(x[:, 0].contiguous()))
    assert fast.matmul(x[0, :0]).shape == (0, 128)


def test_the_form_is_chosen_and_limited_by_variables(form: CpuForm, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_form().name == form.name
    least = "avx2" if form.name.startswith("avx") else "dotprod"
    monkeypatch.setenv("VOXTRAL_CPU_FORM", least)
    assert find_form().name == least
    monkeypatch.setenv("VOXTRAL_CPU_FORM", "dotprod" if least == "avx2" else "avx2")
    with pytest.raises(NoLibraryError, match="VOXTRAL_CPU_FORM is"):
        find_form()
    monkeypatch.setenv("VOXTRAL_CPU_FORM", "sse2")
    with pytest.raises(OptionError, match="must be one of avx2"):
        find_form()
    monkeypatch.delenv("VOXTRAL_CPU_FORM")
    monkeypatch.setenv("VOXTRAL_CPU_KERNELS", "0")
    with pytest.raises(NoLibraryError, match="VOXTRAL_CPU_KERNELS is 0"):
        find_form()


def test_a_library_that_computes_wrong_numbers_is_not_used(form: CpuForm, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernel_choice.__wrapped__().form is not None
    exact = multiply
    monkeypatch.setattr(linear_kernel, "multiply", lambda parts, threads: exact(parts, threads).clamp(-1e5, 1e5))
    choice = kernel_choice.__wrapped__()
    assert choice.form is None
    assert "computes wrong numbers" in choice.reason


def test_rows_that_change_with_their_neighbours_are_seen(form: CpuForm, monkeypatch: pytest.MonkeyPatch) -> None:
    exact = multiply

    def uneven(parts: list[Part], threads: int) -> Tensor:
        products = exact(parts, threads)
        return products if len(products) == 15 else products * (1 + 1e-7)

    monkeypatch.setattr(linear_kernel, "multiply", uneven)
    assert kernel_choice.__wrapped__().form is None


def test_without_the_library_torch_multiplies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_kernel, "kernel_choice", lambda: KernelChoice(None, "none here"))
    weight = fit_int8(randn(64, 64))
    assert not isinstance(prepare_weight(weight), KernelWeight)


def test_without_torchs_openmp_one_thread_computes(form: CpuForm) -> None:
    alone = CpuForm(form.library, form.number, form.name, None, form.origin)
    weight, x = fit_int8(randn(512, 512)), randn(9, 512, seed=1)
    assert torch.equal(pack(weight, alone).matmul(x), pack(weight, form).matmul(x))
    assert library._team_of("/nowhere/libnothing.so") is None


def test_bytes_are_those_of_the_canonical_form(form: CpuForm) -> None:
    for weight in (fit_int8(randn(64, 128)), fit_int4(randn(64, 128), 64)):
        assert pack(weight, form).num_bytes == weight.num_bytes
        assert pack(weight, form).shape == (64, 128)
