"""The way of speech through its text: for each frame the token that is being spoken, never going back.

A Viterbi search over frames and tokens, one frame at a time, so that a stream knows where it is. Knows no words, no
seconds and no model. Read next: `voxtral.align.attention`, where the weights come from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

if TYPE_CHECKING:
    import numpy.typing as npt

    Weights = npt.NDArray[np.float32]
    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

# What a token without any attention is worth, so that its logarithm stays a number.
FLOOR = 1e-3
# For each token that a path leaves out at the start or at the end of the text, in nats.
EDGE_COST = 0.7
# What scores so much worse than the best, in nats, is not expected to become the best any more.
_MARGIN = 8.0


class MonotonePath:
    """The best way through the tokens of a text, found frame by frame.

    What has been found of early frames stays as later ones come, but for the last few; see `num_final`.

    Args:
        num_tokens: n, of the text, at least 1.
        max_step: tokens that one frame may go on by, at least 1.
        keeps_scores: whether it can be asked how things stood after an earlier frame.
    """

    def __init__(self, num_tokens: int, max_step: int, *, keeps_scores: bool = False) -> None:
        self._num_tokens = num_tokens
        self._max_step = max_step
        # Ways that would come from before the text lead nowhere.
        self._padded: Floats = np.full(max_step + num_tokens, -np.inf)
        # [n, max_step + 1], of each token those it can be reached from: itself first, then the ones before it.
        self._reachable = sliding_window_view(self._padded, max_step + 1)[:, ::-1]
        self._scores = self._padded[max_step:]
        self._tokens = np.arange(num_tokens)
        self._scores[:] = -EDGE_COST * self._tokens
        self._token = 0
        self._sources: list[Ints] = []  # [n] of each frame: of each token the one that it was reached from
        self._kept: list[Floats] | None = [] if keeps_scores else None  # [n] after each frame

    @property
    def num_frames(self) -> int:
        """Frames that have been added."""
        return len(self._sources)

    @property
    def token(self) -> int:
        """The token that the latest frame is most probably at, by all frames so far."""
        return self._token

    def add(self, weights: Weights) -> None:
        """Go on by one frame.

        Args:
            weights: [n], of each token, adding up to 1.
        """
        source = self._tokens - self._reachable.argmax(axis=1) if self._sources else self._tokens
        scores = self._scores.take(source) + np.log(weights + FLOOR)
        self._scores[:] = scores
        self._token = int(scores.argmax())
        # Who reads along on another thread counts the sources, so they come last.
        if self._kept is not None:
            self._kept.append(scores)
        self._sources.append(source)

    def trace(self, num_frames: int | None = None) -> Ints:
        """Follow the best way back from a frame: [T], the token of each frame, never decreasing.

        A way that ends before the text does pays for what it leaves out.

        Args:
            num_frames: T, of the first frames alone, where scores are kept; None: of all.
        """
        num_frames = self.num_frames if num_frames is None else num_frames
        if not num_frames:
            return np.zeros(0, dtype=np.int64)
        scores = self._scores_after(num_frames)
        token = int((scores - EDGE_COST * (self._num_tokens - 1 - self._tokens)).argmax())
        return self._back_from(token, num_frames)

    def num_final(self, num_frames: int | None = None) -> int:
        """Count the frames whose tokens no later frame is expected to change.

        All ways that score near the best have come by the same token there. Ways never cross, so it is enough that the
        outermost of them have.

        Args:
            num_frames: as of the first frames alone; see `trace`.
        """
        return self._last_final(self.num_frames if num_frames is None else num_frames)[0]

    def trace_final(self, since: int = 0, num_frames: int | None = None) -> Ints:
        """Give the tokens of the frames that are final, from one on: [num_final() - since], or none.

        Args:
            since: frames that are left out.
            num_frames: as of the first frames alone; see `trace`.
        """
        num_final, token = self._last_final(self.num_frames if num_frames is None else num_frames)
        return self._back_from(token, max(since, num_final), since)

    def _last_final(self, num_frames: int) -> tuple[int, int]:
        """Find how many of the first frames are final, and the token of the last of these."""
        if not num_frames:
            return 0, 0
        scores = self._scores_after(num_frames)
        (rivals,) = (scores >= scores.max() - _MARGIN).nonzero()
        first, last = int(rivals[0]), int(rivals[-1])
        for frame in range(num_frames - 1, -1, -1):
            if first == last:
                return frame + 1, first
            source = self._sources[frame]
            first, last = int(source[first]), int(source[last])
        return 0, 0

    def _scores_after(self, num_frames: int) -> Floats:
        """Give the scores of the tokens after a number of frames: [n]."""
        if self._kept is not None and num_frames:
            return self._kept[num_frames - 1]
        if num_frames != self.num_frames:
            raise AssertionError(f"{num_frames} of {self.num_frames} frames, and no scores were kept")
        return self._scores

    def _back_from(self, token: int, num_frames: int, since: int = 0) -> Ints:
        path = np.empty(num_frames - since, dtype=np.int64)
        for frame in range(num_frames - 1, since - 1, -1):
            path[frame - since] = token
            token = int(self._sources[frame][token])
        return path


def find_path(weights: Weights, max_step: int) -> Ints:
    """Find the way through a text of which all frames are there.

    Args:
        weights: [T, n], of each frame over the tokens.
        max_step: tokens that one frame may go on by.

    Returns:
        [T], the token of each frame, never decreasing.
    """
    path = MonotonePath(weights.shape[1], max_step)
    for row in weights:
        path.add(row)
    return path.trace()
