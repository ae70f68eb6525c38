"""Where a model looks in its text as it makes each frame, by one pass over speech that is there already.

The engine reads the same weights while it makes the frames (`voxtral.engine.kv_cache`); what is here is for codes that
come from elsewhere, for calibration, and to compare. Read next: `voxtral.align.path`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from voxtral.config import END_AUDIO
from voxtral.model.attention import attend_causally

if TYPE_CHECKING:
    from voxtral.model.voxtral import VoxtralModel
    from voxtral.text.prompt import Prompt

Head = tuple[int, int]
"""Layer and query head."""


class _ListeningMemory:
    """Attends as `Backbone.extend` asks, keeps nothing but what chosen heads see of the text.

    Args:
        heads: whose weights are wanted; None for all.
        text: positions of the text's tokens.
        frames: positions that make frames.
    """

    def __init__(self, heads: tuple[Head, ...] | None, text: slice, frames: slice) -> None:
        self._heads = heads
        self._text = text
        self._frames = frames
        self.weights: dict[Head, Tensor] = {}  # [T, n] each

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See AttentionMemory."""
        group = query.shape[1] // key.shape[1]
        for head in range(query.shape[1]):
            if self._heads is None or (layer, head) in self._heads:
                wanted, text = query[0, head, self._frames], key[0, head // group, self._text]
                scores = (wanted * wanted.shape[-1] ** -0.5) @ text.T
                self.weights[layer, head] = scores.float().softmax(dim=-1)
        return attend_causally(query, key, value)


@dataclass(frozen=True, eq=False)
class Listening:
    """What a model knows of speech that is there already.

    Attributes:
        weights: of each head that was asked for [T + 1, n] float32, over the n tokens of the text, adding up to 1; the
            last row is that which makes the frame after the last.
        no_end: -log of the probability that END_AUDIO comes after the last frame.
    """

    weights: dict[Head, Tensor]
    no_end: float


def listen(
    model: VoxtralModel,
    prompt: Prompt,
    voice_rows: Tensor,
    audio_tokens: Tensor,
    heads: tuple[Head, ...] | None = None,
) -> Listening:
    """Measure what chosen heads see of the text as each frame is made, and whether the model would end there.

    Args:
        model: on its device; to be called on the engine's thread (`Engine.call`).
        prompt: of the text.
        voice_rows: [N, D], of the voice.
        audio_tokens: [T, K] int64, the frames in order, as the model makes them.
        heads: layer and query head each; None for all of them.
    """
    device = model.device
    rows = model.embed_prompt(torch.tensor(prompt.token_ids), voice_rows)
    frames = model.embed_frames(audio_tokens.to(device))
    num_prompt = len(prompt.token_ids)
    memory = _ListeningMemory(heads, slice(*prompt.text_span), slice(num_prompt - 1, None))
    hidden = model.backbone.extend(
        torch.cat([rows, frames]), torch.arange(num_prompt + len(frames), device=device), memory
    )
    acoustic = model.acoustic_transformer
    logits = acoustic.mask_semantic_logits(acoustic.semantic_logits(hidden[-1:]))
    return Listening(memory.weights, -float(logits.log_softmax(dim=-1)[0, END_AUDIO]))


def text_attention(
    model: VoxtralModel,
    prompt: Prompt,
    voice_rows: Tensor,
    audio_tokens: Tensor,
    heads: tuple[Head, ...] | None = None,
) -> dict[Head, Tensor]:
    """Measure what chosen heads see of the text, as `listen` does, and nothing else."""
    return listen(model, prompt, voice_rows, audio_tokens, heads).weights
