"""From the device to the host without waiting: copies that are under way, and marks that say when they are there."""

from __future__ import annotations

import os
from functools import cache

import torch
from torch import Tensor

# On a machine of so few cores a thread that spins while it waits takes one from those who have work.
_FEW_CORES = 4


def to_host(values: Tensor) -> Tensor:
    """Begin to copy to CPU memory; from a GPU it is there when a mark that is set after has passed."""
    if not values.is_cuda:
        return values.cpu()
    target = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
    return target.copy_(values, non_blocking=True)


def mark(device: torch.device) -> torch.cuda.Event | None:
    """Mark up to where the current stream has been given work; None on a device whose work is done by then."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event(blocking=_has_few_cores())
    event.record()
    return event


@cache
def _has_few_cores() -> bool:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return usable <= _FEW_CORES
