"""What the training stages share: processes that average gradients, a clock, weights-only checkpoints.

One process for each core with one thread each: two threads in one process lose to it whenever anything
else runs. State is passed; a stage that is stopped loses what came after its last checkpoint.
"""

from __future__ import annotations

import argparse
import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as distributed
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.multiprocessing.spawn import spawn

T = TypeVar("T")

_MEAN_ORDER = 5.0
_LONGEST_STEP_SECONDS = 20.0


@dataclass(frozen=True)
class World:
    """The processes of one stage; rank 0 reports and saves."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process reports and saves."""
        return self.rank == 0

    def average(self, tensors: Iterable[Tensor]) -> None:
        """Replace each tensor by its mean over the processes, in one exchange."""
        if self.size == 1:
            return
        parts = list(tensors)
        flat = torch.cat([part.reshape(-1) for part in parts])
        distributed.all_reduce(flat)
        flat /= self.size
        start = 0
        for part in parts:
            part.copy_(flat[start : start + part.numel()].view_as(part))
            start += part.numel()

    def share(self, tensors: Iterable[Tensor]) -> None:
        """Give every process what the first one has."""
        if self.size > 1:
            for tensor in tensors:
                distributed.broadcast(tensor, 0)


@dataclass
class Standing:
    """Where a run stands that goes on where it was stopped, beside its tensors.

    Attributes:
        step: how many have been made.
        seconds: that they took.
        mean_steps: that are in the running mean.
        skip: share of the curriculum that was behind at the start.
        held: parts of the corpus that are kept from training.
    """

    step: int = 0
    seconds: float = 0.0
    mean_steps: int = 0
    skip: float = 0.0
    held: list[str] = field(default_factory=list[str])


class StepClock:
    """How much of a run that may be stopped and goes on is behind; all processes see the same.

    What a process spends stopped between two steps is not counted.

    Args:
        world: all processes.
        seconds: of the run.
        num_steps: of the run, in place of seconds.
        standing: counts steps and seconds.
    """

    def __init__(self, world: World, seconds: float, num_steps: int | None, standing: Standing) -> None:
        self.standing = standing
        self._world = world
        self._seconds = seconds
        self._num_steps = num_steps
        self._counted = time.monotonic()
        self._told: dict[str, float] = {}

    def progress(self) -> float:
        """Fraction of the run that is behind; 1 or more ends it."""
        if self._num_steps is not None:
            return self.standing.step / self._num_steps
        now = torch.tensor(self.standing.seconds / self._seconds)
        self._world.share([now])
        return float(now)

    def count(self) -> None:
        """Count a step, and what it took."""
        now = time.monotonic()
        self.standing.step += 1
        self.standing.seconds += min(now - self._counted, _LONGEST_STEP_SECONDS)
        self._counted = now

    def is_time(self, what: str, seconds: float) -> bool:
        """Tell every so many seconds that it is time for something."""
        now = time.monotonic()
        if now - self._told.setdefault(what, now) < seconds:
            return False
        self._told[what] = now
        return True


def cosine(progress: float, step: int, *, warmup: int = 100, floor: float = 0.03) -> float:
    """Scale of the learning rate: a linear start, then half a cosine down to `floor`."""
    return min(1.0, (step + 1) / warmup) * (0.5 * (1 + math.cos(math.pi * min(1.0, progress))) * (1 - floor) + floor)


def trapezoid(progress: float, step: int, *, warmup: int = 100, decay: float = 0.4, floor: float = 0.03) -> float:
    """Scale of the learning rate: a linear start, a plateau, and a linear end over the last `decay`."""
    return min(1.0, (step + 1) / warmup) * (min(1.0, max(0.0, 1 - progress) / decay) * (1 - floor) + floor)


class RunningMean:
    """The mean of weights over about the last fifth of the steps: as good as a rate that falls, at any time.

    Args:
        parameters: what is trained; the mean starts from them.
    """

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        self._parameters = list(parameters)
        self._means = [parameter.detach().clone() for parameter in self._parameters]
        self._num_steps = 0

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after a step."""
        self._num_steps += 1
        share = _MEAN_ORDER / (self._num_steps + _MEAN_ORDER)
        for mean, parameter in zip(self._means, self._parameters, strict=True):
            mean.lerp_(parameter, share)

    @property
    def means(self) -> list[Tensor]:
        """The mean of each weight."""
        return self._means

    @property
    def num_steps(self) -> int:
        """How many steps are in it."""
        return self._num_steps

    def restore(self, means: Sequence[Tensor], num_steps: int) -> None:
        """Go on from the means of so many steps."""
        for mean, value in zip(self._means, means, strict=True):
            mean.copy_(value)
        self._num_steps = num_steps

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the mean in place of the weights for a while."""
        trained = [parameter.detach().clone() for parameter in self._parameters]
        self._copy(self._means)
        try:
            yield
        finally:
            self._copy(trained)

    @torch.no_grad()
    def _copy(self, source: list[Tensor]) -> None:
        for parameter, value in zip(self._parameters, source, strict=True):
            parameter.copy_(value)


def group_by_length(items: Iterable[T], length: Callable[[T], int], limit: float) -> list[list[T]]:
    """Cut items, sorted by length, into batches that stay below `limit` when they are padded to their longest."""
    groups: list[list[T]] = [[]]
    for item in items:
        if groups[-1] and (len(groups[-1]) + 1) * length(item) > limit:
            groups.append([])
        groups[-1].append(item)
    return groups


def save_weights(path: Path, weights: dict[str, Tensor]) -> None:
    """Write a checkpoint; a reader never sees half of one."""
    partial = path.with_suffix(".partial")
    save_file({name: tensor.detach().contiguous().cpu() for name, tensor in weights.items()}, partial)
    os.replace(partial, path)


def load_weights(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint."""
    return load_file(path)


def add_length_options(parser: argparse.ArgumentParser, minutes: float) -> None:
    """Add how long a stage trains, and in how many processes."""
    parser.add_argument("--minutes", type=float, default=minutes)
    parser.add_argument("--steps", type=int, help="train for so many steps in place of minutes")
    parser.add_argument("--processes", type=int, default=2)


def add_mean_option(parser: argparse.ArgumentParser) -> None:
    """Add the choice of a run that may be stopped at any time."""
    parser.add_argument(
        "--mean",
        action="store_true",
        help="keep the rate and save the running mean of the weights, to stop at any time",
    )


def run(stage: Callable[..., None], num_processes: int, *arguments: Any) -> None:
    """Run `stage(world, *arguments)` in every process; on a GPU there is one."""
    _silence_warnings()
    if torch.cuda.is_available():
        stage(World(0, 1, torch.device("cuda")), *arguments)
        return
    if num_processes == 1:
        _prepare_process()
        try:
            stage(World(0, 1, torch.device("cpu")), *arguments)
        finally:
            torch.set_flush_denormal(False)
        return
    spawn(_enter, args=(num_processes, _free_port(), stage, arguments), nprocs=num_processes)


def _enter(rank: int, size: int, port: int, stage: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    _silence_warnings()
    _prepare_process()
    distributed.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=size)
    stage(World(rank, size, torch.device("cpu")), *arguments)
    distributed.destroy_process_group()


def _silence_warnings() -> None:
    # numpy notices that denormals are flushed.
    warnings.filterwarnings("ignore", message="The value of the smallest subnormal")
    # Autocast keeps the gains of norms in float32, as it should; torch says that it has no fused kernel for it.
    warnings.filterwarnings("ignore", message="Mismatch dtype between input and weight")


def _prepare_process() -> None:
    torch.set_num_threads(1)
    # Digital silence makes denormals, which are a hundred times slower.
    torch.set_flush_denormal(True)


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
