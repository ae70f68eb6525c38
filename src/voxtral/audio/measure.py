"""Numbers about samples: how long, how loud, whether anything is to be heard.

It judges nothing; what is too short or too quiet is the caller's rule. Levels are in dB relative to full scale (1.0).
"""

from __future__ import annotations

import numpy as np

_WINDOW_S = 0.020


def duration_s(samples: np.ndarray, sample_rate: int) -> float:
    """Return how long the samples last, in seconds.

    Args:
        samples: [S], or [S, C].
        sample_rate: in Hz.
    """
    return len(samples) / sample_rate


def peak(samples: np.ndarray) -> float:
    """Return the largest absolute sample; 0 for no samples.

    Args:
        samples: [S], of a float kind.
    """
    # From both ends of the range, because abs() would copy an hour of audio.
    return float(max(samples.max(), -samples.min())) if len(samples) else 0.0


def rms_db(samples: np.ndarray) -> float:
    """Return the level of the samples in dB: 0 is a square wave at full scale, minus infinity is silence.

    Args:
        samples: [S], of a float kind.

    >>> rms_db(np.zeros(10, dtype=np.float32))
    -inf
    """
    if not len(samples):
        return -np.inf
    return _to_db(float(np.mean(np.square(samples, dtype=np.float64))))


def is_silent(samples: np.ndarray, sample_rate: int, *, threshold_db: float = -60.0) -> bool:
    """Say whether no window of 20 ms is as loud as the threshold.

    The loudest window decides, not the mean: one word in a minute of silence is not silence. No samples are silent.

    Args:
        samples: [S], of a float kind.
        sample_rate: in Hz.
        threshold_db: the RMS level in dB at which a window counts as heard.
    """
    if not len(samples):
        return True
    window = min(len(samples), max(1, round(_WINDOW_S * sample_rate)))
    starts = np.arange(0, len(samples), window)
    powers = np.add.reduceat(np.square(samples, dtype=np.float64), starts)
    # The last window may be short; it is measured as if it were filled with silence, or one click would be loud.
    return _to_db(float(powers.max()) / window) < threshold_db


def _to_db(power: float) -> float:
    """Convert a mean square to dB, without a warning for zero."""
    return float(10.0 * np.log10(power)) if power > 0.0 else -np.inf
