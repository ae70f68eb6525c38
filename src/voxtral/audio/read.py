"""Untrusted audio to mono samples: reference clips from users, as paths, bytes, open files or arrays.

Nothing that a header claims is believed and every limit is counted while decoding, so that a small file which decodes
to hours, or names a billion channels, costs no more than an honest one. It does not judge whether a clip is long
enough to clone a voice (`voxtral.voices.prompt` does) and never opens a URL.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from voxtral.audio.containers import has_frame_count, is_cut_short, recognise, skip_id3, with_length
from voxtral.audio.quiet import without_remarks
from voxtral.errors import OptionError, ReferenceAudioError, quoted

# Every format has one decoder: these go to FFmpeg, the others to libsndfile. FFmpeg is told which demuxer to use
# and never asked to guess, because its playlist formats open further files and addresses.
_AV_DEMUXERS = {"mp4": "mp4", "webm": "matroska", "aac": "aac"}
_AV_CODECS = "aac,alac,flac,mp3,mp3float,opus,libopus,vorbis,libvorbis"

_KNOWN_FORMATS = "wav (also rf64 and w64), aiff, au, caf, flac, ogg (vorbis, opus) and mp3"
_AV_HINT = "pip install voxtral-tts[av] adds aac, m4a and webm"

_BLOCK_SAMPLES = 65536

# The length of an MP3 without a frame count is guessed from the bitrate of its first frame. No MP3 is this much longer
# than such a guess: the highest bitrate is 320 kbit/s, the lowest 8.
_MP3_LENGTH_MARGIN = 64


@dataclass(frozen=True)
class AudioLimits:
    """What a clip may cost before it is refused.

    Attributes:
        max_bytes: size of the file or of the bytes.
        max_seconds: length of the decoded audio in seconds, by the sample rate it names.
        max_channels: channels, before they are averaged.
        min_rate: lowest sample rate in Hz.
        max_rate: highest sample rate in Hz.
        max_decoded_bytes: size of the decoded float32 samples of all channels.
    """

    max_bytes: int = 10 * 2**20
    max_seconds: float = 60.0
    max_channels: int = 8
    min_rate: int = 4000
    max_rate: int = 384000
    max_decoded_bytes: int = 64 * 2**20


DEFAULT_LIMITS = AudioLimits()

AudioSource = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | tuple[np.ndarray, int]


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
    if isinstance(source, tuple):
        mono, rate = _from_array(source, limits)
    else:
        mono, rate = _decode(_read_bytes(source, limits), limits)
    if not len(mono):
        raise _empty("audio without a single sample")
    if rate != sample_rate:
        import soxr

        mono = soxr.resample(mono, rate, sample_rate, quality="HQ")
        if not len(mono):
            raise _empty(f"audio that is shorter than one sample at {sample_rate} Hz")
    if not np.isfinite(mono).all():
        raise ReferenceAudioError(
            "got audio with samples that are NaN, infinite or too large; every sample must be a number near [-1, 1]: "
            "export the clip again as 16-bit wav"
        )
    return mono


def _empty(got: str) -> ReferenceAudioError:
    return ReferenceAudioError(f"got {got}; a reference clip must hold speech: check the recording and pass another")


# Bytes: everything is read into memory, at most one byte more than allowed.


def _read_bytes(source: Any, limits: AudioLimits) -> bytes:
    """Return the bytes of a clip that came as a path, as bytes or as an open file."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        _check_size(memoryview(source).nbytes, limits)
        data = bytes(source)
    elif isinstance(source, (str, os.PathLike)):
        data = _read_path(source, limits)
    elif hasattr(source, "read"):
        data = _read_object(source, limits)
    else:
        raise ReferenceAudioError(
            f"got reference audio as {type(source).__name__}; it must be a path, bytes, a file open for reading or "
            "(samples, rate): convert it to one of these"
        )
    if not data:
        raise _empty("an empty file (0 bytes)")
    return data


def _check_size(num_bytes: int, limits: AudioLimits) -> None:
    if num_bytes > limits.max_bytes:
        raise ReferenceAudioError(
            f"got reference audio of more than {limits.max_bytes / 2**20:.3g} MiB, which is the limit: "
            "cut the clip or send it compressed"
        )


def _read_path(path: str | os.PathLike[str], limits: AudioLimits) -> bytes:
    """Read a regular file; anything that could block, or act when it is opened, is refused first."""
    name = os.fspath(path)
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    if _is_url(name):
        # Only the scheme is named, because addresses carry keys and messages end up in logs.
        scheme = name.lstrip().split(":")[0][:20]
        raise ReferenceAudioError(
            f"got an address that starts with {quoted(scheme + ':')}; reference audio is never fetched: "
            "download it, and pass a path or bytes"
        )
    if "\0" in name:
        raise _no_file(name)
    try:
        _check_regular(name, os.stat(name), limits)
        # The name may point elsewhere by now, so what was opened is checked again, and opening must not block.
        descriptor = os.open(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:
            _check_regular(name, os.fstat(descriptor), limits)
            data = file.read(limits.max_bytes + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _no_file(name) from error
    except OSError as error:
        raise ReferenceAudioError(
            f"got the path {_shorten(name)}, which cannot be opened ({error.strerror}); "
            "reference audio must be a file that this process may read: check the path and its permissions"
        ) from error
    _check_size(len(data), limits)
    return data


def _is_url(name: str) -> bool:
    start = name.lstrip()[:64].lower()
    return start.startswith(("data:", "file:")) or "://" in start


def _check_regular(name: str, status: os.stat_result, limits: AudioLimits) -> None:
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a device, pipe or socket"
        raise ReferenceAudioError(
            f"got {_shorten(name)}, which is {kind}; reference audio must be a regular file: pass the path of the clip"
        )
    _check_size(status.st_size, limits)


def _no_file(name: str) -> ReferenceAudioError:
    return ReferenceAudioError(
        f"got the path {_shorten(name)}, where there is no file; reference audio must be a file: check the path"
    )


def _shorten(name: str) -> str:
    return repr(name) if len(name) <= 200 else repr(name[:200]) + "..."


def _read_object(file: Any, limits: AudioLimits) -> bytes:
    """Read a file object to its end, or until it has given more than allowed; it may return short pieces."""
    data = bytearray()
    while len(data) <= limits.max_bytes:
        try:
            piece = file.read(limits.max_bytes + 1 - len(data))
        except (OSError, ValueError) as error:
            raise ReferenceAudioError(
                f"got a file object that cannot be read ({error}); it must be open for reading bytes: "
                "open it with mode 'rb', or pass the bytes"
            ) from error
        if not isinstance(piece, (bytes, bytearray, memoryview)):
            raise ReferenceAudioError(
                f"got a file object that reads {type(piece).__name__}; it must read bytes and not block: "
                "open it with mode 'rb'"
            )
        if not piece:
            break
        data += piece
    _check_size(len(data), limits)
    return bytes(data)


# Decoding.


def _decode(data: bytes, limits: AudioLimits) -> tuple[np.ndarray, int]:
    """Return mono samples [S] float32 and their rate."""
    data = skip_id3(data)
    kind = recognise(data)
    if kind is None:
        raise _unknown_format(data)
    if is_cut_short(data, kind):
        raise _damaged(kind)
    if kind not in _AV_DEMUXERS:
        with without_remarks():
            return _collect(_soundfile_blocks(with_length(data, kind), kind, limits), limits)
    if not _has_av():
        raise ReferenceAudioError(
            f"got {kind} audio, which needs PyAV; without it {_KNOWN_FORMATS} can be read: "
            f"convert the clip to wav, or install the extra ({_AV_HINT})"
        )
    return _collect(_av_blocks(data, kind, limits), limits)


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


def _collect(blocks: Iterator[tuple[np.ndarray, int]], limits: AudioLimits) -> tuple[np.ndarray, int]:
    """Average the channels of decoded blocks and count what was decoded, stopping at the first limit.

    Args:
        blocks: ([n, C] float32, rate) each, rate and C the same throughout.
        limits: what the clip may cost.
    """
    mono: list[np.ndarray] = []
    num_frames = rate = 0
    for block, rate in blocks:
        num_frames += len(block)
        _check_length(num_frames, rate, block.shape[1], limits)
        mono.append(_average(block))
    return np.concatenate(mono) if mono else np.zeros(0, dtype=np.float32), rate


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
    try:
        with (
            av.logging.Capture(),  # else some versions print what FFmpeg thinks of the file
            av.open(
                io.BytesIO(data), "r", format=_AV_DEMUXERS[kind], options=options, metadata_errors="replace"
            ) as file,
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
        raise _empty(f"{kind} data without a sound track")
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
    """Return (samples, rate) as mono float32 and the rate."""
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
    return _average(_to_float(samples)), rate


def _to_float(samples: np.ndarray) -> np.ndarray:
    """Scale samples of any accepted kind to float32 with full scale at 1; [S, C] in and out."""
    if samples.dtype.kind == "f":
        with np.errstate(over="ignore"):
            return samples.astype(np.float32)
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - np.float32(128.0)) / np.float32(128.0)
    if samples.dtype.kind == "i" and samples.dtype.itemsize in (2, 4):
        return (samples / -float(np.iinfo(samples.dtype).min)).astype(np.float32)
    raise ReferenceAudioError(
        f"got samples as {samples.dtype}; float, int32, int16 and uint8 have a known full scale: convert to one of them"
    )
