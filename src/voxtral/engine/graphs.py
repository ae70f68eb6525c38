"""Frames in static buffers: on CUDA each number of rows is captured once and replayed as one graph.

A captured frame is one launch where the plain one is about a thousand; all that changes from step to step is
copied into its inputs before. Elsewhere the same static step simply runs, so that it can be tested anywhere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch

from voxtral.engine.frame import FrameInputs, FrameOutputs

# Rows that a graph may have; a step takes the next size up.
_BUCKETS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)

# Runs before capture, so that libraries have chosen their algorithms and workspaces.
_WARM_UP_RUNS = 3


def bucket_for(num_rows: int, max_batch: int) -> int:
    """Choose the number of rows that a step is filled up to.

    >>> [bucket_for(rows, 40) for rows in (1, 5, 32, 33, 40)]
    [1, 8, 32, 40, 40]
    """
    return next((size for size in _BUCKETS if num_rows <= size < max_batch), max_batch)


@dataclass(eq=False)
class _StaticFrame:
    inputs: FrameInputs
    outputs: FrameOutputs | None = None
    graph: torch.cuda.CUDAGraph | None = None


@dataclass(eq=False)
class FrameGraphs:
    """The static frames of one flow schedule, made as they are needed.

    Attributes:
        compute: makes a frame from inputs on the device; static shapes, no waiting.
        blank: makes the inputs of so many rows that nobody looks at, in CPU memory.
        device: where it runs.
    """

    compute: Callable[[FrameInputs], FrameOutputs]
    blank: Callable[[int], FrameInputs]
    device: torch.device
    _frames: dict[int, _StaticFrame] = field(default_factory=dict[int, _StaticFrame])
    _pool: Any = None  # one pool of memory for all graphs: they never run at once

    def run(self, inputs: FrameInputs) -> FrameOutputs:
        """Make one frame.

        Args:
            inputs: in CPU memory, pinned for CUDA; a fixed number of rows and blocks for each size.

        Returns:
            Outputs of their own, that the next step does not touch. On CUDA they are there when the device is.
        """
        frame = self._frames.get(inputs.num_rows)
        if frame is None:
            frame = self._frames[inputs.num_rows] = _StaticFrame(self.blank(inputs.num_rows).to(self.device))
            if self.device.type == "cuda":
                self._capture(frame)
        frame.inputs.copy_(inputs)
        if frame.graph is None or frame.outputs is None:
            return self.compute(frame.inputs)
        frame.graph.replay()
        return frame.outputs.clone()

    def _capture(self, frame: _StaticFrame) -> None:
        side = torch.cuda.Stream(self.device)
        side.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP_RUNS):
                self.compute(frame.inputs)
        torch.cuda.current_stream(self.device).wait_stream(side)
        frame.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(frame.graph, pool=self._pool, capture_error_mode="thread_local"):
            frame.outputs = self.compute(frame.inputs)
        if self._pool is None:
            self._pool = frame.graph.pool()
