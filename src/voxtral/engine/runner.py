"""Runs one sequence on the model: the only file of the engine that touches tensors.

The engine calls `advance` until it says that the sequence has ended. Each call makes at most one
frame, and returns the audio that is due by then.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from voxtral.config import END_AUDIO
from voxtral.device import dtype_name
from voxtral.engine.options import EngineOptions
from voxtral.engine.sequence import GenerationRequest, GenerationTrace, Stop
from voxtral.errors import NumericsError
from voxtral.model.acoustic import FlowSchedule
from voxtral.model.backbone import KVCache
from voxtral.model.codec import CodecState
from voxtral.model.voxtral import VoxtralModel

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(eq=False)
class RowState:
    """Everything that a running sequence holds on the device."""

    cache: KVCache
    codec: CodecState
    schedule: FlowSchedule
    guidance_scale: Tensor  # [1]
    hidden: Tensor  # [1, D], of the last position that was run
    last_frame: Tensor | None = None  # [1, K], made and not fed back yet
    pending: list[Tensor] = field(default_factory=list)  # frames [K] that are not audio yet
    num_frames: int = 0
    num_chunks: int = 0


@dataclass(frozen=True, eq=False)
class Progress:
    """What one call of `advance` brought."""

    samples: npt.NDArray[np.float32] | None
    num_frames: int
    stop: Stop | None


class Runner:
    """The plain path: one row, no graph, every operation a library call.

    Args:
        model: on its device, in its dtype.
        options: the chunk schedule.
    """

    def __init__(self, model: VoxtralModel, options: EngineOptions) -> None:
        self.model = model
        self._options = options

    def start(self, request: GenerationRequest) -> RowState:
        """Run the prompt; the state holds what the first frame needs.

        The cache takes the whole budget at once. CPU memory is committed as it is written, so that
        an unused rest costs nothing there.
        """
        model = self.model
        token_ids = torch.tensor(request.prompt.token_ids)
        cache = model.init_kv_cache(len(token_ids) + request.max_frames)
        embeds = model.embed_prompt(token_ids, request.voice_rows)
        return RowState(
            cache=cache,
            codec=model.init_codec_state(),
            schedule=model.acoustic_transformer.make_schedule(request.num_euler_steps),
            guidance_scale=torch.tensor([request.guidance_scale], device=model.device),
            hidden=model.prefill(embeds[None], cache),
        )

    def advance(self, request: GenerationRequest, row: RowState, trace: GenerationTrace | None) -> Progress:
        """Feed the last frame back, make one, and decode the chunk that it completes.

        Raises:
            NumericsError: the hidden state or the audio is not finite.
        """
        if row.last_frame is not None:
            row.hidden = self.model.decode_step(row.last_frame, row.cache)
        noise = torch.from_numpy(request.noise(row.num_frames) * request.noise_scale).to(self.model.device)
        may_end = row.num_frames >= request.min_frames
        step = self.model.generate_frame(row.hidden, noise[None], row.guidance_scale, row.schedule, may_end=may_end)
        self._check_finite(row.hidden, "hidden state", row.num_frames)
        frame = step.audio_tokens[0]
        if trace is not None:
            trace.hidden.append(row.hidden[0].clone())
            trace.flow_states.append(step.flow_state[0].clone())
            trace.audio_tokens.append(frame.clone())
        if int(frame[0]) == END_AUDIO:
            return Progress(self._decode(row, is_last=True), row.num_frames, "end")
        row.pending.append(frame)
        row.num_frames += 1
        if row.num_frames == request.max_frames:
            return Progress(self._decode(row, is_last=True), row.num_frames, "length")
        samples = None
        if len(row.pending) == self._options.frames_in_chunk(row.num_chunks):
            samples = self._decode(row, is_last=False)
            row.num_chunks += 1
        # Fed back by the next call: the chunk goes out first.
        row.last_frame = step.audio_tokens
        return Progress(samples, row.num_frames, None)

    def _decode(self, row: RowState, *, is_last: bool) -> npt.NDArray[np.float32] | None:
        if not row.pending and row.codec.num_frames == 0:
            return None
        num_codebooks = self.model.config.codebooks.num_codebooks
        frames = torch.stack(row.pending) if row.pending else row.hidden.new_zeros(0, num_codebooks, dtype=torch.int64)
        row.pending = []
        samples = self.model.decode_audio(frames, row.codec, is_last=is_last)
        self._check_finite(samples, "audio", row.num_frames)
        return samples.cpu().numpy() if samples.numel() else None

    def _check_finite(self, values: Tensor, what: str, frame: int) -> None:
        if not bool(torch.isfinite(values).all()):
            raise NumericsError(
                f"the {what} is not finite at frame {frame} in {dtype_name(self.model.dtype)}; "
                "all values must be finite; load the model in bfloat16 or float32"
            )
