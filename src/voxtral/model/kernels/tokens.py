"""From a hidden state to the semantic code, and from a frame to the next input of the backbone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from voxtral.config import EMPTY_AUDIO, END_AUDIO
from voxtral.model.kernels.dispatch import uses_triton


def choose_semantic(logits: Tensor, may_end: Tensor, semantic_vocab: int, *, use_triton: bool | None = None) -> Tensor:
    """Choose the highest semantic code of each row; of equal ones the lowest.

    EMPTY_AUDIO and the padding rows never win, END_AUDIO only where it may. Logits must not be NaN.

    Args:
        logits: [B, rows], padding included.
        may_end: [B] bool.
        semantic_vocab: audio tokens without padding.
        use_triton: see `uses_triton`.

    Returns:
        [B] int64.
    """
    if uses_triton(logits, use_triton):
        from voxtral.model.kernels import tokens_triton

        return tokens_triton.choose_semantic(logits, may_end, semantic_vocab)
    masked = logits[:, :semantic_vocab].to(torch.float32, copy=True)
    masked[:, EMPTY_AUDIO] = -torch.inf
    masked[:, END_AUDIO].masked_fill_(~may_end, -torch.inf)
    return masked.argmax(dim=-1)


def sum_embeddings(audio_tokens: Tensor, offsets: Tensor, table: Tensor, *, use_triton: bool | None = None) -> Tensor:
    """Sum the embeddings of the K audio tokens of each frame, in float32, rounded once.

    Args:
        audio_tokens: [B, K] int64.
        offsets: [K] int64, first row of each codebook in the table.
        table: [rows, D].
        use_triton: see `uses_triton`.

    Returns:
        [B, D] in the dtype of the table.
    """
    if uses_triton(table, use_triton):
        from voxtral.model.kernels import tokens_triton

        return tokens_triton.sum_embeddings(audio_tokens, offsets, table)
    return F.embedding(audio_tokens + offsets, table).sum(dim=-2, dtype=torch.float32).to(table.dtype)
