"""The forms in which a CPU multiplies matrices of few bits fast, each tried here before it is used.

`prepare_weight` swaps a canonical form (`voxtral.model.linear_weights`) for one that this machine multiplies fast, if
there is one that agrees with exact arithmetic here and now: that of our own C (`voxtral.model.linear_kernel`), else
one of torch's, which are here. What they cost and how exact they are is in
docs/QUANTIZATION.md.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from voxtral.model.linear_kernel import pack_for_kernel
from voxtral.model.linear_weights import ROWS_PER_BLOCK, Int4Weight, Int8Weight, LinearWeight, QuantizedWeight

# Inputs to a group that the packed product knows.
_GROUP_SIZES = (32, 64, 128, 256)

# Of the activations' bytes: steps to either side of zero, and the byte that stands for zero.
_INT8_STEPS = 127
_INT8_ZERO_POINT = 128


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
        for start in range(0, num_rows, ROWS_PER_BLOCK):
            stop = min(start + ROWS_PER_BLOCK, num_rows)
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


def prepare_weight(weight: QuantizedWeight) -> LinearWeight:
    """Choose the fastest form that is known to be right here; the canonical form where there is none."""
    if weight.parts[0].device.type != "cpu":
        return weight
    if (own := pack_for_kernel(weight)) is not None:
        return own
    kernels = cpu_kernels()
    if isinstance(weight, Int8Weight) and kernels.has_int8:
        return CpuInt8Weight.pack(weight)
    block = kernels.int4_block
    if isinstance(weight, Int4Weight) and block and weight.shape[0] % block == 0 and weight.group_size in _GROUP_SIZES:
        return CpuInt4Weight.pack(weight, block)
    return weight
