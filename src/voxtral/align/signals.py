"""What tells that speech does not follow its text: each signal, how strong it is, and where.

All of it comes from the attention, the samples and the codes of the segment itself; no second model listens. How likely
the model found its own frames is not among it: what a model makes by mistake it finds as likely as the rest
(docs/ALIGN.md). Nothing is judged here. Read next: `voxtral.align.checks`, which does.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from voxtral.align.path import MonotonePath
from voxtral.align.sound import Sound
from voxtral.audio.measure import is_silent
from voxtral.engine.sequence import Stop

if TYPE_CHECKING:
    import numpy.typing as npt

    from voxtral.align.alignment import Pace
    from voxtral.align.words import WordSpan, WordSpans
    from voxtral.types import WordTime

    Samples = npt.NDArray[np.float32]
    Weights = npt.NDArray[np.float32]
    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]
    Ints = npt.NDArray[np.int64]
    Codes = npt.NDArray[np.integer]

Signal = Literal[
    "word_mass",
    "unseen",
    "jump",
    "strain",
    "score",
    "back",
    "stall",
    "end_gap",
    "no_end",
    "loop",
    "pace",
    "silence",
    "silent",
    "clipping",
    "stop",
]

FrameSpan = tuple[int, int]
"""First frame (inclusive) and last (exclusive)."""

# What a token without attention counts, as `MonotonePath` has it.
_FLOOR = 1e-3
# Mass that each word is given, in frames, so that a word of one letter may be short of it.
_SPARE_MASS = 0.3
_SMOOTH = 3
# Attention that a token has in some frame, if it is spoken.
_SEEN = 0.3
_JUMP_FRAMES, _STRAIN_FRAMES = 3, 3
# Full scale as far as encoders go.
_FULL_SCALE = 0.999
# Frames of a loop, and the times that they come in a row: what is shorter is a sound that is held.
_MIN_LOOP, _MAX_LOOP, _MIN_TIMES = 5, 40, 3
_SILENCE_S = 0.2
# A word or two may be said as slowly as one likes.
_MIN_PACE_LETTERS = 20
_ALL: Mapping[Signal, float] = {}
_READ_OUT = re.compile(r"\d|\b[A-Z]\b|[A-Z]{2}")


@dataclass(frozen=True, eq=False)
class SpokenSegment:
    """A segment as it was spoken, and all that its check looks at.

    Attributes:
        spoken: the segment's text as the model was given it.
        words: of the segment, in order.
        times: of the same words, in seconds from the start of the segment.
        weights: [T or T + 1, n] the mean of the chosen heads; a last row is that which made the end.
        path: [T], the token of each frame.
        samples: [S], as they were made.
        sample_rate: in Hz.
        frame_rate: frames a second.
        stop: how the engine ended; None where nobody knows.
        language: of the text.
        codes: [T, K] of the frames, in any alphabet; None where they are not at hand.
        no_end: -log of the probability that the model would end here; None where nobody asked.
        text_end: offset into the text as given; words from there on are spoken elsewhere, and not missed. None: all
            are to be said here.
        sound: of the same samples, where somebody has heard them.
    """

    spoken: str
    words: WordSpans
    times: tuple[WordTime, ...]
    weights: Weights
    path: Ints
    samples: Samples
    sample_rate: int
    frame_rate: float
    stop: Stop | None = None
    language: str = ""
    codes: Codes | None = None
    no_end: float | None = None
    text_end: int | None = None
    sound: Sound | None = None

    @property
    def num_frames(self) -> int:
        """T."""
        return len(self.path)


@dataclass(frozen=True)
class Evidence:
    """A signal at a place.

    Attributes:
        signal: its name.
        value: more is worse.
        words: first (inclusive) and last (exclusive) of the segment's words that it concerns.
        frames: that it concerns.
    """

    signal: Signal
    value: float
    words: tuple[int, int]
    frames: FrameSpan


def gather_evidence(
    segment: SpokenSegment, pace: Pace | None = None, least: Mapping[Signal, float] = _ALL
) -> Iterator[Evidence]:
    """Measure all signals of a segment wherever they show, those far below any threshold included.

    Args:
        segment: at least one frame long.
        pace: of its language.
        least: of a signal, the value up to which it need not be named, where it would be for nearly every frame.
    """
    num_words = len(segment.words.words)
    yield from judge_sound(segment.samples, segment.sample_rate, segment.frame_rate, num_words, sound=segment.sound)
    view = _View(segment, least)
    for find in (_word_mass, _unseen, _jump, _strain, _score, _back, _stall, _end_gap, _loops):
        yield from find(view)
    letters = sum(map(str.isalnum, segment.spoken))
    if pace is not None and letters >= _MIN_PACE_LETTERS:
        slowness = math.log(segment.num_frames / letters) - pace.median
        # What is read out letter by letter, or as numbers, takes longer than it is written.
        if slowness < 0 or not _READ_OUT.search(segment.spoken):
            yield Evidence("pace", abs(slowness), (0, num_words), (0, segment.num_frames))


def strongest(evidence: Iterable[Evidence]) -> dict[Signal, float]:
    """Give the greatest value of each signal, 0 for one that never shows."""
    values: dict[Signal, float] = {}
    for one in evidence:
        values[one.signal] = max(values.get(one.signal, 0.0), one.value)
    return values


class _View:
    """A segment with what several signals are made of."""

    def __init__(self, segment: SpokenSegment, least: Mapping[Signal, float]) -> None:
        self.segment = segment
        self.least = least
        self.path = segment.path
        self.num_frames = segment.num_frames
        self.weights = segment.weights[: self.num_frames].astype(np.float64)
        self.tokens = np.arange(self.weights.shape[1])
        self.sounding = [
            index
            for index, word in enumerate(segment.words.words)
            if word.is_sounding and (segment.text_end is None or word.text_start < segment.text_end)
        ]
        self.spans = [segment.words.words[index] for index in self.sounding]
        self.is_of_word = _of_words(self.spans, len(self.tokens))
        # Of each frame how much of its attention is on the path, 0 at best.
        self.logs = np.log(self.weights[np.arange(self.num_frames), self.path] + _FLOOR)
        self._firsts = [int(span.first) for span in self.spans]
        self.position = _median_position(self.weights)
        num_samples = max(1, round(segment.sample_rate / segment.frame_rate))
        self.is_silent = _silent_frames(segment.samples, num_samples, self.num_frames)

    def words_at(self, first_token: float, last_token: float) -> tuple[int, int]:
        """Name the words between two tokens, both included; at least one where there is any."""
        if not self.sounding:
            return 0, len(self.segment.words.words)
        first = max(0, bisect_right(self._firsts, int(first_token)) - 1)
        last = max(first, bisect_right(self._firsts, int(last_token)) - 1)
        return self.sounding[first], self.sounding[last] + 1

    def frames_of(self, span: WordSpan) -> FrameSpan:
        """Find the frames in which the path stands on a word; where none does, the place between."""
        first, last = self.path.searchsorted((int(span.first), math.ceil(span.last))).tolist()
        return min(first, self.num_frames - 1), max(last, min(first, self.num_frames - 1))


def _median_position(weights: Floats) -> Floats:
    """Say where attention is, in tokens: of each frame the median, and of three frames again: [T].

    A mean would move with the little attention that long texts have far away, and single frames look elsewhere.
    """
    passed = np.cumsum(weights, axis=1)
    places = (passed >= passed[:, -1:] / 2).argmax(axis=1)
    frames = np.arange(len(weights))
    here = weights[frames, places]
    before = passed[frames, places] - here
    medians = places - 0.5 + (passed[:, -1] / 2 - before) / np.maximum(here, 1e-9)
    edge = _SMOOTH // 2
    padded = np.concatenate((medians[:1].repeat(edge), medians, medians[-1:].repeat(edge)))
    # By sorting, because `np.median` takes ten times as long over so few.
    return np.sort(sliding_window_view(padded, _SMOOTH), axis=1)[:, edge]


def _silent_frames(samples: Samples, num_samples: int, num_frames: int) -> Bools:
    """Tell which frames are silent, against the segment's louder ones: [T]."""
    whole = samples[: num_frames * num_samples]
    whole = np.pad(whole, (0, num_frames * num_samples - len(whole))).reshape(num_frames, num_samples)
    # In place of squares and their mean, which would be copies of all samples.
    levels = np.sqrt(np.einsum("ts,ts->t", whole, whole) / num_samples)
    return levels < 0.02 * _percentile(levels, 95)


def _percentile(values: Floats, percent: float) -> float:
    """Do as `np.percentile` does, which takes ten times as long over so few."""
    ordered = np.sort(values)
    whole, part = divmod(percent / 100 * (len(ordered) - 1), 1)
    lower, upper = ordered[int(whole)], ordered[min(int(whole) + 1, len(ordered) - 1)]
    return float(lower + (upper - lower) * part)


def _runs(flags: Bools) -> list[FrameSpan]:
    edges = np.flatnonzero(np.diff(np.concatenate(([False], flags, [False]))))
    return [(int(first), int(stop)) for first, stop in edges.reshape(-1, 2)]


def _word_mass(view: _View) -> Iterator[Evidence]:
    """Compare what attention each word got with what its letters let expect: a word that was skipped has none."""
    if not view.spans:
        return
    heard = np.concatenate(([0.0], np.cumsum(view.weights.sum(axis=0))))
    places = np.arange(len(heard))
    firsts, lasts = (np.array([getattr(span, end) for span in view.spans]) for end in ("first", "last"))
    masses = np.interp(lasts, places, heard) - np.interp(firsts, places, heard)
    sizes = lasts - firsts
    expected = sizes * masses.sum() / max(1e-9, float(sizes.sum()))
    values = -np.log((masses + _SPARE_MASS) / (expected + _SPARE_MASS))
    least = view.least.get("word_mass", -math.inf)
    for index, span, value in zip(view.sounding, view.spans, values.tolist(), strict=True):
        if value > least:
            yield Evidence("word_mass", value, (index, index + 1), view.frames_of(span))


def _unseen(view: _View) -> Iterator[Evidence]:
    """Find letters that no frame looked at: of the worst stretch, how much attention they lack together."""
    lacking = np.where(view.is_of_word, _SEEN - view.weights.max(axis=0), 0.0)
    first, stop = _worst_stretch(lacking)
    frames = tuple(int(np.searchsorted(view.path, place)) for place in (first, stop))
    frames = min(frames[0], view.num_frames - 1), min(frames[1] + 1, view.num_frames)
    yield Evidence("unseen", float(lacking[first:stop].sum()), view.words_at(first, stop - 1), frames)


def _jump(view: _View) -> Iterator[Evidence]:
    """Count the tokens that the path goes on by in a few frames: more than can be said."""
    path, least = view.path.tolist(), view.least.get("jump", 0)
    for frame, (before, after) in enumerate(zip(path, path[_JUMP_FRAMES:], strict=False)):
        if after - before > least:
            words = view.words_at(before + 1, max(before + 1, after - 1))
            yield Evidence("jump", after - before, words, (frame, frame + _JUMP_FRAMES + 1))


def _strain(view: _View) -> Iterator[Evidence]:
    """See attention leave the path for a few frames, as it does in sounds that belong to no word."""
    means = np.convolve(-view.logs, np.ones(_STRAIN_FRAMES) / _STRAIN_FRAMES, mode="valid")
    path = view.path.tolist()
    if view.num_frames >= _STRAIN_FRAMES:
        for frame in np.flatnonzero(means > view.least.get("strain", -math.inf)).tolist():
            words = view.words_at(path[frame], path[frame + _STRAIN_FRAMES - 1])
            yield Evidence("strain", float(means[frame]), words, (frame, frame + _STRAIN_FRAMES))


def _score(view: _View) -> Iterator[Evidence]:
    """Average the attention on the path; the place is where there is least."""
    frames = _worst_stretch(view.logs.mean() - view.logs)
    words = view.words_at(view.path[frames[0]], view.path[frames[1] - 1])
    yield Evidence("score", -float(view.logs.mean()), words, frames)


def _worst_stretch(excess: Floats) -> FrameSpan:
    """Find the stretch with the greatest sum, one frame at least."""
    before = np.concatenate(([0.0], np.cumsum(excess)))
    lowest = np.minimum.accumulate(before[:-1])
    stop = int((before[1:] - lowest).argmax()) + 1
    return int(before[:stop].argmin()), stop


def _back(view: _View) -> Iterator[Evidence]:
    """See attention fall back in the text: what was said comes once more."""
    furthest = np.maximum.accumulate(view.position)
    falls = furthest - view.position
    for first, stop in _runs(falls > 0):
        worst = first + int(falls[first:stop].argmax())
        words = view.words_at(view.position[worst], furthest[worst])
        yield Evidence("back", float(falls[worst]), words, (first, stop))


def _stall(view: _View) -> Iterator[Evidence]:
    """See the path stand still: frames on a token and the next, without the silence that punctuation explains."""
    path, is_silent, least = view.path.tolist(), view.is_silent.tolist(), view.least.get("stall", -1)
    anchor, count = 0, 0
    for frame, token in enumerate(path):
        if token - path[anchor] > 1:
            anchor, count = frame, 0
        # Beside a token of none of the words there may be a pause.
        count += not (is_silent[frame] and not view.is_of_word[max(0, token - 1) : token + 2].all())
        if count > least and (frame + 1 == view.num_frames or path[frame + 1] - path[anchor] > 1):
            yield Evidence("stall", count, view.words_at(path[anchor], token), (anchor, frame + 1))


def _end_gap(view: _View) -> Iterator[Evidence]:
    """Count the tokens of words behind the end of the path, and what the end itself says."""
    num_words, num_frames = len(view.segment.words.words), view.num_frames
    left = float(np.count_nonzero(view.is_of_word[view.path[-1] + 1 :]))
    first = view.words_at(float(view.path[-1]), float(view.tokens[-1]))[0]
    yield Evidence("end_gap", left, (first, num_words), (num_frames - 1, num_frames))
    if view.segment.no_end is not None:
        yield Evidence("no_end", view.segment.no_end, (first, num_words), (num_frames - 1, num_frames))


def _of_words(spans: Sequence[WordSpan], num_tokens: int) -> Bools:
    is_of_word = np.zeros(num_tokens, dtype=bool)
    for span in spans:
        is_of_word[int(span.first) : math.ceil(span.last)] = True
    return is_of_word


def _loops(view: _View) -> Iterator[Evidence]:
    """Find semantic codes that come again and again: the value is how often in a row."""
    if view.segment.codes is None:
        return
    codes = np.asarray(view.segment.codes)[: view.num_frames, 0]
    for length in range(_MIN_LOOP, min(_MAX_LOOP, len(codes) // _MIN_TIMES) + 1):
        is_same = codes[length:] == codes[:-length]
        if np.count_nonzero(is_same) < (_MIN_TIMES - 1) * length:
            continue  # most lengths; no run is long enough
        for first, stop in _runs(is_same):
            times = (stop - first) // length + 1
            # A sound or a silence that is held comes again at any distance.
            is_held = len(np.unique(codes[first : first + length])) == 1
            if times >= _MIN_TIMES and not is_held:
                last = min(view.num_frames, stop + length)
                yield Evidence("loop", times, view.words_at(view.path[first], view.path[last - 1]), (first, last))
                return


def judge_sound(
    samples: Samples, sample_rate: int, frame_rate: float, num_words: int, *, sound: Sound | None = None
) -> Iterator[Evidence]:
    """Measure what the samples tell alone: seconds of silence inside, the share at full scale, and nothing at all.

    Args:
        samples: [S].
        sample_rate: in Hz.
        frame_rate: frames a second.
        num_words: of the segment.
        sound: of the same samples, where somebody has heard them.
    """
    if sound is None:
        sound = Sound(sample_rate)
        sound.add(samples)
    words, frames = (0, num_words), (0, math.ceil(len(samples) / sample_rate * frame_rate))
    yield Evidence("silent", float(is_silent(samples, sample_rate)), words, frames)
    for start_s, end_s in sound.gaps(_SILENCE_S):
        yield Evidence("silence", end_s - start_s, words, (int(start_s * frame_rate), math.ceil(end_s * frame_rate)))
    if len(samples):
        is_full = max(samples.max(), -samples.min()) >= _FULL_SCALE
        clipped = float((np.abs(samples) >= _FULL_SCALE).mean()) if is_full else 0.0
        yield Evidence("clipping", clipped, words, frames)


@dataclass(frozen=True)
class FollowFigures:
    """What a follower sees of speech that is as it should be; see `voxtral.align.follow.FollowLimits`.

    Attributes:
        end_left: tokens of words that are left when the model ends.
        stall_frames: most frames in a row without getting on, before that.
        tail_frames: frames at the last letter before the end.
    """

    end_left: float
    stall_frames: int
    tail_frames: int


def follow_again(words: WordSpans, weights: Weights, max_step: int) -> FollowFigures:
    """Go through finished speech as a follower would have.

    Args:
        words: of the segment.
        weights: [T + 1, n], the row that made the end included.
        max_step: tokens that one frame may go on by.
    """
    path = MonotonePath(words.num_tokens, max_step)
    is_of_word = _of_words([word for word in words.words if word.is_sounding], words.num_tokens)
    furthest, stalled, most_stalled, tail = 0, 0, 0, 0
    token = 0
    for row in weights:
        path.add(row)
        token = path.token
        stalled = 0 if token > furthest else stalled + 1
        furthest = max(furthest, token)
        if not is_of_word[token + 1 :].any():
            tail += 1
        else:
            most_stalled = max(most_stalled, stalled)
    # The frame of the end is none of the tail.
    return FollowFigures(float(np.count_nonzero(is_of_word[token + 1 :])), most_stalled, max(0, tail - 1))
