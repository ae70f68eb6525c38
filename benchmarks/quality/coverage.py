"""What of a text was said: the longest run of its phonemes that is missing, and the longest that is in no text.

What was heard is aligned with the reference by least cost, where going on with a run is cheaper than opening one, so
that what is missing lies together. Then each phoneme of the reference counts 1 if it was not heard, whether nothing was
or something else, and -1 if it was; the run is the stretch with the greatest sum. A phoneme that fits by chance in the
middle of a lost clause does not end the run, and the errors of a recogniser, which stand alone, never add up to one.
`benchmarks.quality.cuts` measures how often this is right.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

BAR = 8
"""Phonemes in a run that counts as lost: two short words."""

# One of them may seem to be heard, where the sounds at both sides of a gap happen to fit.
_SLACK = 1

# Costs of the alignment; whole numbers, so that ways of the same cost are seen to be the same.
_SUBSTITUTION, _OPENING, _STEP = 4, 2, 3
# What became of a phoneme: heard, something else heard for it, nothing heard for it.
_HEARD, _SWAPPED, _MISSED = -1, 0, 1


@dataclass(frozen=True)
class Run:
    """A stretch of phonemes.

    Attributes:
        score: phonemes that were not heard, less those that were.
        start: first place in the sequence that it is a part of.
        stop: the place after the last.
    """

    score: int = 0
    start: int = 0
    stop: int = 0


@dataclass(frozen=True)
class Coverage:
    """How speech compares with its text.

    Attributes:
        missing: the worst run of the reference that was not heard.
        dropped: the same, but where something else was heard for a phoneme it does not count: what is left out, and
            not what is said badly.
        extra: the worst run of what was heard.
        num_phonemes: of the reference.
        matched: share of the reference that was heard.
    """

    missing: Run
    dropped: Run
    extra: Run
    num_phonemes: int
    matched: float

    @property
    def is_lost(self) -> bool:
        """Whether a run of `BAR` phonemes was not said; of a shorter text, whether nothing was heard for any of it."""
        if self.num_phonemes < BAR:
            return self.dropped.score >= max(1, self.num_phonemes)
        return self.missing.score >= BAR - _SLACK

    @property
    def is_dropped(self) -> bool:
        """Whether it is lost because nothing was said for it."""
        return self.dropped.score >= min(BAR - _SLACK, max(1, self.num_phonemes))

    @property
    def is_extended(self) -> bool:
        """Whether a run of `BAR` phonemes was said that is in no text."""
        return self.extra.score >= BAR - _SLACK


@dataclass(frozen=True)
class Reference:
    """The phonemes that are to be heard.

    Attributes:
        phonemes: their numbers, in order.
        gaps: places in front of which anything may be heard; `len(phonemes)` for the end.
    """

    phonemes: tuple[int, ...]
    gaps: frozenset[int] = field(default_factory=frozenset[int])


def join_parts(parts: Sequence[Sequence[int]], *, judged: Collection[int] = ()) -> Reference:
    """Make a reference of parts: what is judged and the words of a gap in turn, the judged ones first and last.

    Args:
        parts: phonemes of each.
        judged: numbers of gaps whose words count as text; one without words stays a gap.

    >>> join_parts([[1, 2], [3], [4]]).gaps
    frozenset({2})
    """
    phonemes: list[int] = []
    gaps: set[int] = set()
    for number, part in enumerate(parts):
        if number % 2 and not (number in judged and part):
            gaps.add(len(phonemes))
        else:
            phonemes.extend(part)
    return Reference(tuple(phonemes), frozenset(gaps))


def compare(heard: Sequence[int], reference: Reference) -> Coverage:
    """Align what was heard with a reference and find the runs.

    >>> compare([1, 2, 3], Reference(tuple(range(1, 14)))).missing
    Run(score=10, start=3, stop=13)
    """
    found = _compare(heard, reference, 0)
    if not (reference.gaps and found.is_lost):
        return found
    # Where a gap costs nothing, it may swallow words in order to hold what was added elsewhere.
    other = _compare(heard, reference, _STEP)
    return found if other.is_lost else other


def _compare(heard: Sequence[int], reference: Reference, gap_step: int) -> Coverage:
    of_reference, of_heard = _align(heard, reference, gap_step)
    return Coverage(
        missing=_worst_run([fate if fate == _HEARD else _MISSED for fate in of_reference]),
        dropped=_worst_run(of_reference),
        extra=_worst_run([fate if fate == _HEARD else _MISSED for fate in of_heard]),
        num_phonemes=len(reference.phonemes),
        matched=of_reference.count(_HEARD) / max(1, len(of_reference)),
    )


def _align(heard: Sequence[int], reference: Reference, gap_step: int) -> tuple[list[int], list[int]]:
    """Say what became of each phoneme of the reference, and of each that was heard; in a gap all is well."""
    best, extended = _fill(heard, reference, gap_step)
    wanted = reference.phonemes
    row, column = len(heard), len(wanted)
    of_reference, of_heard = [_MISSED] * column, [_MISSED] * row
    while row or column:
        here = best[row, column]
        is_same = bool(row and column) and heard[row - 1] == wanted[column - 1]
        cost = 0 if is_same else _SUBSTITUTION
        if row and column and here == best[row - 1, column - 1] + cost:
            row, column = row - 1, column - 1
            of_reference[column] = of_heard[row] = _HEARD if is_same else _SWAPPED
        elif row and here == extended[row, column]:
            # Back along the run of what is in no text, to where it was opened.
            is_gap = column in reference.gaps
            opening, step = (0, gap_step) if is_gap else (_OPENING, _STEP)
            is_open = True
            while is_open:
                is_open = extended[row, column] != best[row - 1, column] + opening + step
                row -= 1
                of_heard[row] = _HEARD if is_gap else _MISSED
        else:
            length = 1
            while here != best[row, column - length] + _OPENING + length * _STEP:
                length += 1
            column -= length
    return of_reference, of_heard


def _fill(heard: Sequence[int], reference: Reference, gap_step: int) -> tuple[np.ndarray, np.ndarray]:
    """Fill the tables of least cost, [heard + 1, reference + 1]: of all ways, and of those that end in no text."""
    wanted = np.array(reference.phonemes, np.int64)
    columns = np.arange(len(wanted) + 1, dtype=np.int64)
    is_gap = np.isin(columns, sorted(reference.gaps))
    opening, step = np.where(is_gap, 0, _OPENING), np.where(is_gap, gap_step, _STEP)
    best = np.empty((len(heard) + 1, len(wanted) + 1), np.int64)
    extended = np.full_like(best, np.iinfo(np.int32).max)
    best[0] = _OPENING + _STEP * columns
    best[0, 0] = 0
    for row, symbol in enumerate(heard, start=1):
        extended[row] = np.minimum(best[row - 1] + opening, extended[row - 1]) + step
        here = extended[row].copy()
        here[1:] = np.minimum(here[1:], best[row - 1, :-1] + _SUBSTITUTION * (wanted != symbol))
        # A run of the reference costs the same for each column: a running minimum once that slope is taken out.
        opened = np.minimum.accumulate(here - _STEP * columns) + _OPENING + _STEP * columns
        here[1:] = np.minimum(here[1:], opened[:-1] + _STEP)
        best[row] = here
    return best, extended


def _worst_run(counts: Sequence[int]) -> Run:
    """Find the stretch with the greatest sum."""
    worst, total, start = Run(), 0, 0
    for place, count in enumerate(counts):
        if total <= 0:
            total, start = 0, place
        total += count
        if total > worst.score:
            worst = Run(total, start, place + 1)
    return worst
