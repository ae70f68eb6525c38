"""Triton forms of `voxtral.model.kernels.shifts`."""

# Kernels are written in a language of their own: pyright knows neither its tensors nor the options of a launch.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from voxtral.model.kernels.launching import on_its_device

_STARTS = {"zeros": 0, "repeat": 1, "reflect": 2}


@triton.jit(do_not_specialize=["num_steps"])
def _shift_columns(
    x_ptr,
    past_ptr,
    kept_ptr,
    before_ptr,
    columns_ptr,
    past_row_stride,
    num_steps,
    width,
    REACH: tl.constexpr,
    START: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One step of a row, one of the inputs that it reads, and a block of channels for each program."""
    row = (tl.program_id(0) // num_steps).to(tl.int64)
    step = tl.program_id(0) % num_steps
    tap = tl.program_id(1)
    channels = tl.program_id(2) * BLOCK + tl.arange(0, BLOCK)
    is_inside = channels < width
    source = step + tap - REACH
    is_x = source >= 0
    place = tl.maximum(source, 0)
    if START > 0:
        begins = (source < 0) & (tl.load(before_ptr + row) == 0)
        if START == 2:
            place = tl.where(begins, -source, place)
        is_x = is_x | begins
    new = tl.load(x_ptr + (row * num_steps + place) * width + channels, mask=is_inside & is_x, other=0.0)
    old_ptrs = past_ptr + row * past_row_stride + (REACH + source) * width + channels
    value = tl.where(is_x, new, tl.load(old_ptrs, mask=is_inside & (is_x == 0), other=0.0))
    tl.store(columns_ptr + ((row * num_steps + step) * (REACH + 1) + tap) * width + channels, value, mask=is_inside)
    # The last step reads what the next call needs, and its own input.
    is_kept = is_inside & (step == num_steps - 1) & (tap > 0)
    tl.store(kept_ptr + row * past_row_stride + (tap - 1) * width + channels, value, mask=is_kept)


@on_its_device
def shifted_columns(x: Tensor, past: Tensor, kept: Tensor, before: Tensor, start: str) -> Tensor:
    """Launch over steps, inputs that a step reads, and blocks of 1024 channels."""
    num_rows, num_steps, width = x.shape
    reach = past.shape[1]
    assert x.is_contiguous()
    assert past.stride() == kept.stride() == (past.stride(0), width, 1)
    columns = x.new_empty(num_rows, num_steps, (reach + 1) * width)
    block = min(1024, triton.next_power_of_2(width))
    _shift_columns[(num_rows * num_steps, reach + 1, triton.cdiv(width, block))](
        x,
        past,
        kept,
        before,
        columns,
        past.stride(0),
        num_steps,
        width,
        REACH=reach,
        START=_STARTS[start],
        BLOCK=block,
        num_warps=4,
    )
    return columns
