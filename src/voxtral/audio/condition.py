"""Samples made fit for a codec: no rumble, one level, no exact zeros, an end without a click. Zero phase, no state.

It judges nothing; `voxtral.audio.reference` says what is done and why. Levels are in dB relative to full scale (1.0).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]

# A Butterworth filter of fourth order at 60 Hz, forward and backward: -0.8 dB at 80 Hz, -48 dB at 30 Hz. The lowest
# voices begin at 75 Hz or so; a filter that takes the fundamental of a voice takes the voice.
_HIGH_PASS_HZ, _HIGH_PASS_ORDER = 60.0, 4
# Longer than the filter rings.
_PADDING_S = 0.25
_BLOCK = 1 << 17

MAX_PEAK = 0.98

_FADE_S = 0.020

# What no microphone gives and no codec has heard, silence of exact zeros, gets this much noise.
_FILL_DB, _FILL_BELOW_DB, _FILL_WINDOW_S = -80.0, -90.0, 0.010
_FILL_SEED = 1

# Frames of a level; those this far below the loud ones are pauses.
_LEVEL_WINDOW_S, _LEVEL_RANGE_DB = 0.020, 30.0


def to_db(power: float) -> float:
    """Convert a mean square to dB, without a warning for zero."""
    return float(10.0 * np.log10(power)) if power > 0.0 else -np.inf


def high_pass(samples: Samples, sample_rate: int) -> Samples:
    """Remove what lies below any voice, DC wholly, without a change of phase.

    Args:
        samples: [S], S > 0.
        sample_rate: in Hz.

    Returns:
        [S].
    """
    padding = min(len(samples) - 1, round(_PADDING_S * sample_rate))
    centred = samples - samples.mean(dtype=np.float64).astype(np.float32)
    padded = np.pad(centred, padding, mode="reflect")
    filtered = np.empty(len(samples), np.float32)
    # In blocks, so that memory and the time of a transform stay small; each brings what rings into it.
    for start in range(0, len(samples), _BLOCK):
        stop = min(start + _BLOCK, len(samples))
        part = padded[start : stop + 2 * padding].astype(np.float64)
        # A length whose only large factor is below 32, for the transform.
        unit = 1 << max(0, len(part).bit_length() - 5)
        length = -(-len(part) // unit) * unit
        spectrum = np.fft.rfft(part, length)
        power = (np.fft.rfftfreq(length, 1.0 / sample_rate) / _HIGH_PASS_HZ) ** (2 * _HIGH_PASS_ORDER)
        spectrum *= power / (1.0 + power)
        filtered[start:stop] = np.fft.irfft(spectrum, length)[padding : padding + stop - start]
    return filtered


def active_level(samples: Samples, sample_rate: int) -> float:
    """Measure how loud speech is while it is there: dB, of the windows of 20 ms that are no pauses.

    Args:
        samples: [S]; none have a level of minus infinity.
        sample_rate: in Hz.
    """
    powers = window_powers(samples, sample_rate, _LEVEL_WINDOW_S)
    loud = float(np.percentile(powers, 95)) if len(powers) else 0.0
    return to_db(float(powers[powers >= loud * 10 ** (-_LEVEL_RANGE_DB / 10)].mean())) if loud > 0.0 else -np.inf


def window_powers(samples: Samples, sample_rate: int, window_s: float) -> npt.NDArray[np.float64]:
    """Measure the mean square of windows that lie side by side; what is left over at the end is not measured.

    Args:
        samples: [S].
        sample_rate: in Hz.
        window_s: length of a window in seconds; samples that fill none are one.
    """
    window = min(len(samples), max(1, round(window_s * sample_rate)))
    if not window:
        return np.zeros(0)
    squares = np.square(samples[: len(samples) // window * window], dtype=np.float64)
    return squares.reshape(-1, window).mean(axis=1)


def gain_to(samples: Samples, level_db: float, target_db: float, tolerance_db: float) -> float:
    """Choose the factor that brings speech near a level, as far as its peak allows.

    Args:
        samples: [S], not silent.
        level_db: their active level.
        target_db: the level that is wanted.
        tolerance_db: what is as near to it stays as it is.
    """
    peak = float(np.abs(samples).max())
    wanted = 1.0 if abs(target_db - level_db) <= tolerance_db else 10 ** ((target_db - level_db) / 20)
    return min(wanted, MAX_PEAK / peak)


def fade_ends(samples: Samples, sample_rate: int) -> Samples:
    """Let samples begin and end at nothing, over 20 ms each."""
    faded = samples.copy()
    length = min(len(samples) // 2, round(_FADE_S * sample_rate))
    ramp = (np.arange(length, dtype=np.float32) + 0.5) / max(1, length)
    faded[:length] *= ramp
    faded[len(faded) - length :] *= ramp[::-1]
    return faded


def fill_zeros(samples: Samples, sample_rate: int) -> Samples:
    """Put noise of -80 dB where for 10 ms there is next to nothing, the same noise every time."""
    window = round(_FILL_WINDOW_S * sample_rate)
    is_empty = window_powers(samples, sample_rate, _FILL_WINDOW_S) < 10 ** (_FILL_BELOW_DB / 10)
    if not is_empty.any():
        return samples
    noise = np.random.default_rng(_FILL_SEED).standard_normal(len(samples), np.float32) * 10 ** (_FILL_DB / 20)
    mask = np.zeros(len(samples), np.float32)
    mask[: len(is_empty) * window] = np.repeat(is_empty, window)[: len(samples)]
    return (samples + mask * noise).astype(np.float32)
