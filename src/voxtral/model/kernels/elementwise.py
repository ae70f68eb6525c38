"""The activation between two products, where no product does it on the way."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from voxtral.model.kernels.dispatch import attempt, uses_triton


def silu_multiply(gate_and_up: Tensor, *, use_triton: bool | None = None) -> Tensor:
    """Compute silu(gate) * up in float32, rounded once: [..., 2 F], gate first, to [..., F]."""
    if use_triton or (gate_and_up.is_cuda and uses_triton("silu_multiply", gate_and_up, use_triton)):
        from voxtral.model.kernels import elementwise_triton

        with attempt("silu_multiply", gate_and_up, use_triton):
            return elementwise_triton.silu_multiply(gate_and_up)
    gate, up = gate_and_up.chunk(2, dim=-1)
    return (F.silu(gate.float()) * up.float()).to(gate.dtype)
