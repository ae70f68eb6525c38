"""Start noise of the flow: normal numbers that depend on seed, segment and frame alone.

A counter-based generator, so that a frame's noise is the same whatever else runs, in whatever order,
on whatever device. No torch here.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

import numpy as np

from voxtral.options import MAX_SEED

if TYPE_CHECKING:
    import numpy.typing as npt


class NoiseSource(Protocol):
    """Where a sequence gets its noise from; tests give recorded noise."""

    def __call__(self, frame: int) -> npt.NDArray[np.float32]:
        """Return the noise of one frame, [A] float32, unscaled."""
        ...


class SeededNoise:
    """Noise keyed by (seed, segment, frame).

    Philox-4x64 makes the bits and Box-Muller the normals: both are fixed algorithms, whereas the
    normal method of a numpy generator may change between versions.
    """

    def __init__(self, seed: int, segment: int, num_values: int) -> None:
        self._key = np.array([seed, segment], dtype=np.uint64)
        self._num_values = num_values

    def __call__(self, frame: int) -> npt.NDArray[np.float32]:
        """Return the noise of one frame, [A] float32."""
        num_pairs = (self._num_values + 1) // 2
        bits = np.random.Philox(key=self._key, counter=np.array([0, frame, 0, 0], dtype=np.uint64))
        words = bits.random_raw(2 * num_pairs)
        # 53 bits each, shifted by half a step so that the logarithm never sees zero.
        uniform = ((words >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
        radius = np.sqrt(-2.0 * np.log(uniform[:num_pairs]))
        angle = 2.0 * np.pi * uniform[num_pairs:]
        normal = np.concatenate((radius * np.cos(angle), radius * np.sin(angle)))
        return normal[: self._num_values].astype(np.float32)


def derive_seed(seed: int, attempt: int) -> int:
    """Derive the seed of a further attempt; attempt 0 is the seed itself.

    >>> derive_seed(7, 0)
    7
    >>> derive_seed(7, 1) == derive_seed(7, 1) != 7
    True
    """
    if attempt == 0:
        return seed
    digest = hashlib.sha256(f"{seed}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:8], "little") & MAX_SEED
