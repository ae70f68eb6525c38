"""Packed matrices and products of them, with tensors: norm or gate before, bias and residual after, in one call.

A call computes a list of products, each of which may read what those before it wrote; its threads meet once between
two of them. Whatever stands beside a row, its result is the same to the bit (source/shapes.h says why).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from voxtral.model.kernels.cpu.library import CpuForm, Matrix, Product

# Outputs of a block; source/shapes.h.
BLOCK = 32

# Inputs to a group at most; source/shapes.h.
MAX_GROUP = 4096

# Bytes of weights and rows that are worth a thread: below it waking one takes longer than it helps.
_BYTES_PER_THREAD = 2**16

TYPES = {torch.float32: 0, torch.bfloat16: 1}

NumBytes = Literal[1, 2]


@dataclass(frozen=True, eq=False)
class PackedMatrix:
    """A matrix [N, K] in the layout of a form.

    Attributes:
        form: that it is packed for.
        bits: 8 or 4.
        shape: N and K.
        group: inputs that share a step of activations, and in 4 bits a scale.
        packed: [bytes] uint8.
        scales: of 8 bits [N, padded] float32; of 4 [blocks, groups, 2, 32] int16, the bits of a bfloat16 scale and of a
            float16 zero.
    """

    form: CpuForm
    bits: int
    shape: tuple[int, int]
    group: int
    packed: Tensor
    scales: Tensor
    described: Matrix  # what the library reads; points into both

    @classmethod
    def pack(
        cls,
        form: CpuForm,
        numbers: Iterable[Tensor],
        scales: Tensor,
        *,
        bits: int,
        group: int,
        shape: tuple[int, int],
    ) -> PackedMatrix:
        """Reorder numbers that come a few rows at a time.

        Args:
            form: to pack for.
            numbers: [n, K] uint8 or int8 each, a multiple of 32 rows but for the last.
            scales: as the attribute.
            bits: 8 or 4.
            group: inputs to a group.
            shape: N and K.
        """
        library = form.library
        num_outputs, num_inputs = shape
        size = library.voxtral_packed_bytes(num_outputs, num_inputs, group, bits)
        packed, start = torch.zeros(size, dtype=torch.uint8), 0
        for part in numbers:
            rows = part.contiguous()
            to = packed.data_ptr() + library.voxtral_packed_bytes(start, num_inputs, group, bits)
            library.voxtral_pack(form.number, rows.data_ptr(), len(rows), num_inputs, group, bits, to)
            start += len(rows)
        described = Matrix(bits, group, num_outputs, num_inputs, packed.data_ptr(), scales.data_ptr())
        return cls(form, bits, shape, group, packed, scales, described)

    def unpack(self) -> Tensor:
        """Give the numbers back: [N, K] uint8; those of 8 bits as the bits of int8."""
        numbers = torch.empty(self.shape, dtype=torch.uint8)
        self.form.library.voxtral_unpack(
            self.form.number, self.packed.data_ptr(), *self.shape, self.group, self.bits, numbers.data_ptr()
        )
        return numbers

    @property
    def num_bytes(self) -> int:
        """Memory."""
        return self.packed.nbytes + self.scales.nbytes


@dataclass(frozen=True, eq=False)
class Part:
    """One product of a call: residual + bias + matrix @ (norm or gate of inputs).

    Attributes:
        matrix: [N, K].
        inputs: [M, K], or [M, 2 K] where gated; float32 or bfloat16, rows contiguous.
        num_bytes: of an activation; two are as exact as 16 bits, one is for who wants speed.
        norm: weight [K] of the norm of the inputs, and what is added to the mean square.
        is_gated: whether the first half of the inputs are gates of the second: silu(gate) * up.
        bias: [N].
        residual: [M, N], may be what `outputs` is.
        outputs: [M, N]; None makes them, in `dtype`.
        dtype: of outputs that are made; None takes that of the inputs.
    """

    matrix: PackedMatrix
    inputs: Tensor
    num_bytes: NumBytes = 2
    norm: tuple[Tensor, float] | None = None
    is_gated: bool = False
    bias: Tensor | None = None
    residual: Tensor | None = None
    outputs: Tensor | None = None
    dtype: torch.dtype | None = None


def multiply(parts: Sequence[Part], num_threads: int | None = None) -> Tensor:
    """Compute products one after the other, and return the outputs of the last, [M, N].

    Args:
        parts: at least one, all of one form and number of rows.
        num_threads: None takes torch's number, or fewer where there is little to do.
    """
    form = parts[0].matrix.form
    num_rows = parts[0].inputs.shape[0]
    outputs = [_outputs_of(part) for part in parts]
    described = (Product * len(parts))(*map(_describe, parts, outputs))
    address = ctypes.addressof(described)
    size = form.library.voxtral_scratch_bytes(form.number, address, len(parts), num_rows)
    # Torch aligns to 64 bytes what it makes on a CPU.
    scratch = torch.empty(size, dtype=torch.uint8)
    if num_threads is None:
        work = sum(part.matrix.packed.nbytes for part in parts) * num_rows
        num_threads = min(torch.get_num_threads(), 1 + work // (len(parts) * _BYTES_PER_THREAD))
    form.library.voxtral_products(
        form.team_address, form.number, address, len(parts), num_rows, scratch.data_ptr(), num_threads
    )
    return outputs[-1]


def readable(x: Tensor) -> Tensor:
    """Give numbers in a dtype that is read: as they are, or in float32."""
    return x if x.dtype in TYPES else x.float()


def _outputs_of(part: Part) -> Tensor:
    if part.outputs is not None:
        return part.outputs
    return torch.empty(part.inputs.shape[0], part.matrix.shape[0], dtype=part.dtype or part.inputs.dtype)


def _describe(part: Part, outputs: Tensor) -> Product:
    norm, eps = part.norm or (None, 0.0)
    bias, residual, inputs = part.bias, part.residual, part.inputs
    types = TYPES
    return Product(
        ctypes.addressof(part.matrix.described),
        inputs.data_ptr(),
        None if norm is None else norm.data_ptr(),
        None if bias is None else bias.data_ptr(),
        None if residual is None else residual.data_ptr(),
        outputs.data_ptr(),
        inputs.stride(0),
        0 if residual is None else residual.stride(0),
        outputs.stride(0),
        types[inputs.dtype],
        0 if norm is None else types[norm.dtype],
        0 if bias is None else types[bias.dtype],
        0 if residual is None else types[residual.dtype],
        types[outputs.dtype],
        part.is_gated,
        part.num_bytes,
        eps,
    )
