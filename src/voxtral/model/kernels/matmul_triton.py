"""Triton forms of `voxtral.model.kernels.matmul`."""

from __future__ import annotations

# Kernels are written in a language of their own: pyright knows neither its tensors nor the options of a launch.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
import torch
import triton
import triton.language as tl
from torch import Tensor

from voxtral.model.kernels.launching import dot_dtype, on_its_device


@triton.jit
def _load_weights(
    weight_ptr,
    scales_ptr,
    zeros_ptr,
    rows,
    is_row,
    start,
    depth,
    GROUP: tl.constexpr,
    OPERAND: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """Read BLOCK_K columns of BLOCK_N rows: int8 numbers as they are, int4 numbers (GROUP > 0) dequantised."""
    if GROUP == 0:
        columns = start + tl.arange(0, BLOCK_K)
        is_inside = is_row[:, None] & (columns < depth)[None, :]
        weights = tl.load(weight_ptr + rows[:, None] * depth + columns[None, :], mask=is_inside, other=0)
    else:
        places = start // 2 + tl.arange(0, BLOCK_K // 2)
        is_inside = is_row[:, None] & (places < depth // 2)[None, :]
        pairs = tl.load(weight_ptr + rows[:, None] * (depth // 2) + places[None, :], mask=is_inside, other=0)
        numbers = tl.interleave(pairs & 0xF, pairs >> 4).to(tl.float32)
        groups = start // GROUP + tl.arange(0, BLOCK_K // GROUP)
        is_group = is_row[:, None] & (groups < depth // GROUP)[None, :]
        offsets = rows[:, None] * (depth // GROUP) + groups[None, :]
        scales = tl.load(scales_ptr + offsets, mask=is_group, other=0.0).to(tl.float32)
        zeros = tl.load(zeros_ptr + offsets, mask=is_group, other=0.0).to(tl.float32)
        grouped = tl.reshape(numbers, [BLOCK_N, BLOCK_K // GROUP, GROUP])
        weights = tl.reshape((grouped - zeros[:, :, None]) * scales[:, :, None], [BLOCK_N, BLOCK_K])
    return weights.to(OPERAND)


@triton.jit(do_not_specialize=["num_rows"])
def _quantized_matmul(
    x_ptr,
    weight_ptr,
    scales_ptr,
    zeros_ptr,
    result_ptr,
    num_rows,
    width,
    depth,
    GROUP: tl.constexpr,
    OPERAND: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """One block of rows and of result columns for each program."""
    # Blocks of rows first: those that read the same weights run side by side. 64 bits, so that no place overflows.
    rows = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    columns = (tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)).to(tl.int64)
    is_row = rows < num_rows
    is_column = columns < width
    result = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    for start in range(0, depth, BLOCK_K):
        depths = start + tl.arange(0, BLOCK_K)
        is_x = is_row[:, None] & (depths < depth)[None, :]
        x = tl.load(x_ptr + rows[:, None] * depth + depths[None, :], mask=is_x, other=0.0).to(OPERAND)
        weights = _load_weights(
            weight_ptr,
            scales_ptr,
            zeros_ptr,
            columns,
            is_column,
            start,
            depth,
            GROUP,
            OPERAND,
            BLOCK_N,
            BLOCK_K,
        )
        result = tl.dot(x, tl.trans(weights), result, input_precision="ieee")
    if GROUP == 0:
        result *= tl.load(scales_ptr + columns, mask=is_column, other=0.0).to(tl.float32)[None, :]
    places = rows[:, None] * width + columns[None, :]
    is_inside = is_row[:, None] & is_column[None, :]
    tl.store(result_ptr + places, result.to(result_ptr.dtype.element_ty), mask=is_inside)


@on_its_device
def quantized_matmul(x: Tensor, weight: Tensor, scales: Tensor, zeros: Tensor | None) -> Tensor:
    """Launch over blocks of result columns and of rows; narrow ones where few columns would leave a GPU idle."""
    depth = x.shape[-1]
    is_int4 = zeros is not None
    group = depth // scales.shape[1] if is_int4 else 0
    assert weight.shape[1] == (depth // 2 if is_int4 else depth), f"{tuple(weight.shape)} for rows of {depth}"
    assert group & (group - 1) == 0, f"groups of {group}; a power of two is needed"
    assert weight.is_contiguous(), "quantised weights must be contiguous"
    rows = x.reshape(-1, depth).contiguous()
    num_rows = rows.shape[0]
    width = weight.shape[0]
    result = x.new_empty(*x.shape[:-1], width)
    block_m = min(64, max(16, triton.next_power_of_2(num_rows)))
    block_n = 16 if width <= 4096 else 32
    # What three stages need must fit the shared memory of a consumer card, 99 KiB.
    widest = 256 if block_m == 16 else 128
    block_k = min(widest // 2 if x.dtype is torch.float32 else widest, triton.next_power_of_2(depth))
    _quantized_matmul[(triton.cdiv(num_rows, block_m), triton.cdiv(width, block_n))](
        rows,
        weight,
        scales.contiguous(),
        scales if zeros is None else zeros.contiguous(),
        result,
        num_rows,
        width,
        depth,
        GROUP=group,
        OPERAND=dot_dtype(x.dtype),
        BLOCK_M=block_m,
        BLOCK_N=block_n,
        BLOCK_K=max(16, block_k, group),
        num_warps=4,
        num_stages=3,
        enable_fp_fusion=True,
    )
    return result
