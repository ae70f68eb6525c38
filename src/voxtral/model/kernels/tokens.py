"""From a hidden state to the semantic code, and from a frame to the next input of the backbone."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from voxtral.config import EMPTY_AUDIO, END_AUDIO
from voxtral.model.kernels.dispatch import attempt, uses_triton


def mask_semantic(logits: Tensor, may_end: Tensor, semantic_vocab: int) -> Tensor:
    """Exclude what never wins: EMPTY_AUDIO, the padding rows, and END_AUDIO where it may not.

    Args:
        logits: [B, rows] float32, padding included.
        may_end: [B] bool; the official runtime lets END_AUDIO win from the first frame on.
        semantic_vocab: audio tokens without padding.

    Returns:
        [B, rows] float32.
    """
    masked = logits.clone()
    masked[:, EMPTY_AUDIO] = -torch.inf
    masked[:, END_AUDIO].masked_fill_(~may_end, -torch.inf)
    masked[:, semantic_vocab:] = -torch.inf
    return masked


def choose_semantic(logits: Tensor, may_end: Tensor, semantic_vocab: int, *, use_triton: bool | None = None) -> Tensor:
    """Choose the highest semantic code of each row, of equal ones the lowest; see `mask_semantic`.

    Logits must not be NaN: the plain form would choose one, the kernel the first code.

    Args:
        logits: [B, rows] float32, padding included.
        may_end: [B] bool.
        semantic_vocab: audio tokens without padding.
        use_triton: see `uses_triton`.

    Returns:
        [B] int64.
    """
    if use_triton or (logits.is_cuda and uses_triton("choose_semantic", logits, use_triton)):
        from voxtral.model.kernels import tokens_triton

        with attempt("choose_semantic", logits, use_triton):
            return tokens_triton.choose_semantic(logits, may_end, semantic_vocab)
    return mask_semantic(logits, may_end, semantic_vocab).argmax(dim=-1)


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
    if use_triton or (table.is_cuda and uses_triton("sum_embeddings", table, use_triton)):
        from voxtral.model.kernels import tokens_triton

        with attempt("sum_embeddings", table, use_triton):
            return tokens_triton.sum_embeddings(audio_tokens, offsets, table)
    rows = F.embedding(audio_tokens + offsets, table)  # [B, K, D]
    return rows.sum(dim=-2, dtype=torch.float32).to(table.dtype)
