"""A text under rewriting that remembers, character by character, which part of its source it came from.

Knows nothing of what is rewritten or why. `markup.py`, `numbers.py` and `normalize.py` are the passes
that use it.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Edit:
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
        for edit in edits:
            pieces += (self.text[position : edit.start], edit.replacement)
            starts += self.source_starts[position : edit.start]
            ends += self.source_ends[position : edit.start]
            if edit.replacement:
                source_start, source_end = self._source_of(edit)
                starts += array("I", [source_start]) * len(edit.replacement)
                ends += array("I", [source_end]) * len(edit.replacement)
            position = edit.end
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
