"""Triton forms of `voxtral.model.kernels.elementwise`."""

# Kernels are written in a language of their own: pyright knows neither its tensors nor the options of a launch.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from voxtral.model.kernels.launching import on_its_device


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
