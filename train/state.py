"""What a stage needs to go on as if it had not been stopped, in one file that is there whole or not at all.

Tensors as safetensors, numbers in the header. Whatever ends a process, the file is that of the last save.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from voxtral.cloning.state import name_optimiser_tensors, restore_optimisers


def save_state(
    path: Path,
    numbers: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    optimisers: Sequence[torch.optim.Optimizer] = (),
) -> None:
    """Write a state through to the disk, and let it take the place of the old one."""
    partial = path.with_suffix(".partial")
    everything = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    everything |= {name: value.cpu().contiguous() for name, value in name_optimiser_tensors(optimisers).items()}
    save_file(everything, partial, {"numbers": json.dumps(dict(numbers))})
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)


def load_state(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Read a state; None where there is none."""
    if not path.is_file():
        return None
    opened: Any = safe_open(path, framework="pt")
    with opened as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
        return json.loads(file.metadata()["numbers"]), tensors


def take(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Take the tensors under a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


__all__ = ["load_state", "restore_optimisers", "save_state", "take"]
