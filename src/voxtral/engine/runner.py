"""Runs sequences on the model: the only file of the engine that calls it.

The engine admits a request (`admit`), runs its prompt in parts (`prefill`), and then asks for a frame of many rows at a
time (`launch`), whose results it fetches with `collect`: on a GPU one step late, so that the next step runs
meanwhile. Each call makes at most one frame of a row, and returns the audio that is due by then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from voxtral.config import END_AUDIO
from voxtral.device import dtype_name
from voxtral.engine.blocks import SCRATCH_BLOCK, BlockPool, Lease, Prefix
from voxtral.engine.frame import FrameInputs, FrameOutputs, RowInput, compute_frame, gather_inputs
from voxtral.engine.graphs import FrameGraphs, bucket_for
from voxtral.engine.kv_cache import (
    KVPages,
    Span,
    SpanMemory,
    StepMemory,
    kv_bytes_per_position,
    make_pages,
    place_of,
    scratch_place,
)
from voxtral.engine.options import POSITIONS_PER_SEQUENCE, EngineOptions, default_max_batch
from voxtral.engine.prefix_store import PrefixStore
from voxtral.engine.sequence import GenerationRequest, GenerationTrace, Stop
from voxtral.errors import NumericsError, OptionError
from voxtral.model.acoustic import Flow, FlowSchedule
from voxtral.model.codec import CodecState
from voxtral.model.folded import FoldedFlow
from voxtral.model.voxtral import VoxtralModel

if TYPE_CHECKING:
    import numpy.typing as npt

_SHARE_OF_FREE_MEMORY = 0.6


@dataclass(eq=False)
class Row:
    """Everything that an admitted sequence holds on the device, and how far it is."""

    request: GenerationRequest
    trace: GenerationTrace | None
    lease: Lease
    slot: int
    codec: CodecState
    prompt: Tensor  # [P, D] embeddings on the device; emptied when they have been run
    num_prefilled: int = 0
    num_launched: int = 0  # frames that were asked for
    num_frames: int = 0  # frames that have been looked at
    num_chunks: int = 0
    pending: list[Tensor] = field(default_factory=list)  # frames [K] that are not audio yet
    parked: tuple[Tensor, Tensor, Tensor] | None = None  # keys, values and carried embedding, in CPU memory

    @property
    def num_prompt(self) -> int:
        """P, the positions of the prompt."""
        return len(self.request.prompt.token_ids)

    @property
    def is_prefilled(self) -> bool:
        """Whether all of the prompt but its last position has been run; that one makes the first frame."""
        return self.num_prefilled == self.num_prompt - 1

    def take_pending(self) -> list[Tensor]:
        """Take the frames that are not audio yet."""
        frames, self.pending = self.pending, []
        return frames

    @property
    def is_exhausted(self) -> bool:
        """Whether every frame of the budget has been asked for."""
        return self.num_launched == self.request.max_frames


@dataclass(frozen=True, eq=False)
class Progress:
    """What one frame brought."""

    samples: npt.NDArray[np.float32] | None
    num_frames: int
    stop: Stop | None


_Outcomes = list[tuple[Row, Progress | Exception]]


@dataclass(frozen=True, eq=False)
class Group:
    """Rows of one step that share a flow schedule."""

    rows: list[Row]
    outputs: FrameOutputs  # on the device
    semantic: Tensor  # [rows] int64 in CPU memory
    is_finite: Tensor  # [rows] bool in CPU memory


@dataclass(frozen=True, eq=False)
class Step:
    """One frame of several rows, asked for and perhaps not there yet."""

    groups: list[Group]
    failures: list[tuple[Row, Exception]]  # rows that could not take part
    made: torch.cuda.Event | None = None  # None where `launch` has waited


@dataclass(frozen=True, eq=False)
class _Due:
    """Frames of one row that are to become audio."""

    row: Row
    frames: list[Tensor]  # [K] each; none where only the end of the codec's stream is wanted
    stop: Stop | None


@dataclass(frozen=True, eq=False)
class _Decoding:
    """Rows whose audio is being made side by side."""

    members: list[_Due]
    samples: Tensor  # [rows, S] float32 in CPU memory
    is_finite: Tensor  # [rows] bool in CPU memory
    made: torch.cuda.Event | None


@dataclass(frozen=True)
class Counts:
    """What the runner has given out."""

    free_slots: int
    slots: int
    free_blocks: int
    blocks: int
    prefix_blocks: int
    promised_blocks: int


class Runner:
    """Owns the slots, the KV cache and the codec states.

    Args:
        model: on its device, in its dtype.
        options: sizes and choices.
    """

    def __init__(self, model: VoxtralModel, options: EngineOptions) -> None:
        self.model = model
        self._options = options
        self._state: _DeviceState | None = None
        folder = options.prefix_folder
        self._stored = None if folder is None else PrefixStore(folder, options.prefix_fingerprint)

    @property
    def runs_ahead(self) -> bool:
        """Whether `launch` returns before the frame is made, so that a second may be asked for meanwhile."""
        return self.model.device.type == "cuda"

    @property
    def _store(self) -> PrefixStore | None:
        # On a GPU a prompt takes milliseconds, and its rounding differs.
        return self._stored if self.model.device.type == "cpu" else None

    @property
    def max_batch(self) -> int:
        """Rows that make frames side by side."""
        return self._options.max_batch or default_max_batch(self.model.device.type)

    def check(self, request: GenerationRequest) -> None:
        """Refuse what could never be admitted.

        Raises:
            OptionError: prompt and frame budget are longer than the whole KV cache.
        """
        num_positions, state = _num_positions(request), self._state
        # What is there counts: it was planned by memory that was free then and is not any more.
        capacity = (
            state.pool.capacity
            if state is not None and state.fits(self.model)
            else (_plan_blocks(self.model, self._options, self.max_batch) - 1) * self._options.block_size
        )
        if num_positions > capacity:
            raise OptionError(
                f"the request may take {num_positions} positions (prompt {len(request.prompt.token_ids)}, at most "
                f"{request.max_frames} frames); the KV cache has {capacity}; lower max_frames, speak shorter segments, "
                "or give the engine more memory"
            )

    def admit(self, request: GenerationRequest, trace: GenerationTrace | None) -> Row | None:
        """Take a slot and promise memory for the whole request; None if there is no room now."""
        state = self._device_state()
        if not state.free_slots:
            return None
        key = _prefix_key(request)
        prefix = None if key is None else state.pool.find_prefix(key)
        num_positions = _num_positions(request)
        lease = state.pool.lease(num_positions, prefix)
        if lease is None and prefix is not None:
            prefix, lease = None, state.pool.lease(num_positions)
        if lease is None:
            return None
        slot = state.free_slots.pop()
        try:
            return self._make_row(state, request, trace, lease, slot, prefix)
        except BaseException:
            state.pool.release(lease)
            state.free_slots.append(slot)
            raise

    def _make_row(
        self,
        state: _DeviceState,
        request: GenerationRequest,
        trace: GenerationTrace | None,
        lease: Lease,
        slot: int,
        prefix: Prefix | None,
    ) -> Row:
        prompt = self.model.embed_prompt(torch.tensor(request.prompt.token_ids), request.voice_rows)
        row = Row(request, trace, lease, slot, self.model.init_codec_state(), prompt)
        key = _prefix_key(request)
        if prefix is not None:
            row.num_prefilled = prefix.length
            if prefix.length % state.pool.block_size:
                state.pool.extend(lease, prefix.length)
                state.pages.copy_block(prefix.blocks[-1], lease.blocks[-1])
        elif key is not None and request.is_voice_stored:
            self._load_prefix(state, key, row)
        if row.is_prefilled:
            self._finish_prompt(state, row)
        return row

    def num_positions_of_part(self, row: Row) -> int:
        """Count the positions that the next part of a prompt has."""
        return self._end_of_part(row) - row.num_prefilled

    def prefill(self, rows: Sequence[Row]) -> None:
        """Run the next part of the prompt of each row; none of them is prefilled.

        Parts end at fixed positions: the end of the voice, and multiples of `prefill_positions` from there on.
        """
        if self._options.batch_invariant:
            for row in rows:
                self._prefill_together([row])
        else:
            self._prefill_together(rows)

    def _prefill_together(self, rows: Sequence[Row]) -> None:
        state, device = self._device_state(), self.model.device
        size = state.pool.block_size
        spans: list[Span] = []
        places: list[int] = []
        positions: list[int] = []
        for row in rows:
            start, stop = row.num_prefilled, self._end_of_part(row)
            state.pool.extend(row.lease, stop)
            blocks = row.lease.blocks
            first = len(positions)
            positions += range(start, stop)
            places += [place_of(blocks, position, size) for position in range(start, stop)]
            spans.append(Span(first, len(positions), torch.tensor(blocks, device=device), stop))
        memory = SpanMemory(state.pages, torch.tensor(places, device=device), spans)
        parts = [row.prompt[row.num_prefilled : span.num_seen] for row, span in zip(rows, spans, strict=True)]
        self.model.backbone.extend(torch.cat(parts), torch.tensor(positions, device=device), memory)
        for row, span in zip(rows, spans, strict=True):
            row.num_prefilled = span.num_seen
            key = _prefix_key(row.request)
            if key is not None and row.num_prefilled == row.request.prompt.voice_stop:
                self._keep_prefix(state, key, row)
                if self._store is not None and row.request.is_voice_stored:
                    self._store.save(key, *state.pages.read(row.lease.blocks, row.num_prefilled))
            if row.is_prefilled:
                self._finish_prompt(state, row)

    def launch(self, rows: Sequence[Row]) -> Step:
        """Ask for the next frame of each row; all of them are prefilled."""
        state = self._device_state()
        groups: dict[int, list[tuple[Row, RowInput]]] = {}
        failures: list[tuple[Row, Exception]] = []
        for row in rows:
            try:
                row_input = self._next_input(state, row)
            # The noise comes from the request; whatever is wrong with it concerns that row alone.
            except Exception as error:  # noqa: BLE001
                failures.append((row, error))
                continue
            groups.setdefault(row.request.num_euler_steps, []).append((row, row_input))
            row.num_launched += 1
        launched = []
        for num_euler_steps, members in groups.items():
            outputs = self._compute(state, [row_input for _, row_input in members], num_euler_steps)
            semantic, is_finite = outputs.audio_tokens[: len(members), 0], outputs.is_finite[: len(members)]
            rows_of_group = [row for row, _ in members]
            launched.append(Group(rows_of_group, outputs, self._fetch(semantic), self._fetch(is_finite)))
        return Step(launched, failures, self._mark())

    def wait(self, step: Step) -> list[Row]:
        """Wait until a step's frames are made, and name the rows that `collect` will tell of."""
        if step.made is not None:
            step.made.synchronize()
        return [row for row, _ in step.failures] + [row for group in step.groups for row in group.rows]

    def collect(self, step: Step) -> Iterator[tuple[Row, Progress | Exception]]:
        """Look at the frames of a step, and decode the chunks that they complete.

        Yields:
            Each row as soon as its audio is there; those whose first audio it is come first.
        """
        yield from step.failures
        due: list[_Due] = []
        for group in step.groups:
            semantic, is_finite = group.semantic.tolist(), group.is_finite.tolist()
            for index, row in enumerate(group.rows):
                outcome = self._outcome(row, group.outputs, index, semantic[index], is_finite=is_finite[index])
                if isinstance(outcome, _Due):
                    due.append(outcome)
                else:
                    yield row, outcome
        decodings = map(self._start_decoding, self._side_by_side(due))
        # On a GPU all are under way before the first is waited for.
        for decoding in list(decodings) if self.runs_ahead else decodings:
            yield from self._finish_decoding(decoding)

    def release(self, row: Row) -> None:
        """Take everything back; the row is not to be used any more."""
        if row.parked is not None:
            row.parked = None
            return
        state = self._device_state()
        state.pool.release(row.lease)
        state.free_slots.append(row.slot)

    def park(self, row: Row) -> None:
        """Move a row to CPU memory, so that others can have its slot and blocks."""
        state = self._device_state()
        blocks = row.lease.blocks
        row.parked = (
            state.pages.keys[:, blocks].to("cpu", copy=True),
            state.pages.values[:, blocks].to("cpu", copy=True),
            state.carried[row.slot].to("cpu", copy=True),
        )
        state.pool.release(row.lease)
        state.free_slots.append(row.slot)

    def unpark(self, row: Row) -> bool:
        """Bring a row back; False if there is no room now."""
        state = self._device_state()
        if row.parked is None or not state.free_slots:
            return row.parked is None
        lease = state.pool.lease(_num_positions(row.request))
        if lease is None:
            return False
        keys, values, carried = row.parked
        state.pool.extend(lease, keys.shape[1] * state.pool.block_size)
        row.lease, row.slot, row.parked = lease, state.free_slots.pop(), None
        state.pages.keys[:, lease.blocks] = keys.to(self.model.device)
        state.pages.values[:, lease.blocks] = values.to(self.model.device)
        state.carried[row.slot] = carried.to(self.model.device)
        return True

    def is_prefix_awaited(self, request: GenerationRequest, rows: Sequence[Row]) -> bool:
        """Tell whether one of `rows` is about to make the prefix that this request could share."""
        key = _prefix_key(request)
        return key is not None and any(
            row.num_prefilled < row.request.prompt.voice_stop and _prefix_key(row.request) == key for row in rows
        )

    def reset(self) -> None:
        """Forget all device memory; nothing may be admitted. The next request makes it anew."""
        self._state = None

    def weights_changed(self) -> None:
        """Forget what was computed from the weights; nothing may be admitted.

        A move to a narrower dtype and back rounds them, and what is on disk belongs to those of the checkpoint.
        """
        self.reset()
        self._stored = None

    def check_idle(self) -> str | None:
        """Say what is wrong if, with no row left, slots or blocks are missing; None if all is well."""
        if self._state is None:
            return None
        num_missing = self.max_batch - len(self._state.free_slots)
        return f"{num_missing} slots are lost" if num_missing else self._state.pool.check_idle()

    @property
    def counts(self) -> Counts | None:
        """What is given out; None before the first request."""
        state = self._state
        if state is None:
            return None
        pool = state.pool
        return Counts(
            free_slots=len(state.free_slots),
            slots=self.max_batch,
            free_blocks=pool.num_free,
            blocks=pool.num_blocks - 1,
            prefix_blocks=pool.num_in_prefixes,
            promised_blocks=pool.num_promised,
        )

    def _device_state(self) -> _DeviceState:
        model = self.model
        # A model that moved while nobody spoke begins anew.
        if self._state is None or not self._state.fits(model):
            self._state = None  # frees its memory first
            self._state = _DeviceState(model, self._options, self.max_batch)
        return self._state

    def _end_of_part(self, row: Row) -> int:
        voice_stop, last = row.request.prompt.voice_stop, row.num_prompt - 1
        base, end = (0, voice_stop) if row.num_prefilled < voice_stop <= last else (min(voice_stop, last), last)
        num_parts = (row.num_prefilled - base) // self._options.prefill_positions + 1
        return min(base + num_parts * self._options.prefill_positions, end)

    def _keep_prefix(self, state: _DeviceState, key: object, row: Row) -> None:
        if state.pool.find_prefix(key) is not None:
            return
        prefix = state.pool.keep_prefix(key, row.lease, row.num_prefilled)
        if prefix is not None and prefix.length % state.pool.block_size:
            state.pages.copy_block(row.lease.blocks[len(prefix.blocks) - 1], prefix.blocks[-1])

    def _load_prefix(self, state: _DeviceState, key: object, row: Row) -> None:
        """Take the voice's part of the prompt from disk, if it is there."""
        length = row.request.prompt.voice_stop
        config = self.model.config.backbone
        shape = (config.num_layers, length, config.num_kv_heads, config.head_dim)
        found = None if self._store is None else self._store.load(key, shape, self.model.dtype)
        if found is None:
            return
        state.pool.extend(row.lease, length)
        state.pages.write(row.lease.blocks, *found)
        row.num_prefilled = length
        self._keep_prefix(state, key, row)

    def _finish_prompt(self, state: _DeviceState, row: Row) -> None:
        # The last position is fed by the first frame's step, like a frame by those after it.
        state.carried[row.slot] = row.prompt[-1]
        row.prompt = row.prompt[:0].clone()

    def _next_input(self, state: _DeviceState, row: Row) -> RowInput:
        request, frame = row.request, row.num_launched
        noise = request.noise(frame) * request.noise_scale
        position = row.num_prompt - 1 + frame
        state.pool.extend(row.lease, position + 1)
        return RowInput(
            slot=row.slot,
            position=position,
            place=place_of(row.lease.blocks, position, state.pool.block_size),
            blocks=row.lease.blocks[: state.pool.blocks_for(position + 1)],
            noise=noise,
            guidance_scale=request.guidance_scale,
            may_end=frame >= request.min_frames,
        )

    def _compute(self, state: _DeviceState, rows: list[RowInput], num_euler_steps: int) -> FrameOutputs:
        num_rows, num_blocks = len(rows), max(len(row.blocks) for row in rows)
        # A step of an unusual length runs as it comes.
        is_static = self._is_static and num_blocks <= state.table_width
        if self._options.batch_invariant:
            rows = state.fill_up(rows, self.max_batch)
        elif is_static:
            rows = state.fill_up(rows, bucket_for(num_rows, self.max_batch))
        if is_static:
            inputs = gather_inputs(rows, num_blocks=state.table_width, pin=self.runs_ahead)
            return state.graphs(num_euler_steps).run(inputs)
        inputs = gather_inputs(rows, num_blocks=num_blocks).to(self.model.device)
        spans = [
            Span(index, index + 1, inputs.block_tables[index, : len(row.blocks)].long(), row.position + 1)
            for index, row in enumerate(rows[:num_rows])
        ]
        memory = SpanMemory(state.pages, inputs.places, spans)
        return compute_frame(self.model, state.carried, memory, inputs, state.schedule(num_euler_steps), state.flow)

    @property
    def _is_static(self) -> bool:
        chosen = self._options.cuda_graphs
        return self.model.device.type == "cuda" if chosen is None else chosen

    def _fetch(self, values: Tensor) -> Tensor:
        """Begin to copy to CPU memory; it is there after `_mark` has passed."""
        if not self.runs_ahead:
            return values.cpu()
        target = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
        return target.copy_(values, non_blocking=True)

    def _mark(self) -> torch.cuda.Event | None:
        """Mark the place in the device's queue up to which everything has been asked for."""
        if not self.runs_ahead:
            return None
        event = torch.cuda.Event()
        event.record()
        return event

    def _outcome(
        self, row: Row, outputs: FrameOutputs, index: int, semantic: int, *, is_finite: bool
    ) -> Progress | _Due | Exception:
        """Take one row's frame; say what is to be decoded now, if anything."""
        if not is_finite:
            return self._not_finite("frame", row.num_frames)
        if row.trace is not None:
            row.trace.hidden.append(outputs.hidden[index].clone())
            row.trace.flow_states.append(outputs.flow_state[index].clone())
            row.trace.audio_tokens.append(outputs.audio_tokens[index].clone())
        if semantic == END_AUDIO:
            if not row.pending and row.codec.num_frames == 0:
                return Progress(None, row.num_frames, "end")
            return _Due(row, row.take_pending(), "end")
        row.pending.append(outputs.audio_tokens[index])
        row.num_frames += 1
        if row.num_frames == row.request.max_frames:
            return _Due(row, row.take_pending(), "length")
        if len(row.pending) < self._options.frames_in_chunk(row.num_chunks):
            return Progress(None, row.num_frames, None)
        row.num_chunks += 1
        return _Due(row, row.take_pending(), None)

    def _side_by_side(self, due: list[_Due]) -> list[list[_Due]]:
        """Group what can be decoded together; those whose first audio it is come first."""
        groups: dict[object, list[_Due]] = {}
        for number, member in enumerate(sorted(due, key=lambda member: member.row.codec.num_frames > 0)):
            can_share = member.frames and not self._options.batch_invariant
            shape = (len(member.frames), member.stop is not None, member.row.codec.shape) if can_share else number
            groups.setdefault(shape, []).append(member)
        return list(groups.values())

    def _start_decoding(self, members: list[_Due]) -> _Decoding | _Outcomes:
        # A stream of its own, so that the next frame need not wait for the audio of the last.
        with self._codec_stream():
            try:
                return self._decode(members)
            # Several fail together; one by one shows which of them does.
            except Exception as error:  # noqa: BLE001
                failure = error
        if len(members) == 1:
            return [(members[0].row, failure)]
        return [pair for member in members for pair in self._finish_decoding(self._start_decoding([member]))]

    def _codec_stream(self) -> AbstractContextManager[object]:
        stream = self._device_state().codec_stream
        return nullcontext() if stream is None else torch.cuda.stream(stream)

    def _decode(self, members: list[_Due]) -> _Decoding:
        num_codebooks = self.model.config.codebooks.num_codebooks
        is_last = members[0].stop is not None
        frames = [torch.stack(member.frames) for member in members if member.frames]
        tokens = (
            torch.stack(frames)
            if frames
            else torch.zeros(1, 0, num_codebooks, dtype=torch.int64, device=self.model.device)
        )
        if self.runs_ahead:
            # The other stream made them, and must not give their memory to anything else before this one has read them.
            for member in members:
                for frame in member.frames:
                    frame.record_stream(torch.cuda.current_stream())
        if len(members) == 1:
            samples = self.model.decode_rows(tokens, members[0].row.codec, is_last=is_last)
        else:
            together = CodecState.stack([member.row.codec for member in members])
            samples = self.model.decode_rows(tokens, together, is_last=is_last)
            for index, member in enumerate(members):
                member.row.codec.take_row(together, index, tokens.shape[1])
        is_finite = torch.isfinite(samples).all(dim=-1)
        return _Decoding(members, self._fetch(samples), self._fetch(is_finite), self._mark())

    def _finish_decoding(self, decoding: _Decoding | _Outcomes) -> _Outcomes:
        if isinstance(decoding, list):
            return decoding
        if decoding.made is not None:
            decoding.made.synchronize()
        outcomes: _Outcomes = []
        for index, member in enumerate(decoding.members):
            row = member.row
            if not decoding.is_finite[index]:
                outcomes.append((row, self._not_finite("audio", row.num_frames)))
                continue
            # A copy, so that a chunk does not keep those of its neighbours alive.
            samples = decoding.samples[index].numpy().copy() if decoding.samples.shape[1] else None
            outcomes.append((row, Progress(samples, row.num_frames, member.stop)))
        return outcomes

    def _not_finite(self, what: str, frame: int) -> NumericsError:
        return NumericsError(
            f"the {what} is not finite at frame {frame} in {dtype_name(self.model.dtype)}; "
            "all values must be finite; load the model in bfloat16 or float32"
        )


class _DeviceState:
    """Slots, pages and tables on the model's device; made with the first request."""

    def __init__(self, model: VoxtralModel, options: EngineOptions, max_batch: int) -> None:
        config = model.config.backbone
        self.device, self.dtype = model.device, model.dtype
        if self.device.type == "cuda":
            # For the engine's thread: streams, events and graphs go to its current device.
            torch.cuda.set_device(self.device)
        num_blocks = _plan_blocks(model, options, max_batch)
        self.pool = BlockPool(num_blocks, options.block_size)
        self.pages: KVPages = make_pages(config, num_blocks, options.block_size, device=model.device, dtype=model.dtype)
        # One more for the rows that only fill up a batch.
        self.carried = torch.zeros(max_batch + 1, config.dim, device=model.device, dtype=model.dtype)
        self.free_slots = list(range(max_batch - 1, -1, -1))
        self.flow: Flow | None = FoldedFlow.build(model.acoustic_transformer) if options.flow == "folded" else None
        self.table_width = self.pool.blocks_for(POSITIONS_PER_SEQUENCE)
        self.codec_stream = torch.cuda.Stream(model.device) if model.device.type == "cuda" else None
        self._model = model
        self._schedules: dict[int, FlowSchedule] = {}
        self._graphs: dict[int, FrameGraphs] = {}
        self._num_values = model.config.codebooks.num_acoustic
        self._scratch_slot = max_batch

    def fits(self, model: VoxtralModel) -> bool:
        """Tell whether the model is still where it was, and in that dtype."""
        return (self.device, self.dtype) == (model.device, model.dtype)

    def schedule(self, num_euler_steps: int) -> FlowSchedule:
        """Look up or make the flow's schedule; there are at most 100."""
        if num_euler_steps not in self._schedules:
            self._schedules[num_euler_steps] = self._model.acoustic_transformer.make_schedule(num_euler_steps)
        return self._schedules[num_euler_steps]

    def graphs(self, num_euler_steps: int) -> FrameGraphs:
        """Look up or make the static frames of a schedule."""
        if num_euler_steps not in self._graphs:
            schedule = self.schedule(num_euler_steps)

            def compute(inputs: FrameInputs) -> FrameOutputs:
                memory = StepMemory(self.pages, inputs.places, inputs.block_tables, inputs.lengths)
                return compute_frame(self._model, self.carried, memory, inputs, schedule, self.flow)

            def blank(num_rows: int) -> FrameInputs:
                return gather_inputs(self.fill_up([], num_rows), num_blocks=self.table_width)

            self._graphs[num_euler_steps] = FrameGraphs(compute, blank, self.device)
        return self._graphs[num_euler_steps]

    def fill_up(self, rows: list[RowInput], num_rows: int) -> list[RowInput]:
        """Add rows that nobody looks at."""
        return rows + [self._padding_row(index) for index in range(len(rows), num_rows)]

    def _padding_row(self, index: int) -> RowInput:
        return RowInput(
            slot=self._scratch_slot,
            position=0,
            place=scratch_place(index, self.pool.block_size),
            blocks=[SCRATCH_BLOCK],
            noise=np.zeros(self._num_values, dtype=np.float32),
            guidance_scale=1.0,
            may_end=True,
        )


def _plan_blocks(model: VoxtralModel, options: EngineOptions, max_batch: int) -> int:
    block_bytes = options.block_size * kv_bytes_per_position(model.config.backbone, model.dtype)
    if options.kv_cache_bytes is not None:
        return 1 + max(1, options.kv_cache_bytes // block_bytes)
    # A single request may be as long as the model allows.
    num_positions = max(max_batch * POSITIONS_PER_SEQUENCE, model.config.backbone.max_seq_len)
    num_blocks = 1 + -(-num_positions // options.block_size)
    if model.device.type == "cuda":
        free = torch.cuda.mem_get_info(model.device)[0]
        num_blocks = min(num_blocks, max(2, int(free * _SHARE_OF_FREE_MEMORY) // block_bytes))
    return num_blocks


def _num_positions(request: GenerationRequest) -> int:
    """Count the positions that a request may fill: the last frame is not fed back."""
    return len(request.prompt.token_ids) - 1 + request.max_frames


def _prefix_key(request: GenerationRequest) -> object:
    """Tell what starts of prompts are the same; None if this one is not shared."""
    # A prompt that ends with the voice has no position left to go on from.
    if request.voice_key is None or request.prompt.voice_stop >= len(request.prompt.token_ids):
        return None
    return request.voice_key, request.prompt.token_ids[: request.prompt.voice_stop]
