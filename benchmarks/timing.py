"""Timing of single operations: in turn, so that whatever slows the machine down slows down all of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.report import synchronize
from voxtral.bench import Spread

# On a GPU an operation is repeated until this much time is between two waits for the device.
_LEAST_SECONDS = 2e-3


def time_in_turn(ways: dict[str, Callable[[], Any]], device: torch.device, num_rounds: int) -> dict[str, Spread]:
    """Time each way once a round, after two rounds that do not count; seconds for one call.

    Args:
        ways: what to call, by name.
        device: that they run on.
        num_rounds: at least 1.
    """
    repeats = {name: _repeats(way, device) for name, way in ways.items()}
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(num_rounds + 1):
        for name, way in ways.items():
            seconds = _seconds(way, device, repeats[name])
            if number > 0:
                times[name].append(seconds)
    return {name: Spread.of(values) for name, values in times.items()}


def captured(function: Callable[[], Any], device: torch.device) -> Callable[[], Any]:
    """Capture a function into a CUDA graph and give its replay; on another device give the function back.

    Its inputs and outputs are the tensors that it names; it must not wait for the device.
    """
    if device.type != "cuda":
        return function
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(3):
            function()
    torch.cuda.current_stream(device).wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        function()
    return graph.replay


def _repeats(way: Callable[[], Any], device: torch.device) -> int:
    _seconds(way, device, 1)
    return max(1, min(100, round(_LEAST_SECONDS / _seconds(way, device, 1))))


def _seconds(way: Callable[[], Any], device: torch.device, num_repeats: int) -> float:
    synchronize(device)
    started = time.perf_counter()
    for _ in range(num_repeats):
        way()
    synchronize(device)
    return (time.perf_counter() - started) / num_repeats
