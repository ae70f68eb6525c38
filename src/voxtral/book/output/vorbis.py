"""Comments of FLAC and Ogg Opus: title, authors, chapters; and covers in them.

Source: Vorbis I, 5 (comment header); "Chapter Extension" of Xiph's wiki; RFC 9639, 8.8 (picture).
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Sequence

from voxtral.book.output.tags import ChapterMark, Cover, FileTags, one_line

_VENDOR = b"voxtral-tts"
_FRONT_COVER = 3


def comments(
    tags: FileTags, chapters: Sequence[ChapterMark], sample_rate: int, *, has_picture: bool
) -> list[tuple[str, str]]:
    """List all comments; those of times are as long as others, up to 100 hours.

    Args:
        tags: of the file.
        chapters: in order; where they begin may be wrong yet.
        sample_rate: in Hz.
        has_picture: whether the cover stands among the comments.
    """
    book = tags.book
    found = [
        ("TITLE", tags.title),
        ("ALBUM", book.title),
        *(("ARTIST", author) for author in book.authors),
        ("ALBUMARTIST", book.artist),
        ("PERFORMER", book.narrator),
        ("COMPOSER", book.narrator),
        ("GENRE", book.genre),
        ("LANGUAGE", book.language or ""),
        ("DATE", book.date or ""),
        ("ORGANIZATION", book.publisher or ""),
        ("DESCRIPTION", book.description or ""),
        ("COMMENT", book.comment),
    ]
    if tags.track is not None:
        found += [("TRACKNUMBER", str(tags.track[0])), ("TRACKTOTAL", str(tags.track[1]))]
    for number, chapter in enumerate(chapters, start=1):
        found.append((f"CHAPTER{number:03}", _clock(chapter.start_samples, sample_rate)))
        # An empty name is one, too: without it the times of a chapter belong to nothing.
        found.append((f"CHAPTER{number:03}NAME", one_line(chapter.title) or str(number)))
    if has_picture and book.cover is not None:
        found.append(("METADATA_BLOCK_PICTURE", base64.b64encode(picture(book.cover)).decode("ascii")))
    return [(name, one_line(value)) for name, value in found if one_line(value)]


def comment_block(entries: Sequence[tuple[str, str]]) -> bytes:
    """Make the bytes of comments, without what stands around them in either format."""
    lines = [f"{name}={value}".encode() for name, value in entries]
    head = struct.pack("<I", len(_VENDOR)) + _VENDOR + struct.pack("<I", len(lines))
    return head + b"".join(struct.pack("<I", len(line)) + line for line in lines)


def picture(cover: Cover) -> bytes:
    """Make the block of a picture."""
    media_type = cover.media_type.encode()
    return b"".join(
        (
            struct.pack(">II", _FRONT_COVER, len(media_type)) + media_type,
            struct.pack(">I", 0),  # no description
            struct.pack(">IIII", cover.width, cover.height, 24 if cover.width else 0, 0),
            struct.pack(">I", len(cover.data)) + cover.data,
        )
    )


def _clock(num_samples: int, sample_rate: int) -> str:
    """Write a time.

    >>> _clock(24000 * 3661 + 12, 24000)
    '01:01:01.001'
    """
    seconds, ms = divmod((num_samples * 1000 + sample_rate // 2) // sample_rate, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02}:{minutes:02}:{seconds:02}.{ms:03}"
