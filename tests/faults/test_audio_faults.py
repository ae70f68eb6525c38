"""Hostile clips and failing disks: forged headers, bombs, cut files, interrupts.

Each test asserts the typed error, and that nothing is left: no memory, no half file, no temporary file.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from hostile_clips import flac_bomb, opus_bomb, wav
from voxtral.audio.encode import encode, open_encoder
from voxtral.audio.file import AudioFileWriter
from voxtral.audio.read import AudioLimits, read_audio
from voxtral.errors import AudioError, ReferenceAudioError

RATE = 24000


def tone(seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * 200 * np.arange(int(seconds * rate)) / rate)).astype(np.float32)


# Headers that lie.


def test_a_frame_count_beyond_the_file_is_refused():
    for claimed in (10_000_000, 0x70000000):
        with pytest.raises(ReferenceAudioError, match="cut short"):
            read_audio(wav(bytes(1000), claimed=claimed), sample_rate=RATE)


def test_an_unknown_length_costs_only_what_is_there():
    assert len(read_audio(wav(bytes(1000), claimed=0xFFFFFFFF), sample_rate=RATE)) == 500


@pytest.mark.parametrize("rate", [1, 3999, 384_001, 10_000_000, 0x7FFFFFFF])
def test_forged_rates_are_refused(rate):
    # 1 Hz would make a second of a clip into hours at 24 kHz.
    with pytest.raises(ReferenceAudioError, match=f"{rate} Hz"):
        read_audio(wav(bytes(48_000), rate=rate), sample_rate=RATE)


def test_a_rate_of_zero_is_refused():
    with pytest.raises(ReferenceAudioError):
        read_audio(wav(bytes(48_000), rate=0), sample_rate=RATE)


@pytest.mark.parametrize("channels", [9, 1000, 65535])
def test_forged_channels_are_refused(channels):
    with pytest.raises(ReferenceAudioError, match=r"channels|cannot be decoded"):
        read_audio(wav(bytes(2 * channels * 4), channels=channels), sample_rate=RATE)


def test_no_channels_are_refused():
    with pytest.raises(ReferenceAudioError):
        read_audio(wav(bytes(1000), channels=0), sample_rate=RATE)


def test_a_low_rate_that_makes_a_clip_long_is_counted_in_seconds():
    with pytest.raises(ReferenceAudioError, match="60 s"):
        read_audio(wav(bytes(2 * (60 * 4000 + 1)), rate=4000), sample_rate=RATE)


def test_a_header_alone_is_no_clip():
    with pytest.raises(ReferenceAudioError, match="without a single sample"):
        read_audio(wav(b""), sample_rate=RATE)


def test_a_file_of_nothing_but_tags_or_chunks_ends_early():
    tags = b"ID3\x04\x00\x00\x00\x00\x00\x00" * 900_000
    chunks = wav(b"")[:36] + b"junk\0\0\0\0" * 1_200_000
    for data in (tags, chunks):
        with pytest.raises(ReferenceAudioError):
            read_audio(data, sample_rate=RATE)


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_float_files_with_values_that_are_no_sound(value):
    file = io.BytesIO()
    samples = tone(0.1, 48000)
    samples[100:102] = value
    soundfile.write(file, np.stack([samples, samples], axis=1), 48000, format="WAV", subtype="FLOAT")
    with pytest.raises(ReferenceAudioError, match="NaN, infinite or too large"):
        read_audio(file.getvalue(), sample_rate=RATE)


# Small files that decode to much.


@pytest.mark.parametrize("make", [opus_bomb, flac_bomb])
def test_bombs_are_stopped_at_the_limit_of_seconds(make):
    data = make(2.0)
    assert len(data) < 200_000
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        assert file.frames / file.samplerate > 7100
    with pytest.raises(ReferenceAudioError, match="more than 60 s"):
        read_audio(data, sample_rate=RATE)


def test_many_channels_are_stopped_at_the_limit_of_bytes():
    file = io.BytesIO()
    soundfile.write(file, np.zeros((45 * 48000, 8), dtype=np.int16), 48000, format="FLAC")
    data = file.getvalue()
    assert len(data) < 300_000
    with pytest.raises(ReferenceAudioError, match="64 MiB"):
        read_audio(data, sample_rate=RATE)
    assert len(read_audio(data, sample_rate=RATE, limits=AudioLimits(max_decoded_bytes=2**27))) == 45 * RATE


READ_AND_MEASURE = """
import resource, sys
import numpy, soundfile, soxr
from voxtral.audio.read import read_audio
from voxtral.errors import ReferenceAudioError
for path in sys.argv[1:]:
    data = open(path, "rb").read()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        read_audio(data, sample_rate=24000)
        sys.exit("not refused: " + path)
    except ReferenceAudioError:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="ru_maxrss is in other units elsewhere")
def test_bombs_cost_little_memory(tmp_path):
    # In a process of its own, because the peak of this one is already high, and C libraries allocate unseen.
    files = {
        "a.opus": opus_bomb(2.0),
        "b.flac": flac_bomb(2.0),
        "c.wav": wav(bytes(8), channels=65535, claimed=2**31 - 1),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    result = subprocess.run(
        [sys.executable, "-c", READ_AND_MEASURE, *(str(tmp_path / name) for name in files)],
        capture_output=True,
        text=True,
        check=True,
    )
    grown_kib = [int(line) for line in result.stdout.split()]
    assert len(grown_kib) == 3
    # Two hours at 48 kHz are 1.3 GiB as float32; 60 s are 11 MiB.
    assert max(grown_kib) < 40 * 1024


# Files that are too large, not there, or not files.


def test_the_size_of_a_file_is_checked_before_it_is_read(tmp_path, monkeypatch):
    path = tmp_path / "large.wav"
    with open(path, "wb") as file:
        file.truncate(10 * 2**20 + 1)
    monkeypatch.setattr(os, "open", lambda *args, **kwargs: pytest.fail("opened"))
    with pytest.raises(ReferenceAudioError, match="10 MiB"):
        read_audio(path, sample_rate=RATE)


def test_a_file_that_grows_while_it_is_read_is_still_bounded(tmp_path, monkeypatch):
    path = tmp_path / "grows.wav"
    path.write_bytes(wav(bytes(1000)))
    real_fstat = os.fstat

    def grow(descriptor):
        status = real_fstat(descriptor)
        with open(path, "ab") as file:
            file.truncate(20 * 2**20)
        return status

    monkeypatch.setattr(os, "fstat", grow)
    with pytest.raises(ReferenceAudioError, match="10 MiB"):
        read_audio(path, sample_rate=RATE)


def test_an_endless_file_object_is_read_up_to_the_limit():
    class Endless(io.RawIOBase):
        given = 0

        def read(self, size=-1):
            self.given += min(size, 65536)
            return bytes(min(size, 65536))

    endless: Any = Endless()
    with pytest.raises(ReferenceAudioError, match="10 MiB"):
        read_audio(endless, sample_rate=RATE)
    assert endless.given == 10 * 2**20 + 1


def test_bytes_over_the_limit_are_refused():
    with pytest.raises(ReferenceAudioError, match="10 MiB"):
        read_audio(bytes(10 * 2**20 + 1), sample_rate=RATE)
    # The shape of a memoryview is not its size.
    view = memoryview(np.zeros(2**18 + 1, dtype=np.float32).data)
    with pytest.raises(ReferenceAudioError, match="1 MiB"):
        read_audio(view, sample_rate=RATE, limits=AudioLimits(max_bytes=2**20))


def test_paths_without_a_clip(tmp_path):
    (tmp_path / "empty.wav").write_bytes(b"")
    (tmp_path / "text.wav").write_text("Dear Sir or Madam, " * 20)
    (tmp_path / "zeros.wav").write_bytes(bytes(5000))
    (tmp_path / "file").write_bytes(b"x")
    cases = {
        tmp_path / "missing.wav": "there is no file",
        tmp_path / "file" / "a.wav": "there is no file",
        tmp_path: "a folder",
        tmp_path / "empty.wav": r"empty file \(0 bytes\)",
        tmp_path / "text.wav": "looks like text",
        tmp_path / "zeros.wav": "no audio format",
        "": "there is no file",
        "a\0b": "there is no file",
        "x" * 5000: "cannot be opened",
    }
    for path, message in cases.items():
        with pytest.raises(ReferenceAudioError, match=message) as caught:
            read_audio(path, sample_rate=RATE)
        assert len(str(caught.value)) < 500


def test_a_pipe_neither_blocks_nor_is_opened(tmp_path):
    path = tmp_path / "pipe.wav"
    os.mkfifo(path)
    outcome: list[BaseException] = []

    def read() -> None:
        try:
            read_audio(path, sample_rate=RATE)
        except ReferenceAudioError as error:
            outcome.append(error)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()
    assert "device, pipe or socket" in str(outcome[0])


def test_a_file_that_becomes_a_pipe_after_the_check_does_not_block(tmp_path, monkeypatch):
    path = tmp_path / "clip.wav"
    path.write_bytes(wav(bytes(1000)))
    real_stat = os.stat

    def swap(name, *args, **kwargs):
        status = real_stat(name, *args, **kwargs)
        if name == str(path):
            path.unlink()
            os.mkfifo(path)
        return status

    monkeypatch.setattr(os, "stat", swap)
    with pytest.raises(ReferenceAudioError, match="device, pipe or socket"):
        read_audio(path, sample_rate=RATE)


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="needs /dev/zero")
def test_devices_are_refused():
    with pytest.raises(ReferenceAudioError, match="device, pipe or socket"):
        read_audio("/dev/zero", sample_rate=RATE)


def test_a_file_that_may_not_be_opened(tmp_path, monkeypatch):
    path = tmp_path / "clip.wav"
    path.write_bytes(wav(bytes(1000)))

    def denied(*args, **kwargs):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", denied)
    with pytest.raises(ReferenceAudioError, match="Permission denied"):
        read_audio(path, sample_rate=RATE)


def test_file_objects_that_do_not_read_bytes(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("hello")
    with path.open() as file:
        text: Any = file
        with pytest.raises(ReferenceAudioError, match="reads str"):
            read_audio(text, sample_rate=RATE)
    with pytest.raises(ReferenceAudioError, match="cannot be read"):
        read_audio(text, sample_rate=RATE)  # closed
    with open(path, "ab") as file, pytest.raises(ReferenceAudioError, match="cannot be read"):
        read_audio(file, sample_rate=RATE)


# Files that are cut.


def clip(format: str) -> bytes:
    if format == "aiff":
        file = io.BytesIO()
        soundfile.write(file, tone(), RATE, format="AIFF")
        return file.getvalue()
    return encode(tone(), format, RATE)


@pytest.mark.parametrize("format", ["wav", "aiff", "flac", "mp3", "opus", "ogg"])
@pytest.mark.parametrize("share", [0.999, 0.9, 0.5, 0.1, 0.01])
def test_cut_files_are_refused(format, share):
    data = clip(format)
    assert abs(len(read_audio(data, sample_rate=RATE)) - RATE) <= 1
    with pytest.raises(ReferenceAudioError, match=r"cut short|must be whole|no audio format"):
        read_audio(data[: int(len(data) * share)], sample_rate=RATE)


@pytest.mark.parametrize("format", ["aac", "m4a"])
@pytest.mark.parametrize("make", ["file", "stream"])
@pytest.mark.parametrize("share", [0.999, 0.5, 0.1, 0.01])
def test_cut_files_of_pyav_are_refused(format, make, share):
    pytest.importorskip("av")
    if make == "file":
        data = encode(tone(), format, RATE)
    else:
        encoder = open_encoder(format, RATE)
        data = encoder.write(tone()) + encoder.finish()
    with pytest.raises(ReferenceAudioError):
        read_audio(data[: int(len(data) * share)], sample_rate=RATE)


@pytest.mark.parametrize("format", ["aac", "m4a"])
def test_pyav_stops_at_the_limit_and_is_quiet(format, capfd):
    pytest.importorskip("av")
    encoder = open_encoder(format, 8000)
    minute = np.zeros(60 * 8000, dtype=np.float32)
    data = b"".join([*(encoder.write(minute) for _ in range(10)), encoder.finish()])
    with pytest.raises(ReferenceAudioError, match="60 s"):
        read_audio(data, sample_rate=RATE)
    damaged = bytearray(encode(tone(), format, RATE))
    damaged[len(damaged) // 3 : len(damaged) // 2] = bytes(len(damaged) // 2 - len(damaged) // 3)
    with contextlib.suppress(ReferenceAudioError):
        read_audio(bytes(damaged), sample_rate=RATE)
    assert capfd.readouterr().err == ""


# Disks and interrupts.


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "speech.wav"
    path.write_bytes(b"old")
    return path


def only_the_old_file(folder: Path) -> bool:
    return os.listdir(folder) == ["speech.wav"] and (folder / "speech.wav").read_bytes() == b"old"


def speak_into(
    target: Path, before: Callable[[AudioFileWriter], object] = lambda file: None, *, format: str = "wav"
) -> None:
    """Write a second, do what the test wants, write five more."""
    noise = (0.1 * np.random.default_rng(0).standard_normal(RATE)).astype(np.float32)
    with AudioFileWriter(target, RATE, format=format) as file:
        file.write(noise)
        before(file)
        for _ in range(5):
            file.write(noise)


def raise_(error: BaseException) -> Callable[..., None]:
    def fail(*args: object, **kwargs: object) -> None:
        raise error

    return fail


FULL = OSError(errno.ENOSPC, "No space left on device")


class FullDisk:
    """A file that takes some bytes, and then fails as a full disk does."""

    def __init__(self, file, room: int) -> None:
        self.file = file
        self.room = room

    def __getattr__(self, name):
        return getattr(self.file, name)

    def write(self, data):
        self.room -= len(data)
        if self.room < 0:
            raise FULL
        return self.file.write(data)


@pytest.mark.parametrize("format", ["wav", "flac", "mp3", "opus", "ogg"])
@pytest.mark.parametrize("room", [0, 5000])
def test_a_full_disk_keeps_the_old_file(target, format, room):
    def fill(file):
        file._file = FullDisk(file._file, room)

    with pytest.raises(AudioError, match="No space left") as caught:
        speak_into(target, fill, format=format)
    assert caught.value.__cause__ is FULL
    assert only_the_old_file(target.parent)


def test_a_disk_that_is_full_at_the_very_end_keeps_the_old_file(target, monkeypatch):
    monkeypatch.setattr(os, "fsync", raise_(FULL))
    with pytest.raises(AudioError, match="No space left"):
        speak_into(target)
    assert only_the_old_file(target.parent)


@pytest.mark.skipif(sys.platform == "win32", reason="needs setrlimit")
def test_a_real_limit_on_the_size_of_files_keeps_the_old_file(target):
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(AudioError, match="while writing"):
            speak_into(target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert only_the_old_file(target.parent)


def test_a_rename_that_fails_keeps_the_old_file(target, monkeypatch):
    monkeypatch.setattr(os, "replace", raise_(PermissionError(errno.EACCES, "Permission denied")))
    with pytest.raises(AudioError, match="Permission denied"):
        speak_into(target)
    assert only_the_old_file(target.parent)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError, GeneratorExit])
def test_an_exception_in_the_block_keeps_the_old_file(target, error):
    with pytest.raises(error):
        speak_into(target, raise_(error()))
    assert only_the_old_file(target.parent)


def test_an_interrupt_in_the_middle_of_a_write_keeps_the_old_file(target):
    def interrupt_next_write(file):
        file._encoder.write = raise_(KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt):
        speak_into(target, interrupt_next_write)
    assert only_the_old_file(target.parent)


def test_an_interrupt_at_the_very_end_keeps_the_old_file(target, monkeypatch):
    monkeypatch.setattr(os, "fsync", raise_(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        speak_into(target)
    assert only_the_old_file(target.parent)


def test_a_failure_that_the_caller_swallows_still_makes_no_file(target):
    def write_nonsense(file):
        with pytest.raises(AudioError, match="sample 0"):
            file.write(np.array([np.nan], dtype=np.float32))
        with pytest.raises(AudioError, match="only a whole file"):
            file.write(tone())

    file = AudioFileWriter(target, RATE)
    with pytest.raises(AudioError, match="only a whole file"), file:
        write_nonsense(file)
    assert only_the_old_file(target.parent)


def test_an_interrupt_while_the_file_is_created_leaves_nothing(target, monkeypatch):
    monkeypatch.setattr(os, "fdopen", raise_(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        speak_into(target)
    assert only_the_old_file(target.parent)


def test_a_wav_file_beyond_4_gib_is_refused_and_a_stream_is_not(target):
    def nearly_full(file):
        file._encoder._writer._num_bytes = 2**32 - 1000

    with pytest.raises(AudioError, match="4 GiB"):
        speak_into(target, nearly_full)
    assert only_the_old_file(target.parent)
    encoder: Any = open_encoder("wav", RATE)
    encoder._writer._num_bytes = 2**32 - 1000
    assert len(encoder.write(tone())) == 44 + 2 * RATE


def test_an_encoder_that_fails_is_an_audio_error(target):
    class Failing:
        write = staticmethod(raise_(soundfile.LibsndfileError(2)))

    def break_encoder(file):
        file._encoder._writer._file.close()
        file._encoder._writer._file = Failing()

    with pytest.raises(AudioError, match="error from the encoder"):
        speak_into(target, break_encoder, format="ogg")
    assert only_the_old_file(target.parent)
