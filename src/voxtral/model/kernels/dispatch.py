"""Whether an operation runs as a Triton kernel."""

from __future__ import annotations

import importlib.util
from functools import cache

from torch import Tensor


@cache
def has_triton() -> bool:
    """Tell whether Triton is installed, without importing it."""
    return importlib.util.find_spec("triton") is not None


def uses_triton(tensor: Tensor, choice: bool | None) -> bool:
    """Decide for a tensor: an explicit choice wins; otherwise on CUDA, where Triton is installed.

    Tests choose it for CPU tensors under TRITON_INTERPRET=1.
    """
    return choice if choice is not None else tensor.is_cuda and has_triton()
