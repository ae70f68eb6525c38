"""The tag before an MP3: title, authors, cover, and chapters with their times. All text is UTF-8.

Its length does not depend on the times, so that a tag of zeros can be replaced once they are known.

Source: ID3v2.4.0 (structure and native frames); ID3v2 Chapter Frame Addendum 1.0.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from voxtral.book.output.tags import ChapterMark, FileTags, one_line
from voxtral.errors import AudioError

_UTF8 = b"\3"
_FRONT_COVER = b"\3"
_IS_TOP, _IS_ORDERED = 2, 1
# A table of contents counts in one byte; more chapters stand in tables within the table.
_MOST_CHILDREN = 255
_NO_OFFSET = 0xFFFFFFFF
_MOST_BYTES = 2**28 - 1


def id3_tag(tags: FileTags, chapters: Sequence[ChapterMark], num_samples: int, sample_rate: int) -> bytes:
    """Make the tag.

    Args:
        tags: of the file.
        chapters: in order; where they begin may be wrong yet.
        num_samples: of the file; where its last chapter ends.
        sample_rate: in Hz.

    Raises:
        AudioError: it has 256 MiB or more, which is too much.
    """
    body = b"".join([*_texts(tags), *_chapters(chapters, num_samples, sample_rate), *_cover(tags)])
    return b"ID3\4\0\0" + _syncsafe(len(body)) + body


def _texts(tags: FileTags) -> list[bytes]:
    book = tags.book
    # Several values of one kind are parted by a zero.
    authors = "\0".join(filter(None, map(one_line, book.authors)))
    texts = {
        b"TIT2": one_line(tags.title),
        b"TALB": one_line(book.title),
        b"TPE1": authors,
        b"TPE2": book.artist,
        b"TCOM": one_line(book.narrator),
        b"TCON": one_line(book.genre),
        b"TLAN": book.language_code,
        b"TDRC": one_line(book.date),
        b"TPUB": one_line(book.publisher),
        b"TRCK": "" if tags.track is None else f"{tags.track[0]}/{tags.track[1]}",
    }
    frames = [_text(name, text) for name, text in texts.items() if text]
    language = book.language_code.encode("ascii")
    for name, text in (("", book.comment), ("description", book.description)):
        if one_line(text):
            content = _UTF8 + language + name.encode() + b"\0" + one_line(text).encode()
            frames.append(_frame(b"COMM", content))
    return frames


def _chapters(chapters: Sequence[ChapterMark], num_samples: int, sample_rate: int) -> list[bytes]:
    names = [f"ch{number}" for number in range(len(chapters))]
    if not names:
        return []
    groups = [names[start : start + _MOST_CHILDREN] for start in range(0, len(names), _MOST_CHILDREN)]
    if len(groups) == 1:
        frames = [_table("toc", _IS_TOP | _IS_ORDERED, names)]
    else:
        tables = [f"toc{number}" for number in range(len(groups))]
        frames = [_table("toc", _IS_TOP | _IS_ORDERED, tables[:_MOST_CHILDREN])]
        frames += [_table(name, _IS_ORDERED, group) for name, group in zip(tables, groups, strict=True)]
    stops = [chapter.start_samples for chapter in chapters[1:]] + [num_samples]
    for name, chapter, stop in zip(names, chapters, stops, strict=True):
        times = (_milliseconds(chapter.start_samples, sample_rate), _milliseconds(stop, sample_rate))
        place = name.encode() + b"\0" + struct.pack(">IIII", *times, _NO_OFFSET, _NO_OFFSET)
        frames.append(_frame(b"CHAP", place + _text(b"TIT2", one_line(chapter.title))))
    return frames


def _table(name: str, flags: int, children: Sequence[str]) -> bytes:
    head = name.encode() + b"\0" + bytes([flags, len(children)])
    return _frame(b"CTOC", head + b"".join(child.encode() + b"\0" for child in children))


def _cover(tags: FileTags) -> list[bytes]:
    cover = tags.book.cover
    if cover is None:
        return []
    return [_frame(b"APIC", _UTF8 + cover.media_type.encode() + b"\0" + _FRONT_COVER + b"\0" + cover.data)]


def _text(name: bytes, text: str) -> bytes:
    return _frame(name, _UTF8 + text.encode())


def _frame(name: bytes, content: bytes) -> bytes:
    return name + _syncsafe(len(content)) + b"\0\0" + content


def _syncsafe(size: int) -> bytes:
    """Write a size in four bytes of seven bits.

    >>> _syncsafe(257).hex()
    '00000201'
    """
    if size > _MOST_BYTES:
        raise AudioError(f"got {size} bytes for the tag of an MP3; it has less than 256 MiB: take a smaller cover")
    return bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))


def _milliseconds(num_samples: int, sample_rate: int) -> int:
    return min((num_samples * 1000 + sample_rate // 2) // sample_rate, 0xFFFFFFFF)
