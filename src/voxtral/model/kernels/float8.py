"""Products of float8 numbers (E4M3), for the flow on GPUs that multiply them: Ada (sm_89), Hopper (sm_90) and newer.

Weights have one scale for each output, activations one for each row, found on the way. What float8 costs of exactness
is the rounding of both to 4 significant bits; sums are float32.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from voxtral.errors import DeviceError
from voxtral.model.kernels.dispatch import FLOAT8_CAPABILITY, attempt, has_triton, uses_triton
from voxtral.model.kernels.elementwise import silu_multiply
from voxtral.model.kernels.matmul import Norm

# The largest number of E4M3.
LARGEST = 448.0


def check_float8(device: torch.device) -> None:
    """Refuse a GPU that does not multiply float8; a CPU computes the same numbers by plain operations, slowly.

    Raises:
        DeviceError: the GPU is too old, or Triton is not there.
    """
    if device.type == "cpu":
        return
    rule = "float8 needs a GPU of compute capability 8.9 (Ada), 9.0 (Hopper) or newer, and Triton"
    advice = "leave flow_dtype out, or set it to 'model'"
    if device.type != "cuda":
        raise DeviceError(f"flow_dtype is float8 on {device}; {rule}; {advice}")
    capability = torch.cuda.get_device_capability(device)
    if capability < FLOAT8_CAPABILITY:
        name = torch.cuda.get_device_name(device)
        raise DeviceError(f"flow_dtype is float8 on {name}, of {capability[0]}.{capability[1]}; {rule}; {advice}")
    if not has_triton():
        raise DeviceError(f"flow_dtype is float8, and Triton is not installed; {rule}; {advice}")


def quantize_rows(x: Tensor, norm: Norm | None = None, *, use_triton: bool | None = None) -> tuple[Tensor, Tensor]:
    """Round each row to float8, scaled so that its largest value is the largest of float8.

    Args:
        x: [..., K].
        norm: comes first, rounded to the dtype of `x`.
        use_triton: see `uses_triton`.

    Returns:
        float8_e4m3fn [..., K], and scales [rows] float32: a value is number * scale.
    """
    if use_triton or (x.is_cuda and uses_triton("quantize_rows", x, use_triton)):
        from voxtral.model.kernels import float8_triton

        with attempt("quantize_rows", x, use_triton):
            return float8_triton.quantize_rows(x, norm)
    if norm is not None:
        x = F.rms_norm(x, norm[0].shape, *norm)
    exact = x.float()
    # A row of zeros stays zero.
    scales = exact.abs().amax(dim=-1, keepdim=True).clamp(min=torch.finfo(torch.float32).tiny * LARGEST) / LARGEST
    return (exact / scales).to(torch.float8_e4m3fn), scales.flatten()


def float8_product(
    rows: tuple[Tensor, Tensor],
    matrix: tuple[Tensor, ...],
    dtype: torch.dtype,
    *,
    bias: Tensor | None = None,
    is_gated: bool = False,
    residual: Tensor | None = None,
    use_triton: bool | None = None,
) -> Tensor:
    """Compute `residual + gated(rows @ matrix.T + bias)` of float8 numbers in one launch; sums are float32.

    Args:
        rows: float8 [..., K] and scales [rows], from `quantize_rows`.
        matrix: float8 [N, K] and scales [N].
        dtype: of the result.
        bias: [N].
        is_gated: see `fused_product`.
        residual: [..., N], added last.
        use_triton: see `uses_triton`.

    Returns:
        [..., N], or [..., N / 2] of gated ones.
    """
    values, scales = rows
    if use_triton or (values.is_cuda and uses_triton("float8_product", values, use_triton)):
        from voxtral.model.kernels import matmul_triton

        with attempt("float8_product", values, use_triton):
            return matmul_triton.multiply(
                values, matrix, x_scales=scales, bias=bias, is_gated=is_gated, residual=residual, dtype=dtype
            )
    outputs = F.linear(values.float(), matrix[0].float()) * scales.view(*values.shape[:-1], 1) * matrix[1]
    outputs = outputs.to(dtype)
    if bias is not None:
        outputs = outputs + bias
    if is_gated:
        outputs = silu_multiply(outputs, use_triton=use_triton)
    return outputs if residual is None else residual + outputs
