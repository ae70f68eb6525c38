"""The folder of users' voices as a table, in which a voice is found in constant time.

The folder is the truth: one safetensors file for each voice, which other processes and people may add, replace, rename
and delete, and every call sees what they did. The folder is listed when it may have changed, and only the headers of
files that are new are read. What a client sends is compared with the table and never becomes part of a path.
"""

from __future__ import annotations

import logging
import math
import os
import stat
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from voxtral.disk import ABSENT, look
from voxtral.errors import VoiceError, VoiceUnreadableError
from voxtral.voices.facts import MAX_NAME_CHARS, VOICE_ID, StoredVoice, fold_name, read_metadata
from voxtral.voices.prompt import read_voice_header

_log = logging.getLogger("voxtral.server")

_SUFFIX = ".safetensors"

# What is older was left by a process that was killed, here or elsewhere; the lock tells, should a clock be wrong.
_LEFTOVER_AFTER_S = 600.0

# Who changes the folder holds this file locked: by flock, which NFS passes on to its server, if it is open to write.
_LOCK_FILE = ".lock"
_LOCK_POLL_S = 0.01

# Two changes within one tick of a file system's clock leave the same timestamps, so that a table which was read in the
# tick of a change may lack the next one: git calls this "racy". The longest tick is that of FAT, 2 s.
_TICK_S = 2.5

# What is rewritten in place leaves no trace in the folder, and some network file systems keep no time of a folder.
_TRUSTED_FOR_S = 60.0

# Equal while a file, or the list of files in a folder, is the same.
_Stamp = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class _File:
    """What was found in a file.

    Attributes:
        voice: None if the content is damaged; of a file that cannot be read what was in it before, if that is known.
        stamp: of what was read; None of a file that cannot be read, which is tried again at every scan.
    """

    voice: StoredVoice | None
    stamp: _Stamp | None


class VoiceTable:
    """The voices of a folder at one moment.

    Attributes:
        files: by id, with those that are damaged and those that cannot be read.
        voices: the oldest first.
        unread: ids of those that cannot be read now; what was known of them before is among the voices.
    """

    def __init__(self, files: Mapping[str, _File]) -> None:
        found = [file.voice for file in files.values() if file.voice is not None]
        self.files = files
        self.unread = frozenset(voice_id for voice_id, file in files.items() if file.stamp is None)
        self.voices = tuple(sorted(found, key=lambda voice: (voice.created_at, voice.id)))
        # Two processes may have given one name at the same time; the older voice keeps it.
        self._by_name = {fold_name(voice.name): voice for voice in reversed(self.voices)}

    def find(self, name_or_id: str) -> StoredVoice | None:
        """Find a voice by its id or its name, whatever the case.

        Raises:
            VoiceUnreadableError: it is, or may be, one that cannot be read now.
        """
        if VOICE_ID.fullmatch(name_or_id):
            if name_or_id in self.unread:
                raise _unreadable()
            file = self.files.get(name_or_id)
            return file.voice if file else None
        # Normalising what is longer than any name would be work for nothing.
        voice = self._by_name.get(fold_name(name_or_id[: 4 * MAX_NAME_CHARS]))
        if self.unread and (voice is None or voice.id in self.unread):
            raise _unreadable()
        return voice

    def check_complete(self) -> None:
        """Refuse to go on where a voice cannot be read, so that nobody takes it for absent.

        Raises:
            VoiceUnreadableError: one cannot.
        """
        if self.unread:
            raise _unreadable()


class VoiceFolder:
    """Looks at one folder; used by one thread at a time.

    Attributes:
        path: of the folder, which need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._table = VoiceTable({})
        self._stamp: _Stamp | None = None
        self._stamped_at = 0.0
        self._trusted_until = -math.inf

    def path_of(self, voice_id: str) -> Path:
        """Name the file of a voice; the id is one that was made here or listed, never a client's."""
        return self.path / f"{voice_id}{_SUFFIX}"

    def find(self, name_or_id: str) -> StoredVoice | None:
        """Find a voice by its id or its name, whatever the case.

        A file that somebody rewrites in place, and not by renaming another one to it, is found under a new name
        after the next `scan`, or a minute.

        Raises:
            VoiceUnreadableError: folder or file cannot be read now.
        """
        try:
            is_current = time.monotonic() < self._trusted_until and _stamp_of(self.path) == self._stamp
            table = self._table if is_current else self.scan()
            voice = table.find(name_or_id)
            if voice is not None and table.files[voice.id].stamp != _stamp_of(self.path_of(voice.id)):
                voice = self.scan().find(name_or_id)
        except OSError as error:
            raise self._refused(error) from error
        return voice

    def scan(self) -> VoiceTable:
        """Look at every file, whether or not the folder seems to have changed.

        Raises:
            VoiceUnreadableError: the folder cannot be read now; what was known of it stays known.
        """
        began = time.monotonic()
        try:
            stamp = _stamp_of(self.path)
            if stamp != self._stamp:
                self._stamp, self._stamped_at = stamp, time.monotonic()
            entries = [] if stamp is None else _list(self.path)
        except OSError as error:
            raise self._refused(error) from error
        self._table = VoiceTable(dict(self._files(entries)))
        # Not by the age of the timestamp: it is of another clock, which a network or a person may have set.
        is_settled = stamp is not None and began - self._stamped_at >= _TICK_S and not self._table.unread
        self._trusted_until = began + _TRUSTED_FOR_S if is_settled else -math.inf
        if any(entry.name.endswith(".part") for entry in entries):
            self._remove_leftovers(entries)
        return self._table

    def _refused(self, error: OSError) -> VoiceUnreadableError:
        self._trusted_until = -math.inf
        _log.warning("the folder of voices cannot be read (%s)", error.strerror or error)
        return _unreadable()

    @contextmanager
    def locked(self, patience_s: float) -> Generator[None]:
        """Keep all others who change the folder out of it, in this process, in others and on other machines.

        Raises:
            filelock.Timeout: somebody has held it for longer than `patience_s`.
            OSError: the folder cannot be written.
        """
        with FileLock(self.path / _LOCK_FILE, timeout=patience_s, poll_interval=_LOCK_POLL_S):
            # A client of a network file system keeps a list of the folder for a while; a change makes it ask again.
            with suppress(OSError):
                os.utime(self.path)
            yield

    def _files(self, entries: list[os.DirEntry[str]]) -> Iterator[tuple[str, _File]]:
        """Read the files of voices that are new."""
        for entry in entries:
            voice_id, suffix = os.path.splitext(entry.name)
            if suffix != _SUFFIX or not VOICE_ID.fullmatch(voice_id):
                continue
            known = self._table.files.get(voice_id)
            try:
                found = os.stat(entry, follow_symlinks=False)
                if not stat.S_ISREG(found.st_mode):
                    continue
                if known is None or known.stamp != _stamp(found):
                    yield voice_id, _File(self._read(voice_id), _stamp(found))
                else:
                    yield voice_id, known
            except ABSENT:  # another process has just deleted it
                continue
            except OSError as error:
                if known is None or known.stamp is not None:  # once, and not at every look
                    _log.warning("the stored voice %s cannot be read (%s)", voice_id, error.strerror or error)
                yield voice_id, _File(known.voice if known else None, None)

    def _read(self, voice_id: str) -> StoredVoice | None:
        try:
            name, metadata = read_voice_header(self.path_of(voice_id))
            return read_metadata(voice_id, name, metadata)
        except (VoiceError, KeyError, ValueError) as error:
            _log.warning("the stored voice %s is damaged (%s) and is left out", voice_id, type(error).__name__)
            return None

    def _remove_leftovers(self, entries: list[os.DirEntry[str]]) -> None:
        """Delete what writes that were cut off have left, unless somebody may be writing."""
        with suppress(OSError):
            old = [
                entry
                for entry in entries
                if entry.name.endswith(".part") and time.time() - os.stat(entry).st_mtime > _LEFTOVER_AFTER_S
            ]
            if old:
                with self.locked(0):
                    for entry in old:
                        os.unlink(entry)


def _unreadable() -> VoiceUnreadableError:
    return VoiceUnreadableError(
        "the stored voices cannot all be read now, so that it is not known which there are; try again in a moment; "
        "whoever runs this server finds more in its log"
    )


def _list(path: Path) -> list[os.DirEntry[str]]:
    with os.scandir(path) as entries:
        return list(entries)


def _stamp_of(path: Path) -> _Stamp | None:
    """Take the stamp of a file or folder; None if there is none.

    Raises:
        OSError: that cannot be told.
    """
    found = look(path)
    return None if found is None else _stamp(found)


def _stamp(found: os.stat_result) -> _Stamp:
    # st_ctime_ns, because st_mtime_ns can be set: rsync and tar give a folder back its old one.
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
