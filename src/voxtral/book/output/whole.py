"""Files and folders that appear whole or not at all, under names that the next attempt finds again.

A kill leaves a hidden `.part` beside the target, and the next attempt takes its place instead of leaving another: a
book has hundreds of megabytes. So only one process at a time may write a target, which is for its caller to see to.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from voxtral.disk import is_file, is_folder, look
from voxtral.errors import AudioError


@contextmanager
def whole_file(target: Path) -> Iterator[BinaryIO]:
    """Open a file that becomes the target, in place of what was there, when the block ends well.

    Raises:
        AudioError: the disk refuses; what was there is as it was.
    """
    partial = partial_beside(target)
    try:
        with open(partial, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except OSError as error:
        raise disk_error(target, error) from error
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Make a folder whose files come into the target when the block ends well; what else is in that stays.

    Raises:
        AudioError: the disk refuses; before the first file is moved, what was there is as it was.
    """
    partial = partial_beside(target)
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        yield partial
        if is_folder(target):
            for path in sorted(partial.iterdir()):
                path.replace(target / path.name)
        else:
            partial.rename(target)
    except OSError as error:
        raise disk_error(target, error) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def partial_beside(target: Path) -> Path:
    """Name what becomes a target: the same name each time, and no longer than a name can be."""
    digest = hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]
    return target.with_name(f".voxtral-{digest}.part")


def check_place(target: Path, *, is_for_folder: bool, num_bytes: int) -> None:
    """Refuse a target that cannot be written, or has no room, before any work is done.

    Args:
        target: a file or a folder to be.
        is_for_folder: which of both.
        num_bytes: that are needed, as far as they are known.

    Raises:
        AudioError: it cannot be written there, or the disk is too full.
    """
    folder = target.parent
    try:
        if not is_folder(folder):
            raise AudioError(f"got the path {str(target)!r}; its folder does not exist, and must: create it first")
        other = is_file(target) if is_for_folder else look(target) is not None and not is_file(target)
        if other:
            wanted = "a folder" if is_for_folder else "a file"
            raise AudioError(f"got the path {str(target)!r}; {wanted} is to be made, and something else is there")
        partial = partial_beside(target)
        partial.touch() if not is_folder(partial) else None
        if is_file(partial):
            partial.unlink()
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise disk_error(target, error) from error
    if free < num_bytes:
        raise AudioError(
            f"the disk of {str(folder)!r} has {_megabytes(free)} left; about {_megabytes(num_bytes)} are needed: "
            "make room, or choose another place or format"
        )


def disk_error(target: Path, error: OSError) -> AudioError:
    """Say that the disk refused."""
    return AudioError(
        f"got an error while writing {str(target)!r} ({error.strerror or error}); "
        "all of it must find room, and what was there before is unchanged: see to it and try again"
    )


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 2**20:.0f} MiB"
