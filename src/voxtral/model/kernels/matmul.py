"""Products of a few rows with quantised matrices, in the form in which a checkpoint holds them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from voxtral.model.kernels.dispatch import attempt, uses_triton


def quantized_matmul(
    x: Tensor,
    weight: Tensor,
    scales: Tensor,
    zeros: Tensor | None = None,
    *,
    use_triton: bool | None = None,
) -> Tensor:
    """Multiply activations with a quantised matrix, `x @ dequantised.T`.

    Int8 numbers are multiplied as they are and scaled after; int4 numbers are dequantised and rounded to the dtype of
    `x` first. Sums are float32, and the result is rounded once. Meant for few rows, where reading the weights is the
    cost.

    Args:
        x: [..., K].
        weight: int8 [N, K], or uint8 [N, K / 2] with column 2i in the low and 2i + 1 in the high half of byte i.
        scales: int8: [N], one for each row; int4: [N, K / group].
        zeros: int4 alone, [N, K / group], groups of a power of two; a weight is (number - zero) * scale.
        use_triton: see `uses_triton`.

    Returns:
        [..., N] in the dtype of `x`.
    """
    if use_triton or (x.is_cuda and uses_triton("quantized_matmul", x, use_triton)):
        from voxtral.model.kernels import matmul_triton

        with attempt("quantized_matmul", x, use_triton):
            return matmul_triton.quantized_matmul(x, weight, scales, zeros)
    if zeros is None:
        result = F.linear(x.float(), weight.float()) * scales.float()
    else:
        result = F.linear(x.float(), dequantize(weight, scales, zeros).to(x.dtype).float())
    return result.to(x.dtype)


def dequantize(weight: Tensor, scales: Tensor, zeros: Tensor) -> Tensor:
    """Make the float32 matrix [N, K] of an int4 one; arguments as in `quantized_matmul`."""
    groups = unpack_nibbles(weight).float().unflatten(1, (scales.shape[1], -1))
    return ((groups - zeros.float()[..., None]) * scales.float()[..., None]).flatten(1)


def unpack_nibbles(packed: Tensor) -> Tensor:
    """Unpack [N, K / 2] uint8 to [N, K], 0 .. 15; the low half of a byte is the even column."""
    return torch.stack((packed & 0xF, packed >> 4), dim=-1).flatten(1)
