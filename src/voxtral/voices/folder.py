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
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from voxtral.errors import VoiceError
from voxtral.voices.facts import MAX_NAME_CHARS, VOICE_ID, StoredVoice, fold_name, read_metadata
from voxtral.voices.prompt import read_voice_header

_log = logging.getLogger("voxtral.server")

_SUFFIX = ".safetensors"

# A write takes milliseconds: what is older was left by a process that was killed, here or elsewhere.
_LEFTOVER_AFTER_S = 600.0

# Two changes within one tick of a file system's clock leave the same timestamps, so that a table which was read in the
# tick of a change may lack the next one: git calls this "racy". The longest tick is that of FAT, 2 s.
_TICK_S = 2.5

# What is rewritten in place leaves no trace in the folder, and some network file systems keep no time of a folder.
_TRUSTED_FOR_S = 60.0

# Equal while a file, or the list of files in a folder, is the same.
_Stamp = tuple[int, int, int, int, int]


@dataclass(frozen=True)
class _File:
    """What was found in a file: a voice, or None if it is damaged."""

    voice: StoredVoice | None
    stamp: _Stamp


class VoiceTable:
    """The voices of a folder at one moment.

    Attributes:
        files: by id, with those that are damaged.
        voices: the oldest first.
    """

    def __init__(self, files: Mapping[str, _File]) -> None:
        found = [file.voice for file in files.values() if file.voice is not None]
        self.files = files
        self.voices = tuple(sorted(found, key=lambda voice: (voice.created_at, voice.id)))
        # Two processes may have given one name at the same time; the older voice keeps it.
        self._by_name = {fold_name(voice.name): voice for voice in reversed(self.voices)}

    def find(self, name_or_id: str) -> StoredVoice | None:
        """Find a voice by its id or its name, whatever the case."""
        if VOICE_ID.fullmatch(name_or_id):
            file = self.files.get(name_or_id)
            return file.voice if file else None
        # Normalising what is longer than any name would be work for nothing.
        return self._by_name.get(fold_name(name_or_id[: 4 * MAX_NAME_CHARS]))


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
        """
        is_current = time.monotonic() < self._trusted_until and _stamp_of(self.path) == self._stamp
        table = self._table if is_current else self.scan()
        voice = table.find(name_or_id)
        if voice is not None and table.files[voice.id].stamp != _stamp_of(self.path_of(voice.id)):
            voice = self.scan().find(name_or_id)
        return voice

    def scan(self) -> VoiceTable:
        """Look at every file, whether or not the folder seems to have changed."""
        began = time.monotonic()
        stamp = _stamp_of(self.path)
        if stamp != self._stamp:
            self._stamp, self._stamped_at = stamp, time.monotonic()
        # Not by the age of the timestamp: it is of another clock, which a network or a person may have set.
        is_settled = stamp is not None and began - self._stamped_at >= _TICK_S
        try:
            files = dict(self._files(list(os.scandir(self.path))))
        except OSError as error:
            files, is_settled = dict[str, _File](), False
            if not isinstance(error, FileNotFoundError):
                _log.warning("the folder of voices cannot be read (%s); none is listed", error.strerror)
        self._table = VoiceTable(files)
        self._trusted_until = began + _TRUSTED_FOR_S if is_settled else -math.inf
        return self._table

    def _files(self, entries: list[os.DirEntry[str]]) -> Iterator[tuple[str, _File]]:
        """Read the files of voices that are new, and delete what writes that were cut off have left."""
        for entry in entries:
            with suppress(OSError):  # another process has just deleted it
                found = os.stat(entry, follow_symlinks=False)
                if entry.name.endswith(".part") and time.time() - found.st_mtime > _LEFTOVER_AFTER_S:
                    os.unlink(entry)
                voice_id, suffix = os.path.splitext(entry.name)
                if suffix == _SUFFIX and VOICE_ID.fullmatch(voice_id) and stat.S_ISREG(found.st_mode):
                    file = self._table.files.get(voice_id)
                    if file is None or file.stamp != _stamp(found):
                        file = _File(self._read(voice_id), _stamp(found))
                    yield voice_id, file

    def _read(self, voice_id: str) -> StoredVoice | None:
        try:
            name, metadata = read_voice_header(self.path_of(voice_id))
            return read_metadata(voice_id, name, metadata)
        except (VoiceError, KeyError, ValueError) as error:
            _log.warning("the stored voice %s is damaged (%s) and is left out", voice_id, type(error).__name__)
            return None


def _stamp_of(path: Path) -> _Stamp | None:
    """Take the stamp of a file or folder; None if there is none."""
    try:
        return _stamp(os.stat(path))
    except OSError:
        return None


def _stamp(found: os.stat_result) -> _Stamp:
    # st_ctime_ns, because st_mtime_ns can be set: rsync and tar give a folder back its old one.
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size
