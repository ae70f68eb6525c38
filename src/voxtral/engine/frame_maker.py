"""From rows to a frame: fills a batch up, and computes it in static buffers or as it comes.

`frame` has the computation, `graphs` the buffers; here one of the two ways is chosen. Read next:
`voxtral.engine.frame`.
"""

from __future__ import annotations

import numpy as np

from voxtral.engine.blocks import SCRATCH_BLOCK
from voxtral.engine.frame import FrameInputs, FrameOutputs, RowInput, compute_frame, gather_inputs
from voxtral.engine.graphs import FrameGraphs, bucket_for
from voxtral.engine.kv_cache import Span, SpanMemory, StepMemory, scratch_kv_slot
from voxtral.engine.memory import DeviceMemory
from voxtral.engine.options import POSITIONS_PER_SEQUENCE, EngineOptions
from voxtral.model.acoustic import Flow, FlowSchedule
from voxtral.model.folded import FoldedFlow
from voxtral.model.voxtral import VoxtralModel


class FrameMaker:
    """Makes frames of a model's rows.

    Args:
        model: on its device.
        memory: of the rows, on the same device.
        options: of the flow, of graphs and of batches.
        max_batch: rows at most.
    """

    def __init__(self, model: VoxtralModel, memory: DeviceMemory, options: EngineOptions, max_batch: int) -> None:
        self._model = model
        self._memory = memory
        self._options = options
        self._max_batch = max_batch
        self._flow: Flow | None = FoldedFlow.build(model.acoustic_transformer) if options.flow == "folded" else None
        self._table_width = memory.pool.blocks_for(POSITIONS_PER_SEQUENCE)
        self._schedules: dict[int, FlowSchedule] = {}
        self._graphs: dict[int, FrameGraphs] = {}

    def make(self, rows: list[RowInput], num_euler_steps: int) -> FrameOutputs:
        """Make the next frame of each row; the outputs may have further rows that nobody looks at."""
        num_rows, num_blocks = len(rows), max(len(row.blocks) for row in rows)
        # A step of an unusual length runs as it comes.
        is_static = self._is_static and num_blocks <= self._table_width
        if self._options.batch_invariant:
            rows = self._fill_up(rows, self._max_batch)
        elif is_static:
            rows = self._fill_up(rows, bucket_for(num_rows, self._max_batch))
        if is_static:
            inputs = gather_inputs(rows, num_blocks=self._table_width, pin=self._model.device.type == "cuda")
            return self._graphs_for(num_euler_steps).run(inputs)
        inputs = gather_inputs(rows, num_blocks=num_blocks).to(self._model.device)
        spans = [
            Span(index, index + 1, inputs.block_tables[index, : len(row.blocks)].long(), row.position + 1)
            for index, row in enumerate(rows[:num_rows])
        ]
        memory = SpanMemory(self._memory.pages, inputs.slot_mapping, spans)
        schedule = self._schedule_for(num_euler_steps)
        return compute_frame(self._model, self._memory.carried, memory, inputs, schedule, self._flow)

    @property
    def _is_static(self) -> bool:
        chosen = self._options.cuda_graphs
        return self._model.device.type == "cuda" if chosen is None else chosen

    def _schedule_for(self, num_euler_steps: int) -> FlowSchedule:
        """Look up or make the flow's schedule; there are at most 100."""
        if num_euler_steps not in self._schedules:
            self._schedules[num_euler_steps] = self._model.acoustic_transformer.make_schedule(num_euler_steps)
        return self._schedules[num_euler_steps]

    def _graphs_for(self, num_euler_steps: int) -> FrameGraphs:
        """Look up or make the static frames of a schedule."""
        if num_euler_steps not in self._graphs:
            schedule = self._schedule_for(num_euler_steps)

            def compute(inputs: FrameInputs) -> FrameOutputs:
                memory = StepMemory(self._memory.pages, inputs.slot_mapping, inputs.block_tables, inputs.lengths)
                return compute_frame(self._model, self._memory.carried, memory, inputs, schedule, self._flow)

            def blank(num_rows: int) -> FrameInputs:
                return gather_inputs(self._fill_up([], num_rows), num_blocks=self._table_width)

            self._graphs[num_euler_steps] = FrameGraphs(compute, blank, self._model.device)
        return self._graphs[num_euler_steps]

    def _fill_up(self, rows: list[RowInput], num_rows: int) -> list[RowInput]:
        """Add rows that nobody looks at."""
        return rows + [self._padding_row(index) for index in range(len(rows), num_rows)]

    def _padding_row(self, index: int) -> RowInput:
        return RowInput(
            slot=self._memory.scratch_slot,
            position=0,
            kv_slot=scratch_kv_slot(index, self._memory.pool.block_size),
            blocks=[SCRATCH_BLOCK],
            noise=np.zeros(self._model.config.codebooks.num_acoustic, dtype=np.float32),
            guidance_scale=1.0,
            may_end=True,
        )
