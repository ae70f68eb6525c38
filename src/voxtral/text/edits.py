"""A text under rewriting, and one that was rewritten: both know which part of the source each character came from.

Knows nothing of what is rewritten or why. `markup.py`, `reading` and `normalize.py` are passes over a Draft; `clean.py`
makes a NormalizedText at once. Both map by runs, a few for each change, so that a long text costs little.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple


class Edit(NamedTuple):
    """Replace `text[start:end]` by `replacement`; an empty range inserts, an empty replacement deletes."""

    start: int
    end: int
    replacement: str = ""


class Run(NamedTuple):
    """A stretch of normalised text, from `start` to the start of the next run, and where it came from.

    A verbatim run maps character by character; any part of another run comes from its whole source.
    """

    start: int
    source_start: int
    source_end: int
    is_verbatim: bool


@dataclass(frozen=True)
class NormalizedText:
    """A text for speech and its map back to the source.

    Attributes:
        text: the normalised text; paragraphs are separated by a blank line.
        runs: stretches of `text` in order; a few for each change, not one for each character.
    """

    text: str
    runs: tuple[Run, ...]

    def source_span(self, start: int, end: int) -> tuple[int, int]:
        """Map a span of the text to the span of the source that it came from.

        Args:
            start: first character of the span.
            end: the character after the last one, at least `start`.

        Returns:
            Start (inclusive) and end (exclusive) in the source. What was removed belongs to a span only
            if both of its neighbours do. Never decreasing in either argument.

        Raises:
            IndexError: the span does not lie within the text.

        >>> normalized = rewrite("Pay 5 now", [Edit(4, 5, "five")])
        >>> normalized.text
        'Pay five now'
        >>> normalized.source_span(4, 8)
        (4, 5)
        """
        if not 0 <= start <= end <= len(self.text):
            raise IndexError(
                f"span ({start}, {end}) of a text of {len(self.text)} characters; pass 0 <= start <= end <= length"
            )
        if start == end:
            place = self._source_of(start)[0] if start < len(self.text) else self._end
            return place, place
        return self._source_of(start)[0], self._source_of(end - 1)[1]

    def place_of(self, source: int) -> int:
        """Find the first character that came from no earlier than an offset of the source; the length if none did."""
        return bisect_left(range(len(self.text)), source, key=lambda position: self._source_of(position)[0])

    def may_part(self, end: int, start: int) -> bool:
        """Tell whether the text may be cut: not where the sources of both sides overlap, as inside a number's words.

        Args:
            end: the character after the last one of what goes before.
            start: first character of what follows, at least `end`.
        """
        if not 0 < end <= start < len(self.text):
            return True
        return self._source_of(end - 1)[1] <= self._source_of(start)[0]

    def num_written(self, start: int, end: int) -> int:
        """Count the characters of the source that a span came from."""
        first, last = self.source_span(start, end)
        return last - first

    def through(self, earlier: NormalizedText) -> NormalizedText:
        """Lead back to an earlier source: that of the text that this one was made from.

        Args:
            earlier: what was rewritten first; its text is the source of this one.
        """
        runs: list[Run] = []
        for run in self.runs:
            if run.is_verbatim:
                runs += earlier.runs_between(run.source_start, run.source_end, at=run.start)
            else:
                source_start, source_end = earlier.source_span(run.source_start, run.source_end)
                runs.append(Run(run.start, source_start, source_end, False))
        return NormalizedText(self.text, tuple(runs))

    def runs_between(self, start: int, end: int, *, at: int) -> Iterator[Run]:
        """Give the runs of a span as they are where the span stands at another offset, `at`."""
        for index in range(max(0, bisect_right(self._run_starts, start) - 1), len(self.runs)):
            run = self.runs[index]
            first = max(start, run.start)
            if first >= end:
                return
            if not run.is_verbatim:
                yield Run(at + first - start, run.source_start, run.source_end, False)
                continue
            run_end = self.runs[index + 1].start if index + 1 < len(self.runs) else len(self.text)
            source_start = run.source_start + first - run.start
            yield Run(at + first - start, source_start, source_start + min(end, run_end) - first, True)

    @cached_property
    def _run_starts(self) -> array[int]:
        return array("I", (run.start for run in self.runs))

    @property
    def _end(self) -> int:
        return self._source_of(len(self.text) - 1)[1] if self.text else 0

    def _source_of(self, position: int) -> tuple[int, int]:
        run = self.runs[bisect_right(self._run_starts, position) - 1]
        if not run.is_verbatim:
            return run.source_start, run.source_end
        source = run.source_start + position - run.start
        return source, source + 1


@dataclass(frozen=True)
class Draft(NormalizedText):
    """A text that is being rewritten: each pass makes another draft of it, with a map back to the first source."""

    @classmethod
    def of(cls, source: str) -> Draft:
        """Start with a text that is its own source."""
        return cls(source, (Run(0, 0, len(source), True),) if source else ())

    @classmethod
    def from_sources(cls, text: str, starts: Sequence[int], ends: Sequence[int]) -> Draft:
        """Make a draft of a text whose characters have their sources listed.

        Args:
            text: what it says.
            starts: where the source of each character starts, never decreasing.
            ends: where it ends, never decreasing.
        """
        runs = _Runs()
        for place, (start, end) in enumerate(zip(starts, ends, strict=True)):
            # The first character of a replacement is no character of the source.
            is_verbatim = end == start + 1 and (place + 1 == len(starts) or starts[place + 1] > start)
            is_first = place == 0 or (starts[place - 1], ends[place - 1]) != (start, end)
            runs.add(1, start, end, is_verbatim and is_first)
        return cls(text, runs.finished())

    def __getitem__(self, part: slice) -> Draft:
        start, stop, _ = part.indices(len(self.text))
        if start == 0 and stop == len(self.text):
            return self
        return Draft(self.text[part], tuple(self.runs_between(start, stop, at=0)))

    def apply(self, edits: Iterable[Edit]) -> Draft:
        """Make all edits at once.

        Args:
            edits: ranges of this text, in order and without overlap.

        Returns:
            The new draft; characters of a replacement all come from the whole source range that it replaces. This one
            where there are no edits.
        """
        text, old = self.text, self.runs
        bounds = [*(run.start for run in old), len(text)]
        pieces: list[str] = []
        runs = _Runs()
        add = runs.add
        # `old[index]` is the run of the character at `position`; `offset` leads to its source, if it is verbatim.
        position = index = end = offset = 0
        for first, last, replacement in edits:
            if last > end or first == last:
                index = runs.copy(old, bounds, index, position, first)
                if replacement:
                    add(len(replacement), *self._source_of_edit(first, last, replacement))
                while index + 1 < len(old) and bounds[index + 1] <= last:
                    index += 1
                # Most edits lie in one long stretch of the source.
                end = bounds[index + 1] if old and old[index].is_verbatim else 0
                offset = old[index].source_start - bounds[index] if old else 0
            else:
                if first > position:
                    add(first - position, offset + position, offset + first, True)
                if replacement:
                    add(len(replacement), offset + first, offset + last, len(replacement) == last - first == 1)
            pieces += (text[position:first], replacement)
            position = last
        if not pieces:
            return self
        pieces.append(text[position:])
        runs.copy(old, bounds, index, position, len(text))
        return Draft("".join(pieces), runs.finished())

    def _source_of_edit(self, first: int, last: int, replacement: str) -> tuple[int, int, bool]:
        """Give the source of what replaces a span, and whether it is a character for a character of the source."""
        if first == last:
            return (*self._place_before(first), False)
        source_start, source_end = self.source_span(first, last)
        is_one = len(replacement) == last - first == source_end - source_start == 1
        return source_start, source_end, is_one and self._is_verbatim(first)

    def _is_verbatim(self, position: int) -> bool:
        return self.runs[bisect_right(self._run_starts, position) - 1].is_verbatim

    def _place_before(self, position: int) -> tuple[int, int]:
        """Give the source of what is inserted at a place."""
        if position == 0:
            return 0, 0
        # An insertion comes from the empty place after the character before it; inside of a replacement
        # there is no such place, and the whole of its source stands for it.
        place = self._source_of(position - 1)[1]
        following = self._source_of(position)[0] if position < len(self.text) else place
        return min(place, following), place


class _Runs:
    """Puts runs together: what goes on where the one before ends is one with it."""

    def __init__(self) -> None:
        self._runs: list[Run] = []
        self._length = 0
        # The run that is not finished: its start and source.
        self._start = 0
        self._source_start: int = -1
        self._source_end: int = -1
        self._is_verbatim = False

    def add(self, length: int, source_start: int, source_end: int, is_verbatim: bool) -> None:
        """Add some characters with their source; `is_verbatim`: each is one character of it."""
        if is_verbatim and self._is_verbatim and source_start == self._source_end:
            self._source_end = source_end
        elif is_verbatim or self._is_verbatim or source_start != self._source_start or source_end != self._source_end:
            if self._length > self._start:
                self._runs.append(Run(self._start, self._source_start, self._source_end, self._is_verbatim))
            self._start, self._is_verbatim = self._length, is_verbatim
            self._source_start, self._source_end = source_start, source_end
        self._length += length

    def copy(self, old: Sequence[Run], bounds: Sequence[int], index: int, start: int, stop: int) -> int:
        """Add the runs of a span that is kept.

        Args:
            old: all runs of a text.
            bounds: where each starts, and the end of the last.
            index: of the run of the first character, or of one before.
            start: of the span.
            stop: its end, at least its start.

        Returns:
            The index of the run of the last character; `index` for an empty span.
        """
        while start < stop:
            while bounds[index + 1] <= start:
                index += 1
            begin, source_start, source_end, is_verbatim = old[index]
            end = min(bounds[index + 1], stop)
            if is_verbatim:
                source_start += start - begin
                source_end = source_start + end - start
            self.add(end - start, source_start, source_end, is_verbatim)
            is_whole = begin == start and end == bounds[index + 1]
            start = end
            if is_whole and index + 2 < len(old) and bounds[index + 2] <= stop:
                # Those between were no one run before.
                last = bisect_right(bounds, stop, index + 1) - 1
                self._move(old, bounds, index + 1, last)
                index, start = last - 1, bounds[last]
        return index

    def _move(self, old: Sequence[Run], bounds: Sequence[int], first: int, last: int) -> None:
        """Add whole runs, which do not go on from the one before."""
        self.add(0, -1, -1, False)
        shift = self._length - bounds[first]
        moved = old[first:last]
        self._runs += [Run(run[0] + shift, *run[1:]) for run in moved] if shift else moved
        self._start = self._length = bounds[last] + shift

    def finished(self) -> tuple[Run, ...]:
        """Give all of them."""
        self.add(0, -1, -1, False)
        return tuple(self._runs)


def rewrite(text: str, edits: Iterable[Edit]) -> NormalizedText:
    """Make all edits of a text at once.

    Args:
        text: the source.
        edits: ranges of it that are not empty, in order and without overlap.

    Returns:
        The new text; the same object where there was nothing to do.
    """
    pieces: list[str] = []
    runs: list[Run] = []
    position = length = 0
    for edit in edits:
        if edit.start > position:
            runs.append(Run(length, position, edit.start, True))
            pieces.append(text[position : edit.start])
            length += edit.start - position
        if edit.replacement:
            runs.append(Run(length, edit.start, edit.end, False))
            pieces.append(edit.replacement)
            length += len(edit.replacement)
        position = edit.end
    if position < len(text):
        runs.append(Run(length, position, len(text), True))
        pieces.append(text[position:])
    return NormalizedText("".join(pieces) if position else text, tuple(runs))


def join_drafts(drafts: Iterable[Draft]) -> Draft:
    """Put parts of one draft, in order, together again."""
    parts = [draft for draft in drafts if draft.text]
    if len(parts) == 1:
        return parts[0]
    runs = _Runs()
    for draft in parts:
        bounds = [*(run.start for run in draft.runs), len(draft.text)]
        runs.copy(draft.runs, bounds, 0, 0, len(draft.text))
    return Draft("".join(draft.text for draft in parts), runs.finished())


def share_out(edit: Edit, stops: list[int], words: list[str], before: str, after: str, joint: str) -> Iterator[Edit]:
    """Share an edit out among the pieces of its source.

    Args:
        edit: the whole.
        stops: where each piece but the last ends in the source.
        words: of each piece.
        before: what stands before the first words.
        after: what stands after the last ones.
        joint: what stands between.
    """
    starts = [edit.start, *stops]
    for index, (start, end) in enumerate(zip(starts, [*stops, edit.end], strict=True)):
        lead = before if index == 0 else joint
        yield Edit(start, end, lead + words[index] + (after if end == edit.end else ""))
