"""The forms for torch's CUDA products: the same numbers in another order, and used only where they compute right.

No GPU is here, so the operations are played by what torch documents of them; that a real one does the same is tried on
the GPU itself, and that too is tested here.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from fake_gpu import FakeGpu
from voxtral.model import linear, linear_cuda, linear_weights
from voxtral.model.linear import QuantizedLinear, describe_products, product_way
from voxtral.model.linear_cuda import CudaInt4Weight, CudaInt8Weight, prepare_for_cuda
from voxtral.model.linear_weights import QuantizedWeight, unpack_nibbles
from voxtral.quantization.fit import fit_int4, fit_int8

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def relative(got: Tensor, expected: Tensor) -> float:
    return float((got.float() - expected.float()).norm() / expected.float().norm())


def multiply_int8(x: Tensor, values: Tensor, scale: Tensor) -> Tensor:
    assert x.is_contiguous()
    assert (x.dtype, values.dtype, scale.dtype) == (torch.float32, torch.int8, torch.float32)
    return x @ values.float().T * scale


class Tinygemm:
    """What torch packs and multiplies: the even input in the high half of a byte, w = (q - 8) * scale + offset."""

    def __init__(self) -> None:
        self._packed: dict[int, Tensor] = {}

    def pack(self, swapped: Tensor, inner_tiles: int) -> Tensor:
        packed = torch.ops.aten._convert_weight_to_int4pack(swapped.to("meta"), inner_tiles)
        made = torch.zeros(packed.shape, dtype=packed.dtype)  # the shape that torch itself gives it
        self._packed[made.data_ptr()] = swapped
        return made

    def multiply(self, x: Tensor, packed: Tensor, group_size: int, scale_and_offset: Tensor) -> Tensor:
        assert (x.dtype, scale_and_offset.dtype) == (torch.bfloat16, torch.bfloat16)
        assert packed.is_contiguous()
        assert scale_and_offset.is_contiguous()
        low_first = unpack_nibbles(self._packed[packed.data_ptr()])
        quantised = low_first.unflatten(1, (-1, 2)).flip(-1).flatten(1).float()  # [N, K]
        scale, offset = (part.T.float() for part in scale_and_offset.unbind(-1))  # [N, K / g]
        groups = quantised.unflatten(1, (-1, group_size))
        weight = ((groups - 8) * scale[..., None] + offset[..., None]).flatten(1).to(torch.bfloat16)
        return (x.float() @ weight.float().T).to(torch.bfloat16)


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> None:
    tinygemm = Tinygemm()
    monkeypatch.setattr(linear_cuda, "_multiply_int8", multiply_int8)
    monkeypatch.setattr(linear_cuda, "_pack_int4", tinygemm.pack)
    monkeypatch.setattr(linear_cuda, "_multiply_int4", tinygemm.multiply)


@pytest.mark.usefixtures("played")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_torchs_int8_product_is_the_reference(dtype: torch.dtype) -> None:
    weight = fit_int8(randn(70, 64))
    fast = CudaInt8Weight.pack(weight)
    x = randn(64, 7, seed=1).T.to(dtype)
    assert torch.equal(fast.dense(), weight.dense())
    assert (fast.shape, fast.num_bytes) == (weight.shape, weight.num_bytes)
    assert relative(fast.matmul(x), x.float() @ weight.dense().T) < (1e-6 if dtype is torch.float32 else 4e-3)
    assert fast.matmul(x).dtype is dtype


@pytest.mark.usefixtures("played")
@pytest.mark.parametrize(("shape", "group_size"), [((64, 128), 64), ((24, 64), 32), ((16, 32), 32)])
def test_torchs_int4_product_is_the_reference(shape: tuple[int, int], group_size: int) -> None:
    weight = fit_int4(randn(*shape), group_size)
    fast = CudaInt4Weight.pack(weight)
    x = randn(7, shape[1], seed=1)
    assert fast.shape == weight.shape
    assert fast.num_bytes == weight.num_bytes
    assert fast.group_size == group_size
    assert relative(fast.dense(), weight.dense()) < 4e-3  # weights are rounded to bfloat16
    assert relative(fast.matmul(x), x @ weight.dense().T) < 1e-2


@pytest.mark.usefixtures("played")
def test_products_are_tried_before_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert linear_cuda._try_int8(CPU, dtype) is None
        assert linear_cuda._try_int4(CPU, dtype) is None

    def off(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *given: function(*given) + 0.5

    monkeypatch.setattr(linear_cuda, "_multiply_int8", off(multiply_int8))
    # The nibbles of a torch that wants them the other way round.
    pack = linear_cuda._pack_int4
    monkeypatch.setattr(linear_cuda, "_pack_int4", lambda swapped, tiles: pack((swapped << 4) | (swapped >> 4), tiles))
    assert linear_cuda._try_int8(CPU, torch.float32) == "a small product comes out wrong"
    assert linear_cuda._try_int4(CPU, torch.bfloat16) == "a small product comes out wrong"


def test_what_this_machine_does_not_have_is_said_and_not_raised() -> None:
    """The trial itself, with nothing faked: there is no GPU."""
    products = linear_cuda.cuda_products.__wrapped__(GPU, torch.bfloat16)
    for problem in (products.int8, products.int4):
        assert problem
        assert "\n" not in problem


@pytest.mark.usefixtures("played")
@pytest.mark.parametrize(
    ("gpu", "int8", "int4"),
    [
        (FakeGpu(), "kernel", "kernel"),
        (FakeGpu(kernel_problem="Triton is not installed"), "library", "library"),
        (FakeGpu(capability=(7, 5)), "library", "none"),
        (FakeGpu(kernel_problem="no compiler", int8_problem="NotImplementedError"), "none", "library"),
    ],
)
def test_the_way_to_multiply_follows_from_what_works(
    gpu: FakeGpu, int8: str, int4: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu.install(monkeypatch)
    monkeypatch.setattr(QuantizedWeight, "device", GPU)
    ways = {"int8": int8, "int4": int4}
    weights: dict[str, QuantizedWeight] = {"int8": fit_int8(randn(64, 64)), "int4": fit_int4(randn(64, 64), 64)}
    forms = {"int8": CudaInt8Weight, "int4": CudaInt4Weight}
    told = describe_products(GPU, torch.bfloat16)
    for precision, way in ways.items():
        assert product_way(precision, GPU, torch.bfloat16) == way
        prepared = prepare_for_cuda(weights[precision], torch.bfloat16)
        assert isinstance(prepared, forms[precision]) is (way == "library")
        words = {"kernel": "by a Triton kernel", "library": "by torch's own product", "none": "dequantised, slow ("}
        assert f"{precision} {words[way]}" in told


@pytest.mark.usefixtures("played")
def test_shapes_that_the_packed_product_does_not_take_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    FakeGpu(kernel_problem="Triton is not installed").install(monkeypatch)
    for shape in ((63, 64), (64, 48)):
        weight = fit_int4(randn(*shape), shape[1])
        assert prepare_for_cuda(weight, torch.bfloat16) is weight


def test_a_layer_on_a_gpu_is_prepared_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []
    weight = fit_int8(randn(64, 64))
    monkeypatch.setattr(QuantizedWeight, "device", GPU)
    monkeypatch.setattr(linear, "prepare_for_cuda", lambda weight, dtype: seen.append(dtype) or weight)
    QuantizedLinear(weight).prepare(torch.float16)
    assert seen == [torch.float16]


def test_dequantised_in_blocks_is_dequantised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear_weights, "ROWS_PER_BLOCK", 24)
    monkeypatch.setattr(linear, "ROWS_PER_BLOCK", 24)
    for weight in (fit_int8(randn(70, 64)), fit_int4(randn(70, 64), 32)):
        assert torch.equal(weight.to_dense(torch.bfloat16), weight.dense().to(torch.bfloat16))
        blocks = list(QuantizedLinear(weight).dense_blocks())
        assert [len(rows) for rows in blocks] == [24, 24, 22]
        assert torch.equal(torch.cat(blocks), weight.dense())
