"""Triton forms of `voxtral.model.kernels.tokens`."""

# Kernels are written in a language of their own: pyright knows neither its tensors nor the options of a launch.
# pyright: reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false, reportOperatorIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from voxtral.config import EMPTY_AUDIO, END_AUDIO, NUM_SPECIAL_CODES
from voxtral.model.kernels.launching import on_its_device


@triton.jit
def _choose_semantic(
    logits_ptr,
    may_end_ptr,
    chosen_ptr,
    row_stride,
    vocab,
    END: tl.constexpr,
    EMPTY: tl.constexpr,
    FIRST: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One row for each program; a later block wins only by more, so of equal codes the lowest stays."""
    row = tl.program_id(0).to(tl.int64)
    # The code that is closed beside EMPTY, or EMPTY again.
    closed = tl.where(tl.load(may_end_ptr + row) != 0, EMPTY, END)
    best = tl.full([], float("-inf"), tl.float32)
    chosen = tl.full([], FIRST, tl.int32)
    for start in range(0, vocab, BLOCK):
        codes = start + tl.arange(0, BLOCK)
        is_open = (codes < vocab) & (codes != EMPTY) & (codes != closed)
        logits = tl.load(logits_ptr + row * row_stride + codes, mask=is_open, other=float("-inf")).to(tl.float32)
        highest = tl.max(logits, axis=0)
        place = start + tl.argmax(logits, axis=0, tie_break_left=True)
        chosen = tl.where(highest > best, place, chosen)
        best = tl.maximum(highest, best)
    tl.store(chosen_ptr + row, chosen.to(tl.int64))


@on_its_device
def choose_semantic(logits: Tensor, may_end: Tensor, semantic_vocab: int) -> Tensor:
    """Launch over the rows."""
    assert logits.stride(-1) == 1, "logits of a row must lie side by side"
    chosen = torch.empty(logits.shape[0], dtype=torch.int64, device=logits.device)
    _choose_semantic[(logits.shape[0],)](
        logits,
        # A bool is a byte; as one it has a pointer type in every version of Triton.
        may_end.contiguous().view(torch.uint8),
        chosen,
        logits.stride(0),
        semantic_vocab,
        END=END_AUDIO,
        EMPTY=EMPTY_AUDIO,
        FIRST=NUM_SPECIAL_CODES,
        BLOCK=min(2048, triton.next_power_of_2(semantic_vocab)),
        num_warps=8,
        enable_fp_fusion=True,
    )
    return chosen


@triton.jit
def _sum_embeddings(tokens_ptr, offsets_ptr, table_ptr, result_ptr, num_codebooks, dim, BLOCK: tl.constexpr):
    """One block of columns of one frame for each program."""
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = columns < dim
    total = tl.zeros([BLOCK], tl.float32)
    for codebook in range(num_codebooks):
        entry = tl.load(tokens_ptr + row * num_codebooks + codebook) + tl.load(offsets_ptr + codebook)
        total += tl.load(table_ptr + entry * dim + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(result_ptr + row * dim + columns, total.to(result_ptr.dtype.element_ty), mask=inside)


@on_its_device
def sum_embeddings(audio_tokens: Tensor, offsets: Tensor, table: Tensor) -> Tensor:
    """Launch over frames and blocks of 256 columns."""
    assert table.is_contiguous(), "the table must be contiguous"
    num_rows, num_codebooks = audio_tokens.shape
    dim = table.shape[1]
    result = torch.empty(num_rows, dim, dtype=table.dtype, device=table.device)
    block = min(256, triton.next_power_of_2(dim))
    _sum_embeddings[(num_rows, triton.cdiv(dim, block))](
        audio_tokens.contiguous(),
        offsets,
        table,
        result,
        num_codebooks,
        dim,
        BLOCK=block,
        num_warps=2,
        enable_fp_fusion=True,
    )
    return result
