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


@triton.jit
def _load_head(new_ptr, past_ptr, new_places, past_places, is_new, is_past, dims, is_dim):
    """Read one head of positions of which some are new and the others past; what is neither is zero."""
    new = tl.load(new_ptr + new_places[:, None] + dims[None, :], mask=is_new[:, None] & is_dim[None, :], other=0.0)
    past = tl.load(past_ptr + past_places[:, None] + dims[None, :], mask=is_past[:, None] & is_dim[None, :], other=0.0)
    return tl.where(is_new[:, None], new, past).to(tl.float32)


@triton.jit(do_not_specialize=["num_queries"])
def _attend_after_past(
    projected_ptr,
    past_ptr,
    kept_ptr,
    before_ptr,
    slopes_ptr,
    query_norm_ptr,
    key_norm_ptr,
    output_ptr,
    past_row_stride,
    num_queries,
    eps,
    scale,
    WINDOW: tl.constexpr,
    NUM_HEADS: tl.constexpr,
    NUM_KV_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    HAS_NORM: tl.constexpr,
    OPERAND: tl.constexpr,
    BLOCK_QUERIES: tl.constexpr,
    BLOCK_KEYS: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    """A block of queries of one head and row for each program; its keys fit one block.

    The norm is over all heads, so each program reads those of its positions. The last block of queries sees all
    positions that are kept.
    """
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    kv_head = head // (NUM_HEADS // NUM_KV_HEADS)
    kv_width = NUM_KV_HEADS * HEAD_DIM
    width = NUM_HEADS * HEAD_DIM + 2 * kv_width
    dims = tl.arange(0, BLOCK_DIM)
    is_dim = dims < HEAD_DIM
    queries = tl.program_id(2) * BLOCK_QUERIES + tl.arange(0, BLOCK_QUERIES)
    is_query = (queries < num_queries)[:, None] & is_dim[None, :]
    query_ptrs = projected_ptr + ((row * num_queries + queries) * width)[:, None] + dims[None, :]
    # Positions count from the first new one.
    keys = tl.program_id(2) * BLOCK_QUERIES - WINDOW + tl.arange(0, BLOCK_KEYS)
    is_new = (keys >= 0) & (keys < num_queries)
    is_past = (keys < 0) & (keys >= -tl.load(before_ptr + row))
    new_places = (row * num_queries + keys) * width + NUM_HEADS * HEAD_DIM
    past_places = row * past_row_stride + (WINDOW + keys) * (2 * kv_width)
    query = tl.load(query_ptrs + head * HEAD_DIM, mask=is_query, other=0.0).to(tl.float32)
    new, past = projected_ptr + kv_head * HEAD_DIM, past_ptr + kv_head * HEAD_DIM
    key = _load_head(new, past, new_places, past_places, is_new, is_past, dims, is_dim)
    value = _load_head(new + kv_width, past + kv_width, new_places, past_places, is_new, is_past, dims, is_dim)
    targets = keys - (num_queries - WINDOW)
    is_last = tl.program_id(2) == tl.num_programs(2) - 1
    is_kept = (targets >= 0) & (keys < num_queries) & is_last & (head % (NUM_HEADS // NUM_KV_HEADS) == 0)
    is_stored = is_kept[:, None] & is_dim[None, :]
    places = row * past_row_stride + targets * (2 * kv_width) + kv_head * HEAD_DIM
    kept_ptrs = kept_ptr + places[:, None] + dims[None, :]
    tl.store(kept_ptrs, key.to(kept_ptr.dtype.element_ty), mask=is_stored)
    tl.store(kept_ptrs + kv_width, value.to(kept_ptr.dtype.element_ty), mask=is_stored)
    if HAS_NORM:
        query_squares = tl.zeros([BLOCK_QUERIES], tl.float32)
        key_squares = tl.zeros([BLOCK_KEYS], tl.float32)
        for other in range(NUM_HEADS):
            part = tl.load(query_ptrs + other * HEAD_DIM, mask=is_query, other=0.0).to(tl.float32)
            query_squares += tl.sum(part * part, axis=1)
        for other in range(NUM_KV_HEADS):
            part = _load_head(
                projected_ptr + other * HEAD_DIM,
                past_ptr + other * HEAD_DIM,
                new_places,
                past_places,
                is_new,
                is_past,
                dims,
                is_dim,
            )
            key_squares += tl.sum(part * part, axis=1)
        query *= (1.0 / tl.sqrt(query_squares / (NUM_HEADS * HEAD_DIM) + eps))[:, None]
        query *= tl.load(query_norm_ptr + head * HEAD_DIM + dims, mask=is_dim, other=0.0).to(tl.float32)[None, :]
        key *= (1.0 / tl.sqrt(key_squares / kv_width + eps))[:, None]
        key *= tl.load(key_norm_ptr + kv_head * HEAD_DIM + dims, mask=is_dim, other=0.0).to(tl.float32)[None, :]
    scores = tl.dot(query.to(OPERAND), tl.trans(key.to(OPERAND)), input_precision="ieee") * scale
    distance = keys[None, :] - queries[:, None]
    scores += tl.load(slopes_ptr + head) * distance.to(tl.float32)
    is_seen = (is_new | is_past)[None, :] & (distance <= 0) & (distance >= -WINDOW)
    # Not minus infinity: rows behind the last query see nothing, and would divide it by itself.
    scores = tl.where(is_seen, scores, -1e30)
    weights = tl.exp(scores - tl.max(scores, axis=1)[:, None])
    mixed = tl.dot(weights.to(OPERAND), value.to(OPERAND), input_precision="ieee") / tl.sum(weights, axis=1)[:, None]
    places = ((row * num_queries + queries) * NUM_HEADS + head) * HEAD_DIM
    tl.store(output_ptr + places[:, None] + dims[None, :], mixed.to(output_ptr.dtype.element_ty), mask=is_query)


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


@on_its_device
def attend_after_past(
    projected: Tensor,
    past: Tensor,
    kept: Tensor,
    before: Tensor,
    slopes: Tensor,
    norms: tuple[Tensor, Tensor, float] | None,
    head_dim: int,
) -> Tensor:
    """Launch over rows, heads and blocks of 16 queries."""
    num_rows, num_queries, width = projected.shape
    window, both_widths = past.shape[1:]
    num_kv_heads = both_widths // 2 // head_dim
    num_heads = width // head_dim - 2 * num_kv_heads
    assert projected.is_contiguous()
    assert past.stride() == kept.stride() == (past.stride(0), both_widths, 1)
    output = projected.new_empty(num_rows, num_queries, num_heads * head_dim)
    _attend_after_past[(num_rows, num_heads, triton.cdiv(num_queries, _BLOCK_QUERIES))](
        projected,
        past,
        kept,
        before,
        slopes,
        output if norms is None else norms[0],
        output if norms is None else norms[1],
        output,
        past.stride(0),
        num_queries,
        0.0 if norms is None else norms[2],
        head_dim**-0.5,
        WINDOW=window,
        NUM_HEADS=num_heads,
        NUM_KV_HEADS=num_kv_heads,
        HEAD_DIM=head_dim,
        HAS_NORM=norms is not None,
        OPERAND=dot_dtype(projected.dtype),
        BLOCK_QUERIES=_BLOCK_QUERIES,
        BLOCK_KEYS=triton.next_power_of_2(_BLOCK_QUERIES + window),
        BLOCK_DIM=max(16, triton.next_power_of_2(head_dim)),
        num_warps=2,
        enable_fp_fusion=True,
    )
    return output
