"""Whole books: every format decoded again, chapters at their samples, folders, kills, full disks and memory."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from book_output import RATE, babble, lag_of, needs_aac, png
from voxtral.audio.encode import ContainerEncoder
from voxtral.book.output import whole, write
from voxtral.book.output.peaks import TruePeakMeter
from voxtral.book.output.tags import BookTags, Cover
from voxtral.book.output.write import BookWriter, ChapterAudio
from voxtral.errors import AacEncoderMissingError, AudioError

TAGS = BookTags("The Book", ("An Author",), "casual_male", "ar", cover=Cover.of(png(30, 20)))
CHAPTERS = {
    "One": babble(40_001, 1),
    "Zwei – é": babble(30_000, 2),
    "فصل": babble(20_477, 3),
    "アリス": babble(50_123, 4),
}
SAMPLES = np.concatenate(list(CHAPTERS.values()))
STARTS = [0, 40_001, 70_001, 90_478]

FORMATS = [pytest.param("m4b", marks=needs_aac), "mp3", "opus", "flac", "wav"]


def chapters(pieces: int = 5) -> Iterator[ChapterAudio]:
    for title, samples in CHAPTERS.items():
        yield ChapterAudio(title, iter(np.array_split(samples, pieces)), digest=title)


def decode(path: Path) -> np.ndarray:
    if path.suffix not in (".m4b", ".m4a"):
        return soundfile.read(path, dtype="float32")[0]
    av = pytest.importorskip("av")
    with av.open(str(path)) as file:
        return np.concatenate([frame.to_ndarray().reshape(-1) for frame in file.decode(audio=0)])


@pytest.mark.parametrize("format", FORMATS)
def test_each_chapter_sounds_where_it_is_said_to_begin(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"book.{format}"
    written = BookWriter(path, TAGS, ceiling_db=None).write(chapters())
    assert written.files == (path,)
    assert [mark.start_samples for mark in written.chapters] == STARTS
    assert [mark.title for mark in written.chapters] == list(CHAPTERS)
    assert (written.num_samples, written.duration_s) == (len(SAMPLES), len(SAMPLES) / RATE)
    sound = decode(path)
    assert len(SAMPLES) <= len(sound) < len(SAMPLES) + 1024
    for start in STARTS:
        assert abs(lag_of(sound, SAMPLES, max(2000, start))) == 0
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("format", FORMATS)
def test_a_player_finds_chapters_tags_and_cover(tmp_path: Path, format: str) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / f"book.{format}"
    BookWriter(path, TAGS).write(chapters())
    with av.open(str(path)) as file:
        found: list[Any] = file.chapters()
        assert [chapter["metadata"]["title"] for chapter in found] == list(CHAPTERS)
        for chapter, start in zip(found, STARTS, strict=True):
            assert float(chapter["start"] * chapter["time_base"]) == pytest.approx(start / RATE, abs=1e-3)
        tags = {name.lower(): value for name, value in {**file.metadata, **file.streams.audio[0].metadata}.items()}
        assert (tags["title"], tags["artist"], tags["genre"]) == ("The Book", "An Author", "Audiobook")
        assert tags["comment"].startswith("Synthetic speech")
        assert tags.get("language", "").startswith("ar")
        # Within a frame, and the 6.5 ms that Opus begins earlier.
        assert file.duration / 1e6 == pytest.approx(len(SAMPLES) / RATE, abs=0.06 if format == "mp3" else 0.043)
        if format != "wav":
            assert [(stream.width, stream.height) for stream in file.streams.video] == [(30, 20)]


@pytest.mark.parametrize("format", FORMATS)
def test_how_samples_are_cut_changes_nothing(tmp_path: Path, format: str) -> None:
    for pieces in (1, 97):
        BookWriter(tmp_path / f"{pieces}.{format}", TAGS).write(chapters(pieces))
    one, other = (tmp_path / f"{pieces}.{format}" for pieces in (1, 97))
    if format == "opus":  # its stream has a random number
        assert np.array_equal(decode(one), decode(other))
    else:
        assert one.read_bytes() == other.read_bytes()


def test_peaks_are_held_down_in_each_chapter(tmp_path: Path) -> None:
    loud = babble(RATE, 5, 1.9)
    BookWriter(tmp_path / "a.flac", TAGS, ceiling_db=-6.0).write([ChapterAudio("a", [loud]), ChapterAudio("b", [loud])])
    sound = decode(tmp_path / "a.flac")
    meter = TruePeakMeter()
    meter.push(sound)
    assert -7.0 < meter.peak_db() <= -6.0
    assert np.array_equal(sound[:RATE], sound[RATE:])


@pytest.mark.parametrize("format", FORMATS)
def test_a_folder(tmp_path: Path, format: str) -> None:
    extension = {"m4b": "m4a"}.get(format, format)
    written = BookWriter(tmp_path / "Book", TAGS, format=format, ceiling_db=None).write(chapters())
    names = [f"01 - One.{extension}", f"02 - Zwei – é.{extension}", f"03 - فصل.{extension}", f"04 - アリス.{extension}"]
    assert [path.name for path in written.files] == names
    assert sorted(os.listdir(tmp_path / "Book")) == sorted([*names, "cover.png", "The Book.m3u8"])
    assert [mark.start_samples for mark in written.chapters] == STARTS
    for path, samples in zip(written.files, CHAPTERS.values(), strict=True):
        sound = decode(path)
        assert len(samples) <= len(sound) < len(samples) + 1024
        assert lag_of(sound, samples, 4000) == 0
    listed = (tmp_path / "Book" / "The Book.m3u8").read_text(encoding="utf-8").splitlines()
    assert [line for line in listed if not line.startswith("#")] == names
    assert os.listdir(tmp_path) == ["Book"]
    av = pytest.importorskip("av")
    with av.open(str(written.files[1])) as file:
        tags = {name.lower(): value for name, value in {**file.metadata, **file.streams.audio[0].metadata}.items()}
        assert (tags["title"], tags["album"]) == ("Zwei – é", "The Book")
        number = tags.get("track", tags.get("tracknumber", ""))
        assert number.split("/")[0] == "2"


def test_a_folder_that_is_there_keeps_what_is_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "Book.d"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / "01 - One.mp3").write_text("old")
    BookWriter(folder, TAGS).write(chapters())
    assert (folder / "notes.txt").read_text() == "mine"
    assert (folder / "01 - One.mp3").read_bytes()[:3] == b"ID3"


@needs_aac
def test_kept_chapters_are_not_asked_for_again(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    first = BookWriter(tmp_path / "a.m4b", TAGS, parts=parts).write(chapters())
    assert first.num_kept == 0

    def silent(title: str) -> Iterator[np.ndarray]:
        raise AssertionError(title)
        yield

    again = BookWriter(tmp_path / "b.m4b", TAGS, parts=parts).write(
        [ChapterAudio(title, silent(title), digest=title) for title in CHAPTERS]
    )
    assert (again.num_kept, again.chapters) == (4, first.chapters)
    assert (tmp_path / "a.m4b").read_bytes() == (tmp_path / "b.m4b").read_bytes()
    # Another ceiling is another sound.
    other = BookWriter(tmp_path / "c.m4b", TAGS, parts=parts, ceiling_db=-20.0).write(chapters())
    assert other.num_kept == 0


_KILLED = """
import os, signal, sys
import numpy as np
from voxtral.book.output.tags import BookTags
from voxtral.book.output.write import BookWriter, ChapterAudio
sys.path.insert(0, sys.argv[4])
from book_output import babble

def blocks(seed):
    for piece in range(6):
        if (seed, piece) == (int(sys.argv[2]), 3):
            os.kill(os.getpid(), signal.SIGKILL)
        yield babble(9001, 100 * seed + piece)

writer = BookWriter(sys.argv[1], BookTags("Book"), parts=sys.argv[3] or None)
writer.write([ChapterAudio(f"c{seed}", blocks(seed), digest=f"{seed}") for seed in range(4)])
"""


def run(target: Path, killed_at: int, parts: Path | str = "") -> int:
    tests = str(Path(__file__).parents[3])
    command = [sys.executable, "-c", _KILLED, str(target), str(killed_at), str(parts), tests]
    return subprocess.run(command, check=False, timeout=60).returncode


@pytest.mark.parametrize("format", [pytest.param("m4b", marks=needs_aac), "mp3"])
def test_a_kill_leaves_one_hidden_file_and_no_other_result(tmp_path: Path, format: str) -> None:
    target, parts = tmp_path / "out" / f"book.{format}", tmp_path / "parts" if format == "m4b" else ""
    target.parent.mkdir()
    for chapter in (0, 2, 3):
        assert run(target, chapter, parts) == -signal.SIGKILL
        assert [path.suffix for path in target.parent.iterdir()] == [".part"]
    assert run(target, -1, parts) == 0
    assert run(tmp_path / f"other.{format}", -1) == 0
    assert target.read_bytes() == (tmp_path / f"other.{format}").read_bytes()
    assert os.listdir(target.parent) == [target.name]


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    target = tmp_path / "a.mp3"
    target.write_text("old")

    def failing() -> Iterator[np.ndarray]:
        yield babble(5000)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        BookWriter(target, TAGS).write([ChapterAudio("a", failing())])
    with pytest.raises(AudioError, match="nan"):
        BookWriter(target, TAGS).write([ChapterAudio("a", [np.array([np.nan], dtype=np.float32)])])
    assert target.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.mp3"]


@pytest.mark.parametrize("target", ["a.wav", "folder"])
def test_a_disk_that_gets_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(whole.os, "fsync", full)
    with pytest.raises(AudioError, match="No space left"):
        BookWriter(tmp_path / target, TAGS).write(chapters())
    assert os.listdir(tmp_path) == []


def test_room_is_asked_for_before(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"has \d+ MiB left; about \d+ MiB are needed"):
        BookWriter(tmp_path / "a.wav", TAGS, expected_s=1e10)
    BookWriter(tmp_path / "a.wav", TAGS, expected_s=10.0)
    assert os.listdir(tmp_path) == []


def test_what_is_refused_before_anything_is_spoken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AudioError, match="names no format"):
        BookWriter(tmp_path / "a.ogg", TAGS)
    with pytest.raises(AudioError, match="leave one of both out"):
        BookWriter(tmp_path / "a.mp3", TAGS, format="opus")
    with pytest.raises(AudioError, match="the format 'ogg'"):
        BookWriter(tmp_path / "folder", TAGS, format="ogg")
    with pytest.raises(AudioError, match="its folder does not exist"):
        BookWriter(tmp_path / "none" / "a.mp3", TAGS)
    with pytest.raises(AudioError, match="choose another rate"):
        BookWriter(tmp_path / "a.opus", TAGS, sample_rate=22050)
    (tmp_path / "file").write_text("")
    with pytest.raises(AudioError, match="something else is there"):
        BookWriter(tmp_path / "file", TAGS)

    def missing() -> None:
        raise AacEncoderMissingError("none")

    monkeypatch.setattr(write, "find_aac_encoder", missing)
    with pytest.raises(AacEncoderMissingError):
        BookWriter(tmp_path / "a.m4b", TAGS)
    assert os.listdir(tmp_path) == ["file"]


def test_chapters_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no chapters"):
        BookWriter(tmp_path / "a.mp3", TAGS).write([])
    with pytest.raises(AudioError, match="'b' has no samples"):
        BookWriter(tmp_path / "a.mp3", TAGS).write([ChapterAudio("a", [babble(5000)]), ChapterAudio("b", [])])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("format", FORMATS)
def test_memory_does_not_grow_with_the_book(tmp_path: Path, format: str) -> None:
    block = babble(RATE, 9)

    def peak(num_blocks: int) -> int:
        tracemalloc.start()
        writer = BookWriter(tmp_path / f"{num_blocks}.{format}", TAGS)
        writer.write([ChapterAudio("a", (block for _ in range(num_blocks)))])
        result = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return result

    # Fifty seconds more are 4.8 MB of samples.
    assert peak(60) < peak(10) + 400_000


def test_sound_is_what_the_encoder_makes_alone(tmp_path: Path) -> None:
    BookWriter(tmp_path / "a.mp3", BookTags("Book"), ceiling_db=None).write(chapters())
    encoder = ContainerEncoder("mp3", RATE, is_seekable=True)
    size = len(encoder.write(SAMPLES) + encoder.finish())
    assert size <= (tmp_path / "a.mp3").stat().st_size < size + 2000
