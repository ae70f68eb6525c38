"""Triton forms of `voxtral.model.kernels.paged`."""

# Kernels are written in a language of their own: pyright knows neither its tensors nor the options of a launch.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from voxtral.model.kernels.launching import dot_dtype, on_its_device

# Positions of one part, and of one step inside it. Fixed, so that a row's rounding is its own.
_PART = 128
_BLOCK = 64


@triton.jit
def _rotate_and_store(
    query_ptr,
    key_ptr,
    value_ptr,
    cos_ptr,
    sin_ptr,
    slot_mapping_ptr,
    rotated_ptr,
    keys_ptr,
    values_ptr,
    query_stride,
    key_stride,
    value_stride,
    num_heads,
    num_kv_heads,
    HEAD_DIM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One head of one position for each program: first those of the query, then keys, then values."""
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    pairs = tl.arange(0, BLOCK)
    inside = pairs < HEAD_DIM // 2
    slot = tl.load(slot_mapping_ptr + row)
    cos = tl.load(cos_ptr + row * (HEAD_DIM // 2) + pairs, mask=inside, other=0.0)
    sin = tl.load(sin_ptr + row * (HEAD_DIM // 2) + pairs, mask=inside, other=0.0)
    if head < num_heads:
        source = query_ptr + row * query_stride + head * HEAD_DIM + 2 * pairs
        even = tl.load(source, mask=inside, other=0.0).to(tl.float32)
        odd = tl.load(source + 1, mask=inside, other=0.0).to(tl.float32)
        target = rotated_ptr + (row * num_heads + head) * HEAD_DIM + 2 * pairs
        tl.store(target, (even * cos - odd * sin).to(rotated_ptr.dtype.element_ty), mask=inside)
        tl.store(target + 1, (even * sin + odd * cos).to(rotated_ptr.dtype.element_ty), mask=inside)
    elif head < num_heads + num_kv_heads:
        kv_head = head - num_heads
        source = key_ptr + row * key_stride + kv_head * HEAD_DIM + 2 * pairs
        even = tl.load(source, mask=inside, other=0.0).to(tl.float32)
        odd = tl.load(source + 1, mask=inside, other=0.0).to(tl.float32)
        target = keys_ptr + (slot * num_kv_heads + kv_head) * HEAD_DIM + 2 * pairs
        tl.store(target, (even * cos - odd * sin).to(keys_ptr.dtype.element_ty), mask=inside)
        tl.store(target + 1, (even * sin + odd * cos).to(keys_ptr.dtype.element_ty), mask=inside)
    else:
        kv_head = head - num_heads - num_kv_heads
        source = value_ptr + row * value_stride + kv_head * HEAD_DIM + 2 * pairs
        target = values_ptr + (slot * num_kv_heads + kv_head) * HEAD_DIM + 2 * pairs
        tl.store(target, tl.load(source, mask=inside, other=0.0).to(values_ptr.dtype.element_ty), mask=inside)
        tl.store(target + 1, tl.load(source + 1, mask=inside, other=0.0).to(values_ptr.dtype.element_ty), mask=inside)


@on_its_device
def rotate_and_store(
    projections: tuple[Tensor, Tensor, Tensor],
    rotation: tuple[Tensor, Tensor],
    slot_mapping: Tensor,
    key_pages: Tensor,
    value_pages: Tensor,
) -> Tensor:
    """Launch over positions and heads."""
    assert key_pages.is_contiguous(), "key pages must be contiguous"
    assert value_pages.is_contiguous(), "value pages must be contiguous"
    query, key, value = (part if part.stride(-1) == 1 else part.contiguous() for part in projections)
    cos, sin = (part.contiguous() for part in rotation)
    num_kv_heads, head_dim = key_pages.shape[2:]
    num_rows, num_heads = query.shape[0], query.shape[1] // head_dim
    rotated = query.new_empty(num_rows, num_heads, head_dim)
    _rotate_and_store[(num_rows, num_heads + 2 * num_kv_heads)](
        query,
        key,
        value,
        cos,
        sin,
        slot_mapping,
        rotated,
        key_pages,
        value_pages,
        query.stride(0),
        key.stride(0),
        value.stride(0),
        num_heads,
        num_kv_heads,
        HEAD_DIM=head_dim,
        BLOCK=triton.next_power_of_2(head_dim // 2),
        num_warps=1,
        # Rounded after each operation, as torch does.
        enable_fp_fusion=False,
    )
    return rotated


@triton.jit
def _attend_part(
    query_ptr,
    keys_ptr,
    values_ptr,
    tables_ptr,
    lengths_ptr,
    output_ptr,
    maximum_ptr,
    total_ptr,
    max_pages,
    page_size,
    scale,
    HEAD_DIM: tl.constexpr,
    GROUP: tl.constexpr,
    OPERAND: tl.constexpr,
    PART: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_GROUP: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    """The query heads of one key head, one row and one part of its positions for each program."""
    row = tl.program_id(0).to(tl.int64)
    kv_head = tl.program_id(1)
    part = tl.program_id(2)
    num_kv_heads = tl.num_programs(1)
    members = tl.arange(0, BLOCK_GROUP)
    dims = tl.arange(0, BLOCK_DIM)
    is_member = members < GROUP
    is_dim = dims < HEAD_DIM
    is_query = is_member[:, None] & is_dim[None, :]
    heads = (row * num_kv_heads + kv_head) * GROUP + members
    query = tl.load(query_ptr + heads[:, None] * HEAD_DIM + dims[None, :], mask=is_query, other=0.0).to(OPERAND)
    length = tl.load(lengths_ptr + row)
    maximum = tl.full([BLOCK_GROUP], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_GROUP], tl.float32)
    output = tl.zeros([BLOCK_GROUP, BLOCK_DIM], tl.float32)
    for start in range(part * PART, tl.minimum(length, (part + 1) * PART), BLOCK):
        positions = start + tl.arange(0, BLOCK)
        is_seen = positions < length
        pages = tl.load(tables_ptr + row * max_pages + positions // page_size, mask=is_seen, other=0).to(tl.int64)
        places = ((pages * page_size + positions % page_size) * num_kv_heads + kv_head) * HEAD_DIM
        offsets = places[:, None] + dims[None, :]
        is_key = is_seen[:, None] & is_dim[None, :]
        keys = tl.load(keys_ptr + offsets, mask=is_key, other=0.0).to(OPERAND)
        scores = tl.dot(query, tl.trans(keys), input_precision="ieee") * scale
        scores = tl.where(is_seen[None, :], scores, float("-inf"))
        new_maximum = tl.maximum(maximum, tl.max(scores, axis=1))
        weights = tl.exp(scores - new_maximum[:, None])
        shrink = tl.exp(maximum - new_maximum)
        total = total * shrink + tl.sum(weights, axis=1)
        values = tl.load(values_ptr + offsets, mask=is_key, other=0.0).to(OPERAND)
        output = output * shrink[:, None] + tl.dot(weights.to(OPERAND), values, input_precision="ieee")
        maximum = new_maximum
    # Heads first, then parts, so that joining reads them in a row.
    places = heads * tl.num_programs(2) + part
    tl.store(maximum_ptr + places, maximum, mask=is_member)
    tl.store(total_ptr + places, total, mask=is_member)
    tl.store(output_ptr + places[:, None] * HEAD_DIM + dims[None, :], output, mask=is_query)


@triton.jit
def _join_parts(
    parts_ptr,
    maximum_ptr,
    total_ptr,
    output_ptr,
    num_parts,
    HEAD_DIM: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    """One query head of one row for each program; parts without positions weigh nothing."""
    head = tl.program_id(0).to(tl.int64)
    parts = tl.arange(0, BLOCK_PARTS)
    dims = tl.arange(0, BLOCK_DIM)
    is_part = parts < num_parts
    places = head * num_parts + parts
    maximum = tl.load(maximum_ptr + places, mask=is_part, other=float("-inf"))
    total = tl.load(total_ptr + places, mask=is_part, other=0.0)
    is_empty = maximum == float("-inf")
    # Where all are empty the difference of two infinities would be NaN.
    highest = tl.max(tl.where(is_empty, -1e30, maximum), axis=0)
    weights = tl.where(is_empty, 0.0, tl.exp(maximum - highest))
    outputs = tl.load(
        parts_ptr + places[:, None] * HEAD_DIM + dims[None, :],
        mask=is_part[:, None] & (dims < HEAD_DIM)[None, :],
        other=0.0,
    )
    numerator = tl.sum(outputs * weights[:, None], axis=0)
    denominator = tl.sum(total * weights, axis=0)
    result = numerator / tl.where(denominator == 0.0, 1.0, denominator)
    tl.store(output_ptr + head * HEAD_DIM + dims, result.to(output_ptr.dtype.element_ty), mask=dims < HEAD_DIM)


@on_its_device
def attend_to_pages(
    query: Tensor, key_pages: Tensor, value_pages: Tensor, block_tables: Tensor, lengths: Tensor
) -> Tensor:
    """Launch over rows, key heads and parts, then join the parts."""
    assert key_pages.is_contiguous(), "key pages must be contiguous"
    assert value_pages.is_contiguous(), "value pages must be contiguous"
    num_rows, num_heads, head_dim = query.shape
    page_size, num_kv_heads = key_pages.shape[1:3]
    max_pages = block_tables.shape[1]
    num_parts = triton.cdiv(max_pages * page_size, _PART)
    group = num_heads // num_kv_heads
    block_dim = max(16, triton.next_power_of_2(head_dim))
    parts = torch.empty(num_rows, num_heads, num_parts, head_dim, dtype=torch.float32, device=query.device)
    maximum, total = torch.empty_like(parts[..., 0]), torch.empty_like(parts[..., 0])
    output = torch.empty(num_rows, num_heads * head_dim, dtype=query.dtype, device=query.device)
    _attend_part[(num_rows, num_kv_heads, num_parts)](
        query.contiguous(),
        key_pages,
        value_pages,
        block_tables.contiguous(),
        lengths,
        parts,
        maximum,
        total,
        max_pages,
        page_size,
        head_dim**-0.5,
        HEAD_DIM=head_dim,
        GROUP=group,
        OPERAND=dot_dtype(query.dtype),
        PART=_PART,
        BLOCK=_BLOCK,
        BLOCK_GROUP=max(16, triton.next_power_of_2(group)),
        BLOCK_DIM=block_dim,
        num_warps=4,
        num_stages=2,
        enable_fp_fusion=True,
    )
    _join_parts[(num_rows * num_heads,)](
        parts,
        maximum,
        total,
        output,
        num_parts,
        HEAD_DIM=head_dim,
        BLOCK_PARTS=triton.next_power_of_2(num_parts),
        BLOCK_DIM=block_dim,
        num_warps=1,
        enable_fp_fusion=True,
    )
    return output
