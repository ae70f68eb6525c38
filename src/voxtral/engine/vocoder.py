"""From frames to audio: what of a row is due, decoding it beside others, and handing it over when it is there.

It knows the codec by `voxtral.model.codec_protocol` alone. Chunks and their places in a stream depend on the options
and on the row, never on what else runs. On a GPU audio is made in static shapes where that works (`audio_maker`), else
with a state for each stream; and nobody waits for it but for the first of a stream: what is under way is handed over
when it is found made, in the order in which it was begun.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from voxtral.config import NUM_SPECIAL_CODES
from voxtral.device import dtype_name, has_remedy
from voxtral.engine.audio_maker import AudioMaker, Part
from voxtral.engine.options import EngineOptions
from voxtral.engine.paths import Paths
from voxtral.engine.protocol import RowOutput
from voxtral.engine.row import FrameTokens, Row
from voxtral.engine.sequence import Stop
from voxtral.engine.transfer import mark, to_host
from voxtral.errors import NumericsError
from voxtral.model.codec_protocol import StreamingCodec, StreamState
from voxtral.model.kernels.dispatch import one_line
from voxtral.types import AudioChunk

Outcome = tuple[Row, RowOutput | Exception]


@dataclass(frozen=True, eq=False)
class Due:
    """Frames of one row that are to become audio."""

    row: Row
    frames: list[FrameTokens]  # none where only the end of the codec's stream is wanted
    stop: Stop | None
    num_frames: int  # of the row, these included


@dataclass(frozen=True, eq=False)
class _Decoding:
    """Rows whose audio is being made side by side."""

    members: list[Due]
    samples: Tensor  # [rows, S] float32 in CPU memory
    is_finite: Tensor  # [rows] bool in CPU memory
    made: torch.cuda.Event | None
    frames_of_call: int | None = None  # S is that of so many frames; None: of those of each row


@dataclass(frozen=True, eq=False)
class _UnderWay:
    """What is handed over in its turn, once it is made."""

    result: _Decoding | list[Outcome]
    rows: list[Row]
    is_first: bool  # whether somebody's first audio is in it

    @property
    def is_made(self) -> bool:
        """Whether handing it over waits for nothing."""
        return isinstance(self.result, list) or self.result.made is None or self.result.made.query()


class Vocoder:
    """Makes the audio of rows, chunk by chunk.

    Args:
        codec: on its device.
        options: of chunks and of what may be decoded together.
        device: of the codec and of the frames.
        dtype: of the model, to be named where something is not finite.
        sample_rate: samples per second.
        has_stream: whether a GPU may decode beside the next frame.
        maker: makes audio in static shapes; None decodes with a state for each stream.
        paths: which ways are open; "codec_step" is closed where it fails.
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
        maker: AudioMaker | None = None,
        paths: Paths | None = None,
    ) -> None:
        # It is only ever given the states that it made.
        self._codec: StreamingCodec[StreamState] = codec
        self._options = options
        self._device = device
        self._dtype = dtype
        self._sample_rate = sample_rate
        self._maker = maker
        self._paths = paths or Paths(str(device))
        self._under_way: deque[_UnderWay] = deque()
        # A stream of its own, so that the next frame need not wait for the audio of the last; and before it, for
        # audio is late where a frame is not, and its many small kernels would queue behind the frame's.
        has_stream = has_stream and device.type == "cuda"
        self._stream = torch.cuda.Stream(device, priority=-1) if has_stream else None

    @property
    def is_late(self) -> bool:
        """Whether audio is begun with `start` and handed over later; otherwise `decode` makes it."""
        return self._device.type == "cuda"

    def warm_up(self, num_codebooks: int) -> Iterator[tuple[int, int, bool]]:
        """Decode what nobody hears, so that every size of a chunk has been met before anybody waits for it.

        Yields:
            Frames and rows of each static size once it is there, and whether it is captured.
        """
        with self._on_stream():
            if self._maker is not None and self._paths.is_open("codec_step"):
                yield from self._maker.prepare()
            else:
                self._decode_chunks(num_codebooks)
            if self._stream is not None:
                self._stream.synchronize()

    def _decode_chunks(self, num_codebooks: int) -> None:
        state = self._codec.init_codec_state()
        for number in range(len(self._options.chunk_frames) + 1):
            num_frames = self._options.frames_in_chunk(number)
            tokens = torch.full((1, num_frames, num_codebooks), NUM_SPECIAL_CODES, device=self._device)
            self._codec.decode_rows(tokens, state)

    # Rows come and go.

    def release(self, row: Row) -> None:
        """Take back what a row holds here; nothing more is to be made of it."""
        if self._maker is not None and row.audio_slot is not None:
            self._maker.give_back(row.audio_slot)
        row.audio_slot = row.audio_state = None

    def swap_out(self, row: Row) -> None:
        """Move what a row holds here to CPU memory; it comes back with the row's next chunk. Nothing is under way."""
        if self._maker is not None and row.audio_slot is not None:
            with self._on_stream():
                row.audio_state = self._maker.save(row.audio_slot)
            self._maker.give_back(row.audio_slot)
            row.audio_slot = None

    @property
    def num_slots(self) -> int:
        """Rows whose state is kept in static shapes, on the device."""
        return 0 if self._maker is None else self._maker.num_taken

    # Frames.

    def end(self, row: Row, stop: Stop = "end") -> RowOutput | Due:
        """Take the end of a row; what is pending becomes its last chunk."""
        if not row.pending and row.codec_state.num_frames == 0:
            return RowOutput(None, row.num_frames, stop)
        return Due(row, row.take_pending(), stop, row.num_frames)

    def add(self, row: Row, frame: FrameTokens) -> RowOutput | Due:
        """Take a frame of a row; say what is to be decoded now, if anything."""
        row.pending.append(frame)
        row.num_frames += 1
        if row.num_frames == row.request.max_frames:
            return Due(row, row.take_pending(), "length", row.num_frames)
        if len(row.pending) < self._options.frames_in_chunk(row.num_chunks):
            return RowOutput(None, row.num_frames, None)
        row.num_chunks += 1
        return Due(row, row.take_pending(), None, row.num_frames)

    # Audio.

    def decode(self, due: list[Due]) -> Iterator[Outcome]:
        """Make audio, and wait for it.

        Yields:
            Each row as soon as its audio is there; those whose first audio it is come first.
        """
        for members in self._side_by_side(due):
            yield from self._finish(self._start(members))

    def start(self, due: list[Due]) -> None:
        """Begin to make audio; `hand_over` has it when it is there."""
        for members in self._side_by_side(due):
            is_first = any(member.row.codec_state.num_frames == 0 for member in members)
            rows = [member.row for member in members]
            self._under_way.append(_UnderWay(self._start(members), rows, is_first))

    def follow(self, outcome: Outcome) -> bool:
        """Hand an outcome of a row over behind its audio that is under way; False if there is none."""
        if not any(outcome[0] in part.rows for part in self._under_way):
            return False
        self._under_way.append(_UnderWay([outcome], [outcome[0]], is_first=False))
        return True

    @property
    def has_audio(self) -> bool:
        """Whether something is under way."""
        return bool(self._under_way)

    def hand_over(self, *, wait: bool) -> Iterator[Outcome]:
        """Hand over what has been made, in the order in which it was begun.

        Args:
            wait: for all that is under way. Otherwise only for the first audio of a stream, whose listener waits too.

        Yields:
            Each row with its audio.
        """
        awaited = [number for number, part in enumerate(self._under_way, 1) if wait or part.is_first]
        num_awaited = max(awaited, default=0)
        while self._under_way and (num_awaited > 0 or self._under_way[0].is_made):
            num_awaited -= 1
            yield from self._finish(self._under_way.popleft().result)

    def _side_by_side(self, due: list[Due]) -> list[list[Due]]:
        """Group what can be decoded together; those whose first audio it is come first."""
        groups: dict[object, list[Due]] = {}
        for number, member in enumerate(sorted(due, key=lambda member: member.row.codec_state.num_frames > 0)):
            shape: object = number
            if member.frames and not self._options.batch_invariant:
                maker = self._maker_of(member.row)
                shape = (
                    (len(member.frames), member.stop is not None, member.row.codec_state.shape)
                    if maker is None
                    else ("static", maker.size_for(len(member.frames)))
                )
            groups.setdefault(shape, []).append(member)
        return list(groups.values())

    def _maker_of(self, row: Row) -> AudioMaker | None:
        """Give what makes the row's audio in static shapes, if anything does."""
        is_kept_there = row.audio_slot is not None or row.audio_state is not None
        if self._maker is None or not self._paths.is_open("codec_step"):
            return None
        return self._maker if is_kept_there or row.codec_state.num_frames == 0 else None

    def _start(self, members: list[Due]) -> _Decoding | list[Outcome]:
        with self._on_stream():
            maker = self._maker_of(members[0].row)
            try:
                return self._decode(members) if maker is None else self._decode_static(maker, members)
            # Several fail together; one by one shows which of them does.
            except Exception as error:  # noqa: BLE001
                failure = error
            if len(members) == 1 and maker is not None and has_remedy(failure, self._device):
                try:
                    made = self._decode(members)
                except Exception:  # noqa: BLE001 - where no way works, the fault lies elsewhere
                    return [(members[0].row, failure)]
                self._paths.close("codec_step", one_line(f"{type(failure).__name__}: {failure}"))
                return made
        if len(members) == 1:
            return [(members[0].row, failure)]
        return [outcome for member in members for outcome in self._finish(self._start([member]))]

    def _on_stream(self) -> AbstractContextManager[object]:
        return nullcontext() if self._stream is None else torch.cuda.stream(self._stream)

    def _decode_static(self, maker: AudioMaker, members: list[Due]) -> _Decoding | list[Outcome]:
        """Decode chunks of one size, or the end of a stream, which has given all its samples."""
        if not members[0].frames:
            return [(member.row, RowOutput(None, member.num_frames, member.stop)) for member in members]
        parts: list[Part] = []
        for member in members:
            row = member.row
            if row.audio_slot is None:
                row.audio_slot = maker.take_slot()
                if row.audio_state is not None:
                    maker.restore(row.audio_slot, row.audio_state)
                    row.audio_state = None
            state = row.codec_state
            parts.append(Part(row.audio_slot, state.num_frames, member.frames, state.noise_key))
        samples, is_finite = (to_host(values[: len(members)]) for values in maker.make(parts))
        for member in members:
            member.row.codec_state.num_frames += len(member.frames)
        return _Decoding(members, samples, is_finite, mark(self._device), maker.size_for(len(members[0].frames)))

    def _decode(self, members: list[Due]) -> _Decoding:
        for member in members:
            self._unpack(member.row)
        is_last = members[0].stop is not None
        if not members[0].frames:
            samples = self._codec.flush_codec(members[0].row.codec_state)[None]
        else:
            samples = self._decode_frames(members, is_last=is_last)
        is_finite = torch.isfinite(samples).all(dim=-1)
        return _Decoding(members, to_host(samples), to_host(is_finite), mark(self._device))

    def _unpack(self, row: Row) -> None:
        """Let a stream that was decoded in static shapes go on by itself."""
        packed = row.audio_state if row.audio_slot is None else row.audio_slot
        if self._maker is not None and packed is not None:
            state = row.codec_state
            row.codec_state = self._maker.unpack(packed, state.num_frames, state.noise_key)
            self.release(row)

    def _decode_frames(self, members: list[Due], *, is_last: bool) -> Tensor:
        """Decode equally many frames of each member, to [members, S]."""
        tokens = torch.stack([torch.stack([frame.tokens for frame in member.frames]) for member in members])
        if self._stream is not None:
            # The other stream made them, and must not give their memory to anything else before this one has read them.
            for frame in (frame for member in members for frame in member.frames):
                frame.step.record_stream(torch.cuda.current_stream())
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
        member, samples = decoding.members[index], decoding.samples[index]
        row, stop = member.row, member.stop
        if not decoding.is_finite[index]:
            return not_finite("audio", member.num_frames, self._dtype)
        if decoding.frames_of_call is not None:
            samples = samples[: len(samples) // decoding.frames_of_call * len(member.frames)]
        if not len(samples):
            return RowOutput(None, row.num_frames, stop)
        # A copy, so that a chunk does not keep those of its neighbours alive.
        heard = samples.numpy().copy()
        chunk = AudioChunk(heard, self._sample_rate, start=row.num_samples)
        row.num_samples += len(heard)
        return RowOutput(chunk, row.num_frames, stop)


def not_finite(what: str, frame: int, dtype: torch.dtype) -> NumericsError:
    """Say that a frame or its audio is not finite."""
    return NumericsError(
        f"the {what} is not finite at frame {frame} in {dtype_name(dtype)}; "
        "all values must be finite; load the model in bfloat16 or float32"
    )
