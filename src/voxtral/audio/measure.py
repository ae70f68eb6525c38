"""Whether anything is to be heard in samples.

It judges nothing; what is too short or too quiet is the caller's rule. Levels are in dB relative to full scale (1.0).
"""

from __future__ import annotations

import numpy as np

_WINDOW_S = 0.020
_WINDOWS_AT_ONCE = 20


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
    # The first loud part settles it, and speech is loud soon.
    for first in range(0, len(samples), window * _WINDOWS_AT_ONCE):
        part = samples[first : first + window * _WINDOWS_AT_ONCE]
        powers = np.add.reduceat(np.square(part, dtype=np.float64), np.arange(0, len(part), window))
        # The last window may be short; it is measured as if it were filled with silence, or one click would be loud.
        if _to_db(float(powers.max()) / window) >= threshold_db:
            return False
    return True


def _to_db(power: float) -> float:
    """Convert a mean square to dB, without a warning for zero."""
    return float(10.0 * np.log10(power)) if power > 0.0 else -np.inf
