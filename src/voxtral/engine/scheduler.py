"""Who is admitted, who goes on, who is preempted. Lists of sequences and a clock; no tensors, no threads.

The engine calls this with its condition held, and does what it says.
"""

from __future__ import annotations

import math
from collections import deque

from voxtral.engine.protocol import RowProtocol
from voxtral.engine.sequence import Sequence

# A player that has less than this left must not wait for more than one part of somebody else's prompt.
_URGENT_S = 0.5


class Scheduler:
    """The sequences of an engine, each in exactly one of three queues.

    Attributes:
        waiting: not admitted yet, in the order of arrival.
        running: have a row on the device.
        swapped: were preempted while their readers were behind; oldest first.

    Args:
        sample_rate: samples per second.
    """

    def __init__(self, sample_rate: int) -> None:
        self.waiting: deque[Sequence] = deque()
        self.running: list[Sequence] = []
        self.swapped: list[Sequence] = []
        self._by_row: dict[RowProtocol, Sequence] = {}
        self._sample_rate = sample_rate

    @property
    def num_unfinished(self) -> int:
        """Sequences that wait or have been admitted."""
        return len(self.waiting) + self.num_admitted

    @property
    def num_admitted(self) -> int:
        """Sequences that have a row, on the device or swapped out."""
        return len(self.running) + len(self.swapped)

    @property
    def rows(self) -> list[RowProtocol]:
        """The rows of the running sequences."""
        return list(self._by_row)

    def sequence_of(self, row: RowProtocol) -> Sequence | None:
        """Find the running sequence that has a row; None if it has ended or was preempted."""
        return self._by_row.get(row)

    def has_work(self, now: float) -> bool:
        """Tell whether anybody can be let in, go on, or is to be let go."""
        return (
            bool(self.waiting)
            or any(sequence.is_ready for sequence in self.running)
            or any(not sequence.is_ahead for sequence in self.swapped)
            or any(sequence.is_lost(now) for sequence in (*self.running, *self.swapped))
        )

    def seconds_to_deadline(self, now: float) -> float | None:
        """Seconds until the next deadline; None if there is none."""
        deadlines = (sequence.deadline for sequence in (*self.waiting, *self.running, *self.swapped))
        seconds = min(deadlines, default=math.inf) - now
        return None if seconds == math.inf else max(seconds, 0.0)

    def add(self, sequence: Sequence) -> None:
        """Let a new sequence wait behind all others."""
        self.waiting.append(sequence)

    def take_lost(self, now: float) -> list[Sequence]:
        """Remove what was cancelled or is too late, and return it."""
        lost = [sequence for sequence in (*self.waiting, *self.running, *self.swapped) if sequence.is_lost(now)]
        for sequence in lost:
            self.remove(sequence)
        return lost

    def next_to_admit(self) -> Sequence | None:
        """Name who comes next: swapped ones whose readers have caught up, then the longest waiting."""
        for sequence in self.swapped:
            if not sequence.is_ahead:
                return sequence
        return self.waiting[0] if self.waiting else None

    def admit(self, sequence: Sequence) -> None:
        """Move a sequence that has got its row among the running ones."""
        self.remove(sequence)
        self.running.append(sequence)
        self._by_row[sequence.admitted_row] = sequence

    def next_to_preempt(self) -> Sequence | None:
        """Name who makes room: whose reader is behind by the most."""
        behind = [sequence for sequence in self.running if not sequence.is_ready]
        return max(behind, key=lambda sequence: sequence.handle.num_buffered, default=None)

    def preempt(self, sequence: Sequence) -> None:
        """Move a running sequence out of the way; it keeps its row, which holds no device memory any more."""
        self.remove(sequence)
        self.swapped.append(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Forget a sequence, wherever it is, if it is anywhere."""
        if sequence in self.running:
            self.running.remove(sequence)
            del self._by_row[sequence.admitted_row]
        elif sequence in self.swapped:
            self.swapped.remove(sequence)
        elif sequence in self.waiting:
            self.waiting.remove(sequence)

    def clear(self) -> list[Sequence]:
        """Forget everybody, and return them."""
        everybody = [*self.running, *self.swapped, *self.waiting]
        self.running.clear()
        self.swapped.clear()
        self.waiting.clear()
        self._by_row.clear()
        return everybody

    def prompts(self) -> list[Sequence]:
        """List the running sequences whose prompts are not run yet."""
        return [sequence for sequence in self.running if not sequence.is_prefilled]

    def is_urgent(self, now: float) -> bool:
        """Tell whether somebody who is being heard will soon run dry."""
        return any(sequence.slack_s(now, self._sample_rate) < _URGENT_S for sequence in self._going_on())

    def choose_rows(self) -> list[Sequence]:
        """Choose who makes a frame: whose readers are waiting for it; when all are well served, everybody."""
        ready = self._going_on()
        return [sequence for sequence in ready if not sequence.is_ahead] or ready

    def _going_on(self) -> list[Sequence]:
        return [sequence for sequence in self.running if sequence.can_go_on]
