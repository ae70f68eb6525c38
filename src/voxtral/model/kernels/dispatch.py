"""Whether an operation runs as a Triton kernel."""

from __future__ import annotations

import importlib.util
import logging
from functools import cache

import torch
from torch import Tensor

_log = logging.getLogger(__name__)


@cache
def has_triton() -> bool:
    """Tell whether Triton is installed, without importing it."""
    return importlib.util.find_spec("triton") is not None


@cache
def kernel_problem(device: torch.device) -> str | None:
    """Try a kernel on a small product: None if the result is right, else why kernels are not used on this device.

    Triton builds its launcher with the system's C compiler, and not every GPU knows bfloat16; where something is
    missing, the plain forms compute.
    """
    if not has_triton():
        return "Triton is not installed"
    from voxtral.model.kernels.matmul import quantized_matmul

    # Whole numbers whose sums bfloat16 holds, so that the result is exact.
    x = torch.arange(-32, 32, device=device).view(2, 32).remainder(5).to(torch.bfloat16)
    weight = torch.arange(16 * 32, device=device).view(16, 32).remainder(3).to(torch.int8)
    scales = torch.ones(16, device=device)
    problem = None
    try:
        product = quantized_matmul(x, weight, scales, use_triton=True)
        if not torch.equal(product, quantized_matmul(x, weight, scales, use_triton=False)):
            problem = "a small product comes out wrong"
    # Compilers, drivers and linkers fail in ways of their own.
    except Exception as error:  # noqa: BLE001
        problem = f"{type(error).__name__}: {error}"
    if problem is not None:
        _log.warning("Triton kernels are not used on %s, plain operations are: %s", device, problem)
    return problem


def uses_triton(tensor: Tensor, choice: bool | None) -> bool:
    """Decide for a tensor: an explicit choice wins; otherwise on CUDA, where kernels work.

    Kernels give no gradients, so a tensor that needs some goes another way. Tests choose kernels for CPU tensors under
    TRITON_INTERPRET=1. Callers look at `is_cuda` first: asked for every tensor on a CPU, this was a seventh of all
    calls of a request.
    """
    if choice is not None:
        return choice
    needs_gradient = tensor.requires_grad and torch.is_grad_enabled()
    return tensor.is_cuda and not needs_gradient and kernel_problem(tensor.device) is None
