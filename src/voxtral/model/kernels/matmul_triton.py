"""Triton forms of `voxtral.model.kernels.matmul`."""

from __future__ import annotations

# Kernels are written in a language of their own: pyright knows neither its tensors nor the options of a launch.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from voxtral.model.kernels.launching import NUM_ARRIVALS, arrivals, dot_dtype, is_last_to_arrive, on_its_device

# Programs that keep the memory of the largest GPU busy, two on each of some 130 processors; reckoned, not measured.
_WANTED_PROGRAMS = 264

# A program of fewer steps along K has hardly begun to read ahead when it ends.
_LEAST_STEPS = 6

# What the stages of a program may take of the shared memory of a consumer card, 99 KiB, in bytes.
_STAGE_BYTES = 88 * 1024


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
    """Read BLOCK_K columns of BLOCK_N rows: numbers as they are, int4 ones (GROUP > 0) dequantised."""
    if GROUP == 0:
        columns = start + tl.arange(0, BLOCK_K)
        is_inside = is_row[:, None] & (columns < depth)[None, :]
        weights = tl.load(weight_ptr + rows[:, None] * depth + columns[None, :], mask=is_inside, other=0.0)
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


@triton.jit
def _finish_columns(result, scales_ptr, bias_ptr, columns, is_column, HAS_SCALES: tl.constexpr, HAS_BIAS: tl.constexpr):
    """Scale sums of whole numbers, and add the bias."""
    if HAS_SCALES:
        result *= tl.load(scales_ptr + columns, mask=is_column, other=0.0).to(tl.float32)[None, :]
    if HAS_BIAS:
        result += tl.load(bias_ptr + columns, mask=is_column, other=0.0).to(tl.float32)[None, :]
    return result


@triton.jit(do_not_specialize=["num_rows"])
def _multiply(
    x_ptr,
    x_scales_ptr,
    weight_ptr,
    scales_ptr,
    zeros_ptr,
    norm_ptr,
    bias_ptr,
    residual_ptr,
    result_ptr,
    parts_ptr,
    arrivals_ptr,
    num_rows,
    x_stride,
    residual_stride,
    width,
    depth,
    depth_of_split,
    eps,
    GROUP: tl.constexpr,
    HAS_SCALES: tl.constexpr,
    HAS_X_SCALES: tl.constexpr,
    HAS_NORM: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    HAS_RESIDUAL: tl.constexpr,
    IS_GATED: tl.constexpr,
    SPLITS: tl.constexpr,
    OPERAND: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """One block of rows, of result columns and of the depth for each program; the last of a block joins its splits."""
    # Blocks of rows first: those that read the same weights run side by side. 64 bits, so that no place overflows.
    rows = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)).to(tl.int64)
    columns = (tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)).to(tl.int64)
    is_row = rows < num_rows
    is_column = columns < width
    result = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    ups = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
    squares = tl.zeros([BLOCK_M], tl.float32)
    first = tl.program_id(2) * depth_of_split
    for start in range(first, tl.minimum(depth, first + depth_of_split), BLOCK_K):
        depths = start + tl.arange(0, BLOCK_K)
        is_x = is_row[:, None] & (depths < depth)[None, :]
        x = tl.load(x_ptr + rows[:, None] * x_stride + depths[None, :], mask=is_x, other=0.0)
        if HAS_NORM:
            # The root mean square of a row is known when the row has been read; it divides the sums.
            x = x.to(tl.float32)
            squares += tl.sum(x * x, axis=1)
            x *= tl.load(norm_ptr + depths, mask=depths < depth, other=0.0).to(tl.float32)[None, :]
        x = x.to(OPERAND)
        weights = _load_weights(
            weight_ptr, scales_ptr, zeros_ptr, columns, is_column, start, depth, GROUP, OPERAND, BLOCK_N, BLOCK_K
        )
        # Hopper sums float8 in fewer bits than 32 until it is told to add them up.
        result = tl.dot(x, tl.trans(weights), result, input_precision="ieee", max_num_imprecise_acc=BLOCK_K)
        if IS_GATED:
            weights = _load_weights(
                weight_ptr,
                scales_ptr,
                zeros_ptr,
                width + columns,
                is_column,
                start,
                depth,
                GROUP,
                OPERAND,
                BLOCK_N,
                BLOCK_K,
            )
            ups = tl.dot(x, tl.trans(weights), ups, input_precision="ieee", max_num_imprecise_acc=BLOCK_K)
    is_last = True
    if SPLITS > 1:
        block = tl.program_id(1) * tl.num_programs(0) + tl.program_id(0)
        places = tl.arange(0, BLOCK_M)[:, None] * BLOCK_N + tl.arange(0, BLOCK_N)[None, :]
        parts = parts_ptr + block.to(tl.int64) * SPLITS * BLOCK_M * BLOCK_N + places
        tl.store(parts + tl.program_id(2) * BLOCK_M * BLOCK_N, result)
        is_last = is_last_to_arrive(arrivals_ptr + block, SPLITS)
        if is_last:
            result = tl.zeros([BLOCK_M, BLOCK_N], tl.float32)
            for split in tl.static_range(SPLITS):  # pyright: ignore[reportGeneralTypeIssues]
                result += tl.load(parts + split * BLOCK_M * BLOCK_N, cache_modifier=".cg")
    if is_last:
        if HAS_NORM:
            inverse_rms = 1.0 / tl.sqrt(squares / depth + eps)
            result *= inverse_rms[:, None]
            ups *= inverse_rms[:, None]
        if HAS_X_SCALES:
            x_scales = tl.load(x_scales_ptr + rows, mask=is_row, other=0.0)
            result *= x_scales[:, None]
            ups *= x_scales[:, None]
        result = _finish_columns(result, scales_ptr, bias_ptr, columns, is_column, HAS_SCALES, HAS_BIAS)
        if IS_GATED:
            ups = _finish_columns(ups, scales_ptr, bias_ptr, width + columns, is_column, HAS_SCALES, HAS_BIAS)
            result = result / (1.0 + tl.exp(-result)) * ups
        is_inside = is_row[:, None] & is_column[None, :]
        if HAS_RESIDUAL:
            sources = residual_ptr + rows[:, None] * residual_stride + columns[None, :]
            result += tl.load(sources, mask=is_inside, other=0.0).to(tl.float32)
        targets = result_ptr + rows[:, None] * width + columns[None, :]
        tl.store(targets, result.to(result_ptr.dtype.element_ty), mask=is_inside)


@dataclass(frozen=True)
class Tiles:
    """How a product is cut up.

    Attributes:
        rows: of a block, M.
        columns: of a block of the result, N; twice as many of the weights where they are gated.
        depth: of one step along K.
        splits: programs that share a block of the result, each with a part of K.
        depth_of_split: of that part, a multiple of `depth`.
        num_stages: steps that are read ahead, and one.
        num_warps: of 32 threads.
    """

    rows: int
    columns: int
    depth: int
    splits: int
    depth_of_split: int
    num_stages: int
    num_warps: int


def choose_tiles(
    shape: tuple[int, int, int], x: torch.dtype, weight_bits: int, *, group: int, has_norm: bool, is_gated: bool
) -> Tiles:
    """Cut a product up so that every processor reads weights all the time; reckoned, not measured.

    Args:
        shape: rows, columns of the result, and depth.
        x: dtype of the activations.
        weight_bits: of a number in the matrix.
        group: numbers that share a scale along the depth, or 0.
        has_norm: whether the root mean square of each row is found on the way; then a program reads whole rows.
        is_gated: whether a block of the result needs two of the weights, whose sums must both be whole.
    """
    num_rows, width, depth = shape
    rows = min(64, max(16, triton.next_power_of_2(num_rows)))
    columns = 32 if rows < 64 else 64
    if is_gated and rows == 64:
        columns = 32
    # A step reads at most 256 bytes of each row of weights, and no more than registers hold of what is made of them.
    step = min(256 if weight_bits <= 8 and rows == 16 and not is_gated else 128, triton.next_power_of_2(depth))
    step = max(16, step // 2 if x is torch.float32 else step, group)
    num_programs = triton.cdiv(num_rows, rows) * triton.cdiv(width, columns)
    num_steps = triton.cdiv(depth, step)
    splits = 1
    if has_norm or is_gated:
        while columns > 16 and num_programs < _WANTED_PROGRAMS:
            columns, num_programs = columns // 2, num_programs * 2
    else:
        while (
            splits < 8
            and splits * num_programs < _WANTED_PROGRAMS
            and num_steps >= 2 * splits * _LEAST_STEPS
            and num_programs <= NUM_ARRIVALS
        ):
            splits *= 2
    weight_rows = columns * (2 if is_gated else 1)
    stage = step * (rows * x.itemsize + weight_rows * weight_bits // 8)
    return Tiles(
        rows=rows,
        columns=columns,
        depth=step,
        splits=splits,
        depth_of_split=triton.cdiv(num_steps, splits) * step,
        num_stages=max(2, min(6, _STAGE_BYTES // stage)),
        num_warps=4 if rows < 64 else 8,
    )


@on_its_device
def multiply(
    x: Tensor,
    matrix: tuple[Tensor, ...],
    *,
    x_scales: Tensor | None = None,
    norm: tuple[Tensor, float] | None = None,
    bias: Tensor | None = None,
    is_gated: bool = False,
    residual: Tensor | None = None,
    dtype: torch.dtype | None = None,
) -> Tensor:
    """Launch over blocks of rows, of result columns and of the depth."""
    weight = matrix[0]
    scales, zeros = (matrix[1] if len(matrix) > 1 else None), (matrix[2] if len(matrix) > 2 else None)
    depth = x.shape[-1]
    group = 0 if zeros is None or scales is None else depth // scales.shape[1]
    assert weight.shape[1] == (depth // 2 if group else depth), f"{tuple(weight.shape)} for rows of {depth}"
    assert group & (group - 1) == 0, f"groups of {group}; a power of two is needed"
    assert weight.is_contiguous(), "weights must be contiguous"
    rows = _rows_of(x, depth)
    num_rows, width = rows.shape[0], weight.shape[0] // 2 if is_gated else weight.shape[0]
    result = torch.empty(*x.shape[:-1], width, dtype=dtype or x.dtype, device=x.device)
    added = result if residual is None else _rows_of(residual, width)
    tiles = choose_tiles(
        (num_rows, width, depth),
        x.dtype,
        4 if group else 8 * weight.itemsize,
        group=group,
        has_norm=norm is not None,
        is_gated=is_gated,
    )
    grid = (triton.cdiv(num_rows, tiles.rows), triton.cdiv(width, tiles.columns), tiles.splits)
    parts = result
    if tiles.splits > 1:
        parts = torch.empty(
            grid[0] * grid[1] * tiles.splits, tiles.rows, tiles.columns, dtype=torch.float32, device=x.device
        )
    _multiply[grid](
        rows,
        result if x_scales is None else x_scales.contiguous(),
        weight,
        result if scales is None else scales.contiguous(),
        result if zeros is None else zeros.contiguous(),
        result if norm is None else norm[0],
        result if bias is None else bias,
        added,
        result,
        parts,
        arrivals(x) if tiles.splits > 1 else result,
        num_rows,
        rows.stride(0),
        added.stride(-2) if residual is not None else width,
        width,
        depth,
        tiles.depth_of_split,
        0.0 if norm is None else norm[1],
        GROUP=group,
        HAS_SCALES=scales is not None and group == 0,
        HAS_X_SCALES=x_scales is not None,
        HAS_NORM=norm is not None,
        HAS_BIAS=bias is not None,
        HAS_RESIDUAL=residual is not None,
        IS_GATED=is_gated,
        SPLITS=tiles.splits,
        OPERAND=dot_dtype(x.dtype),
        BLOCK_M=tiles.rows,
        BLOCK_N=tiles.columns,
        BLOCK_K=tiles.depth,
        num_warps=tiles.num_warps,
        num_stages=tiles.num_stages,
        enable_fp_fusion=True,
    )
    return result


def _rows_of(tensor: Tensor, width: int) -> Tensor:
    """View [..., width] as rows, each contiguous; copies only where that is no view."""
    rows = tensor.reshape(-1, width)
    return rows if rows.stride(-1) == 1 else rows.contiguous()
