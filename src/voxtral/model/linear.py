"""Linear layers whose matrices have few bits, and layers joined into one.

A matrix is in a canonical form (`voxtral.model.linear_weights`) until `QuantizedLinear.prepare` swaps it for one that
this machine multiplies fast (`voxtral.model.linear_cpu`, `voxtral.model.linear_cuda`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from voxtral.config import Precision
from voxtral.model.kernels.dispatch import KERNELS, one_line
from voxtral.model.linear_cpu import CpuInt4Weight, CpuInt8Weight, cpu_kernels, prepare_weight
from voxtral.model.linear_cuda import cuda_products, prepare_for_cuda
from voxtral.model.linear_weights import ROWS_PER_BLOCK, LinearWeight, QuantizedWeight, concatenate_weights


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
    kernels = cpu_kernels()
    int8 = CpuInt8Weight.name if kernels.has_int8 else "int8 dequantised, slow: the processor has no VNNI"
    int4 = CpuInt4Weight.name if kernels.int4_block else "int4 dequantised, slow"
    return f"{int8}; {int4}"


_PRECISIONS: tuple[Precision, ...] = ("int8", "int4")


def _on_cuda(precision: Precision, device: torch.device, dtype: torch.dtype) -> str:
    way = product_way(precision, device, dtype)
    if way == "none":
        return f"dequantised, slow ({why_slow(precision, device, dtype)})"
    return "by a Triton kernel" if way == "kernel" else "by torch's own product"
