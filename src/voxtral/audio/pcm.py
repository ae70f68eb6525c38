"""Float samples to 16-bit integers and back, and the one check that all samples pass before they leave.

It knows no sample rate and no file format; `voxtral.audio.encode` turns the integers into files.
"""

from __future__ import annotations

import numpy as np

from voxtral.errors import AudioError

INT16_SCALE = 32767
"""What 1.0 becomes. Full scale up and full scale down are then equally far from zero, and neither wraps."""


def check_samples(samples: np.ndarray) -> np.ndarray:
    """Return mono float samples as float32, or refuse them.

    Args:
        samples: [S], of a float kind, full scale at -1 and 1.

    Returns:
        [S] float32; the array itself where nothing had to change.

    Raises:
        AudioError: not a one-dimensional float array, or a sample is NaN or infinite.
    """
    if not isinstance(samples, np.ndarray) or samples.ndim != 1 or samples.dtype.kind != "f":
        got = f"{samples.dtype} of shape {samples.shape}" if isinstance(samples, np.ndarray) else type(samples).__name__
        raise AudioError(f"got samples as {got}; audio is one row of floats in [-1, 1]: pass a mono float32 array")
    with np.errstate(over="ignore"):
        samples = samples.astype(np.float32, copy=False)
    finite = np.isfinite(samples)
    if not finite.all():
        first = int(np.argmin(finite))
        raise AudioError(
            f"sample {first} of {len(samples)} is {samples[first]}; every sample must be a finite number: "
            "find out where the signal was made, clipping cannot mend it"
        )
    return samples


def to_int16(samples: np.ndarray) -> np.ndarray:
    """Convert samples to 16-bit integers, clipped to full scale and rounded half to even.

    No dither: speech has a noise floor of its own, and the same samples must give the same bytes.

    Args:
        samples: [S], of a float kind.

    Returns:
        [S] int16 in -32767..32767.

    Raises:
        AudioError: not a one-dimensional float array, or a sample is NaN or infinite.

    >>> to_int16(np.array([0.0, 1.0, -2.0], dtype=np.float32)).tolist()
    [0, 32767, -32767]
    """
    clipped = np.clip(check_samples(samples), -1.0, 1.0)
    return np.rint(clipped * np.float32(INT16_SCALE)).astype(np.int16)


def from_int16(samples: np.ndarray) -> np.ndarray:
    """Convert 16-bit integers to float samples as decoders do: divided by 32768, so that no value is above 1.

    There and back, integers change by at most one step, because full scale is 32767 on the way out.

    Args:
        samples: [S] or [S, C] int16.

    Returns:
        The same shape, float32 in [-1, 1).

    Raises:
        AudioError: the array is not int16.

    >>> from_int16(np.array([-32768, 16384], dtype=np.int16)).tolist()
    [-1.0, 0.5]
    """
    if not isinstance(samples, np.ndarray) or samples.dtype != np.int16:
        got = str(samples.dtype) if isinstance(samples, np.ndarray) else type(samples).__name__
        raise AudioError(f"got samples as {got}; 16-bit audio is an int16 array: convert with samples.astype('int16')")
    return samples.astype(np.float32) / np.float32(32768.0)
