"""One frame of many sequences: what comes out, and the computation.

`compute_frame` has static shapes and never waits for the device, so that it can be captured as one CUDA graph.
What a sequence carries from frame to frame (the embedding of its last frame) stays on the device. What goes in is in
`voxtral.engine.inputs`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from voxtral.engine.inputs import FrameInputs
from voxtral.engine.kv_cache import SpanMemory, StepMemory
from voxtral.model.acoustic import Flow, FlowSchedule
from voxtral.model.voxtral import VoxtralModel


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
    text_weights = memory.text_weights  # at once: what it is made of is not to be held while the flow works
    step = model.generate_frame(
        hidden, inputs.noise, inputs.guidance_scale, schedule, may_end=inputs.may_end, flow=flow
    )
    is_finite = torch.isfinite(hidden).all(dim=-1) & torch.isfinite(step.flow_state).all(dim=-1)
    # What is not finite rounds to no code at all, and one row's lookup out of range would end the step of all rows.
    audio_tokens = step.audio_tokens.where(is_finite[:, None], 0)
    carried[inputs.slots] = model.embed_frames(audio_tokens)
    return FrameOutputs(audio_tokens, is_finite, hidden, step.flow_state, text_weights)
