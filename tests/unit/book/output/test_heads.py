"""Tags and chapters of mp3, flac, opus and wav, read back by readers that are not the writers'."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from book_output import RATE, babble, png, read_comments, read_id3, read_ogg
from voxtral.audio.encode import ContainerEncoder
from voxtral.book.output.heads import FlacHead, Mp3Head, OpusHead
from voxtral.book.output.id3 import id3_tag
from voxtral.book.output.tags import BookTags, ChapterMark, Cover, FileTags
from voxtral.book.output.wav import WavWriter
from voxtral.errors import AudioError

TITLES = ("One", "Zwei – é", "فصل", "アリス 第四章")
SAMPLES = babble(90_000, 3)
TAGS = FileTags.whole(
    BookTags(
        "The Book\n– 本", ("An Author", "Another"), "casual_male", "ja", "A House", "1872", "About.", Cover.of(png())
    )
)


def marks(starts: Sequence[int] = (0, 20_001, 50_000, 70_000)) -> list[ChapterMark]:
    return [ChapterMark(title, start) for title, start in zip(TITLES, starts, strict=True)]


def make(format: str, head: Mp3Head | FlacHead | OpusHead, chapters: list[ChapterMark], cut: int = 7000) -> bytes:
    encoder = ContainerEncoder(format, RATE, is_seekable=True)
    file = io.BytesIO()
    for start in range(0, len(SAMPLES), cut):
        file.write(head.push(encoder.write(SAMPLES[start : start + cut])))
    file.write(head.push(encoder.finish()))
    for place, data in head.finish(encoder.corrections, chapters, len(SAMPLES)):
        file.seek(place)
        file.write(data)
    return file.getvalue()


def sound_of(data: bytes) -> np.ndarray:
    return soundfile.read(io.BytesIO(data), dtype="float32")[0]


def test_mp3() -> None:
    data = make("mp3", Mp3Head(TAGS, marks([0] * 4), RATE), marks())
    frames, end = read_id3(data)
    texts = {name: content[1:].decode("utf-8") for name, content in frames if name[0] == "T"}
    assert all(content[0] == 3 for name, content in frames if name[0] == "T")
    assert texts == {
        "TIT2": "The Book – 本",
        "TALB": "The Book – 本",
        "TPE1": "An Author\0Another",
        "TPE2": "An Author, Another",
        "TCOM": "casual_male",
        "TCON": "Audiobook",
        "TLAN": "jpn",
        "TDRC": "1872",
        "TPUB": "A House",
    }
    found = dict(frames)
    assert found["CTOC"].startswith(b"toc\0\x03\x04ch0\0ch1\0ch2\0ch3\0")
    assert found["APIC"] == b"\3image/png\0\3\0" + png()
    chapters = [content for name, content in frames if name == "CHAP"]
    for number, (content, mark, stop) in enumerate(
        zip(chapters, marks(), [20_001, 50_000, 70_000, 90_000], strict=True)
    ):
        name, _, rest = content.partition(b"\0")
        assert name == b"ch%d" % number
        assert struct.unpack_from(">IIII", rest) == (
            *(round(mark.start_samples / 24), round(stop / 24)),
            *(0xFFFFFFFF, 0xFFFFFFFF),
        )
        assert rest[16:] == b"TIT2" + struct.pack(">I", len(mark.title.encode()) + 1) + b"\0\0\3" + mark.title.encode()
    # What follows is what the encoder makes by itself, with its counts of frames.
    plain = ContainerEncoder("mp3", RATE, is_seekable=True)
    sound = bytearray(plain.write(SAMPLES) + plain.finish())
    for place, correction in plain.corrections:
        sound[place : place + len(correction)] = correction
    assert data[end:] == sound


def test_more_chapters_than_one_table_of_an_mp3_holds() -> None:
    chapters = [ChapterMark(f"{number}", number * 100) for number in range(600)]
    frames, _ = read_id3(id3_tag(TAGS, chapters, 60_000, RATE))
    tables = [content.split(b"\0", 1) for name, content in frames if name == "CTOC"]
    listed = {name.decode(): rest[2:].decode().rstrip("\0").split("\0") for name, rest in tables}
    assert listed["toc"] == ["toc0", "toc1", "toc2"]
    assert [rest[0] for _, rest in tables] == [3, 1, 1, 1]
    assert [child for name in listed["toc"] for child in listed[name]] == [f"ch{number}" for number in range(600)]
    assert all(rest[1] == len(listed[name.decode()]) for name, rest in tables)


@given(title=st.text(max_size=300), author=st.text(max_size=50))
def test_any_text_makes_a_tag_that_can_be_read(title: str, author: str) -> None:
    tags = FileTags.whole(BookTags(title, (author,), language=author, date=title))
    frames, end = read_id3(id3_tag(tags, [ChapterMark(title, 0)], 10, RATE))
    assert end == len(id3_tag(tags, [ChapterMark(title, 0)], 20, RATE))
    for name, content in frames:
        if name[0] == "T":
            content[1:].decode("utf-8")


def flac_blocks(data: bytes) -> tuple[list[tuple[int, bytes]], int]:
    assert data[:4] == b"fLaC"
    at, is_last, blocks = 4, False, []
    while not is_last:
        (header,) = struct.unpack_from(">I", data, at)
        is_last = bool(header >> 31)
        size = header & 0xFFFFFF
        blocks.append((header >> 24 & 0x7F, data[at + 4 : at + 4 + size]))
        at += 4 + size
    return blocks, at


def clocks(comments: list[tuple[str, str]]) -> list[tuple[str, str]]:
    found = dict(comments)
    return [(found[f"CHAPTER{number:03}"], found[f"CHAPTER{number:03}NAME"]) for number in range(1, 5)]


WANTED = [
    ("00:00:00.000", "One"),
    ("00:00:00.833", "Zwei – é"),
    ("00:00:02.083", "فصل"),
    ("00:00:02.917", "アリス 第四章"),
]


@pytest.mark.parametrize("cut", [300, 7000, 90_000])
def test_flac(cut: int) -> None:
    data = make("flac", FlacHead(TAGS, marks([0] * 4), RATE), marks(), cut)
    blocks, end = flac_blocks(data)
    assert [kind for kind, _ in blocks] == [0, 4, 6]
    assert int.from_bytes(blocks[0][1][13:18], "big") & (2**36 - 1) == len(SAMPLES)
    comments = read_comments(blocks[1][1])
    assert clocks(comments) == WANTED
    assert ("TITLE", "The Book – 本") in comments
    assert [value for name, value in comments if name == "ARTIST"] == ["An Author", "Another"]
    picture = blocks[2][1]
    assert picture[:4] == struct.pack(">I", 3)
    assert struct.unpack_from(">IIIII", picture, 21) == (3, 2, 24, 0, len(png()))
    assert picture.endswith(png())
    assert data[end] == 0xFF
    assert np.abs(sound_of(data) - SAMPLES).max() < 2 / 32768


@pytest.mark.parametrize("cut", [300, 7000, 90_000])
def test_opus(cut: int) -> None:
    data = make("opus", OpusHead(TAGS, marks([0] * 4), RATE), marks(), cut)
    packets = read_ogg(data)
    assert packets[0][:8] == b"OpusHead"
    assert packets[1][:8] == b"OpusTags"
    comments = read_comments(packets[1][8:])
    assert clocks(comments) == WANTED
    picture = base64.b64decode(dict(comments)["METADATA_BLOCK_PICTURE"])
    assert picture.endswith(png())
    plain = ContainerEncoder("opus", RATE, is_seekable=True)
    assert np.array_equal(sound_of(data), sound_of(plain.write(SAMPLES) + plain.finish()))


def test_opus_with_a_large_cover_has_many_pages_of_comments() -> None:
    cover = Cover.of(png() + zlib.compress(np.random.default_rng(0).bytes(300_000)))
    tags = FileTags.whole(BookTags("Book", cover=cover))
    data = make("opus", OpusHead(tags, marks(), RATE), marks())
    packets = read_ogg(data)
    picture = base64.b64decode(dict(read_comments(packets[1][8:]))["METADATA_BLOCK_PICTURE"])
    assert picture.endswith(cover.data)
    assert np.abs(sound_of(data)).max() > 0.3


def test_other_chapters_than_announced_are_refused() -> None:
    with pytest.raises(AudioError, match="chapters other"):
        make("flac", FlacHead(TAGS, marks(), RATE), [ChapterMark("Another", 0)])


def test_a_cover_that_is_too_large() -> None:
    huge = FileTags.whole(BookTags("Book", cover=Cover(bytes(2**24), "png")))
    with pytest.raises(AudioError, match="16 MiB"):
        FlacHead(huge, [], RATE)
    with pytest.raises(AudioError, match="256 MiB"):
        id3_tag(FileTags.whole(BookTags("Book", cover=Cover(bytes(2**28), "png"))), [], 1, RATE)


def wav_chunks(data: bytes) -> dict[bytes, bytes]:
    assert data[8:12] == b"WAVE"
    assert struct.unpack_from("<I", data, 4)[0] == len(data) - 8
    at, chunks = 12, {}
    while at < len(data):
        name, size = struct.unpack_from("<4sI", data, at)
        key = name + data[at + 8 : at + 12] if name == b"LIST" else name
        chunks[key] = data[at + 8 : at + 8 + size]
        at += 8 + size + size % 2
    assert at == len(data)
    return chunks


def test_wav() -> None:
    file = io.BytesIO()
    writer = WavWriter(file, RATE, TAGS)
    for piece in np.array_split(SAMPLES, 7):
        writer.write(piece)
    writer.finish(marks())
    chunks = wav_chunks(file.getvalue())
    assert struct.unpack("<I", chunks[b"cue "][:4]) == (4,)
    starts = [struct.unpack_from("<II4sIII", chunks[b"cue "], 4 + 24 * index) for index in range(4)]
    assert [entry[1] for entry in starts] == [entry[5] for entry in starts] == [mark.start_samples for mark in marks()]
    assert all(title.encode() + b"\0" in chunks[b"LISTadtl"] for title in TITLES)
    assert "The Book – 本".encode() + b"\0" in chunks[b"LISTINFO"]
    sound, rate = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")
    assert rate == RATE
    assert np.abs(sound - SAMPLES).max() < 2 / 32768


class _Hollow(io.BytesIO):
    """A file whose samples are counted and not kept."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped = 0

    def tell(self) -> int:
        return super().tell() + self.skipped


def test_a_wav_beyond_four_gigabytes() -> None:
    file = _Hollow()
    writer = WavWriter(file, RATE, FileTags.whole(BookTags("Book")))
    start = file.tell()
    writer.write(SAMPLES)
    file.skipped = 2**32
    writer._num_bytes += 2**32
    writer.finish([])
    data = file.getvalue()
    assert data[:4] == b"RF64"
    assert struct.unpack_from("<I4s4sIQQQ", data, 4) == (
        *(2**32 - 1, b"WAVE", b"ds64", 28),
        *(len(data) + 2**32 - 8, 2 * len(SAMPLES) + 2**32, len(SAMPLES) + 2**31),
    )
    assert struct.unpack_from("<I", data, start - 4) == (2**32 - 1,)
