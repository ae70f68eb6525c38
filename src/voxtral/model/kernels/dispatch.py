"""Whether an operation runs as a Triton kernel."""

from __future__ import annotations

import importlib.util
from functools import cache

import torch
from torch import Tensor


@cache
def has_triton() -> bool:
    """Tell whether Triton is installed, without importing it."""
    return importlib.util.find_spec("triton") is not None


def uses_triton(tensor: Tensor, choice: bool | None) -> bool:
    """Decide for a tensor: an explicit choice wins; otherwise on CUDA, where Triton is installed.

    Kernels give no gradients, so a tensor that needs some goes another way. Tests choose kernels for CPU tensors under
    TRITON_INTERPRET=1.
    """
    if choice is not None:
        return choice
    return tensor.is_cuda and has_triton() and not (tensor.requires_grad and torch.is_grad_enabled())
