"""The codes that a voice was made of: rows are sums of embeddings, and sums can be taken apart again.

Presets come as rows alone. Their codes are true codes of speech, which tell what codes of speech are like.
"""

from __future__ import annotations

import torch
from torch import Tensor

from voxtral.config import NUM_SPECIAL_CODES
from voxtral.model.voxtral import CodecModel

# Of its length that a row may be off: a row in bfloat16 is off by .002, one with a wrong code by ten times that.
_TOLERANCE = 0.01
_STARTS, _PASSES = 8, 20


def codes_of_rows(rows: Tensor, model: CodecModel, *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Find the codes of frames by their rows.

    Coordinate descent: for each codebook in turn, the entry nearest to what the others leave. Frames that do not come
    out start again from other codes.

    Args:
        rows: [N, D], frames of a voice, without its closing row.
        model: that the voice belongs to.
        seed: of the starts after the first.

    Returns:
        Codes [K, N] int64, and which frames came out, [N] bool.
    """
    books = model.config.codebooks
    rows = rows.to(model.device, torch.float32)
    sizes = (books.semantic_size, *(books.acoustic_size,) * books.num_acoustic)
    table = model.audio_embeddings.weight
    tables = [
        table[offset + NUM_SPECIAL_CODES :][:size].float() for offset, size in zip(books.offsets, sizes, strict=True)
    ]
    halves = [0.5 * entries.pow(2).sum(1) for entries in tables]
    generator = torch.Generator().manual_seed(seed)
    codes = torch.zeros(len(tables), len(rows), dtype=torch.int64, device=rows.device)
    residuals = torch.full((len(rows),), torch.inf, device=rows.device)
    for start in range(_STARTS):
        open_ = (residuals > _TOLERANCE).nonzero()[:, 0]
        if not len(open_):
            break
        guess = torch.full((len(tables), len(open_)), books.acoustic_size // 2, device=rows.device)
        if start:
            drawn = [torch.randint(size, (len(open_),), generator=generator) for size in sizes]
            guess = torch.stack(drawn).to(rows.device)
        found, residual = _descend(rows[open_], tables, halves, guess)
        is_better = residual < residuals[open_]
        residuals[open_[is_better]] = residual[is_better]
        codes[:, open_[is_better]] = found[:, is_better]
    return codes, residuals <= _TOLERANCE


def _descend(rows: Tensor, tables: list[Tensor], halves: list[Tensor], codes: Tensor) -> tuple[Tensor, Tensor]:
    """Improve codes [K, N] until none changes; also return the relative length of what is left, [N]."""
    codes = codes.clone()
    rest = rows - torch.stack([entries[code] for entries, code in zip(tables, codes, strict=True)]).sum(0)
    for _ in range(_PASSES):
        num_changed = 0
        for book, (entries, half) in enumerate(zip(tables, halves, strict=True)):
            wanted = rest + entries[codes[book]]
            # The nearest entry, without the length of what is wanted, which is the same for all.
            nearest = (wanted @ entries.T - half).argmax(1)
            num_changed += int((nearest != codes[book]).sum())
            codes[book] = nearest
            rest = wanted - entries[nearest]
        if not num_changed:
            break
    return codes, rest.norm(dim=1) / rows.norm(dim=1).clamp(min=1e-9)
