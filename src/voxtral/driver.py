"""Whether an NVIDIA GPU is in this machine, for the case that torch sees none: the driver tells without torch.

It says what is there and what would have to change; what is done about it is `voxtral.device`'s affair. No torch.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_KERNEL_MODULE = Path("/proc/driver/nvidia/version")
# In WSL the tool is there and not on every PATH.
_WSL_TOOL = Path("/usr/lib/wsl/lib/nvidia-smi")
_TOOL_TIMEOUT_S = 10.0

# The first driver for each major version of CUDA. Source: NVIDIA's release notes of the CUDA toolkit, "minor version
# compatibility".
_LEAST_DRIVERS = {11: 450, 12: 525, 13: 580}


@dataclass(frozen=True)
class Driver:
    """What the driver says.

    Attributes:
        gpu: name of the first GPU; "an NVIDIA GPU" where only the driver is known.
        version: such as 550.54.14, or empty.
    """

    gpu: str
    version: str

    def __str__(self) -> str:
        """Write both."""
        return f"{self.gpu}, driver {self.version}" if self.version else self.gpu

    def is_too_old_for(self, cuda: str) -> bool:
        """Tell whether a torch that was built for this version of CUDA needs a newer driver.

        >>> Driver("NVIDIA GeForce RTX 3060", "550.54.14").is_too_old_for("13.0")
        True
        """
        major = int(cuda.partition(".")[0])
        return self.version != "" and int(self.version.partition(".")[0]) < _LEAST_DRIVERS.get(major, 0)


@cache
def find_driver() -> Driver | None:
    """Ask once in this process; None where there is no sign of an NVIDIA GPU."""
    tool = shutil.which("nvidia-smi") or (str(_WSL_TOOL) if _WSL_TOOL.exists() else None)
    if tool is not None:
        told = _ask(tool)
        if told is not None:
            return told
    version = _module_version()
    return None if version is None else Driver("an NVIDIA GPU", version)


@cache
def driver_version() -> str:
    """Return the version of NVIDIA's driver; "unknown" where nobody tells, such as without one."""
    # A program is started only where the kernel does not tell: on Windows, in WSL and in some containers.
    version = _module_version()
    if not version and (driver := find_driver()) is not None:
        version = driver.version
    return version or "unknown"


def _module_version() -> str | None:
    """Read what the kernel module says of itself: empty where that is no version, None where there is no module."""
    try:
        match = re.search(r"\b(\d{3}(?:\.\d+)+)\b", _KERNEL_MODULE.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return match[1] if match else ""


def _ask(tool: str) -> Driver | None:
    words = [tool, "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=_TOOL_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    name, _, version = done.stdout.partition("\n")[0].rpartition(",")
    return Driver(name.strip(), version.strip()) if re.fullmatch(r"[\d.]+", version.strip()) else None


def explain_absence(torch_cuda: str | None) -> str | None:
    """Say why torch sees no GPU although one is there, and what to do; None where there is none.

    Args:
        torch_cuda: the version of CUDA that torch was built for; None for a build without.
    """
    driver = find_driver()
    if driver is None:
        return None
    if torch_cuda is None:
        return (
            f"a GPU is there ({driver}), and this torch is built for the CPU only; install a CUDA build of torch "
            "(docs/GPU.md says how)"
        )
    if driver.is_too_old_for(torch_cuda):
        least = _LEAST_DRIVERS[int(torch_cuda.partition(".")[0])]
        return (
            f"a GPU is there ({driver}), and this torch is built for CUDA {torch_cuda}, which needs driver {least} or "
            "newer; update the driver, or install a torch for an older CUDA (docs/GPU.md says how)"
        )
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        return f"a GPU is there ({driver}), and CUDA_VISIBLE_DEVICES is {hidden!r}, which shows torch none; correct it"
    return (
        f"a GPU is there ({driver}), and torch for CUDA {torch_cuda} cannot use it; "
        '`python -c "import torch; torch.zeros(1).cuda()"` says why'
    )
