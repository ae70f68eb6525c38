"""From frames to audio: what of a row is due, and decoding it beside others.

It knows the codec by `voxtral.model.codec_protocol` alone. Chunks and their places in a stream depend on the options
and on the row, never on what else runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from voxtral.config import NUM_SPECIAL_CODES
from voxtral.device import dtype_name
from voxtral.engine.options import EngineOptions
from voxtral.engine.protocol import RowOutput
from voxtral.engine.row import Row
from voxtral.engine.sequence import Stop
from voxtral.engine.transfer import mark, to_host
from voxtral.errors import NumericsError
from voxtral.model.codec_protocol import StreamingCodec, StreamState
from voxtral.types import AudioChunk

Outcome = tuple[Row, RowOutput | Exception]


@dataclass(frozen=True, eq=False)
class Due:
    """Frames of one row that are to become audio."""

    row: Row
    frames: list[Tensor]  # [K] each; none where only the end of the codec's stream is wanted
    stop: Stop | None


@dataclass(frozen=True, eq=False)
class _Decoding:
    """Rows whose audio is being made side by side."""

    members: list[Due]
    samples: Tensor  # [rows, S] float32 in CPU memory
    is_finite: Tensor  # [rows] bool in CPU memory
    made: torch.cuda.Event | None


class Vocoder:
    """Makes the audio of rows, chunk by chunk.

    Args:
        codec: on its device.
        options: of chunks and of what may be decoded together.
        device: of the codec and of the frames.
        dtype: of the model, to be named where something is not finite.
        sample_rate: samples per second.
        has_stream: whether a GPU may decode beside the next frame.
    """

    def __init__(
        self,
        codec: StreamingCodec[Any],
        options: EngineOptions,
        device: torch.device,
        dtype: torch.dtype,
        sample_rate: int,
        *,
        has_stream: bool = True,
    ) -> None:
        # It is only ever given the states that it made.
        self._codec: StreamingCodec[StreamState] = codec
        self._options = options
        self._device = device
        self._dtype = dtype
        self._sample_rate = sample_rate
        # A stream of its own, so that the next frame need not wait for the audio of the last; and before it, for
        # audio is late where a frame is not, and its many small kernels would queue behind the frame's.
        has_stream = has_stream and device.type == "cuda"
        self._stream = torch.cuda.Stream(device, priority=-1) if has_stream else None

    def warm_up(self, num_codebooks: int) -> None:
        """Decode a stream that nobody hears, in chunks as they come: every shape of the codec is met once."""
        state = self._codec.init_codec_state()
        with self._on_stream():
            for number in range(len(self._options.chunk_frames) + 1):
                num_frames = self._options.frames_in_chunk(number)
                tokens = torch.full((1, num_frames, num_codebooks), NUM_SPECIAL_CODES, device=self._device)
                self._codec.decode_rows(tokens, state)
            if self._stream is not None:
                self._stream.synchronize()

    def end(self, row: Row, stop: Stop = "end") -> RowOutput | Due:
        """Take the end of a row; what is pending becomes its last chunk."""
        if not row.pending and row.codec_state.num_frames == 0:
            return RowOutput(None, row.num_frames, stop)
        return Due(row, row.take_pending(), stop)

    def add(self, row: Row, audio_tokens: Tensor) -> RowOutput | Due:
        """Take a frame [K] of a row; say what is to be decoded now, if anything."""
        row.pending.append(audio_tokens)
        row.num_frames += 1
        if row.num_frames == row.request.max_frames:
            return Due(row, row.take_pending(), "length")
        if len(row.pending) < self._options.frames_in_chunk(row.num_chunks):
            return RowOutput(None, row.num_frames, None)
        row.num_chunks += 1
        return Due(row, row.take_pending(), None)

    def decode(self, due: list[Due]) -> Iterator[Outcome]:
        """Make audio.

        Yields:
            Each row as soon as its audio is there; those whose first audio it is come first.
        """
        decodings = map(self._start, self._side_by_side(due))
        # On a GPU all are under way before the first is waited for.
        for decoding in list(decodings) if self._stream is not None else decodings:
            yield from self._finish(decoding)

    def _side_by_side(self, due: list[Due]) -> list[list[Due]]:
        """Group what can be decoded together; those whose first audio it is come first."""
        groups: dict[object, list[Due]] = {}
        for number, member in enumerate(sorted(due, key=lambda member: member.row.codec_state.num_frames > 0)):
            can_share = member.frames and not self._options.batch_invariant
            state = member.row.codec_state
            shape = (len(member.frames), member.stop is not None, state.shape) if can_share else number
            groups.setdefault(shape, []).append(member)
        return list(groups.values())

    def _start(self, members: list[Due]) -> _Decoding | list[Outcome]:
        with self._on_stream():
            try:
                return self._decode(members)
            # Several fail together; one by one shows which of them does.
            except Exception as error:  # noqa: BLE001
                failure = error
        if len(members) == 1:
            return [(members[0].row, failure)]
        return [outcome for member in members for outcome in self._finish(self._start([member]))]

    def _on_stream(self) -> AbstractContextManager[object]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def _decode(self, members: list[Due]) -> _Decoding:
        is_last = members[0].stop is not None
        if not members[0].frames:
            samples = self._codec.flush_codec(members[0].row.codec_state)[None]
        else:
            samples = self._decode_frames(members, is_last=is_last)
        is_finite = torch.isfinite(samples).all(dim=-1)
        return _Decoding(members, to_host(samples), to_host(is_finite), mark(self._device))

    def _decode_frames(self, members: list[Due], *, is_last: bool) -> Tensor:
        """Decode equally many frames of each member, to [members, S]."""
        tokens = torch.stack([torch.stack(member.frames) for member in members])
        if self._stream is not None:
            # The other stream made them, and must not give their memory to anything else before this one has read them.
            for frame in (frame for member in members for frame in member.frames):
                frame.record_stream(torch.cuda.current_stream())
        states = [member.row.codec_state for member in members]
        if len(members) == 1:
            return self._codec.decode_rows(tokens, states[0], is_last=is_last)
        together = type(states[0]).stack(states)
        samples = self._codec.decode_rows(tokens, together, is_last=is_last)
        for index, state in enumerate(states):
            state.take_row(together, index, tokens.shape[1])
        return samples

    def _finish(self, decoding: _Decoding | list[Outcome]) -> list[Outcome]:
        if isinstance(decoding, list):
            return decoding
        if decoding.made is not None:
            decoding.made.synchronize()
        return [(member.row, self._output(decoding, index)) for index, member in enumerate(decoding.members)]

    def _output(self, decoding: _Decoding, index: int) -> RowOutput | NumericsError:
        row, stop = decoding.members[index].row, decoding.members[index].stop
        if not decoding.is_finite[index]:
            return not_finite("audio", row.num_frames, self._dtype)
        if not decoding.samples.shape[1]:
            return RowOutput(None, row.num_frames, stop)
        # A copy, so that a chunk does not keep those of its neighbours alive.
        samples = decoding.samples[index].numpy().copy()
        chunk = AudioChunk(samples, self._sample_rate, start=row.num_samples)
        row.num_samples += len(samples)
        return RowOutput(chunk, row.num_frames, stop)


def not_finite(what: str, frame: int, dtype: torch.dtype) -> NumericsError:
    """Say that a frame or its audio is not finite."""
    return NumericsError(
        f"the {what} is not finite at frame {frame} in {dtype_name(dtype)}; "
        "all values must be finite; load the model in bfloat16 or float32"
    )
