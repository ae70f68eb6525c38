"""A WAV of a book: 16-bit samples with tags before them and chapters behind, also beyond 4 GiB.

Source: Microsoft's "Multimedia Programming Interface and Data Specifications 1.0" (RIFF, INFO, cue, adtl); EBU Tech
3306 (RF64).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np

from voxtral.audio.pcm import to_int16
from voxtral.book.output.tags import ChapterMark, FileTags, one_line

_MOST_32 = 0xFFFFFFFF
_LONG_SIZES_BYTES = 28
_RIFF_HEADER_BYTES, _CHUNK_HEADER_BYTES = 12, 8
_SAMPLE_BYTES = 2


class WavWriter:
    """Writes one file.

    Args:
        file: empty and seekable; it stays open.
        sample_rate: in Hz.
        tags: of the file.
    """

    def __init__(self, file: BinaryIO, sample_rate: int, tags: FileTags) -> None:
        self._file = file
        self._num_bytes = 0
        layout = struct.pack("<HHIIHH", 1, 1, sample_rate, sample_rate * _SAMPLE_BYTES, _SAMPLE_BYTES, 16)
        # Room for long sizes, should they be needed.
        file.write(struct.pack("<4sI4s", b"RIFF", 0, b"WAVE") + _chunk(b"JUNK", bytes(_LONG_SIZES_BYTES)))
        file.write(_chunk(b"fmt ", layout) + _info(tags))
        self._data_start = file.tell()
        file.write(struct.pack("<4sI", b"data", 0))

    def write(self, samples: np.ndarray) -> None:
        """Append samples [S] float32, clipped to full scale."""
        data = to_int16(samples).astype("<i2", copy=False).tobytes()
        self._num_bytes += len(data)
        self._file.write(data)

    def finish(self, chapters: Sequence[ChapterMark]) -> None:
        """Write the chapters, and all sizes."""
        self._file.write(_cues(chapters))
        size = self._file.tell() - _CHUNK_HEADER_BYTES
        is_long = size > _MOST_32
        self._file.seek(0)
        self._file.write(struct.pack("<4sI", b"RF64" if is_long else b"RIFF", min(size, _MOST_32)))
        if is_long:
            self._file.seek(_RIFF_HEADER_BYTES)
            sizes = struct.pack("<QQQI", size, self._num_bytes, self._num_bytes // _SAMPLE_BYTES, 0)
            self._file.write(_chunk(b"ds64", sizes))
        self._file.seek(self._data_start + 4)
        self._file.write(struct.pack("<I", _MOST_32 if is_long else self._num_bytes))
        self._file.seek(0, 2)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack("<4sI", name, len(data)) + data + bytes(len(data) % 2)


def _info(tags: FileTags) -> bytes:
    book = tags.book
    texts = {
        b"INAM": tags.title,
        b"IPRD": book.title,
        b"IART": book.artist,
        b"IGNR": book.genre,
        b"ICRD": book.date,
        b"ILNG": book.language,
        b"ICMT": book.comment,
        b"IPRT": "" if tags.track is None else str(tags.track[0]),
    }
    entries = [_chunk(name, one_line(text).encode() + b"\0") for name, text in texts.items() if one_line(text)]
    return _chunk(b"LIST", b"INFO" + b"".join(entries))


def _cues(chapters: Sequence[ChapterMark]) -> bytes:
    """Make the places of chapters, and their titles."""
    if not chapters:
        return b""
    places = [
        struct.pack("<II4sIII", number, chapter.start_samples, b"data", 0, 0, chapter.start_samples)
        for number, chapter in enumerate(chapters, start=1)
    ]
    labels = [
        _chunk(b"labl", struct.pack("<I", number) + one_line(chapter.title).encode() + b"\0")
        for number, chapter in enumerate(chapters, start=1)
    ]
    return _chunk(b"cue ", struct.pack("<I", len(places)) + b"".join(places)) + _chunk(
        b"LIST", b"adtl" + b"".join(labels)
    )
