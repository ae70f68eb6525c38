"""The pitch of a voice over time: measured from samples, and read at any place. Numpy only.

Read next: `voxtral.cloning.refine`, which lets a source-filter head sound at the pitch of a clip.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# After Boersma 1993 ("Accurate short-term analysis of the fundamental frequency ..."), with his costs: the
# autocorrelation of a window of three periods, undone of the window's own, and the cheapest path through its peaks.
_LOWEST, _HIGHEST = 60.0, 500.0
_PERIODS_IN_WINDOW = 3.0
HOP_S = 0.01
_CANDIDATES = 6
_SILENCE, _VOICED = 0.03, 0.45
_OCTAVE_COST, _JUMP_COST, _CHANGE_COST = 0.01, 0.35, 0.14
_FRAMES_AT_ONCE = 500  # bounds memory
# Where nothing is voiced a curve stands still at what is neither high nor low.
_NOWHERE_HZ = 150.0


@dataclass(frozen=True, eq=False)
class PitchCurve:
    """Pitch at even places.

    Attributes:
        f0: [N] float64 in Hz, 0 where nothing is voiced.
        hop: samples from one value to the next; the first is at sample 0.
    """

    f0: np.ndarray
    hop: float

    def at(self, places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Read the curve at places in samples, of any shape, also before and behind it.

        Returns:
            Pitch in Hz, carried over voiceless stretches in a line of its logarithm; and how voiced it is, 0 to 1.
        """
        is_voiced = self.f0 > 0
        if not is_voiced.any():
            return np.full(places.shape, _NOWHERE_HZ), np.zeros(places.shape)
        known = np.flatnonzero(is_voiced)
        steps = places / self.hop
        f0 = np.exp(np.interp(steps, known, np.log(self.f0[known])))
        return f0, np.interp(steps, np.arange(len(self.f0)), is_voiced.astype(float), left=0.0, right=0.0)


def places_of_steps(num_steps: int, patch: int, lateness: int = 0) -> np.ndarray:
    """Tell where the pitch of each step of a source-filter head is heard, in samples of what an encoder heard.

    It is that at the end of the step, and sounds half a step later.

    Args:
        num_steps: from the first on.
        patch: samples of a step.
        lateness: samples by which the decoder is late.
    """
    return (np.arange(num_steps) + 1) * patch + patch // 2 - lateness


def measure_pitch(samples: np.ndarray, sample_rate: int) -> PitchCurve:
    """Measure the pitch of speech every 10 ms: [S] in [-1, 1]; about a hundredth of its length on one core."""
    length = round(_PERIODS_IN_WINDOW / _LOWEST * sample_rate)
    hop = round(HOP_S * sample_rate)
    signal = np.asarray(samples, np.float64)
    padded = np.pad(signal, (length // 2, length))
    frames = np.lib.stride_tricks.sliding_window_view(padded, length)[: len(signal) + 1 : hop]
    window = np.hanning(length)
    size = 1 << (length + round(sample_rate / _LOWEST)).bit_length()
    lags = np.arange(int(sample_rate / _HIGHEST) - 1, int(sample_rate / _LOWEST) + 2)
    own = np.fft.irfft(np.abs(np.fft.rfft(window, size)) ** 2)
    own = own[lags] / own[0]
    loudest = np.abs(signal).max(initial=0.0)
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for start in range(0, len(frames), _FRAMES_AT_ONCE):
        part = frames[start : start + _FRAMES_AT_ONCE]
        part = part - part.mean(1, keepdims=True)
        correlation = np.fft.irfft(np.abs(np.fft.rfft(part * window, size)) ** 2)
        peaks = correlation[:, lags] / np.maximum(correlation[:, :1], 1e-12) / own
        level = np.abs(part).max(1) / max(loudest, 1e-9)
        found.append(_candidates(peaks, lags, level, sample_rate))
    f0, strength = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return PitchCurve(_best_path(f0, strength), hop)


def _candidates(
    peaks: np.ndarray, lags: np.ndarray, level: np.ndarray, sample_rate: int
) -> tuple[np.ndarray, np.ndarray]:
    """List for each frame what its pitch may be, Hz, 0 for none, and how much speaks for it: [N, candidates] each."""
    left, middle, right = peaks[:, :-2], peaks[:, 1:-1], peaks[:, 2:]
    is_peak = (middle > left) & (middle >= right) & (middle > 0)
    curvature = np.minimum(left - 2 * middle + right, -1e-9)
    shift = np.clip(0.5 * (left - right) / curvature, -0.5, 0.5)
    f0 = sample_rate / (lags[1:-1] + shift)
    height = np.minimum(middle - 0.25 * (left - right) * shift, 1.0)
    # Two periods correlate as well as one: the higher pitch has it.
    strength = np.where(is_peak, height + _OCTAVE_COST * np.log2(f0 / _LOWEST), -np.inf)
    best = np.argsort(strength, axis=1)[:, : -_CANDIDATES - 1 : -1]
    silent = _VOICED + np.maximum(0.0, 2 - level / (_SILENCE / (1 + _VOICED)))
    return (
        np.concatenate((np.zeros((len(peaks), 1)), np.take_along_axis(f0, best, 1)), axis=1),
        np.concatenate((silent[:, None], np.take_along_axis(strength, best, 1)), axis=1),
    )


def _best_path(f0: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Choose a candidate for each frame so that together they are strong and jump little: [N]."""
    if not len(f0):
        return np.zeros(0)
    octaves = np.log2(np.where(f0 > 0, f0, 1.0))
    total, came_from = strength[0], np.zeros(f0.shape, np.int64)
    for frame in range(1, len(f0)):
        jump = _JUMP_COST * np.abs(octaves[frame - 1][:, None] - octaves[frame])
        is_change = (f0[frame - 1][:, None] > 0) != (f0[frame] > 0)
        both_none = (f0[frame - 1][:, None] == 0) & (f0[frame] == 0)
        reached = total[:, None] - np.where(is_change, _CHANGE_COST, np.where(both_none, 0.0, jump))
        came_from[frame] = reached.argmax(0)
        total = reached.max(0) + strength[frame]
    chosen = np.zeros(len(f0), np.int64)
    chosen[-1] = total.argmax()
    for frame in range(len(f0) - 1, 0, -1):
        chosen[frame - 1] = came_from[frame][chosen[frame]]
    return f0[np.arange(len(f0)), chosen]
