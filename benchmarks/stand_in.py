"""A stand-in for the official server's loop: its shape, in our own code. It is not that server, and never called so.

The whole server cannot be installed everywhere; what is known of the way in which it makes a frame is done here as well
as plain torch does it, and what costs it time beyond that (scheduler, two processes, their traffic) is left out, which
favours it:

- the language model's step in one CUDA graph, with fused projections (q, k, v; gate, up) and a static cache
- logits over the whole vocabulary that hold one token, and their argmax
- the flow in a second CUDA graph, unfolded
- the codes of every frame to the host at once, and split there by request
- the codec eager, decoding each chunk of 5, then 25, frames together with the 25 frames before it

Without CUDA the same runs without graphs.
"""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.contiguous import ContiguousCache
from benchmarks.loops import OFFICIAL_CHUNK_FRAMES, PlainLoop, Round, frames_in_chunk, read_prompts
from benchmarks.subjects import Subject
from benchmarks.timing import captured
from voxtral.bench import StreamTiming
from voxtral.config import NUM_SPECIAL_CODES
from voxtral.model.layers import apply_rope, rope_rotation, split_heads

_CONTEXT_FRAMES = 25


class StandInLoop(PlainLoop):
    """The loop; chunks are the official ones unless a round asks for a first chunk of its own."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self._fused = [
            (
                torch.cat((layer.attention.wq.weight, layer.attention.wk.weight, layer.attention.wv.weight)),
                torch.cat((layer.feed_forward.w1.weight, layer.feed_forward.w3.weight)),
            )
            for layer in subject.model.backbone.layers
        ]
        self._steps: tuple[tuple[int, int], _Steps] | None = None

    def close(self) -> None:
        """Give the graphs back."""
        self._steps = None

    def _run(self, round_: Round) -> list[StreamTiming]:
        model, config, num_rows = self._model, self._model.config, round_.num_streams
        started = time.perf_counter()
        prompts = read_prompts(self._subject, round_)
        steps = self._steps_for(num_rows, -(-(prompts.embeds.shape[1] + round_.num_frames) // 8) * 8)
        steps.prefill(prompts.embeds)
        chunk_frames = OFFICIAL_CHUNK_FRAMES if round_.num_frames > 1 else (1,)
        arrivals: list[tuple[float, int]] = []
        frames: list[list[Tensor]] = [[] for _ in range(num_rows)]
        num_sent = 0
        for frame in range(round_.num_frames):
            codes = steps.make_frame(prompts.noise[frame])
            # The scheduler sees a token of the text vocabulary for each request.
            logits = torch.full((num_rows, config.backbone.vocab_size), -torch.inf, device=model.device)
            logits[:, config.audio_token_id] = 1.0
            logits.argmax(dim=-1).tolist()
            for request, row in zip(frames, codes.cpu().split(1), strict=True):
                request.append(row[0])
            is_last = frame + 1 == round_.num_frames
            num_new = len(frames[0]) - num_sent
            if is_last or num_new == frames_in_chunk(chunk_frames, len(arrivals)):
                num_context = min(_CONTEXT_FRAMES, num_sent)
                window = torch.stack([torch.stack(request[num_sent - num_context :], dim=-1) for request in frames])
                samples = model.codec.decode(window.to(model.device) - NUM_SPECIAL_CODES).cpu()
                arrivals.append((time.perf_counter(), samples.shape[1] - num_context * config.samples_per_frame))
                num_sent = len(frames[0])
            if not is_last:
                steps.decode(codes)
        return [StreamTiming(started, tuple(arrivals))] * num_rows

    def _steps_for(self, num_rows: int, capacity: int) -> _Steps:
        if self._steps is None or self._steps[0] != (num_rows, capacity):
            self._steps = None  # gives its memory back first
            self._steps = (num_rows, capacity), _Steps(self._subject, self._fused, num_rows, capacity)
        return self._steps[1]


class _Steps:
    """The two graphs of a frame, for one number of rows, and their buffers."""

    def __init__(self, subject: Subject, fused: list[tuple[Tensor, Tensor]], num_rows: int, capacity: int) -> None:
        self._model, self._fused = subject.model, fused
        config, device = subject.config, subject.model.device
        self._cache = ContiguousCache(subject.model, capacity, num_rows)
        self._cache.keys.zero_()
        self._cache.values.zero_()
        self._position = torch.zeros(1, dtype=torch.int64, device=device)
        self._places = torch.arange(capacity, device=device)
        self._tokens = torch.full((num_rows, config.codebooks.num_codebooks), NUM_SPECIAL_CODES, device=device)
        self._hidden = torch.zeros(num_rows, config.backbone.dim, device=device, dtype=subject.model.dtype)
        self._noise = torch.zeros(num_rows, config.codebooks.num_acoustic, device=device)
        self._codes = torch.zeros_like(self._tokens)
        self._guidance = torch.full((num_rows,), config.generation.guidance_scale, device=device)
        self._schedule = subject.model.acoustic_transformer.make_schedule(config.generation.num_euler_steps)
        self._decode = captured(self._run_backbone, device)
        self._flow = captured(self._run_flow, device)

    def prefill(self, embeds: Tensor) -> None:
        """Run the prompts [B, P, D] eagerly, as the server does."""
        self._cache.length = 0
        self._hidden.copy_(self._cache.extend(embeds)[:, -1])
        self._position.fill_(embeds.shape[1])

    def make_frame(self, noise: Tensor) -> Tensor:
        """Turn the hidden states into codes [B, K], which the next call overwrites."""
        self._noise.copy_(noise)
        self._flow()
        return self._codes

    def decode(self, tokens: Tensor) -> None:
        """Feed a frame back."""
        self._tokens.copy_(tokens)
        self._decode()
        self._position.add_(1)

    def _run_flow(self) -> None:
        step = self._model.generate_frame(self._hidden, self._noise, self._guidance, self._schedule, may_end=False)
        self._codes.copy_(step.audio_tokens)

    def _run_backbone(self) -> None:
        backbone = self._model.backbone
        config = backbone.config
        x = self._model.embed_frames(self._tokens)[:, None]  # [B, 1, D]
        rotation = rope_rotation(self._position, backbone.inverse_frequencies)
        mask = (self._places <= self._position)[None]  # [1, S]
        widths = [config.num_heads * config.head_dim, *[config.num_kv_heads * config.head_dim] * 2]
        group = config.num_heads // config.num_kv_heads
        for index, (layer, (wqkv, w13)) in enumerate(zip(backbone.layers, self._fused, strict=True)):
            projected = F.linear(layer.attention_norm(x), wqkv).split(widths, dim=-1)
            query, key, value = (split_heads(part, config.head_dim) for part in projected)
            query, key = apply_rope(query, rotation), apply_rope(key, rotation)
            keys, values = self._cache.keys[index], self._cache.values[index]
            keys.index_copy_(2, self._position, key)
            values.index_copy_(2, self._position, value)
            # The heads of a group are queries of one key head: no copy of the cache.
            folded = query.unflatten(1, (-1, group)).flatten(2, 3)
            mixed = F.scaled_dot_product_attention(folded, keys, values, attn_mask=mask)
            x = x + layer.attention.wo(mixed.flatten(1)[:, None])
            gate, up = F.linear(layer.ffn_norm(x), w13).chunk(2, dim=-1)
            x = x + layer.feed_forward.w2(F.silu(gate) * up)
        self._hidden.copy_(backbone.norm(x)[:, 0])
