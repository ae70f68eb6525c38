"""Files and folders as this package looks at them: what is there, what is not, and what cannot be told.

Three things are kept apart that the standard library's tests of existence take for one: a file that is absent, a file
of another kind, and one that the system refuses to show now. Only the first is ever treated as absent. Nothing here
waits for a pipe or a device, and nothing knows what a file means; each reader turns errors into its own.
"""

from __future__ import annotations

import os
import secrets
import stat
from io import BufferedReader
from pathlib import Path

# Names the folder of what can be made again.
CACHE_VARIABLE = "VOXTRAL_CACHE"

# What the system says of a name that leads nowhere; every other error leaves open what is there.
ABSENT = (FileNotFoundError, NotADirectoryError)


class UnfitFileError(ValueError):
    """What has the name is no regular file, or is too large; the message goes after the name."""


def open_regular(path: str | os.PathLike[str], *, max_bytes: int | None = None) -> BufferedReader:
    """Open a regular file for reading, without ever waiting.

    Args:
        path: a link is followed.
        max_bytes: a larger file is refused.

    Raises:
        UnfitFileError: it is a folder, pipe, device or socket, or too large.
        ValueError: the path cannot be one.
        OSError: it is not there, or cannot be opened.
    """
    # Opening can act on a device, so its kind is asked first; and of what was opened again, for names change hands.
    _check(os.stat(path), max_bytes)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        _check(os.fstat(file.fileno()), max_bytes)
    except BaseException:
        file.close()
        raise
    return file


def read_regular(path: str | os.PathLike[str], *, max_bytes: int) -> bytes:
    """Read a whole regular file; errors as in `open_regular`."""
    with open_regular(path, max_bytes=max_bytes) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:  # it has grown since
        raise UnfitFileError(f"has more than {max_bytes} bytes, which it may have at most")
    return data


def _check(found: os.stat_result, max_bytes: int | None) -> None:
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a device, pipe or socket"
        raise UnfitFileError(f"is {kind}; it must be a regular file")
    if max_bytes is not None and found.st_size > max_bytes:
        raise UnfitFileError(f"has {found.st_size} bytes; it may have at most {max_bytes}")


def look(path: str | os.PathLike[str]) -> os.stat_result | None:
    """Look at what a path leads to, links followed; None if nothing is there.

    Raises:
        OSError: that cannot be told.
    """
    try:
        return os.stat(path)
    except ABSENT:
        return None
    except ValueError:  # a name with a zero byte, which nothing has
        return None


def is_file(path: str | os.PathLike[str]) -> bool:
    """Tell whether a regular file is there; errors as in `look`."""
    return (found := look(path)) is not None and stat.S_ISREG(found.st_mode)


def is_folder(path: str | os.PathLike[str]) -> bool:
    """Tell whether a folder is there; errors as in `look`."""
    return (found := look(path)) is not None and stat.S_ISDIR(found.st_mode)


def may_use(path: str | os.PathLike[str], mode: int) -> bool:
    """Tell whether this user may use a path, as far as can be told beforehand.

    Args:
        path: a link is followed.
        mode: of os.R_OK, os.W_OK and os.X_OK.
    """
    # Of the user as whom the process acts, where the system tells that apart from the one who started it.
    return os.access(path, mode, effective_ids=os.access in os.supports_effective_ids)


def why(error: OSError | ValueError) -> str:
    """Say what the system has against a path, without the path: in its own words, or in Python's of what is no name."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def write_whole(target: Path, data: bytes) -> None:
    """Write a file that appears complete or not at all; an existing one is replaced.

    Args:
        target: a link is followed.
        data: all of it.

    Raises:
        OSError: the disk refuses; what was there is as it was.
    """
    target = Path(os.path.realpath(target))
    partial = temporary_beside(target)
    try:
        write_flushed(partial, data)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def write_flushed(path: Path, data: bytes) -> None:
    """Write a file through to the disk, so that a rename that follows never outlives what it names.

    Raises:
        OSError: the disk refuses.
    """
    with open(path, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def temporary_beside(target: Path, suffix: str = "") -> Path:
    """Name a hidden file beside a target that nobody else has: no thread, no process and no other machine.

    Args:
        target: that the file is to be renamed to.
        suffix: for who looks at the end of the name.
    """
    # Not the target's name, which may already be as long as a name can be.
    return target.with_name(f".voxtral-{secrets.token_hex(8)}.part{suffix}")


def cache_folder() -> Path | None:
    """Return where things are kept that can be made again, by VOXTRAL_CACHE; None where it is empty: keep nothing."""
    folder = os.environ.get(CACHE_VARIABLE)
    if folder == "":
        return None
    return Path(folder) if folder else Path.home() / ".cache" / "voxtral"
