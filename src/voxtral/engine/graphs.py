"""Captures, and frames in static buffers: on CUDA each size of a step is captured once and replayed as one graph.

A captured frame is one launch where the plain one is about three hundred; all that changes from step to step is in one
buffer, which is copied before. A capture may fail, and nobody hears of it: the same step is computed eagerly in the
same call, that size is never captured again, and one warning says so. Without a recorder the static step simply runs,
so that it can be tested anywhere.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar

import torch

from voxtral.engine.frame import FrameOutputs
from voxtral.engine.inputs import FrameInputs
from voxtral.engine.options import EngineOptions
from voxtral.engine.paths import Paths
from voxtral.model.kernels.dispatch import one_line
from voxtral.switches import is_switched_off

_log = logging.getLogger(__name__)

# Rows that a graph may have; a step takes the next size up.
_BUCKETS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256)

# Runs before capture, so that libraries have chosen their algorithms and workspaces.
_WARM_UP_RUNS = 3

# From this version of torch on, a capture that failed leaves nothing behind. Before, its allocator believes that the
# capture is still under way, and the next one ends the process (pytorch/pytorch#180395).
_TORCH_FORGETS_CAPTURES = (2, 12)


def bucket_for(num_rows: int, max_batch: int) -> int:
    """Choose the number of rows that a step is filled up to.

    >>> [bucket_for(rows, 40) for rows in (1, 5, 32, 33, 40)]
    [1, 8, 32, 40, 40]
    """
    return next((size for size in _BUCKETS if num_rows <= size < max_batch), max_batch)


def buckets_up_to(max_batch: int) -> list[int]:
    """List all numbers of rows that steps are filled up to, the largest first.

    Largest first, because all graphs share one pool of memory: it then has the size of the largest, not of the sum.

    >>> buckets_up_to(10)
    [10, 8, 4, 2, 1]
    """
    return sorted({bucket_for(rows, max_batch) for rows in range(1, max_batch + 1)}, reverse=True)


class CaptureState:
    """What a process knows of captures: one at a time, and none any more after some failures."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.refusal: str | None = None  # why nothing is captured any more


# Captures are the process's own: two at once disturb each other, whatever their devices.
CAPTURES: Final = CaptureState()


def capture_refusal() -> str | None:
    """Say why nothing is captured any more in this process; None where captures may be tried."""
    return CAPTURES.refusal


class CaptureError(Exception):
    """A computation was not captured; it can be made eagerly."""


def tell_of_capture(paths: Paths, reason: str) -> None:
    """Say that a size is launched eagerly; if nothing will be captured any more, that is a closed path."""
    if CAPTURES.refusal is not None:
        paths.close("graphs", reason)
    elif paths.is_open("graphs"):
        _log.warning("voxtral: one size of CUDA graph was not captured (%s) and is launched eagerly", reason)


_Outputs = TypeVar("_Outputs")


@dataclass(frozen=True, eq=False)
class Recording(Generic[_Outputs]):
    """A captured computation: what replays it, and the buffers that it then fills."""

    replay: Callable[[], None]
    outputs: _Outputs


class Recorder(Protocol):
    """What captures a computation; `CudaRecorder`, and others in tests."""

    def record(self, compute: Callable[[], _Outputs]) -> Recording[_Outputs]:
        """Capture a computation.

        Raises:
            CaptureError: it did not work.
        """
        ...


class CudaRecorder:
    """Captures on a stream of its own, into one pool of memory: its graphs never run at once.

    The stream is its own because `torch.cuda.graph` otherwise takes one of the whole process, which belongs to the
    first GPU that anybody captured on; and because libraries keep a workspace for each stream they ever saw.

    Args:
        device: a CUDA device.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._stream: torch.cuda.Stream | None = None
        self._pool: Any = None
        self._graphs: weakref.WeakSet[torch.cuda.CUDAGraph] = weakref.WeakSet()  # that live in the pool

    def record(self, compute: Callable[[], _Outputs]) -> Recording[_Outputs]:
        """See Recorder."""
        with CAPTURES.lock:
            if CAPTURES.refusal is not None:
                raise CaptureError(CAPTURES.refusal)
            has_begun = False
            try:
                stream = self._warm_up(compute)
                graph = torch.cuda.CUDAGraph()
                if not self._graphs:
                    self._pool = None  # torch takes no pool again whose graphs are all gone
                has_begun = True
                # `torch.cuda.graph` does not restore the current stream when it fails; the outer context does.
                with (
                    torch.cuda.stream(stream),
                    torch.cuda.graph(graph, pool=self._pool, stream=stream, capture_error_mode="thread_local"),
                ):
                    outputs = compute()
                if self._pool is None:
                    self._pool = graph.pool()
                self._graphs.add(graph)
                return Recording(graph.replay, outputs)
            # Whatever it is: there is another way. The error itself is not kept, for it holds everything alive.
            except Exception as error:  # noqa: BLE001
                _log.debug("a capture failed", exc_info=error)
                # Graphs that are there keep theirs; what a failure leaves of it is uncertain.
                self._pool = None
                self._graphs.clear()
                reason = one_line(f"capture failed: {type(error).__name__}: {error}")
                # A smaller size may fit; whatever else failed will fail again.
                is_short = isinstance(error, torch.OutOfMemoryError)
            if not is_short or (has_begun and _torch_version() < _TORCH_FORGETS_CAPTURES):
                CAPTURES.refusal = reason
            raise CaptureError(reason)

    def _warm_up(self, compute: Callable[[], object]) -> torch.cuda.Stream:
        if self._stream is None:
            self._stream = torch.cuda.Stream(self._device)
        current = torch.cuda.current_stream(self._device)
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            for _ in range(_WARM_UP_RUNS):
                compute()
        current.wait_stream(self._stream)
        return self._stream


def usual_recorder(device: torch.device, options: EngineOptions) -> Recorder | None:
    """Make what captures on a device; None where nothing is to be captured."""
    if device.type != "cuda" or options.cuda_graphs is False or is_switched_off("cuda_graphs"):
        return None
    return CudaRecorder(device)


def _torch_version() -> tuple[int, int]:
    major, minor = torch.__version__.split(".")[:2]
    return int(major), int(minor)


@dataclass(eq=False)
class _StaticFrame:
    inputs: FrameInputs
    recording: Recording[FrameOutputs] | None = None


@dataclass(eq=False)
class FrameGraphs:
    """The static frames of one flow schedule, made as they are needed.

    It must not be held by what `compute` and `blank` hold: keys, values and graphs would live until Python looks for
    cycles.

    Attributes:
        compute: makes a frame from inputs on the device; static shapes, no waiting.
        blank: makes the inputs of so many rows and blocks that nobody looks at, in CPU memory.
        device: where it runs.
        recorder: captures; None computes eagerly.
        on_failure: gets the reason of a capture that failed.
    """

    compute: Callable[[FrameInputs], FrameOutputs]
    blank: Callable[[int, int], FrameInputs]
    device: torch.device
    recorder: Recorder | None = None
    on_failure: Callable[[str], None] = _log.warning
    _frames: dict[tuple[int, int], _StaticFrame] = field(default_factory=dict[tuple[int, int], _StaticFrame])

    def run(self, inputs: FrameInputs) -> FrameOutputs:
        """Make one frame.

        Args:
            inputs: in CPU memory, pinned for CUDA; sizes of which there are few.

        Returns:
            Outputs of their own, that the next step does not touch. On CUDA they are there when the device is.
        """
        frame = self._frame_for(inputs.num_rows, inputs.num_blocks)
        frame.inputs.copy_(inputs)
        if frame.recording is None:
            return self.compute(frame.inputs)
        frame.recording.replay()
        return frame.recording.outputs.clone()

    def prepare(self, num_rows: int, num_blocks: int) -> bool:
        """Make and capture the frame of a size; tells whether it is captured."""
        return self._frame_for(num_rows, num_blocks).recording is not None

    @property
    def sizes(self) -> dict[tuple[int, int], bool]:
        """Rows and blocks of each size that is there, and whether it is captured."""
        return {size: frame.recording is not None for size, frame in self._frames.items()}

    def _frame_for(self, num_rows: int, num_blocks: int) -> _StaticFrame:
        frame = self._frames.get((num_rows, num_blocks))
        if frame is None:
            frame = _StaticFrame(self.blank(num_rows, num_blocks).to(self.device))
            if self.recorder is not None:
                try:
                    frame.recording = self.recorder.record(partial(self.compute, frame.inputs))
                except CaptureError as error:
                    # Once: from here on this size has a frame without a recording.
                    self.on_failure(str(error))
            self._frames[num_rows, num_blocks] = frame
        return frame
