"""Start noise of the flow: normal numbers that depend on seed, segment and frame alone.

A counter-based generator, so that a frame's noise is the same whatever else runs, in whatever order,
on whatever device. No torch here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

import numpy as np

from voxtral.options import MAX_SEED

if TYPE_CHECKING:
    import numpy.typing as npt

# Of a generator's four words, so that the next word asked for is made from its counter.
_NO_WORDS_LEFT = 4


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
        self.key = [seed, segment]
        self.num_values = num_values

    def __call__(self, frame: int) -> npt.NDArray[np.float32]:
        """Return the noise of one frame, [A] float32."""
        return NoiseMaker().draw([self], [frame])[0]


class NoiseMaker:
    """Makes the noise of many sources at once; for one thread.

    What it draws depends on sources and frames alone. It is kept only because making a generator asks the system for
    entropy, which takes ten times as long as setting one.
    """

    def __init__(self) -> None:
        self._generator = np.random.Philox(key=0)
        self._place: dict[str, list[int]] = {}
        self._state: Any = self._generator.state | {
            "state": self._place,
            "buffer": [0] * _NO_WORDS_LEFT,  # lists are read faster than arrays
            "buffer_pos": _NO_WORDS_LEFT,
        }

    def each(
        self, sources: Sequence[NoiseSource], frames: Sequence[int], scales: Sequence[float], num_values: int
    ) -> list[npt.NDArray[np.float32] | Exception]:
        """Ask each source for the noise of its frame, times its scale; those that are seeded are drawn together.

        Args:
            sources: of any kind.
            frames: of each source, its frame.
            scales: of each source, a factor.
            num_values: A, that all must have.

        Returns:
            Of each source its noise, [A] float32, or what was wrong with it.
        """
        found: dict[int, npt.NDArray[np.float32] | Exception] = {}
        seeded: list[int] = []
        for number, source in enumerate(sources):
            if type(source) is SeededNoise and source.num_values == num_values:
                seeded.append(number)
                continue
            # Whatever a source does concerns its own row.
            try:
                found[number] = _checked(source(frames[number]), num_values) * scales[number]
            except Exception as error:  # noqa: BLE001
                found[number] = error
        if seeded:
            chosen = cast("list[SeededNoise]", [sources[number] for number in seeded])
            factors = np.array([scales[number] for number in seeded], dtype=np.float32)[:, None]
            found |= zip(seeded, self.draw(chosen, [frames[number] for number in seeded]) * factors, strict=True)
        return [found[number] for number in range(len(sources))]

    def draw(self, sources: Sequence[SeededNoise], frames: Sequence[int]) -> npt.NDArray[np.float32]:
        """Make the noise of one frame of each source: what each would make by itself, to the bit.

        Args:
            sources: at least one, all with the same number of values.
            frames: of each source, its frame.

        Returns:
            [sources, A] float32.
        """
        num_values = sources[0].num_values
        num_pairs = (num_values + 1) // 2
        place, generator, state, num_words = self._place, self._generator, self._state, 2 * num_pairs
        drawn: list[npt.NDArray[np.uint64]] = []
        for source, frame in zip(sources, frames, strict=True):
            place["key"], place["counter"] = source.key, [0, frame, 0, 0]
            generator.state = state
            drawn.append(generator.random_raw(num_words))
        # 53 bits each, shifted by half a step so that the logarithm never sees zero.
        uniform = ((np.concatenate(drawn) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53
        # Without gaps in memory: with them numpy computes some functions another way, and rounds otherwise.
        halves = uniform.reshape(len(drawn), 2, num_pairs).swapaxes(0, 1).copy()
        radius = np.sqrt(-2.0 * np.log(halves[0]))
        angle = 2.0 * np.pi * halves[1]
        normal = np.concatenate((radius * np.cos(angle), radius * np.sin(angle)), axis=1)
        return normal[:, :num_values].astype(np.float32)


def _checked(noise: npt.NDArray[np.float32], num_values: int) -> npt.NDArray[np.float32]:
    if noise.shape != (num_values,):
        raise ValueError(f"the noise of a frame has shape {noise.shape}; it must be ({num_values},)")
    return noise


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
