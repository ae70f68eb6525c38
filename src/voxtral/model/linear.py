"""Linear layers whose matrices have few bits, layers joined into one, and products with what stands around them.

A matrix is in a canonical form (`voxtral.model.linear_weights`) until `QuantizedLinear.prepare` swaps it for one that
this machine multiplies fast (`voxtral.model.linear_cpu`, `voxtral.model.linear_cuda`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxtral.config import Precision
from voxtral.model.kernels.cpu.products import multiply, readable
from voxtral.model.kernels.dispatch import KERNELS, one_line, uses_triton
from voxtral.model.kernels.elementwise import silu_multiply
from voxtral.model.kernels.float8 import float8_product, quantize_rows
from voxtral.model.kernels.matmul import Matrix, Norm, fused_product
from voxtral.model.linear_cpu import CpuInt4Weight, CpuInt8Weight, cpu_kernels, prepare_weight
from voxtral.model.linear_cuda import cuda_products, prepare_for_cuda
from voxtral.model.linear_kernel import KernelInt4Weight, KernelInt8Weight, KernelWeight, kernel_choice
from voxtral.model.linear_weights import (
    KERNEL_ROWS,
    ROWS_PER_BLOCK,
    Float8Weight,
    LinearWeight,
    QuantizedWeight,
    concatenate_weights,
)

# Up to this many rows a product in the dtype of the activations is one launch with all that stands around it; above,
# the library's product is worth more than what launches cost. Reckoned, not measured.
_FEW_ROWS = 64


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

    def dense_blocks(self) -> Iterator[Tensor]:
        """Dequantise some rows at a time, where the form allows it: [n, K] float32 each."""
        weight = self.quantized_weight
        if isinstance(weight, QuantizedWeight):
            yield from (rows.dense() for rows in weight.split(ROWS_PER_BLOCK))
        else:
            yield weight.dense()

    def prepare(self, dtype: torch.dtype) -> None:
        """Swap the canonical form of the matrix for a faster one, where there is one for activations of a dtype."""
        weight = self.quantized_weight
        if isinstance(weight, QuantizedWeight):
            self.quantized_weight = (
                prepare_for_cuda(weight, dtype) if weight.device.type == "cuda" else prepare_weight(weight)
            )

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., K] to [..., N]."""
        if isinstance(self.quantized_weight, KernelWeight):
            return _kernel_product(self, x)
        outputs = self.quantized_weight.matmul(x.reshape(-1, x.shape[-1])).unflatten(0, x.shape[:-1])
        return outputs if self.bias is None else outputs + self.bias


def product(
    linear: nn.Module,
    x: Tensor,
    *,
    norm: Norm | None = None,
    is_gated: bool = False,
    residual: Tensor | None = None,
) -> Tensor:
    """Compute `residual + gated(linear(norm(x)))`, for inference; every part but the linear layer is optional.

    On a GPU one launch does all of it where rows are few (`voxtral.model.kernels.matmul.fused_product`). Elsewhere the
    parts come one after the other.

    Args:
        linear: K inputs to N outputs; an nn.Linear or a QuantizedLinear.
        x: [..., K].
        norm: of the input: its weight [K], and what is added to the mean square.
        is_gated: whether the first half of the outputs are gates of the second, silu(gate) * up.
        residual: [..., N], added last. It belongs to the product, which on a GPU may write the result over it.

    Returns:
        [..., N], or [..., N / 2] of gated ones.
    """
    if isinstance(linear, QuantizedLinear) and isinstance(linear.quantized_weight, KernelWeight):
        outputs = _kernel_product(linear, x, norm=norm, residual=residual if not is_gated else None)
        outputs = silu_multiply(outputs) if is_gated else outputs
        return outputs if residual is None or not is_gated else residual + outputs
    if isinstance(linear, QuantizedLinear) and isinstance(linear.quantized_weight, Float8Weight):
        matrix, bias = linear.quantized_weight.parts, linear.bias
        return float8_product(quantize_rows(x, norm), matrix, x.dtype, bias=bias, is_gated=is_gated, residual=residual)
    if x.is_cuda:
        matrix = _matrix_for_kernel(linear, x)
        if matrix is not None:
            if norm is not None and x.dtype is torch.float16:
                x, norm = F.rms_norm(x, norm[0].shape, *norm), None
            bias = cast("nn.Linear | QuantizedLinear", linear).bias
            return fused_product(x, matrix, norm=norm, bias=bias, is_gated=is_gated, residual=residual)
    if norm is not None:
        x = F.rms_norm(x, norm[0].shape, *norm)
    if residual is not None and x.is_cuda and isinstance(linear, nn.Linear) and linear.bias is None:
        # The library's product adds to what is there.
        return residual.flatten(0, -2).addmm_(x.flatten(0, -2), linear.weight.T).view(residual.shape)
    outputs = linear(x)
    if is_gated:
        outputs = silu_multiply(outputs)
    return outputs if residual is None else residual + outputs


def _kernel_product(
    linear: QuantizedLinear, x: Tensor, *, norm: Norm | None = None, residual: Tensor | None = None
) -> Tensor:
    """Compute residual + linear(norm(x)) in one call of our own C; arguments as of `product`."""
    weight = cast(KernelWeight, linear.quantized_weight)
    part = weight.part(_rows(x), norm=norm, bias=linear.bias, residual=None if residual is None else _rows(residual))
    return multiply([part]).view(*x.shape[:-1], -1).to(x.dtype)


def _rows(x: Tensor) -> Tensor:
    """Give [..., K] as rows that our own C reads."""
    return readable(x).reshape(-1, x.shape[-1]).contiguous()


def feed_forward_by_kernel(
    w13: nn.Module, w2: nn.Module, x: Tensor, *, norm: Norm | None = None, residual: Tensor | None = None
) -> Tensor | None:
    """Compute residual + w2(silu(gate) * up), gate and up being w13(norm(x)), in one call of our own C.

    Args:
        w13: K inputs to 2 F outputs, gates first.
        w2: F inputs to K outputs.
        x: [..., K].
        norm: of the input, as in `product`.
        residual: [..., K].

    Returns:
        [..., K]; None where the matrices are in other forms.
    """
    if not (isinstance(w13, QuantizedLinear) and isinstance(w2, QuantizedLinear)):
        return None
    first, second = w13.quantized_weight, w2.quantized_weight
    if not (isinstance(first, KernelWeight) and isinstance(second, KernelWeight)):
        return None
    rows = _rows(x)
    gates = torch.empty(len(rows), first.shape[0])
    residual_rows = None if residual is None else _rows(residual)
    outputs = multiply(
        [
            replace(first.part(rows, norm=norm, bias=w13.bias), outputs=gates),
            replace(second.part(gates, bias=w2.bias, residual=residual_rows), is_gated=True, dtype=rows.dtype),
        ]
    )
    return outputs.view(*x.shape[:-1], -1).to(x.dtype)


def _matrix_for_kernel(linear: nn.Module, x: Tensor) -> Matrix | None:
    """Give the tensors of a matrix on a GPU that a kernel multiplies with so many rows; None leaves it to others."""
    num_rows = x.numel() // x.shape[-1]
    if isinstance(linear, QuantizedLinear):
        weight = linear.quantized_weight
        matrix = weight.parts if isinstance(weight, QuantizedWeight) and num_rows <= KERNEL_ROWS else None
    else:
        matrix = (cast(nn.Linear, linear).weight,) if num_rows <= _FEW_ROWS else None
    return matrix if matrix is not None and uses_triton("fused_product", x, None) else None


def round_to_float8(part: nn.Module) -> None:
    """Swap every linear layer of a part for one that multiplies in float8; done in place, and nothing undoes it."""
    for name, child in part.named_children():
        if isinstance(child, nn.Linear):
            setattr(part, name, QuantizedLinear(Float8Weight.round(child.weight), child.bias))
        else:
            round_to_float8(child)


def concatenate_linears(linears: Sequence[nn.Module]) -> nn.Module:
    """Make one linear layer whose outputs are those of several, side by side.

    Args:
        linears: all nn.Linear, or all QuantizedLinear in one canonical form; a missing bias counts as zero.
    """
    biases = _concatenate_biases(linears)
    if isinstance(linears[0], QuantizedLinear):
        weights = [cast(QuantizedLinear, linear).quantized_weight for linear in linears]
        return QuantizedLinear(concatenate_weights(weights), biases)
    weight = torch.cat([cast(nn.Linear, linear).weight for linear in linears])
    # On the meta device no start values are drawn.
    joined = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    joined.weight = nn.Parameter(weight, requires_grad=False)
    joined.bias = cast(nn.Parameter, biases)
    return joined


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


Way = Literal["kernel", "library", "none"]


def product_way(precision: Precision, device: torch.device, dtype: torch.dtype) -> Way:
    """Tell what multiplies matrices of few bits fast on a device, for activations of a dtype; tries it the first time.

    Returns:
        "kernel" of this package, "library" of torch, or "none": each product then dequantises, and on a GPU takes
        longer than the speech that it makes.
    """
    if device.type == "cuda":
        if KERNELS.is_on("quantized_matmul", device, dtype):
            return "kernel"
        return "library" if getattr(cuda_products(device, dtype), precision) is None else "none"
    if device.type != "cpu":
        return "none"
    if kernel_choice().form is not None:
        return "kernel"
    kernels = cpu_kernels()
    return "library" if (kernels.has_int8 if precision == "int8" else kernels.int4_block) else "none"


def why_slow(precision: Precision, device: torch.device, dtype: torch.dtype) -> str:
    """Say why there is no fast product on a GPU."""
    kernel = KERNELS.problem("quantized_matmul", device, dtype)
    library = getattr(cuda_products(device, dtype), precision)
    return f"kernels: {one_line(str(kernel))}; torch's own product: {one_line(str(library))}"


def describe_products(device: torch.device, dtype: torch.dtype = torch.bfloat16) -> str:
    """Say in words how matrices of few bits are multiplied on a device; what is named has been tried here."""
    if device.type == "cuda":
        return "; ".join(f"{precision} {_on_cuda(precision, device, dtype)}" for precision in _PRECISIONS)
    if device.type != "cpu":
        return "dequantised, slow"
    choice = kernel_choice()
    if choice.form is not None:
        names = f"{KernelInt8Weight.name}, {KernelInt4Weight.name}"
        return f"{names}: {choice.form.name}, activations in two bytes ({choice.reason})"
    kernels = cpu_kernels()
    int8 = CpuInt8Weight.name if kernels.has_int8 else "int8 dequantised, slow: the processor has no VNNI"
    int4 = CpuInt4Weight.name if kernels.int4_block else "int4 dequantised, slow"
    return f"{int8}; {int4} (not by own kernels: {choice.reason})"


def describe_form(device: torch.device) -> str:
    """Name what rounds products on a device alike: a form of our own C, or torch's own ways."""
    form = kernel_choice().form if device.type == "cpu" else None
    return "own" if form is not None else "torch"


_PRECISIONS: tuple[Precision, ...] = ("int8", "int4")


def _on_cuda(precision: Precision, device: torch.device, dtype: torch.dtype) -> str:
    way = product_way(precision, device, dtype)
    if way == "none":
        return f"dequantised, slow ({why_slow(precision, device, dtype)})"
    return "by a Triton kernel" if way == "kernel" else "by torch's own product"
