"""What samples sound like: mel-cepstra, their distance under time warping, and pitch. Numpy only."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import soxr

# The scale of the prototype, so that figures compare: 40 area-normalised bands of Slaney's mel scale from
# 60 to 7600 Hz over windows of 512 at 16 kHz, 24 coefficients without the level.
_RATE, _WINDOW, _HOP = 16000, 512, 160
_BANDS, _COEFFICIENTS = 40, 24
_LOW, _HIGH = 60.0, 7600.0
_FLOOR = 1e-4
_SCALE = 10 / math.log(10) * math.sqrt(2) * math.sqrt(2 / _BANDS) / 2

_PITCH_WINDOW_S, _PITCH_HOP_S = 0.05, 0.01
_LOWEST_PITCH, _HIGHEST_PITCH = 60.0, 400.0
_VOICED = 0.5  # of the autocorrelation at 0
_NEARLY = 0.85


def log_mel(samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Compute log-mel bands every 10 ms: [S] float32 to [T, 40]."""
    resampled = soxr.resample(np.asarray(samples, np.float32), sample_rate, _RATE)
    padded = np.pad(resampled, _WINDOW // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW)[::_HOP]
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(_WINDOW + 1)[:-1]))
    return np.log(np.maximum(spectrum @ _mel_filters().T, _FLOOR))


def mel_cepstra(bands: np.ndarray) -> np.ndarray:
    """Turn log-mel bands [T, 40] into 24 cepstral coefficients [T, 24]; the level is left out."""
    return bands @ _cosines().T


@cache
def _mel_filters() -> np.ndarray:
    points = _from_mel(np.linspace(_to_mel(_LOW), _to_mel(_HIGH), _BANDS + 2))
    bins = np.linspace(0, _RATE / 2, _WINDOW // 2 + 1)
    rising = (bins - points[:-2, None]) / np.diff(points)[:-1, None]
    falling = (points[2:, None] - bins) / np.diff(points)[1:, None]
    area = (points[2:] - points[:-2])[:, None] / 2
    return np.maximum(0, np.minimum(rising, falling)) / area


def _to_mel(frequency: float) -> float:
    # Slaney's scale: linear below 1 kHz, logarithmic above.
    return frequency * 0.015 if frequency < 1000 else 15 + 27 * math.log(frequency / 1000) / math.log(6.4)


def _from_mel(mel: np.ndarray) -> np.ndarray:
    return np.where(mel < 15, mel / 0.015, 1000 * np.exp((mel - 15) * math.log(6.4) / 27))


@cache
def _cosines() -> np.ndarray:
    order = np.arange(1, _COEFFICIENTS + 1)[:, None]
    return math.sqrt(2 / _BANDS) * np.cos(math.pi / _BANDS * (np.arange(_BANDS) + 0.5) * order)


def cepstral_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Mean distance of two series of mel-cepstra [T, C] along the best time warping, about in dB."""
    return _SCALE * warped_distance(first, second)


def warped_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Mean Euclidean distance of [T1, C] and [T2, C] along the path of least total distance.

    A path steps by one in either series or in both. All cells of an anti-diagonal are computed at once.
    """
    squares = (first**2).sum(1)[:, None] + (second**2).sum(1) - 2 * first @ second.T
    distances = np.sqrt(np.maximum(squares, 0))
    rows, columns = distances.shape
    row = np.arange(rows)[:, None]
    diagonals = np.full((rows + columns - 1, rows), np.inf)
    diagonals[row + np.arange(columns), row] = distances
    # Entry i + 1 belongs to row i; entry 0 lies outside.
    total, steps = np.full(rows + 1, np.inf), np.zeros(rows + 1)
    older_total, older_steps = total.copy(), steps.copy()
    total[1], steps[1] = distances[0, 0], 1
    for diagonal in diagonals[1:]:
        best, count = older_total[:-1], older_steps[:-1]
        for other, other_count in ((total[:-1], steps[:-1]), (total[1:], steps[1:])):
            is_better = other < best
            best, count = np.where(is_better, other, best), np.where(is_better, other_count, count)
        older_total, older_steps = total, steps
        total, steps = np.full(rows + 1, np.inf), np.zeros(rows + 1)
        total[1:], steps[1:] = best + diagonal, count + 1
    return float(total[rows] / steps[rows])


def log_pitch(samples: np.ndarray, sample_rate: int) -> float | None:
    """Median logarithm of the fundamental frequency in Hz over voiced frames; None if nothing is voiced."""
    length = round(_PITCH_WINDOW_S * sample_rate)
    if len(samples) < length:
        return None
    frames = np.lib.stride_tricks.sliding_window_view(np.asarray(samples, np.float64), length)
    frames = frames[:: round(_PITCH_HOP_S * sample_rate)]
    window = np.hanning(length)
    size = 1 << (2 * length - 1).bit_length()
    power = np.abs(np.fft.rfft((frames - frames.mean(1, keepdims=True)) * window, size)) ** 2
    correlation = np.fft.irfft(power)[:, :length]
    taper = np.fft.irfft(np.abs(np.fft.rfft(window, size)) ** 2)[:length]
    low, high = int(sample_rate / _HIGHEST_PITCH), int(sample_rate / _LOWEST_PITCH)
    energy = correlation[:, 0]
    if energy.max() <= 0:
        return None
    # Dividing by the window's own correlation undoes its fall towards long lags.
    peaks = correlation[:, low:high] / taper[low:high] * (taper[0] / np.maximum(energy, 1e-12))[:, None]
    is_voiced = (peaks.max(1) > _VOICED) & (energy > 0.01 * energy.max())
    if not is_voiced.any():
        return None
    voiced = peaks[is_voiced]
    # Two periods fit as well as one: the first peak that is nearly the highest counts.
    first = low + (voiced > _NEARLY * voiced.max(1, keepdims=True)).argmax(1)
    lags = low + np.arange(voiced.shape[1])
    near = np.where(lags < 1.5 * first[:, None], voiced, -np.inf)
    return float(np.median(np.log(sample_rate / (low + near.argmax(1)))))
