"""Causal sliding-window attention with ALiBi, as the codec's layers use it; also from a state of fixed size."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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


def attend_after_past(
    projected: Tensor,
    past: Tensor,
    kept: Tensor,
    before: Tensor,
    slopes: Tensor,
    norms: tuple[Tensor, Tensor, float] | None,
    head_dim: int,
    *,
    use_triton: bool | None = None,
) -> Tensor:
    """Attend from new positions to themselves and to the window before them, as `attend_in_window` does.

    What lies before is a tensor of one size however much of it there is yet, so that shapes do not tell how long a
    stream has been. It holds keys and values as they were projected, without their norm.

    Args:
        projected: [B, T, (H + 2 Hkv) * Dh], queries, keys and values side by side; contiguous.
        past: [B, window, 2 Hkv * Dh], keys and values of the positions before, the newest last; rows may be apart.
        kept: the same of the last positions there are then; written. Its rows are as far apart as those of `past`.
        before: [B] int64, positions that there were before; older ones of `past` are not seen.
        slopes: [H] float32.
        norms: weights of queries [H * Dh] and keys [Hkv * Dh], each over its whole width, and what is added to the mean
            square; None where there are none.
        head_dim: Dh.
        use_triton: see `uses_triton`.

    Returns:
        [B, T, H * Dh].
    """
    if use_triton or (projected.is_cuda and uses_triton("attend_after_past", projected, use_triton)):
        from voxtral.model.kernels import window_triton

        with attempt("attend_after_past", projected, use_triton):
            return window_triton.attend_after_past(projected, past, kept, before, slopes, norms, head_dim)
    num_queries, window, kv_width = projected.shape[1], past.shape[1], past.shape[2] // 2
    query = projected[..., : -2 * kv_width]
    seen = torch.cat((past, projected[..., -2 * kv_width :]), dim=1)
    kept.copy_(seen[:, num_queries:])
    key, value = seen.chunk(2, dim=-1)
    if norms is not None:
        query = F.rms_norm(query, query.shape[-1:], norms[0], norms[2])
        key = F.rms_norm(key, key.shape[-1:], norms[1], norms[2])
    query, key, value = (part.unflatten(-1, (-1, head_dim)).transpose(1, 2) for part in (query, key, value))
    places = torch.arange(-window, num_queries, device=before.device)
    is_there = places >= -before[:, None]  # [B, S]
    bias = window_bias(slopes, window, num_queries, window + num_queries)
    bias = torch.where(is_there[:, None, None], bias, -torch.inf).to(query.dtype)
    return attend(query, key, value, mask=bias)
