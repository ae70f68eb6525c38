"""Peaks between samples: how high they are, and a limiter that holds them down before they come.

Samples of a signal may stay below full scale while the curve through them does not, and a player that makes that curve
clips. Read `voxtral.book.output.loudness` for how loud it is on the whole.

Source: ITU-R BS.1770-4, annex 2 (true peak by four times as many samples).
"""

from __future__ import annotations

import math

import numpy as np

from voxtral.audio.pcm import check_samples
from voxtral.errors import OptionError

CEILING_DB = -3.0
"""Of audiobooks: what encoders make of a peak lies above it by less than this."""

_OVERSAMPLING = 4
# On each side of a place between samples; the window's ripple is below a thousandth.
_REACH, _WINDOW_BETA = 16, 6.0

# Gain goes down within this time before a peak, and up again by so much.
_ATTACK_S, _RELEASE_DB_PER_S = 0.005, 60.0
# Places between those that are looked at are higher by this at most, for speech; and gain that changes bends the curve.
_MARGIN_DB = 0.2

# The limiter works in blocks that begin at multiples of this, whatever the pieces that it is given.
_BLOCK = 4096


class TruePeakMeter:
    """Finds the highest peak of a stream of mono samples, between samples too."""

    def __init__(self) -> None:
        self._peak = 0.0
        self._tail = np.zeros(2 * _REACH - 1)

    def push(self, samples: np.ndarray) -> None:
        """Take the next samples [S], of a float kind.

        Raises:
            AudioError: they are not mono, float and finite.
        """
        inputs = np.concatenate([self._tail, check_samples(samples)])
        if len(inputs) >= 2 * _REACH:
            self._peak = max(self._peak, float(_peaks_between(inputs).max()))
            self._tail = inputs[1 - 2 * _REACH :]
        else:
            self._tail = inputs

    def peak_db(self) -> float:
        """Return the highest peak so far, in dB relative to full scale; -inf for silence."""
        end = np.concatenate([self._tail, np.zeros(2 * _REACH)])
        peak = max(self._peak, float(_peaks_between(end).max()))
        return 20.0 * math.log10(peak) if peak > 0.0 else -math.inf


class Limiter:
    """Holds the peaks of a stream of mono samples below a ceiling.

    As many samples come out as went in, and however the stream is cut into pushes, they are the same. Where nothing is
    above the ceiling, samples stay as they are, to the bit.

    Args:
        sample_rate: in Hz.
        ceiling_db: relative to full scale.

    Raises:
        OptionError: the ceiling is not below full scale.
    """

    def __init__(self, sample_rate: int, ceiling_db: float = CEILING_DB) -> None:
        if not -60.0 <= ceiling_db <= 0.0:
            raise OptionError(f"got a ceiling of {ceiling_db} dB; it is a number from -60 to 0: choose one of these")
        self._ceiling = 10.0 ** ((ceiling_db - _MARGIN_DB) / 20.0)
        self._attack = min(max(1, round(_ATTACK_S * sample_rate)), _BLOCK // 2 - _REACH)
        self._slope = _RELEASE_DB_PER_S / sample_rate
        window = np.hanning(2 * self._attack + 3)[1:-1]
        self._window = window / window.sum()
        self._waiting = np.zeros(_BLOCK, dtype=np.float32)
        self._num_waiting = self._num_received = self._num_given = 0
        silence = np.zeros(_BLOCK, dtype=np.float32)
        # Of each stage the last blocks: samples, what they need, and what they get, in dB; None: nothing at all. Each
        # stage looks one block ahead of its own, so the last to come out is three blocks behind.
        self._blocks = [silence] * 4
        self._needs: list[np.ndarray | None] = [None] * 3
        self._gains: list[np.ndarray | None] = [None] * 3
        self._level_db = 0.0
        self._num_blocks = 0

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take the next samples [S], of a float kind, and return what is ready, [S'] float32.

        Raises:
            AudioError: they are not mono, float and finite.
        """
        samples = check_samples(samples)
        self._num_received += len(samples)
        return self._take(samples)

    def finish(self) -> np.ndarray:
        """End the stream and return its last samples, [S'] float32."""
        rest = self._num_received - self._num_given
        return self._take(np.zeros(4 * _BLOCK, dtype=np.float32))[:rest]

    def _take(self, samples: np.ndarray) -> np.ndarray:
        made: list[np.ndarray] = []
        at = 0
        while at < len(samples):
            count = min(len(samples) - at, _BLOCK - self._num_waiting)
            self._waiting[self._num_waiting : self._num_waiting + count] = samples[at : at + count]
            self._num_waiting += count
            at += count
            if self._num_waiting == _BLOCK:
                block = self._advance(self._waiting.copy())
                self._num_waiting = 0
                self._num_blocks += 1
                if self._num_blocks > 3:
                    made.append(block)
        out = np.concatenate(made) if made else np.zeros(0, dtype=np.float32)
        self._num_given += len(out)
        return out

    def _advance(self, block: np.ndarray) -> np.ndarray:
        """Take a block, and return the one that came three before it."""
        self._blocks = [*self._blocks[1:], block]
        self._needs = [*self._needs[1:], self._find_need(*self._blocks[-3:])]
        self._gains = [*self._gains[1:], self._find_gain()]
        if all(gain is None for gain in self._gains):
            return self._blocks[0]
        levels = np.concatenate([np.zeros(_BLOCK) if gain is None else gain for gain in self._gains])
        around = levels[_BLOCK - self._attack : 2 * _BLOCK + self._attack]
        smooth = np.convolve(10.0 ** (around / 20.0), self._window, mode="valid")
        return (self._blocks[0] * smooth).astype(np.float32)

    def _find_need(self, before: np.ndarray, block: np.ndarray, after: np.ndarray) -> np.ndarray | None:
        """Find the gain in dB that brings each sample of a block, and the curve up to the next one, to the ceiling."""
        inputs = np.concatenate([before[1 - _REACH :], block, after[:_REACH]])
        if float(np.abs(inputs).max()) * _MOST_BETWEEN <= self._ceiling:
            return None
        peaks = _peaks_between(inputs.astype(np.float64))
        if float(peaks.max()) <= self._ceiling:
            return None
        return np.minimum(0.0, 20.0 * np.log10(self._ceiling / np.maximum(peaks, self._ceiling)))

    def _find_gain(self) -> np.ndarray | None:
        """Find the gain in dB of the middle one of three blocks: down before a peak, up behind it step by step."""
        if self._level_db == 0.0 and all(need is None for need in self._needs):
            return None
        needs = np.concatenate([np.zeros(_BLOCK) if need is None else need for need in self._needs])
        reach = self._attack + _REACH
        held = _sliding_least(needs[_BLOCK - reach : 2 * _BLOCK + reach], 2 * reach + 1)
        ramp = self._slope * np.arange(1, _BLOCK + 1)
        risen = np.minimum.accumulate(np.minimum(held - ramp, self._level_db)) + ramp
        levels = np.minimum(risen, 0.0)
        self._level_db = float(levels[-1])
        return levels


def _between() -> np.ndarray:
    """Make the filters for the places between two samples, [3, 2 * reach]; reversed, as a convolution wants them."""
    offsets = np.arange(-_REACH + 1, _REACH + 1)
    window = np.i0(_WINDOW_BETA * np.sqrt(np.maximum(0.0, 1.0 - (_phases() - offsets) ** 2 / _REACH**2)))
    filters = np.sinc(_phases() - offsets) * window / np.i0(_WINDOW_BETA)
    return (filters / filters.sum(axis=1, keepdims=True))[:, ::-1]


def _phases() -> np.ndarray:
    return np.arange(1, _OVERSAMPLING)[:, np.newaxis] / _OVERSAMPLING


_FILTERS = _between()
# No curve is higher than the highest of its samples times this.
_MOST_BETWEEN = float(np.abs(_FILTERS).sum(axis=1).max())


def _peaks_between(inputs: np.ndarray) -> np.ndarray:
    """Find how high each sample and the places up to the next one are.

    Args:
        inputs: [S + 2 * reach - 1] float64, with what the filters reach before and behind.

    Returns:
        [S] float64.
    """
    num_samples = len(inputs) - 2 * _REACH + 1
    peaks = np.abs(inputs[_REACH - 1 : _REACH - 1 + num_samples])
    for between in _FILTERS:
        np.maximum(peaks, np.abs(np.convolve(inputs, between, mode="valid")), out=peaks)
    return peaks


def _sliding_least(values: np.ndarray, width: int) -> np.ndarray:
    """Return the least of each `width` values that follow each other, [S - width + 1].

    >>> _sliding_least(np.array([3, 1, 2, 5, 4, 6]), 3).tolist()
    [1, 1, 2, 4]
    """
    reached = 1
    while reached < width:
        step = min(reached, width - reached)
        values = np.minimum(values[:-step], values[step:])
        reached += step
    return values
