"""Containers whose beginning tells about chapters: what encoders write is passed on, with another beginning.

Chapters are known by title before the first sample, and by place after the last. So a beginning of the same length is
written twice, and nothing is copied. An encoder's own changes to what it wrote go where that is now.

Source: ID3v2.4.0; RFC 9639, 8 (metadata of FLAC); RFC 3533 (Ogg); RFC 7845 (Ogg Opus).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Protocol

from voxtral.book.output.id3 import id3_tag
from voxtral.book.output.tags import ChapterMark, FileTags
from voxtral.book.output.vorbis import comment_block, comments, picture
from voxtral.errors import AudioError

_FLAC_COMMENT, _FLAC_PICTURE, _FLAC_LAST, _FLAC_HEADER_BYTES = 4, 6, 0x80, 4
_FLAC_INFO_BYTES = 34
_MOST_FLAC_BLOCK = 2**24 - 1

_OGG_HEADER_BYTES, _MOST_LACES = 27, 255
_OGG_CONTINUES = 1
_OGG_NO_POSITION = 2**64 - 1
_REVERSED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


class Head(Protocol):
    """Puts another beginning before what an encoder writes."""

    def push(self, data: bytes) -> bytes:
        """Take the next bytes of an encoder, and return those of the file."""
        ...

    def finish(
        self, corrections: Sequence[tuple[int, bytes]], chapters: Sequence[ChapterMark], num_samples: int
    ) -> list[tuple[int, bytes]]:
        """Return what is to be written over the file, as (place, bytes).

        Args:
            corrections: of the encoder to its own bytes.
            chapters: of which the titles are those given before.
            num_samples: of the file.
        """
        ...


class Mp3Head:
    """A tag before an MP3."""

    def __init__(self, tags: FileTags, chapters: Sequence[ChapterMark], sample_rate: int) -> None:
        self._tags, self._rate = tags, sample_rate
        self._tag = id3_tag(tags, chapters, 0, sample_rate)
        self._is_started = False

    def push(self, data: bytes) -> bytes:
        """See Head."""
        if not data or self._is_started:
            return data
        self._is_started = True
        return self._tag + data

    def finish(
        self, corrections: Sequence[tuple[int, bytes]], chapters: Sequence[ChapterMark], num_samples: int
    ) -> list[tuple[int, bytes]]:
        """See Head."""
        head = _same_length(self._tag, id3_tag(self._tags, chapters, num_samples, self._rate))
        return [(0, head), *((place + len(head), data) for place, data in corrections)]


class FlacHead:
    """Blocks of comments and of a picture in place of the encoder's own, behind what it knows of the samples."""

    def __init__(self, tags: FileTags, chapters: Sequence[ChapterMark], sample_rate: int) -> None:
        self._tags, self._rate = tags, sample_rate
        self._blocks = self._make(chapters)
        self._pending = b""
        self._is_started = False

    def push(self, data: bytes) -> bytes:
        """See Head."""
        if self._is_started:
            return data
        self._pending += data
        end = self._own_end()
        if end is None:
            return b""
        self._is_started = True
        # The block of what is known of the samples, which comes first and is not the last one any more.
        info = b"fLaC\0" + self._pending[5 : 8 + _FLAC_INFO_BYTES]
        return info + self._blocks + self._pending[end:]

    def finish(
        self, corrections: Sequence[tuple[int, bytes]], chapters: Sequence[ChapterMark], num_samples: int
    ) -> list[tuple[int, bytes]]:
        """See Head."""
        start = 8 + _FLAC_INFO_BYTES
        if any(place + len(data) > start for place, data in corrections):
            raise AudioError("got changes of the encoder to more than what it knows of the samples; use another format")
        return [*corrections, (start, _same_length(self._blocks, self._make(chapters)))]

    def _make(self, chapters: Sequence[ChapterMark]) -> bytes:
        cover = self._tags.book.cover
        blocks = [(_FLAC_COMMENT, comment_block(comments(self._tags, chapters, self._rate, has_picture=False)))]
        if cover is not None:
            blocks.append((_FLAC_PICTURE, picture(cover)))
        made: list[bytes] = []
        for number, (kind, data) in enumerate(blocks, start=1):
            if len(data) > _MOST_FLAC_BLOCK:
                raise AudioError(f"got {len(data)} bytes for tags or cover of a FLAC; 16 MiB are the most: take less")
            made.append(struct.pack(">I", (kind | _FLAC_LAST * (number == len(blocks))) << 24 | len(data)) + data)
        return b"".join(made)

    def _own_end(self) -> int | None:
        """Find the end of the encoder's own blocks; None where they have not all come."""
        at, is_last = 4, False
        while not is_last:
            if at + _FLAC_HEADER_BYTES > len(self._pending):
                return None
            (header,) = struct.unpack_from(">I", self._pending, at)
            is_last = bool(header >> 24 & _FLAC_LAST)
            at += _FLAC_HEADER_BYTES + (header & 0xFFFFFF)
        return at if at <= len(self._pending) else None


class OpusHead:
    """Pages of comments in place of the encoder's own; the pages behind are numbered again."""

    def __init__(self, tags: FileTags, chapters: Sequence[ChapterMark], sample_rate: int) -> None:
        self._tags, self._rate = tags, sample_rate
        self._chapters = chapters
        self._pending = b""
        self._first = b""
        self._own_pages = b""
        self._num_pages = 0
        self._is_in_comments = True

    def push(self, data: bytes) -> bytes:
        """See Head."""
        self._pending += data
        made: list[bytes] = []
        at = 0
        while (end := _page_end(self._pending, at)) is not None:
            made.append(self._take(self._pending[at:end]))
            at = end
        self._pending = self._pending[at:]
        return b"".join(made)

    def finish(
        self, corrections: Sequence[tuple[int, bytes]], chapters: Sequence[ChapterMark], num_samples: int
    ) -> list[tuple[int, bytes]]:
        """See Head."""
        if corrections or self._pending or not self._own_pages:
            raise AudioError("got an Ogg stream that is not whole; make the file again, or use another format")
        self._chapters = chapters
        return [(len(self._first), _same_length(self._own_pages, self._make()))]

    def _take(self, page: bytes) -> bytes:
        if not self._first:
            self._first = page
            self._num_pages = 1
            return page
        if self._is_in_comments:
            # A packet ends on a page whose last lace is not full.
            self._is_in_comments = page[_OGG_HEADER_BYTES + page[26] - 1] == 255
            if self._is_in_comments:
                return b""
            self._own_pages = self._make()
            self._num_pages += _count_pages(self._own_pages)
            return self._own_pages
        numbered = _with_checksum(page[:18] + struct.pack("<I", self._num_pages) + page[22:])
        self._num_pages += 1
        return numbered

    def _make(self) -> bytes:
        """Make the pages of comments."""
        packet = b"OpusTags" + comment_block(comments(self._tags, self._chapters, self._rate, has_picture=True))
        laces = [255] * (len(packet) // 255) + [len(packet) % 255]
        serial = self._first[14:18]
        pages: list[bytes] = []
        for start in range(0, len(laces), _MOST_LACES):
            here = laces[start : start + _MOST_LACES]
            # No position where no packet ends.
            position = 0 if start + _MOST_LACES >= len(laces) else _OGG_NO_POSITION
            head = struct.pack("<4sBBQ", b"OggS", 0, _OGG_CONTINUES if start else 0, position)
            head += serial + struct.pack("<IIB", 1 + len(pages), 0, len(here)) + bytes(here)
            pages.append(_with_checksum(head + packet[start * 255 : start * 255 + sum(here)]))
        return b"".join(pages)


def _page_end(data: bytes, at: int) -> int | None:
    """Find the end of a page of Ogg; None where it has not all come."""
    if at + _OGG_HEADER_BYTES > len(data):
        return None
    if data[at : at + 4] != b"OggS":
        raise AudioError("got bytes from the Opus encoder that are no Ogg; make the file again, or use another format")
    laces = data[at + _OGG_HEADER_BYTES : at + _OGG_HEADER_BYTES + data[at + 26]]
    end = at + _OGG_HEADER_BYTES + data[at + 26] + sum(laces)
    return end if len(laces) == data[at + 26] and end <= len(data) else None


def _count_pages(data: bytes) -> int:
    count, at = 0, 0
    while (end := _page_end(data, at)) is not None:
        count, at = count + 1, end
    return count


def _with_checksum(page: bytes) -> bytes:
    """Renew the checksum of a page.

    It is that of zip files with its bits the other way round and begun at zero, so that the fast one does it.
    """
    mirrored = (page[:22] + bytes(4) + page[26:]).translate(_REVERSED)
    checksum = zlib.crc32(mirrored, 0xFFFFFFFF) ^ 0xFFFFFFFF
    return page[:22] + struct.pack(">I", checksum).translate(_REVERSED) + page[26:]


def _same_length(before: bytes, after: bytes) -> bytes:
    if len(before) != len(after):
        raise AudioError("got chapters other than those that were begun with; make the file again with these")
    return after
