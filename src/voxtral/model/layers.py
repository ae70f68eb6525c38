"""Building blocks shared by the backbone, the acoustic transformer and the codec.

Attribute names are those of the checkpoint (`wq`, `w1`, ...), so that loading strips prefixes only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Cosines and sines, [T, Dh / 2] float32 each.
Rotation = tuple[Tensor, Tensor]


class RMSNorm(nn.Module):
    """x * rsqrt(mean(x^2) + eps) * weight over the last axis; statistics in float32."""

    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [..., dim]."""
        return F.rms_norm(x, self.weight.shape, self.weight, self.eps)


class Embedding(nn.Module):
    """A table of rows; nn.Embedding draws its start values even on the meta device, which costs a second."""

    def __init__(self, num_rows: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_rows, dim))

    def forward(self, rows: Tensor) -> Tensor:
        """Look up [...] int64 to [..., dim]."""
        return F.embedding(rows, self.weight)


class FeedForward(nn.Module):
    """SwiGLU: w2(silu(w1 x) * w3 x)."""

    def __init__(self, dim: int, hidden_dim: int, *, use_biases: bool = False) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, hidden_dim, bias=False)
        self.w2 = nn.Linear(hidden_dim, dim, bias=use_biases)
        self.w3 = nn.Linear(dim, hidden_dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., dim] to [..., dim]."""
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


def last(outputs: Iterator[Tensor]) -> Tensor:
    """Run through all stages and return the output of the last; there must be one."""
    return deque(outputs, maxlen=1).pop()


def split_heads(x: Tensor, head_dim: int) -> Tensor:
    """Turn [B, T, H * Dh] into [B, H, T, Dh]."""
    return x.unflatten(-1, (-1, head_dim)).transpose(1, 2)


def rope_inverse_frequencies(head_dim: int, theta: float) -> Tensor:
    """Compute theta ** (-2i / head_dim) for i in 0 .. head_dim / 2 - 1, float32 on the CPU.

    Source: docs/MODEL.md, "Backbone"; golden entry rope/y.
    """
    exponents = torch.arange(0, head_dim, 2, dtype=torch.float32, device="cpu") / head_dim
    return 1.0 / (theta**exponents)


def rope_rotation(positions: Tensor, inverse_frequencies: Tensor) -> Rotation:
    """Compute the rotation of each position, once for all layers.

    Args:
        positions: [T] int64, absolute.
        inverse_frequencies: [Dh / 2] float32.

    Returns:
        Cosines and sines of position * inverse_frequencies[i], [T, Dh / 2] float32 each.
    """
    angles = positions.to(torch.float32)[:, None] * inverse_frequencies
    return angles.cos(), angles.sin()


def apply_rope(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate the interleaved pairs (2i, 2i + 1) of each head.

    The checkpoint keeps Mistral's own order. Rotating halves instead needs permuted wq and wk rows;
    without that it speaks fluent nonsense (docs/MODEL.md, "Traps").

    Args:
        x: [..., T, Dh].
        rotation: from `rope_rotation`, for these positions.

    Returns:
        [..., T, Dh] in the dtype of `x`; the angles and the rotation are float32.
    """
    cos, sin = rotation
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    rotated = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return rotated.flatten(-2).to(x.dtype)
