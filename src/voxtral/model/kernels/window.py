"""Causal sliding-window attention with ALiBi, as the codec's layers use it."""

from __future__ import annotations

import torch
from torch import Tensor

from voxtral.model.attention import attend
from voxtral.model.kernels.dispatch import uses_triton


def attend_in_window(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    slopes: Tensor,
    *,
    window: int,
    num_valid: Tensor | None = None,
    use_triton: bool | None = None,
) -> Tensor:
    """Attend from the last T of S positions, each to itself and at most `window` before it.

    Scores, bias (slope * (j - i), not rounded) and sums are float32 in the kernel.

    Args:
        query: [B, T, H, Dh].
        key: [B, S, Hkv, Dh]; S >= T; query head h reads key head h // (H / Hkv).
        value: the same.
        slopes: [H] float32.
        window: positions before its own that a query sees.
        num_valid: [B] int32, at least T: how many of the last positions exist; those before are not seen.
        use_triton: see `uses_triton`.

    Returns:
        [B, T, H * Dh].
    """
    if uses_triton(query, use_triton):
        from voxtral.model.kernels import window_triton

        return window_triton.attend_in_window(query, key, value, slopes, window, num_valid)
    num_queries, num_keys = query.shape[1], key.shape[1]
    keys = torch.arange(num_keys, device=query.device)
    distance = keys[None, :] - keys[num_keys - num_queries :, None]  # [T, S], j - i
    is_hidden = (distance > 0) | (distance < -window)
    if num_valid is not None:
        is_hidden = is_hidden | (keys < num_keys - num_valid[:, None])[:, None, None]  # [B, 1, T, S]
    bias = (slopes[:, None, None] * distance).masked_fill(is_hidden, -torch.inf)  # [(B,) H, T, S]
    bias = bias.expand(query.shape[0], -1, -1, -1).to(query.dtype)
    return attend(query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), mask=bias)
