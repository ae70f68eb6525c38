"""The files that commands read and write beside audio: texts, and tensors as safetensors, never as pickles."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from voxtral.cli.terminal import deferred_interrupts, say
from voxtral.disk import may_use, temporary_beside, why
from voxtral.errors import AudioError, ReferenceAudioError
from voxtral.text import files

_READ_BYTES = 65536


def read_text(source: str) -> str:
    """Read a text file, or standard input for "-", as UTF-8; a byte order mark is dropped.

    Raises:
        TextError: it cannot be read, or is not UTF-8; the message says where.
    """
    if source != "-":
        return files.read_text(Path(source))
    try:
        _tell_of_terminal()
        data = sys.stdin.buffer.read(files.MAX_TEXT_BYTES + 1)
    except OSError as error:
        raise files.unreadable("standard input", error) from error
    return files.decode_text(data, "standard input")


def read_pieces() -> Iterator[str]:
    """Read standard input as UTF-8, as it comes.

    Raises:
        TextError: it cannot be read, or is not UTF-8; the message says where.
    """
    yield from files.decode_pieces(_bytes_as_they_come(), "standard input")


def _bytes_as_they_come() -> Iterator[bytes]:
    try:
        _tell_of_terminal()
        while data := _read_some():
            yield data
    except OSError as error:
        raise files.unreadable("standard input", error) from error


def _read_some() -> bytes:
    """Read what is there, and wait only where nothing is."""
    try:
        number = sys.stdin.fileno()
    except OSError:  # it was replaced by something without one
        return sys.stdin.buffer.readline()
    # Not through the buffer: a thread that waits in it would hold its lock when the process ends.
    return os.read(number, _READ_BYTES)


def _tell_of_terminal() -> None:
    if sys.stdin.isatty():
        say("reading the text from the terminal; end it with Ctrl-D on a line of its own (Windows: Ctrl-Z)")


def check_target(target: Path) -> None:
    """Refuse a place where no file can be written, before a model is loaded for it.

    Raises:
        AudioError: the folder does not exist or may not be written to, or the name is a folder's or cannot be one.
    """
    try:
        if _is_folder(target):
            raise AudioError(f"{target} cannot be written; it is a folder; choose another name")
        if not _is_folder(target.parent):
            raise AudioError(f"{target} cannot be written; its folder must exist; create {target.parent} first")
    except (OSError, ValueError) as error:
        raise AudioError(
            f"{target} cannot be written ({why(error)}); it must be the name of a file in a folder that may be "
            "written to; choose another"
        ) from error
    if not may_use(target.parent, os.W_OK | os.X_OK):
        raise AudioError(
            f"{target} cannot be written; this user may not write to {target.parent}; choose another folder, or change "
            "its permissions"
        )


def check_safetensors_target(target: Path) -> None:
    """Refuse a place where no .safetensors file can be written.

    Raises:
        AudioError: the name has another extension, or as `check_target`.
    """
    if target.suffix != ".safetensors":
        raise AudioError(f"{target} cannot be written; the name must end in .safetensors; rename it")
    check_target(target)


def check_clip(clip: str | Path) -> None:
    """Refuse a clip that is not there or may not be looked at, before a model is loaded for it.

    Raises:
        ReferenceAudioError: why there is none.
    """
    try:
        os.stat(clip)
        reason = None if may_use(clip, os.R_OK) else os.strerror(errno.EACCES)
    except FileNotFoundError as error:
        raise ReferenceAudioError(
            f"the file {clip} does not exist; name an audio file to clone a voice from"
        ) from error
    except (OSError, ValueError) as error:
        reason = why(error)
    if reason is not None:
        raise ReferenceAudioError(
            f"the file {clip} cannot be read ({reason}); a voice is cloned from an audio file; check the path and its "
            "permissions"
        )


@contextmanager
def writing(target: Path) -> Iterator[Path]:
    """Give a path beside the target to write to; it takes the target's place at the end, or is removed.

    Raises:
        AudioError: the disk refuses.
    """
    from safetensors import SafetensorError

    partial = temporary_beside(target, ".safetensors")
    with deferred_interrupts(lambda: None) as check_interrupt:
        try:
            yield partial
            check_interrupt()
            partial.replace(target)
        except (OSError, SafetensorError) as error:
            raise AudioError(
                f"{target} cannot be written ({error}); the folder must be writable and have room; choose another place"
            ) from error
        finally:
            partial.unlink(missing_ok=True)


def _is_folder(path: Path) -> bool:
    """Tell whether a folder is there; what can be no name is a ValueError here, other than in `voxtral.disk`."""
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
