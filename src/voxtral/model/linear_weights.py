"""Matrices of few bits as files hold them, and the plain product with them.

A weight is held in one of two canonical forms, the same on every device and in every file: `Int8Weight` and
`Int4Weight`; a third, `Float8Weight`, is made in memory. Their `matmul` is the reference: where no kernel does it, it
dequantises and multiplies, and runs everywhere. How the numbers are chosen is in `voxtral.quantization.fit`. Read next:
`voxtral.model.linear_cpu`, the forms that a CPU multiplies fast.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from voxtral.model.kernels.dispatch import uses_triton
from voxtral.model.kernels.float8 import float8_product, quantize_rows
from voxtral.model.kernels.matmul import dequantize, quantized_matmul, unpack_nibbles

# Rows that are dequantised or packed at a time: bounds the memory beside the result.
ROWS_PER_BLOCK = 1024

# Numbers that a GPU dequantises at a time: fewer launches, and 60 MB beside the result at most.
_NUMBERS_PER_BLOCK_OF_GPU = 2**22

# Up to this many rows of activations the kernel for a GPU is used, above it dequantising and a library's product.
# Reckoned, not measured: dequantising moves some 20 bytes for each weight, the kernel at most one for each 64 rows.
KERNEL_ROWS = 512


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
class QuantizedWeight(ABC):
    """A canonical form, a LinearWeight: tensors with one row for each output."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """See LinearWeight."""

    @abstractmethod
    def dense(self) -> Tensor:
        """See LinearWeight."""

    @property
    def parts(self) -> tuple[Tensor, ...]:
        """The tensors, in the order in which `quantized_matmul` takes them and a file names them."""
        return tuple(vars(self).values())

    @property
    def num_bytes(self) -> int:
        """See LinearWeight."""
        return sum(part.nbytes for part in self.parts)

    @property
    def device(self) -> torch.device:
        """Where it is."""
        return self.parts[0].device

    def to(self, device: torch.device) -> Self:
        """Copy to another device."""
        return self._with_each(lambda part: part.to(device))

    def rows(self, start: int, stop: int) -> Self:
        """Take some of the outputs, without a copy."""
        return self._with_each(lambda part: part[start:stop])

    def split(self, num_rows: int) -> Iterator[Self]:
        """Go through the outputs, so many at a time."""
        for start in range(0, self.shape[0], num_rows):
            yield self.rows(start, min(start + num_rows, self.shape[0]))

    def _with_each(self, change: Callable[[Tensor], Tensor]) -> Self:
        return replace(self, **{name: change(part) for name, part in vars(self).items()})

    def matmul(self, x: Tensor) -> Tensor:
        """See LinearWeight; where no kernel does it, dequantises a block of rows at a time, in the dtype of `x`."""
        if x.is_cuda and x.shape[0] <= KERNEL_ROWS and uses_triton("quantized_matmul", x, None):
            return quantized_matmul(x, *self.parts)
        num_rows, width = self.shape
        step = max(ROWS_PER_BLOCK, _NUMBERS_PER_BLOCK_OF_GPU // width) if x.is_cuda else ROWS_PER_BLOCK
        outputs = x.new_empty(x.shape[0], num_rows)
        start = 0
        for rows in self.split(step):
            stop = start + rows.shape[0]
            outputs[:, start:stop] = F.linear(x, rows.dense().to(x.dtype))
            start = stop
        return outputs

    def to_dense(self, dtype: torch.dtype) -> Tensor:
        """Dequantise to [N, K] in a dtype, a block of rows at a time."""
        num_rows, width = self.shape
        dense = torch.empty(num_rows, width, dtype=dtype, device=self.device)
        start = 0
        for rows in self.split(ROWS_PER_BLOCK):
            dense[start : start + rows.shape[0]] = rows.dense()
            start += rows.shape[0]
        return dense


@dataclass(frozen=True, eq=False)
class Int8Weight(QuantizedWeight):
    """Symmetric int8 with one scale for each output: w = value * scale."""

    name: ClassVar[str] = "int8 reference"

    values: Tensor  # [N, K] int8, -127 .. 127
    scale: Tensor  # [N] float32

    @property
    def shape(self) -> tuple[int, int]:
        """See LinearWeight."""
        return self.values.shape[0], self.values.shape[1]

    def dense(self) -> Tensor:
        """See LinearWeight."""
        return self.values.float() * self.scale[:, None]


@dataclass(frozen=True, eq=False)
class Int4Weight(QuantizedWeight):
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
    def group_size(self) -> int:
        """Inputs that share a scale and a zero."""
        return self.shape[1] // self.scale.shape[1]

    def quantised(self) -> Tensor:
        """Unpack to [N, K] uint8, 0 .. 15."""
        return unpack_nibbles(self.packed)

    def dense(self) -> Tensor:
        """See LinearWeight."""
        return dequantize(self.packed, self.scale, self.zero)


@dataclass(frozen=True, eq=False)
class Float8Weight(QuantizedWeight):
    """Float8 (E4M3) with one scale for each output: w = value * scale. Activations are rounded to float8 too.

    No file holds it: it is made of other weights, for the flow alone (`EngineOptions.flow_dtype`).
    """

    name: ClassVar[str] = "float8"

    values: Tensor  # [N, K] float8_e4m3fn
    scale: Tensor  # [N] float32

    @classmethod
    def round(cls, weight: Tensor) -> Self:
        """Round a matrix [N, K], a block of rows at a time: each to 8 bits between plus and minus its largest value."""
        blocks = [quantize_rows(block, use_triton=False) for block in weight.detach().split(ROWS_PER_BLOCK)]
        return cls(*(torch.cat(parts) for parts in zip(*blocks, strict=True)))

    @property
    def shape(self) -> tuple[int, int]:
        """See LinearWeight."""
        return self.values.shape[0], self.values.shape[1]

    def dense(self) -> Tensor:
        """See LinearWeight."""
        return self.values.float() * self.scale[:, None]

    def matmul(self, x: Tensor) -> Tensor:
        """See LinearWeight."""
        return float8_product(quantize_rows(x), self.parts, x.dtype)


def pack_nibbles(quantised: Tensor) -> Tensor:
    """Pack [N, K] uint8 of 0 .. 15 to [N, K / 2]; the low nibble is the even input.

    >>> pack_nibbles(torch.tensor([[1, 2]], dtype=torch.uint8)).tolist()
    [[33]]
    """
    return quantised[:, ::2] | (quantised[:, 1::2] << 4)


def concatenate_weights(weights: Sequence[LinearWeight]) -> QuantizedWeight:
    """Put the outputs of several matrices one below the other; they are of one canonical form and group size."""
    first = weights[0]
    assert isinstance(first, QuantizedWeight), "only weights of a canonical form can be joined"
    assert all(type(weight) is type(first) for weight in weights), "only weights of one canonical form can be joined"
    return replace(first, **{name: torch.cat([vars(weight)[name] for weight in weights]) for name in vars(first)})
