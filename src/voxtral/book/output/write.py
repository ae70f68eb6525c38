"""A book of samples to a file with chapters, or to a folder with a file for each.

Whoever makes a writer learns at once what would fail: no encoder, no room, no such format; before anything is spoken.
Memory does not grow with the book but for a few bytes a second, chapters begin at the very sample, and the target
appears whole or not at all. Read next: `voxtral.book.output.files` and, for m4b, `parts`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from voxtral.audio.pcm import check_samples
from voxtral.book.output.aac import find_aac_encoder
from voxtral.book.output.files import FORMATS, Added, Setup, check_rate
from voxtral.book.output.names import Entry, numbered_name, playlist, safe_name
from voxtral.book.output.peaks import CEILING_DB, Limiter
from voxtral.book.output.tags import BookTags, ChapterMark, FileTags, one_line
from voxtral.book.output.whole import check_place, whole_file, whole_folder
from voxtral.errors import AudioError, quoted

# In a folder, where each file is a chapter, players know the extension of music better.
_EXTENSIONS = {"m4b": "m4a"}
_FORMATS_BY_SUFFIX = {".m4a": "m4b", **{f".{format}": format for format in FORMATS}}

# Bytes a second at 24 kHz, rounded up.
_BYTES_PER_S = {"m4b": 8_400, "mp3": 10_200, "opus": 8_600, "flac": 32_000, "wav": 48_100}
_SPARE_BYTES = 2**20


@dataclass(frozen=True)
class ChapterAudio:
    """A chapter to be written.

    Attributes:
        title: as players show it.
        blocks: of its samples, [S] float32 each, however long; asked for when it is its turn, once.
        digest: of all that its samples depend on: text, voices, pauses, loudness, model. With it an m4b keeps the
            chapter's sound, and does not ask for the samples again.
    """

    title: str
    blocks: Iterable[np.ndarray]
    digest: str | None = None


@dataclass(frozen=True)
class WrittenBook:
    """What was written.

    Attributes:
        path: of the file or the folder.
        files: with sound, in order; of a folder one for each chapter.
        chapters: where they begin in the whole book.
        num_samples: of the whole book.
        sample_rate: in Hz.
        num_kept: chapters whose sound was read instead of made.
    """

    path: Path
    files: tuple[Path, ...]
    chapters: tuple[ChapterMark, ...]
    num_samples: int
    sample_rate: int
    num_kept: int

    @property
    def duration_s(self) -> float:
        """Seconds of sound."""
        return self.num_samples / self.sample_rate


class BookWriter:
    """Writes a book.

    Args:
        target: a path that ends in .m4b, .m4a, .mp3, .opus, .flac or .wav; or of a folder, without such an ending. A
            folder that exists keeps what else is in it.
        tags: of the book.
        sample_rate: of the samples, in Hz.
        format: of the files in a folder, "m4b" (as .m4a), "mp3", "opus", "flac" or "wav"; None for mp3. Of a file its
            ending decides.
        parts: a folder where an m4b keeps the sound of each chapter that has a digest, or None. It is made when it is
            needed, and never cleared.
        ceiling_db: that no peak goes above, in dB relative to full scale; None changes no sample.
        expected_s: seconds of sound, as far as they are known; so much room the disk must have.

    Raises:
        AacEncoderMissingError: nothing here makes the AAC of an m4b.
        AudioError: the target names no format, cannot be written, or the disk has no room.
    """

    def __init__(
        self,
        target: str | os.PathLike[str],
        tags: BookTags,
        *,
        sample_rate: int = 24000,
        format: str | None = None,
        parts: str | os.PathLike[str] | None = None,
        ceiling_db: float | None = CEILING_DB,
        expected_s: float = 0.0,
    ) -> None:
        path = Path(os.path.realpath(target))
        by_suffix = _FORMATS_BY_SUFFIX.get(path.suffix.lower())
        self._is_folder = by_suffix is None or path.is_dir()
        if not self._is_folder and format is not None and format != by_suffix:
            raise AudioError(f"got {quoted(path.name)} and the format {quoted(format)}; leave one of both out")
        if self._is_folder and format is None and path.suffix and not path.is_dir():
            raise AudioError(
                f"got {quoted(path.name)}, whose ending names no format of books: it is one of "
                f"{' '.join(_FORMATS_BY_SUFFIX)}, or none for a folder; rename it"
            )
        chosen = (format or "mp3") if self._is_folder or by_suffix is None else by_suffix
        check_rate(chosen, sample_rate)
        if ceiling_db is not None:
            Limiter(sample_rate, ceiling_db)
        self._path, self._tags, self._ceiling_db = path, tags, ceiling_db
        folder = None if parts is None else Path(parts)
        aac = find_aac_encoder() if chosen == "m4b" else None
        self._setup = Setup(chosen, sample_rate, aac, folder)
        check_place(path, is_for_folder=self._is_folder, num_bytes=self._num_bytes(expected_s))

    def write(self, chapters: Iterable[ChapterAudio]) -> WrittenBook:
        """Write all chapters, and put the book in its place.

        Args:
            chapters: in order, each with some samples. All are listed before the first sample is asked for, because
                their titles stand at the beginning of most files.

        Raises:
            AudioError: there is no chapter, one has no samples, samples are not mono, float and finite, an encoder
                failed, or the disk did. What was there before is as it was.
        """
        listed = [replace(chapter, title=one_line(chapter.title)) for chapter in chapters]
        if not listed:
            raise AudioError("got no chapters; a book has one at least: choose some")
        return self._write_folder(listed) if self._is_folder else self._write_file(listed)

    def _num_bytes(self, expected_s: float) -> int:
        cover = 0 if self._tags.cover is None else len(self._tags.cover.data) * 4 // 3
        rate = _BYTES_PER_S[self._setup.format] * self._setup.sample_rate / 24000
        return round(expected_s * rate) * (1 + (self._setup.parts is not None)) + cover + _SPARE_BYTES

    def _write_file(self, chapters: Sequence[ChapterAudio]) -> WrittenBook:
        marks: list[ChapterMark] = []
        at, num_kept = 0, 0
        with whole_file(self._path) as raw:
            titles = [chapter.title for chapter in chapters]
            with closing(self._setup.open(raw, FileTags.whole(self._tags), titles)) as file:
                for number, chapter in enumerate(chapters, start=1):
                    marks.append(ChapterMark(chapter.title, at))
                    added = file.add(self._limited(chapter), self._digest(chapter), is_last=number == len(chapters))
                    at += _counted(chapter, added)
                    num_kept += added.was_kept
                file.finish(marks, at)
        return WrittenBook(self._path, (self._path,), tuple(marks), at, self._setup.sample_rate, num_kept)

    def _write_folder(self, chapters: Sequence[ChapterAudio]) -> WrittenBook:
        marks: list[ChapterMark] = []
        entries: list[Entry] = []
        at, num_kept = 0, 0
        extension = _EXTENSIONS.get(self._setup.format, self._setup.format)
        with whole_folder(self._path) as folder:
            for number, chapter in enumerate(chapters, start=1):
                name = numbered_name(number, len(chapters), chapter.title, extension)
                tags = FileTags(self._tags, chapter.title or f"{number}", (number, len(chapters)))
                with whole_file(folder / name) as raw, closing(self._setup.open(raw, tags, ())) as file:
                    added = file.add(self._limited(chapter), self._digest(chapter), is_last=True)
                    file.finish((), _counted(chapter, added))
                marks.append(ChapterMark(chapter.title, at))
                entries.append(Entry(name, tags.title, added.num_samples / self._setup.sample_rate))
                at += added.num_samples
                num_kept += added.was_kept
            if self._tags.cover is not None:
                (folder / f"cover.{self._tags.cover.extension}").write_bytes(self._tags.cover.data)
            listed = playlist(self._tags.title, self._tags.artist, entries)
            name = f"{safe_name(self._tags.title) or 'book'}.m3u8"
            (folder / name).write_text(listed, encoding="utf-8", newline="\n")
        files = tuple(self._path / entry.name for entry in entries)
        return WrittenBook(self._path, files, tuple(marks), at, self._setup.sample_rate, num_kept)

    def _digest(self, chapter: ChapterAudio) -> str | None:
        """Add to a digest what becomes of the samples here."""
        return None if chapter.digest is None else f"{chapter.digest} {self._ceiling_db}"

    def _limited(self, chapter: ChapterAudio) -> Iterator[np.ndarray]:
        """Give the samples of a chapter, with its peaks held down; each by itself, so that it stays the same."""
        if self._ceiling_db is None:
            yield from chapter.blocks
            return
        limiter = Limiter(self._setup.sample_rate, self._ceiling_db)
        for block in chapter.blocks:
            yield limiter.push(check_samples(block))
        yield limiter.finish()


def _counted(chapter: ChapterAudio, added: Added) -> int:
    if not added.num_samples:
        raise AudioError(f"the chapter {quoted(chapter.title)} has no samples; leave it out, or speak it first")
    return added.num_samples
