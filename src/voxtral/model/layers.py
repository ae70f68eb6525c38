"""Building blocks shared by the backbone, the acoustic transformer and the codec.

Attribute names are those of the checkpoint (`wq`, `w1`, ...), so that loading strips prefixes only.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from voxtral.config import AcousticConfig, BackboneConfig
from voxtral.model.kernels.elementwise import silu_multiply
from voxtral.model.linear import concatenate_linears, feed_forward_by_kernel, product

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

    @property
    def parts(self) -> tuple[Tensor, float]:
        """The weight and what is added to the mean square, for a product that norms its own input."""
        return self.weight, self.eps


class Embedding(nn.Module):
    """A table of rows; nn.Embedding draws its start values even on the meta device, which costs a second."""

    def __init__(self, num_rows: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(num_rows, dim))

    def forward(self, rows: Tensor) -> Tensor:
        """Look up [...] int64 to [..., dim]."""
        return F.embedding(rows, self.weight)


class FeedForward(nn.Module):
    """SwiGLU: w2(silu(w1 x) * w3 x). Once `fuse`d, w1 and w3 are one matrix, w13."""

    def __init__(self, dim: int, hidden_dim: int, *, use_biases: bool = False) -> None:
        super().__init__()
        self.w1 = nn.Linear(dim, hidden_dim, bias=False)
        self.w2 = nn.Linear(hidden_dim, dim, bias=use_biases)
        self.w3 = nn.Linear(dim, hidden_dim, bias=False)
        self.w13: nn.Module | None = None

    def fuse(self) -> None:
        """Put w3 below w1, so that one product does for both; for inference, and not undone."""
        if self.w13 is None:
            self.w13 = concatenate_linears((self.w1, self.w3))
            del self.w1, self.w3

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., dim] to [..., dim]."""
        if self.w13 is not None:
            outputs = feed_forward_by_kernel(self.w13, self.w2, x)
            return outputs if outputs is not None else self.w2(silu_multiply(self.w13(x)))
        return self.w2(F.silu(self.w1(x)) * self.w3(x))

    def add_to(self, x: Tensor, norm: RMSNorm) -> Tensor:
        """Compute x + forward(norm(x)) with as few launches as there can be; `x` may be written over on a GPU."""
        if self.w13 is None:
            return x + self(norm(x))
        outputs = feed_forward_by_kernel(self.w13, self.w2, x, norm=norm.parts, residual=x)
        if outputs is not None:
            return outputs
        return product(self.w2, product(self.w13, x, norm=norm.parts, is_gated=True), residual=x)


class AttentionProjections(nn.Module):
    """The matrices wq, wk, wv and wo of grouped-query attention. Once `fuse`d, the first three are one, wqkv.

    Args:
        config: has dim, num_heads, num_kv_heads and head_dim.
        use_biases: of wq, wv and wo; keys never have one.
    """

    def __init__(self, config: BackboneConfig | AcousticConfig, *, use_biases: bool = False) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        width, kv_width = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        self.wq = nn.Linear(config.dim, width, bias=use_biases)
        self.wk = nn.Linear(config.dim, kv_width, bias=False)
        self.wv = nn.Linear(config.dim, kv_width, bias=use_biases)
        self.wo = nn.Linear(width, config.dim, bias=use_biases)
        self.wqkv: nn.Module | None = None
        self._widths = (width, kv_width, kv_width)

    @property
    def projections(self) -> tuple[nn.Module, ...]:
        """The linear modules whose rows, one below the other, make queries, keys and values."""
        return (self.wq, self.wk, self.wv) if self.wqkv is None else (self.wqkv,)

    def fuse(self) -> None:
        """Put wq, wk and wv one below the other; for inference, and not undone."""
        if self.wqkv is None:
            self.wqkv = concatenate_linears(self.projections)
            del self.wq, self.wk, self.wv

    def project(
        self, x: Tensor, *, num_queries: int | None = None, norm: RMSNorm | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Project positions [B, T, D] to queries, keys and values, [B, T, heads * Dh] each.

        With `num_queries` only the first positions ask; all of them are seen. Without `norm` they are normalised.
        """
        if self.wqkv is None:
            x = x if norm is None else norm(x)
            # Contiguous: a product with strided rows leaves the fast path of a CPU, 80 times slower in bfloat16.
            return self.wq(x[:, :num_queries].contiguous()), self.wk(x), self.wv(x)
        projected = product(self.wqkv, x, norm=None if norm is None else norm.parts)
        query, key, value = projected.split(self._widths, dim=-1)
        return query[:, :num_queries], key, value


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
