"""Which part of a clip to take: from its first sound to its last, or the best stretch of what is longer than wanted.

It begins and ends on a pause wherever there is one, because a model goes on with a word in which its reference was
cut. Nothing is judged; `voxtral.audio.reference` says what is good enough.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from voxtral.audio.activity import ABOVE_FLOOR_DB, FRAME_RATE, HOP_S, Activity, Array

# Kept of the silence around the excerpt.
_LEAD_S, _TAIL_S = 0.1, 0.25

# Shorter gaps are within words.
_PAUSE_FRAMES = 6

# Where a clip ends within a word, the end is looked for so far back, and not in more than this share of the clip.
_LOOK_BACK_S, _LOOK_BACK_SHARE = 1.5, 0.2
# What is this far below the loud frames will do for a pause.
_QUIET_DB = 15.0

# A long clip is tried from so many places at most, and where it has no pauses at least as often as this.
_MAX_STARTS, _STARTS_EVERY_S = 400, 5.0

# Speech whose floor is this far below it is clear; half as clear counts half, the worst a tenth.
_CLEAR_DB, _LEAST_CLARITY = 40.0, 0.1
# Speech 12 dB below the loudest of the clip counts half: its speaker is far away.
_LEVEL_HALVES_DB = 12.0


@dataclass(frozen=True)
class Excerpt:
    """A part of a clip.

    Attributes:
        start_s: in seconds from the start of the clip.
        end_s: the same.
        leaves_speech: speech is left out, and not silence alone.
        ends_within_word: there was no pause to end on.
    """

    start_s: float
    end_s: float
    leaves_speech: bool
    ends_within_word: bool = False


def choose_excerpt(activity: Activity, clip_s: float, max_s: float, min_s: float) -> Excerpt:
    """Choose the part of a clip to take.

    Args:
        activity: of the clip; at least one frame is active.
        clip_s: length of the clip in seconds.
        max_s: length of the longest excerpt.
        min_s: a clip that ends within a word is not cut to less.
    """
    runs = _runs(activity)
    max_frames = round((max_s - _LEAD_S - _TAIL_S) * FRAME_RATE)
    first, last = int(runs[0, 0]), int(runs[-1, 1])
    ends_within_word = False
    if last - first <= max_frames:
        start, stop = first, last
        # As loud at the end are 3 % of the voices that end by themselves, and two thirds of those that were cut.
        # Where noise is as loud as that, it is the end of a clip in noise.
        if activity.end_db > max(activity.loud_db - _QUIET_DB, activity.floor_db + ABOVE_FLOOR_DB):
            pause = _pause_before(activity, first, last)
            ends_within_word = pause == last or (pause - first) * HOP_S + _LEAD_S < min_s
            stop = last if ends_within_word else pause
    else:
        start, stop = _best_stretch(activity, runs, max_frames)
    start_s = max(0.0, start * HOP_S - _LEAD_S)
    # A frame reaches 44 ms further than the next one begins, and its sound may be anywhere in it.
    end_s = min(clip_s, stop * HOP_S + _TAIL_S, start_s + max_s)
    is_cut = stop < last
    if is_cut:
        end_s = min(end_s, stop * HOP_S + _room_after(activity, stop))
    return Excerpt(start_s, end_s, bool(is_cut or start > first), ends_within_word)


def _runs(activity: Activity) -> np.ndarray:
    """Find the runs of active frames, [R, 2] first and one past the last; short gaps are closed."""
    edges = np.diff(np.concatenate([[0], activity.is_active.astype(np.int8), [0]]))
    starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    is_pause = starts[1:] - stops[:-1] >= _PAUSE_FRAMES
    return np.stack([starts[np.append(True, is_pause)], stops[np.append(is_pause, True)]], axis=1)


def _room_after(activity: Activity, stop: int) -> float:
    """Measure the silence after a place, as far as it is kept, in seconds."""
    following = activity.is_active[stop : stop + round(_TAIL_S * FRAME_RATE)]
    return float(following.argmax() if following.any() else len(following)) * HOP_S


def _pause_before(activity: Activity, first: int, last: int) -> int:
    """Find the quietest place near an end that falls into a word; the end itself where there is none."""
    back = min(round(_LOOK_BACK_S * FRAME_RATE), round(_LOOK_BACK_SHARE * (last - first)))
    levels = activity.level_db[last - back : last]
    if len(levels) < 2:
        return last
    quietest = int(np.argmin(levels))
    return last - back + quietest + 1 if levels[quietest] < activity.loud_db - _QUIET_DB else last


def _best_stretch(activity: Activity, runs: np.ndarray, max_frames: int) -> tuple[int, int]:
    """Choose the stretch with the most voice, weighed by how clear and how loud it is; the first of equals."""
    voiced = np.concatenate([[0], np.cumsum(activity.is_voice)])
    loud_db = float(np.percentile(activity.level_db[activity.is_active], 95))
    best, best_score = (int(runs[0, 0]), int(runs[0, 0]) + max_frames), -1.0
    for start, stop in _stretches(activity, runs, max_frames):
        part = activity.part(start, stop)
        clarity = max(_LEAST_CLARITY, min(1.0, -part.noise_db / _CLEAR_DB))
        loudness = min(1.0, 2.0 ** ((_loud_level(part.level_db) - loud_db) / _LEVEL_HALVES_DB))
        score = float(voiced[stop] - voiced[start]) * clarity * loudness
        if score > best_score * (1.0 + 1e-9):
            best, best_score = (start, stop), score
    return best


def _stretches(activity: Activity, runs: np.ndarray, max_frames: int) -> Iterator[tuple[int, int]]:
    """Give the stretches that begin where a run does and end with one, as long as they may be."""
    within = [np.arange(start, stop, round(_STARTS_EVERY_S * FRAME_RATE)) for start, stop in runs]
    starts = np.concatenate(within)
    # Evenly over the clip.
    chosen = starts[np.unique(np.linspace(0, len(starts) - 1, _MAX_STARTS).round().astype(int))]
    for start in chosen:
        limit = int(start) + max_frames
        place = int(np.searchsorted(runs[:, 1], limit, side="right")) - 1
        if place >= 0 and runs[place, 1] - start >= max_frames * (1.0 - _LOOK_BACK_SHARE):
            yield int(start), int(runs[place, 1])
        elif limit >= runs[-1, 1]:
            yield int(start), int(runs[-1, 1])
        else:
            yield int(start), _pause_before(activity, int(start), limit)


def _loud_level(level_db: Array) -> float:
    return float(np.percentile(level_db, 95))
