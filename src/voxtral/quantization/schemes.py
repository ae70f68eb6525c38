"""Ways to hold a matrix in few bits: what stands in a file, which weight it makes, and how it is fitted.

A new way is one entry of `SCHEMES`, its weight in `voxtral.model.linear_weights` and its fit in
`voxtral.quantization.fit`. Nothing here knows a model; which of its matrices are quantised is in
`voxtral.quantization.recipes`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from voxtral.config import Precision
from voxtral.model.linear_weights import Int4Weight, Int8Weight, QuantizedWeight
from voxtral.quantization.fit import fit_int4, fit_int8


@dataclass(frozen=True)
class Part:
    """One tensor of a quantised matrix in a file.

    Attributes:
        dtype: as a safetensors file names it.
        shape: from outputs N, inputs K and inputs to a group.
    """

    dtype: str
    shape: Callable[[int, int, int], tuple[int, ...]]


@dataclass(frozen=True)
class Scheme:
    """One way to hold a matrix in few bits.

    Attributes:
        parts: what stands in a file beside the name of the matrix, in the order in which `weight` takes it. The first
            is the numbers, under the name of the scheme; the others are their grid.
        weight: makes the canonical form of it.
        fit: takes a finite matrix [N, K] of any dtype and the inputs to a group. K is even, and where `is_grouped` a
            multiple of the group. The result depends on the values alone, row by row.
        is_grouped: whether some inputs share a scale, rather than all.
    """

    parts: dict[str, Part]
    weight: Callable[..., QuantizedWeight]
    fit: Callable[[Tensor, int], QuantizedWeight]
    is_grouped: bool


# Source: docs/QUANTIZATION.md, "The file".
SCHEMES: dict[Precision, Scheme] = {
    "int8": Scheme(
        parts={
            "int8": Part("I8", lambda num_rows, width, _: (num_rows, width)),
            "scale": Part("F32", lambda num_rows, _, __: (num_rows,)),
        },
        weight=Int8Weight,
        fit=lambda weight, _: fit_int8(weight),
        is_grouped=False,
    ),
    "int4": Scheme(
        parts={
            "int4": Part("U8", lambda num_rows, width, _: (num_rows, width // 2)),
            "scale": Part("BF16", lambda num_rows, width, group: (num_rows, width // group)),
            "zero": Part("F16", lambda num_rows, width, group: (num_rows, width // group)),
        },
        weight=Int4Weight,
        fit=fit_int4,
        is_grouped=True,
    ),
}
