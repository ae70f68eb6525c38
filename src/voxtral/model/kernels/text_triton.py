"""Triton form of `voxtral.model.kernels.text`."""

# Kernels are written in a language of their own: pyright knows neither its tensors nor the options of a launch.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from voxtral.model.kernels.launching import on_its_device
from voxtral.model.kernels.text import PagedTexts, TextHeads

# Numbers of each key that are read at a time: 32 bytes of 16-bit ones, the least that memory is read by.
_BLOCK_DIM = 16


@triton.jit(do_not_specialize=["num_heads", "num_pages", "max_pages"])
def _weigh_text(
    query_ptr,
    cos_ptr,
    sin_ptr,
    keys_ptr,
    layers_ptr,
    kv_heads_ptr,
    starts_ptr,
    lengths_ptr,
    tables_ptr,
    weights_ptr,
    num_heads,
    num_pages,
    max_pages,
    page_size,
    num_kv_heads,
    scale,
    HEAD_DIM: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_DIM: tl.constexpr,
):
    """All heads and the whole text of one row for each program, a few numbers of each key at a time."""
    row = tl.program_id(0).to(tl.int64)
    length = tl.load(lengths_ptr + row)
    tokens = tl.arange(0, BLOCK)
    is_text = tokens < length
    total = tl.zeros([BLOCK], tl.float32)
    if length > 0:
        positions = tl.load(starts_ptr + row) + tokens
        pages = tl.load(tables_ptr + row * max_pages + positions // page_size, mask=is_text, other=0).to(tl.int64)
        slots = pages * page_size + positions % page_size
        for number in range(num_heads):
            first = tl.load(layers_ptr + number) * num_pages * page_size + slots
            first = (first * num_kv_heads + tl.load(kv_heads_ptr + number)) * HEAD_DIM
            query = query_ptr + (row * num_heads + number) * HEAD_DIM
            scores = tl.zeros([BLOCK], tl.float32)
            for start in range(0, HEAD_DIM, BLOCK_DIM):
                pairs = start // 2 + tl.arange(0, BLOCK_DIM // 2)
                is_pair = pairs < HEAD_DIM // 2
                cos = tl.load(cos_ptr + row * (HEAD_DIM // 2) + pairs, mask=is_pair, other=0.0)
                sin = tl.load(sin_ptr + row * (HEAD_DIM // 2) + pairs, mask=is_pair, other=0.0)
                even = tl.load(query + 2 * pairs, mask=is_pair, other=0.0).to(tl.float32)
                odd = tl.load(query + 2 * pairs + 1, mask=is_pair, other=0.0).to(tl.float32)
                rotated = tl.interleave(even * cos - odd * sin, even * sin + odd * cos)
                dims = start + tl.arange(0, BLOCK_DIM)
                is_loaded = is_text[:, None] & (dims < HEAD_DIM)[None, :]
                keys = tl.load(keys_ptr + first[:, None] + dims[None, :], mask=is_loaded, other=0.0).to(tl.float32)
                scores += tl.sum(keys * rotated[None, :], axis=1)
            scores = tl.where(is_text, scores * scale, float("-inf"))
            shares = tl.exp(scores - tl.max(scores, axis=0))
            total += shares / tl.sum(shares, axis=0)
    tl.store(weights_ptr + row * WIDTH + tokens, total / num_heads, mask=tokens < WIDTH)


@on_its_device
def weigh_text(
    query: Tensor, rotation: tuple[Tensor, Tensor], keys: Tensor, heads: TextHeads, texts: PagedTexts
) -> Tensor:
    """Launch over rows; `query` is [B, K, Dh], not rotated."""
    assert keys.is_contiguous(), "pages of keys must be contiguous"
    _, num_pages, page_size, num_kv_heads, head_dim = keys.shape
    num_rows, num_heads, _ = query.shape
    cos, sin = (part.contiguous() for part in rotation)
    weights = torch.empty(num_rows, heads.width, dtype=torch.float32, device=query.device)
    _weigh_text[(num_rows,)](
        query,
        cos,
        sin,
        keys,
        heads.layers,
        heads.kv_heads,
        texts.starts,
        texts.lengths,
        texts.tables.contiguous(),
        weights,
        num_heads,
        num_pages,
        texts.tables.shape[1],
        page_size,
        num_kv_heads,
        head_dim**-0.5,
        HEAD_DIM=head_dim,
        WIDTH=heads.width,
        BLOCK=triton.next_power_of_2(heads.width),
        BLOCK_DIM=_BLOCK_DIM,
        num_warps=16,
        enable_fp_fusion=True,
    )
    return weights
