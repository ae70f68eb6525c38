"""Following a text while it is spoken, so that speech ends when it has been said, and not before or long after.

A model may choose its end at a pause in the middle of a sentence, go on with sounds of its own after the last word, or
pass over words. Where its attention stands tells. An end that comes too early is held back, and what comes then is not
given out until the next word is said; if it is not, the rest of the text is to be spoken as a segment of its own. So it
is where speech stands still for long, where it has passed over words, and where it says again what it has said.
docs/ALIGN.md has the experiments. Read next: `voxtral.engine.following`, which says what the decisions mean.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from voxtral.align.path import MonotonePath
from voxtral.engine.following import Decision, TextFollower

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from voxtral.align.words import WordSpans

    Weights = npt.NDArray[np.float32]
    Floats = npt.NDArray[np.float64]
    Ints = npt.NDArray[np.int64]

# A frame that looks at one token so much is saying it.
_SURE = 0.5


@dataclass(frozen=True)
class FollowLimits:
    """How far speech may stray from its text.

    Attributes:
        end_left: tokens of words that may be left when the model ends; a path may miss the last letters.
        least_seen: attention that the token of a word has had on average, if the word was said.
        skipped_tokens: tokens of words that are passed over, kana twice, from which on that is not let be.
        skip_frames: frames that are kept back until it is certain that words were passed over.
        hold_frames: frames that are made against an end that came too early before the place is given up.
        go_on: tokens that the path must go on by for what was held back to be speech.
        stall_frames: frames without getting on in the text before what comes is kept back, and as many after that
            before the place is given up.
        tail_frames: frames after the last letter that speech may take to die away.
        over_frames: further frames that are kept back for a late end before they are dropped.
        token_frames: frames that a token of a word takes at least, where attention rests on a mark within the word.
        pause_frames: frames that speech takes to die away there.
        back_tokens: tokens behind the path, from which on a frame looks back.
        back_frames: frames in a row that look back and get on there before the place is given up.
    """

    end_left: float = 1.0
    least_seen: float = 0.3
    skipped_tokens: float = 6.0
    skip_frames: int = 2
    hold_frames: int = 4
    go_on: int = 2
    stall_frames: int = 20
    tail_frames: int = 8
    over_frames: int = 4
    token_frames: float = 0.6
    pause_frames: int = 2
    back_tokens: int = 6
    back_frames: int = 3

    @classmethod
    def from_thresholds(cls, thresholds: Mapping[str, float]) -> FollowLimits:
        """Take what a calibration has measured, and what it has not from the experiments with nano."""
        usual = cls()
        return cls(
            end_left=thresholds.get("end_left", usual.end_left),
            stall_frames=round(thresholds.get("stall_frames", usual.stall_frames)),
            tail_frames=round(thresholds.get("tail_frames", usual.tail_frames)),
        )


_Why = Literal["end", "stall", "passed", "back"]


@dataclass
class _Held:
    """Frames that are kept back.

    Attributes:
        why: an end that came too early, speech that stands still, words that were passed over, or that are said again.
        token: from which the text is to be spoken on if they are dropped.
        num_frames: of them, those in which speech did not get on.
        words: the first that was passed over, and the one behind the last.
    """

    why: _Why
    token: int
    num_frames: int = 0
    words: tuple[int, int] = (0, 0)


class Follower(TextFollower):
    """Follows one sequence; see TextFollower.

    What it has seen is read by others too, once their frames have been given out.

    Args:
        words: of the text, where they are among its tokens.
        max_step: tokens that one frame may go on by.
        limits: how far speech may stray.
        is_strict: whether it interferes at all; otherwise it only watches.
        is_timed: whether somebody reads along when words are said.
    """

    def __init__(
        self,
        words: WordSpans,
        max_step: int,
        limits: FollowLimits | None = None,
        *,
        is_strict: bool = True,
        is_timed: bool = False,
    ) -> None:
        self.weights: list[Weights] = []  # [n] of each frame, those of frames that were dropped included
        self.words = words
        self.path = MonotonePath(words.num_tokens, max_step, keeps_scores=is_timed)
        self._spans = [(int(np.floor(word.first)), int(np.ceil(word.last))) for word in words.words if word.is_sounding]
        # As lists, because they are asked for single numbers.
        self._word_of: list[int] = _words_of_tokens(self._spans, words.num_tokens).tolist()
        self._left: list[float] = _tokens_left(self._spans, words.num_tokens).tolist()
        self._sizes = words.sizes
        self._seen: Floats = np.zeros(words.num_tokens)  # attention that each token has had
        self._num_said = 0  # words up to the last that is being said, those that were passed over included
        self._limits = limits or FollowLimits()
        self._is_strict = is_strict
        self._furthest = 0  # token that speech has come to
        self._num_stalled = 0  # frames since it got on
        self._num_denied = 0  # ends that were not believed since then
        self._held: _Held | None = None  # what is kept back, if anything is
        self._num_tail = 0  # frames at the end of the text
        self._num_in_word = 0  # frames since the path came to the word it is at
        self._word = -1
        self._looked_at: int | None = None  # token that the latest frame looks at; None where it is not sure
        self._back: list[int] = []  # places behind the path that the latest frames have looked at, as far as they rise
        self._sane = 0  # token that the path was at before that

    @property
    def token(self) -> int:
        """The token that speech has come to; of what was kept, once the place was given up."""
        return self.path.token if self._held is None else self._held.token

    def see(self, weights: Weights) -> None:
        """See TextFollower."""
        self.weights.append(weights.copy())
        self.path.add(weights)
        self._seen += weights
        token = self.path.token
        word = self._word_of[token]
        self._num_in_word = self._num_in_word + 1 if word == self._word else 1
        self._word = word
        place = int(weights.argmax())
        self._looked_at = None if weights[place] < _SURE else place
        self._look_back()
        if token > self._furthest:
            self._furthest, self._num_stalled, self._num_denied = token, 0, 0
        else:
            self._num_stalled += 1

    def _look_back(self) -> None:
        """Note whether a frame looks at what was said long before the place that the path is at."""
        place = self._looked_at
        if place is None or place >= self.path.token - self._limits.back_tokens:
            self._back, self._sane = [], self.path.token
        elif not self._back or place > self._back[-1]:
            self._back.append(place)
        elif place < self._back[-1]:
            self._back = [place]

    def decide(self, *, says_end: bool) -> Decision:
        """See TextFollower."""
        if not self._is_strict:
            return "end" if says_end else "keep"
        self._release_held()
        if self._held is None or self._held.why != "passed":
            passed = self._find_passed()
            if passed is not None:
                self._held = _Held("passed", self._spans[passed[0]][0], words=passed)
        if len(self._back) >= self._limits.back_frames:
            return self._when_repeating()
        if says_end:
            return self._at_an_end()
        if self._held is None:
            if len(self._back) > 1:
                self._hold("back", self.path.token)
                return "wait"
            if self._left[self.path.token] <= self._limits.end_left:
                return self._in_the_tail()
            if self._num_stalled <= self._limits.stall_frames:
                return "keep"
            self._hold("stall", self.path.token)
        return self._keep_back()

    def _release_held(self) -> None:
        """Let go of what is speech after all."""
        held = self._held
        if held is None:
            return
        if held.why == "end":
            is_over = self._num_stalled == 0 and self.path.token >= held.token and not self._back
            goes_on = is_over and self._was_said(self._word_of[held.token])
        elif held.why == "stall":
            goes_on = self.path.token >= held.token + self._limits.go_on and not self._back
        elif held.why == "back":
            goes_on = len(self._back) < 2
        else:
            goes_on = self._is_back_before(held.words)
        if goes_on:
            self._held = None

    def _hold(self, why: _Why, token: int) -> None:
        if self._held is None or self._held.why != why:
            self._held = _Held(why, token)

    def _keep_back(self) -> Decision:
        """Keep a frame back, as long as there is patience; frames in which speech gets on do not use it up."""
        held = self._held
        if held is None:
            raise AssertionError("nothing is held")
        held.num_frames += held.why == "passed" or self._num_stalled > 0
        if held.why == "stall":
            return "wait" if self._num_stalled <= 2 * self._limits.stall_frames else "lost"
        if held.why == "back":
            return "wait"
        patience = self._limits.hold_frames if held.why == "end" else self._limits.skip_frames - 1
        return "wait" if held.num_frames <= patience else "lost"

    def _at_an_end(self) -> Decision:
        """Believe an end only if all words have been said."""
        unsaid = self._find_unsaid()
        if unsaid is None:
            return "end"
        self._hold("end", unsaid)
        self._num_denied += 1
        return "lost" if self._num_denied > self._limits.hold_frames else "again"

    def _when_repeating(self) -> Decision:
        """Give up speech that says again what it has said: go on with what is left, or end."""
        # The path may have gone on meanwhile, to letters that are like those that are said again.
        if self._left[self._sane] <= self._limits.end_left:
            return "over"
        self._held = _Held("back", self._sane + 1)
        return "lost"

    def _in_the_tail(self) -> Decision:
        self._num_tail += self._left[self.path.token] == 0
        too_many = self._num_tail - self._limits.tail_frames
        if too_many <= self._limits.over_frames:
            return "keep" if too_many <= 0 else "wait"
        unsaid = self._find_unsaid()
        if unsaid is None:
            return "over"
        self._hold("end", unsaid)
        return "lost"

    def _find_passed(self) -> tuple[int, int] | None:
        """Find words that were passed over for the one that is looked at: the first, and the one behind the last."""
        if self._looked_at is None:
            return None
        current = self._word_of[self._looked_at]
        if current <= self._num_said:
            return None
        first, size = self._worst_unsaid(self._num_said, current)
        if size >= self._limits.skipped_tokens:
            return first, current
        self._num_said = current
        return None

    def _is_back_before(self, passed: tuple[int, int]) -> bool:
        """Tell whether words that were passed over are said after all, or nothing says that they will not be."""
        if self._looked_at is None or self._word_of[self._looked_at] < passed[1]:
            return True
        return self._worst_unsaid(*passed)[1] < self._limits.skipped_tokens

    def _find_unsaid(self) -> int | None:
        """Find the words at the end of the text that were not said; their first token, None where there are none.

        Nobody has looked at them, or the path, which a glance ahead does not move, has not come to them.
        """
        last = len(self._spans)
        first = self._first_unsaid_before(last, 0)
        if self._num_tokens(first, last) > self._limits.end_left:
            return self._spans[first][0]
        if self._left[self.path.token] <= self._limits.end_left or self._is_within_the_last():
            return None
        return next((start for start, _ in self._spans if start > self.path.token), self.path.token)

    def _is_within_the_last(self) -> bool:
        """Tell whether the path rests on a mark of the last word, such as an apostrophe, for as long as the word takes.

        There attention may stay while all letters of the word are said.
        """
        last = len(self._spans) - 1
        if self._word != last or self._sizes[self.path.token] or not self._was_said(last):
            return False
        start, stop = self._spans[last]
        needed = self._limits.token_frames * (stop - start) + self._limits.pause_frames
        return start <= self.path.token < stop and self._num_in_word >= needed

    def _first_unsaid_before(self, word: int, least: int) -> int:
        """Go back from a word as long as those before it were not said."""
        while word > least and not self._was_said(word - 1):
            word -= 1
        return word

    def _num_tokens(self, first: int, stop: int) -> int:
        return sum(end - start for start, end in self._spans[first:stop])

    def _worst_unsaid(self, least: int, word: int) -> tuple[int, int]:
        """Find where the words before one begin that were not said, and how much there was to say of them.

        A word between them that was said, or that a glance fell on, weighs against them; those behind them do not,
        however many were said before attention was sure of one.
        """
        worst, size, first = 0, 0, word
        for number in range(word - 1, least - 1, -1):
            start, stop = self._spans[number]
            weight = sum(max(1, size) for size in self._sizes[start:stop])
            size = max(0, size) + (-weight if self._was_said(number) else weight)
            if size > worst:
                worst, first = size, number
        return first, worst

    def _was_said(self, word: int) -> bool:
        start, stop = self._spans[word]
        return float(self._seen[start:stop].sum()) >= self._limits.least_seen * (stop - start)


def _words_of_tokens(spans: list[tuple[int, int]], num_tokens: int) -> Ints:
    """Number for each token its word, or the one before it: [n]."""
    words = np.zeros(num_tokens, dtype=np.int64)
    for number, (start, _) in enumerate(spans):
        words[start:] = number
    return words


def _tokens_left(spans: list[tuple[int, int]], num_tokens: int) -> Floats:
    """Count for each token those of words behind it: [n]."""
    is_of_word = np.zeros(num_tokens)
    for start, stop in spans:
        is_of_word[start:stop] = 1.0
    return np.cumsum(is_of_word[::-1])[::-1] - is_of_word
