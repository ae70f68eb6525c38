"""Where the voices that users made are kept: one safetensors file each, in one folder for each checkpoint.

The folder is the truth. Every call looks at it and reads the headers of files that are new, so that voices survive a
restart, several processes can share them, and a file that somebody deletes is gone. What a client sends is compared
with what is listed here and never becomes part of a path.
"""

from __future__ import annotations

import logging
import math
import os
import re
import secrets
import threading
import time
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from voxtral.config import ModelConfig
from voxtral.errors import (
    VoiceError,
    VoiceNameTakenError,
    VoiceStoreError,
    VoiceStoreFullError,
    VoiceUnknownError,
)
from voxtral.voices.prompt import VoicePrompt, load_voice, read_voice_header, sync_folder

_log = logging.getLogger("voxtral.server")

_ID = re.compile(r"voice_[0-9a-f]{16}")
_SUFFIX = ".safetensors"

_MAX_NAME_CHARS = 64

# A write takes milliseconds: what is older was left by a process that was killed, here or elsewhere.
_LEFTOVER_AFTER_S = 600.0


@dataclass(frozen=True, kw_only=True)
class VoiceFacts:
    """What is kept of a voice besides its rows; texts are empty where nothing was said.

    Attributes:
        name: how it is called.
        consent: the speaker's, as it was given.
        language: code of the language that it speaks.
        description: for people.
        ref_text: what is said in the clip.
        mime_type: of the clip.
        file_size: of the clip, in bytes.
        duration_s: of the clip, in seconds.
    """

    name: str
    consent: str
    language: str = ""
    description: str = ""
    ref_text: str = ""
    mime_type: str = ""
    file_size: int = 0
    duration_s: float = 0.0


@dataclass(frozen=True, kw_only=True)
class StoredVoice(VoiceFacts):
    """A voice in the store.

    Attributes:
        id: made here; the file is called by it.
        created_at: in seconds since 1970.
    """

    id: str
    created_at: int


@dataclass(frozen=True)
class _File:
    """What was found in a file: a voice, or None if it is damaged. The rest tells whether the file is another now."""

    voice: StoredVoice | None
    mtime_ns: int
    inode: int


class VoiceStore:
    """A folder of voices; safe to use from many threads.

    Args:
        folder: for one checkpoint; it is made when the first voice comes.
        max_voices: more are refused.
    """

    def __init__(self, folder: Path, max_voices: int = 1000) -> None:
        self.folder = folder
        self.max_voices = max_voices
        self._files: dict[str, _File] = {}
        self._lock = threading.Lock()

    def list(self) -> tuple[StoredVoice, ...]:
        """Return all voices, the oldest first."""
        with self._lock:
            return self._look()

    def find(self, name_or_id: str) -> StoredVoice | None:
        """Find a voice by its id or its name, whatever the case."""
        voices = self.list()
        if _ID.fullmatch(name_or_id):
            return next((voice for voice in voices if voice.id == name_or_id), None)
        # Normalising what is longer than any name would be work for nothing.
        wanted = fold_name(name_or_id[: 4 * _MAX_NAME_CHARS])
        return next((voice for voice in voices if fold_name(voice.name) == wanted), None)

    def load(self, voice_id: str, config: ModelConfig) -> VoicePrompt:
        """Read a voice.

        Raises:
            VoiceUnknownError: there is none with that id.
            VoiceError: its file is damaged.
        """
        with self._lock:
            stored = self._get(voice_id)
            try:
                return load_voice(self._path(stored), config)
            except VoiceError as error:
                # The message has a path, which is no business of clients, and a name, which is none of the log.
                _log.error("the stored voice %s is damaged", stored.id)
                raise VoiceError(f"the stored voice {stored.id} is damaged; delete it and make it again") from error

    def check_new(self, name: str) -> str:
        """Check that a voice of that name may be added, and return the name as it would be kept.

        Raises:
            VoiceError: the name breaks a rule.
            VoiceNameTakenError: another voice has it.
            VoiceStoreFullError: there are too many voices.
        """
        name = check_name(name)
        with self._lock:
            self._check_room(name)
        return name

    def add(self, voice: VoicePrompt, facts: VoiceFacts) -> StoredVoice:
        """Store a voice; it is on disk on return.

        Raises:
            VoiceError: as `check_new`.
            VoiceStoreError: the folder cannot be written.
        """
        name = check_name(facts.name)
        with self._lock:
            self._check_room(name)
            voice_id = f"voice_{secrets.token_hex(8)}"
            facts = replace(facts, name=name)
            stored = StoredVoice(**asdict(facts), id=voice_id, created_at=int(time.time()))
            self._write(stored, voice)
            return stored

    def change(
        self,
        voice_id: str,
        config: ModelConfig,
        *,
        name: str | None = None,
        language: str | None = None,
        description: str | None = None,
    ) -> StoredVoice:
        """Change what is given, and return the voice as it is then.

        Raises:
            VoiceUnknownError: there is none with that id.
            VoiceError: the name breaks a rule, or the file is damaged.
            VoiceNameTakenError: another voice has the name.
            VoiceStoreError: the folder cannot be written.
        """
        given = {"name": name, "language": language, "description": description}
        changes = {field: value for field, value in given.items() if value is not None}
        if name is not None:
            changes["name"] = check_name(name)
        voice = self.load(voice_id, config)
        with self._lock:
            before = self._get(voice_id)
            stored = replace(before, **changes)
            self._check_free(stored.name, except_id=voice_id)
            self._write(stored, voice)
            return stored

    def delete(self, voice_id: str) -> None:
        """Delete a voice.

        Raises:
            VoiceUnknownError: there is none with that id.
            VoiceStoreError: the folder cannot be written.
        """
        with self._lock:
            path = self._path(self._get(voice_id))
            try:
                path.unlink(missing_ok=True)
                sync_folder(self.folder)
            except OSError as error:
                raise _cannot_write(voice_id, error) from error

    def _path(self, stored: StoredVoice) -> Path:
        # Only ids that were listed come here: they are names of files in this folder.
        return self.folder / f"{stored.id}{_SUFFIX}"

    def _get(self, voice_id: str) -> StoredVoice:
        for voice in self._look():
            if voice.id == voice_id:
                return voice
        raise VoiceUnknownError("there is no stored voice with that id; list the voices to see which there are")

    def _check_room(self, name: str) -> None:
        self._check_free(name)
        if len(self._files) >= self.max_voices:
            raise VoiceStoreFullError(
                f"there are {len(self._files)} stored voices, and {self.max_voices} are allowed; delete one first"
            )

    def _check_free(self, name: str, except_id: str = "") -> None:
        wanted = fold_name(name)
        if any(voice.id != except_id and fold_name(voice.name) == wanted for voice in self._look()):
            raise VoiceNameTakenError("another voice has that name, but for the case; choose another name")

    def _write(self, stored: StoredVoice, voice: VoicePrompt) -> None:
        facts = {field: str(value) for field, value in asdict(stored).items() if field not in ("id", "name")}
        try:
            # Whose voices these are is nobody's business but the server's.
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            replace(voice, name=stored.name, metadata=facts).save(self._path(stored))
        except (OSError, VoiceError) as error:
            raise _cannot_write(stored.id, error.__cause__ or error) from error

    # Looking at the folder; with the lock held.

    def _look(self) -> tuple[StoredVoice, ...]:
        """Bring the table up to date, and return the voices in it."""
        found: dict[str, _File] = {}
        for voice_id, stat in self._entries():
            known = self._files.get(voice_id)
            if known is None or (known.mtime_ns, known.inode) != (stat.st_mtime_ns, stat.st_ino):
                known = _File(self._read(voice_id), stat.st_mtime_ns, stat.st_ino)
            found[voice_id] = known
        self._files = found
        voices = [file.voice for file in found.values() if file.voice is not None]
        return tuple(sorted(voices, key=lambda voice: (voice.created_at, voice.id)))

    def _entries(self) -> Iterator[tuple[str, os.stat_result]]:
        """List the files of voices, and delete what writes that were cut off have left."""
        try:
            entries = list(os.scandir(self.folder))
        except FileNotFoundError:
            return
        except OSError as error:
            _log.warning("the folder of voices cannot be read (%s); none is listed", error.strerror)
            return
        for entry in entries:
            with suppress(OSError):  # another process has just deleted it
                stat = entry.stat(follow_symlinks=False)
                if entry.name.endswith(".part") and time.time() - stat.st_mtime > _LEFTOVER_AFTER_S:
                    os.unlink(entry)
                stem, suffix = os.path.splitext(entry.name)
                if suffix == _SUFFIX and _ID.fullmatch(stem) and entry.is_file(follow_symlinks=False):
                    yield stem, stat

    def _read(self, voice_id: str) -> StoredVoice | None:
        try:
            name, facts = read_voice_header(self.folder / f"{voice_id}{_SUFFIX}")
            return _parse(voice_id, name, facts)
        except (VoiceError, KeyError, ValueError) as error:
            _log.warning("the stored voice %s is damaged (%s) and is left out", voice_id, type(error).__name__)
            return None


def _parse(voice_id: str, name: str, facts: dict[str, str]) -> StoredVoice:
    """Read the facts of a voice back.

    Raises:
        KeyError: one is missing.
        ValueError: one is no number, or a text is no text.
    """
    "".join((name, *facts.values())).encode()  # half a character could not be sent to anybody
    duration_s = float(facts["duration_s"])
    if not math.isfinite(duration_s):
        raise ValueError("the duration is not finite")
    return StoredVoice(
        id=voice_id,
        name=check_name(name),
        consent=facts["consent"],
        language=facts["language"],
        description=facts["description"],
        ref_text=facts["ref_text"],
        mime_type=facts["mime_type"],
        file_size=int(facts["file_size"]),
        duration_s=duration_s,
        created_at=int(facts["created_at"]),
    )


def check_name(name: str) -> str:
    """Check what a voice may be called, and return it in composed form (NFC) without spaces around it.

    Letters and digits of any script, with their marks, space, dot, underscore and hyphen; 1 to 64 characters, the first
    a letter or digit. Nothing with the form of an id.

    Raises:
        VoiceError: it breaks the rule.

    >>> check_name(" Zoe\u0308 2.0 ")
    'Zoë 2.0'
    """
    kept = unicodedata.normalize("NFC", name).strip()
    if not 1 <= len(kept) <= _MAX_NAME_CHARS:
        raise VoiceError(f"the name has {len(kept)} characters; it must have 1 to {_MAX_NAME_CHARS}; choose another")
    bad = [char for char in kept if char not in " ._-" and unicodedata.category(char)[0] not in "LNM"]
    if bad or unicodedata.category(kept[0])[0] not in "LN":
        raise VoiceError(
            f"the name has {(bad or kept)[0]!a} in it, or at its start; it must be of letters, digits, spaces and "
            "'._-', and start with a letter or digit; choose another"
        )
    if _ID.fullmatch(kept.lower()):
        raise VoiceError("the name has the form of an id; choose another")
    return kept


def fold_name(name: str) -> str:
    """Write a name so that names which differ in case or composition alone are equal."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name.strip()).casefold())


def _cannot_write(voice_id: str, error: BaseException) -> VoiceStoreError:
    _log.error("the stored voice %s cannot be written: %s", voice_id, getattr(error, "strerror", None) or error)
    return VoiceStoreError(
        "the folder of voices cannot be written; it must be writable and have room (VOXTRAL_DATA_DIR); "
        "whoever runs this server finds more in its log"
    )
