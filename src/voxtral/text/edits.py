"""A text under rewriting, and one that was rewritten: both know which part of the source each character came from.

Knows nothing of what is rewritten or why. `markup.py`, `reading` and `normalize.py` are passes over a Draft, which
has a place for each character; `clean.py` changes little and makes a NormalizedText at once, by runs.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple


class Edit(NamedTuple):
    """Replace `text[start:end]` by `replacement`; an empty range inserts, an empty replacement deletes."""

    start: int
    end: int
    replacement: str = ""


@dataclass(frozen=True)
class Draft:
    """A text and the source range of each of its characters.

    `source_starts` and `source_ends` are of the length of `text` and never decrease. They are arrays,
    8 bytes a character together, because a tuple of ints would need ten times that for a book.
    """

    text: str
    source_starts: array[int]
    source_ends: array[int]

    @classmethod
    def of(cls, source: str) -> Draft:
        """Start with a text that is its own source."""
        return cls(source, array("I", range(len(source))), array("I", range(1, len(source) + 1)))

    def __getitem__(self, part: slice) -> Draft:
        return Draft(self.text[part], self.source_starts[part], self.source_ends[part])

    def apply(self, edits: Iterable[Edit]) -> Draft:
        """Make all edits at once.

        Args:
            edits: ranges of this text, in order and without overlap.

        Returns:
            The new draft; characters of a replacement all come from the whole source range that it replaces.
        """
        pieces: list[str] = []
        starts, ends = array("I"), array("I")
        position = 0
        text, source_starts, source_ends = self.text, self.source_starts, self.source_ends
        for edit in edits:
            first, last, replacement = edit
            if first > position:
                pieces.append(text[position:first])
                starts += source_starts[position:first]
                ends += source_ends[position:first]
            pieces.append(replacement)
            if replacement:
                source_start, source_end = self._source_of(edit)
                starts += array("I", [source_start]) * len(replacement)
                ends += array("I", [source_end]) * len(replacement)
            position = last
        if not pieces:
            return self
        pieces.append(self.text[position:])
        starts += self.source_starts[position:]
        ends += self.source_ends[position:]
        return Draft("".join(pieces), starts, ends)

    def _source_of(self, edit: Edit) -> tuple[int, int]:
        if edit.start < edit.end:
            return self.source_starts[edit.start], self.source_ends[edit.end - 1]
        if edit.start == 0:
            return 0, 0
        # An insertion comes from the empty place after the character before it; inside of a replacement
        # there is no such place, and the whole of its source stands for it.
        place = self.source_ends[edit.start - 1]
        following = self.source_starts[edit.start] if edit.start < len(self.text) else place
        return min(place, following), place


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
    pieces: list[str] = []
    starts, ends = array("I"), array("I")
    for draft in drafts:
        pieces.append(draft.text)
        starts += draft.source_starts
        ends += draft.source_ends
    return Draft("".join(pieces), starts, ends)


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
