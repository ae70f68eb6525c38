"""Runs sequences on the model: the only file of the engine that calls it.

The engine admits a request (`admit`), runs its prompt in parts (`prefill`), and then asks for a frame of many rows at a
time (`launch`), whose results it fetches with `collect`: on a GPU one step late, so that the next step runs
meanwhile. Each call makes at most one frame of a row, and returns the audio that is due by then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from voxtral.config import END_AUDIO
from voxtral.device import dtype_name
from voxtral.engine.blocks import SCRATCH_BLOCK, BlockPool, Lease
from voxtral.engine.frame import FrameOutputs, RowInput, compute_frame, gather_inputs
from voxtral.engine.kv_cache import KVPages, Span, SpanMemory, make_pages, place_of, position_bytes, scratch_place
from voxtral.engine.options import EngineOptions
from voxtral.engine.sequence import GenerationRequest, GenerationTrace, Stop
from voxtral.errors import NumericsError, OptionError
from voxtral.model.acoustic import Flow, FlowSchedule
from voxtral.model.codec import CodecState
from voxtral.model.folded import FoldedFlow
from voxtral.model.voxtral import VoxtralModel

if TYPE_CHECKING:
    import numpy.typing as npt

_MAX_BATCH = {"cuda": 64}
_MAX_BATCH_ELSEWHERE = 16
# Room for each row of a batch by default: 500 characters with a long voice, or 2.5 minutes of speech.
_POSITIONS_PER_ROW = 2048
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


@dataclass(frozen=True, eq=False)
class Step:
    """One frame of several rows, asked for and perhaps not there yet."""

    groups: list[tuple[list[Row], FrameOutputs]]  # rows that share a flow schedule
    failures: list[tuple[Row, Exception]]  # rows that could not take part
    made: torch.cuda.Event | None = None  # None where `launch` has waited


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

    @property
    def runs_ahead(self) -> bool:
        """Whether `launch` returns before the frame is made, so that a second may be asked for meanwhile."""
        return self.model.device.type == "cuda"

    @property
    def max_batch(self) -> int:
        """Rows that make frames side by side."""
        return self._options.max_batch or _MAX_BATCH.get(self.model.device.type, _MAX_BATCH_ELSEWHERE)

    def check(self, request: GenerationRequest) -> None:
        """Refuse what could never be admitted.

        Raises:
            OptionError: prompt and frame budget are longer than the whole KV cache.
        """
        num_positions = _num_positions(request)
        capacity = (_plan_blocks(self.model, self._options, self.max_batch) - 1) * self._options.block_size
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
        prompt = self.model.embed_prompt(torch.tensor(request.prompt.token_ids), request.voice_rows)
        key = _prefix_key(request)
        prefix = None if key is None else state.pool.find_prefix(key)
        num_positions = _num_positions(request)
        lease = state.pool.lease(num_positions, prefix)
        if lease is None and prefix is not None:
            prefix, lease = None, state.pool.lease(num_positions)
        if lease is None:
            return None
        row = Row(request, trace, lease, state.free_slots.pop(), self.model.init_codec_state(), prompt)
        if prefix is not None:
            row.num_prefilled = prefix.length
            if prefix.length % state.pool.block_size:
                state.pool.extend(lease, prefix.length)
                state.pages.copy_block(prefix.blocks[-1], lease.blocks[-1])
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
            launched.append(([row for row, _ in members], outputs))
        return Step(launched, failures)

    def wait(self, step: Step) -> list[Row]:
        """Wait until a step's frames are made, and name the rows that `collect` will tell of."""
        if step.made is not None:
            step.made.synchronize()
        return [row for row, _ in step.failures] + [row for rows, _ in step.groups for row in rows]

    def collect(self, step: Step) -> Iterator[tuple[Row, Progress | Exception]]:
        """Look at the frames of a step, and decode the chunks that they complete.

        Yields:
            Each row as soon as its audio is there; those whose first audio it is come first.
        """
        yield from step.failures
        for rows, outputs in step.groups:
            semantic = outputs.audio_tokens[:, 0].tolist()
            is_finite = outputs.is_finite.tolist()
            for index in sorted(range(len(rows)), key=lambda index: rows[index].num_chunks > 0):
                yield rows[index], self._outcome(rows[index], outputs, index, semantic[index], is_finite[index])

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
        if self._state is None or (self._state.device, self._state.dtype) != (model.device, model.dtype):
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
        num_rows = len(rows)
        if self._options.batch_invariant:
            rows = rows + [state.padding_row(index) for index in range(num_rows, self.max_batch)]
        inputs = gather_inputs(rows, num_blocks=max(len(row.blocks) for row in rows)).to(self.model.device)
        spans = [
            Span(index, index + 1, inputs.block_tables[index, : len(row.blocks)].long(), row.position + 1)
            for index, row in enumerate(rows[:num_rows])
        ]
        memory = SpanMemory(state.pages, inputs.places, spans)
        return compute_frame(self.model, state.carried, memory, inputs, state.schedule(num_euler_steps), state.flow)

    def _outcome(
        self, row: Row, outputs: FrameOutputs, index: int, semantic: int, is_finite: bool
    ) -> Progress | Exception:
        # Not within the generator: the engine clears the frames of a failure, and a generator's would end it.
        try:
            return self._look_at(row, outputs, index, semantic, is_finite=is_finite)
        # Whatever goes wrong in one sequence ends that sequence alone.
        except Exception as error:  # noqa: BLE001
            return error

    def _look_at(self, row: Row, outputs: FrameOutputs, index: int, semantic: int, *, is_finite: bool) -> Progress:
        """Take one row's frame, and decode the chunk that it completes."""
        if not is_finite:
            raise self._not_finite("hidden state", row.num_frames)
        if row.trace is not None:
            row.trace.hidden.append(outputs.hidden[index].clone())
            row.trace.flow_states.append(outputs.flow_state[index].clone())
            row.trace.audio_tokens.append(outputs.audio_tokens[index].clone())
        if semantic == END_AUDIO:
            return Progress(self._decode(row, is_last=True), row.num_frames, "end")
        row.pending.append(outputs.audio_tokens[index])
        row.num_frames += 1
        if row.num_frames == row.request.max_frames:
            return Progress(self._decode(row, is_last=True), row.num_frames, "length")
        samples = None
        if len(row.pending) == self._options.frames_in_chunk(row.num_chunks):
            samples = self._decode(row, is_last=False)
            row.num_chunks += 1
        return Progress(samples, row.num_frames, None)

    def _decode(self, row: Row, *, is_last: bool) -> npt.NDArray[np.float32] | None:
        if not row.pending and row.codec.num_frames == 0:
            return None
        num_codebooks = self.model.config.codebooks.num_codebooks
        empty = torch.zeros(0, num_codebooks, dtype=torch.int64, device=self.model.device)
        frames = torch.stack(row.pending) if row.pending else empty
        row.pending = []
        samples = self.model.decode_audio(frames, row.codec, is_last=is_last)
        if not bool(torch.isfinite(samples).all()):
            raise self._not_finite("audio", row.num_frames)
        return samples.cpu().numpy() if samples.numel() else None

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
        num_blocks = _plan_blocks(model, options, max_batch)
        self.pool = BlockPool(num_blocks, options.block_size)
        self.pages: KVPages = make_pages(config, num_blocks, options.block_size, device=model.device, dtype=model.dtype)
        # One more for the rows that only fill up a batch.
        self.carried = torch.zeros(max_batch + 1, config.dim, device=model.device, dtype=model.dtype)
        self.free_slots = list(range(max_batch - 1, -1, -1))
        self.flow: Flow | None = FoldedFlow.build(model.acoustic_transformer) if options.flow == "folded" else None
        self._acoustic = model.acoustic_transformer
        self._schedules: dict[int, FlowSchedule] = {}
        self._num_values = model.config.codebooks.num_acoustic
        self._scratch_slot = max_batch

    def schedule(self, num_euler_steps: int) -> FlowSchedule:
        """Look up or make the flow's schedule; there are at most 100."""
        if num_euler_steps not in self._schedules:
            self._schedules[num_euler_steps] = self._acoustic.make_schedule(num_euler_steps)
        return self._schedules[num_euler_steps]

    def padding_row(self, index: int) -> RowInput:
        """Make a row that nobody looks at."""
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
    block_bytes = options.block_size * position_bytes(model.config.backbone, model.dtype)
    if options.kv_cache_bytes is not None:
        return 1 + max(1, options.kv_cache_bytes // block_bytes)
    # A single request may be as long as the model allows.
    num_positions = max(max_batch * _POSITIONS_PER_ROW, model.config.backbone.max_seq_len)
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
    if request.voice_key is None:
        return None
    return request.voice_key, request.prompt.token_ids[: request.prompt.voice_stop]
