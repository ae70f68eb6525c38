"""Products of a few rows, where reading the weights is the cost, with what stands before and after them.

A matrix is given as the tensors that hold it, the numbers first, [N, K]:

- `(weight,)`: in the dtype of the activations;
- `(int8, scales [N])`, or float8 for the flow (`voxtral.model.kernels.float8`): a weight is number * scale;
- `(packed, scales, zeros [N, K / group])`: int4, see `quantized_matmul`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from voxtral.model.kernels.dispatch import attempt, uses_triton
from voxtral.model.kernels.elementwise import silu_multiply

# Numbers of a matrix, then scales, then zeros.
Matrix = tuple[Tensor, ...]

# A norm's weight [K], and what is added to the mean square.
Norm = tuple[Tensor, float]


def fused_product(
    x: Tensor,
    matrix: Matrix,
    *,
    norm: Norm | None = None,
    bias: Tensor | None = None,
    is_gated: bool = False,
    residual: Tensor | None = None,
    use_triton: bool | None = None,
) -> Tensor:
    """Compute `residual + gated(norm(x) @ matrix.T + bias)` in one launch, every part but the product optional.

    The kernel reads each weight once, whatever number of rows it meets, and everything else while it waits for them:
    a row's root mean square is found on the way and divides the sum. Where the columns of the result are few, several
    programs share each, with a part of the depth (split-K); the last of them joins the parts in their own order, so
    that a row's result does not depend on who came when. Sums are float32; rounded are the normed input before it is
    multiplied, without its division, and the result. The plain form rounds after each part.

    Args:
        x: [..., K]; only the last axis must be contiguous. With a norm not float16: before the division it could
            overflow.
        matrix: [N, K], see above.
        norm: of the input.
        bias: [N].
        is_gated: whether the first half of N are gates of the second, silu(gate) * up; the result has N / 2 columns.
        residual: [..., N], added last.
        use_triton: see `uses_triton`.

    Returns:
        [..., N] in the dtype of `x`.
    """
    if use_triton or (x.is_cuda and uses_triton("fused_product", x, use_triton)):
        from voxtral.model.kernels import matmul_triton

        assert norm is None or x.dtype is not torch.float16, "a norm of float16 must come before the product"
        with attempt("fused_product", x, use_triton):
            return matmul_triton.multiply(x, matrix, norm=norm, bias=bias, is_gated=is_gated, residual=residual)
    if norm is not None:
        x = F.rms_norm(x, norm[0].shape, *norm)
    outputs = F.linear(x, matrix[0]) if len(matrix) == 1 else quantized_matmul(x, *matrix, use_triton=use_triton)
    if bias is not None:
        outputs = outputs + bias
    if is_gated:
        outputs = silu_multiply(outputs, use_triton=use_triton)
    return outputs if residual is None else residual + outputs


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
            return matmul_triton.multiply(x, (weight, scales) if zeros is None else (weight, scales, zeros))
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
