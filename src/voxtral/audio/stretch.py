"""Faster or slower speech at the same pitch, as a stream: overlap-add of pieces that fit each other (WSOLA).

It knows nothing of speech or of the model; whatever has a pitch between 50 Hz and a few kHz comes out well.
`TimeStretcher` holds the whole state of one stream.

Source: Verhelst and Roelands, "An overlap-add technique based on waveform similarity (WSOLA) for high quality
time-scale modification of speech", ICASSP 1993.
"""

from __future__ import annotations

import math

import numpy as np

from voxtral.audio.pcm import check_samples
from voxtral.errors import AudioError, OptionError, quoted
from voxtral.options import MAX_SPEED, MIN_SPEED

# Two hops are one piece: 24 ms hold more than one period of the lowest voices. The search reaches
# 10 ms each way, one period of 50 Hz in all, so that a place in step with the voice is always found.
_HOP_S = 0.012
_SEARCH_S = 0.010

# Small against any difference that can be heard, large against rounding: among places that fit equally well
# (a pure tone, silence) the nearest one wins, whatever the last bit of the correlation says.
_DISTANCE_PENALTY = 1e-3


class TimeStretcher:
    """Change the speed of a stream of mono samples and keep its pitch.

    However the input is cut into pushes, the output is the same. A speed of 1 passes the samples through unchanged.
    The state is bounded: about 50 ms of input, whatever the length of the stream.

    Args:
        speed: 2.0 is twice as fast, half as long.
        sample_rate: in Hz.

    Raises:
        OptionError: the speed is not a number from 0.25 to 4, or the sample rate is not positive.
    """

    def __init__(self, speed: float, sample_rate: int) -> None:
        if not isinstance(speed, (int, float)) or not MIN_SPEED <= speed <= MAX_SPEED:
            raise OptionError(
                f"got speed {quoted(speed)}; it is a number from {MIN_SPEED} to {MAX_SPEED}: choose one of these"
            )
        if sample_rate <= 0:
            raise OptionError(
                f"got a sample rate of {sample_rate} Hz; it is a positive number: pass that of the samples"
            )
        self.speed = float(speed)
        self._hop = max(1, round(_HOP_S * sample_rate))
        self._search = max(1, round(_SEARCH_S * sample_rate))
        phase = (np.arange(self._hop) + 0.5) / self._hop
        self._fade_in = (0.5 - 0.5 * np.cos(np.pi * phase)).astype(np.float32)
        self._fade_out = 1.0 - self._fade_in
        self._input = np.zeros(0, dtype=np.float32)
        self._input_start = 0  # position in the stream of the first sample kept in _input
        self._num_received = 0
        self._num_emitted = 0
        self._num_pieces = 0
        self._continuation = 0  # position in the stream that follows the last hop without a seam
        self._tail = np.zeros(self._hop, dtype=np.float32)  # second half of the last piece, faded out
        self._is_finished = False

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Take the next samples and return what is ready.

        Args:
            samples: [S], of a float kind, any S.

        Returns:
            [S'] float32, possibly empty.

        Raises:
            AudioError: samples that are not mono, float and finite, or a stream that is finished.
        """
        if self._is_finished:
            raise AudioError("got samples after finish(); a stretcher serves one stream: make a new TimeStretcher")
        samples = check_samples(samples)
        self._num_received += len(samples)
        if self.speed == 1.0:
            self._num_emitted += len(samples)
            return samples.copy()
        self._input = np.concatenate([self._input, samples])
        ready = self._emit(self._num_received)
        # A copy, so that the rest of a long push does not stay in memory behind a view of its end.
        self._input = self._input.copy()
        return ready

    def finish(self) -> np.ndarray:
        """End the stream and return the rest of it.

        The whole output then has `num_received / speed` samples, rounded half up.

        Returns:
            [S'] float32, possibly empty.

        Raises:
            AudioError: the stream is already finished.
        """
        if self._is_finished:
            raise AudioError("got a second finish(); a stretcher serves one stream: make a new TimeStretcher")
        self._is_finished = True
        num_left = math.floor(self._num_received / self.speed + 0.5) - self._num_emitted
        if num_left <= 0:
            return np.zeros(0, dtype=np.float32)
        # The last pieces reach behind the end. A mirror image continues the signal without a step;
        # zeros would put a click before the end wherever a piece was taken from later than its ideal place.
        num_hops = -(-num_left // self._hop)
        reach = math.ceil(num_hops * self._hop * self.speed) + 2 * self._search + 4 * self._hop
        self._input = np.pad(self._input, (0, reach), mode="symmetric")
        return self._emit(self._input_start + len(self._input), max_hops=num_hops)[:num_left]

    def _emit(self, end: int, *, max_hops: int | None = None) -> np.ndarray:
        """Join pieces as long as the input up to `end` suffices for the next one."""
        hop = self._hop
        hops: list[np.ndarray] = []
        while max_hops is None or len(hops) < max_hops:
            ideal = math.floor(self._num_pieces * hop * self.speed + 0.5)
            needed = max(
                ideal + self._search + 2 * hop,
                self._continuation + 2 * hop,
                # Never ahead of the final length, which the end of the stream may fix at any time.
                math.ceil((self._num_pieces + 1) * hop * self.speed),
            )
            if needed > end:
                break
            position = self._best_position(ideal) if self._num_pieces else 0
            piece = self._samples_at(position, 2 * hop)
            # The first piece starts the stream, so it has nothing to fade in over.
            hops.append(self._tail + piece[:hop] * self._fade_in if self._num_pieces else piece[:hop].copy())
            self._tail = piece[hop:] * self._fade_out
            self._continuation = position + hop
            self._num_pieces += 1
            self._forget()
        self._num_emitted += len(hops) * hop
        return np.concatenate(hops) if hops else np.zeros(0, dtype=np.float32)

    def _best_position(self, ideal: int) -> int:
        """Find the place near `ideal` whose samples look most like the seamless continuation."""
        length = 2 * self._hop
        first = max(0, ideal - self._search)
        num_places = ideal + self._search - first + 1
        region = self._samples_at(first, num_places - 1 + length).astype(np.float64)
        template = self._samples_at(self._continuation, length).astype(np.float64)
        # By FFT and not with BLAS, whose result may depend on where the array lies in memory.
        size = 1 << (len(region) - 1).bit_length()
        spectrum = np.fft.rfft(region, size) * np.conj(np.fft.rfft(template, size))
        products = np.fft.irfft(spectrum, size)[:num_places]
        energies = np.concatenate([np.zeros(1), np.cumsum(np.square(region))])
        energies = np.maximum(energies[length:] - energies[:-length], 0.0)
        similarity = products / np.sqrt(energies * np.square(template).sum() + 1e-20)
        distance = np.abs(np.arange(first, first + num_places) - ideal) / self._search
        return first + int(np.argmax(similarity - _DISTANCE_PENALTY * distance))

    def _samples_at(self, position: int, count: int) -> np.ndarray:
        """Return `count` samples from a position in the stream."""
        start = position - self._input_start
        return self._input[start : start + count]

    def _forget(self) -> None:
        """Drop the input that no later piece can reach."""
        next_ideal = math.floor(self._num_pieces * self._hop * self.speed + 0.5)
        keep_from = min(self._continuation, max(0, next_ideal - self._search))
        if keep_from > self._input_start:
            self._input = self._input[keep_from - self._input_start :]
            self._input_start = keep_from
