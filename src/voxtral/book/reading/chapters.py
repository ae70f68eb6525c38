"""Documents in order and a table of contents to chapters: cut at its entries, inside documents too.

Read next: `voxtral.book.reading.epub`.
"""

from __future__ import annotations

import posixpath
import re
import statistics
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from voxtral.book.reading.contents import Entry
from voxtral.book.reading.document import Document, block_at
from voxtral.book.reading.matter import (
    GUTENBERG_END,
    GUTENBERG_MAKERS,
    GUTENBERG_START,
    GUTENBERG_WHY,
    is_back,
    is_of_notes,
    matter_of_title,
)
from voxtral.book.types import Block, Chapter, Mark, NotesMode, Omission, Role, count_letters

MOST_CHAPTERS, LEAST_MEDIAN_CHARS = 120, 1500
# A heading this long is a paragraph that looks large.
_MOST_TITLE_CHARS = 160
_MOST_TITLE_LETTERS = 300
# A heading that says no more than which chapter it is; the one below it is its title.
_NUMBER = re.compile(r"(?:\w+\s+)?(?:[IVXLCDM]{1,8}|\d{1,4})\W{0,2}")

Place = tuple[int, int]
"""Index of a document, and of a block in it."""


@dataclass(frozen=True)
class Page:
    """A document of the reading order.

    Attributes:
        path: in the archive.
        document: what was read of it.
        why: the whole of it is left out; "" for what is not.
    """

    path: str
    document: Document
    why: str = ""


@dataclass(frozen=True)
class Cut:
    """Where a chapter begins, or a mark stands."""

    title: str
    level: int
    place: Place


@dataclass(frozen=True)
class Division:
    """A book in chapters, and what was left out of them."""

    chapters: tuple[Chapter, ...]
    omissions: tuple[Omission, ...]


def divide(
    pages: Sequence[Page],
    entries: Sequence[Entry],
    notes: NotesMode,
    depth: int | None,
    warnings: list[str],
    title: str = "",
) -> Division:
    """Make chapters.

    Args:
        pages: in reading order.
        entries: of the table of contents.
        notes: what becomes of notes.
        depth: levels of the table that make chapters, from 1; None chooses.
        warnings: to be added to.
        title: of the book, by which its title page is known.
    """
    licence = _licence_of(pages)
    cuts = _cuts_of_entries(pages, entries, warnings)
    if not cuts:
        cuts = _cuts_of_headings(pages) or _cuts_of_documents(pages)
    levels = _choose_levels(pages, cuts) if depth is None else max(1, depth)
    chosen = _first_of_places([cut for cut in cuts if cut.level < levels])
    starts = [cut.place for cut in chosen]
    if not starts or starts[0] != (0, 0):
        first = pages[0].document.title if pages and not entries else ""
        chosen = [Cut(first, 0, (0, 0)), *chosen]
    bodies = _note_bodies(pages)
    chapters: list[Chapter] = []
    omissions: list[Omission] = [omission for page in pages for omission in page.document.omissions]
    for number, cut in enumerate(chosen):
        stop = chosen[number + 1].place if number + 1 < len(chosen) else (len(pages), 0)
        part = _Part(pages, cut, stop, licence, notes, bodies, title)
        chapter = part.chapter(cuts, len(chapters) + 1, is_first=not any(each.is_spoken for each in chapters))
        omissions += part.omissions
        if chapter is not None:
            chapters.append(chapter)
    return Division(tuple(chapters), tuple(omissions))


class _Part:
    """The blocks from one cut to the next."""

    def __init__(
        self,
        pages: Sequence[Page],
        cut: Cut,
        stop: Place,
        licence: tuple[Place, Place],
        notes: NotesMode,
        bodies: dict[str, list[Block]],
        title: str,
    ) -> None:
        self._title = title
        self._cut, self._stop = cut, stop
        self.blocks: list[Block] = []
        self.places: list[Place] = []
        self.omissions: list[Omission] = []
        self._reasons: list[tuple[Block, str]] = []
        self._notes: list[Block] = []  # that are not said
        self._are_skipped = notes == "skip"
        at_end: list[Block] = []
        for place in _places(pages, cut.place, stop):
            page, index = pages[place[0]], place[1]
            block, note = page.document.blocks[index], page.document.note_ids[index]
            why = page.why or page.document.matters[index]
            if not licence[0] <= place < licence[1]:
                why = GUTENBERG_WHY
            if why:
                self._reasons.append((block, why))
            elif note is None:
                self._take(block, place)
                if notes == "inline":
                    self._take_called(page, place, bodies)
            elif notes == "skip":
                self._notes.append(block)
            elif notes == "end":
                at_end.append(block)
            elif not _is_called(note, page.path, bodies):
                self._take(block, place)
        for block in at_end:
            self._take(block, stop)

    def _take_called(self, page: Page, place: Place, bodies: dict[str, list[Block]]) -> None:
        for target in page.document.calls.get(place[1], ()):
            for note in bodies.get(_target(page.path, target), ()):
                self._take(note, place)

    def _take(self, block: Block, place: Place) -> None:
        self.blocks.append(block)
        self.places.append(place)

    def chapter(self, cuts: Sequence[Cut], number: int, *, is_first: bool) -> Chapter | None:
        """Make the chapter; None where there is nothing at all."""
        title = self._cut.title
        if not any(count_letters(block.text) or any(map(str.isdigit, block.text)) for block in self.blocks):
            if not self._reasons and self._notes:
                return Chapter(number, title, self._cut.level, tuple(self._notes), "notes", False, "notes")
            self._leave_notes()
            if not self._reasons:
                return None
            why = self._reasons[0][1]
            blocks = tuple(block for block, _ in self._reasons)
            role: Role = "back" if is_back(why) or (why == GUTENBERG_WHY and number > 1) else "front"
            return Chapter(number, title or why, self._cut.level, blocks, role, False, why)
        self._leave_notes()
        self.omissions += [Omission(block.text, why, block.source) for block, why in self._reasons]
        why = (
            matter_of_title(title)
            or self._of_heading()
            or self._of_notes()
            or (self._of_title_page() if is_first else "")
        )
        role = "notes" if is_of_notes(title) else "back" if is_back(why) else "front" if why else "body"
        if not why and not any(count_letters(block.text) for block in self.blocks):
            why = "no letters"
        marks = [
            Mark(cut.title, cut.level, self._index_of(cut.place))
            for cut in cuts
            if self._cut.place <= cut.place < self._stop and cut != self._cut and cut.title
        ]
        return Chapter(number, title, self._cut.level, tuple(self.blocks), role, not why, why, tuple(marks))

    def _of_heading(self) -> str:
        """Tell what a chapter without a title, or with one of its own, is by the heading that it begins with."""
        first = next((block for block in self.blocks if block.kind != "break"), None)
        if first is None or first.kind != "heading" or self._cut.title:
            return ""
        return matter_of_title(first.text)

    def _of_notes(self) -> str:
        """Tell whether this is a chapter of notes that are not said, or of which all have been said elsewhere."""
        is_empty = all(block.kind in ("heading", "break") for block in self.blocks)
        return "notes" if is_of_notes(self._cut.title) and (self._are_skipped or is_empty) else ""

    def _of_title_page(self) -> str:
        """Tell whether this is the page with the title that a book begins with: short, with the title and more."""
        title = _letters(self._title)
        said = [_letters(block.text) for block in self.blocks]
        has_title = bool(title) and title in said and len(said) > 1
        return "title page" if has_title and sum(map(len, said)) < _MOST_TITLE_LETTERS else ""

    def _leave_notes(self) -> None:
        self.omissions += [Omission(block.text, "note", block.source) for block in self._notes]

    def _index_of(self, place: Place) -> int:
        return bisect_left(self.places, place)


def _places(pages: Sequence[Page], start: Place, stop: Place) -> list[Place]:
    places: list[Place] = []
    for page in range(start[0], min(stop[0] + 1, len(pages))):
        first = start[1] if page == start[0] else 0
        last = stop[1] if page == stop[0] else len(pages[page].document.blocks)
        places += [(page, index) for index in range(first, last)]
    return places


def _cuts_of_entries(pages: Sequence[Page], entries: Sequence[Entry], warnings: list[str]) -> list[Cut]:
    by_path = {page.path: index for index, page in reversed(list(enumerate(pages)))}
    by_small = {page.path.lower(): index for index, page in reversed(list(enumerate(pages)))}
    cuts: list[Cut] = []
    for entry in entries:
        if entry.path is None:
            continue
        page = by_path.get(entry.path, by_small.get(entry.path.lower()))
        if page is None:
            warnings.append(f"the table of contents names {entry.path}, which is not among the texts: {entry.title}")
            continue
        document = pages[page].document
        if entry.fragment and entry.fragment not in document.ids:
            warnings.append(f"the table of contents names a place #{entry.fragment} that {entry.path} has not")
        cuts.append(Cut(entry.title, entry.level, (page, block_at(document, entry.fragment))))
    return sorted(cuts, key=lambda cut: cut.place)


def _cuts_of_headings(pages: Sequence[Page]) -> list[Cut]:
    """Cut at first and second headings; one right below another belongs to it."""
    cuts: list[Cut] = []
    last: Place | None = None
    for number, page in enumerate(pages):
        for index, block in enumerate(page.document.blocks):
            if block.kind == "break" or page.why:
                continue
            is_title = block.kind == "heading" and block.level <= 2 and len(block.text) <= _MOST_TITLE_CHARS
            follows = last is not None and cuts and last == (number, index - 1) and cuts[-1].place == last
            if is_title and not follows:
                cuts.append(Cut(block.text, 0, (number, index)))
            elif follows and block.kind == "heading" and _NUMBER.fullmatch(cuts[-1].title):
                cuts[-1] = Cut(f"{cuts[-1].title}: {block.text}", 0, cuts[-1].place)
            last = (number, index)
    return cuts if len(cuts) > 1 else []


def _cuts_of_documents(pages: Sequence[Page]) -> list[Cut]:
    cuts: list[Cut] = []
    for number, page in enumerate(pages):
        first = next((block.text for block in page.document.blocks if block.kind == "heading"), "")
        if page.document.blocks:
            cuts.append(Cut(first or page.document.title, 0, (number, 0)))
    return cuts


def _first_of_places(cuts: Sequence[Cut]) -> list[Cut]:
    """Keep the outermost of entries that mean the same place."""
    kept: dict[Place, Cut] = {}
    for cut in cuts:
        if cut.place not in kept or cut.level < kept[cut.place].level:
            kept[cut.place] = cut
    return [kept[place] for place in sorted(kept)]


def _choose_levels(pages: Sequence[Page], cuts: Sequence[Cut]) -> int:
    """Choose the most levels that leave chapters of some length, and not too many of them."""
    sizes = [[len(block.text) for block in page.document.blocks] for page in pages]
    best = 1
    for levels in range(1, 1 + max((cut.level for cut in cuts), default=0) + 1):
        starts = [cut.place for cut in _first_of_places([cut for cut in cuts if cut.level < levels])]
        if not starts:
            continue
        stops = [*starts[1:], (len(pages), 0)]
        lengths = [
            sum(sizes[page][index] for page, index in _places(pages, start, stop))
            for start, stop in zip(starts, stops, strict=True)
        ]
        lengths = [length for length in lengths if length]
        if lengths and len(lengths) <= MOST_CHAPTERS and statistics.median(lengths) >= LEAST_MEDIAN_CHARS:
            best = levels
    return best


def _licence_of(pages: Sequence[Page]) -> tuple[Place, Place]:
    """Find where the text of a book of Project Gutenberg begins and ends; all of another."""
    start, end = (0, 0), (len(pages), 0)
    for page, each in enumerate(pages):
        for index, block in enumerate(each.document.blocks):
            if start == (0, 0) and GUTENBERG_START.search(block.text):
                start = (page, index + 1)
            elif end == (len(pages), 0) and GUTENBERG_END.match(block.text):
                end = (page, index)
            elif start == (page, index) != (0, 0) and GUTENBERG_MAKERS.fullmatch(block.text):
                start = (page, index + 1)
    return start, max(start, end)


def _note_bodies(pages: Sequence[Page]) -> dict[str, list[Block]]:
    bodies: dict[str, list[Block]] = {}
    called = {
        _target(page.path, target) for page in pages for targets in page.document.calls.values() for target in targets
    }
    for page in pages:
        for block, name in zip(page.document.blocks, page.document.note_ids, strict=True):
            key = f"{page.path}#{name}"
            if name and key in called:
                bodies.setdefault(key, []).append(block)
    return bodies


def _is_called(name: str | None, path: str, bodies: dict[str, list[Block]]) -> bool:
    return f"{path}#{name}" in bodies


def _target(path: str, href: str) -> str:
    file, _, fragment = unquote(href).partition("#")
    return f"{posixpath.normpath(posixpath.join(posixpath.dirname(path), file)) if file else path}#{fragment}"


def _letters(text: str) -> str:
    return "".join(filter(str.isalpha, text.casefold()))
