"""What a file says of itself: title, authors, cover, chapters; as values, for every kind of file.

Read next: `voxtral.book.output.m4b`, `id3` and `vorbis`, which write them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from voxtral.book.output.languages import three_letters
from voxtral.errors import BookError

CoverKind = Literal["jpeg", "png"]

GENRE = "Audiobook"
COMMENT = "Synthetic speech, made with Voxtral TTS"

_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
# Markers that say how large a JPEG is: of frames, without the tables that lie between their numbers.
_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LONE_MARKERS = frozenset((0x01, *range(0xD0, 0xD9)))


@dataclass(frozen=True)
class Cover:
    """A picture.

    Attributes:
        data: the bytes of its file.
        kind: "jpeg" or "png".
        width: in pixels; 0 where the file does not say.
        height: the same.
    """

    data: bytes
    kind: CoverKind
    width: int = 0
    height: int = 0

    @classmethod
    def of(cls, data: bytes) -> Cover:
        """Look at the first bytes of a picture.

        Raises:
            BookError: it is neither JPEG nor PNG.
        """
        if data.startswith(_PNG):
            size = struct.unpack_from(">II", data, 16) if len(data) >= 24 else (0, 0)
            return cls(data, "png", *size)
        if data.startswith(_JPEG):
            return cls(data, "jpeg", *_jpeg_size(data))
        raise BookError("the cover is neither JPEG nor PNG, which is what players show; convert it, or leave it out")

    @property
    def media_type(self) -> str:
        """As files name it."""
        return f"image/{self.kind}"

    @property
    def extension(self) -> str:
        """Of its file."""
        return "jpg" if self.kind == "jpeg" else "png"


@dataclass(frozen=True)
class BookTags:
    """What is known of a book and its speech; what is None or empty is not written.

    Attributes:
        title: of the book.
        authors: in order.
        narrator: whose voice it is.
        language: a tag such as "en-GB".
        publisher: its name.
        date: year, or year, month and day with dashes.
        description: in a few sentences.
        cover: a picture, or None.
        genre: as players sort it.
        comment: says that nobody read this.
    """

    title: str
    authors: tuple[str, ...] = ()
    narrator: str = ""
    language: str | None = None
    publisher: str | None = None
    date: str | None = None
    description: str | None = None
    cover: Cover | None = None
    genre: str = GENRE
    comment: str = COMMENT

    @property
    def artist(self) -> str:
        """All authors as one text, for kinds of tags that have room for one."""
        return ", ".join(filter(None, map(one_line, self.authors)))

    @property
    def language_code(self) -> str:
        """The three letters of ISO 639-2, "und" where the language is not known.

        >>> BookTags("", language="pt-BR").language_code
        'por'
        """
        return three_letters(self.language)


@dataclass(frozen=True)
class FileTags:
    """What one file says: the whole book, or a chapter of it.

    Attributes:
        book: that it belongs to.
        title: of the file.
        track: its number and that of all files; None for a whole book.
    """

    book: BookTags
    title: str
    track: tuple[int, int] | None = None

    @classmethod
    def whole(cls, book: BookTags) -> FileTags:
        """Make those of a file that is the whole book."""
        return cls(book, book.title)


@dataclass(frozen=True)
class ChapterMark:
    """Where a chapter begins.

    Attributes:
        title: as players show it.
        start_samples: of its first sample in the file.
    """

    title: str
    start_samples: int


def one_line(text: str | None) -> str:
    r"""Make a text fit for a tag: white space and controls made plain, halves of surrogates replaced.

    >>> one_line(" Moby Dick;\n or,\x00 The Whale ")
    'Moby Dick; or, The Whale'
    """
    visible = "".join(" " if char < " " or char == "\x7f" else char for char in text or "")
    return " ".join(visible.encode("utf-8", "replace").decode("utf-8").split())


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Find the width and height of a JPEG."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _FRAME_MARKERS:
            height, width = struct.unpack_from(">HH", data, at + 5)
            return width, height
        at += 1 if marker == 0xFF else 2 if marker in _LONE_MARKERS else 2 + struct.unpack_from(">H", data, at + 2)[0]
    return 0, 0
