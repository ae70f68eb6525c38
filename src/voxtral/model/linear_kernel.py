"""The forms of matrices of few bits that our own C multiplies on a CPU (`voxtral.model.kernels.cpu`), tried here first.

Activations are rounded a group at a time to 16 bits, or to 8 where somebody asks for speed
(`EngineOptions.activations`); within a group all sums are of whole numbers. docs/QUANTIZATION.md has what that costs.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from voxtral.model.kernels.cpu.building import NoLibraryError
from voxtral.model.kernels.cpu.library import CpuForm, find_form
from voxtral.model.kernels.cpu.products import (
    BLOCK,
    MAX_GROUP,
    NumBytes,
    PackedMatrix,
    Part,
    multiply,
    readable,
)
from voxtral.model.linear_weights import ROWS_PER_BLOCK, Int4Weight, Int8Weight, QuantizedWeight

# Inputs that share a step of activations where weights have no groups. Of 32 and 128 it is the one that costs least for
# what it gives: docs/QUANTIZATION.md.
_ACTIVATION_GROUP = 64


@dataclass(frozen=True, eq=False)
class KernelWeight:
    """A matrix in the layout of this processor's instructions.

    Attributes:
        matrix: the numbers.
        num_bytes_of_activation: 2, or 1 for speed.
    """

    name: ClassVar[str]

    matrix: PackedMatrix
    num_bytes_of_activation: NumBytes = 2

    @property
    def shape(self) -> tuple[int, int]:
        """See LinearWeight."""
        return self.matrix.shape

    @property
    def num_bytes(self) -> int:
        """See LinearWeight."""
        return self.matrix.num_bytes

    def with_activations(self, num_bytes: NumBytes) -> Self:
        """Give the same matrix for activations of so many bytes."""
        return replace(self, num_bytes_of_activation=num_bytes)

    def part(
        self,
        inputs: Tensor,
        *,
        norm: tuple[Tensor, float] | None = None,
        bias: Tensor | None = None,
        residual: Tensor | None = None,
    ) -> Part:
        """Describe a product with this matrix; arguments as of `Part`, norm and bias of any dtype."""
        if norm is not None:
            norm = (readable(norm[0]), norm[1])
        if bias is not None:
            bias = readable(bias)
        return Part(self.matrix, inputs, self.num_bytes_of_activation, norm, bias=bias, residual=residual)

    def matmul(self, x: Tensor) -> Tensor:
        """See LinearWeight."""
        rows = readable(x).contiguous()
        return multiply([self.part(rows)]).to(x.dtype)

    def dense(self) -> Tensor:
        """See LinearWeight."""
        raise NotImplementedError


class KernelInt8Weight(KernelWeight):
    """Int8 weights; activations have a step for each group of 64."""

    name: ClassVar[str] = "int8 by own kernels"

    @classmethod
    def pack(cls, weight: Int8Weight, form: CpuForm) -> Self:
        """Reorder the canonical form; it is not needed afterwards."""
        num_outputs, num_inputs = weight.shape
        scales = torch.zeros(_padded(num_outputs))
        scales[:num_outputs] = weight.scale
        numbers = (rows.values.view(torch.uint8) for rows in weight.split(ROWS_PER_BLOCK))
        group = min(_ACTIVATION_GROUP, num_inputs)
        return cls(PackedMatrix.pack(form, numbers, scales, bits=8, group=group, shape=weight.shape))

    def dense(self) -> Tensor:
        """See LinearWeight."""
        values = self.matrix.unpack().view(torch.int8)
        return values.float() * self.matrix.scales[: self.shape[0], None]


class KernelInt4Weight(KernelWeight):
    """Int4 weights; activations have a step for each group of the weights."""

    name: ClassVar[str] = "int4 by own kernels"

    @classmethod
    def pack(cls, weight: Int4Weight, form: CpuForm) -> Self:
        """Reorder the canonical form; it is not needed afterwards."""
        num_outputs, num_inputs = weight.shape
        num_groups = num_inputs // weight.group_size
        pairs = torch.zeros(_padded(num_outputs), num_groups, 2, dtype=torch.int16)
        pairs[:num_outputs, :, 0] = weight.scale.view(torch.int16)
        pairs[:num_outputs, :, 1] = weight.zero.view(torch.int16)
        scales = pairs.unflatten(0, (-1, BLOCK)).permute(0, 2, 3, 1).contiguous()
        numbers = (rows.quantised() for rows in weight.split(ROWS_PER_BLOCK))
        return cls(
            PackedMatrix.pack(form, numbers, scales, bits=4, group=weight.group_size, shape=(num_outputs, num_inputs))
        )

    def dense(self) -> Tensor:
        """See LinearWeight."""
        num_outputs, group = self.shape[0], self.matrix.group
        pairs = self.matrix.scales.permute(0, 3, 1, 2).flatten(0, 1)[:num_outputs]  # [N, groups, 2]
        scale = pairs[..., 0].contiguous().view(torch.bfloat16).float()
        zero = pairs[..., 1].contiguous().view(torch.float16).float()
        groups = self.matrix.unpack().float().unflatten(1, (-1, group))
        return ((groups - zero[..., None]) * scale[..., None]).flatten(1)


def _padded(num_outputs: int) -> int:
    return -(-num_outputs // BLOCK) * BLOCK


@dataclass(frozen=True)
class KernelChoice:
    """Whether our own C multiplies here.

    Attributes:
        form: that does; None leaves it to torch.
        reason: why this form, or why none, in words.
    """

    form: CpuForm | None
    reason: str


@functools.cache
def kernel_choice() -> KernelChoice:
    """Find the library and try what it computes against exact arithmetic, once for this process.

    Raises:
        OptionError: a variable that chooses is wrong.
    """
    try:
        form = find_form()
        is_right = all(_is_right(form, weight) for weight in _samples())
    except NoLibraryError as error:
        return KernelChoice(None, str(error))
    if not is_right:
        return KernelChoice(None, f"{form.name} computes wrong numbers here")
    threads = "torch's threads" if form.team is not None else "one thread, for torch's OpenMP was not found"
    return KernelChoice(form, f"{form.origin}; {threads}")


def pack_for_kernel(weight: QuantizedWeight) -> KernelWeight | None:
    """Reorder a canonical form for our own C; None where that cannot multiply it."""
    form = kernel_choice().form
    return None if form is None else _pack(weight, form)


def _pack(weight: QuantizedWeight, form: CpuForm) -> KernelWeight | None:
    if isinstance(weight, Int8Weight):
        return KernelInt8Weight.pack(weight, form)
    if isinstance(weight, Int4Weight) and weight.group_size <= MAX_GROUP:
        return KernelInt4Weight.pack(weight, form)
    return None


def _samples() -> Iterator[QuantizedWeight]:
    """Make small matrices at the extremes: widths that nothing divides, and the largest numbers there are."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(-127, 128, (70, 200), generator=generator)
    values[:32] = values[:32].sign() * 127
    yield Int8Weight(values.to(torch.int8), torch.rand(70, generator=generator) + 0.5)
    packed = torch.randint(0, 256, (70, 96), generator=generator, dtype=torch.uint8)
    packed[:16] = 255
    scale = torch.rand(70, 6, generator=generator).add_(0.5).to(torch.bfloat16)
    yield Int4Weight(packed, scale, torch.rand(70, 6, generator=generator).mul_(15).to(torch.float16))


def _is_right(form: CpuForm, weight: QuantizedWeight) -> bool:
    """Compare with exact products of activations that are whole already, and each row with itself alone."""
    fast = _pack(weight, form)
    if fast is None or not torch.equal(fast.dense(), weight.dense()):
        return False
    num_inputs = weight.shape[1]
    generator = torch.Generator().manual_seed(1)
    most = {1: 127, 2: 127 * 256}
    for num_bytes, largest in most.items():
        x = torch.randint(-largest, largest + 1, (15, num_inputs), generator=generator).float()
        x[:, :: fast.matrix.group] = largest  # so that each step is one
        x[:3] = largest
        own = fast.with_activations(1 if num_bytes == 1 else 2)
        products = multiply([own.part(x)], torch.get_num_threads())
        expected = x.double() @ weight.dense().double().T
        # Within a group sums are exact; groups are added in float32.
        bound = 1e-6 * (x.double().abs() @ weight.dense().double().abs().T)
        if not bool((products - expected).abs().le(bound).all()):
            return False
        if not all(torch.equal(multiply([own.part(x[:count])], 1), products[:count]) for count in (1, 2, 5, 14)):
            return False
    return True
