"""Finished files of audio into one, piece by piece, so that a day of speech needs no more memory than a sentence.

Files come from the owner of the machine and are read as far as they go; clips of others are for `voxtral.audio.read`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from voxtral.audio.file import AudioFileWriter
from voxtral.errors import AudioError

_BLOCK_SAMPLES = 65536

# What libsndfile does not read.
_AV_EXTENSIONS = (".aac", ".m4a", ".mp4")
_RAW_EXTENSIONS = (".pcm", ".raw")


@dataclass(frozen=True)
class Joined:
    """What became of some files.

    Attributes:
        path: of the one.
        num_files: that went in.
        duration_s: seconds of audio, pauses included.
        sample_rate: of the one; files of other rates were resampled.
        num_resampled: files that were.
    """

    path: Path
    num_files: int
    duration_s: float
    sample_rate: int
    num_resampled: int


@dataclass(frozen=True)
class _Part:
    path: Path
    rate: int


def join_audio(
    parts: Sequence[str | os.PathLike[str]],
    target: str | os.PathLike[str],
    *,
    pause_s: float = 0.0,
    format: str | None = None,
    raw_rate: int | None = None,
    check: Callable[[], None] | None = None,
) -> Joined:
    """Write the audio of some files into one file, in their order.

    Args:
        parts: mono files of any format that is written here; one at least.
        target: appears whole or not at all; its extension chooses the format. The rate is that of the first part, and
            parts of another rate are resampled.
        pause_s: seconds of silence between two parts.
        format: one of `voxtral.audio.encode.FORMATS`; by default the extension of the target decides.
        raw_rate: samples per second of parts in pcm, which do not say it.
        check: is called before each block; what it raises ends the work.

    Raises:
        AudioError: a part cannot be read, is not mono or is the target, there is none, or the target cannot be written.
    """
    if not parts:
        raise AudioError("no file is named that could be joined; one is needed at least; name some")
    opened = [_look_at(Path(part), raw_rate) for part in parts]
    place = Path(target)
    if same := next((part.path for part in opened if place.exists() and part.path.samefile(place)), None):
        raise AudioError(f"{same} is to be joined and to be written; a file cannot be both; choose another target")
    rate = opened[0].rate
    pause = np.zeros(round(pause_s * rate), dtype=np.float32)
    with AudioFileWriter(place, rate, format=format) as writer:
        for index, part in enumerate(opened):
            if index and len(pause):
                writer.write(pause)
            with closing(_samples(part, rate, raw_rate)) as blocks:
                for block in blocks:
                    if check is not None:
                        check()
                    writer.write(block)
        num_samples = writer.num_samples
    num_resampled = sum(part.rate != rate for part in opened)
    return Joined(place, len(opened), num_samples / rate, rate, num_resampled)


def _look_at(path: Path, raw_rate: int | None) -> _Part:
    """Check a part by its header."""
    with closing(_open(path, raw_rate)) as blocks:
        rate, channels = next(blocks)
    if channels != 1:
        raise AudioError(f"{path} has {channels} channels; only mono files are joined; mix it down first")
    return _Part(path, rate)


def _samples(part: _Part, rate: int, raw_rate: int | None) -> Generator[np.ndarray]:
    """Yield the samples of a part at a rate, [S] float32 each."""
    import soxr

    resampler = None if part.rate == rate else soxr.ResampleStream(part.rate, rate, 1, dtype="float32", quality="HQ")
    with closing(_open(part.path, raw_rate)) as blocks:
        next(blocks)
        for block in blocks:
            yield block if resampler is None else resampler.resample_chunk(block)
    if resampler is not None:
        yield resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True)


def _open(path: Path, raw_rate: int | None) -> Generator[Any]:
    """Yield the rate and the number of channels of a file, then its samples."""
    if not path.is_file():
        raise AudioError(f"{path} is no file; parts are finished files of audio; check the name")
    return _av_blocks(path) if path.suffix.lower() in _AV_EXTENSIONS else _soundfile_blocks(path, raw_rate)


def _soundfile_blocks(path: Path, raw_rate: int | None) -> Generator[Any]:
    import soundfile

    options: dict[str, Any] = {}
    if path.suffix.lower() in _RAW_EXTENSIONS:
        if raw_rate is None:
            raise AudioError(
                f"{path} is pcm, which does not say its rate; it must be known; give it with --rate, or join wav"
            )
        options = {"samplerate": raw_rate, "channels": 1, "format": "RAW", "subtype": "PCM_16", "endian": "LITTLE"}
    try:
        if not path.stat().st_size:
            raise _unreadable(path, "it is empty")
        with soundfile.SoundFile(path, **options) as file:
            yield file.samplerate, file.channels
            num_frames = 0
            block = np.empty(_BLOCK_SAMPLES, dtype=np.float32)
            while count := file.buffer_read_into(block, "float32"):
                num_frames += count
                yield block[:count].copy()
            if num_frames < file.frames < 2**62:
                raise _unreadable(path, "it ends early")
    except (soundfile.SoundFileError, OSError) as error:
        raise _unreadable(path, str(error)) from error


def _av_blocks(path: Path) -> Generator[Any]:
    try:
        import av
        import av.error
    except ImportError as error:
        raise AudioError(
            f"{path} is read with PyAV, which is not installed; pip install 'voxtral-tts[av]', or join wav files"
        ) from error
    try:
        with av.open(str(path), "r") as file:
            stream = file.streams.audio[0]
            yield stream.rate, stream.codec_context.channels
            to_float = av.AudioResampler(format="flt", layout=stream.layout, rate=stream.rate)
            for frame in file.decode(stream):
                for converted in to_float.resample(frame):
                    yield converted.to_ndarray().reshape(-1).astype(np.float32)
    except (av.error.FFmpegError, ValueError, IndexError) as error:
        raise _unreadable(path, type(error).__name__) from error


def _unreadable(path: Path, why: str) -> AudioError:
    return AudioError(f"{path} cannot be read ({why}); parts are whole files of audio; make it again, or leave it out")
