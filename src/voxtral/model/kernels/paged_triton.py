"""Triton forms of `voxtral.model.kernels.paged`."""

# Kernels are written in a language of their own: pyright knows neither its tensors nor the options of a launch.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from voxtral.model.kernels.launching import NUM_ARRIVALS, arrivals, dot_dtype, is_last_to_arrive, on_its_device
from voxtral.model.kernels.paged import PagedSpans

# Positions of one part, and of one step inside it. Fixed, so that a row's rounding is its own.
_PART = 128
_BLOCK = 64

# Query heads of all queries that a program of `_attend_spans` takes side by side.
_SPAN_ROWS = 64


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
def _look_at_keys(
    query,
    keys_ptr,
    values_ptr,
    table_ptr,
    positions,
    num_keys,
    is_seen,
    maximum,
    total,
    output,
    page_size,
    num_kv_heads,
    kv_head,
    scale,
    HEAD_DIM: tl.constexpr,
    OPERAND: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    """Take the keys and values of some positions into a softmax that goes on: maximum, total and weighted values."""
    dims = tl.arange(0, BLOCK_DIM)
    is_key = positions < num_keys
    pages = tl.load(table_ptr + positions // page_size, mask=is_key, other=0).to(tl.int64)
    places = ((pages * page_size + positions % page_size) * num_kv_heads + kv_head) * HEAD_DIM
    offsets = places[:, None] + dims[None, :]
    is_loaded = is_key[:, None] & (dims < HEAD_DIM)[None, :]
    keys = tl.load(keys_ptr + offsets, mask=is_loaded, other=0.0).to(OPERAND)
    scores = tl.dot(query, tl.trans(keys), input_precision="ieee") * scale
    scores = tl.where(is_seen, scores, float("-inf"))
    new_maximum = tl.maximum(maximum, tl.max(scores, axis=1))
    weights = tl.exp(scores - new_maximum[:, None])
    shrink = tl.exp(maximum - new_maximum)
    values = tl.load(values_ptr + offsets, mask=is_loaded, other=0.0).to(OPERAND)
    output = output * shrink[:, None] + tl.dot(weights.to(OPERAND), values, input_precision="ieee")
    return new_maximum, total * shrink + tl.sum(weights, axis=1), output


@triton.jit
def _load_rotated(pointers, is_pair, cos, sin):
    """Read interleaved pairs and rotate them in float32; `pointers` are to the first of each pair."""
    even = tl.load(pointers, mask=is_pair, other=0.0).to(tl.float32)
    odd = tl.load(pointers + 1, mask=is_pair, other=0.0).to(tl.float32)
    return tl.interleave(even * cos - odd * sin, even * sin + odd * cos)


@triton.jit(do_not_specialize=["max_pages"])
def _attend_rotating(
    query_ptr,
    key_ptr,
    value_ptr,
    cos_ptr,
    sin_ptr,
    slot_mapping_ptr,
    keys_ptr,
    values_ptr,
    tables_ptr,
    lengths_ptr,
    output_ptr,
    parts_ptr,
    maximum_ptr,
    total_ptr,
    arrivals_ptr,
    query_stride,
    key_stride,
    value_stride,
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
    BLOCK_PARTS: tl.constexpr,
):
    """The query heads of one key head, one row and one part of its positions for each program.

    The program of the newest position rotates and stores its key, and begins with it; the others find theirs in the
    pages. The last of a row and key head joins the parts.
    """
    row = tl.program_id(0).to(tl.int64)
    kv_head = tl.program_id(1)
    part = tl.program_id(2)
    num_kv_heads = tl.num_programs(1)
    newest = tl.load(lengths_ptr + row) - 1
    last_part = newest // PART
    if part <= last_part:
        members = tl.arange(0, BLOCK_GROUP)
        dims = tl.arange(0, BLOCK_DIM)
        pairs = tl.arange(0, BLOCK_DIM // 2)
        is_dim = dims < HEAD_DIM
        is_pair = pairs < HEAD_DIM // 2
        is_query = (members < GROUP)[:, None] & is_pair[None, :]
        cos = tl.load(cos_ptr + row * (HEAD_DIM // 2) + pairs, mask=is_pair, other=0.0)
        sin = tl.load(sin_ptr + row * (HEAD_DIM // 2) + pairs, mask=is_pair, other=0.0)
        heads = kv_head * GROUP + members
        places = row * query_stride + heads[:, None] * HEAD_DIM + 2 * pairs[None, :]
        query = _load_rotated(query_ptr + places, is_query, cos[None, :], sin[None, :])
        query = query.to(query_ptr.dtype.element_ty)
        maximum = tl.full([BLOCK_GROUP], float("-inf"), tl.float32)
        total = tl.zeros([BLOCK_GROUP], tl.float32)
        output = tl.zeros([BLOCK_GROUP, BLOCK_DIM], tl.float32)
        if part == last_part:
            key = _load_rotated(key_ptr + row * key_stride + kv_head * HEAD_DIM + 2 * pairs, is_pair, cos, sin)
            key = key.to(keys_ptr.dtype.element_ty)
            value = tl.load(value_ptr + row * value_stride + kv_head * HEAD_DIM + dims, mask=is_dim, other=0.0)
            value = value.to(values_ptr.dtype.element_ty)
            kept = (tl.load(slot_mapping_ptr + row) * num_kv_heads + kv_head) * HEAD_DIM + dims
            tl.store(keys_ptr + kept, key, mask=is_dim)
            tl.store(values_ptr + kept, value, mask=is_dim)
            maximum = tl.sum(query.to(tl.float32) * key.to(tl.float32)[None, :], axis=1) * scale
            total += 1.0
            output += value.to(tl.float32)[None, :]
        query = query.to(OPERAND)
        for start in range(part * PART, tl.minimum(newest, (part + 1) * PART), BLOCK):
            positions = start + tl.arange(0, BLOCK)
            maximum, total, output = _look_at_keys(
                query,
                keys_ptr,
                values_ptr,
                tables_ptr + row * max_pages,
                positions,
                newest,
                (positions < newest)[None, :],
                maximum,
                total,
                output,
                page_size,
                num_kv_heads,
                kv_head,
                scale,
                HEAD_DIM,
                OPERAND,
                BLOCK_DIM,
            )
        heads += row * num_kv_heads * GROUP
        is_output = (members < GROUP)[:, None] & is_dim[None, :]
        if last_part == 0:
            output /= total[:, None]
            targets = output_ptr + heads[:, None] * HEAD_DIM + dims[None, :]
            tl.store(targets, output.to(output_ptr.dtype.element_ty), mask=is_output)
        else:
            # Heads first, then parts, so that joining reads them in a row.
            own = heads * tl.num_programs(2) + part
            tl.store(maximum_ptr + own, maximum, mask=members < GROUP)
            tl.store(total_ptr + own, total, mask=members < GROUP)
            tl.store(parts_ptr + own[:, None] * HEAD_DIM + dims[None, :], output, mask=is_output)
            if is_last_to_arrive(arrivals_ptr + row * num_kv_heads + kv_head, last_part + 1):
                for member in tl.static_range(GROUP):  # pyright: ignore[reportGeneralTypeIssues]
                    head = (row * num_kv_heads + kv_head) * GROUP + member
                    joined = _join_parts(
                        parts_ptr,
                        maximum_ptr,
                        total_ptr,
                        head * tl.num_programs(2),
                        last_part + 1,
                        HEAD_DIM,
                        BLOCK_PARTS,
                        BLOCK_DIM,
                    )
                    target = output_ptr + head * HEAD_DIM + dims
                    tl.store(target, joined.to(output_ptr.dtype.element_ty), mask=is_dim)


@triton.jit
def _join_parts(
    parts_ptr,
    maximum_ptr,
    total_ptr,
    first,
    num_parts,
    HEAD_DIM: tl.constexpr,
    BLOCK_PARTS: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    """Weigh the parts of one query head by what each has seen; past the first cache, which others wrote around."""
    parts = tl.arange(0, BLOCK_PARTS)
    dims = tl.arange(0, BLOCK_DIM)
    is_part = parts < num_parts
    places = first + parts
    maximum = tl.load(maximum_ptr + places, mask=is_part, other=float("-inf"), cache_modifier=".cg")
    total = tl.load(total_ptr + places, mask=is_part, other=0.0, cache_modifier=".cg")
    weights = tl.exp(maximum - tl.max(maximum, axis=0))
    outputs = tl.load(
        parts_ptr + places[:, None] * HEAD_DIM + dims[None, :],
        mask=is_part[:, None] & (dims < HEAD_DIM)[None, :],
        other=0.0,
        cache_modifier=".cg",
    )
    return tl.sum(outputs * weights[:, None], axis=0) / tl.sum(total * weights, axis=0)


@on_its_device
def attend_rotating(
    projections: tuple[Tensor, Tensor, Tensor],
    rotation: tuple[Tensor, Tensor],
    slot_mapping: Tensor,
    pages: tuple[Tensor, Tensor],
    block_tables: Tensor,
    lengths: Tensor,
) -> Tensor:
    """Launch over rows, key heads and parts of the longest row that the tables can name."""
    query, key, value = (part if part.stride(-1) == 1 else part.contiguous() for part in projections)
    cos, sin = (part.contiguous() for part in rotation)
    page_size, num_kv_heads, head_dim = _shape_of(pages)
    num_rows, num_heads = query.shape[0], query.shape[1] // head_dim
    max_pages = block_tables.shape[1]
    num_parts = triton.cdiv(max_pages * page_size, _PART)
    group = num_heads // num_kv_heads
    assert num_rows * num_kv_heads <= NUM_ARRIVALS, f"{num_rows} rows of {num_kv_heads} key heads are too many"
    parts = torch.empty(num_rows, num_heads, num_parts, head_dim, dtype=torch.float32, device=query.device)
    maximum, total = torch.empty_like(parts[..., 0]), torch.empty_like(parts[..., 0])
    output = torch.empty(num_rows, num_heads * head_dim, dtype=query.dtype, device=query.device)
    _attend_rotating[(num_rows, num_kv_heads, num_parts)](
        query,
        key,
        value,
        cos,
        sin,
        slot_mapping,
        *pages,
        block_tables.contiguous(),
        lengths,
        output,
        parts,
        maximum,
        total,
        arrivals(query),
        query.stride(0),
        key.stride(0),
        value.stride(0),
        max_pages,
        page_size,
        head_dim**-0.5,
        HEAD_DIM=head_dim,
        GROUP=group,
        OPERAND=dot_dtype(query.dtype),
        PART=_PART,
        BLOCK=_BLOCK,
        BLOCK_GROUP=max(16, triton.next_power_of_2(group)),
        BLOCK_DIM=max(16, triton.next_power_of_2(head_dim)),
        BLOCK_PARTS=triton.next_power_of_2(num_parts),
        num_warps=4,
        num_stages=2,
        enable_fp_fusion=True,
    )
    return output


@triton.jit(do_not_specialize=["max_pages"])
def _attend_spans(
    query_ptr,
    keys_ptr,
    values_ptr,
    tables_ptr,
    work_ptr,
    output_ptr,
    max_pages,
    page_size,
    scale,
    HEAD_DIM: tl.constexpr,
    GROUP: tl.constexpr,
    OPERAND: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    """Some new positions of one span and the query heads of one key head for each program."""
    kv_head = tl.program_id(1)
    num_kv_heads = tl.num_programs(1)
    work = work_ptr + tl.program_id(0) * 4
    span, first, stop = tl.load(work).to(tl.int64), tl.load(work + 1), tl.load(work + 2)
    rows = tl.arange(0, BLOCK_ROWS)
    dims = tl.arange(0, BLOCK_DIM)
    asking = rows // GROUP
    num_asking = tl.minimum(stop - first, BLOCK_ROWS // GROUP)
    is_query = (asking < num_asking)[:, None] & (dims < HEAD_DIM)[None, :]
    heads = (first + asking).to(tl.int64) * num_kv_heads * GROUP + kv_head * GROUP + rows % GROUP
    places = heads[:, None] * HEAD_DIM + dims[None, :]
    query = tl.load(query_ptr + places, mask=is_query, other=0.0).to(OPERAND)
    # The place of each query in its sequence, which is the last key that it sees.
    own = tl.load(work + 3) + asking
    num_keys = tl.load(work + 3) + num_asking
    maximum = tl.full([BLOCK_ROWS], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_ROWS], tl.float32)
    output = tl.zeros([BLOCK_ROWS, BLOCK_DIM], tl.float32)
    for start in range(0, num_keys, BLOCK):
        positions = start + tl.arange(0, BLOCK)
        maximum, total, output = _look_at_keys(
            query,
            keys_ptr,
            values_ptr,
            tables_ptr + span * max_pages,
            positions,
            num_keys,
            positions[None, :] <= own[:, None],
            maximum,
            total,
            output,
            page_size,
            num_kv_heads,
            kv_head,
            scale,
            HEAD_DIM,
            OPERAND,
            BLOCK_DIM,
        )
    tl.store(output_ptr + places, (output / total[:, None]).to(output_ptr.dtype.element_ty), mask=is_query)


@on_its_device
def attend_spans(query: Tensor, pages: tuple[Tensor, Tensor], spans: PagedSpans) -> Tensor:
    """Launch over the new positions of all spans, a few at a time, and over key heads."""
    page_size, num_kv_heads, head_dim = _shape_of(pages)
    num_positions, num_heads, _ = query.shape
    group = num_heads // num_kv_heads
    assert group <= _SPAN_ROWS, f"{group} query heads for each key head; at most {_SPAN_ROWS}"
    work = spans.work(_SPAN_ROWS // group)
    has_padding = spans.bounds[-1][1] < num_positions
    make = torch.zeros if has_padding else torch.empty
    output = make(num_positions, num_heads * head_dim, dtype=query.dtype, device=query.device)
    _attend_spans[(work.shape[0], num_kv_heads)](
        query.contiguous(),
        *pages,
        spans.tables.contiguous(),
        work,
        output,
        spans.tables.shape[1],
        page_size,
        head_dim**-0.5,
        HEAD_DIM=head_dim,
        GROUP=group,
        OPERAND=dot_dtype(query.dtype),
        BLOCK=_BLOCK if query.dtype is not torch.float32 else _BLOCK // 2,
        BLOCK_ROWS=_SPAN_ROWS,
        BLOCK_DIM=max(16, triton.next_power_of_2(head_dim)),
        num_warps=4,
        num_stages=2,
        enable_fp_fusion=True,
    )
    return output


def _shape_of(pages: tuple[Tensor, Tensor]) -> tuple[int, int, int]:
    """Give positions of a page, key heads and width of a head; both tensors of pages must be contiguous."""
    assert all(part.is_contiguous() for part in pages), "pages of keys and values must be contiguous"
    _, page_size, num_kv_heads, head_dim = pages[0].shape
    return page_size, num_kv_heads, head_dim
