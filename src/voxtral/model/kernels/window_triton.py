"""Triton forms of `voxtral.model.kernels.window`."""

# Kernels are written in a language of their own: pyright knows neither its tensors nor the options of a launch.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from voxtral.model.kernels.launching import dot_dtype, on_its_device

# Queries of one program.
_BLOCK_QUERIES = 16


@triton.jit(do_not_specialize=["num_queries", "num_keys"])
def _attend_in_window(
    query_ptr,
    key_ptr,
    value_ptr,
    slopes_ptr,
    output_ptr,
    query_row_stride,
    query_head_stride,
    query_stride,
    key_row_stride,
    key_head_stride,
    key_stride,
    value_row_stride,
    value_head_stride,
    value_stride,
    num_queries,
    num_keys,
    group,
    scale,
    WINDOW: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    OPERAND: tl.constexpr,
    BLOCK_QUERIES: tl.constexpr,
    BLOCK_KEYS: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    """A block of queries of one head and row for each program; its keys fit one block."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    queries = tl.program_id(2) * BLOCK_QUERIES + tl.arange(0, BLOCK_QUERIES)
    dims = tl.arange(0, BLOCK_DIM)
    is_dim = dims < HEAD_DIM
    is_query = (queries < num_queries)[:, None] & is_dim[None, :]
    places = row * query_row_stride + head * query_head_stride + queries * query_stride
    query = tl.load(query_ptr + places[:, None] + dims[None, :], mask=is_query, other=0.0).to(OPERAND)
    # Positions count from the first key.
    positions = num_keys - num_queries + queries
    keys = num_keys - num_queries + tl.program_id(2) * BLOCK_QUERIES - WINDOW + tl.arange(0, BLOCK_KEYS)
    is_key = (keys >= 0) & (keys < num_keys)
    is_loaded = is_key[:, None] & is_dim[None, :]
    places = row * key_row_stride + (head // group) * key_head_stride + keys * key_stride
    key = tl.load(key_ptr + places[:, None] + dims[None, :], mask=is_loaded, other=0.0).to(OPERAND)
    distance = keys[None, :] - positions[:, None]
    scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
    scores += tl.load(slopes_ptr + head) * distance.to(tl.float32)
    is_seen = is_key[None, :] & (distance <= 0) & (distance >= -WINDOW)
    # Not minus infinity: rows behind the last query see nothing, and would divide it by itself.
    scores = tl.where(is_seen, scores, -1e30)
    weights = tl.exp(scores - tl.max(scores, axis=1)[:, None])
    places = row * value_row_stride + (head // group) * value_head_stride + keys * value_stride
    value = tl.load(value_ptr + places[:, None] + dims[None, :], mask=is_loaded, other=0.0).to(OPERAND)
    mixed = tl.dot(weights.to(OPERAND), value, input_precision="ieee") / tl.sum(weights, axis=1)[:, None]
    targets = ((row * num_queries + queries) * tl.num_programs(1) + head) * HEAD_DIM
    tl.store(output_ptr + targets[:, None] + dims[None, :], mixed.to(output_ptr.dtype.element_ty), mask=is_query)


@on_its_device
def attend_in_window(query: Tensor, key: Tensor, value: Tensor, slopes: Tensor, window: int) -> Tensor:
    """Launch over rows, heads and blocks of 16 queries."""
    query, key, value = (part if part.stride(-1) == 1 else part.contiguous() for part in (query, key, value))
    num_rows, num_heads, num_queries, head_dim = query.shape
    num_kv_heads, num_keys = key.shape[1:3]
    output = query.new_empty(num_rows, num_queries, num_heads * head_dim)
    _attend_in_window[(num_rows, num_heads, triton.cdiv(num_queries, _BLOCK_QUERIES))](
        query,
        key,
        value,
        slopes,
        output,
        *query.stride()[:3],
        *key.stride()[:3],
        *value.stride()[:3],
        num_queries,
        num_keys,
        num_heads // num_kv_heads,
        head_dim**-0.5,
        WINDOW=window,
        HEAD_DIM=head_dim,
        OPERAND=dot_dtype(query.dtype),
        BLOCK_QUERIES=_BLOCK_QUERIES,
        BLOCK_KEYS=triton.next_power_of_2(_BLOCK_QUERIES + window),
        BLOCK_DIM=max(16, triton.next_power_of_2(head_dim)),
        num_warps=2,
        enable_fp_fusion=True,
    )
    return output
