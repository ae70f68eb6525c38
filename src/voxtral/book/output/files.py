"""One file of a book, of each format, behind one face: chapters in, in order, and then the end.

Read next: `voxtral.book.output.m4b`, `heads` and `wav`, which know the formats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from voxtral.audio.encode import ContainerEncoder
from voxtral.audio.pcm import check_samples
from voxtral.book.output.aac import AacEncoder
from voxtral.book.output.heads import FlacHead, Head, Mp3Head, OpusHead
from voxtral.book.output.m4b import M4bWriter
from voxtral.book.output.parts import PartMaker, first_tail
from voxtral.book.output.tags import ChapterMark, FileTags
from voxtral.book.output.wav import WavWriter
from voxtral.errors import AudioError

FORMATS = ("m4b", "mp3", "opus", "flac", "wav")

_HEADS: dict[str, Callable[[FileTags, Sequence[ChapterMark], int], Head]] = {
    "mp3": Mp3Head,
    "flac": FlacHead,
    "opus": OpusHead,
}


@dataclass(frozen=True)
class Added:
    """What became of a chapter.

    Attributes:
        num_samples: that it has.
        was_kept: whether its sound was read instead of made.
    """

    num_samples: int
    was_kept: bool = False


class BookFile(Protocol):
    """A file being written."""

    def add(self, blocks: Iterable[np.ndarray], digest: str | None, *, is_last: bool) -> Added:
        """Append a chapter.

        Args:
            blocks: of its samples, [S] float32 each.
            digest: of all that they depend on, or None.
            is_last: whether no other follows.
        """
        ...

    def finish(self, chapters: Sequence[ChapterMark], num_samples: int) -> None:
        """Write what can only be known at the end."""
        ...

    def close(self) -> None:
        """Give everything back, also in the middle."""
        ...


@dataclass(frozen=True)
class Setup:
    """How files are made.

    Attributes:
        format: one of FORMATS.
        sample_rate: in Hz.
        aac: the encoder of m4b; None for others.
        parts: the folder where chapters of AAC are kept; None keeps none.
    """

    format: str
    sample_rate: int
    aac: AacEncoder | None = None
    parts: Path | None = None

    def open(self, file: BinaryIO, tags: FileTags, titles: Sequence[str]) -> BookFile:
        """Begin a file.

        Args:
            file: empty and seekable.
            tags: it has.
            titles: of its chapters; none for a file that is one.

        Raises:
            AudioError: the encoder does not start, or tags or cover are too large.
        """
        if self.aac is not None:
            return _AacFile(file, tags, self.sample_rate, PartMaker(self.aac, self.sample_rate, self.parts))
        if self.format == "wav":
            return _WavFile(file, tags, self.sample_rate)
        marks = [ChapterMark(title, 0) for title in titles]
        return _EncodedFile(file, self.format, self.sample_rate, _HEADS[self.format](tags, marks, self.sample_rate))


class _AacFile:
    """AAC in an MP4 container."""

    def __init__(self, file: BinaryIO, tags: FileTags, sample_rate: int, maker: PartMaker) -> None:
        self._writer = M4bWriter(file, sample_rate, tags)
        self._maker = maker
        self._tail = first_tail()

    def add(self, blocks: Iterable[np.ndarray], digest: str | None, *, is_last: bool) -> Added:
        stretch = self._maker.make(blocks, digest, self._tail, self._writer.add, is_last=is_last)
        self._tail = stretch.tail
        return Added(stretch.num_samples, stretch.was_kept)

    def finish(self, chapters: Sequence[ChapterMark], num_samples: int) -> None:
        self._writer.finish(num_samples, chapters)

    def close(self) -> None:
        pass


class _WavFile:
    """Samples as they are."""

    def __init__(self, file: BinaryIO, tags: FileTags, sample_rate: int) -> None:
        self._writer = WavWriter(file, sample_rate, tags)

    def add(self, blocks: Iterable[np.ndarray], digest: str | None, *, is_last: bool) -> Added:
        num_samples = 0
        for block in blocks:
            samples = check_samples(block)
            num_samples += len(samples)
            self._writer.write(samples)
        return Added(num_samples)

    def finish(self, chapters: Sequence[ChapterMark], num_samples: int) -> None:
        self._writer.finish(chapters)

    def close(self) -> None:
        pass


class _EncodedFile:
    """What an encoder writes, with a beginning of ours."""

    def __init__(self, file: BinaryIO, format: str, sample_rate: int, head: Head) -> None:
        self._file, self._head = file, head
        # At the rate of the samples and no other, so that they can be counted.
        self._encoder = ContainerEncoder(format, sample_rate, is_seekable=True, output_rate=sample_rate)
        # An interrupt is raised in the main thread, where it could get lost in the library's callbacks.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="voxtral-encoder")

    def add(self, blocks: Iterable[np.ndarray], digest: str | None, *, is_last: bool) -> Added:
        start = self._encoder.num_samples
        for block in blocks:
            data = self._worker.submit(self._encoder.write, block).result()
            self._file.write(self._head.push(data))
        return Added(self._encoder.num_samples - start)

    def finish(self, chapters: Sequence[ChapterMark], num_samples: int) -> None:
        self._file.write(self._head.push(self._worker.submit(self._encoder.finish).result()))
        for place, data in self._head.finish(self._encoder.corrections, chapters, num_samples):
            self._file.seek(place)
            self._file.write(data)
        self._file.seek(0, 2)

    def close(self) -> None:
        self._worker.shutdown()


def check_rate(format: str, sample_rate: int) -> None:
    """Refuse a rate that a format does not know.

    Raises:
        AudioError: it would have to be resampled, and places would not be exact any more.
    """
    if format not in FORMATS:
        raise AudioError(f"got the format {format!r} for a book; it is one of {', '.join(FORMATS)}: choose one")
    encoded = {"m4b": "aac"}.get(format, format)
    if encoded != "aac":
        ContainerEncoder(encoded, sample_rate, is_seekable=True, output_rate=sample_rate)
