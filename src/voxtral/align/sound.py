"""Where there is sound in a segment: the level of short windows, heard as they come. Knows no words and no text."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]

WINDOW_S = 0.005
# Below the loudest window so far, or below this of full scale, nothing is heard.
_BELOW_PEAK = 10 ** (-45 / 10)
_LEAST_POWER = 10 ** (-60 / 10)


class Sound:
    """The samples of a segment so far, reduced to the power of windows of 5 ms.

    Args:
        sample_rate: in Hz.
    """

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._window = max(1, round(WINDOW_S * sample_rate))
        self._rest: Samples = np.zeros(0, dtype=np.float32)
        self._powers = np.zeros(0)
        self.num_samples = 0

    @property
    def seconds(self) -> float:
        """How much has been heard."""
        return self.num_samples / self._sample_rate

    def add(self, samples: Samples) -> None:
        """Hear the next samples."""
        self.num_samples += len(samples)
        joined = np.concatenate((self._rest, samples)) if len(self._rest) else samples
        num_whole = len(joined) // self._window
        whole = joined[: num_whole * self._window].reshape(num_whole, self._window)
        self._powers = np.concatenate((self._powers, np.square(whole, dtype=np.float64).sum(axis=1) / self._window))
        self._rest = joined[num_whole * self._window :]

    def sounding(self, until_s: float) -> npt.NDArray[np.bool_]:
        """Tell of each whole window before a time whether anything is heard, by the loudest of them."""
        powers = self._powers[: self._index(until_s)]
        return powers > max(_LEAST_POWER, _BELOW_PEAK * float(powers.max(initial=0.0)))

    def onset(self, first_s: float, last_s: float, *, near_s: float, until_s: float, silence_s: float) -> float | None:
        """Find where sound begins after silence, or at the start of the segment.

        Args:
            first_s: earliest time that counts.
            last_s: latest.
            near_s: the nearest to this time is taken.
            until_s: samples behind this time are not looked at.
            silence_s: that must be before it, at least.
        """
        sounding = self.sounding(until_s)
        begins = np.flatnonzero(sounding & ~np.concatenate(([False], sounding[:-1]))) if len(sounding) else []
        # Windows since the last sound before each; silence goes back to before the start.
        ends = np.concatenate(([-np.inf], np.flatnonzero(sounding[:-1] & ~sounding[1:]) + 1.0))
        found: list[float] = []
        for begin in begins:
            silent = begin - ends[ends <= begin].max()
            time = float(begin) * self._window / self._sample_rate
            if silent * self._window >= silence_s * self._sample_rate and first_s <= time <= last_s:
                found.append(time)
        return min(found, key=lambda time: abs(time - near_s), default=None)

    def last_sound(self, first_s: float, end_s: float, *, until_s: float) -> float:
        """Find where the last window that sounds ends, of those that begin between two times; else the first time."""
        sounding = self.sounding(until_s)
        last = np.flatnonzero(sounding[: self._index(end_s, upwards=True)])
        if not len(last):
            return first_s
        return min(max(first_s, float(last[-1] + 1) * self._window / self._sample_rate), max(first_s, end_s))

    def gaps(self, silence_s: float) -> list[tuple[float, float]]:
        """List the silences of at least a length between two sounds, as start and end in seconds."""
        places = np.flatnonzero(self.sounding(self.seconds))
        step = self._window / self._sample_rate
        wide = np.flatnonzero(np.diff(places) > silence_s / step)
        return [(float(places[gap] + 1) * step, float(places[gap + 1]) * step) for gap in wide]

    def span(self) -> tuple[float, float]:
        """Give where the first sound begins and the last ends; all where nothing sounds."""
        places = np.flatnonzero(self.sounding(self.seconds))
        step = self._window / self._sample_rate
        return (float(places[0]) * step, float(places[-1] + 1) * step) if len(places) else (0.0, self.seconds)

    def _index(self, time_s: float, *, upwards: bool = False) -> int:
        windows = round(time_s * self._sample_rate / self._window, 6)
        return max(0, int(np.ceil(windows) if upwards else np.floor(windows)))
