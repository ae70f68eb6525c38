"""Files that appear whole: names, modes, formats, refusals before any work."""

from __future__ import annotations

import os
import tracemalloc

import numpy as np
import pytest
import soundfile

from voxtral.audio.encode import encode
from voxtral.audio.file import AudioFileWriter
from voxtral.audio.read import read_audio
from voxtral.errors import AudioError

RATE = 24000


def tone(seconds: float = 0.5) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * 200 * np.arange(int(seconds * RATE)) / RATE)).astype(np.float32)


@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "opus", "ogg"])
def test_a_file_written_in_pieces_is_whole(tmp_path, format):
    path = tmp_path / f"speech.{format}"
    samples = tone(1.0)
    with AudioFileWriter(path, RATE) as file:
        for start in range(0, len(samples), 1000):
            file.write(samples[start : start + 1000])
        assert file.num_samples == len(samples)
        assert not path.exists()
    decoded, rate = soundfile.read(path, dtype="float32")
    assert rate == RATE
    assert len(decoded) == len(samples)
    assert np.corrcoef(samples, decoded)[0, 1] > 0.95
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "pcm"])
def test_a_file_is_the_bytes_of_encode(tmp_path, format):
    samples = tone(1.0)
    with AudioFileWriter(tmp_path / "speech", RATE, format=format) as file:
        file.write(samples[:10_000])
        file.write(samples[10_000:])
    assert (tmp_path / "speech").read_bytes() == encode(samples, format, RATE)


@pytest.mark.parametrize("format", ["aac", "m4a"])
def test_aac_files(tmp_path, format):
    pytest.importorskip("av")
    path = tmp_path / f"speech.{format}"
    with AudioFileWriter(path, RATE) as file:
        for _ in range(4):
            file.write(tone())
    assert 2.0 <= len(read_audio(path, sample_rate=RATE)) / RATE <= 2.2


def test_an_m4a_file_is_not_in_fragments(tmp_path):
    pytest.importorskip("av")
    path = tmp_path / "speech.m4a"
    with AudioFileWriter(path, RATE) as file:
        file.write(tone(2.0))
    data = path.read_bytes()
    assert b"moof" not in data
    mdat = data.index(b"mdat") - 4
    size = int.from_bytes(data[mdat : mdat + 4], "big")
    assert data[mdat + size + 4 : mdat + size + 8] == b"moov"


def test_an_existing_file_is_replaced_at_the_end(tmp_path):
    path = tmp_path / "speech.wav"
    path.write_bytes(b"old")
    with AudioFileWriter(path, RATE) as file:
        file.write(tone())
        assert path.read_bytes() == b"old"
    assert path.read_bytes()[:4] == b"RIFF"


def test_a_link_stays_a_link(tmp_path):
    target = tmp_path / "real.wav"
    target.write_bytes(b"old")
    link = tmp_path / "link.wav"
    link.symlink_to(target)
    with AudioFileWriter(link, RATE) as file:
        file.write(tone())
    assert link.is_symlink()
    assert target.read_bytes()[:4] == b"RIFF"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600)])
def test_the_mode_follows_the_umask(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with AudioFileWriter(tmp_path / "speech.wav", RATE) as file:
            file.write(tone())
    finally:
        os.umask(before)
    assert (tmp_path / "speech.wav").stat().st_mode & 0o777 == mode


def test_the_temporary_file_is_hidden_and_differs(tmp_path):
    names = set()
    for _ in range(2):
        with AudioFileWriter(tmp_path / "speech.wav", RATE) as file:
            (name,) = (name for name in os.listdir(tmp_path) if name != "speech.wav")
            names.add(name)
            file.write(tone())
    assert len(names) == 2
    assert all(name.startswith(".voxtral-") for name in names)


def test_the_longest_name_works(tmp_path):
    path = tmp_path / ("a" * 251 + ".wav")
    with AudioFileWriter(path, RATE) as file:
        file.write(tone())
    assert path.exists()


def test_a_relative_path_means_the_folder_of_the_start(tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    with AudioFileWriter("speech.wav", RATE) as file:
        os.chdir(tmp_path / "other")
        file.write(tone())
    assert (tmp_path / "speech.wav").exists()


def test_an_empty_wav_is_a_file(tmp_path):
    with AudioFileWriter(tmp_path / "empty.wav", RATE):
        pass
    assert len(soundfile.read(tmp_path / "empty.wav")[0]) == 0


def test_an_empty_mp3_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(AudioError, match="no samples"), AudioFileWriter(tmp_path / "empty.mp3", RATE):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("format", ["wav", "flac", "mp3"])
def test_memory_does_not_grow(tmp_path, format):
    second = tone(1.0)
    with AudioFileWriter(tmp_path / f"long.{format}", RATE) as file:
        file.write(second)
        tracemalloc.start()
        try:
            for _ in range(120):
                file.write(second)
            kept, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert kept < 200_000  # two minutes of wav are 5.8 MB
    assert peak < 1_000_000


def refuse(path: object, message: str, **options: str) -> None:
    with pytest.raises(AudioError, match=message), AudioFileWriter(path, RATE, **options):  # type: ignore[arg-type]
        pytest.fail("the body must not run")


def test_targets_that_are_refused_before_any_work(tmp_path):
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "file").write_bytes(b"")
    refuse(tmp_path / "missing" / "a.wav", "folder does not exist")
    refuse(tmp_path / "file" / "a.wav", "folder does not exist")
    refuse(tmp_path / "folder.wav", "is a folder")
    refuse(tmp_path / "pipe.wav", "device, pipe or socket")
    refuse(tmp_path / "a.txt", "extension '.txt'")
    refuse(tmp_path / "a.wav", "format 'wma'", format="wma")
    refuse("a\0b.wav", "must be a path to a file")  # Python's own word for it differs between versions
    refuse(tmp_path / ("a" * 300 + ".wav"), "cannot be looked at")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder.wav", "pipe.wav"]


def test_a_folder_that_cannot_be_written_to_is_refused_before_any_work(tmp_path, monkeypatch):
    real_open = os.open

    def denied(path, flags, *args, **kwargs):
        if flags & os.O_CREAT and os.path.dirname(path) == str(tmp_path):
            raise PermissionError(13, "Permission denied")
        return real_open(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", denied)
    refuse(tmp_path / "a.wav", "Permission denied")


def test_a_writer_is_used_once_and_inside_its_block(tmp_path):
    writer = AudioFileWriter(tmp_path / "a.wav", RATE)
    with pytest.raises(AudioError, match="outside the with block"):
        writer.write(tone())
    with writer:
        writer.write(tone())
    with pytest.raises(AudioError, match="outside the with block"):
        writer.write(tone())
    with pytest.raises(AudioError, match="used before"), writer:
        pytest.fail("the body must not run")


def test_an_exit_without_an_entry_is_an_error(tmp_path):
    with pytest.raises(AudioError, match="context manager"):
        AudioFileWriter(tmp_path / "a.wav", RATE).__exit__(None, None, None)
