"""When each word of a segment is heard: from the way through its tokens, frame by frame, and the samples.

A stream and a finished segment go the same way: what is final now is what it will be at the end. docs/ALIGN.md explains
each step. Read next: `voxtral.align.path` and `voxtral.align.words`, where the way and the words come from.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from voxtral.align.path import MonotonePath
from voxtral.align.sound import Sound
from voxtral.types import WordTime

if TYPE_CHECKING:
    import numpy.typing as npt

    from voxtral.align.alignment import Alignment
    from voxtral.align.words import WordSpan, WordSpans

    Samples = npt.NDArray[np.float32]
    Weights = npt.NDArray[np.float32]
    Ints = npt.NDArray[np.int64]
    Floats = npt.NDArray[np.float64]

# Tokens on either side of the path whose attention counts for the position.
_REACH = 2
# A word after a pause begins where sound does, if that is so near.
_ONSET_BEFORE_S, _ONSET_AFTER_S, _SILENCE_S = 0.08, 0.25, 0.06
# A word that no frame stands on and that has less attention than this beside it was not heard.
_LEAST_MASS = 0.05


class Track:
    """The position in the text at each frame, on the line of WordSpan: never going back, a token at k is at k + 0.5.

    Args:
        frame_rate: frames a second; a position holds at the middle of its frame.
    """

    def __init__(self, frame_rate: float) -> None:
        self._frame_rate = frame_rate
        # Lists, because they grow by a few frames at a time and are asked for single ones.
        self.positions: list[float] = []
        self.tokens: list[int] = []
        self.near: list[float] = []  # of each frame the attention near its token

    def extend(self, path: Ints, weights: Weights | Sequence[Weights]) -> None:
        """Go on to the end of a path.

        Args:
            path: [T] of the segment from its first frame. One that is shorter than before changes nothing: what was
                final stays.
            weights: [T or more, n].
        """
        self.append(path[len(self.positions) :], weights)

    def append(self, path: Ints, weights: Weights | Sequence[Weights]) -> None:
        """Go on by the next frames.

        Args:
            path: [F], of them.
            weights: [T or more, n], of all frames.
        """
        for token in path.tolist():
            first = max(0, token - _REACH)
            around = weights[len(self.positions)][first : token + _REACH + 1].tolist()
            near = sum(around)
            position = sum(share * (first + place + 0.5) for place, share in enumerate(around))
            position = position / near if near > 0 else token + 0.5
            self.near.append(near)
            # What was final may turn out not to be on the best way; it stays, and what follows does not go behind it.
            self.positions.append(max(position, self.positions[-1]) if self.positions else max(position, 0.0))
            self.tokens.append(max(token, self.tokens[-1]) if self.tokens else token)

    def crossing(self, place: float) -> tuple[int, float] | None:
        """Find when a place is reached: the first frame that is there, and seconds; None if it is not reached yet."""
        frame = bisect_left(self.positions, place)
        if frame == len(self.positions):
            return None
        if frame == 0:
            return 0, 0.0
        before, after = self.positions[frame - 1], self.positions[frame]
        return frame, (frame - 0.5 + (place - before) / (after - before)) / self._frame_rate

    def standing_on(self, span: WordSpan) -> tuple[int, float] | None:
        """Find the first frame whose token is one of a word's, or after it, and when it begins."""
        frame = bisect_left(self.tokens, int(span.first))
        return None if frame == len(self.tokens) else (frame, frame / self._frame_rate)

    @property
    def seconds(self) -> float:
        """How long the frames are together."""
        return len(self.positions) / self._frame_rate


class WordClock:
    """Gives the words of a segment, each as soon as its time is final.

    Either it is given frames (`add_frames`, `end`) and reads the way off whoever finds it, or finds it itself: then its
    words do not depend on how many frames come at a time. Or it is given the way so far (`advance`, `finish`).

    Args:
        words: of the segment.
        alignment: what is known of the checkpoint.
        frame_rate: frames a second.
        sample_rate: of the samples, which may be left out: then no time follows them.
        with_samples: whether `add_samples` will be called.
        path: that somebody adds the frames to before they are given to the clock, and which keeps its scores; None:
            the clock finds the way itself.
    """

    def __init__(
        self,
        words: WordSpans,
        alignment: Alignment,
        *,
        frame_rate: float,
        sample_rate: int,
        with_samples: bool = True,
        path: MonotonePath | None = None,
    ) -> None:
        self._words = words.words
        self._is_told = path is not None
        if path is None and words.num_tokens:
            path = MonotonePath(words.num_tokens, alignment.max_step)
        self._path = path
        self._shift_s = alignment.shift_s
        self._track = Track(frame_rate)
        self.sound = Sound(sample_rate) if with_samples else None
        self._num_tokens = words.num_tokens
        self._weights: list[Weights] = []  # [n] of each frame
        self._next = 0
        self._end_s = 0.0  # of the last word that was given
        self._is_finished = False

    def add_samples(self, samples: Samples) -> None:
        """Hear the next samples of the segment, as it is made: before pauses, speed and fades."""
        if self.sound is not None:
            self.sound.add(samples)

    def add_frames(self, weights: Iterable[Weights]) -> tuple[WordTime, ...]:
        """Take the next frames, [n] each, and give the words that are final now and were not before."""
        path, track = self._path, self._track
        if path is not None:
            # Frame by frame, because what was final stays, whatever later frames say.
            for row in weights:
                if not self._is_told:
                    path.add(row)
                self._weights.append(row)
                track.append(path.trace_final(len(track.positions), len(self._weights)), self._weights)
        return tuple(self._take_final())

    def end(self) -> tuple[WordTime, ...]:
        """Give the rest of the words; all frames and samples of the segment are there."""
        self._is_finished = True
        self._track.extend(self.path, self._weights)
        return tuple(self._take_final())

    @property
    def path(self) -> Ints:
        """The best way through the frames that were given: [T]."""
        return np.zeros(0, dtype=np.int64) if self._path is None else self._path.trace(len(self._weights))

    @property
    def weights(self) -> Weights:
        """The frames that were given: [T, n]."""
        nothing = np.zeros(0, dtype=np.float32)
        return np.concatenate(self._weights or [nothing]).reshape(len(self._weights), self._num_tokens)

    def advance(self, path: Ints, weights: Weights) -> tuple[WordTime, ...]:
        """Give the words that are final now and were not before.

        Args:
            path: [T] token of each frame that is final, from the first on (`MonotonePath.trace_final`).
            weights: [T or more, n], of the frames.

        Returns:
            In order; seconds from the start of the segment, offsets into the text as given.
        """
        self._track.extend(path, weights)
        self._weights = list(weights)
        return tuple(self._take_final())

    def finish(self, path: Ints, weights: Weights) -> tuple[WordTime, ...]:
        """Give the rest of the words; all frames and samples of the segment are there."""
        self._is_finished = True
        return self.advance(path, weights)

    def _take_final(self) -> list[WordTime]:
        taken: list[WordTime] = []
        while self._next < len(self._words):
            silent = self._silent_from(self._next)
            stop = self._next + len(silent)
            if stop == len(self._words):
                if self._is_finished:
                    taken += (_unheard(span, self._end_s) for span in silent)
                    self._next = stop
                break
            time = self._time(self._words[stop])
            if time is None:
                break
            # What closes belongs to the word before it, what opens, and all behind it, to the one that follows.
            is_opened = False
            for span in silent:
                is_opened |= span.is_opening
                taken.append(_unheard(span, time.start_s if is_opened else self._end_s))
            taken.append(time)
            self._end_s = time.end_s
            self._next = stop + 1
        return taken

    def _silent_from(self, first: int) -> list[WordSpan]:
        silent: list[WordSpan] = []
        for span in self._words[first:]:
            if span.is_sounding:
                break
            silent.append(span)
        return silent

    def _time(self, span: WordSpan) -> WordTime | None:
        """Find the time of a word; None as long as it may change."""
        end = self._track.crossing(span.last)
        if end is None and not self._is_finished:
            return None
        begin = self._track.crossing(span.first)
        if self._is_finished:
            begin = begin or self._track.standing_on(span)
            if begin is None:
                return _unheard(span, self._end_s)
            end = end or (len(self._track.positions), self._total_s() - self._shift_s)
        elif begin is None or end is None:
            return None
        confidence = self._confidence(span, begin[0], end[0])
        start_s, end_s = begin[1] + self._shift_s, end[1] + self._shift_s
        if not confidence:
            end_s = start_s
        # All that the time depends on must be there; it depends on nothing behind that.
        until_s = max(end_s, start_s + (_ONSET_AFTER_S if span.follows_pause else 0.0))
        if not self._is_finished and self._total_s() < until_s:
            return None
        if confidence and self.sound is not None:
            start_s, end_s = self._by_sound(span, self.sound, start_s, end_s, until_s)
        total_s = self._total_s()
        start_s = min(max(start_s, self._end_s), total_s)
        return WordTime(span.text_start, span.text_end, start_s, min(max(end_s, start_s), total_s), confidence)

    def _by_sound(
        self, span: WordSpan, sound: Sound, start_s: float, end_s: float, until_s: float
    ) -> tuple[float, float]:
        if span.follows_pause:
            is_first = self._end_s == 0.0
            first_s = 0.0 if is_first else start_s - _ONSET_BEFORE_S
            last_s = max(start_s + _ONSET_AFTER_S, end_s if is_first else 0.0)
            onset = sound.onset(first_s, last_s, near_s=start_s, until_s=until_s, silence_s=_SILENCE_S)
            if onset is not None and self._end_s <= onset < end_s:
                start_s = onset
        return start_s, sound.last_sound(start_s, end_s, until_s=until_s)

    def _confidence(self, span: WordSpan, begin: int, end: int) -> float:
        track = self._track
        if begin < end:
            return min(1.0, sum(track.near[begin:end]) / (end - begin))
        # Passed within one frame: heard, if one of the frames on both sides saw it.
        beside = self._weights[max(0, begin - 1) : begin + 1]
        mass = max((float(row[int(span.first) : math.ceil(span.last)].sum()) for row in beside), default=0.0)
        return min(1.0, mass) if mass >= _LEAST_MASS else 0.0

    def _total_s(self) -> float:
        return self._track.seconds if self.sound is None else self.sound.seconds


def _unheard(span: WordSpan, time_s: float) -> WordTime:
    return WordTime(span.text_start, span.text_end, time_s, time_s, 0.0)


def word_times(
    words: WordSpans,
    path: Ints,
    weights: Weights,
    samples: Samples | None,
    sample_rate: int,
    alignment: Alignment,
    *,
    frame_rate: float,
) -> tuple[WordTime, ...]:
    """Find when each word of a finished segment is heard.

    Args:
        words: of the segment, from `spoken_words`.
        path: [T], from `find_path`.
        weights: [T or more, n], of the frames over the tokens.
        samples: [S], of the segment as it was made; None: no time follows the sound.
        sample_rate: in Hz.
        alignment: what is known of the checkpoint.
        frame_rate: frames a second.

    Returns:
        Each word once, in order; seconds from the start of the segment.
    """
    clock = WordClock(
        words, alignment, frame_rate=frame_rate, sample_rate=sample_rate, with_samples=samples is not None
    )
    if samples is not None:
        clock.add_samples(samples)
    return clock.finish(path, weights)
