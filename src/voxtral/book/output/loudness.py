"""How loud speech is: integrated loudness by EBU R128, in memory that does not grow, and the gain to another one.

It changes no sample; `voxtral.book.output.peaks` holds peaks down once a gain is applied.

Source: ITU-R BS.1770-4 (K-weighting, gating), EBU R128 and Tech 3341; the filters for any rate by their poles and
zeros in the analogue domain, as De Man found them ("Evaluation of Implementations of the EBU R128 Loudness
Measurement", AES 2018).
"""

from __future__ import annotations

import math

import numpy as np

from voxtral.audio.pcm import check_samples
from voxtral.errors import OptionError

TARGET_LUFS = -19.0
"""Of a book in mono, which is as loud as -16 LUFS in stereo."""

# No gain above this: what is so quiet is a mistake, and its noise would be heard.
MAX_GAIN_DB = 30.0

_HOP_S, _HOPS_PER_BLOCK = 0.1, 4
_OFFSET_LU = -0.691
_ABSOLUTE_GATE, _RELATIVE_GATE = -70.0, -10.0

# Blocks are counted by their loudness in steps of a thousandth, with the sum of their powers: only those within a
# thousandth of the relative gate could lie on its wrong side.
_STEPS_PER_LU, _LOUDEST = 1000, 20.0

# Both filters die out by 190 dB in this time; the slower one has its poles at 38 Hz. Blocks are as long as an FFT is
# fast that stays in the cache of a core: four times faster than twice as long.
_RESPONSE_S = 0.1
_BLOCK_HOPS = 5

# De Man's values for the shelf and the high pass: frequency in Hz, quality, gain in dB.
_SHELF_HZ, _SHELF_Q, _SHELF_DB = 1681.974450955533, 0.7071752369554196, 3.999843853973347
_PASS_HZ, _PASS_Q = 38.13547087602444, 0.5003270373238773
_SHELF_EXPONENT = 0.4996667741545416


class LoudnessMeter:
    """Measures a stream of mono samples.

    However the stream is cut into pushes, the result is the same. What came so far can be measured at any time.

    Args:
        sample_rate: in Hz, a multiple of ten.

    Raises:
        OptionError: the rate is none that can be cut into tenths of a second.
    """

    def __init__(self, sample_rate: int) -> None:
        if sample_rate < 8000 or sample_rate % 10:
            raise OptionError(f"got {sample_rate} Hz; loudness is measured at a multiple of ten from 8000: resample")
        self._hop = round(_HOP_S * sample_rate)
        self._response = _k_weighting(sample_rate)
        # Whole blocks of hops, each with the samples before it that the filters still remember.
        self._block = self._hop * _BLOCK_HOPS
        self._size = _fast_size(self._block + len(self._response) - 1)
        self._spectrum = np.fft.rfft(self._response, self._size)
        self._history = np.zeros(len(self._response) - 1, dtype=np.float64)
        self._waiting = np.zeros(self._block, dtype=np.float32)
        self._num_waiting = 0
        self._hops: list[float] = []  # powers of the last hops that no block of 400 ms has ended with
        num_steps = round((_LOUDEST - _ABSOLUTE_GATE) * _STEPS_PER_LU)
        self._counts = np.zeros(num_steps, dtype=np.int64)
        self._powers = np.zeros(num_steps, dtype=np.float64)

    def push(self, samples: np.ndarray) -> None:
        """Take the next samples [S], of a float kind.

        Raises:
            AudioError: they are not mono, float and finite.
        """
        samples = check_samples(samples)
        at = 0
        while at < len(samples):
            count = min(len(samples) - at, self._block - self._num_waiting)
            self._waiting[self._num_waiting : self._num_waiting + count] = samples[at : at + count]
            self._num_waiting += count
            at += count
            if self._num_waiting == self._block:
                weighted, self._history = self._weigh(self._waiting)
                self._hops = self._count(self._hops + self._to_powers(weighted), self._counts, self._powers)
                self._num_waiting = 0

    def integrated_lufs(self) -> float:
        """Return the loudness of all that came, in LUFS; -inf where nothing was louder than -70 LUFS."""
        counts, powers = self._counts, self._powers
        if self._num_waiting >= self._hop:
            counts, powers = counts.copy(), powers.copy()
            whole = self._num_waiting // self._hop * self._hop
            weighted, _ = self._weigh(self._waiting[:whole])
            self._count(self._hops + self._to_powers(weighted), counts, powers)
        if not counts.any():
            return -math.inf
        gate = _to_lufs(float(powers.sum()) / int(counts.sum())) + _RELATIVE_GATE
        first = max(0, math.ceil((gate - _ABSOLUTE_GATE) * _STEPS_PER_LU))
        return _to_lufs(float(powers[first:].sum()) / int(counts[first:].sum()))

    def _weigh(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Filter samples, and return them with the last ones of what went in."""
        inputs = np.concatenate([self._history, samples])
        filtered = np.fft.irfft(np.fft.rfft(inputs, self._size) * self._spectrum, self._size)
        return filtered[len(self._history) : len(inputs)], inputs[-len(self._history) :]

    def _to_powers(self, weighted: np.ndarray) -> list[float]:
        return np.square(weighted.reshape(-1, self._hop)).mean(axis=1).tolist()

    @staticmethod
    def _count(hops: list[float], counts: np.ndarray, powers: np.ndarray) -> list[float]:
        """Count the blocks of 400 ms that these hops make, and return the hops that later blocks want."""
        for end in range(_HOPS_PER_BLOCK, len(hops) + 1):
            power = sum(hops[end - _HOPS_PER_BLOCK : end]) / _HOPS_PER_BLOCK
            loudness = _to_lufs(power)
            if loudness > _ABSOLUTE_GATE:
                step = min(len(counts) - 1, int((loudness - _ABSOLUTE_GATE) * _STEPS_PER_LU))
                counts[step] += 1
                powers[step] += power
        return hops[1 - _HOPS_PER_BLOCK :]


def gain_to(measured_lufs: float, target_lufs: float = TARGET_LUFS) -> float:
    """Return what samples of a loudness are multiplied by to have another one; 1 for silence.

    One gain is meant for all that a voice says in a book, never for a sentence: what is whispered stays quiet.

    >>> round(gain_to(-25.0, -19.0), 3)
    1.995
    """
    if not math.isfinite(measured_lufs):
        return 1.0
    return 10.0 ** (min(target_lufs - measured_lufs, MAX_GAIN_DB) / 20.0)


def _to_lufs(power: float) -> float:
    return _OFFSET_LU + 10.0 * math.log10(power) if power > 0.0 else -math.inf


def _k_weighting(sample_rate: int) -> np.ndarray:
    """Make the impulse response of both filters, [R] float64."""
    response = np.zeros(round(_RESPONSE_S * sample_rate))
    response[0] = 1.0
    for forward, back in (_shelf(sample_rate), _high_pass(sample_rate)):
        response = _filter(response, forward, back)
    return response


def _shelf(sample_rate: int) -> tuple[list[float], list[float]]:
    slope = math.tan(math.pi * _SHELF_HZ / sample_rate)
    high = 10.0 ** (_SHELF_DB / 20.0)
    band = high**_SHELF_EXPONENT
    square, damped = slope * slope, slope / _SHELF_Q
    forward = [high + band * damped + square, 2.0 * (square - high), high - band * damped + square]
    back = [1.0 + damped + square, 2.0 * (square - 1.0), 1.0 - damped + square]
    return [each / back[0] for each in forward], [each / back[0] for each in back]


def _high_pass(sample_rate: int) -> tuple[list[float], list[float]]:
    slope = math.tan(math.pi * _PASS_HZ / sample_rate)
    square, damped = slope * slope, slope / _PASS_Q
    back = [1.0 + damped + square, 2.0 * (square - 1.0), 1.0 - damped + square]
    # Its gain is not made one: BS.1770 writes the numerator as 1, -2, 1 at any rate.
    return [1.0, -2.0, 1.0], [each / back[0] for each in back]


def _filter(samples: np.ndarray, forward: list[float], back: list[float]) -> np.ndarray:
    """Run a filter of second order, sample by sample: once, over a few thousand."""
    made = np.zeros_like(samples)
    first = second = 0.0
    for index, sample in enumerate(samples.tolist()):
        value = forward[0] * sample + first
        first = forward[1] * sample - back[1] * value + second
        second = forward[2] * sample - back[2] * value
        made[index] = value
    return made


def _fast_size(least: int) -> int:
    """Return the next size of 2, 3 or 5 times a power of two, which an FFT takes fast."""
    return min(
        factor << max(0, math.ceil(math.log2(least / factor))) for factor in (1, 3, 5) if factor <= max(least, 1)
    )
