"""The inputs of causal convolutions laid side by side, so that each convolution is one product."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from voxtral.model.kernels.dispatch import attempt, uses_triton

# What a stream that begins has before its first input: zeros, that input again, or the next ones mirrored.
Start = Literal["zeros", "repeat", "reflect"]


def shifted_columns(
    x: Tensor, past: Tensor, kept: Tensor, before: Tensor, start: Start, *, use_triton: bool | None = None
) -> Tensor:
    """Lay each input beside the `reach` inputs before it, the oldest first.

    Args:
        x: [B, T, C], contiguous; with "reflect" T is above `reach`.
        past: [B, reach, C], the inputs before; zeros where a stream begins. Rows may be apart.
        kept: the same of the last inputs there are then; written. Its rows are as far apart as those of `past`.
        before: [B] int64, inputs that there were before, in any unit: 0 where a stream begins.
        start: what a stream that begins has before its first input.
        use_triton: see `uses_triton`.

    Returns:
        [B, T, (reach + 1) * C].
    """
    if use_triton or (x.is_cuda and uses_triton("shifted_columns", x, use_triton)):
        from voxtral.model.kernels import shifts_triton

        with attempt("shifted_columns", x, use_triton):
            return shifts_triton.shifted_columns(x, past, kept, before, start)
    reach = past.shape[1]
    padded = torch.cat((past_of(x, past, before, start), x), dim=1)
    kept.copy_(padded[:, x.shape[1] :])
    return padded.unfold(1, reach + 1, 1).transpose(2, 3).flatten(2)


def past_of(x: Tensor, past: Tensor, before: Tensor, start: Start) -> Tensor:
    """Give the inputs before `x`, [B, reach, C], also where a stream begins; arguments as above."""
    if start == "zeros":
        return past
    edge = x[:, :1] if start == "repeat" else x[:, 1 : past.shape[1] + 1].flip(1)
    return torch.where(before[:, None, None] == 0, edge, past)
