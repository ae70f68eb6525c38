"""Matrices of few bits, and the products with them: the form in files, and the forms that a CPU multiplies fast.

A weight is held in one of two canonical forms, the same on every device and in every file: `Int8Weight` and
`Int4Weight`. Their `matmul` is the plain reference: it dequantises and multiplies, and runs everywhere.
`prepare_weight` swaps it for a form that this machine multiplies fast, if there is one that agrees with the
reference here and now. How the numbers are chosen is in `voxtral.quantization.fit`.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxtral.model.kernels.dispatch import has_triton, uses_triton
from voxtral.model.kernels.matmul import quantized_matmul

# Rows that are dequantised or packed at a time: bounds the memory beside the result.
_ROWS_PER_BLOCK = 1024

# Up to this many rows of activations the kernel for a GPU is used, above it dequantising and a library's product.
# Reckoned, not measured: dequantising moves some 20 bytes for each weight, the kernel at most one for each 64 rows.
_KERNEL_ROWS = 512

# Inputs to a group that the packed product knows.
_INT4_GROUP_SIZES = (32, 64, 128, 256)

# Of the activations' bytes: steps to either side of zero, and the byte that stands for zero.
_INT8_STEPS = 127
_INT8_ZERO_POINT = 128


class LinearWeight(Protocol):
    """A matrix [N, K] in some form; K inputs make N outputs."""

    name: ClassVar[str]

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        ...

    @property
    def num_bytes(self) -> int:
        """Memory of the stored form."""
        ...

    def matmul(self, x: Tensor) -> Tensor:
        """Multiply activations [M, K] to [M, N], in their dtype."""
        ...

    def dense(self) -> Tensor:
        """Dequantise: [N, K] float32."""
        ...


@dataclass(frozen=True, eq=False)
class Int8Weight:
    """Symmetric int8 with one scale for each output: w = value * scale."""

    name: ClassVar[str] = "int8 reference"

    values: Tensor  # [N, K] int8, -127 .. 127
    scale: Tensor  # [N] float32

    @property
    def shape(self) -> tuple[int, int]:
        """See LinearWeight."""
        return self.values.shape[0], self.values.shape[1]

    @property
    def num_bytes(self) -> int:
        """See LinearWeight."""
        return self.values.nbytes + self.scale.nbytes

    def dense(self) -> Tensor:
        """See LinearWeight."""
        return self.values.float() * self.scale[:, None]

    def to(self, device: torch.device) -> Self:
        """Copy to another device."""
        return type(self)(self.values.to(device), self.scale.to(device))

    def rows(self, start: int, stop: int) -> Self:
        """Take some of the outputs, without a copy."""
        return type(self)(self.values[start:stop], self.scale[start:stop])

    def matmul(self, x: Tensor) -> Tensor:
        """See LinearWeight; where no kernel does it, dequantises a block of rows at a time, in the dtype of `x`."""
        if _has_kernel(x):
            return quantized_matmul(x, self.values, self.scale)
        return _dense_matmul(self, x)

    @classmethod
    def concatenate(cls, weights: Sequence[Self]) -> Self:
        """Put the outputs of several matrices one below the other."""
        return cls(torch.cat([weight.values for weight in weights]), torch.cat([weight.scale for weight in weights]))


@dataclass(frozen=True, eq=False)
class Int4Weight:
    """Asymmetric int4 in groups along the inputs: w = (q - zero) * scale, q in 0 .. 15.

    Scales need range and zeros precision, hence their dtypes; each has 16 bits.
    """

    name: ClassVar[str] = "int4 reference"

    packed: Tensor  # [N, K / 2] uint8; the low nibble is the even input
    scale: Tensor  # [N, K / g] bfloat16
    zero: Tensor  # [N, K / g] float16

    @property
    def shape(self) -> tuple[int, int]:
        """See LinearWeight."""
        return self.packed.shape[0], 2 * self.packed.shape[1]

    @property
    def num_bytes(self) -> int:
        """See LinearWeight."""
        return self.packed.nbytes + self.scale.nbytes + self.zero.nbytes

    @property
    def group_size(self) -> int:
        """Inputs that share a scale and a zero."""
        return self.shape[1] // self.scale.shape[1]

    def quantised(self) -> Tensor:
        """Unpack to [N, K] uint8, 0 .. 15."""
        return torch.stack((self.packed & 15, self.packed >> 4), dim=-1).flatten(1)

    def dense(self) -> Tensor:
        """See LinearWeight."""
        groups = self.quantised().unflatten(1, (-1, self.group_size)).float()
        return ((groups - self.zero[..., None].float()) * self.scale[..., None].float()).flatten(1)

    def to(self, device: torch.device) -> Self:
        """Copy to another device."""
        return type(self)(self.packed.to(device), self.scale.to(device), self.zero.to(device))

    def rows(self, start: int, stop: int) -> Self:
        """Take some of the outputs, without a copy."""
        return type(self)(self.packed[start:stop], self.scale[start:stop], self.zero[start:stop])

    def matmul(self, x: Tensor) -> Tensor:
        """See LinearWeight; where no kernel does it, dequantises a block of rows at a time, in the dtype of `x`."""
        if _has_kernel(x):
            return quantized_matmul(x, self.packed, self.scale, self.zero)
        return _dense_matmul(self, x)

    @classmethod
    def concatenate(cls, weights: Sequence[Self]) -> Self:
        """Put the outputs of several matrices one below the other; their groups are of one size."""
        return cls(
            torch.cat([weight.packed for weight in weights]),
            torch.cat([weight.scale for weight in weights]),
            torch.cat([weight.zero for weight in weights]),
        )


QuantizedWeight = Int8Weight | Int4Weight


def pack_nibbles(quantised: Tensor) -> Tensor:
    """Pack [N, K] uint8 of 0 .. 15 to [N, K / 2]; the low nibble is the even input.

    >>> pack_nibbles(torch.tensor([[1, 2]], dtype=torch.uint8)).tolist()
    [[33]]
    """
    return quantised[:, ::2] | (quantised[:, 1::2] << 4)


def _has_kernel(x: Tensor) -> bool:
    return x.is_cuda and x.shape[0] <= _KERNEL_ROWS and uses_triton(x, None)


def _dense_matmul(weight: QuantizedWeight, x: Tensor) -> Tensor:
    num_rows, _ = weight.shape
    outputs = x.new_empty(x.shape[0], num_rows)
    for start in range(0, num_rows, _ROWS_PER_BLOCK):
        stop = min(start + _ROWS_PER_BLOCK, num_rows)
        outputs[:, start:stop] = F.linear(x, weight.rows(start, stop).dense().to(x.dtype))
    return outputs


# The forms that a CPU multiplies fast.


@dataclass(frozen=True, eq=False)
class CpuInt8Weight:
    """Int8 weights for oneDNN, which multiplies them with activations of eight bits.

    Each row of activations is rounded to 255 steps between plus and minus its largest value; what that leaves over
    is rounded in the same way and multiplied as one more row. One byte alone would triple the error of
    the whole product; the second costs little, because the weights are read once (docs/QUANTIZATION.md). Sums are of
    whole numbers, so a row's result is the same to the bit whatever other rows are beside it.
    """

    name: ClassVar[str] = "int8 oneDNN, activations in two bytes"

    packed: Tensor  # opaque, of [N, K] int8
    scale: Tensor  # [N] float32
    zero_points: Tensor  # [N] int64, all zero

    @classmethod
    def pack(cls, weight: Int8Weight) -> Self:
        """Reorder the canonical form; it is not needed afterwards."""
        packed = torch.ops.onednn.qlinear_prepack(weight.values, None)
        return cls(packed, weight.scale, torch.zeros(len(weight.scale), dtype=torch.int64))

    @property
    def shape(self) -> tuple[int, int]:
        """See LinearWeight."""
        return self.packed.shape[1], self.packed.shape[0]

    @property
    def num_bytes(self) -> int:
        """See LinearWeight."""
        return self.packed.numel() + self.scale.nbytes + self.zero_points.nbytes

    def dense(self) -> Tensor:
        """See LinearWeight."""
        return self.packed.to_dense().T.float() * self.scale[:, None]

    def matmul(self, x: Tensor) -> Tensor:
        """See LinearWeight."""
        largest = torch.linalg.vector_norm(x, torch.inf, dim=1, keepdim=True, dtype=torch.float32)
        # A row of zeros stays zero; a row that is not finite stays so through its step.
        step = largest.clamp(min=torch.finfo(torch.float32).tiny * _INT8_STEPS) / _INT8_STEPS  # [M, 1]
        scaled = x / step
        coarse = scaled.round()
        fine = (scaled - coarse) * (2 * _INT8_STEPS)
        # Bytes are cut off, not rounded, hence the half.
        rows = (torch.cat((coarse, fine)) + (_INT8_ZERO_POINT + 0.5)).to(torch.uint8)
        products = torch.ops.onednn.qlinear_pointwise(
            rows,
            torch.ones((), device=x.device),
            torch.full((), _INT8_ZERO_POINT, dtype=torch.int32, device=x.device),
            self.packed,
            self.scale,
            self.zero_points,
            None,  # bias
            1.0,  # output scale
            0,  # output zero point
            torch.float32,
            "none",  # post operation
            [],
            "",
        )
        of_coarse, of_fine = products.chunk(2)
        return ((of_coarse + of_fine / (2 * _INT8_STEPS)) * step).to(x.dtype)


@dataclass(frozen=True, eq=False)
class CpuInt4Weight:
    """Int4 weights for torch's packed product, which computes in bfloat16.

    Its time grows with every row, but unpacking for another product takes longer than 200 rows (docs/LOG.md,
    2026-11-22).

    `packed` holds blocks of `block` rows: for each input the rows of the first half in the low nibbles, those of
    the second half in the high ones.
    """

    name: ClassVar[str] = "int4 packed, bfloat16"

    packed: Tensor  # [N, K / 2] uint8
    scale_and_offset: Tensor  # [K / g, N, 2] bfloat16; w = (q - 8) * scale + offset
    block: int

    @classmethod
    def pack(cls, weight: Int4Weight, block: int) -> Self:
        """Reorder the canonical form; it is not needed afterwards."""
        num_rows, _ = weight.shape
        packed = torch.empty_like(weight.packed)
        for start in range(0, num_rows, _ROWS_PER_BLOCK):
            stop = min(start + _ROWS_PER_BLOCK, num_rows)
            quantised = weight.rows(start, stop).quantised().to(torch.int32)
            packed[start:stop] = torch.ops.aten._convert_weight_to_int4pack_for_cpu(quantised, 1)
        offset = (8 - weight.zero.float()) * weight.scale.float()
        pairs = torch.stack((weight.scale.float(), offset), dim=-1).to(torch.bfloat16)
        return cls(packed, pairs.transpose(0, 1).contiguous(), block)

    @property
    def shape(self) -> tuple[int, int]:
        """See LinearWeight."""
        return self.packed.shape[0], 2 * self.packed.shape[1]

    @property
    def num_bytes(self) -> int:
        """See LinearWeight."""
        return self.packed.nbytes + self.scale_and_offset.nbytes

    @property
    def group_size(self) -> int:
        """Inputs that share a scale and an offset."""
        return self.shape[1] // self.scale_and_offset.shape[0]

    def dense(self) -> Tensor:
        """See LinearWeight; what the packed product computes with, its offsets rounded to bfloat16."""
        blocks = self.packed.view(-1, self.shape[1], self.block // 2)
        quantised = torch.cat((blocks & 15, blocks >> 4), dim=-1).transpose(1, 2).flatten(0, 1)  # [N, K]
        scale, offset = self.scale_and_offset.float().transpose(0, 1)[..., None].unbind(2)  # [N, K / g, 1] each
        groups = quantised.unflatten(1, (-1, self.group_size)).float()
        return ((groups - 8) * scale + offset).flatten(1)

    def matmul(self, x: Tensor) -> Tensor:
        """See LinearWeight."""
        outputs = torch.ops.aten._weight_int4pack_mm_for_cpu(
            x.to(torch.bfloat16).contiguous(), self.packed, self.group_size, self.scale_and_offset
        )
        return outputs.to(x.dtype)


@dataclass(frozen=True)
class CpuKernels:
    """What the processor and this torch multiply correctly.

    Attributes:
        has_int8: whether there is an exact product. Without VNNI there is none: products are cut to 16 bits.
        int4_block: rows of a block of the packed form, or None without a packed product.
    """

    has_int8: bool
    int4_block: int | None


@functools.cache
def cpu_kernels() -> CpuKernels:
    """Try each fast product on a small matrix against exact arithmetic, once for this process."""
    block = next((block for block in (64, 32) if _is_int4_right(block)), None)
    return CpuKernels(_is_int8_exact(), block)


def _is_int8_exact() -> bool:
    """Compare with whole numbers, at the extremes where narrow sums would be cut off."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(-127, 128, (64, 256), generator=generator)
    values[:32] = values[:32].sign() * 127
    x = torch.randint(-_INT8_STEPS, _INT8_STEPS + 1, (5, 256), generator=generator)
    x[:, 0] = _INT8_STEPS  # so that the step is one
    x[:3] = _INT8_STEPS
    weight = Int8Weight(values.to(torch.int8), torch.ones(64))
    try:
        products = CpuInt8Weight.pack(weight).matmul(x.float())
    # Whatever torch raises for an operator that it does not have here.
    except (RuntimeError, NotImplementedError, AttributeError, TypeError):
        return False
    return torch.equal(products, (x @ values.T).float())


def _is_int4_right(block: int) -> bool:
    """Compare the packed product with its own dequantised form, and that with the canonical one."""
    generator = torch.Generator().manual_seed(0)
    weight = Int4Weight(
        packed=torch.randint(0, 256, (128, 128), generator=generator, dtype=torch.uint8),
        scale=torch.rand(128, 4, generator=generator).add_(0.5).to(torch.bfloat16),
        zero=torch.full((128, 4), 8.0, dtype=torch.float16),
    )
    x = torch.randn(5, 256, generator=generator).to(torch.bfloat16)
    try:
        fast = CpuInt4Weight.pack(weight, block)
        products = fast.matmul(x).float()
    except (RuntimeError, NotImplementedError, AttributeError, TypeError):
        return False
    expected = x.float() @ weight.dense().T
    # The result is rounded to bfloat16.
    return torch.equal(fast.dense(), weight.dense()) and bool((products - expected).norm() < 0.01 * expected.norm())


def describe_products(device: torch.device) -> str:
    """Say in words how matrices of few bits are multiplied on a device."""
    if device.type != "cpu":
        return "int8 and int4 by Triton kernels" if device.type == "cuda" and has_triton() else "dequantised, slow"
    kernels = cpu_kernels()
    int8 = CpuInt8Weight.name if kernels.has_int8 else "int8 dequantised, slow: the processor has no VNNI"
    int4 = CpuInt4Weight.name if kernels.int4_block else "int4 dequantised, slow"
    return f"{int8}; {int4}"


def prepare_weight(weight: QuantizedWeight) -> LinearWeight:
    """Choose the fastest form that is known to be right here; the canonical form where there is none."""
    if weight.scale.device.type != "cpu":
        return weight
    kernels = cpu_kernels()
    if isinstance(weight, Int8Weight):
        return CpuInt8Weight.pack(weight) if kernels.has_int8 else weight
    block = kernels.int4_block
    if block is None or weight.shape[0] % block or weight.group_size not in _INT4_GROUP_SIZES:
        return weight
    return CpuInt4Weight.pack(weight, block)


class QuantizedLinear(nn.Module):
    """A linear layer whose matrix has few bits.

    Args:
        weight: in any form.
        bias: [N], added in the dtype of the activations, or None.
    """

    bias: nn.Parameter | None

    def __init__(self, weight: LinearWeight, bias: nn.Parameter | None = None) -> None:
        super().__init__()
        self.quantized_weight = weight
        self.register_parameter("bias", bias)

    def dense_weight(self) -> Tensor:
        """Dequantise: [N, K] float32."""
        return self.quantized_weight.dense()

    def prepare(self) -> None:
        """Swap the canonical form of the matrix for a faster one, where there is one."""
        if isinstance(self.quantized_weight, Int8Weight | Int4Weight):
            self.quantized_weight = prepare_weight(self.quantized_weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., K] to [..., N]."""
        outputs = self.quantized_weight.matmul(x.reshape(-1, x.shape[-1])).unflatten(0, x.shape[:-1])
        return outputs if self.bias is None else outputs + self.bias


def concatenate_linears(linears: Sequence[nn.Module]) -> nn.Module:
    """Make one linear layer whose outputs are those of several, side by side.

    Args:
        linears: all nn.Linear, or all QuantizedLinear in one canonical form; a missing bias counts as zero.
    """
    biases = _concatenate_biases(linears)
    if isinstance(linears[0], QuantizedLinear):
        weights = [cast(QuantizedLinear, linear).quantized_weight for linear in linears]
        return QuantizedLinear(_concatenate_weights(weights), biases)
    weight = torch.cat([cast(nn.Linear, linear).weight for linear in linears])
    # On the meta device no start values are drawn.
    joined = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    joined.weight = nn.Parameter(weight, requires_grad=False)
    joined.bias = cast(nn.Parameter, biases)
    return joined


def _concatenate_weights(weights: Sequence[LinearWeight]) -> QuantizedWeight:
    int8 = [weight for weight in weights if isinstance(weight, Int8Weight)]
    int4 = [weight for weight in weights if isinstance(weight, Int4Weight)]
    assert len(weights) in (len(int8), len(int4)), "only weights of one canonical form can be joined"
    return Int8Weight.concatenate(int8) if int8 else Int4Weight.concatenate(int4)


def _concatenate_biases(linears: Sequence[nn.Module]) -> nn.Parameter | None:
    biases = [cast("nn.Parameter | None", linear.bias) for linear in linears]
    known = next((bias for bias in biases if bias is not None), None)
    if known is None:
        return None
    parts = [
        known.new_zeros(num_outputs(linear)) if bias is None else bias
        for linear, bias in zip(linears, biases, strict=True)
    ]
    return nn.Parameter(torch.cat(parts), requires_grad=False)


def num_outputs(linear: nn.Module) -> int:
    """Count the outputs N of a linear layer."""
    return (
        linear.quantized_weight.shape[0]
        if isinstance(linear, QuantizedLinear)
        else cast(nn.Linear, linear).out_features
    )
