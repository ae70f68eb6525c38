"""Choosing the numbers of a matrix of few bits.

What is fitted, and in which form it is kept, is in `voxtral.quantization.schemes`; how the fits compare with others is
in docs/QUANTIZATION.md.
"""

from __future__ import annotations

import torch
from torch import Tensor

from voxtral.model.linear_weights import Int4Weight, Int8Weight, pack_nibbles

# Parts of the widest grid that a fit starts from, and how often each is refined.
_STARTS = (1.0, 0.9, 0.8)
_ROUNDS = 4

# Numbers that are fitted at a time: they stay in the cache of a processor. On a GPU each of some 250 operations of a
# block is a launch, and small blocks of the published weights would be three million; large ones are a hundred
# thousand, and hold 140 MB.
_BLOCK_NUMBERS, _BLOCK_NUMBERS_OF_GPU = 2**18, 2**23

_MAX_QUANTISED = 15


def fit_int8(weight: Tensor) -> Int8Weight:
    """Round to 255 steps between plus and minus the largest value of each row."""
    scale = weight.abs().amax(dim=1).float() / 127
    scale = torch.where(scale > 0, scale, 1.0)
    values = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    for rows in _row_blocks(weight):
        values[rows] = (weight[rows].float() / scale[rows, None]).round_().clamp_(-127, 127).to(torch.int8)
    return Int8Weight(values, scale)


def fit_int4(weight: Tensor, group_size: int) -> Int4Weight:
    """Fit 16 evenly spaced values to each group of inputs.

    Rounding to a grid from the smallest to the largest value of a group is the start. Then the best grid for the
    rounded numbers, in the sense of least squares, and the best rounding for that grid follow each other, from the
    whole grid and from narrower ones, which cut off outliers. The best of all is kept, so that the error is never
    above that of plain rounding. How it compares with the half-quadratic fit: docs/QUANTIZATION.md.
    """
    num_rows, width = weight.shape
    packed = torch.empty(num_rows, width // 2, dtype=torch.uint8, device=weight.device)
    scale = torch.empty(num_rows, width // group_size, dtype=torch.bfloat16, device=weight.device)
    zero = torch.empty_like(scale, dtype=torch.float16)
    for rows in _row_blocks(weight):
        groups = weight[rows].float().unflatten(1, (-1, group_size))
        best_scale, best_zero = _fit_grids(groups)
        quantised = _round_to_grid(groups, best_scale, best_zero).to(torch.uint8)
        packed[rows] = pack_nibbles(quantised.flatten(1))
        scale[rows], zero[rows] = best_scale[..., 0], best_zero[..., 0]
    return Int4Weight(packed, scale, zero)


def _row_blocks(weight: Tensor) -> list[slice]:
    step = max(1, (_BLOCK_NUMBERS_OF_GPU if weight.is_cuda else _BLOCK_NUMBERS) // weight.shape[1])
    return [slice(start, start + step) for start in range(0, weight.shape[0], step)]


def _fit_grids(groups: Tensor) -> tuple[Tensor, Tensor]:
    """Find scale and zero of each group, [..., 1] float32 with values that their stored dtypes hold."""
    # Zero lies within the grid, so that float16 holds it, and the grid of equal values has a width.
    low, high = groups.amin(-1, keepdim=True).clamp(max=0), groups.amax(-1, keepdim=True).clamp(min=0)
    middle, width = (low + high) / 2, (high - low) / _MAX_QUANTISED
    total, count = groups.sum(-1, keepdim=True), groups.shape[-1]
    best_error = torch.full_like(middle, torch.inf)
    best_scale, best_zero = _start(middle, width)
    for start in _STARTS:
        scale, zero = _start(middle, width * start)
        for _ in range(_ROUNDS):
            quantised = _round_to_grid(groups, scale, zero)
            q_sum = quantised.sum(-1, keepdim=True)
            q_squares = (quantised * quantised).sum(-1, keepdim=True)
            q_products = (quantised * groups).sum(-1, keepdim=True)
            # The squared error, without the sum of the squared weights, which is the same for all grids.
            shifted = q_squares - 2 * zero * q_sum + count * zero * zero
            error = scale * scale * shifted - 2 * scale * (q_products - zero * total)
            is_better = error < best_error
            best_error = torch.where(is_better, error, best_error)
            best_scale, best_zero = torch.where(is_better, scale, best_scale), torch.where(is_better, zero, best_zero)
            # The line through the weights over their rounded numbers.
            spread = count * q_squares - q_sum * q_sum
            slope = (count * q_products - q_sum * total) / spread.clamp(min=1)
            # Where all rounded numbers are equal there is no line; the grid stays.
            scale = torch.where((spread > 0) & (slope > 0), _storable_scale(slope), scale)
            zero = _storable_zero((q_sum - total / scale) / count)
    return best_scale, best_zero


def _start(middle: Tensor, width: Tensor) -> tuple[Tensor, Tensor]:
    """Lay 16 values `width` apart around the middle; a group of zeros stays zeros."""
    scale = _storable_scale(width)
    return scale, torch.where(width > 0, _storable_zero(_MAX_QUANTISED / 2 - middle / scale), 8.0)


def _round_to_grid(groups: Tensor, scale: Tensor, zero: Tensor) -> Tensor:
    return torch.addcdiv(zero, groups, scale).round_().clamp_(0, _MAX_QUANTISED)


def _storable_scale(scale: Tensor) -> Tensor:
    # Products of the smallest normal number with 15 steps stay far from the end of the range.
    return scale.clamp(min=torch.finfo(torch.bfloat16).tiny).to(torch.bfloat16).float()


def _storable_zero(zero: Tensor) -> Tensor:
    return zero.to(torch.float16).float()
