"""Triton forms of `voxtral.model.kernels.float8`; the product is that of `matmul_triton`."""

# Kernels are written in a language of their own: pyright knows neither its tensors nor the options of a launch.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from voxtral.model.kernels.launching import on_its_device


@triton.jit
def _quantize_rows(
    x_ptr,
    norm_ptr,
    values_ptr,
    scales_ptr,
    x_stride,
    depth,
    eps,
    least,
    LARGEST: tl.constexpr,
    HAS_NORM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One row for each program."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, BLOCK)
    inside = columns < depth
    x = tl.load(x_ptr + row * x_stride + columns, mask=inside, other=0.0).to(tl.float32)
    if HAS_NORM:
        x *= 1.0 / tl.sqrt(tl.sum(x * x, axis=0) / depth + eps)
        x *= tl.load(norm_ptr + columns, mask=inside, other=0.0).to(tl.float32)
        x = x.to(x_ptr.dtype.element_ty).to(tl.float32)
    scale = tl.div_rn(tl.maximum(tl.max(tl.abs(x), axis=0), least), LARGEST)
    tl.store(scales_ptr + row, scale)
    values = tl.div_rn(x, tl.zeros([BLOCK], tl.float32) + scale)
    tl.store(values_ptr + row * depth + columns, values.to(tl.float8e4nv), mask=inside)


@on_its_device
def quantize_rows(x: Tensor, norm: tuple[Tensor, float] | None) -> tuple[Tensor, Tensor]:
    """Launch over the rows."""
    from voxtral.model.kernels.float8 import LARGEST

    depth = x.shape[-1]
    rows = x.reshape(-1, depth)
    rows = rows if rows.stride(-1) == 1 else rows.contiguous()
    values = torch.empty(x.shape, dtype=torch.float8_e4m3fn, device=x.device)
    scales = torch.empty(rows.shape[0], dtype=torch.float32, device=x.device)
    _quantize_rows[(rows.shape[0],)](
        rows,
        scales if norm is None else norm[0],
        values,
        scales,
        rows.stride(0),
        depth,
        0.0 if norm is None else norm[1],
        torch.finfo(torch.float32).tiny * LARGEST,
        LARGEST=LARGEST,
        HAS_NORM=norm is not None,
        BLOCK=triton.next_power_of_2(depth),
        num_warps=4 if depth <= 1024 else 16,
        enable_fp_fusion=True,
    )
    return values, scales
