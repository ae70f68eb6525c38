"""What a batch knows of its output folder: which file was made from what, so that a killed run goes on.

`batch.jsonl` is a journal: one line for each thing that happened to a file, appended and flushed, the last line of a
file counts. It holds names, digests, sizes, seeds and what checks found, and no text. Audio is made in a hidden folder
beside it and moved into place, with its captions, after its line has been written; what a crash leaves between the two
is completed by the next run.
It knows files, and nothing of what they are made from; read next: `voxtral.jobs.digests`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import threading
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from voxtral.captions.formats import FORMATS
from voxtral.disk import is_file, is_folder, write_flushed
from voxtral.errors import AudioError, VoxtralError

MANIFEST_FILE = "batch.jsonl"
_WORK_FOLDER = ".voxtral-batch"
_HEADER = {"format": "voxtral-batch-1"}

State = Literal["new", "done", "changed", "foreign"]

Check = tuple[str, list[dict[str, Any]]] | None
"""A verdict and findings, as a record has them."""


@dataclass(frozen=True)
class Record:
    """What is known of one file.

    Attributes:
        file: its name.
        digest: of everything that it was made from; None if it is to be made again.
        bytes: its size when it was last looked at; None if it was not there.
        seed: of its request.
        duration_s: seconds of audio.
        error: code of the error that kept it from being made.
        message: of that error.
        captions: sizes of the files of captions beside it when they were last looked at, by format.
        verdict: the worst of its segments, where they were checked.
        findings: where its speech does not follow the text, as `Finding.to_dict` gives it.
    """

    file: str
    digest: str | None = None
    bytes: int | None = None
    seed: int | None = None
    duration_s: float | None = None
    error: str | None = None
    message: str | None = None
    captions: dict[str, int] | None = None
    verdict: str | None = None
    findings: list[dict[str, Any]] | None = None


@dataclass(frozen=True)
class LastRun:
    """What the last run over a folder was to make.

    Attributes:
        files: their names, in the order of the texts.
        split: how the texts were cut; None where they were not.
    """

    files: tuple[str, ...]
    split: str | None = None


class Manifest:
    """The journal of an output folder, open for one run; safe to use from many threads.

    Args:
        folder: the output folder, which exists.

    Raises:
        AudioError: on entry: another run has the folder, `batch.jsonl` is something else, or the disk refuses.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / MANIFEST_FILE
        self._work = folder / _WORK_FOLDER
        self._lock = threading.Lock()
        self._records: dict[str, Record] = {}
        self._last_run: LastRun | None = None
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Lock the folder, read the journal and put in place what a killed run had finished."""
        try:
            self._open_locked()
            try:
                self._read()
                self._complete()
            except BaseException:
                os.close(self._descriptor)
                raise
        except OSError as error:
            raise self._disk_error(self._path, error) from error
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove what is unfinished, and the journal too if nothing was written down."""
        shutil.rmtree(self._work, ignore_errors=True)
        if not self._records and self._last_run is None:
            # While it is locked; Windows keeps open files, and a journal without lines does no harm.
            with suppress(OSError):
                self._path.unlink()
        os.close(self._descriptor)

    @property
    def folder(self) -> Path:
        """The output folder."""
        return self._folder

    @property
    def last_run(self) -> LastRun | None:
        """What the last run was to make; None in a journal of before that was written down."""
        return self._last_run

    def begin(self, files: Iterable[str], split: str | None) -> None:
        """Write down what a run is to make.

        Raises:
            AudioError: the disk refuses.
        """
        run = LastRun(tuple(files), split)
        if self._last_run is not None and run.files == self._last_run.files:
            return
        with self._lock:
            try:
                self._write([{"run": run.files, "split": run.split}])
            except OSError as error:
                raise self._disk_error(self._path, error) from error
        self._last_run = run

    def finished(self) -> tuple[list[str], list[str]]:
        """Name the files of the last run that are whole, and those that are not, in the order of the texts."""
        names = sorted(self._records, key=_natural) if self._last_run is None else self._last_run.files
        whole = [name for name in names if self.is_finished(name)]
        return whole, [name for name in names if name not in set(whole)]

    def is_finished(self, file: str) -> bool:
        """Tell whether a file is there as a run has made it."""
        record = self._records.get(file)
        return record is not None and record.digest is not None and record.bytes == self._size(file)

    def state(
        self, file: str, digest: str | None = None, *, captions: Iterable[str] = (), is_checked: bool = False
    ) -> State:
        """Compare a file with what is known of it.

        Args:
            file: its name.
            digest: of what it would be made from now.
            captions: formats of the captions that are wanted beside it.
            is_checked: a verdict on it is wanted.

        Returns:
            "new": there is none. "done": it was made from the same. "changed": it was made from something else, or is
            to be made again. "foreign": it was not made here, or was changed since.
        """
        size = self._size(file)
        if size is None:
            return "new"
        record = self._records.get(file)
        if record is None or record.bytes != size:
            return "foreign"
        sizes = record.captions or {}
        has_all = all(format in sizes and sizes[format] == self._caption_size(file, format) for format in captions)
        is_done = record.digest is not None and record.digest == digest
        return "done" if is_done and has_all and (record.verdict is not None or not is_checked) else "changed"

    def foreign(self, files: Mapping[str, Iterable[str]]) -> list[str]:
        """Name the files that are in the way: they are there, and were not made here or were changed since.

        Args:
            files: of audio, and the formats of the captions that are wanted beside each.

        Raises:
            AudioError: a folder has the name of a file.
        """
        names = list(files)
        beside = {caption_file(name, format): (name, format) for name in names for format in files[name]}
        try:
            folder = next((name for name in (*names, *beside) if is_folder(self._folder / name)), None)
        except OSError as error:
            raise self._disk_error(self._folder, error) from error
        if folder:
            raise AudioError(f"{self._folder / folder} is a folder; a file is to have that name; move it away")
        in_the_way = [name for name in names if self.state(name) == "foreign"]
        return in_the_way + [found for found, (name, format) in beside.items() if self._is_foreign(name, format)]

    def _is_foreign(self, file: str, format: str) -> bool:
        """Tell whether captions are there that were not made here, or were changed since."""
        size = self._caption_size(file, format)
        record = self._records.get(file)
        known = (record.captions or {}).get(format) if record is not None else None
        return size is not None and size != known

    def others(self, files: Iterable[str]) -> list[str]:
        """Name the files that were made here and are not among these, and still exist."""
        return sorted(file for file in set(self._records) - set(files) if self._size(file) is not None)

    def claim(self, files: Mapping[str, Iterable[str]]) -> None:
        """Note that files are to be made, so that a killed run knows that what it left under their names is its own.

        What was known of them is forgotten: it is not true of what will be made.

        Args:
            files: of audio, and the formats of the captions that will be made beside each.
        """
        claimed = [
            Record(file, bytes=self._size(file), captions=self._sizes(file, set(formats)))
            for file, formats in files.items()
        ]
        self._append(
            [
                record
                for record in claimed
                if record.bytes is not None or record.captions or record.file in self._records
            ]
        )

    def _sizes(self, file: str, formats: Iterable[str] = ()) -> dict[str, int] | None:
        """Look at the captions beside a file: those that are as they were made here, and those of some formats."""
        record = self._records.get(file)
        known = (record.captions or {}) if record is not None else {}
        sizes = {format: self._caption_size(file, format) for format in (*known, *formats)}
        kept = {
            format: size
            for format, size in sizes.items()
            if size is not None and (format in formats or size == known[format])
        }
        return kept or None

    def check_there(self) -> None:
        """Refuse to go on where somebody has taken the folder away: no file could be made.

        Raises:
            AudioError: the folder is not there any more.
        """
        if not os.path.isdir(self._work):
            raise AudioError(
                f"{self._folder} was deleted or moved while files were made for it; what is made must have a place; "
                "leave the folder where it is and run it again"
            )

    def part(self, file: str) -> Path:
        """Give the path at which a file is to be made."""
        return self._work / file

    def write_captions(self, file: str, format: str, data: bytes) -> None:
        """Make the captions of a file, to be moved into place with it.

        Raises:
            AudioError: the disk refuses.
        """
        name = caption_file(file, format)
        try:
            write_flushed(self.part(name), data)
        except OSError as error:
            raise self._disk_error(self._folder / name, error) from error

    def commit(
        self, file: str, digest: str, *, seed: int, duration_s: float, captions: Iterable[str] = (), check: Check = None
    ) -> None:
        """Write down that a file is whole, and move it from `part` into place with its captions.

        Captions of other formats that an earlier run has made do not belong to it, and are removed.

        Args:
            file: its name.
            digest: of what it was made from.
            seed: of its request.
            duration_s: seconds of audio.
            captions: formats of those that were made.
            check: the verdict on it and what was found, where it was checked.

        Raises:
            AudioError: the disk refuses.
        """
        part = self.part(file)
        try:
            old = self._sizes(file) or {}
            sizes = {format: self.part(caption_file(file, format)).stat().st_size for format in captions}
            verdict, findings = check or (None, None)
            self._append(
                [
                    Record(
                        file,
                        digest,
                        part.stat().st_size,
                        seed,
                        round(duration_s, 4),
                        captions=sizes or None,
                        verdict=verdict,
                        findings=findings,
                    )
                ]
            )
            part.replace(self._folder / file)
            for name in (caption_file(file, format) for format in sizes):
                self.part(name).replace(self._folder / name)
            for format in old.keys() - sizes.keys():
                (self._folder / caption_file(file, format)).unlink(missing_ok=True)
        except OSError as error:
            raise self._disk_error(self._folder / file, error) from error

    def fail(self, file: str, seed: int | None, error: VoxtralError) -> None:
        """Write down that a file could not be made, and why."""
        left = Record(file, bytes=self._size(file), captions=self._sizes(file))
        self._append([replace(left, seed=seed, error=error.code, message=str(error))])

    def _caption_size(self, file: str, format: str) -> int | None:
        return self._size(caption_file(file, format))

    def _size(self, file: str) -> int | None:
        try:
            return (self._folder / file).stat().st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._disk_error(self._folder / file, error) from error

    def _open_locked(self) -> None:
        """Open the journal and lock it for this process; the system unlocks it when the process is gone."""
        # Here, because it costs more than the rest of a command that only reads its input.
        from filelock import lock_descriptor

        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
        while True:
            self._descriptor = os.open(self._path, flags, 0o666)
            try:
                if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
                    raise AudioError(
                        f"{self._path} is no regular file; the output folder keeps its journal under that name; rename "
                        "it, or choose another folder"
                    )
                # The journal itself, so that no other file comes to lie in the folder, or stays there after a kill.
                if not lock_descriptor(self._descriptor, blocking=False):
                    raise AudioError(
                        f"the folder {self._folder} is in use by another batch; two would overwrite each other's "
                        "files; wait for it, or choose another folder"
                    )
                if os.fstat(self._descriptor).st_nlink:
                    return
            except BaseException:
                os.close(self._descriptor)
                raise
            # Between opening and locking another run has ended and taken its empty journal away.
            os.close(self._descriptor)

    def _read(self) -> None:
        # Through the descriptor: on Windows nobody else can read the place that it has locked.
        with open(self._descriptor, "rb", closefd=False) as journal:
            data = journal.read()
        # A line that has no end was being written when the machine or the program stopped.
        whole = data[: data.rfind(b"\n") + 1]
        lines = whole.splitlines()
        try:
            is_ours = not lines or json.loads(lines[0]) == _HEADER
            found = [json.loads(line) for line in lines[1:]]
            records = [Record(**entry) for entry in found if "run" not in entry]
            runs = [LastRun(tuple(entry["run"]), entry["split"]) for entry in found if "run" in entry]
            # The names are joined to the folder below.
            names = [record.file for record in records] + [name for run in runs for name in run.files]
            is_ours = is_ours and all(os.path.basename(name) == name for name in names)
            is_ours = is_ours and all(set(record.captions or {}) <= set(FORMATS) for record in records)
        except (ValueError, TypeError, KeyError, RecursionError):
            is_ours, records, runs = False, [], []
        if not is_ours or (data and not lines):
            raise AudioError(
                f"{self._path} is no journal of a batch; the output folder keeps one under that name; rename it, or "
                "choose another folder"
            )
        if len(whole) < len(data):
            os.ftruncate(self._descriptor, len(whole))
        if not lines:
            self._write([_HEADER])
        self._records = {record.file: record for record in records}
        self._last_run = runs[-1] if runs else None

    def _complete(self) -> None:
        for file, record in self._records.items():
            part = self.part(file)
            if record.digest is None:
                continue
            if is_file(part) and part.stat().st_size == record.bytes:
                part.replace(self._folder / file)
            # After the audio, as in `commit`: what is left here belongs to what is there now.
            for format, size in (record.captions or {}).items():
                captions = self.part(caption_file(file, format))
                if self._size(file) == record.bytes and is_file(captions) and captions.stat().st_size == size:
                    captions.replace(self._folder / captions.name)
        shutil.rmtree(self._work, ignore_errors=True)
        self._work.mkdir()

    def _append(self, records: list[Record]) -> None:
        if not records:
            return
        with self._lock:
            try:
                self._write([_without_none(record) for record in records])
            except OSError as error:
                raise self._disk_error(self._path, error) from error
            self._records.update({record.file: record for record in records})

    def _write(self, lines: list[dict[str, Any]]) -> None:
        data = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        size = os.fstat(self._descriptor).st_size
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
            os.fsync(self._descriptor)
        except OSError:
            # Half a line would spoil the next one.
            os.ftruncate(self._descriptor, size)
            raise

    def _disk_error(self, path: Path, error: OSError) -> AudioError:
        return AudioError(
            f"{path} cannot be written ({error.strerror or error}); the output folder must be writable and have room; "
            "make room or choose another folder"
        )


@contextmanager
def open_folder(folder: Path) -> Generator[Manifest]:
    """Open the journal of a folder, which is made if it is not there and removed again if it stays empty.

    Raises:
        AudioError: the folder cannot be made, or as `Manifest`.
    """
    is_new = not os.path.lexists(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AudioError(
            f"{folder} cannot be made ({error.strerror}); the output is a folder; choose another path"
        ) from error
    try:
        with Manifest(folder) as manifest:
            yield manifest
    finally:
        if is_new:
            with suppress(OSError):  # files are in it
                folder.rmdir()


def caption_file(file: str, format: str) -> str:
    """Name the captions of a file.

    >>> caption_file("night.1.wav", "srt")
    'night.1.srt'
    """
    return f"{os.path.splitext(file)[0]}.{format}"


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Order names as people do: part9 before part10."""
    return [(0, int(piece), "") if piece.isdecimal() else (1, 0, piece) for piece in re.split(r"(\d+)", name)]


def _without_none(record: Record) -> dict[str, Any]:
    return {key: value for key, value in asdict(record).items() if value is not None}
