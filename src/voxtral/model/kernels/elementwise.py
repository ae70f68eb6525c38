"""Norms and activations that read and write the residual stream once."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from voxtral.model.kernels.dispatch import attempt, uses_triton


def add_rms_norm(
    x: Tensor, update: Tensor, weight: Tensor, eps: float, *, use_triton: bool | None = None
) -> tuple[Tensor, Tensor]:
    """Add to the residual stream and normalise what comes out.

    The sum is rounded to its dtype first, statistics and product are float32, the result is rounded once.

    Args:
        x: [..., D], the residual stream.
        update: [..., D], same shape and dtype.
        weight: [D].
        eps: added to the mean square.
        use_triton: see `uses_triton`.

    Returns:
        The sum and its norm, [..., D] each.
    """
    if use_triton or (x.is_cuda and uses_triton("add_rms_norm", x, use_triton)):
        from voxtral.model.kernels import elementwise_triton

        with attempt("add_rms_norm", x, use_triton):
            return elementwise_triton.add_rms_norm(x, update, weight, eps)
    total = x + update
    return total, F.rms_norm(total, weight.shape, weight, eps)


def silu_multiply(gate_and_up: Tensor, *, use_triton: bool | None = None) -> Tensor:
    """Compute silu(gate) * up in float32, rounded once: [..., 2 F], gate first, to [..., F]."""
    if use_triton or (gate_and_up.is_cuda and uses_triton("silu_multiply", gate_and_up, use_triton)):
        from voxtral.model.kernels import elementwise_triton

        with attempt("silu_multiply", gate_and_up, use_triton):
            return elementwise_triton.silu_multiply(gate_and_up)
    gate, up = gate_and_up.chunk(2, dim=-1)
    return (F.silu(gate.float()) * up.float()).to(gate.dtype)
