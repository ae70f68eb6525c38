"""One frame of many sequences: what goes in, what comes out, and the computation between.

`compute_frame` has static shapes and never waits for the device, so that it can be captured as one CUDA graph.
What a sequence carries from frame to frame (the embedding of its last frame) stays on the device.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from voxtral.engine.kv_cache import SpanMemory, StepMemory
from voxtral.model.acoustic import Flow, FlowSchedule
from voxtral.model.voxtral import VoxtralModel

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True, eq=False)
class RowInput:
    """What the host knows of one row's next frame.

    Attributes:
        slot: where its carried embedding is.
        position: of that embedding in its sequence.
        kv_slot: where its key and value go in the pages.
        blocks: of the sequence, the one of `position` last.
        noise: [A] float32, scaled.
        guidance_scale: weight of the conditional velocity.
        may_end: whether END_AUDIO may be chosen.
        text: positions of the text's tokens where the attention to them is wanted.
    """

    slot: int
    position: int
    kv_slot: int
    blocks: list[int]
    noise: npt.NDArray[np.float32]
    guidance_scale: float
    may_end: bool
    text: tuple[int, int] | None = None


@dataclass(frozen=True, eq=False)
class FrameInputs:
    """The rows of one step as tensors; B rows, padding included."""

    slots: Tensor  # [B] int64
    positions: Tensor  # [B] int64
    slot_mapping: Tensor  # [B] int64, KV slots
    lengths: Tensor  # [B] int32, positions to be seen: position + 1
    block_tables: Tensor  # [B, blocks] int32
    noise: Tensor  # [B, A] float32
    guidance_scale: Tensor  # [B] float32
    may_end: Tensor  # [B] bool

    @property
    def num_rows(self) -> int:
        """B."""
        return self.slots.shape[0]

    @property
    def num_blocks(self) -> int:
        """Width of the block tables."""
        return self.block_tables.shape[1]

    def to(self, device: torch.device) -> FrameInputs:
        """Copy to a device."""
        return FrameInputs(*(getattr(self, part.name).to(device) for part in fields(self)))

    def copy_(self, other: FrameInputs) -> None:
        """Take over the values of inputs of the same shapes, without waiting."""
        for part in fields(self):
            getattr(self, part.name).copy_(getattr(other, part.name), non_blocking=True)


@dataclass(frozen=True, eq=False)
class FrameOutputs:
    """What one step made; on the device."""

    audio_tokens: Tensor  # [B, K] int64
    is_finite: Tensor  # [B] bool, of the hidden state and of what the flow made of it
    hidden: Tensor  # [B, D]
    flow_state: Tensor  # [B, A] float32
    text_weights: Tensor | None = None  # [B, tokens] float32, mean of the chosen heads; zero behind a row's text

    def clone(self) -> FrameOutputs:
        """Copy, so that the next step may overwrite these."""
        return replace(self, **{name: value.clone() for name, value in self.tensors.items()})

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All that was made, by name."""
        values = ((part.name, getattr(self, part.name)) for part in fields(self))
        return {name: value for name, value in values if value is not None}


def gather_inputs(rows: list[RowInput], *, num_blocks: int, pin: bool = False) -> FrameInputs:
    """Write rows into tensors in CPU memory.

    Args:
        rows: at least one.
        num_blocks: width of the block tables; unused entries are 0, the scratch block.
        pin: use page-locked memory, from which copies to a GPU do not wait.
    """
    tables = torch.zeros(len(rows), num_blocks, dtype=torch.int32)
    for index, row in enumerate(rows):
        tables[index, : len(row.blocks)] = torch.tensor(row.blocks, dtype=torch.int32)
    inputs = FrameInputs(
        slots=torch.tensor([row.slot for row in rows]),
        positions=torch.tensor([row.position for row in rows]),
        slot_mapping=torch.tensor([row.kv_slot for row in rows]),
        lengths=torch.tensor([row.position + 1 for row in rows], dtype=torch.int32),
        block_tables=tables,
        noise=torch.stack([torch.as_tensor(row.noise) for row in rows]),
        guidance_scale=torch.tensor([row.guidance_scale for row in rows], dtype=torch.float32),
        may_end=torch.tensor([row.may_end for row in rows]),
    )
    if pin:
        return FrameInputs(*(getattr(inputs, part.name).pin_memory() for part in fields(inputs)))
    return inputs


def compute_frame(
    model: VoxtralModel,
    carried: Tensor,
    memory: SpanMemory | StepMemory,
    inputs: FrameInputs,
    schedule: FlowSchedule,
    flow: Flow | None = None,
) -> FrameOutputs:
    """Make one frame for each row and carry its embedding on.

    Args:
        model: on its device.
        carried: [slots, D], read at `inputs.slots` and written there.
        memory: of the rows, one new position each; a StepMemory takes the fused operations.
        inputs: on the model's device.
        schedule: of the flow, the same for all rows.
        flow: integrates in place of the model's plain one.
    """
    embeds = carried[inputs.slots]
    if isinstance(memory, StepMemory):
        hidden = model.backbone.step(embeds, inputs.positions, memory)
    else:
        hidden = model.backbone.extend(embeds, inputs.positions, memory)
    step = model.generate_frame(
        hidden, inputs.noise, inputs.guidance_scale, schedule, may_end=inputs.may_end, flow=flow
    )
    is_finite = torch.isfinite(hidden).all(dim=-1) & torch.isfinite(step.flow_state).all(dim=-1)
    # What is not finite rounds to no code at all, and one row's lookup out of range would end the step of all rows.
    audio_tokens = step.audio_tokens.where(is_finite[:, None], 0)
    carried[inputs.slots] = model.embed_frames(audio_tokens)
    text_weights = memory.text_weights if isinstance(memory, SpanMemory) else None
    return FrameOutputs(audio_tokens, is_finite, hidden, step.flow_state, text_weights)
