"""Untrusted audio to mono samples: reference clips from users, as paths, bytes, open files or arrays.

Nothing that a header claims is believed and every limit is counted while decoding, so that a small file which decodes
to hours, or names a billion channels, costs no more than an honest one. It does not judge whether a clip is good
enough to clone a voice (`voxtral.audio.reference` does) and never opens a URL.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from voxtral.audio.containers import has_frame_count, is_cut_short, recognise, skip_id3, with_length
from voxtral.audio.joined import second_file_at
from voxtral.audio.quiet import without_remarks
from voxtral.audio.source import (
    DEFAULT_LIMITS,
    AudioLimits,
    AudioSource,
    empty_clip,
    read_bytes,
)
from voxtral.errors import OptionError, ReferenceAudioError

# Every format has one decoder: these go to FFmpeg, the others to libsndfile. FFmpeg is told which demuxer to use
# and never asked to guess, because its playlist formats open further files and addresses.
_AV_DEMUXERS = {"mp4": "mp4", "webm": "matroska", "aac": "aac"}
_AV_CODECS = "aac,alac,flac,mp3,mp3float,opus,libopus,vorbis,libvorbis"

_KNOWN_FORMATS = "wav (also rf64 and w64), aiff, au, caf, flac, ogg (vorbis, opus) and mp3"
_AV_HINT = "pip install voxtral-tts[av] adds aac, m4a and webm"

_BLOCK_SAMPLES = 65536

# Channels that lose this much when they are averaged, beyond what unrelated ones lose, cancel each other.
_CANCELLED = 0.125
# And the clip has that fault if so much of its power is in such places.
_MAX_CANCELLED_SHARE = 0.1

# The length of an MP3 without a frame count is guessed from the bitrate of its first frame. No MP3 is this much longer
# than such a guess: the highest bitrate is 320 kbit/s, the lowest 8.
_MP3_LENGTH_MARGIN = 64


def read_audio(source: AudioSource, *, sample_rate: int, limits: AudioLimits = DEFAULT_LIMITS) -> np.ndarray:
    """Read a clip as mono samples at the wanted rate.

    Channels are averaged, then the whole signal is resampled with soxr at quality "HQ". A clip that is already at the
    wanted rate is not resampled: 16-bit values become exactly value / 32768.

    Args:
        source: a path, the bytes of a file, a file open for reading bytes, or (samples, rate) with samples
            [S] or [S, C] as floats, int32, int16 or uint8. [C, S] is understood where it can be nothing else:
            the last axis is longer than the channel limit and the first is not.
        sample_rate: wanted rate in Hz.
        limits: what the clip may cost.

    Returns:
        [S] float32, finite, S > 0; full scale at -1 and 1, which a float clip may exceed.

    Raises:
        ReferenceAudioError: the clip cannot be found, read or decoded, is empty or cut short, or breaks a limit.
        OptionError: the wanted rate is not positive.
    """
    if sample_rate <= 0:
        raise OptionError(f"got a wanted rate of {sample_rate} Hz; it is a positive number: pass that of the model")
    mixed = _mix(_open(source, limits), limits)
    return resample(mixed.samples, mixed.sample_rate, sample_rate)


@dataclass(frozen=True, eq=False)
class Clip:
    """A clip as it was read, with what its reader found wrong.

    Attributes:
        samples: [S] float32, mono, S > 0; not yet known to be finite.
        sample_rate: its own, in Hz.
        do_channels_cancel: averaged they would have; the samples are those of the loudest one.
        is_joined: a second file follows in the same bytes, which was not read.
    """

    samples: np.ndarray
    sample_rate: int
    do_channels_cancel: bool = False
    is_joined: bool = False


def read_clip(source: AudioSource, *, limits: AudioLimits = DEFAULT_LIMITS) -> Clip:
    """Read a clip as `read_audio` does, at its own rate, and look for channels that cancel and for joined files.

    Raises:
        ReferenceAudioError: as `read_audio`.
    """
    opened = _open(source, limits, first_only=True)
    mixed = _mix(opened, limits)
    if not len(mixed.samples):
        raise empty_clip("audio without a single sample")
    if mixed.do_channels_cancel:
        loudest = int(mixed.channel_powers.argmax())
        mixed = replace(_mix(opened, limits, loudest), do_channels_cancel=True)
    return Clip(mixed.samples, mixed.sample_rate, mixed.do_channels_cancel, opened.is_joined)


def resample(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Bring [S] float32 to another rate, if it is one, and see that every sample is a number.

    Raises:
        ReferenceAudioError: nothing is left, or a sample is not finite.
    """
    if not len(samples):
        raise empty_clip("audio without a single sample")
    if rate != wanted:
        import soxr

        samples = soxr.resample(samples, rate, wanted, quality="HQ")
        if not len(samples):
            raise empty_clip(f"audio that is shorter than one sample at {wanted} Hz")
    if not np.isfinite(samples).all():
        raise ReferenceAudioError(
            "got audio with samples that are NaN, infinite or too large; every sample must be a number near [-1, 1]: "
            "export the clip again as 16-bit wav"
        )
    return samples


# Decoding.


@dataclass(frozen=True, eq=False)
class _Opened:
    """A clip whose blocks can be had more than once.

    Attributes:
        blocks: starts to decode; ([n, C] float32, rate) each, rate and C the same throughout.
        remarks: what its decoder may write to standard error is kept away.
        is_joined: see Clip.
    """

    blocks: Callable[[], Iterator[tuple[np.ndarray, int]]]
    remarks: bool = False
    is_joined: bool = False


def _open(source: Any, limits: AudioLimits, *, first_only: bool = False) -> _Opened:
    """Check what a clip says of itself; with `first_only` bytes after a first file are left out."""
    if isinstance(source, tuple):
        samples, rate = _from_array(source, limits)
        return _Opened(lambda: _array_blocks(samples, rate))
    data = skip_id3(read_bytes(source, limits))
    kind = recognise(data)
    if kind is None:
        raise _unknown_format(data)
    second = second_file_at(data, kind) if first_only else None
    data, is_joined = data[:second], second is not None
    if is_cut_short(data, kind):
        raise _damaged(kind)
    if kind not in _AV_DEMUXERS:
        whole = with_length(data, kind)
        return _Opened(lambda: _soundfile_blocks(whole, kind, limits), remarks=True, is_joined=is_joined)
    if not _has_av():
        raise ReferenceAudioError(
            f"got {kind} audio, which needs PyAV; without it {_KNOWN_FORMATS} can be read: "
            f"convert the clip to wav, or install the extra ({_AV_HINT})"
        )
    return _Opened(lambda: _av_blocks(data, kind, limits), is_joined=is_joined)


def _mix(opened: _Opened, limits: AudioLimits, channel: int | None = None) -> _Mixed:
    """Decode a clip to mono: the average of its channels, or one of them."""
    with without_remarks() if opened.remarks else nullcontext():
        return _collect(opened.blocks(), limits, channel)


def _unknown_format(data: bytes) -> ReferenceAudioError:
    looks_like_text = not any(byte < 9 for byte in data[:64])
    got = "a file that looks like text" if looks_like_text else "bytes in no audio format that is known here"
    hint = "" if _has_av() else f" ({_AV_HINT})"
    return ReferenceAudioError(f"got {got}; {_KNOWN_FORMATS} can be read{hint}: convert the clip to wav")


def _damaged(kind: str) -> ReferenceAudioError:
    return ReferenceAudioError(
        f"got {kind} audio that is damaged or cut short; a clip must be whole: copy or upload it again, "
        "or export it as 16-bit wav"
    )


def _has_av() -> bool:
    try:
        import av  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError:
        return False
    return True


def _check_claims(rate: int, channels: int, limits: AudioLimits) -> None:
    """Refuse what the header claims before anything is allocated for it."""
    if not limits.min_rate <= rate <= limits.max_rate:
        raise ReferenceAudioError(
            f"got audio at {rate} Hz; from {limits.min_rate} to {limits.max_rate} Hz can be read: "
            "export the clip at a usual rate"
        )
    if not 1 <= channels <= limits.max_channels:
        raise ReferenceAudioError(
            f"got audio with {channels} channels; 1 to {limits.max_channels} can be read: mix the clip down to mono"
        )


def _check_length(num_frames: int, rate: int, channels: int, limits: AudioLimits) -> None:
    if num_frames > limits.max_seconds * rate:
        raise ReferenceAudioError(
            f"got audio that lasts more than {limits.max_seconds:g} s, which is the limit: cut the clip"
        )
    if num_frames * channels * 4 > limits.max_decoded_bytes:
        raise ReferenceAudioError(
            f"got audio that decodes to more than {limits.max_decoded_bytes / 2**20:.3g} MiB, which is the limit: "
            "cut the clip, or export it as mono at a lower sample rate"
        )


@dataclass(frozen=True, eq=False)
class _Mixed:
    """Decoded audio.

    Attributes:
        samples: [S] float32, mono.
        sample_rate: in Hz.
        channel_powers: [C], sums of squares.
        do_channels_cancel: see Clip.
    """

    samples: np.ndarray
    sample_rate: int
    channel_powers: np.ndarray
    do_channels_cancel: bool


def _collect(blocks: Iterator[tuple[np.ndarray, int]], limits: AudioLimits, channel: int | None) -> _Mixed:
    """Average the channels of decoded blocks and count what was decoded, stopping at the first limit.

    Args:
        blocks: ([n, C] float32, rate) each, rate and C the same throughout.
        limits: what the clip may cost.
        channel: take this one instead of the average.
    """
    mono = bytearray()  # which grows in place, where joining blocks would take twice the memory
    powers, cancelled = np.zeros(1), 0.0
    num_frames = rate = 0
    for block, rate in blocks:
        num_frames += len(block)
        _check_length(num_frames, rate, block.shape[1], limits)
        mixed = _average(block) if channel is None else block[:, channel].copy()
        mono += mixed.data
        if block.shape[1] > 1:
            with np.errstate(over="ignore", invalid="ignore"):
                power = np.einsum("sc,sc->c", block, block, dtype=np.float64)
                is_lost = np.square(mixed, dtype=np.float64).sum() < power.mean() * _CANCELLED / block.shape[1]
            powers = powers + power
            cancelled += power.sum() if is_lost else 0.0
    return _Mixed(np.frombuffer(mono, np.float32), rate, powers, bool(cancelled > _MAX_CANCELLED_SHARE * powers.sum()))


def _average(block: np.ndarray) -> np.ndarray:
    """Average the channels of [n, C] into a new array [n]; a sum beyond float32 becomes infinite, and is refused."""
    with np.errstate(over="ignore", invalid="ignore"):
        return block[:, 0].copy() if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)


class _LongerFile(io.BytesIO):
    """Bytes that claim to be many more to whoever asks for the length, by going to the end."""

    _is_asked = False

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._is_asked = whence == os.SEEK_END and offset == 0
        return super().seek(offset, whence)

    def tell(self) -> int:
        return super().tell() * (_MP3_LENGTH_MARGIN if self._is_asked else 1)


def _soundfile_blocks(data: bytes, kind: str, limits: AudioLimits) -> Iterator[tuple[np.ndarray, int]]:
    """Decode with libsndfile, in blocks."""
    import soundfile

    class ForwardFile(soundfile.SoundFile):
        """Reads on without a seek after every block: a seek can change what MP3 decodes to, and fails in some FLAC."""

        def seekable(self) -> bool:
            return False

    # libsndfile stops an MP3 where it guesses the end to be; without a frame count that can be early.
    is_length_guessed = kind == "mp3" and not has_frame_count(data)
    num_frames = 0
    try:
        file = ForwardFile(_LongerFile(data) if is_length_guessed else io.BytesIO(data))
    except soundfile.SoundFileError as error:
        raise ReferenceAudioError(
            f"got {kind} audio that cannot be decoded; it must be whole and in a usual codec: export it as 16-bit wav"
        ) from error
    with file:
        _check_claims(file.samplerate, file.channels, limits)
        block = np.empty((_BLOCK_SAMPLES // file.channels, file.channels), dtype=np.float32)
        try:
            while count := file.buffer_read_into(block, "float32"):
                num_frames += count
                yield block[:count], file.samplerate
        except soundfile.SoundFileError as error:
            raise _damaged(kind) from error
        is_length_known = not is_length_guessed and file.frames < 2**62
        if is_length_known and num_frames < file.frames:
            raise _damaged(kind)


def _av_blocks(data: bytes, kind: str, limits: AudioLimits) -> Iterator[tuple[np.ndarray, int]]:
    """Decode the first audio stream with FFmpeg, in its own frames."""
    import av
    import av.error
    import av.logging

    options = {"codec_whitelist": _AV_CODECS, "protocol_whitelist": ""}
    # Titles in another encoding are no reason to refuse the sound; since 19 PyAV takes them without being told.
    lenient: dict[str, Any] = {} if int(av.__version__.split(".")[0]) >= 19 else {"metadata_errors": "replace"}
    try:
        with (
            av.logging.Capture(),  # else some versions print what FFmpeg thinks of the file
            av.open(io.BytesIO(data), "r", format=_AV_DEMUXERS[kind], options=options, **lenient) as file,
        ):
            stream = _av_stream(file, kind)
            # The first frame decides, because the header of AAC may name half the rate and half the channels.
            first: tuple[int, int] | None = None
            to_float: Any = None
            for frame in file.decode(stream):
                shape = frame.sample_rate, len(frame.layout.channels)
                if first is None:
                    _check_claims(*shape, limits)
                    first = shape
                    to_float = av.AudioResampler(format="flt", layout=frame.layout, rate=frame.sample_rate)
                if shape != first:
                    raise _damaged(kind)
                for converted in to_float.resample(frame):
                    yield converted.to_ndarray().reshape(-1, shape[1]), shape[0]
    except ReferenceAudioError:
        raise
    except (av.error.FFmpegError, ValueError) as error:
        raise _damaged(kind) from error


def _av_stream(file: Any, kind: str) -> Any:
    """Choose the first audio stream, if its codec is one of those allowed."""
    if not file.streams.audio:
        raise empty_clip(f"{kind} data without a sound track")
    stream = file.streams.audio[0]
    codec = stream.codec_context
    if codec is None or codec.name not in _AV_CODECS.split(","):
        name = "unknown" if codec is None else codec.name
        raise ReferenceAudioError(
            f"got {kind} audio with the codec {name}; {_KNOWN_FORMATS}, aac, m4a and webm can be read: "
            "convert the clip to wav"
        )
    codec.options = {"max_samples": str(_BLOCK_SAMPLES)}
    return stream


# Arrays.


def _from_array(source: tuple[Any, ...], limits: AudioLimits) -> tuple[np.ndarray, int]:
    """Check (samples, rate); return [S, C] of any accepted kind and the rate."""
    if len(source) != 2 or not isinstance(source[0], np.ndarray) or not isinstance(source[1], (int, np.integer)):
        got = ", ".join(type(item).__name__ for item in source)
        raise ReferenceAudioError(
            f"got the tuple ({got}); audio in memory is (samples, rate), a numpy array and whole Hz: pass these two"
        )
    samples, rate = source[0], int(source[1])
    if samples.ndim == 1:
        samples = samples[:, np.newaxis]
    if samples.ndim != 2:
        raise ReferenceAudioError(
            f"got samples of shape {source[0].shape}; they are [S] or [S, C], samples by channels: reshape the array"
        )
    if samples.shape[1] > limits.max_channels >= samples.shape[0]:
        samples = samples.T
    _check_claims(rate, samples.shape[1], limits)
    _check_length(len(samples), rate, samples.shape[1], limits)
    _check_kind(samples)
    return samples, rate


def _array_blocks(samples: np.ndarray, rate: int) -> Iterator[tuple[np.ndarray, int]]:
    """Scale [S, C] to float32, in blocks."""
    length = _BLOCK_SAMPLES // samples.shape[1]
    for start in range(0, len(samples), length):
        yield _to_float(samples[start : start + length]), rate


def _check_kind(samples: np.ndarray) -> None:
    kind, size = samples.dtype.kind, samples.dtype.itemsize
    if not (kind == "f" or samples.dtype == np.uint8 or (kind == "i" and size in (2, 4))):
        raise ReferenceAudioError(
            f"got samples as {samples.dtype}; float, int32, int16 and uint8 have a known full scale: convert to one of "
            "them"
        )


def _to_float(samples: np.ndarray) -> np.ndarray:
    """Scale samples of any accepted kind to float32 with full scale at 1; [S, C] in and out."""
    if samples.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return samples.astype(np.float32)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - np.float32(128.0)) / np.float32(128.0)
    return (samples / -float(np.iinfo(samples.dtype).min)).astype(np.float32)
