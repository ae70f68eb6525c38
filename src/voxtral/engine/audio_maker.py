"""From frames to samples in static shapes: the states of all streams in one tensor, and a graph for each size of call.

What `frame_maker` and `graphs` are to frames, this is to audio. A call has as many frames of each row as a chunk may
have, and one of a few numbers of rows; it is filled up with rows that nobody hears. What changes from call to call is
one copy from the host: whose states are read and written, and where the frames lie; and a second one where the codec
draws noise. Read next:
`voxtral.model.codec_step`, which computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from voxtral.config import NUM_SPECIAL_CODES
from voxtral.engine.graphs import (
    CaptureError,
    Recorder,
    Recording,
    bucket_for,
    buckets_up_to,
    capture_refusal,
    tell_of_capture,
)
from voxtral.engine.options import EngineOptions
from voxtral.engine.paths import Paths
from voxtral.engine.row import FrameTokens
from voxtral.model.codec_protocol import NoiseKey, StaticCodec, StreamState

# Samples [rows, S] float32, and whether those of each row are all finite.
Audio = tuple[Tensor, Tensor]


@dataclass(frozen=True, eq=False)
class Part:
    """What one row gives to a call."""

    slot: int
    num_before: int  # frames that the row has had
    frames: Sequence[FrameTokens]  # at least one, at most those of the call
    noise_key: NoiseKey = (0, 0)


@dataclass(frozen=True, eq=False)
class _Buffers:
    """Inputs of one size of call, on the device, and its capture."""

    plan: Tensor  # int64: slots to read, slots to write, frames before, of each row; then places of frames
    tokens: Tensor  # [rows, T, K] int64
    noise: Tensor  # [rows, N] float32; N is 0 where the codec draws none
    num_rows: int

    @property
    def reads(self) -> Tensor:
        """Slots to read, [rows]."""
        return self.plan[: self.num_rows]

    @property
    def writes(self) -> Tensor:
        """Slots to write, [rows]."""
        return self.plan[self.num_rows : 2 * self.num_rows]

    @property
    def before(self) -> Tensor:
        """Frames that each row has had, [rows]."""
        return self.plan[2 * self.num_rows : 3 * self.num_rows]

    @property
    def places(self) -> Tensor:
        """Where each frame is among those of the steps that made them, [rows * T]."""
        return self.plan[3 * self.num_rows :]


@dataclass(frozen=True, eq=False)
class _Call:
    """The computation. It knows nothing of the graphs that hold it."""

    codec: StaticCodec
    states: Tensor  # [slots + 2, width]

    def __call__(self, buffers: _Buffers) -> Audio:
        """Decode, and renew the states."""
        packed = self.states.index_select(0, buffers.reads)
        samples, renewed = self.codec(buffers.tokens, packed, buffers.before, buffers.noise)
        # The largest magnitude; what is no number stays none, and is not below infinity.
        is_finite = samples.abs().amax(dim=1) < torch.inf
        # Last, so that a call that fails has changed nothing.
        self.states.index_copy_(0, buffers.writes, renewed)
        return samples, is_finite


class AudioMaker:
    """Makes samples of the rows that have a slot, on the engine's thread.

    Args:
        codec: on its device.
        options: of chunks and of what may be decoded together.
        device: of the codec and of the frames.
        max_batch: slots, and rows of a call at most.
        num_codebooks: K.
        paths: which ways are open; "graphs" is closed where nothing can be captured.
        recorder: captures; None launches each operation. Not that of the frames, whose graphs run at the same time.
    """

    def __init__(
        self,
        codec: StaticCodec,
        options: EngineOptions,
        device: torch.device,
        max_batch: int,
        num_codebooks: int,
        paths: Paths | None = None,
        recorder: Recorder | None = None,
    ) -> None:
        self._device = device
        self._max_batch = max_batch
        self._num_codebooks = num_codebooks
        self._paths = paths or Paths(str(device))
        self._recorder = recorder
        self._takes_one = options.batch_invariant
        self._sizes = sorted(set(options.chunk_frames))
        self._free_slots = list(range(max_batch - 1, -1, -1))
        # Behind the slots of rows: one that rows without a past read, and one that rows that only fill up write.
        self._blank, self._scratch = max_batch, max_batch + 1
        states = torch.zeros(max_batch + 2, codec.width, dtype=codec.dtype, device=device)
        self._call = _Call(codec, states)
        self._made: dict[tuple[int, int], tuple[_Buffers, Recording[Audio] | None]] = {}

    # Slots.

    def take_slot(self) -> int:
        """Give a row a place for its state; there are as many as rows."""
        return self._free_slots.pop()

    def give_back(self, slot: int) -> None:
        """Free a slot; calls that are under way may still write to it."""
        self._free_slots.append(slot)

    @property
    def num_taken(self) -> int:
        """Slots that rows have."""
        return self._max_batch - len(self._free_slots)

    def save(self, slot: int) -> Tensor:
        """Copy the state of a slot to CPU memory, [width]."""
        return self._call.states[slot].to("cpu", copy=True)

    def restore(self, slot: int, packed: Tensor) -> None:
        """Copy a state back into a slot."""
        self._call.states[slot] = packed.to(self._device)

    def unpack(self, packed: Tensor | int, num_frames: int, noise_key: NoiseKey) -> StreamState:
        """Make the state of a stream that is decoded by itself, from a slot or from what `save` gave."""
        row = self._call.states[packed] if isinstance(packed, int) else packed.to(self._device)
        return self._call.codec.unpack(row, num_frames, noise_key)

    # Calls.

    def size_for(self, num_frames: int) -> int:
        """Choose the frames of a call: those of a chunk; the last of a stream may have fewer and is filled up.

        What is heard does not depend on what comes after it, and nothing comes after a last chunk.
        """
        return next(size for size in self._sizes if size >= num_frames)

    def make(self, parts: Sequence[Part]) -> Audio:
        """Decode a chunk of each of several rows.

        Args:
            parts: at least one; of chunks of one size (`size_for`).

        Returns:
            Samples [rows, S] and whether they are finite [rows], with further rows behind; S as for a whole chunk. Both
            are overwritten by the next call: copy them on the same stream. On CUDA they are there when the device is.
        """
        num_frames = self.size_for(max(len(part.frames) for part in parts))
        buffers, recording = self._buffers_for(num_frames, bucket_for(len(parts), self._max_batch))
        self._fill(buffers, parts, num_frames)
        if recording is None:
            return self._call(buffers)
        recording.replay()
        return recording.outputs

    def prepare(self) -> Iterator[tuple[int, int, bool]]:
        """Make all sizes before anybody waits for them, the largest first, because they share one pool of memory.

        Yields:
            Frames and rows of each size once it is there, and whether it is captured.
        """
        if self._recorder is None or capture_refusal() is not None:
            # Nothing to capture, and kernels to compile; they do not depend on the sizes.
            self._call(self._new_buffers(self._sizes[0], 1))
            return
        for num_rows in [1] if self._takes_one else buckets_up_to(self._max_batch):
            for num_frames in reversed(self._sizes):
                yield num_frames, num_rows, self._buffers_for(num_frames, num_rows)[1] is not None

    @property
    def sizes(self) -> dict[tuple[int, int], bool]:
        """Frames and rows of each size that is there, and whether it is captured."""
        return {size: recording is not None for size, (_, recording) in self._made.items()}

    def _fill(self, buffers: _Buffers, parts: Sequence[Part], num_frames: int) -> None:
        """Say whose states and which frames; one copy from the host, one more of noise, and two launches."""
        sources: dict[int, tuple[Tensor, int]] = {}  # by identity: the tokens of a step, and how many are before them
        num_tokens, padding = 0, buffers.num_rows - len(parts)
        places: list[int] = []
        for part in parts:
            for frame in part.frames:
                if id(frame.step) not in sources:
                    sources[id(frame.step)] = (frame.step, num_tokens)
                    num_tokens += frame.step.shape[0]
                places.append(sources[id(frame.step)][1] + frame.index)
            places += [places[-1]] * (num_frames - len(part.frames))
        plan = np.concatenate(
            (
                [part.slot if part.num_before else self._blank for part in parts] + [self._blank] * padding,
                [part.slot for part in parts] + [self._scratch] * padding,
                [part.num_before for part in parts] + [0] * padding,
                places + [places[-1]] * (padding * num_frames),
            )
        )
        self._send(torch.as_tensor(plan), buffers.plan)
        if buffers.noise.numel():
            streams = [(part.noise_key, part.num_before) for part in parts]
            self._send(self._call.codec.draw_noise(streams, num_frames), buffers.noise[: len(parts)])
        steps = [step for step, _ in sources.values()]
        if self._device.type == "cuda":
            # Another stream made them, and must not give their memory to anything else before this one has read them.
            for step in steps:
                step.record_stream(torch.cuda.current_stream(self._device))
        tokens = steps[0] if len(steps) == 1 else torch.cat(steps)
        torch.index_select(tokens, 0, buffers.places, out=buffers.tokens.view(-1, self._num_codebooks))

    def _send(self, host: Tensor, target: Tensor) -> None:
        target.copy_(host.pin_memory() if self._device.type == "cuda" else host, non_blocking=True)

    def _buffers_for(self, num_frames: int, num_rows: int) -> tuple[_Buffers, Recording[Audio] | None]:
        made = self._made.get((num_frames, num_rows))
        if made is None:
            buffers, recording = self._new_buffers(num_frames, num_rows), None
            if self._recorder is not None and self._paths.is_open("graphs"):
                try:
                    recording = self._recorder.record(partial(self._call, buffers))
                except CaptureError as error:
                    # Once: from here on this size has buffers without a recording.
                    tell_of_capture(self._paths, str(error))
            made = self._made[num_frames, num_rows] = (buffers, recording)
        return made

    def _new_buffers(self, num_frames: int, num_rows: int) -> _Buffers:
        """Make the buffers of a size, with rows in them that only fill up."""
        plan = torch.zeros(num_rows * (3 + num_frames), dtype=torch.int64, device=self._device)
        shape = (num_rows, num_frames, self._num_codebooks)
        tokens = torch.full(shape, NUM_SPECIAL_CODES, dtype=torch.int64, device=self._device)
        noise = torch.zeros(num_rows, num_frames * self._call.codec.noise_per_frame, device=self._device)
        buffers = _Buffers(plan, tokens, noise, num_rows)
        buffers.reads.fill_(self._blank)
        buffers.writes.fill_(self._scratch)
        return buffers
