"""The files that commands read and write beside audio: texts, and tensors as safetensors, never as pickles."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from voxtral.cli.terminal import say
from voxtral.disk import temporary_beside
from voxtral.errors import AudioError
from voxtral.text import files


def read_text(source: str) -> str:
    """Read a text file, or standard input for "-", as UTF-8; a byte order mark is dropped.

    Raises:
        TextError: it cannot be read, or is not UTF-8; the message says where.
    """
    if source != "-":
        return files.read_text(Path(source))
    if sys.stdin.isatty():
        say("reading the text from the terminal; end it with Ctrl-D on a line of its own (Windows: Ctrl-Z)")
    try:
        data = sys.stdin.buffer.read()
    except OSError as error:
        raise files.unreadable("standard input", error) from error
    return files.decode_text(data, "standard input")


def check_target(target: Path) -> None:
    """Refuse a place where no file can be written, before a model is loaded for it.

    Raises:
        AudioError: the folder does not exist, or the name is a folder's.
    """
    if target.is_dir():
        raise AudioError(f"{target} cannot be written; it is a folder; choose another name")
    if not target.parent.is_dir():
        raise AudioError(f"{target} cannot be written; its folder must exist; create {target.parent} first")


def check_safetensors_target(target: Path) -> None:
    """Refuse a place where no .safetensors file can be written.

    Raises:
        AudioError: the name has another extension, or as `check_target`.
    """
    if target.suffix != ".safetensors":
        raise AudioError(f"{target} cannot be written; the name must end in .safetensors; rename it")
    check_target(target)


@contextmanager
def writing(target: Path) -> Iterator[Path]:
    """Give a path beside the target to write to; it takes the target's place at the end, or is removed.

    Raises:
        AudioError: the disk refuses.
    """
    from safetensors import SafetensorError

    partial = temporary_beside(target, ".safetensors")
    try:
        yield partial
        partial.replace(target)
    except (OSError, SafetensorError) as error:
        raise AudioError(
            f"{target} cannot be written ({error}); the folder must be writable and have room; choose another place"
        ) from error
    finally:
        partial.unlink(missing_ok=True)
