"""Stages for tests; in a module of their own, since the processes of a stage import it by name."""

from __future__ import annotations

from pathlib import Path

import torch

from train.loop import Standing, StepClock, World, save_weights


def average_and_share(world: World, folder: Path) -> None:
    """Start each process with other numbers; write what they have in the end."""
    averaged, scalar = torch.tensor([[1.0, 2.0]]) + world.rank, torch.tensor(10.0 + 10 * world.rank)
    world.average([averaged, scalar])
    shared = torch.full((2,), float(world.rank))
    world.share([shared])
    clock = StepClock(world, 100.0, None, Standing(seconds=50.0 if world.is_first else 1e6))
    progress = torch.tensor(clock.progress())
    tensors = {"averaged": averaged, "scalar": scalar, "shared": shared, "progress": progress}
    save_weights(folder / f"{world.rank}.safetensors", tensors)
