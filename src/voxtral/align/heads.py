"""Which heads follow the text: all of a model's heads judged by the way that each would find through it.

Knows weights alone, no model. Read next: `voxtral.align.calibrate`, which measures them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from voxtral.align.alignment import Head
from voxtral.align.path import EDGE_COST, FLOOR

if TYPE_CHECKING:
    import numpy.typing as npt

    Weights = npt.NDArray[np.float32]
    Ints = npt.NDArray[np.int64]

MAX_HEADS = 2
MIN_SCORE = 0.6
# Of the best head's score, for a second one.
_LEAST_SHARE = 0.9
# Heads that read farther apart than this, in frames, would blur each other.
_MAX_APART_FRAMES = 0.5


@dataclass(frozen=True)
class HeadFigures:
    """How well a head follows the text.

    Attributes:
        score: mean attention within one token of its path, times the share of the text that the path covers.
        position: mean token of its path; a head that reads ahead has a higher one.
        pace: tokens that its path goes on by in a frame.
    """

    score: float
    position: float
    pace: float


class HeadJudge:
    """Gathers the figures of all heads over utterances.

    Args:
        max_step: tokens that one frame may go on by.
    """

    def __init__(self, max_step: int) -> None:
        self._max_step = max_step
        self._seen: dict[Head, list[HeadFigures]] = defaultdict(list)

    def add(self, weights: Mapping[Head, Weights]) -> None:
        """Take one utterance: of each head [T, n], the frames over the tokens."""
        stacked = np.stack(list(weights.values()))
        paths = find_paths(stacked, self._max_step)
        num_frames, num_tokens = stacked.shape[1:]
        tokens = np.arange(num_tokens)
        for head, of_head, path in zip(weights, stacked, paths, strict=True):
            near = of_head[np.abs(tokens - path[:, None]) <= 1].sum() / num_frames
            covered = (path[-1] - path[0] + 1) / num_tokens
            pace = (path[-1] - path[0]) / num_frames
            self._seen[head].append(HeadFigures(float(near * covered), float(path.mean()), float(pace)))

    def figures(self) -> dict[Head, HeadFigures]:
        """Average over all utterances; the best head first."""
        means = {
            head: HeadFigures(*np.mean([(one.score, one.position, one.pace) for one in seen], axis=0).tolist())
            for head, seen in self._seen.items()
        }
        return dict(sorted(means.items(), key=lambda entry: -entry[1].score))


def choose_heads(figures: Mapping[Head, HeadFigures], without: Collection[Head] = ()) -> tuple[Head, ...]:
    """Choose the heads that times are read from.

    Those that are nearly as good as the best, the latest of them first, because heads that read ahead are early; and
    of the others only one that reads at the same place.

    Args:
        figures: of all heads.
        without: heads that are not to be chosen.

    Returns:
        At most two; none where no head follows the text.
    """
    left = {head: one for head, one in figures.items() if head not in without}
    best = max((one.score for one in left.values()), default=0.0)
    if best < MIN_SCORE:
        return ()
    good = sorted((one.position, head) for head, one in left.items() if one.score >= _LEAST_SHARE * best)
    first, apart = good[0][0], _MAX_APART_FRAMES * left[good[0][1]].pace
    return tuple(sorted(head for position, head in good[:MAX_HEADS] if position - first <= apart))


def find_paths(weights: Weights, max_step: int) -> Ints:
    """Find the way through a text for many heads at once, each as `voxtral.align.path.find_path` does.

    Args:
        weights: [M, T, n].
        max_step: tokens that one frame may go on by.

    Returns:
        [M, T].
    """
    num_heads, num_frames, num_tokens = weights.shape
    tokens = np.arange(num_tokens)
    gains = np.log(weights + FLOOR)
    padded = np.full((num_heads, max_step + num_tokens), -np.inf)
    reachable = sliding_window_view(padded, max_step + 1, axis=1)[:, :, ::-1]
    scores = padded[:, max_step:]
    scores[:] = gains[:, 0] - EDGE_COST * tokens
    steps = np.zeros((num_frames, num_heads, num_tokens), dtype=np.int16)
    for frame in range(1, num_frames):
        steps[frame] = reachable.argmax(axis=2)
        scores[:] = np.take_along_axis(scores, tokens - steps[frame], axis=1) + gains[:, frame]
    paths = np.empty((num_heads, num_frames), dtype=np.int64)
    heads = np.arange(num_heads)
    paths[:, -1] = (scores - EDGE_COST * (num_tokens - 1 - tokens)).argmax(axis=1)
    for frame in range(num_frames - 1, 0, -1):
        paths[:, frame - 1] = paths[:, frame] - steps[frame, heads, paths[:, frame]]
    return paths
