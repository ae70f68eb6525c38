"""Causal sliding-window attention with ALiBi, as the codec's layers use it."""

from __future__ import annotations

import torch
from torch import Tensor

from voxtral.model.attention import attend
from voxtral.model.kernels.dispatch import attempt, uses_triton


def window_bias(slopes: Tensor, window: int, num_queries: int, num_keys: int) -> Tensor:
    """Make the additive bias of queries that are the last of `num_keys` positions.

    Query i sees key j for 0 <= i - j <= window, window + 1 keys, with slope * (j - i) added.

    Args:
        slopes: [H] float32.
        window: positions before its own that a query sees.
        num_queries: T.
        num_keys: S.

    Returns:
        [H, T, S] float32.
    """
    keys = torch.arange(num_keys, device=slopes.device)
    queries = torch.arange(num_keys - num_queries, num_keys, device=slopes.device)
    distance = keys[None, :] - queries[:, None]  # j - i
    outside = (distance > 0) | (distance < -window)
    bias = slopes[:, None, None] * distance
    return bias.masked_fill(outside, -torch.inf)


def attend_in_window(
    query: Tensor, key: Tensor, value: Tensor, slopes: Tensor, window: int, *, use_triton: bool | None = None
) -> Tensor:
    """Attend from the last T of S positions, each to itself and at most `window` before it; see `window_bias`.

    In 16 bits the plain form rounds the bias to the dtype of the query; the kernel does not, and rounds attention
    weights before they meet the values.

    Args:
        query: [B, H, T, Dh]; of all three only the last axis must be contiguous.
        key: [B, Hkv, S, Dh]; query head h reads key head h // (H / Hkv).
        value: the same.
        slopes: [H] float32.
        window: positions before its own that a query sees.
        use_triton: see `uses_triton`.

    Returns:
        [B, T, H * Dh].
    """
    if use_triton or (query.is_cuda and uses_triton("attend_in_window", query, use_triton)):
        from voxtral.model.kernels import window_triton

        with attempt("attend_in_window", query, use_triton):
            return window_triton.attend_in_window(query, key, value, slopes, window)
    bias = window_bias(slopes, window, query.shape[2], key.shape[2]).to(query.dtype)
    return attend(query, key, value, mask=bias[None])
