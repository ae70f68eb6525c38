"""Triton forms of `voxtral.model.kernels.window`."""

# Kernels are written in a language of their own: pyright knows neither its tensors nor the options of a launch.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from voxtral.model.kernels.operands import dot_dtype

# Queries of one program.
_BLOCK_QUERIES = 16


@triton.jit
def _attend_in_window(
    query_ptr,
    key_ptr,
    value_ptr,
    slopes_ptr,
    num_valid_ptr,
    output_ptr,
    num_queries,
    num_keys,
    num_heads,
    group,
    scale,
    WINDOW: tl.constexpr,
    HAS_NUM_VALID: tl.constexpr,
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
    places = ((row * num_queries + queries) * num_heads + head) * HEAD_DIM
    query = tl.load(query_ptr + places[:, None] + dims[None, :], mask=is_query, other=0.0).to(OPERAND)
    # Positions count from the first key.
    positions = num_keys - num_queries + queries
    keys = num_keys - num_queries + tl.program_id(2) * BLOCK_QUERIES - WINDOW + tl.arange(0, BLOCK_KEYS)
    first_key = 0
    if HAS_NUM_VALID:
        first_key = num_keys - tl.load(num_valid_ptr + row)
    is_key = (keys >= first_key) & (keys < num_keys)
    key_places = ((row * num_keys + keys) * (num_heads // group) + head // group) * HEAD_DIM
    offsets = key_places[:, None] + dims[None, :]
    is_loaded = is_key[:, None] & is_dim[None, :]
    key = tl.load(key_ptr + offsets, mask=is_loaded, other=0.0).to(OPERAND)
    distance = keys[None, :] - positions[:, None]
    scores = tl.dot(query, tl.trans(key), input_precision="ieee") * scale
    scores += tl.load(slopes_ptr + head) * distance.to(tl.float32)
    is_seen = is_key[None, :] & (distance <= 0) & (distance >= -WINDOW)
    # Not minus infinity: rows behind the last query see nothing, and would divide it by itself.
    scores = tl.where(is_seen, scores, -1e30)
    weights = tl.exp(scores - tl.max(scores, axis=1)[:, None])
    value = tl.load(value_ptr + offsets, mask=is_loaded, other=0.0).to(OPERAND)
    mixed = tl.dot(weights.to(OPERAND), value, input_precision="ieee") / tl.sum(weights, axis=1)[:, None]
    tl.store(output_ptr + places[:, None] + dims[None, :], mixed.to(output_ptr.dtype.element_ty), mask=is_query)


def attend_in_window(
    query: Tensor, key: Tensor, value: Tensor, slopes: Tensor, window: int, num_valid: Tensor | None
) -> Tensor:
    """Launch over rows, heads and blocks of 16 queries."""
    num_rows, num_queries, num_heads, head_dim = query.shape
    num_keys, num_kv_heads = key.shape[1:3]
    output = query.new_empty(num_rows, num_queries, num_heads * head_dim)
    _attend_in_window[(num_rows, num_heads, triton.cdiv(num_queries, _BLOCK_QUERIES))](
        query.contiguous(),
        key.contiguous(),
        value.contiguous(),
        slopes,
        slopes if num_valid is None else num_valid.contiguous(),
        output,
        num_queries,
        num_keys,
        num_heads,
        num_heads // num_kv_heads,
        head_dim**-0.5,
        WINDOW=window,
        HAS_NUM_VALID=num_valid is not None,
        HEAD_DIM=head_dim,
        OPERAND=dot_dtype(query.dtype),
        BLOCK_QUERIES=_BLOCK_QUERIES,
        BLOCK_KEYS=triton.next_power_of_2(_BLOCK_QUERIES + window),
        BLOCK_DIM=max(16, triton.next_power_of_2(head_dim)),
        num_warps=2,
        enable_fp_fusion=True,
    )
    return output
