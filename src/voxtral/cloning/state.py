"""The state of a training as a file, so that one that is stopped goes on as if it had not been.

Tensors as safetensors and the rest as JSON in its header: nothing in a folder of work is ever unpickled. A new state
takes the place of the old one whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from voxtral.disk import temporary_beside, why
from voxtral.errors import TrainingError

STATE_FILE = "train-state.safetensors"
_FORMAT = "voxtral-train-state-1"
_REMEDY = "delete it to train from the beginning, or name another --work"


@dataclass(frozen=True)
class Standing:
    """Where a training stands, beside its weights.

    Attributes:
        decoder: digest of the decoder that it learns from.
        seed: of all chance.
        rows: of a step.
        frames: of a row.
        steps: of the whole training; another number changes the schedule.
        num_frames: of the pairs.
        step: how many have been made.
        scale: of the rate, which is halved where a loss was no number.
        retries: how often that was.
        semantic: the best share of right semantic codes of the presets so far.
        levels: the least distance of their levels.
        best_step: when one of them became better.
        seconds: that were spent.
        is_over: the training is done, or has stopped for it does not get better.
    """

    decoder: str
    seed: int
    rows: int
    frames: int
    steps: int
    num_frames: int
    step: int = 0
    scale: float = 1.0
    retries: int = 0
    semantic: float = -1.0
    levels: float = 1e9
    best_step: int = 0
    seconds: float = 0.0
    is_over: bool = False


def save_state(folder: Path, standing: Standing, tensors: Mapping[str, Tensor]) -> None:
    """Write a state beside the old one, through to the disk, and let it take its place.

    Raises:
        TrainingError: the disk refuses; the old state is as it was.
    """
    path = folder / STATE_FILE
    partial = temporary_beside(path)
    header = {"format": _FORMAT, "standing": json.dumps(asdict(standing))}
    try:
        save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, partial, header)
        with partial.open("rb") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, SafetensorError) as error:
        reason = why(error) if isinstance(error, OSError) else str(error)
        raise TrainingError(f"{path} cannot be written ({reason}); the folder of --work must have room") from error
    finally:
        partial.unlink(missing_ok=True)


def load_state(folder: Path) -> tuple[Standing, dict[str, Tensor]] | None:
    """Read a state; None where there is none.

    Raises:
        TrainingError: it is damaged, or cannot be read.
    """
    path = folder / STATE_FILE
    try:
        if not path.exists():
            return None
        opened: Any = safe_open(path, framework="pt")
        with opened as file:
            header = file.metadata() or {}
            if header.get("format") != _FORMAT:
                raise ValueError(f"its format is {header.get('format')!r}, not {_FORMAT!r}")
            standing = _parse_standing(json.loads(header["standing"]))
            return standing, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path} is damaged ({error}); {_REMEDY}") from error
    except OSError as error:
        raise TrainingError(f"{path} cannot be read ({why(error)}); check its permissions and the disk") from error


def _parse_standing(data: Any) -> Standing:
    standing = Standing(**data)
    for field in fields(Standing):
        value, kind = getattr(standing, field.name), type(field.default) if field.name not in _WITHOUT_DEFAULT else None
        kind = kind or _WITHOUT_DEFAULT[field.name]
        if type(value) is not kind:
            raise TypeError(f"{field.name} is {value!r}")
    return standing


_WITHOUT_DEFAULT = {"decoder": str, "seed": int, "rows": int, "frames": int, "steps": int, "num_frames": int}


def name_optimiser_tensors(optimisers: Sequence[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Give what optimisers remember names; rates and the like are no part of it."""
    return {
        f"optimiser.{number}.{index}.{key}": torch.as_tensor(value)
        for number, optimiser in enumerate(optimisers)
        for index, kept in optimiser.state_dict()["state"].items()
        for key, value in kept.items()
    }


def restore_optimisers(optimisers: Sequence[torch.optim.Optimizer], tensors: Mapping[str, Tensor]) -> None:
    """Give optimisers back what `name_optimiser_tensors` named.

    Raises:
        TrainingError: it is of other optimisers, as another version of torch has them.
    """
    kept: list[dict[int, dict[str, Tensor]]] = [{} for _ in optimisers]
    try:
        for name, value in tensors.items():
            if name.startswith("optimiser."):
                _, number, index, key = name.split(".", 3)
                kept[int(number)].setdefault(int(index), {})[key] = value
        for optimiser, state in zip(optimisers, kept, strict=True):
            _check_shapes(optimiser, state)
            optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    except (ValueError, IndexError, KeyError) as error:
        raise TrainingError(
            f"the state is of other optimisers ({error}); go on with the version of torch that it was made with, or "
            f"delete {STATE_FILE}"
        ) from error


def _check_shapes(optimiser: torch.optim.Optimizer, state: Mapping[int, Mapping[str, Tensor]]) -> None:
    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
    if state and set(state) != set(range(len(parameters))):
        raise ValueError(f"{len(state)} of {len(parameters)} tensors")
    for index, kept in state.items():
        for key, value in kept.items():
            if value.ndim and value.shape != parameters[index].shape:
                raise ValueError(f"{key} of the shape {list(value.shape)}")
