"""The forms in which torch's own products for CUDA multiply matrices of few bits, each tried here before it is used.

For a GPU on which the kernels of this package do not run: no Triton (Windows), no C compiler, a card before Ampere.
`prepare_for_cuda` swaps a canonical form (`voxtral.model.linear_weights`) for one of these where it agrees with exact
arithmetic here and now. None has run on a GPU yet; the layouts are those that torch documents in its own tests.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from voxtral.model.kernels.dispatch import KERNELS, one_line
from voxtral.model.linear_weights import Int4Weight, Int8Weight, LinearWeight, QuantizedWeight

# Inputs to a group that the packed product knows.
_GROUP_SIZES = (32, 64, 128, 256)

# Tiles of 16 inputs that one thread's piece of the packed form may have, the widest first; and outputs of a tile.
_INNER_TILES, _TILE_INPUTS, _TILE_OUTPUTS = (8, 4, 2), 16, 8

_COLUMNS_PER_BLOCK = 256


@dataclass(frozen=True, eq=False)
class CudaInt8Weight:
    """Int8 weights for `aten::_weight_int8pack_mm`, which adds in float32; of torch 2.9 and later."""

    name: ClassVar[str] = "int8, torch's product"

    values: Tensor  # [N, K] int8
    scale: Tensor  # [N] float32

    @classmethod
    def pack(cls, weight: Int8Weight) -> Self:
        """Take the canonical form as it is."""
        return cls(weight.values.contiguous(), weight.scale.contiguous())

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

    def matmul(self, x: Tensor) -> Tensor:
        """See LinearWeight; float32 goes in, for the product of other dtypes would only convert them."""
        return _multiply_int8(x.float().contiguous(), self.values, self.scale).to(x.dtype)


@dataclass(frozen=True, eq=False)
class CudaInt4Weight:
    """Int4 weights for `aten::_weight_int4pack_mm` ("tinygemm"), which computes in bfloat16; sm_80 and later.

    A weight is (q - 8) * scale + offset, as on a CPU (`voxtral.model.linear_cpu.CpuInt4Weight`).
    """

    name: ClassVar[str] = "int4, torch's product"

    packed: Tensor  # [N / 8, K / (16 t), 32, t / 2] int32, t inner tiles
    scale_and_offset: Tensor  # [K / g, N, 2] bfloat16

    @classmethod
    def pack(cls, weight: Int4Weight) -> Self:
        """Reorder the canonical form; it is not needed afterwards."""
        # The product wants the even input in the high half of a byte.
        swapped = (weight.packed << 4) | (weight.packed >> 4)
        packed = _pack_int4(swapped.contiguous(), _inner_tiles(weight.shape[1]))
        offset = (8 - weight.zero.float()) * weight.scale.float()
        pairs = torch.stack((weight.scale.float(), offset), dim=-1).to(torch.bfloat16)
        return cls(packed, pairs.transpose(0, 1).contiguous())

    @property
    def shape(self) -> tuple[int, int]:
        """See LinearWeight."""
        return self.packed.shape[0] * _TILE_OUTPUTS, self.packed.shape[1] * self.packed.shape[3] * 2 * _TILE_INPUTS

    @property
    def num_bytes(self) -> int:
        """See LinearWeight."""
        return self.packed.nbytes + self.scale_and_offset.nbytes

    @property
    def group_size(self) -> int:
        """Inputs that share a scale and an offset."""
        return self.shape[1] // self.scale_and_offset.shape[0]

    def dense(self) -> Tensor:
        """See LinearWeight; products with columns of the identity, so what the product computes with."""
        width = self.shape[1]
        identity = torch.eye(width, dtype=torch.bfloat16, device=self.packed.device)
        return torch.cat([self.matmul(rows) for rows in identity.split(_COLUMNS_PER_BLOCK)]).T.float()

    def matmul(self, x: Tensor) -> Tensor:
        """See LinearWeight."""
        inputs = x.to(torch.bfloat16).contiguous()
        return _multiply_int4(inputs, self.packed, self.group_size, self.scale_and_offset).to(x.dtype)


@dataclass(frozen=True)
class CudaProducts:
    """Why torch's product of each precision cannot be used here; None where it can."""

    int8: str | None
    int4: str | None


@functools.cache
def cuda_products(device: torch.device, dtype: torch.dtype) -> CudaProducts:
    """Try each product on a small matrix against exact arithmetic, once for this process, device and dtype."""
    return CudaProducts(_try_int8(device, dtype), _try_int4(device, dtype))


def prepare_for_cuda(weight: QuantizedWeight, dtype: torch.dtype) -> LinearWeight:
    """Choose the form for this GPU: the canonical one for a kernel, else torch's, else the canonical one all the same.

    Args:
        weight: on a GPU.
        dtype: of the activations.
    """
    if KERNELS.is_on("quantized_matmul", weight.device, dtype):
        return weight
    products = cuda_products(weight.device, dtype)
    if isinstance(weight, Int8Weight) and products.int8 is None:
        return CudaInt8Weight.pack(weight)
    if isinstance(weight, Int4Weight) and products.int4 is None and _fits(weight):
        return CudaInt4Weight.pack(weight)
    return weight


def _fits(weight: Int4Weight) -> bool:
    num_rows, width = weight.shape
    has_tiles = num_rows % _TILE_OUTPUTS == 0 and width % (_INNER_TILES[-1] * _TILE_INPUTS) == 0
    return has_tiles and weight.group_size in _GROUP_SIZES


def _inner_tiles(width: int) -> int:
    return next(tiles for tiles in _INNER_TILES if width % (tiles * _TILE_INPUTS) == 0)


# Torch's operations, by names that a test can take the place of.


def _multiply_int8(x: Tensor, values: Tensor, scale: Tensor) -> Tensor:
    return torch.ops.aten._weight_int8pack_mm(x, values, scale)


def _pack_int4(swapped: Tensor, inner_tiles: int) -> Tensor:
    return torch.ops.aten._convert_weight_to_int4pack(swapped, inner_tiles)


def _multiply_int4(x: Tensor, packed: Tensor, group_size: int, scale_and_offset: Tensor) -> Tensor:
    return torch.ops.aten._weight_int4pack_mm(x, packed, group_size, scale_and_offset)


# Their trials.


def _try_int8(device: torch.device, dtype: torch.dtype) -> str | None:
    """Compare with whole numbers, exact in every dtype up to the rounding of the result."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(-127, 128, (64, 256), generator=generator)
    x = torch.randint(-4, 5, (5, 256), generator=generator)
    expected = (x @ values.T).float().to(dtype)
    try:
        weight = Int8Weight(values.to(device, torch.int8), torch.ones(64, device=device))
        products = CudaInt8Weight.pack(weight).matmul(x.to(device, dtype)).cpu()
    except Exception as error:  # noqa: BLE001 - torch raises many things for what it does not have here
        return one_line(f"{type(error).__name__}: {error}")
    return None if torch.equal(products, expected) else "a small product comes out wrong"


def _try_int4(device: torch.device, dtype: torch.dtype) -> str | None:
    """Compare the packed product with its own dequantised form, and that with the canonical one."""
    generator = torch.Generator().manual_seed(0)
    weight = Int4Weight(
        packed=torch.randint(0, 256, (64, 128), generator=generator, dtype=torch.uint8),
        scale=torch.rand(64, 4, generator=generator).add_(0.5).to(torch.bfloat16),
        zero=torch.full((64, 4), 8.0, dtype=torch.float16),
    )
    x = torch.randn(5, 256, generator=generator).to(torch.bfloat16)
    expected = x.float() @ weight.dense().T
    try:
        fast = CudaInt4Weight.pack(weight.to(device))
        products, dense = fast.matmul(x.to(device, dtype)).float().cpu(), fast.dense().cpu()
    except Exception as error:  # noqa: BLE001 - as above
        return one_line(f"{type(error).__name__}: {error}")
    # Numbers are rounded to bfloat16 on their way, and so is the result.
    is_right = bool((dense - weight.dense()).norm() < 0.005 * weight.dense().norm())
    is_right = is_right and bool((products - expected).norm() < 0.01 * expected.norm())
    return None if is_right else "a small product comes out wrong"
