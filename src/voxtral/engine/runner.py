"""Runs sequences on the model, for the engine.

The engine admits a request (`admit`), runs its prompt in parts (`prefill`), and then asks for a frame of many rows at a
time (`launch`), whose results it fetches with `collect`: on a GPU one step late, so that the next step runs
meanwhile. Each call makes at most one frame of a row, and returns the audio that is due by then. What rows hold is in
`memory`, how a frame is computed in `frame_maker`, and how frames become audio in `vocoder`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from voxtral.device import is_out_of_memory, release_memory
from voxtral.engine.audio_maker import AudioMaker
from voxtral.engine.blocks import BlockPool
from voxtral.engine.frame_maker import FrameMaker, fold_flow
from voxtral.engine.frame_reader import FrameReader, Group, Step
from voxtral.engine.graphs import usual_recorder
from voxtral.engine.inputs import RowInput
from voxtral.engine.kv_cache import Span, SpanMemory, kv_slot
from voxtral.engine.memory import DeviceMemory, lacks_memory, plan_blocks
from voxtral.engine.noise import NoiseMaker
from voxtral.engine.options import MAX_FOLLOWED_TOKENS, EngineOptions, check_text_heads, default_max_batch
from voxtral.engine.paths import Paths
from voxtral.engine.prefix_store import PrefixStore
from voxtral.engine.protocol import Counts, RunnerProtocol
from voxtral.engine.row import Row
from voxtral.engine.sequence import GenerationRequest, GenerationTrace
from voxtral.engine.transfer import mark, to_host
from voxtral.engine.vocoder import Outcome, Vocoder
from voxtral.errors import OptionError
from voxtral.model.voxtral import VoxtralModel, round_flow_to_float8, set_flow_activations

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

    from voxtral.engine.frame import FrameOutputs

# Of the time to warm up, so that frames get theirs too; their sizes are fewer, and cost more to meet in a stream.
_SHARE_OF_AUDIO = 0.4


@dataclass(frozen=True, eq=False)
class _OnDevice:
    """What the runner has made on the model's device."""

    memory: DeviceMemory
    frames: FrameMaker
    vocoder: Vocoder

    def fits(self, model: VoxtralModel) -> bool:
        """Tell whether the model is still where it was, and in that dtype."""
        return (self.memory.device, self.memory.dtype) == (model.device, model.dtype)


class Runner(RunnerProtocol[Row, Step]):
    """Runs one model.

    Args:
        model: on its device, in its dtype.
        options: sizes and choices.
        paths: ways of computing that are open; others may share them.

    Raises:
        DeviceError: the options want float8 of a GPU that has none.
        OptionError: they want it of a flow that is quantised already, or activations of 8 bits of one that is not, or
            name heads that the model has not.
    """

    def __init__(self, model: VoxtralModel, options: EngineOptions, paths: Paths | None = None) -> None:
        self.model = model
        self.paths = paths or Paths(str(model.device))
        self._options = options
        self._made: _OnDevice | None = None
        self._noise = NoiseMaker()
        check_text_heads(options.text_heads, model.config.backbone)
        if options.flow_dtype == "float8":
            round_flow_to_float8(model)
        set_flow_activations(model, 1 if options.activations == "int8" else 2)
        folder = options.prefix_folder
        self._stored = None if folder is None else PrefixStore(folder, options.prefix_fingerprint)

    @property
    def runs_ahead(self) -> bool:
        """See RunnerProtocol."""
        return self.model.device.type == "cuda" and self.paths.is_open("ahead")

    @property
    def max_batch(self) -> int:
        """See RunnerProtocol."""
        return self._options.max_batch or default_max_batch(self.model.device.type)

    @property
    def counts(self) -> Counts | None:
        """See RunnerProtocol."""
        return None if self._made is None else self._made.memory.counts

    # Rows.

    def check(self, request: GenerationRequest) -> None:
        """See RunnerProtocol."""
        start, stop = request.prompt.text_span
        if request.follower is not None and not 0 < stop - start <= MAX_FOLLOWED_TOKENS:
            raise OptionError(
                f"a text of {stop - start} tokens is to be followed; it must have 1 to {MAX_FOLLOWED_TOKENS}; speak "
                "shorter segments, or without a follower"
            )
        made = self._made
        # What is there counts: it was planned by memory that was free then and is not any more.
        capacity = (
            made.memory.pool.capacity
            if made is not None and made.fits(self.model)
            else (plan_blocks(self.model, self._options, self.max_batch) - 1) * self._options.block_size
        )
        if request.num_positions > capacity:
            raise OptionError(
                f"the request may take {request.num_positions} positions (prompt {len(request.prompt.token_ids)}, at "
                f"most {request.max_frames} frames); the KV cache has {capacity}; lower max_frames, speak shorter "
                "segments, or give the engine more memory"
            )

    def admit(self, request: GenerationRequest, trace: GenerationTrace | None) -> Row | None:
        """See RunnerProtocol."""
        memory = self._on_device().memory
        room = memory.take_room(request)
        if room is None:
            return None
        try:
            prompt = self.model.embed_prompt(torch.tensor(request.prompt.token_ids), request.voice_rows)
            state = self.model.init_codec_state(request.noise_key)
            row = Row(request, trace, room.reservation, room.slot, state, prompt)
            memory.begin_with_prefix(row, room.prefix)
            if row.is_prefilled:
                self._finish_prompt(memory, row)
        except BaseException:
            memory.give_back(room.slot, room.reservation)
            raise
        return row

    def release(self, row: Row) -> None:
        """See RunnerProtocol."""
        row.has_ended = True
        if row.swapped is not None:
            row.swapped = None
            return
        made = self._on_device()
        made.vocoder.release(row)
        made.memory.give_back(row.slot, row.reservation)

    def swap_out(self, row: Row) -> None:
        """See RunnerProtocol."""
        made = self._on_device()
        made.vocoder.swap_out(row)
        made.memory.swap_out(row)

    def swap_in(self, row: Row) -> bool:
        """See RunnerProtocol."""
        return self._on_device().memory.swap_in(row)

    # Prompts.

    def is_prefix_awaited(self, request: GenerationRequest, rows: list[Row]) -> bool:
        """See RunnerProtocol."""
        key = request.prefix_key
        return key is not None and any(
            row.num_prefilled < row.request.prompt.voice_stop and row.request.prefix_key == key for row in rows
        )

    def num_positions_of_part(self, row: Row) -> int:
        """See RunnerProtocol."""
        return self._end_of_part(row) - row.num_prefilled

    def prefill(self, rows: list[Row]) -> None:
        """Run the next part of the prompt of each row; none of them is prefilled.

        Parts end at fixed positions: the end of the voice, and multiples of `prefill_positions` from there on.
        """
        if self._options.batch_invariant:
            for row in rows:
                self._prefill_together([row])
        else:
            self._prefill_together(rows)

    def _prefill_together(self, rows: list[Row]) -> None:
        memory, device = self._on_device().memory, self.model.device
        spans: list[Span] = []
        slot_mapping: list[int] = []
        positions: list[int] = []
        for row in rows:
            start, stop = row.num_prefilled, self._end_of_part(row)
            memory.pool.extend(row.reservation, stop)
            blocks = row.reservation.blocks
            first = len(positions)
            positions += range(start, stop)
            slot_mapping += [kv_slot(blocks, position, memory.pool.block_size) for position in range(start, stop)]
            spans.append(Span(first, len(positions), torch.tensor(blocks, device=device), stop))
        seen = SpanMemory(memory.pages, torch.tensor(slot_mapping, device=device), spans)
        parts = [row.prompt[row.num_prefilled : span.num_seen] for row, span in zip(rows, spans, strict=True)]
        self.model.backbone.extend(torch.cat(parts), torch.tensor(positions, device=device), seen)
        for row, span in zip(rows, spans, strict=True):
            row.num_prefilled = span.num_seen
            memory.keep_prefix(row)
            if row.is_prefilled:
                self._finish_prompt(memory, row)

    def _end_of_part(self, row: Row) -> int:
        voice_stop, last = row.request.prompt.voice_stop, row.num_prompt - 1
        base, end = (0, voice_stop) if row.num_prefilled < voice_stop <= last else (min(voice_stop, last), last)
        num_parts = (row.num_prefilled - base) // self._options.prefill_positions + 1
        return min(base + num_parts * self._options.prefill_positions, end)

    def _finish_prompt(self, memory: DeviceMemory, row: Row) -> None:
        # The last position is fed by the first frame's step, like a frame by those after it.
        memory.carried[row.slot] = row.prompt[-1]
        row.prompt = row.prompt[:0].clone()

    # Frames.

    def launch(self, rows: list[Row]) -> Step:
        """See RunnerProtocol."""
        made = self._on_device()
        members_of: dict[tuple[int, int], list[tuple[Row, RowInput]]] = {}
        inputs, failures = self._next_inputs(made.memory, rows)
        kinds = made.frames.kinds_of([row_input for _, row_input in inputs])
        for member, kind in zip(inputs, kinds, strict=True):
            row = member[0]
            members_of.setdefault((row.request.num_euler_steps, kind), []).append(member)
            row.num_launched += 1
        launched: list[Group] = []
        for (num_euler_steps, _), members in members_of.items():
            outputs = made.frames.make([row_input for _, row_input in members], num_euler_steps)
            semantic, is_finite = outputs.audio_tokens[: len(members), 0], outputs.is_finite[: len(members)]
            weights = _fetch_weights(outputs, [row_input for _, row_input in members])
            of_step = [row for row, _ in members]
            rewinds = [row.num_rewinds for row in of_step]
            launched.append(Group(of_step, rewinds, outputs, to_host(semantic), to_host(is_finite), weights))
        return Step(launched, failures, mark(self.model.device))

    def _next_inputs(
        self, memory: DeviceMemory, rows: list[Row]
    ) -> tuple[list[tuple[Row, RowInput]], list[tuple[Row, Exception]]]:
        """Make the input of each row's next frame; what is wrong with one of them concerns that row alone."""
        noises = self._noise.each(
            [row.request.noise for row in rows],
            [row.num_launched for row in rows],
            [row.request.noise_scale for row in rows],
            self.model.config.codebooks.num_acoustic,
        )
        inputs: list[tuple[Row, RowInput]] = []
        failures: list[tuple[Row, Exception]] = []
        for row, noise in zip(rows, noises, strict=True):
            try:
                inputs.append((row, self._next_input(memory.pool, row, noise)))
            except Exception as error:  # noqa: BLE001
                failures.append((row, error))
        return inputs, failures

    def _next_input(self, pool: BlockPool, row: Row, noise: npt.NDArray[np.float32] | Exception) -> RowInput:
        """Take what a row's next frame needs of the cache, and say where it is.

        Raises:
            Exception: that one, in place of noise.
        """
        if isinstance(noise, Exception):
            raise noise
        request, frame, blocks = row.request, row.num_launched, row.reservation.blocks
        position = row.num_prompt - 1 + frame
        num_blocks = pool.blocks_for(position + 1)
        if len(blocks) < num_blocks:
            pool.extend(row.reservation, position + 1)
        return RowInput(
            row.slot,
            position,
            kv_slot(blocks, position, pool.block_size),
            blocks if len(blocks) == num_blocks else blocks[:num_blocks],
            noise,
            request.guidance_scale,
            frame >= max(request.min_frames, row.may_end_from),
            request.prompt.text_span if row.is_followed else None,
            row.text_keys,
        )

    def wait(self, step: Step) -> None:
        """See RunnerProtocol."""
        if step.made is not None:
            step.made.synchronize()

    def collect(self, step: Step) -> Iterator[Outcome]:
        """See RunnerProtocol."""
        made = self._on_device()
        return FrameReader(self.model, made.memory, made.vocoder).read(step)

    @property
    def has_audio(self) -> bool:
        """See RunnerProtocol."""
        return self._made is not None and self._made.vocoder.has_audio

    def hand_over(self, *, wait: bool) -> Iterator[Outcome]:
        """See RunnerProtocol."""
        if self._made is not None:
            yield from self._made.vocoder.hand_over(wait=wait)

    # What is on the device.

    def check_idle(self) -> str | None:
        """See RunnerProtocol."""
        if self._made is None:
            return None
        num_states = self._made.vocoder.num_slots
        return f"{num_states} states of audio are lost" if num_states else self._made.memory.check_idle()

    def warm_up(self, limit_s: float) -> str:
        """See RunnerProtocol: the codec's chunks, then static frames, the largest first; what is left comes lazily."""
        started = time.perf_counter()
        made = self._on_device()
        num_calls = 0
        for _, _, is_captured in made.vocoder.warm_up(self.model.config.codebooks.num_codebooks):
            num_calls += is_captured
            if time.perf_counter() - started > limit_s * _SHARE_OF_AUDIO:
                break
        captured: list[int] = []
        num_eager = 0
        for num_rows, is_captured in made.frames.prepare():
            if is_captured:
                captured.append(num_rows)
            else:
                num_eager += 1
            if time.perf_counter() - started > limit_s:
                break
        graphs = f"graphs of {captured[0]} to {captured[-1]} rows" if captured else "no graphs"
        eager = f", {num_eager} sizes without" if num_eager and captured else ""
        chunks = f"{num_calls} graphs of codec chunks" if num_calls else "codec chunks"
        return f"{chunks} and {graphs}{eager} in {time.perf_counter() - started:.1f} s"

    def follow_text(self, heads: tuple[tuple[int, int], ...]) -> None:
        """See RunnerProtocol."""
        check_text_heads(heads, self.model.config.backbone)
        self._options = replace(self._options, text_heads=heads)
        if self._made is not None:
            self._made.frames.follow_text(heads)

    def reset(self) -> None:
        """See RunnerProtocol."""
        self._made = None

    def weights_changed(self) -> None:
        """See RunnerProtocol.

        A move to a narrower dtype and back rounds them, and what is on disk belongs to those of the checkpoint.
        """
        self.reset()
        self._stored = None

    def _on_device(self) -> _OnDevice:
        model = self.model
        # A model that moved while nobody spoke begins anew.
        if self._made is None or not self._made.fits(model):
            self._made = None  # frees its memory first: nothing it holds holds it
            if model.device.type == "cuda":
                # For the engine's thread: streams, events and graphs go to its current device.
                torch.cuda.set_device(model.device)
                # What torch keeps of that for itself would look taken when the cache is planned.
                release_memory()
            # On a GPU a prompt takes milliseconds, and its rounding differs.
            store = self._stored if model.device.type == "cpu" else None
            self._made = self._make(store)
        return self._made

    def _make(self, store: PrefixStore | None) -> _OnDevice:
        model, options = self.model, self._options
        try:
            if model.device.type == "cuda":
                model.codec.fuse()  # before the memory that is left is planned with
            flow = fold_flow(model, options, self.paths)
            memory = DeviceMemory(model, options, self.max_batch, store)
            frames = FrameMaker(model, memory, options, self.max_batch, self.paths, folded=flow)
            return _OnDevice(memory, frames, self._make_vocoder())
        except Exception as error:
            if is_out_of_memory(error):
                # Not chained: the error holds this frame of the stack, and that what there is of the memory.
                raise lacks_memory(model, options, self.max_batch) from None
            raise

    def _make_vocoder(self) -> Vocoder:
        model, options = self.model, self._options
        maker = None
        if (model.device.type == "cuda" or options.cuda_graphs is True) and self.paths.is_open("codec_step"):
            step, num_codebooks = model.make_codec_step(), model.config.codebooks.num_codebooks
            recorder = usual_recorder(model.device, options)
            if step is not None:
                maker = AudioMaker(step, options, model.device, self.max_batch, num_codebooks, self.paths, recorder)
        has_stream = self.paths.is_open("codec_stream")
        rate = model.config.sample_rate
        return Vocoder(
            model, options, model.device, model.dtype, rate, has_stream=has_stream, maker=maker, paths=self.paths
        )


def _fetch_weights(outputs: FrameOutputs, rows: list[RowInput]) -> Tensor | None:
    """Begin to copy what was seen of the texts, up to the last row that is followed; None where none is."""
    num_rows = max((number for number, row in enumerate(rows, 1) if row.text is not None), default=0)
    if outputs.text_weights is None or not num_rows:
        return None
    return to_host(outputs.text_weights[:num_rows])
