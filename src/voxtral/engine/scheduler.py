"""Who is admitted, who goes on, who makes room. Lists of sequences and a clock; no tensors, no threads.

The engine calls this with its condition held, and does what it says.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Any

from voxtral.engine.sequence import Sequence

# A player that has less than this left must not wait for more than one part of somebody else's prompt.
_URGENT_S = 0.5


class Scheduler:
    """The sequences of an engine, each in exactly one of three places.

    Attributes:
        waiting: not admitted yet, in the order of arrival.
        active: have a row.
        parked: were moved out of the way while their readers were behind; oldest first.
        by_row: the active sequences by their rows.

    Args:
        sample_rate: samples per second.
    """

    def __init__(self, sample_rate: int) -> None:
        self.waiting: deque[Sequence] = deque()
        self.active: list[Sequence] = []
        self.parked: list[Sequence] = []
        self.by_row: dict[Any, Sequence] = {}
        self._sample_rate = sample_rate

    @property
    def num_unfinished(self) -> int:
        """Sequences that wait or run."""
        return len(self.waiting) + len(self.active) + len(self.parked)

    def has_work(self, now: float) -> bool:
        """Tell whether anybody can be let in, go on, or is to be let go."""
        return (
            bool(self.waiting)
            or any(sequence.is_ready for sequence in self.active)
            or any(not sequence.is_ahead for sequence in self.parked)
            or any(_is_lost(sequence, now) for sequence in (*self.active, *self.parked))
        )

    def seconds_to_deadline(self, now: float) -> float | None:
        """Seconds until the next deadline; None if there is none."""
        deadlines = (sequence.deadline for sequence in (*self.waiting, *self.active, *self.parked))
        seconds = min(deadlines, default=math.inf) - now
        return None if seconds == math.inf else max(seconds, 0.0)

    def take_lost(self, now: float) -> list[Sequence]:
        """Remove what was cancelled or is too late, and return it."""
        lost = [sequence for sequence in (*self.waiting, *self.active, *self.parked) if _is_lost(sequence, now)]
        for sequence in lost:
            self.remove(sequence)
        return lost

    def next_to_admit(self) -> Sequence | None:
        """Name who comes next: parked ones whose readers have caught up, then the longest waiting."""
        for sequence in self.parked:
            if not sequence.is_ahead:
                return sequence
        return self.waiting[0] if self.waiting else None

    def admit(self, sequence: Sequence) -> None:
        """Move a sequence that has got its row among the active ones."""
        if sequence in self.parked:
            self.parked.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)
        self.active.append(sequence)
        self.by_row[sequence.row] = sequence

    def next_to_park(self) -> Sequence | None:
        """Name who makes room: whose reader is behind by the most."""
        behind = [sequence for sequence in self.active if not sequence.is_ready]
        return max(behind, key=lambda sequence: sequence.handle.num_buffered, default=None)

    def park(self, sequence: Sequence) -> None:
        """Move a sequence out of the way; it keeps its row, which holds no device memory any more."""
        self.active.remove(sequence)
        del self.by_row[sequence.row]
        self.parked.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence that has ended."""
        if sequence in self.active:
            self.active.remove(sequence)
            del self.by_row[sequence.row]
        elif sequence in self.parked:
            self.parked.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def clear(self) -> list[Sequence]:
        """Forget everybody, and return them."""
        everybody = [*self.active, *self.parked, *self.waiting]
        self.active.clear()
        self.parked.clear()
        self.waiting.clear()
        self.by_row.clear()
        return everybody

    def is_urgent(self, now: float) -> bool:
        """Tell whether somebody who is being heard will soon run dry."""
        return any(sequence.slack_s(now, self._sample_rate) < _URGENT_S for sequence in self._going_on())

    def choose_rows(self) -> list[Sequence]:
        """Choose who makes a frame: whose readers are waiting for it; when all are well served, everybody."""
        ready = self._going_on()
        hungry = [sequence for sequence in ready if not sequence.is_ahead]
        return hungry or ready

    def _going_on(self) -> list[Sequence]:
        return [
            sequence
            for sequence in self.active
            if sequence.is_ready and sequence.row.is_prefilled and not sequence.row.is_exhausted
        ]


def _is_lost(sequence: Sequence, now: float) -> bool:
    return sequence.handle.is_cancelled or sequence.deadline <= now
