"""Triton forms of `voxtral.model.kernels.elementwise`."""

# Kernels are written in a language of their own: pyright knows neither its tensors nor the options of a launch.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from voxtral.model.kernels.launching import on_its_device


@triton.jit
def _add_rms_norm(x_ptr, update_ptr, weight_ptr, total_ptr, normed_ptr, dim, eps, BLOCK: tl.constexpr):
    """One row for each program."""
    row = tl.program_id(0).to(tl.int64) * dim
    columns = tl.arange(0, BLOCK)
    inside = columns < dim
    total = tl.load(x_ptr + row + columns, mask=inside, other=0.0).to(tl.float32)
    total += tl.load(update_ptr + row + columns, mask=inside, other=0.0).to(tl.float32)
    rounded = total.to(total_ptr.dtype.element_ty)
    tl.store(total_ptr + row + columns, rounded, mask=inside)
    total = rounded.to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(total * total, axis=0) / dim + eps)
    weight = tl.load(weight_ptr + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(normed_ptr + row + columns, (total * scale * weight).to(normed_ptr.dtype.element_ty), mask=inside)


@on_its_device
def add_rms_norm(x: Tensor, update: Tensor, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """Launch over the rows."""
    assert x.shape == update.shape, f"residual {tuple(x.shape)}, update {tuple(update.shape)}"
    x, update = x.contiguous(), update.contiguous()
    total, normed = torch.empty_like(x), torch.empty_like(x)
    dim = x.shape[-1]
    _add_rms_norm[(x.numel() // dim,)](
        x,
        update,
        weight,
        total,
        normed,
        dim,
        eps,
        BLOCK=triton.next_power_of_2(dim),
        num_warps=8 if dim > 1024 else 4,
        enable_fp_fusion=True,
    )
    return total, normed


@triton.jit
def _silu_multiply(source_ptr, result_ptr, width, BLOCK: tl.constexpr):
    """One block of columns of one row for each program."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < width
    source = source_ptr + row * 2 * width + columns
    gate = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(source + width, mask=inside, other=0.0).to(tl.float32)
    result = gate / (1.0 + tl.exp(-gate)) * up
    tl.store(result_ptr + row * width + columns, result.to(result_ptr.dtype.element_ty), mask=inside)


@on_its_device
def silu_multiply(gate_and_up: Tensor) -> Tensor:
    """Launch over rows and blocks of 1024 columns."""
    source = gate_and_up.contiguous()
    width = source.shape[-1] // 2
    result = source.new_empty(*source.shape[:-1], width)
    block = min(1024, triton.next_power_of_2(width))
    _silu_multiply[(result.numel() // width, triton.cdiv(width, block))](
        source, result, width, BLOCK=block, num_warps=4, enable_fp_fusion=True
    )
    return result
