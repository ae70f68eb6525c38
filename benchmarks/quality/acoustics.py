"""What samples sound like, at the rate of nano: `voxtral.cloning.acoustics`, and silence. Numpy only."""

from __future__ import annotations

import numpy as np

from voxtral.cloning import acoustics
from voxtral.cloning.acoustics import cepstral_distance, mel_cepstra, warped_distance

__all__ = [
    "SAMPLE_RATE",
    "cepstral_distance",
    "log_mel",
    "log_pitch",
    "longest_silence",
    "mel_cepstra",
    "warped_distance",
]

SAMPLE_RATE = 24000

_LEVEL_HOP = 240  # 10 ms
_SILENT = 0.01  # of the loud frames' level


def log_mel(samples: np.ndarray) -> np.ndarray:
    """Compute log-mel bands every 10 ms: [S] float32 at 24 kHz to [T, 40]."""
    return acoustics.log_mel(samples, SAMPLE_RATE)


def log_pitch(samples: np.ndarray) -> float | None:
    """Median logarithm of the fundamental frequency in Hz over voiced frames; None if nothing is voiced."""
    return acoustics.log_pitch(samples, SAMPLE_RATE)


def longest_silence(samples: np.ndarray) -> float:
    """Seconds of the longest stretch whose level stays 40 dB below the loud frames, ends included."""
    num_frames = len(samples) // _LEVEL_HOP
    if num_frames == 0:
        return 0.0
    frames = np.asarray(samples[: num_frames * _LEVEL_HOP], np.float64).reshape(num_frames, _LEVEL_HOP)
    levels = np.sqrt((frames**2).mean(1))
    is_silent = levels <= _SILENT * np.percentile(levels, 95)
    edges = np.flatnonzero(np.diff(np.concatenate(([0], is_silent.astype(np.int8), [0]))))
    runs = edges[1::2] - edges[::2]
    return float(runs.max(initial=0)) * _LEVEL_HOP / SAMPLE_RATE
