"""Rotary positions and attention over a paged KV cache, for one new position of each sequence.

Pages hold `page_size` positions of one layer: [num_pages, page_size, Hkv, Dh]. A position is kept in a slot,
page * page_size + offset; a slot mapping names those of new positions. Rows that only pad a batch write to a scratch
page and see nothing.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from voxtral.model.kernels.dispatch import attempt, uses_triton


def rotate_and_store(
    projections: tuple[Tensor, Tensor, Tensor],
    rotation: tuple[Tensor, Tensor],
    slot_mapping: Tensor,
    key_pages: Tensor,
    value_pages: Tensor,
    *,
    use_triton: bool | None = None,
) -> Tensor:
    """Rotate queries and keys of new positions, and write keys and values to their slots.

    Interleaved pairs (2i, 2i + 1), in float32, as `voxtral.model.layers.apply_rope`.

    Args:
        projections: queries [N, H * Dh], keys and values [N, Hkv * Dh]; only the last axis must be contiguous, so
            parts of a fused projection need no copy.
        rotation: cosines and sines, [N, Dh / 2] float32 each.
        slot_mapping: [N] int64; equal slots may only be those of the scratch page.
        key_pages: [num_pages, page_size, Hkv, Dh], written in place.
        value_pages: the same.
        use_triton: see `uses_triton`.

    Returns:
        The rotated queries, [N, H, Dh].
    """
    if use_triton or (key_pages.is_cuda and uses_triton("rotate_and_store", key_pages, use_triton)):
        from voxtral.model.kernels import paged_triton

        with attempt("rotate_and_store", key_pages, use_triton):
            return paged_triton.rotate_and_store(projections, rotation, slot_mapping, key_pages, value_pages)
    cos, sin = (part[:, None] for part in rotation)
    query, key, value = (part.unflatten(-1, (-1, key_pages.shape[3])) for part in projections)  # [N, heads, Dh]
    rotated = []
    for part in (query, key):
        even, odd = part.float().unflatten(-1, (-1, 2)).unbind(-1)
        turned = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
        rotated.append(turned.flatten(-2).to(part.dtype))
    key_pages.flatten(0, 1)[slot_mapping] = rotated[1].to(key_pages.dtype)
    value_pages.flatten(0, 1)[slot_mapping] = value.to(value_pages.dtype)
    return rotated[0]


def attend_to_pages(
    query: Tensor,
    key_pages: Tensor,
    value_pages: Tensor,
    block_tables: Tensor,
    lengths: Tensor,
    *,
    use_triton: bool | None = None,
) -> Tensor:
    """Attend from one position of each sequence to the positions that its pages hold.

    The kernel takes 128 positions at a time and joins the parts, so a row's result does not depend on the other rows.
    It rounds attention weights to the dtype of the query before they meet the values; sums are float32.

    Args:
        query: [B, H, Dh], rotated; query head h reads key head h // (H / Hkv).
        key_pages: [num_pages, page_size, Hkv, Dh].
        value_pages: the same.
        block_tables: [B, max_pages] int32, pages of each row in order; what lies behind its length is not read.
        lengths: [B] int32, positions that the row sees, the new one included; 0 gives zeros.
        use_triton: see `uses_triton`.

    Returns:
        [B, H * Dh].
    """
    if use_triton or (query.is_cuda and uses_triton("attend_to_pages", query, use_triton)):
        from voxtral.model.kernels import paged_triton

        with attempt("attend_to_pages", query, use_triton):
            return paged_triton.attend_to_pages(query, key_pages, value_pages, block_tables, lengths)
    page_size, num_kv_heads = key_pages.shape[1:3]
    num_seen = block_tables.shape[1] * page_size
    is_seen = torch.arange(num_seen, device=query.device) < lengths[:, None]  # [B, S]
    # Pages that are not seen may have been given to nobody and hold anything, NaN included.
    tables = torch.where(is_seen[:, ::page_size], block_tables, 0).long()
    keys, values = (
        pages[tables].flatten(1, 2).masked_fill(~is_seen[:, :, None, None], 0).transpose(1, 2)
        for pages in (key_pages, value_pages)
    )  # [B, Hkv, S, Dh]
    folded = query.unflatten(1, (num_kv_heads, -1))  # [B, Hkv, G, Dh]
    # A row that sees nothing looks at zeros: its result is zero, where an empty mask would give NaN.
    mask = is_seen | (lengths[:, None] == 0)
    output = F.scaled_dot_product_attention(folded, keys, values, attn_mask=mask[:, None, None])
    return output.flatten(1)
