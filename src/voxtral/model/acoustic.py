"""The flow-matching acoustic transformer: a hidden state and noise in, one frame of codes out.

It holds the semantic head too, as the checkpoint does. It knows nothing of time beyond one frame.
Read next: `voxtral.model.voxtral`, which feeds the frame back.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from voxtral.config import AcousticConfig, CodebookConfig
from voxtral.model.attention import attend
from voxtral.model.kernels.flow import finish_frame
from voxtral.model.kernels.tokens import choose_semantic, mask_semantic
from voxtral.model.layers import AttentionProjections, FeedForward, RMSNorm, last, split_heads

_TIME_THETA = 10000.0


@dataclass(frozen=True, eq=False)
class FlowSchedule:
    """The time points of the flow, fixed for a request.

    `n` points make `n - 1` Euler steps, each taken with the velocity at its left end.
    """

    times: Tensor  # [n] float32, 0 .. 1
    steps: Tensor  # [n - 1] float32, distances between points
    time_tokens: Tensor  # [n - 1, D], time_projection of the embedded left ends


@dataclass(frozen=True, eq=False)
class FrameStep:
    """One frame for each row."""

    audio_tokens: Tensor  # [B, K] int64, special-id offset included
    flow_state: Tensor  # [B, K - 1] float32, end of the flow before clamping


class Flow(Protocol):
    """What integrates the flow: `AcousticTransformer` as written, or `voxtral.model.folded.FoldedFlow`."""

    def flow_states(
        self, hidden: Tensor, noise: Tensor, guidance_scale: Tensor, schedule: FlowSchedule
    ) -> Iterator[Tensor]:
        """Yield the state before each step, then the last; see `AcousticTransformer.flow_states`."""
        ...

    def end_state(self, hidden: Tensor, noise: Tensor, guidance_scale: Tensor, schedule: FlowSchedule) -> Tensor:
        """Return the last of `flow_states`, [B, A] float32, perhaps without the others having been anywhere."""
        ...


def time_inverse_frequencies(dim: int) -> Tensor:
    """Compute exp(-ln(10000) i / (dim / 2)) for i in 0 .. dim / 2 - 1, float32 on the CPU.

    The checkpoint does not store them. Source: docs/MODEL.md, "Acoustic transformer"; golden entry fm/inv_freq.
    """
    half = dim // 2
    return torch.exp(-math.log(_TIME_THETA) * torch.arange(half, dtype=torch.float32, device="cpu") / half)


def embed_time(times: Tensor, inverse_frequencies: Tensor) -> Tensor:
    """Embed times in 0..1 (not scaled) as cosines followed by sines: [n] to [n, D], float32."""
    angles = times.to(torch.float32)[:, None] * inverse_frequencies
    return torch.cat((angles.cos(), angles.sin()), dim=-1)


class BidirectionalAttention(AttentionProjections):
    """Grouped-query attention without positions or mask, over the three tokens of the flow."""

    def __init__(self, config: AcousticConfig) -> None:
        super().__init__(config, use_biases=config.use_biases)

    def mix(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Attend from what `project` gives, each token to all three, and project back: [B, T, D]."""
        query, key, value = (split_heads(part, self.head_dim) for part in (query, key, value))
        return self.wo(attend(query, key, value))

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens of [B, 3, D]."""
        return self.mix(*self.project(x))


class AcousticLayer(nn.Module):
    """One pre-norm bidirectional layer."""

    def __init__(self, config: AcousticConfig) -> None:
        super().__init__()
        self.attention = BidirectionalAttention(config)
        self.feed_forward = FeedForward(config.dim, config.hidden_dim, use_biases=config.use_biases)
        self.attention_norm = RMSNorm(config.dim, config.norm_eps)
        self.ffn_norm = RMSNorm(config.dim, config.norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, 3, D]."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed_forward(self.ffn_norm(x))


class AcousticTransformer(nn.Module):
    """Semantic head and flow: everything between a hidden state and a frame."""

    inverse_frequencies: Tensor

    def __init__(self, config: AcousticConfig, codebooks: CodebookConfig) -> None:
        super().__init__()
        self.config = config
        self.codebooks = codebooks
        self.input_projection = nn.Linear(codebooks.num_acoustic, config.dim, bias=False)
        self.time_projection = nn.Linear(config.dim, config.dim, bias=False)
        self.llm_projection = nn.Linear(config.input_dim, config.dim, bias=False)
        self.semantic_codebook_output = nn.Linear(config.dim, codebooks.semantic_head_rows, bias=config.use_biases)
        self.acoustic_codebook_output = nn.Linear(config.dim, codebooks.num_acoustic, bias=False)
        self.layers = nn.ModuleList(AcousticLayer(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.dim, config.norm_eps)
        self.init_tables(torch.device("cpu"))

    def init_tables(self, device: torch.device) -> None:
        """Compute what is no weight: the frequencies of the time embedding, always float32."""
        table = time_inverse_frequencies(self.config.dim).to(device)
        self.register_buffer("inverse_frequencies", table, persistent=False)

    def make_schedule(self, num_euler_steps: int) -> FlowSchedule:
        """Lay out `num_euler_steps` equal steps from 0 to 1 and project their time embeddings."""
        times = torch.linspace(0, 1, num_euler_steps + 1, device=self.inverse_frequencies.device)
        embedded = embed_time(times[:-1], self.inverse_frequencies)
        return FlowSchedule(
            times=times,
            steps=times[1:] - times[:-1],
            time_tokens=self.time_projection(embedded.to(self.time_projection.weight.dtype)),
        )

    def semantic_logits(self, hidden: Tensor) -> Tensor:
        """Score the semantic codes: hidden [B, D] to [B, rows] float32, unmasked."""
        return self.semantic_codebook_output(hidden).float()

    def mask_semantic_logits(self, logits: Tensor, *, may_end: bool | Tensor = True) -> Tensor:
        """Exclude EMPTY_AUDIO, the padding rows and, where `may_end` is false, END_AUDIO; see `mask_semantic`."""
        return mask_semantic(logits, _for_each_row(may_end, logits), self.codebooks.semantic_vocab)

    def velocity(self, state: Tensor, time_token: Tensor, llm_token: Tensor) -> Tensor:
        """Predict where the flow moves.

        Args:
            state: [B, A], A acoustic values.
            time_token: [D], projected.
            llm_token: [B, D], projected hidden states; zeros for the unconditional branch.

        Returns:
            [B, A] float32.
        """
        state_token = self.input_projection(state.to(llm_token.dtype))
        x = torch.stack((state_token, time_token.expand_as(state_token), llm_token), dim=1)  # [B, 3, D]
        for layer in self.layers:
            x = layer(x)
        return self.acoustic_codebook_output(self.norm(x[:, 0])).float()

    def flow_states(
        self, hidden: Tensor, noise: Tensor, guidance_scale: Tensor, schedule: FlowSchedule
    ) -> Iterator[Tensor]:
        """Integrate the guided flow from noise; yield the state before each step, then the last.

        The state stays float32 whatever the dtype of the weights; the official runtime keeps it in
        bfloat16, which rounds its time grid too (docs/MODEL.md, "Precision").

        Args:
            hidden: [B, D].
            noise: [B, A], already scaled.
            guidance_scale: [B] float32; v = g * conditional + (1 - g) * unconditional.
            schedule: from `make_schedule`.

        Yields:
            [B, A] float32, one more than there are steps.
        """
        num_rows = hidden.shape[0]
        # The projection has no bias, so the unconditional token is zero exactly.
        llm_token = self.llm_projection(hidden)
        llm_tokens = torch.cat((llm_token, torch.zeros_like(llm_token)))
        scale = guidance_scale[:, None]
        state = noise.float()
        for time_token, step in zip(schedule.time_tokens, schedule.steps, strict=True):
            yield state
            velocities = self.velocity(torch.cat((state, state)), time_token, llm_tokens)
            velocity = scale * velocities[:num_rows] + (1 - scale) * velocities[num_rows:]
            state = state + velocity * step
        yield state

    def end_state(self, hidden: Tensor, noise: Tensor, guidance_scale: Tensor, schedule: FlowSchedule) -> Tensor:
        """See Flow."""
        return last(self.flow_states(hidden, noise, guidance_scale, schedule))

    def forward(
        self,
        hidden: Tensor,
        noise: Tensor,
        guidance_scale: Tensor,
        schedule: FlowSchedule,
        *,
        may_end: bool | Tensor = True,
        flow: Flow | None = None,
    ) -> FrameStep:
        """Choose the semantic code (greedy, always) and draw the acoustic codes of one frame.

        No operation waits for the device, and shapes depend on B alone: a CUDA graph can hold it.

        Args:
            hidden: [B, D], after the final norm of the backbone.
            noise: [B, A], already scaled.
            guidance_scale: [B] float32.
            schedule: from `make_schedule`.
            may_end: whether END_AUDIO may be chosen, for all rows or [B] bool.
            flow: integrates instead of this module's own `flow_states`.

        Returns:
            The frame of each row.
        """
        books = self.codebooks
        may_end = _for_each_row(may_end, hidden)
        semantic = choose_semantic(self.semantic_logits(hidden), may_end, books.semantic_vocab)
        state = (flow or self).end_state(hidden, noise, guidance_scale, schedule)
        return FrameStep(audio_tokens=finish_frame(state, semantic, books.acoustic_size), flow_state=state)


def _for_each_row(flag: bool | Tensor, rows: Tensor) -> Tensor:
    """Give a flag of all rows to each: [B] bool, on the device of `rows` [B, ...]."""
    return flag if isinstance(flag, Tensor) else rows.new_full((rows.shape[0],), flag, dtype=torch.bool)
