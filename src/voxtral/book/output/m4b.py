"""An audiobook in an MP4 container: AAC frames, chapters twice, tags, a cover; written forward, in little memory.

Chapters stand in a track of texts, which Apple's players read, and in a list, which many others read and which ends
after 255. Times are exact to the sample, and the encoder's delay is cut off by an edit list. What grows with a book is
four bytes for each frame of 43 ms. Read next: `voxtral.book.output.boxes`.

Source: ISO 14496-12 (boxes), 14496-14 (MP4), 14496-1 (descriptors); Apple's QuickTime File Format Specification
(chapter tracks, edit lists, text samples, lists of tags); Nero's chapter list as mp4v2 documents it.
"""

from __future__ import annotations

import struct
from array import array
from collections.abc import Sequence
from typing import BinaryIO

from voxtral.book.output.aac import BLOCK_SAMPLES
from voxtral.book.output.boxes import IDENTITY, box, chunk_offsets, full_box, language_bits, sample_sizes, tag, times
from voxtral.book.output.tags import ChapterMark, FileTags, one_line

_FRAMES_PER_CHUNK = 32
_MDAT_HEADER_BYTES = 16

_AUDIO_TRACK, _TEXT_TRACK = 1, 2
_ENABLED, _IN_MOVIE = 1, 2

# Of the list of chapters, whose count and lengths are one byte each; it counts in tenths of a microsecond.
_MOST_LISTED, _MOST_LISTED_BYTES = 255, 255
_LIST_CLOCK = 10_000_000

_MOST_TITLE_BYTES = 65535 - 14
_MOST_DESCRIPTION_BYTES = 255

_UTF8, _JPEG, _PNG, _INTEGER = 1, 13, 14, 21
_AUDIOBOOK = 2


class M4bWriter:
    """Writes one file.

    Args:
        file: empty and seekable; it stays open.
        sample_rate: in Hz.
        tags: of the file.
    """

    def __init__(self, file: BinaryIO, sample_rate: int, tags: FileTags) -> None:
        self._file = file
        self._rate = sample_rate
        self._tags = tags
        self._config = b""
        self._sizes = array("I")
        self._offsets = array("Q")
        self._chunk: list[bytes] = []
        file.write(box(b"ftyp", b"M4B ", struct.pack(">I", 0x200), b"M4B M4A mp42isom"))
        self._data_start = file.tell()
        file.write(struct.pack(">I4sQ", 1, b"mdat", 0))

    def add(self, frames: list[bytes], config: bytes) -> None:
        """Append frames.

        Args:
            frames: without headers, 1024 samples each.
            config: their AudioSpecificConfig.
        """
        self._config = config
        for frame in frames:
            self._chunk.append(frame)
            self._sizes.append(len(frame))
            if len(self._chunk) == _FRAMES_PER_CHUNK:
                self._end_chunk()

    def finish(self, num_samples: int, chapters: Sequence[ChapterMark]) -> None:
        """Write the end, which says where everything is.

        Args:
            num_samples: that are heard: behind the encoder's delay, and before what fills the last frame.
            chapters: in order, the first of them at 0.
        """
        self._end_chunk()
        texts = [_text_sample(chapter.title) for chapter in chapters]
        text_offsets = array("Q")
        for text in texts:
            text_offsets.append(self._file.tell())
            self._file.write(text)
        end = self._file.tell()
        self._file.seek(self._data_start + 8)
        self._file.write(struct.pack(">Q", end - self._data_start))
        self._file.seek(end)
        starts = [chapter.start_samples for chapter in chapters]
        durations = [stop - start for start, stop in zip(starts, [*starts, num_samples][1:], strict=True)]
        tracks = [self._audio_track(num_samples, has_chapters=bool(chapters))]
        if chapters:
            tracks.append(self._text_track(num_samples, durations, [len(text) for text in texts], text_offsets))
        user_data = box(b"udta", _chapter_list(chapters, self._rate) if chapters else b"", _meta(self._tags))
        self._file.write(box(b"moov", _movie_header(self._rate, num_samples), *tracks, user_data))

    def _end_chunk(self) -> None:
        if self._chunk:
            self._offsets.append(self._file.tell())
            self._file.write(b"".join(self._chunk))
            self._chunk.clear()

    def _audio_track(self, num_samples: int, *, has_chapters: bool) -> bytes:
        num_frames = len(self._sizes)
        whole, last = divmod(num_frames, _FRAMES_PER_CHUNK)
        runs: list[tuple[int, int]] = [(1, _FRAMES_PER_CHUNK)] if whole else []
        if last:
            runs.append((whole + 1, last))
        tables = [
            full_box(b"stts", 0, 0, struct.pack(">III", 1, num_frames, BLOCK_SAMPLES)),
            _chunk_runs(runs),
            sample_sizes(self._sizes),
            chunk_offsets(self._offsets),
            # The first frame gives out nothing by itself: whoever begins elsewhere decodes one frame ahead.
            full_box(b"sgpd", 1, 0, b"roll", struct.pack(">IIh", 2, 1, -1)),
            full_box(b"sbgp", 0, 0, b"roll", struct.pack(">III", 1, num_frames, 1)),
        ]
        entry = box(
            b"mp4a",
            bytes(6) + struct.pack(">H", 1) + bytes(8),
            struct.pack(">HHHHI", 1, 16, 0, 0, self._rate << 16),
            self._descriptors(num_frames),
        )
        edits = box(b"edts", full_box(b"elst", *_edit(num_samples, BLOCK_SAMPLES)))
        reference = box(b"tref", box(b"chap", struct.pack(">I", _TEXT_TRACK))) if has_chapters else b""
        media = self._media(
            *(b"soun", "Sound", num_frames * BLOCK_SAMPLES),
            box(b"smhd", bytes(8)),
            box(b"stbl", full_box(b"stsd", 0, 0, struct.pack(">I", 1), entry), *tables),
        )
        header = _track_header(_AUDIO_TRACK, num_samples, _ENABLED | _IN_MOVIE, volume=0x100)
        return box(b"trak", header, edits, reference, media)

    def _text_track(self, num_samples: int, durations: list[int], sizes: list[int], offsets: array[int]) -> bytes:
        entry = box(b"text", bytes(6) + struct.pack(">HII", 1, 0, 1), bytes(36))
        tables = [
            full_box(
                b"stts",
                *(0, 0, struct.pack(">I", len(durations))),
                *(struct.pack(">II", 1, duration) for duration in durations),
            ),
            _chunk_runs([(1, 1)]),
            sample_sizes(array("I", sizes)),
            chunk_offsets(offsets),
        ]
        generic = full_box(b"gmin", 0, 0, struct.pack(">6H", 0x40, 0x8000, 0x8000, 0x8000, 0, 0))
        media = self._media(
            *(b"text", "Chapters", num_samples),
            box(b"gmhd", generic, box(b"text", IDENTITY)),
            box(b"stbl", full_box(b"stsd", 0, 0, struct.pack(">I", 1), entry), *tables),
        )
        # Not enabled, or some players show the titles as subtitles.
        return box(b"trak", _track_header(_TEXT_TRACK, num_samples, _IN_MOVIE, volume=0), media)

    def _media(self, handler: bytes, name: str, duration: int, header: bytes, table: bytes) -> bytes:
        version, clock = times(duration)
        language = language_bits(self._tags.book.language_code)
        data = box(b"dinf", full_box(b"dref", 0, 0, struct.pack(">I", 1), full_box(b"url ", 0, 1)))
        return box(
            b"mdia",
            full_box(b"mdhd", version, 0, clock(0, 0), struct.pack(">I", self._rate), clock(duration), language),
            full_box(b"hdlr", 0, 0, struct.pack(">I4s12x", 0, handler), name.encode() + b"\0"),
            box(b"minf", header, data, table),
        )

    def _descriptors(self, num_frames: int) -> bytes:
        """Tell a decoder what frames it gets."""
        seconds = max(1, num_frames) * BLOCK_SAMPLES / self._rate
        mean = round(sum(self._sizes) * 8 / seconds)
        most = max(mean, round(max(self._sizes, default=0) * 8 * self._rate / BLOCK_SAMPLES))
        # MPEG-4 audio; an audio stream; a buffer of 6144 bits a channel.
        decoder = struct.pack(">BB", 0x40, 0x15) + (768).to_bytes(3, "big") + struct.pack(">II", most, mean)
        decoder = _descriptor(4, decoder + _descriptor(5, self._config))
        return full_box(b"esds", 0, 0, _descriptor(3, struct.pack(">HB", 0, 0) + decoder + _descriptor(6, b"\2")))


def _descriptor(kind: int, data: bytes) -> bytes:
    return bytes([kind, 0x80, 0x80, 0x80, len(data)]) + data


def _chunk_runs(runs: list[tuple[int, int]]) -> bytes:
    """Say how many samples chunks have, from which chunk on."""
    entries = [struct.pack(">III", first, count, 1) for first, count in runs]
    return full_box(b"stsc", 0, 0, struct.pack(">I", len(entries)), *entries)


def _movie_header(rate: int, duration: int) -> bytes:
    version, clock = times(duration)
    return full_box(
        *(b"mvhd", version, 0, clock(0, 0), struct.pack(">I", rate), clock(duration)),
        *(struct.pack(">IH10x", 0x10000, 0x100), IDENTITY, bytes(24), struct.pack(">I", _TEXT_TRACK + 1)),
    )


def _track_header(number: int, duration: int, flags: int, *, volume: int) -> bytes:
    version, clock = times(duration)
    return full_box(
        *(b"tkhd", version, flags, clock(0, 0), struct.pack(">II", number, 0), clock(duration)),
        *(struct.pack(">8xHHH2x", 0, 0 if volume else 1, volume), IDENTITY, bytes(8)),
    )


def _edit(duration: int, start: int) -> tuple[int, int, bytes]:
    """Say which part of a track is heard; both clocks count samples."""
    version, clock = times(duration)
    return version, 0, struct.pack(">I", 1) + clock(duration, start) + struct.pack(">I", 0x10000)


def _text_sample(title: str) -> bytes:
    """Make a title as a sample of a text track, marked as UTF-8."""
    data = _cut_utf8(one_line(title), _MOST_TITLE_BYTES)
    return struct.pack(">H", len(data)) + data + struct.pack(">I4sI", 12, b"encd", 0x100)


def _chapter_list(chapters: Sequence[ChapterMark], rate: int) -> bytes:
    entries: list[bytes] = []
    for chapter in chapters[:_MOST_LISTED]:
        title = _cut_utf8(one_line(chapter.title), _MOST_LISTED_BYTES)
        start = (chapter.start_samples * _LIST_CLOCK + rate // 2) // rate
        entries.append(struct.pack(">QB", start, len(title)) + title)
    return full_box(b"chpl", 1, 0, bytes(4), struct.pack(">B", len(entries)), *entries)


def _meta(tags: FileTags) -> bytes:
    """Write the tags, as iTunes does."""
    book = tags.book
    # The composer is where players of audiobooks look for the narrator.
    texts = {
        b"\xa9nam": tags.title,
        b"\xa9alb": book.title,
        b"\xa9ART": book.artist,
        b"aART": book.artist,
        b"\xa9wrt": book.narrator,
        b"\xa9nrt": book.narrator,
        b"\xa9gen": book.genre,
        b"\xa9day": book.date,
        b"\xa9pub": book.publisher,
        b"\xa9cmt": book.comment,
        b"ldes": book.description,
    }
    entries = [tag(name, _UTF8, one_line(text).encode()) for name, text in texts.items() if one_line(text)]
    if short := _cut_utf8(one_line(book.description), _MOST_DESCRIPTION_BYTES):
        entries.append(tag(b"desc", _UTF8, short))
    entries.append(tag(b"stik", _INTEGER, bytes([_AUDIOBOOK])))
    if tags.track is not None:
        entries.append(tag(b"trkn", 0, struct.pack(">2xHHxx", *tags.track)))
    if book.cover is not None:
        entries.append(tag(b"covr", _JPEG if book.cover.kind == "jpeg" else _PNG, book.cover.data))
    handler = full_box(b"hdlr", 0, 0, struct.pack(">I4s4s8x", 0, b"mdir", b"appl"), b"\0")
    return full_box(b"meta", 0, 0, handler, box(b"ilst", *entries))


def _cut_utf8(text: str, most: int) -> bytes:
    """Encode a text in so many bytes at most, cut between characters."""
    return text.encode()[:most].decode("utf-8", "ignore").encode()
