"""Options for the life of an engine, and the schedule by which audio leaves it. No torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineOptions:
    """What an engine is set up with.

    Attributes:
        max_buffered_frames: audio that a sequence may make ahead of its reader, in frames; a reader
            that falls behind pauses its own sequence only.
        chunk_frames: frames of the 1st, 2nd, ... chunk of a sequence; the last number repeats. Fixed
            for all requests, so that the same seed gives the same samples to the bit.
        num_threads: CPU threads for one operation of torch on the engine's thread; None leaves torch's choice.
    """

    max_buffered_frames: int = 64
    # One frame first for the lowest TTFA; then slow growth, so that even at RTF 0.8 the next chunk is
    # there before the last has been played.
    chunk_frames: tuple[int, ...] = (1, 1, 2, 2, 3, 4, 6, 8)
    num_threads: int | None = None

    def frames_in_chunk(self, index: int) -> int:
        """Return the frames of chunk `index`.

        >>> [EngineOptions().frames_in_chunk(n) for n in (0, 2, 99)]
        [1, 2, 8]
        """
        return self.chunk_frames[min(index, len(self.chunk_frames) - 1)]
