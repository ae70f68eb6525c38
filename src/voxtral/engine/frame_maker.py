"""From rows to a frame: fills a batch up, and computes it in static buffers or as it comes.

`frame` has the computation, `graphs` the buffers; here one of the ways is chosen, and the next where one fails. Read
next: `voxtral.engine.frame`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import product

import numpy as np
import torch

from voxtral.device import has_remedy, release_memory
from voxtral.engine.blocks import SCRATCH_BLOCK
from voxtral.engine.frame import FrameOutputs, compute_frame
from voxtral.engine.graphs import (
    CAPTURES,
    FrameGraphs,
    Recorder,
    bucket_for,
    buckets_up_to,
    tell_of_capture,
    usual_recorder,
)
from voxtral.engine.inputs import FrameInputs, InputStage, RowInput, gather_inputs
from voxtral.engine.kv_cache import KVPages, Span, SpanMemory, StepMemory, TextListener, scratch_kv_slot
from voxtral.engine.memory import DeviceMemory
from voxtral.engine.options import MAX_FOLLOWED_TOKENS, POSITIONS_PER_SEQUENCE, EngineOptions
from voxtral.engine.paths import PathName, Paths
from voxtral.model.acoustic import Flow, FlowSchedule
from voxtral.model.folded import FoldedFlow
from voxtral.model.kernels.dispatch import one_line
from voxtral.model.kernels.text import PagedTexts, TextHeads
from voxtral.model.voxtral import VoxtralModel

# How many times the usual width the wide block tables have: 8192 positions, ten minutes of speech.
_WIDE = 4


# What a way uses of the paths that could be closed, and the call that makes the frame.
Way = tuple[frozenset[PathName], Callable[[], FrameOutputs]]


@dataclass(frozen=True, eq=False)
class StaticStep:
    """The computation of a frame in static shapes. It knows nothing of the graphs that hold it."""

    model: VoxtralModel
    pages: KVPages
    carried: torch.Tensor
    schedule: FlowSchedule
    flow: Flow | None
    text_heads: TextHeads | None = None

    def __call__(self, inputs: FrameInputs) -> FrameOutputs:
        """Make a frame from inputs on the device; they have texts where there are heads that follow them."""
        listener = None
        if self.text_heads is not None:
            texts = PagedTexts(inputs.text_starts, inputs.text_lengths, inputs.block_tables)
            listener = TextListener(self.text_heads, texts)
        memory = StepMemory(self.pages, inputs.slot_mapping, inputs.block_tables, inputs.lengths, listener)
        return compute_frame(self.model, self.carried, memory, inputs, self.schedule, self.flow)


@dataclass(frozen=True)
class Padding:
    """Makes rows that nobody looks at, and inputs of nothing else."""

    scratch_slot: int
    block_size: int
    num_acoustic: int
    _rows: list[RowInput] = field(default_factory=list[RowInput])  # made once, and only read

    def fill_up(self, rows: list[RowInput], num_rows: int) -> list[RowInput]:
        """Add rows up to a number."""
        self._rows.extend(self._row(index) for index in range(len(self._rows), num_rows))
        return rows + self._rows[len(rows) : num_rows]

    def blank(self, num_rows: int, num_blocks: int, *, has_texts: bool = False) -> FrameInputs:
        """Make inputs of such rows alone."""
        return gather_inputs(self.fill_up([], num_rows), num_blocks=num_blocks, has_texts=has_texts)

    def _row(self, index: int) -> RowInput:
        return RowInput(
            slot=self.scratch_slot,
            position=0,
            kv_slot=scratch_kv_slot(index, self.block_size),
            blocks=[SCRATCH_BLOCK],
            noise=np.zeros(self.num_acoustic, dtype=np.float32),
            guidance_scale=1.0,
            may_end=True,
        )


class FrameMaker:
    """Makes frames of a model's rows.

    Args:
        model: on its device.
        memory: of the rows, on the same device.
        options: of the flow, of graphs and of batches.
        max_batch: rows at most.
        paths: which ways are open; one that fails is closed.
        recorder: captures frames; by default CUDA graphs where there is a GPU.
        folded: from `fold_flow`, where it was made before the memory of the rows was; by default made here.
    """

    def __init__(
        self,
        model: VoxtralModel,
        memory: DeviceMemory,
        options: EngineOptions,
        max_batch: int,
        paths: Paths | None = None,
        recorder: Recorder | None = None,
        folded: Flow | None = None,
    ) -> None:
        self._model = model
        self._memory = memory
        self._options = options
        self._max_batch = max_batch
        self._paths = paths or Paths(str(model.device))
        self._recorder = recorder or self._usual_recorder()
        self._folded = folded or fold_flow(model, options, self._paths)
        self._padding = Padding(memory.scratch_slot, memory.pool.block_size, model.config.codebooks.num_acoustic)
        self._widths = self._choose_widths()
        self._is_cuda = model.device.type == "cuda"
        self._heads = make_text_heads(model, memory.pages, options.text_heads)
        self._schedules: dict[int, FlowSchedule] = {}
        self._stages: dict[tuple[int, int, bool], InputStage] = {}
        self._graphs: FrameGraphs | None = None
        self._graphs_of: tuple[Flow | None, TextHeads | None] = (None, None)

    def make(self, rows: list[RowInput], num_euler_steps: int) -> FrameOutputs:
        """Make the next frame of each row; the outputs may have further rows that nobody looks at.

        Args:
            rows: at least one, of one kind; see `kinds_of`.
            num_euler_steps: of the flow.
        """
        if not self._is_static:
            return self._as_it_comes(rows, num_euler_steps, self._flow, self._text_heads)
        return self._first_that_works(list(self._ways(rows, num_euler_steps)))

    def follow_text(self, heads: Sequence[tuple[int, int]]) -> None:
        """Measure what other heads see of the texts, from the next frame on; static frames are made anew for it.

        Args:
            heads: layer and query head each; none measures nothing.
        """
        self._heads = make_text_heads(self._model, self._memory.pages, heads)
        self._stages.clear()
        self._graphs = None
        if self._is_cuda:
            release_memory()  # of the graphs: others have pools of their own

    def kinds_of(self, rows: list[RowInput]) -> list[int]:
        """Tell rows apart that must not be in one step: those of one number may be.

        A row that is longer than all block tables runs as it comes, and must not take others along. With
        `batch_invariant` the width of a row's table is its own affair too, for sums depend on it.
        """
        longest = max((len(row.blocks) for row in rows), default=0)
        if not self._is_static or longest <= self._widths[0]:
            return [0] * len(rows)
        return [self._kind_of(len(row.blocks)) for row in rows]

    def _kind_of(self, num_blocks: int) -> int:
        kind = next((kind for kind, width in enumerate(self._widths) if num_blocks <= width), len(self._widths))
        return kind if self._options.batch_invariant or kind == len(self._widths) else 0

    def prepare(self) -> Iterator[tuple[int, bool]]:
        """Make the static frames of the usual width before anybody waits for them, the largest first.

        Yields:
            The rows of each size once it is there, and whether it is captured.
        """
        if not self._is_static:
            return
        heads = self._text_heads
        graphs = self._own_graphs(self._flow, heads)
        if self._recorder is None or CAPTURES.refusal is not None:
            # Nothing to capture, and kernels to compile.
            graphs.run(self._padding.blank(1, self._widths[0], has_texts=heads is not None))
            return
        sizes = [self._max_batch] if self._options.batch_invariant else buckets_up_to(self._max_batch)
        for num_rows in sizes:
            yield num_rows, graphs.prepare(num_rows, self._widths[0])

    @property
    def graph_sizes(self) -> dict[tuple[int, int], bool]:
        """Rows and blocks of the static frames that are there, and whether each is captured."""
        return {} if self._graphs is None else self._graphs.sizes

    # Which ways there are.

    @property
    def _is_static(self) -> bool:
        return (self._is_cuda or self._options.cuda_graphs is True) and self._paths.is_open("static")

    @property
    def _flow(self) -> Flow | None:
        return self._folded if self._paths.is_open("folded") else None

    @property
    def _text_heads(self) -> TextHeads | None:
        return self._heads if self._paths.is_open("text") else None

    def _usual_recorder(self) -> Recorder | None:
        return usual_recorder(self._model.device, self._options)

    def _choose_widths(self) -> list[int]:
        """Choose the widths of block tables that static steps may have, in blocks."""
        usual = self._memory.pool.blocks_for(POSITIONS_PER_SEQUENCE)
        longest = self._memory.pool.blocks_for(self._model.config.backbone.max_seq_len)
        return [usual] if longest <= usual else [usual, min(longest, _WIDE * usual)]

    def _ways(self, rows: list[RowInput], num_euler_steps: int) -> Iterator[Way]:
        """Give the ways to make a frame, the best first."""
        num_blocks = max(len(row.blocks) for row in rows)
        width = next((width for width in self._widths if num_blocks <= width), None)
        choices = product(
            (self._text_heads, None) if self._text_heads is not None else (None,),
            (True, False) if width is not None else (False,),
            (self._flow, None) if self._flow is not None else (None,),
        )
        for heads, is_static, flow in choices:
            paths: set[PathName] = set()
            paths |= {"text"} if heads is not None else set()
            paths |= {"static"} if is_static else set()
            paths |= {"folded"} if flow is not None else set()
            make = (
                partial(self._in_static_buffers, rows, num_euler_steps, flow, heads, width or 0)
                if is_static
                else partial(self._as_it_comes, rows, num_euler_steps, flow, heads)
            )
            yield frozenset(paths), make

    def _first_that_works(self, ways: list[Way]) -> FrameOutputs:
        """Make a frame one way or another; what the way that works does without is closed.

        Where none works, the fault lies elsewhere, and all stay open. What a frame has written, it writes again.
        """
        failed: list[Exception] = []
        for paths, make in ways:
            try:
                outputs = make()
            except Exception as error:  # noqa: BLE001 - it is raised where no way works
                self._check_remedy(error)
                failed.append(error)
                continue
            if failed:
                reason = one_line(f"{type(failed[0]).__name__}: {failed[0]}")
                failed.clear()  # an error holds this frame of the stack, and that everything
                for path in ways[0][0] - paths:
                    self._paths.close(path, reason)
            return outputs
        raise failed[0]

    def _check_remedy(self, error: Exception) -> None:
        """Raise again what another way would not cure."""
        if not has_remedy(error, self._model.device):
            raise error from None

    # The ways.

    def _in_static_buffers(
        self, rows: list[RowInput], num_euler_steps: int, flow: Flow | None, heads: TextHeads | None, width: int
    ) -> FrameOutputs:
        size = self._max_batch if self._options.batch_invariant else bucket_for(len(rows), self._max_batch)
        stage = self._stage_for(size, width, has_texts=heads is not None)
        inputs = stage.write(self._padding.fill_up(rows, size))
        try:
            # Other numbers of steps come from requests: buffers and graphs for each would be anybody's to multiply.
            if num_euler_steps == self._model.config.generation.num_euler_steps:
                return self._own_graphs(flow, heads).run(inputs)
            return self._static_step(num_euler_steps, flow, heads)(inputs.to(self._model.device))
        finally:
            stage.sent()

    def _stage_for(self, num_rows: int, num_blocks: int, *, has_texts: bool) -> InputStage:
        """Look up or make the buffers of a size; there are few sizes."""
        stage = self._stages.get((num_rows, num_blocks, has_texts))
        if stage is None:
            sizes = (num_rows, num_blocks, self._padding.num_acoustic)
            stage = InputStage(*sizes, self._model.device, has_texts=has_texts)
            self._stages[num_rows, num_blocks, has_texts] = stage
        return stage

    def _as_it_comes(
        self, rows: list[RowInput], num_euler_steps: int, flow: Flow | None, heads: TextHeads | None
    ) -> FrameOutputs:
        num_rows, num_blocks = len(rows), max(len(row.blocks) for row in rows)
        if self._options.batch_invariant:
            rows = self._padding.fill_up(rows, self._max_batch)
        inputs = gather_inputs(rows, num_blocks=num_blocks).to(self._model.device)
        spans = [
            Span(
                index,
                index + 1,
                inputs.block_tables[index, : len(row.blocks)].long(),
                row.position + 1,
                row.text,
                row.text_keys,
            )
            for index, row in enumerate(rows[:num_rows])
        ]
        memory = SpanMemory(self._memory.pages, inputs.slot_mapping, spans, heads)
        schedule = self._schedule_for(num_euler_steps)
        return compute_frame(self._model, self._memory.carried, memory, inputs, schedule, flow)

    def _schedule_for(self, num_euler_steps: int) -> FlowSchedule:
        """Look up or make the flow's schedule; there are at most 100."""
        if num_euler_steps not in self._schedules:
            self._schedules[num_euler_steps] = self._model.acoustic_transformer.make_schedule(num_euler_steps)
        return self._schedules[num_euler_steps]

    def _static_step(self, num_euler_steps: int, flow: Flow | None, heads: TextHeads | None) -> StaticStep:
        memory, schedule = self._memory, self._schedule_for(num_euler_steps)
        return StaticStep(self._model, memory.pages, memory.carried, schedule, flow, heads)

    def _own_graphs(self, flow: Flow | None, heads: TextHeads | None) -> FrameGraphs:
        """Look up or make the static frames of the checkpoint's own number of steps, of one flow and set of heads."""
        made_for, heads_made_for = self._graphs_of
        if self._graphs is None or made_for is not flow or heads_made_for is not heads:
            step = self._static_step(self._model.config.generation.num_euler_steps, flow, heads)
            recorder = self._recorder if self._paths.is_open("graphs") else None
            tell = partial(tell_of_capture, self._paths)
            blank = partial(self._padding.blank, has_texts=heads is not None)
            self._graphs = FrameGraphs(step, blank, self._model.device, recorder, tell)
            self._graphs_of = (flow, heads)
        return self._graphs


def fold_flow(model: VoxtralModel, options: EngineOptions, paths: Paths) -> Flow | None:
    """Fold the flow where it is wanted; before keys and values take what is left, for it needs room to work in."""
    if options.flow == "folded" and paths.is_open("folded"):
        return FoldedFlow.build(model.acoustic_transformer)
    return None


def make_text_heads(model: VoxtralModel, pages: KVPages, heads: Sequence[tuple[int, int]]) -> TextHeads | None:
    """Put the heads that follow the text beside the pages that they read; None where there are none."""
    if not heads:
        return None
    sizes = model.config.backbone
    return TextHeads.make(
        heads,
        group=sizes.num_heads // sizes.num_kv_heads,
        width=MAX_FOLLOWED_TOKENS,
        page_size=pages.block_size,
        device=model.device,
    )
