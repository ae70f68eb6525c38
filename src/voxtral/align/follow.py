"""Following a text while it is spoken, so that speech ends when it has been said, and not before or long after.

A model may choose its end at a pause in the middle of a sentence, and may go on with sounds of its own after the last
word. Where its attention stands tells both. What is done, in this order: an end that comes too early is held back and
what comes then is not given out until the path goes on; if it does not, the rest of the text is to be spoken as a
segment of its own. So it is where speech stands still for long. docs/ALIGN.md has the experiments. Read next:
`voxtral.engine.following`, which says what the decisions mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from voxtral.align.path import MonotonePath
from voxtral.engine.following import Decision, TextFollower

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from voxtral.align.words import WordSpans

    Weights = npt.NDArray[np.float32]
    Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FollowLimits:
    """How far speech may stray from its text.

    Attributes:
        end_left: tokens of words that may be left when the model ends; a path may miss the last letters.
        hold_frames: frames that are made against an end that came too early before the place is given up.
        go_on: tokens that the path must go on by for what was held back to be speech.
        stall_frames: frames without getting on in the text before what comes is kept back, and as many after that
            before the place is given up.
        tail_frames: frames after the last letter that speech may take to die away.
        over_frames: further frames that are kept back for a late end before they are dropped.
    """

    end_left: float = 1.0
    hold_frames: int = 4
    go_on: int = 2
    stall_frames: int = 20
    tail_frames: int = 8
    over_frames: int = 4

    @classmethod
    def from_thresholds(cls, thresholds: Mapping[str, float]) -> FollowLimits:
        """Take what a calibration has measured, and what it has not from the experiments with nano."""
        usual = cls()
        return cls(
            end_left=thresholds.get("end_left", usual.end_left),
            stall_frames=round(thresholds.get("stall_frames", usual.stall_frames)),
            tail_frames=round(thresholds.get("tail_frames", usual.tail_frames)),
        )


class Follower(TextFollower):
    """Follows one sequence; see TextFollower.

    What it has seen is read by others too, once their frames have been given out.

    Args:
        words: of the text, where they are among its tokens.
        max_step: tokens that one frame may go on by.
        limits: how far speech may stray.
        is_strict: whether it interferes at all; otherwise it only watches.
    """

    def __init__(
        self, words: WordSpans, max_step: int, limits: FollowLimits | None = None, *, is_strict: bool = True
    ) -> None:
        self.weights: list[Weights] = []  # [n] of each frame, those of frames that were dropped included
        self.words = words
        self._path = MonotonePath(words.num_tokens, max_step)
        self._left = _tokens_left(words)
        self._limits = limits or FollowLimits()
        self._is_strict = is_strict
        self._furthest = 0  # token that speech has come to
        self._num_stalled = 0  # frames since it got on
        self._held_token: int | None = None  # where an end was held back, or speech stalled; None where neither is so
        self._is_end_held = False
        self._num_waiting = 0  # frames that are kept back
        self._num_tail = 0  # frames at the end of the text

    @property
    def token(self) -> int:
        """The token that speech has come to; of what was kept, once the place was given up."""
        return self._path.token if self._held_token is None else self._held_token

    def see(self, weights: Weights) -> None:
        """See TextFollower."""
        self.weights.append(weights.copy())
        self._path.add(weights)
        self._num_stalled = 0 if self._path.token > self._furthest else self._num_stalled + 1
        self._furthest = max(self._furthest, self._path.token)

    def decide(self, *, says_end: bool) -> Decision:
        """See TextFollower."""
        if not self._is_strict:
            return "end" if says_end else "keep"
        left = float(self._left[self._path.token])
        if left <= self._limits.end_left:
            return self._at_the_end(says_end=says_end, is_done=left == 0)
        if self._held_token is not None and self._path.token >= self._held_token + self._limits.go_on:
            self._go_on()
        has_stalled = self._num_stalled > self._limits.stall_frames
        if self._held_token is None:
            if not says_end and not has_stalled:
                return "keep"
            self._held_token = self._path.token
        self._is_end_held |= says_end
        patience = self._limits.hold_frames if self._is_end_held else self._limits.stall_frames
        if says_end:
            return "lost" if self._num_waiting >= patience else "again"
        self._num_waiting += 1
        return "wait" if self._num_waiting <= patience else "lost"

    def _at_the_end(self, *, says_end: bool, is_done: bool) -> Decision:
        self._go_on()
        if says_end:
            return "end"
        self._num_tail += is_done
        too_many = self._num_tail - self._limits.tail_frames
        if too_many <= 0:
            return "keep"
        return "wait" if too_many <= self._limits.over_frames else "over"

    def _go_on(self) -> None:
        self._held_token, self._is_end_held, self._num_waiting = None, False, 0


def _tokens_left(words: WordSpans) -> Floats:
    """Count for each token those of words behind it: [n]."""
    is_of_word = np.zeros(words.num_tokens)
    for word in words.words:
        if word.is_sounding:
            first, stop = int(np.floor(word.first)), int(np.ceil(word.last))
            is_of_word[first:stop] = 1.0
    return np.cumsum(is_of_word[::-1])[::-1] - is_of_word
