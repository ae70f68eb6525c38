"""Scaled dot-product attention behind one function, so that a faster one can take its place.

Knows nothing of caches, positions or windows: callers pass the keys they want seen and a mask.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def attend(query: Tensor, key: Tensor, value: Tensor, *, mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
    """Attend with grouped heads; the scale is head_dim ** -0.5.

    Query head h reads key-value head h // (H / Hkv), i.e. each key-value head serves neighbours.

    Args:
        query: [B, H, T, Dh].
        key: [B, Hkv, S, Dh]; H is a multiple of Hkv.
        value: [B, Hkv, S, Dh].
        mask: additive, in the dtype of `query`, or boolean (True is seen); broadcast to [B, H, T, S].
        is_causal: query t sees keys 0..t; needs T == S and no mask.

    Returns:
        [B, T, H * Dh], heads side by side, ready for the output projection.
    """
    num_queries, group = query.shape[2], query.shape[1] // key.shape[1]
    if group > 1 and mask is None and not is_causal:
        # Without a mask the heads of a group are just more queries of one key head. Torch's own grouping is
        # twelve times slower in bfloat16 on a CPU (docs/LOG.md, 2026-11-22).
        folded = query.unflatten(1, (-1, group)).flatten(2, 3)  # [B, Hkv, G * T, Dh]
        output = F.scaled_dot_product_attention(folded, key, value)
        output = output.unflatten(2, (group, num_queries)).flatten(1, 2)
    else:
        key, value = (part.repeat_interleave(group, dim=1) if group > 1 else part for part in (key, value))
        output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=is_causal)
    return output.transpose(1, 2).flatten(2)  # [B, T, H * Dh]


def attend_causally(query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attend from the last T of S positions, each to itself and to all before it.

    Args:
        query: [B, H, T, Dh].
        keys: [B, Hkv, S, Dh].
        values: [B, Hkv, S, Dh].

    Returns:
        [B, T, H * Dh].
    """
    num_new, num_seen = query.shape[2], keys.shape[2]
    if num_new == num_seen:
        return attend(query, keys, values, is_causal=True)
    mask = None if num_new == 1 else causal_mask(num_new, num_seen, query.device)
    return attend(query, keys, values, mask=mask)


def causal_mask(num_queries: int, num_keys: int, device: torch.device) -> Tensor:
    """Make the boolean mask of queries that are the last `num_queries` of `num_keys` positions.

    >>> causal_mask(2, 3, torch.device("cpu")).tolist()
    [[True, True, False], [True, True, True]]
    """
    return torch.ones(num_queries, num_keys, dtype=torch.bool, device=device).tril(num_keys - num_queries)
