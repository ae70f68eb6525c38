"""The container of an m4b: every box, by a reader of its own; chapters, tags, and files beyond 4 GiB."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import pytest

from book_output import RATE, Box, png, read_boxes
from voxtral.book.output.m4b import M4bWriter
from voxtral.book.output.tags import BookTags, ChapterMark, Cover, FileTags

CONFIG = bytes([0x13, 0x08])
TAGS = BookTags(
    "The Book – 本",
    ("An Author", "Another"),
    "casual_male",
    "de-AT",
    "A House",
    "1872",
    "Long. " * 100,
    Cover.of(png()),
)


def write(path: Path, num_frames: int, chapters: list[ChapterMark], tags: FileTags | None = None, hole: int = 0) -> Box:
    with path.open("wb") as file:
        writer = M4bWriter(file, RATE, tags or FileTags.whole(TAGS))
        for number in range(num_frames):
            if hole and number == 64:
                file.seek(hole, io.SEEK_CUR)
            writer.add([frame(number)], CONFIG)
        writer.finish(num_frames * 1024 - 1024 - 100, chapters)
    return read_boxes(path)


def frame(number: int) -> bytes:
    return struct.pack(">H", number % 65536) * (number % 50 + 1)


def frames_at(path: Path, track: Box) -> list[bytes]:
    """Read all samples of a track by its tables."""
    tables = track.find("mdia/minf/stbl")
    long = tables.all("co64")
    table = (long or tables.all("stco"))[0]
    (count,) = table.numbers(">I")
    offsets = table.numbers(f">{count}{'Q' if long else 'I'}", 8)
    (_, count) = tables.find("stsz").numbers(">II")
    sizes = list(tables.find("stsz").numbers(f">{count}I", 12))
    (count,) = tables.find("stsc").numbers(">I")
    runs = [tables.find("stsc").numbers(">III", 8 + 12 * index) for index in range(count)]
    samples = []
    with path.open("rb") as file:
        for chunk, offset in enumerate(offsets, start=1):
            per_chunk = next(number for first, number, _ in reversed(runs) if first <= chunk)
            file.seek(offset)
            samples += [file.read(sizes.pop(0)) for _ in range(per_chunk)]
    assert not sizes
    return samples


def titles_of(path: Path, root: Box) -> list[str]:
    texts = frames_at(path, root.find("moov").all("trak")[1])
    for text in texts:
        assert text[2 + int.from_bytes(text[:2], "big") :] == struct.pack(">I4sI", 12, b"encd", 0x100)
    return [text[2 : 2 + int.from_bytes(text[:2], "big")].decode("utf-8") for text in texts]


@pytest.mark.parametrize("num_frames", [3, 31, 32, 33, 64, 200])
def test_every_frame_is_where_the_tables_say(tmp_path: Path, num_frames: int) -> None:
    root = write(tmp_path / "a.m4b", num_frames, [ChapterMark("One", 0)])
    assert [box.name for box in root.boxes] == ["ftyp", "mdat", "moov"]
    assert root.find("ftyp").data[:4] == b"M4B "
    audio = root.find("moov").all("trak")[0]
    assert frames_at(tmp_path / "a.m4b", audio) == [frame(number) for number in range(num_frames)]
    assert audio.find("mdia/minf/stbl/stts").numbers(">III") == (1, num_frames, 1024)


def test_times_are_exact_to_the_sample(tmp_path: Path) -> None:
    chapters = [ChapterMark("Eins", 0), ChapterMark("فصل", 12_345), ChapterMark("第三章", 50_001)]
    root = write(tmp_path / "a.m4b", 100, chapters)
    length = 100 * 1024 - 1024 - 100
    moov = root.find("moov")
    assert moov.find("mvhd").numbers(">IIII") == (0, 0, RATE, length)
    audio, text = moov.all("trak")
    assert audio.find("edts/elst").numbers(">IIiI") == (1, length, 1024, 0x10000)
    assert audio.find("tkhd").numbers(">IIIII", 4)[2] == 1
    assert audio.find("tref/chap").numbers(">I", 0) == (2,)
    assert text.find("mdia/minf/stbl/stts").numbers(">7I") == (
        *(3, 1, 12_345, 1, 50_001 - 12_345, 1),
        length - 50_001,
    )
    assert titles_of(tmp_path / "a.m4b", root) == ["Eins", "فصل", "第三章"]
    for track in (audio, text):
        (rate,) = track.find("mdia/mdhd").numbers(">I", 12)
        (language,) = track.find("mdia/mdhd").numbers(">H", 20)
        assert rate == RATE
        assert "".join(chr((language >> shift & 31) + 0x60) for shift in (10, 5, 0)) == "deu"


def test_three_hundred_chapters(tmp_path: Path) -> None:
    chapters = [ChapterMark(f"Chapter {number} " + "é" * 200, number * 300) for number in range(300)]
    root = write(tmp_path / "a.m4b", 120, chapters)
    assert titles_of(tmp_path / "a.m4b", root) == [chapter.title for chapter in chapters]
    data = root.find("moov/udta/chpl").data
    assert data[:9] == b"\1\0\0\0\0\0\0\0\xff"
    at = 9
    for chapter in chapters[:255]:
        start, size = struct.unpack_from(">QB", data, at)
        assert start == chapter.start_samples * 10_000_000 // RATE
        title = data[at + 9 : at + 9 + size].decode("utf-8")
        assert chapter.title.startswith(title)
        at += 9 + size
    assert at == len(data)


def tag(root: Box, name: str) -> bytes:
    data = root.find(f"moov/udta/meta/ilst/{name}/data").data
    return data[8:]


def test_tags(tmp_path: Path) -> None:
    root = write(tmp_path / "a.m4b", 40, [ChapterMark("One", 0)])
    assert tag(root, "\xa9nam").decode() == tag(root, "\xa9alb").decode() == "The Book – 本"
    assert tag(root, "\xa9ART") == tag(root, "aART") == b"An Author, Another"
    assert tag(root, "\xa9wrt") == b"casual_male"
    assert tag(root, "\xa9gen") == b"Audiobook"
    assert tag(root, "\xa9day") == b"1872"
    assert tag(root, "\xa9cmt").startswith(b"Synthetic speech")
    assert tag(root, "stik") == b"\2"
    assert tag(root, "covr") == png()
    assert len(tag(root, "desc")) == 255
    assert tag(root, "ldes").decode() == ("Long. " * 100).strip()
    kinds = {box.name: box.boxes[0].numbers(">I", 0)[0] for box in root.find("moov/udta/meta/ilst").boxes}
    assert (kinds["covr"], kinds["stik"], kinds["\xa9nam"]) == (14, 21, 1)


def test_a_file_of_one_chapter_has_a_number_and_no_chapters(tmp_path: Path) -> None:
    root = write(tmp_path / "a.m4a", 40, [], FileTags(BookTags("Book"), "Loomings", (2, 12)))
    assert len(root.find("moov").all("trak")) == 1
    assert root.find("moov/udta").all("chpl") == []
    assert root.find("moov").all("trak")[0].all("tref") == []
    assert tag(root, "trkn") == struct.pack(">4H", 0, 2, 12, 0)
    assert tag(root, "\xa9nam") == b"Loomings"
    assert "covr" not in [box.name for box in root.find("moov/udta/meta/ilst").boxes]


def test_beyond_four_gigabytes(tmp_path: Path) -> None:
    chapters = [ChapterMark("One", 0), ChapterMark("Two", 65_536)]
    path = tmp_path / "a.m4b"
    root = write(path, 128, chapters, hole=5 * 2**30)
    if path.stat().st_blocks * 512 > 2**30:
        pytest.skip("needs a disk that leaves holes out")
    audio, text = root.find("moov").all("trak")
    assert audio.find("mdia/minf/stbl").all("co64")
    assert text.find("mdia/minf/stbl").all("co64")
    assert not audio.find("mdia/minf/stbl").all("stco")
    assert frames_at(path, audio) == [frame(number) for number in range(128)]
    assert titles_of(path, root) == ["One", "Two"]


def test_longer_than_32_bits_of_samples_count(tmp_path: Path) -> None:
    path = tmp_path / "a.m4b"
    length = 2**32 + 5
    with path.open("wb") as file:
        writer = M4bWriter(file, RATE, FileTags.whole(TAGS))
        writer.add([b"a"], CONFIG)
        writer.finish(length, [ChapterMark("One", 0), ChapterMark("Two", 2**32 - 2)])
    root = read_boxes(path)
    audio, text = root.find("moov").all("trak")
    assert root.find("moov/mvhd").numbers(">IQQIQ", 0)[3:] == (RATE, length)
    assert audio.find("edts/elst").numbers(">IQq") == (1, length, 1024)
    assert text.find("mdia/mdhd").data[0] == 1
