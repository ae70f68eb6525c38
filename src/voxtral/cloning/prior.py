"""What codes of speech are like: a Gaussian of the levels of two frames in a row, and codes to start from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Variance that is added in each direction, for few frames tell little of most: that of half a step of levels, doubled.
_RIDGE = 0.0033


@dataclass(frozen=True, eq=False)
class CodePrior:
    """A Gaussian of the acoustic levels, in [-1, 1], of a frame and the one before it; A levels.

    Attributes:
        mean: [2 A] float32.
        whitener: [2 A, 2 A] float32; maps what is around the mean to unit variance.
    """

    mean: Tensor
    whitener: Tensor

    @classmethod
    def fit(cls, sequences: Sequence[Tensor], num_levels: int) -> CodePrior | None:
        """Fit it to sequences of codes [K, T]; None where they hold no two frames that follow each other.

        Args:
            sequences: codes int64.
            num_levels: of an acoustic code.
        """
        pairs = [_pairs(as_levels(codes[1:], num_levels).T[None])[0] for codes in sequences if codes.shape[1] > 1]
        if not pairs:
            return None
        seen = torch.cat(pairs)
        mean = seen.mean(0)
        around = (seen - mean).double()
        covariance = around.T @ around / len(seen) + _RIDGE * torch.eye(seen.shape[1], dtype=torch.float64)
        whitener = torch.linalg.cholesky(torch.linalg.inv(covariance)).float()
        return cls(mean, whitener)

    def to(self, device: torch.device) -> CodePrior:
        """Move it."""
        return CodePrior(self.mean.to(device), self.whitener.to(device))

    def distance(self, levels: Tensor, is_frame: Tensor) -> Tensor:
        """Measure how unlike speech levels [B, T, A] are: about 1 for speech, more for what is not; [B].

        Args:
            levels: in [-1, 1].
            is_frame: [B, T] bool; others count for nothing.
        """
        if levels.shape[1] < 2:
            return levels.new_zeros(len(levels))
        around = ((_pairs(levels) - self.mean) @ self.whitener).pow(2).mean(-1)
        weights = is_frame[:, 1:].to(levels.dtype)
        return (around * weights).sum(1) / weights.sum(1).clamp(min=1)


def as_levels(codes: Tensor, num_levels: int) -> Tensor:
    """Turn acoustic codes into levels in [-1, 1] float32."""
    return codes.float() * 2 / (num_levels - 1) - 1


def _pairs(levels: Tensor) -> Tensor:
    return torch.cat((levels[:, :-1], levels[:, 1:]), dim=-1)


def start_codes(sequences: Sequence[Tensor], num_frames: int, count: int, seed: int) -> Tensor:
    """Take codes of speech to start from, [count, K, num_frames], each of another sequence as far as there are any.

    A sequence begins anywhere and is repeated until it is long enough.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(sequences), generator=generator).tolist()
    starts: list[Tensor] = []
    for number in range(count):
        codes = sequences[order[number % len(order)]]
        first = int(torch.randint(codes.shape[1], (1,), generator=generator))
        starts.append(codes[:, (first + torch.arange(num_frames)) % codes.shape[1]])
    return torch.stack(starts)
