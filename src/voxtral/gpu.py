"""Facts about a GPU and what drives it, read and not computed: for the self-check's key and for reports."""

from __future__ import annotations

import importlib.metadata
import platform
import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

_DRIVER_FILE = Path("/proc/driver/nvidia/version")
_SMI_TIMEOUT_S = 5.0


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


@cache
def driver_version() -> str:
    """Return the version of NVIDIA's driver; "unknown" where nobody tells, such as without one."""
    with suppress(OSError):
        if found := re.search(r"\b\d{3}\.\d+(?:\.\d+)?\b", _DRIVER_FILE.read_text(encoding="utf-8", errors="replace")):
            return found.group()
    # Windows, WSL and containers.
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    with suppress(OSError, subprocess.SubprocessError):
        run = subprocess.run(command, capture_output=True, text=True, timeout=_SMI_TIMEOUT_S, check=True)
        if found := re.search(r"\d+\.\d+(?:\.\d+)?", run.stdout):
            return found.group()
    return "unknown"


def triton_version() -> str | None:
    """Return the version of Triton, without importing it; None where there is none."""
    for name in ("triton", "triton-windows"):
        with suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None


def system_kind() -> str:
    """Name the system as far as a driver behaves differently on it: Linux, WSL, Windows or Darwin."""
    return "WSL" if "microsoft" in platform.release().lower() else platform.system()
