"""The bytes of a clip, from a path, an open file or bytes, and what it may cost. No URL is opened.

Everything is read into memory, at most one byte more than allowed.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np

from voxtral.errors import ReferenceAudioError, quoted


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


@dataclass(frozen=True)
class InlineClip:
    """A stranger's clip that came along with a request, which is made a voice of for that request alone.

    It may be as long as a reference, and no longer: nobody chooses a stretch anew for each request.

    Attributes:
        data: the bytes of a file.
    """

    data: bytes


AudioSource = InlineClip | str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | tuple[np.ndarray, int]


def read_bytes(source: Any, limits: AudioLimits) -> bytes:
    """Return the bytes of a clip that came as a path, as bytes or as an open file.

    Raises:
        ReferenceAudioError: it cannot be found or read, is empty, or larger than allowed.
    """
    if isinstance(source, InlineClip):
        source = source.data
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
        raise empty_clip("an empty file (0 bytes)")
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


def empty_clip(got: str) -> ReferenceAudioError:
    """Make the error for a clip in which there is nothing."""
    return ReferenceAudioError(f"got {got}; a reference clip must hold speech: check the recording and pass another")
