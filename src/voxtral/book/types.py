"""What a book is once it has been read: chapters of blocks, what was left out and why, what was wrong with the file.

Nothing here knows a file format. Read next: `voxtral.book.reading`, which makes books.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

BlockKind = Literal["heading", "paragraph", "verse", "quote", "item", "row", "code", "note", "caption", "break"]
Role = Literal["body", "front", "back", "notes"]
RubyMode = Literal["auto", "base", "reading"]
NotesMode = Literal["skip", "inline", "end"]
TablesMode = Literal["rows", "skip"]
CodeMode = Literal["skip", "read"]


@dataclass(frozen=True)
class SourceRef:
    """Where text stands in a book.

    Attributes:
        file: of the archive; of a single file its name.
        fragment: the nearest id at or around its beginning, if there is one.
        start: offset of its first character in the decoded file.
        end: offset behind its last one.
    """

    file: str
    fragment: str | None
    start: int
    end: int


@dataclass(frozen=True)
class Block:
    """A paragraph, or what stands like one.

    Attributes:
        kind: what it is; a "break" has no text.
        text: to be spoken, white space made plain.
        source: where it stands.
        level: of a heading, 1 to 6; else 0.
        language: the tag that the file gives it; None where the book's holds.
        num_added: letters of `text` that do not stand in the file at this place: repeated headers of a table, the
            letter of an item, what a picture is said to show.
    """

    kind: BlockKind
    text: str
    source: SourceRef
    level: int = 0
    language: str | None = None
    num_added: int = 0


@dataclass(frozen=True)
class Omission:
    """Text of a book that is not spoken.

    Attributes:
        text: as it stands there.
        why: in a few words, such as "note reference".
        source: where.
    """

    text: str
    why: str
    source: SourceRef


@dataclass(frozen=True)
class Mark:
    """An entry of the table of contents within a chapter.

    Attributes:
        title: of the entry.
        level: 0 for the outermost.
        block: index of the block in its chapter that it stands before.
    """

    title: str
    level: int
    block: int


@dataclass(frozen=True)
class Chapter:
    """A chapter, as the table of contents has it.

    Attributes:
        number: from 1, in reading order, those included that are not spoken.
        title: by the table of contents, else by its heading; "" where there is none.
        level: of its entry, 0 for the outermost.
        blocks: in reading order.
        role: which part of the book it belongs to.
        is_spoken: whether it is read by default.
        why: it is not; "" for one that is.
        marks: deeper entries that stand in it.
    """

    number: int
    title: str
    level: int
    blocks: tuple[Block, ...]
    role: Role = "body"
    is_spoken: bool = True
    why: str = ""
    marks: tuple[Mark, ...] = ()

    @property
    def num_chars(self) -> int:
        """Characters of its text."""
        return sum(len(block.text) for block in self.blocks)


@dataclass(frozen=True)
class BookLimits:
    """What a book may be at most; beyond that it is refused before it is read.

    Attributes:
        num_members: files of an archive.
        num_text_bytes: of all documents together, unpacked.
        ratio: of unpacked to packed bytes of a file above 1 MB.
        depth: tags within tags; what is deeper is read as if it stood there.
        num_cover_bytes: of a cover; a larger one is left out.
    """

    num_members: int = 2000
    num_text_bytes: int = 200_000_000
    ratio: int = 100
    depth: int = 256
    num_cover_bytes: int = 20_000_000


@dataclass(frozen=True)
class Book:
    """A book that has been read.

    Attributes:
        title: "" where the file names none.
        authors: in order.
        language: tag, such as "en-GB"; None where the file names none, or an unknown one.
        publisher: or None; so are `date`, `identifier`, `rights` and `description`.
        cover: a JPEG or PNG, or None.
        chapters: in reading order.
        omissions: what was left out within chapters.
        warnings: what was wrong with the file, a sentence each.
    """

    title: str
    authors: tuple[str, ...]
    language: str | None
    chapters: tuple[Chapter, ...]
    publisher: str | None = None
    date: str | None = None
    identifier: str | None = None
    rights: str | None = None
    description: str | None = None
    cover: bytes | None = None
    omissions: tuple[Omission, ...] = ()
    warnings: tuple[str, ...] = ()


def count_letters(text: str) -> int:
    """Count letters, which is what must not get lost.

    >>> count_letters("Kapitel 3: Ö!")
    8
    """
    return sum(map(str.isalpha, text))
