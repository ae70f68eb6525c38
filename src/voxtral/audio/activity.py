"""What is heard when: pauses, tones, steady sounds, and what changes and has a pitch as a voice does.

Frames of 64 ms, 50 a second, in the band of a telephone. It knows no language and no model. What it cannot tell from a
voice: an animal's, an instrument that plays a tune, speech that runs backwards.

The periodicity is that of Boersma, "Accurate short-term analysis of the fundamental frequency and the
harmonics-to-noise ratio of a sampled sound", IFA Proceedings 17, 1993: the autocorrelation of a window divided by that
of the window itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from voxtral.audio.condition import Samples, high_pass, to_db

HOP_S = 0.020
FRAME_RATE = 50

_RATE = 8000
_WINDOW, _HOP = 512, 160
_BLOCK_FRAMES = 1500  # in memory at a time
_END = 80

# Lags of 500 to 50 Hz.
_SHORTEST_LAG, _LONGEST_LAG = 16, 160

_NUM_BANDS, _LOWEST_HZ, _HIGHEST_HZ = 16, 100.0, 3900.0
# Of a band beside its frame: below that it is nothing, so that the noise under a clean tone does not count as change.
_BAND_FLOOR = 1e-4

# What is this far below the loud frames is a pause, and what is little above the floor, where there is a floor.
_PAUSE_DB, _NEAREST_PAUSE_DB, ABOVE_FLOOR_DB = 40.0, 25.0, 6.0
_NOTHING_DB = -100.0
_LOUD_SHARE = 0.05

# Measured on 662 clips of voices (docs/VOICES.md): their median change is 5.2 dB or more, with white noise 5 dB below
# them 3.5 or more; that of noise of any colour is 2.4 or less, of tones and chords 1.8 or less.
_MIN_CHANGE_DB = 3.0
_CONTEXT_FRAMES = 25  # to each side

# Medians of voices are .94 at most; whatever a tone does, it is one line.
_TONE_SHARE = 0.95
# Of the same 662 clips no more than half were tones; the median share of two lines is .971 at most.
_MOSTLY, _PAIR_SHARE = 0.7, 0.985
# White noise has .2, noise that changes its colour .25.
_MIN_PERIODICITY = 0.45

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Activity:
    """What each frame holds; frame k is centred at `HOP_S * k + 0.032` seconds.

    Attributes:
        level_db: [F], relative to full scale, without what lies below voices.
        periodicity: [F], 1 for what repeats itself exactly.
        line_share: [F], of the power in the strongest line of the spectrum.
        pair_share: [F], of the power in the two strongest.
        bands: [F, B], power of each band.
        end_db: level of the last 10 ms, where speech that ends by itself has died away.
    """

    level_db: Array
    periodicity: Array
    line_share: Array
    pair_share: Array
    bands: Array
    end_db: float

    @cached_property
    def loud_db(self) -> float:
        """The level that one frame in twenty exceeds, or half a second in a long clip with few words."""
        place = min(round(_LOUD_SHARE * len(self.level_db)), FRAME_RATE // 2)
        return float(np.sort(self.level_db)[-1 - place])

    @cached_property
    def floor_db(self) -> float:
        """The level that nine frames in ten exceed: that of pauses, or of quiet speech where there are none."""
        return float(np.percentile(self.level_db, 10))

    @cached_property
    def is_active(self) -> Mask:
        """Frames that are no pauses."""
        above_floor = min(self.floor_db + ABOVE_FLOOR_DB, self.loud_db - _NEAREST_PAUSE_DB)
        threshold = max(self.loud_db - _PAUSE_DB, above_floor, _NOTHING_DB)
        return self.level_db > threshold

    @cached_property
    def change_db(self) -> Array:
        """How much the colour of the sound varies within half a second to each side, [F], pauses left out."""
        total = self.bands.sum(axis=1, keepdims=True)
        shape = 10.0 * np.log10(np.maximum(self.bands / np.maximum(total, 1e-30), _BAND_FLOOR))
        weight = self.is_active.astype(np.float64)[:, None]
        count = np.maximum(_moving_sum(weight), 1.0)
        mean = _moving_sum(shape * weight) / count
        variance = _moving_sum(np.square(shape) * weight) / count - np.square(mean)
        return np.sqrt(np.maximum(variance, 0.0).mean(axis=1))

    @cached_property
    def is_tone(self) -> Mask:
        """Active frames that are one line."""
        return self.is_active & (self.line_share > _TONE_SHARE)

    @cached_property
    def is_steady(self) -> Mask:
        """Active frames of a sound that stays as it is, however its level moves: hum, noise, chords."""
        return self.is_active & ~self.is_tone & (self.change_db < _MIN_CHANGE_DB)

    @cached_property
    def is_voice(self) -> Mask:
        """Active frames that change as speech does and have a pitch."""
        has_pitch = self.periodicity > _MIN_PERIODICITY
        return self.is_active & ~self.is_tone & ~self.is_steady & has_pitch

    @property
    def is_of_tones(self) -> bool:
        """Whether most of what is heard is one line or two, such as a tune that is whistled, or a telephone's keys."""
        active = self.is_active
        if not active.any():
            return False
        is_tune = self.is_tone.sum() > _MOSTLY * active.sum()
        return bool(is_tune or np.median(self.pair_share[active]) > _PAIR_SHARE)

    @property
    def noise_db(self) -> float:
        """How far the floor under the speech is below its loud frames; 0 where it never falls.

        The floor is that of each band by itself, since speech without pauses leaves each band at some time.
        """
        floor = float(np.percentile(self.bands, 10, axis=0).sum())
        loud = float(np.percentile(self.bands.sum(axis=1), 95))
        return 10.0 * float(np.log10(max(floor, 1e-30) / max(loud, 1e-30)))

    def part(self, start: int, stop: int) -> Activity:
        """Take some of the frames; what is active there is told anew."""
        measures = (self.level_db, self.periodicity, self.line_share, self.pair_share, self.bands)
        return Activity(*(measure[start:stop] for measure in measures), end_db=self.end_db)


def analyse(samples: Samples, sample_rate: int) -> Activity:
    """Look at all frames of a clip.

    Args:
        samples: [S], S > 0.
        sample_rate: in Hz.
    """
    import soxr

    if sample_rate != _RATE:
        samples = soxr.resample(samples, sample_rate, _RATE, quality="MQ")
    filtered = high_pass(samples, _RATE) if len(samples) else np.zeros(1, np.float32)
    padded = np.pad(filtered, (0, max(0, _WINDOW - len(filtered))))
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    blocks = [_measure(frames[start : start + _BLOCK_FRAMES]) for start in range(0, len(frames), _BLOCK_FRAMES)]
    end_db = to_db(float(np.square(filtered[-_END:], dtype=np.float64).mean()))
    return Activity(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)), end_db=end_db)


def _measure(frames: Samples) -> tuple[Array, Array, Array, Array, Array]:
    """Measure [F, W] samples: level, periodicity, shares of the strongest line and of two, bands."""
    window = np.hanning(_WINDOW + 1)[:_WINDOW].astype(np.float32)
    power = np.square(np.abs(np.fft.rfft(frames * window, 2 * _WINDOW, axis=1)))
    own = np.fft.irfft(np.square(np.abs(np.fft.rfft(window, 2 * _WINDOW))))
    lags = slice(_SHORTEST_LAG, _LONGEST_LAG + 1)
    correlation = np.fft.irfft(power, axis=1)
    periodicity = (correlation[:, lags] / (own[lags] / own[0])).max(axis=1) / np.maximum(correlation[:, 0], 1e-20)
    lines = power[:, ::2].astype(np.float64)
    total = lines.sum(axis=1)
    bands = lines @ _band_matrix()
    first = _take_strongest(lines)
    second = _take_strongest(lines)
    # By Parseval, of the lines of one side.
    mean_square = 2.0 * total / (_WINDOW * np.square(window, dtype=np.float64).sum())
    level = 10.0 * np.log10(np.maximum(mean_square, 1e-20))
    whole = np.maximum(total, 1e-30)
    return level, periodicity.astype(np.float64), first / whole, (first + second) / whole, bands


def _take_strongest(lines: Array) -> Array:
    """Take the strongest line out of each spectrum, [F, W / 2 + 1] in place, and return its power, [F]."""
    # The main lobe of the window is five lines wide.
    places = lines.argmax(axis=1)[:, None] + np.arange(-2, 3)
    places = np.clip(places, 0, lines.shape[1] - 1)
    power = np.take_along_axis(lines, places, axis=1)
    is_first = np.diff(places, axis=1, prepend=-1) > 0  # at the edges a place may come twice
    np.put_along_axis(lines, places, 0.0, axis=1)
    return (power * is_first).sum(axis=1)


def _band_matrix() -> Array:
    """Sort the lines of the spectrum into bands of equal width in mel: [W / 2 + 1, B]."""
    frequencies = np.fft.rfftfreq(_WINDOW, 1.0 / _RATE)
    mel = 2595.0 * np.log10(1.0 + np.array([_LOWEST_HZ, _HIGHEST_HZ]) / 700.0)
    edges = 700.0 * (10.0 ** (np.linspace(mel[0], mel[1], _NUM_BANDS + 1) / 2595.0) - 1.0)
    band = np.searchsorted(edges, frequencies, side="right") - 1
    return (band[:, None] == np.arange(_NUM_BANDS)).astype(np.float64)


def _moving_sum(values: Array) -> Array:
    """Sum [F, B] over half a second to each side."""
    sums = np.concatenate([np.zeros((1, values.shape[1])), np.cumsum(values, axis=0)])
    places = np.arange(len(values))
    stop = np.minimum(places + _CONTEXT_FRAMES + 1, len(values))
    return sums[stop] - sums[np.maximum(places - _CONTEXT_FRAMES, 0)]
