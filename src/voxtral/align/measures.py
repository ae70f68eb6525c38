"""What samples say of an alignment: whether pauses are where the path has them, how far it is ahead, the codec's lag.

Pure functions of numbers. Read next: `voxtral.align.calibrate`, which judges by them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from voxtral.align.sound import Sound

if TYPE_CHECKING:
    import numpy.typing as npt

    from voxtral.align.times import Track
    from voxtral.align.words import WordSpan, WordSpans

    Samples = npt.NDArray[np.float32]
    Floats = npt.NDArray[np.float64]

_ONSET_S, _SILENCE_S = 0.25, 0.06
# What heads read ahead shows at words after pauses, and there it is more by this than it is elsewhere.
_AFTER_PAUSE_S = 0.04
_LEAST_LEAD_S = 0.08
_MIN_ONSETS = 12

_LEVEL_WINDOW_S, _LEVEL_STEP_S = 0.02, 0.005
_LEAST_LEVEL_DB = -45.0
# On both sides of a place whose level is wanted.
_AROUND_S = 0.04

# Lags of the codec that are looked for, either way.
_MAX_LAG_S = 0.15


def pause_depth(words: WordSpans, track: Track, samples: Samples, sample_rate: int, codec_lag_s: float) -> float:
    """Measure how much quieter it is where words begin after punctuation than in the middle of words, in dB.

    An alignment that has nothing to do with the sound gives about 0.

    Args:
        words: of a text in which words are followed by pauses.
        track: of the way through it.
        samples: [S].
        sample_rate: in Hz.
        codec_lag_s: seconds that the sound comes later than its frame.
    """
    levels = _levels(samples, sample_rate)

    def level(time_s: float) -> float:
        first, last = ((time_s + codec_lag_s + side) / _LEVEL_STEP_S for side in (-_AROUND_S, _AROUND_S))
        around = levels[max(0, int(first)) : int(last) + 1]
        return float(around.min()) if len(around) else float(levels[-1])

    sounding = [span for span in words.words if span.is_sounding]
    middles = [track.crossing((span.first + span.last) / 2) for span in sounding]
    within = [level(crossing[1]) for crossing in middles if crossing is not None]
    between = [level(start_s) for _, start_s in _after_pauses(words, track)]
    return float(np.mean(within) - np.mean(between)) if within and between else 0.0


def leads(words: WordSpans, track: Track, samples: Samples, sample_rate: int) -> list[float]:
    """Measure how many seconds the position enters words after pauses before their sound begins.

    Args:
        words: of a text in which words are followed by pauses.
        track: of the way through it.
        samples: [S].
        sample_rate: in Hz.

    Returns:
        One for each word that an onset of sound is near.
    """
    sound = Sound(sample_rate)
    sound.add(samples)
    found: list[float] = []
    for _, start_s in _after_pauses(words, track):
        first_s, last_s = start_s - _ONSET_S, start_s + _ONSET_S
        onset = sound.onset(first_s, last_s, near_s=start_s, until_s=sound.seconds, silence_s=_SILENCE_S)
        if onset is not None:
            found.append(onset - start_s)
    return found


def lead_of(found: Sequence[float], codec_lag_s: float) -> float:
    """Judge by words after pauses how far heads read ahead: nothing, unless it is plain.

    Args:
        found: by `leads`.
        codec_lag_s: the part of them that is the codec's.

    >>> lead_of([0.06] * 20, 0.02), round(lead_of([0.13] * 20, 0.02), 3)
    (0.0, 0.07)
    """
    if len(found) < _MIN_ONSETS:
        return 0.0
    lead = float(np.median(found))
    return lead - _AFTER_PAUSE_S - codec_lag_s if abs(lead) > _LEAST_LEAD_S else 0.0


def _after_pauses(words: WordSpans, track: Track) -> Iterator[tuple[WordSpan, float]]:
    sounding = [span for span in words.words if span.is_sounding]
    for span in sounding[1:]:
        crossing = track.crossing(span.first) if span.follows_pause else None
        if crossing is not None:
            yield span, crossing[1]


def _levels(samples: Samples, sample_rate: int) -> Floats:
    """Measure the level every 5 ms, in dB, not below -45 of the loudest."""
    window, step = round(_LEVEL_WINDOW_S * sample_rate), round(_LEVEL_STEP_S * sample_rate)
    powers = np.convolve(np.square(samples.astype(np.float64)), np.ones(window) / window, "same")[::step]
    levels = 10 * np.log10(np.maximum(powers, 1e-9))
    return np.maximum(levels, levels.max(initial=0.0 if not len(levels) else levels[0]) + _LEAST_LEVEL_DB)


def lag_of(clip: Samples, copy: Samples, sample_rate: int) -> float:
    """Measure how many seconds the envelope of a copy comes after that of a clip."""
    step = max(1, round(sample_rate / 1000))
    size = min(len(clip), len(copy))
    first, second = (_envelope(samples[:size], step) for samples in (clip, copy))
    limit = min(round(_MAX_LAG_S * sample_rate / step), len(first) - 1)
    lags = range(-limit, limit + 1)
    fits = [_overlap(first, second, lag) for lag in lags]
    return lags[int(np.argmax(fits))] * step / sample_rate


def _overlap(first: Floats, second: Floats, lag: int) -> float:
    size = len(first) - abs(lag)
    return float(first[max(0, -lag) :][:size] @ second[max(0, lag) :][:size])


def _envelope(samples: Samples, step: int) -> Floats:
    smooth = np.convolve(np.abs(samples.astype(np.float64)), np.ones(10 * step) / (10 * step), "same")[::step]
    return smooth - smooth.mean()
