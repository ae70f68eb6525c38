"""Audio files that appear whole or not at all.

Samples go to a hidden file beside the target, which takes the target's place at the end. It knows paths and failures;
`voxtral.audio.encode` knows the formats.
"""

from __future__ import annotations

import os
import secrets
import stat
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np

from voxtral.audio.encode import ContainerEncoder, format_for_path
from voxtral.errors import AudioError


class AudioFileWriter:
    """Write mono samples to a file, as a context manager.

    A clean exit puts the file in place, and replaces what was there. Any exception, an interrupt included, leaves the
    target as it was and removes the temporary file. The memory used does not grow with the length of the audio.

    Args:
        path: the target; a link is followed.
        sample_rate: of the samples, in Hz.
        format: one of `voxtral.audio.encode.FORMATS`; by default the extension of the path decides.

    Raises:
        AudioError: an unknown format or extension, or a sample rate out of range.

    Example:
        >>> import tempfile
        >>> path = os.path.join(tempfile.mkdtemp(), "tone.wav")
        >>> with AudioFileWriter(path, 16000) as file:
        ...     file.write(np.zeros(160, dtype=np.float32))
        >>> os.path.getsize(path)
        364
    """

    def __init__(self, path: str | os.PathLike[str], sample_rate: int, *, format: str | None = None) -> None:
        self._target = _resolve(os.fsdecode(path))
        self._encoder = ContainerEncoder(format or format_for_path(path), sample_rate, is_seekable=True)
        self._temporary: str | None = None
        self._file: BinaryIO | None = None
        self._is_whole = True
        # Ctrl-C is raised in the main thread, and libsndfile's callbacks swallow it there: samples would be lost
        # and the file still be put in place. In a thread of its own the encoder never sees one.
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="voxtral-encoder")

    @property
    def num_samples(self) -> int:
        """How many samples were written so far."""
        return self._encoder.num_samples

    def __enter__(self) -> Self:
        """Check the target and create the temporary file.

        Raises:
            AudioError: the target's folder is missing or cannot be written to, the target is not a regular file, or
                the writer was used before.
        """
        if self._temporary is not None:
            raise AudioError("got a writer that was used before; a writer makes one file: make another AudioFileWriter")
        _check_target(self._target)
        folder = os.path.dirname(self._target)
        # The name is not the target's, which may already have the greatest length that a name can have.
        self._temporary = os.path.join(folder, f".voxtral-{secrets.token_hex(8)}.part")
        flags = os.O_CREAT | os.O_EXCL | os.O_WRONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
        try:
            self._file = os.fdopen(os.open(self._temporary, flags, 0o666), "wb")
        except BaseException as error:
            self._discard()
            if isinstance(error, OSError):
                raise AudioError(
                    f"got the folder {folder!r}, in which no file can be created ({error.strerror}); "
                    "the folder of the target must be writable: choose another, or change its permissions"
                ) from error
            raise
        return self

    def write(self, samples: np.ndarray) -> None:
        """Append samples.

        Args:
            samples: [S], of a float kind, clipped to [-1, 1].

        Raises:
            AudioError: the writer is not open, the samples are not mono, float and finite, the encoder failed, or the
                disk did. After an error the file is not put in place, also where the caller catches it.
        """
        if self._file is None:
            raise AudioError("got samples outside the with block; a writer is open only inside: use `with ... as`")
        self._check_whole()
        # False while it runs, so that an interrupt in the middle counts as a failure too.
        self._is_whole = False
        try:
            self._file.write(self._worker.submit(self._encoder.write, samples).result())
        except OSError as error:
            raise self._disk_error(error) from error
        self._is_whole = True

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Put the file in place, or remove it.

        Raises:
            AudioError: the end of the file could not be encoded or written, or a write failed before.
        """
        try:
            if error_type is None:
                self._commit()
        finally:
            self._discard()

    def _commit(self) -> None:
        """Complete the temporary file and give it the target's name."""
        self._check_whole()
        file, temporary = self._file, self._temporary
        if file is None or temporary is None:
            raise AudioError("got an exit without an entry; a writer is a context manager: use `with ... as`")
        try:
            file.write(self._worker.submit(self._encoder.finish).result())
            for position, correction in self._encoder.corrections:
                file.seek(position)
                file.write(correction)
            file.flush()
            # Before the rename, or a power cut could leave the new name with no content.
            os.fsync(file.fileno())
            file.close()
            os.replace(temporary, self._target)
        except OSError as error:
            raise self._disk_error(error) from error

    def _check_whole(self) -> None:
        if not self._is_whole:
            raise AudioError(
                f"got a file for {self._target!r} of which a write has failed; only a whole file is put in place: "
                "write it again from the start"
            )

    def _discard(self) -> None:
        """Close and remove what is left of the temporary file; after a commit there is nothing left."""
        self._worker.shutdown()
        with suppress(OSError):
            if self._file is not None:
                self._file.close()
        self._file = None
        with suppress(OSError):
            if self._temporary is not None:
                os.unlink(self._temporary)

    def _disk_error(self, error: OSError) -> AudioError:
        return AudioError(
            f"got an error while writing {self._target!r} ({error.strerror or error}); "
            "the disk must take the whole file, and what was there before is unchanged: make room and try again"
        )


def _resolve(path: str) -> str:
    """Follow links, so that a link stays one and the file it points to is replaced."""
    try:
        return os.path.realpath(path)
    except (OSError, ValueError) as error:
        raise AudioError(f"got the path {path!r} ({error}); the target must be a path to a file: check it") from error


def _check_target(target: str) -> None:
    """Refuse a target that cannot become a file, before any work is done."""
    folder = os.path.dirname(target)
    if not os.path.isdir(folder):
        raise AudioError(f"got the path {target!r}; its folder does not exist, and must: create {folder!r} first")
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise AudioError(
            f"got the path {target!r}, which cannot be looked at ({error.strerror}); "
            "the target must be a file or not exist: choose another path"
        ) from error
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "a device, pipe or socket"
        raise AudioError(f"got the path {target!r}, which is {kind}; the target must be a file: add a file name")
