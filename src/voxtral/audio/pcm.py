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


def to_ulaw(samples: np.ndarray) -> bytes:
    """Compress 16-bit samples as telephones in America and Japan do: one byte a sample.

    Args:
        samples: [S] int16.

    >>> to_ulaw(np.array([0, 32767, -32768], dtype=np.int16)).hex()
    'ff8000'

    Source: ITU-T G.711, table 2; of 14 bits a sign, the exponent of the biased size, and four bits, all turned.
    """
    value = samples.astype(np.int32) >> 2
    size = np.minimum(np.abs(value), _ULAW_CLIP) + _ULAW_BIAS
    exponent = _exponent(size >> 5)
    code = exponent << 4 | (size >> (exponent + 1)) & 0x0F
    return (~(code | np.where(value < 0, 0x80, 0)) & 0xFF).astype(np.uint8).tobytes()


def to_alaw(samples: np.ndarray) -> bytes:
    """Compress 16-bit samples as telephones elsewhere do: one byte a sample.

    Args:
        samples: [S] int16.

    >>> to_alaw(np.array([0, 32767, -32768], dtype=np.int16)).hex()
    'd5aa2a'

    Source: ITU-T G.711, table 1; of 13 bits, every second bit turned.
    """
    value = samples.astype(np.int32) >> 3
    size = np.where(value < 0, ~value, value)
    exponent = _exponent(size >> 4)
    code = np.where(exponent == 0, size >> 1, exponent << 4 | (size >> np.maximum(exponent, 1)) & 0x0F)
    return ((code | np.where(value < 0, 0, 0x80)) ^ 0x55).astype(np.uint8).tobytes()


# Source: ITU-T G.711: the bias that makes the steps of mu-law powers of two, and what clips, of 14 bits.
_ULAW_BIAS, _ULAW_CLIP = 0x21, 8158


def _exponent(values: np.ndarray) -> np.ndarray:
    """Count the bits behind the highest one that is set, below 8: 0 for 0 and 1."""
    return np.searchsorted(_POWERS, values, side="right").astype(np.int32)


_POWERS = 2 ** np.arange(1, 8)
