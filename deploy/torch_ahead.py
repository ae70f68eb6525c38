"""Say, before pip is asked for torch, that gigabytes will come, why, and how to do with less.

The Makefile calls it with its goal and the words of PIP_ARGS. It installs nothing, and says nothing where torch is
there already or comes without CUDA. It runs before anything is installed, so it needs pip alone.
"""

from __future__ import annotations

import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

CONSTRAINTS = Path(__file__).parents[1] / "constraints.txt"

# Of torch 2.13.0 and what it wants of nvidia, for x86_64, and of its CPU build.
CUDA_GB = 2.7
CPU_GB = 0.2

CPU_INDEX = "https://download.pytorch.org/whl/cpu"

NOTICE = """\
torch {version} is not in this environment yet, and pip will take its build for CUDA: about {cuda_gb} GB to download,
twice as much on disk, some minutes. PyPI has no other for Linux, with or without an NVIDIA GPU. Where there is no such
GPU, the CPU build does the same in {cpu_gb} GB. To take that, stop this (Ctrl-C) and say

    make {goal} PIP_ARGS="--extra-index-url {cpu_index}"

"""


def pinned_version() -> str:
    """Read which torch the constraints want."""
    [version] = re.findall(r"^torch==(\S+)$", CONSTRAINTS.read_text(encoding="utf-8"), re.MULTILINE)
    return version


def is_installed(version: str) -> bool:
    """Tell whether this very version is there, in whatever build: pip would leave it alone."""
    try:
        return metadata.version("torch").partition("+")[0] == version
    except metadata.PackageNotFoundError:
        return False


def comes_with_cuda(version: str, pip_args: tuple[str, ...]) -> bool:
    """Ask pip's indexes and folders, without a download, whether it would take another build than the CPU's.

    Where pip does not know, the answer is yes: better said in vain than minutes of silence.
    """
    if sys.platform != "linux":
        return False  # PyPI's builds for other systems have no CUDA
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "index", "versions", "torch", *pip_args]
    listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    offered: list[str] = re.findall(rf"(?<![\w.]){re.escape(version)}(?:\+(\w[\w.]*))?(?![\w.+])", listed)
    # Of several builds of one version pip takes the one whose label sorts last; none sorts before all.
    return max(offered, default="") != "cpu"


def main(goal: str, *pip_args: str) -> None:
    """Print the notice, or nothing.

    Args:
        goal: what make was asked for.
        pip_args: what it adds to `pip install`.
    """
    version = pinned_version()
    if is_installed(version) or not comes_with_cuda(version, pip_args):
        return
    notice = NOTICE.format(version=version, cuda_gb=CUDA_GB, cpu_gb=CPU_GB, cpu_index=CPU_INDEX, goal=goal or "speak")
    sys.stdout.write(notice)


if __name__ == "__main__":
    main(*sys.argv[1:])
