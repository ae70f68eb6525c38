"""What a training would take on this machine: a few seconds of speaking, and a few steps."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from voxtral.cloning.distil import Distiller, Pairs, draw_step
from voxtral.cloning.generate import ItemSource, SpeakingModel
from voxtral.cloning.plan import MemoryNeed, RunSize, fixed_bytes
from voxtral.cloning.start import make_optimisers

_POLL_S = 0.02


@dataclass(frozen=True)
class TrainingCost:
    """Seconds of a step.

    Attributes:
        plain: of one that compares codes alone.
        sounding: of one that compares sound, too.
    """

    plain: float
    sounding: float

    def total(self, steps: int, share_without_sound: float = 0.6) -> float:
        """Seconds of a whole training."""
        return steps * (self.plain * share_without_sound + self.sounding * (1 - share_without_sound))


def generation_speed(model: SpeakingModel, source: ItemSource, seconds: float) -> float:
    """Measure how many frames a second a model makes, as many side by side as it can; prompts are part of the time."""
    started = time.monotonic()
    items = (source.item(0, number) for number in range(10**6))
    handles = [model.submit(next(items))[0] for _ in range(model.engine.max_batch)]
    done = 0
    try:
        while time.monotonic() - started < seconds:
            time.sleep(_POLL_S)
            for number, handle in enumerate(handles):
                if handle.is_done:
                    done += handle.stats.num_frames
                    handles[number] = model.submit(next(items))[0]
        elapsed = time.monotonic() - started
        return (done + sum(handle.stats.num_frames for handle in handles)) / elapsed
    finally:
        for handle in handles:
            handle.cancel()


def measure_rows(distiller: Distiller, pairs: Pairs, size: RunSize) -> MemoryNeed:
    """Measure what one row keeps for its gradient; what does not depend on rows is reckoned."""
    parameters = sum(parameter.numel() for parameter in distiller.encoder.parameters())
    decoder = sum(value.nbytes for value in distiller.decoder.state_dict().values())
    known = {value.data_ptr() for value in (*distiller.parameters(), *distiller.buffers())}
    seen: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        _run_step(distiller, pairs, size, rows=1, at_once=1, sounds=True)
    return MemoryNeed(fixed_bytes(parameters, decoder), sum(seen.values()))


def training_cost(distiller: Distiller, pairs: Pairs, size: RunSize, at_once: int, seconds: float) -> TrainingCost:
    """Measure the seconds of steps; where a whole one would take too long, a row of it, times its rows."""
    optimisers = make_optimisers(distiller.encoder, 0.0)
    spent = [_best_time(distiller, pairs, size, at_once, sounds, seconds / 2) for sounds in (False, True)]
    started = time.perf_counter()
    for optimiser in optimisers:
        optimiser.step()
    updating = time.perf_counter() - started
    return TrainingCost(spent[0] + updating, spent[1] + updating)


def _best_time(distiller: Distiller, pairs: Pairs, size: RunSize, at_once: int, sounds: bool, seconds: float) -> float:
    begun = time.perf_counter()
    _run_step(distiller, pairs, size, rows=1, at_once=1, sounds=sounds)  # what the first one prepares is left out
    one = _run_step(distiller, pairs, size, rows=1, at_once=1, sounds=sounds)
    best = one * size.rows
    while time.perf_counter() - begun + best < seconds:
        best = min(best, _run_step(distiller, pairs, size, rows=size.rows, at_once=at_once, sounds=sounds))
    return best


def _run_step(distiller: Distiller, pairs: Pairs, size: RunSize, *, rows: int, at_once: int, sounds: bool) -> float:
    started = time.perf_counter()
    extra = distiller.num_extra
    draw = np.random.default_rng(0)
    step = draw_step(pairs, distiller.config, draw, rows=rows, frames=size.frames, extra=extra, sounds=sounds)
    # Its numbers come to the CPU, which waits for the device.
    distiller.add_gradients(step, at_once)
    return time.perf_counter() - started
