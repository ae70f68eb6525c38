"""Facts about a GPU and what drives it, read and not computed: for the self-check's key and for reports."""

from __future__ import annotations

import importlib.metadata
import platform
from contextlib import suppress
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class GpuFacts:
    """What a GPU is.

    Attributes:
        name: as the driver has it.
        capability: of compute, such as (8, 6).
        num_sms: multiprocessors.
        total_bytes: of its memory.
        free_bytes: of that, now.
    """

    name: str
    capability: tuple[int, int]
    num_sms: int
    total_bytes: int
    free_bytes: int


def read_gpu(device: torch.device) -> GpuFacts:
    """Ask a CUDA device what it is."""
    properties = torch.cuda.get_device_properties(device)
    free, total = torch.cuda.mem_get_info(device)
    capability = (properties.major, properties.minor)
    return GpuFacts(properties.name, capability, properties.multi_processor_count, total, free)


def triton_version() -> str | None:
    """Return the version of Triton, without importing it; None where there is none."""
    for name in ("triton", "triton-windows"):
        with suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None


def system_kind() -> str:
    """Name the system as far as a driver behaves differently on it: Linux, WSL, Windows or Darwin."""
    return "WSL" if "microsoft" in platform.release().lower() else platform.system()
