"""Where the voices that users made are kept: added, changed and deleted, each in one step, and on disk on return.

One folder for each checkpoint, so that voices survive a restart and several processes can share them. Read next:
`voxtral.voices.folder`, which finds them.
"""

from __future__ import annotations

import errno
import logging
import secrets
import threading
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path

from filelock import Timeout

from voxtral.config import ModelConfig
from voxtral.errors import (
    VoiceError,
    VoiceNameTakenError,
    VoiceStoreBusyError,
    VoiceStoreError,
    VoiceStoreFullError,
    VoiceUnknownError,
    VoiceUnreadableError,
)
from voxtral.voices.facts import MAX_NAME_CHARS, StoredVoice, VoiceFacts, check_name, fold_name
from voxtral.voices.folder import VoiceFolder, VoiceTable
from voxtral.voices.prompt import VoicePrompt, load_voice, sync_folder

_log = logging.getLogger("voxtral.server")

# A write takes milliseconds; who holds the folder for longer waits for a disk, or has been stopped.
_PATIENCE_S = 10.0

# Shortages that pass by themselves; a full disk and missing rights do not.
_PASSING = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT, errno.ESTALE}


class VoiceStore:
    """A folder of voices; safe to use from many threads, and by many processes and machines at a time.

    Whatever is written is checked and written under a lock of the folder, so that two never give one name, and nobody
    writes a voice again that another deletes.

    Args:
        folder: for one checkpoint; it is made when the first voice comes.
        max_voices: more are refused.
    """

    def __init__(self, folder: Path, max_voices: int = 1000) -> None:
        self.folder = folder
        self.max_voices = max_voices
        self._voices = VoiceFolder(folder)
        self._lock = threading.Lock()
        # Names as they are compared, by the id that the voice will have. With a lock of its own, which nobody holds
        # while a disk is waited for.
        self._reserved: dict[str, str] = {}
        self._reserving = threading.Lock()

    def list(self) -> tuple[StoredVoice, ...]:
        """Return all voices, the oldest first.

        Raises:
            VoiceUnreadableError: the folder, or a voice in it, cannot be read now.
        """
        with self._lock:
            table = self._voices.scan()
        table.check_complete()
        return table.voices

    def find(self, name_or_id: str) -> StoredVoice | None:
        """Find a voice by its id or its name, whatever the case.

        Raises:
            VoiceUnreadableError: that cannot be told now.
        """
        with self._lock:
            return self._voices.find(name_or_id)

    def load(self, voice_id: str, config: ModelConfig) -> VoicePrompt:
        """Read a voice.

        Raises:
            VoiceUnknownError: there is none with that id.
            VoiceUnreadableError: it cannot be read now.
            VoiceError: its file is damaged.
        """
        with self._lock:
            stored = self._get(voice_id)
        # Without the lock, for others look voices up meanwhile. A file is replaced whole, or is gone.
        try:
            return load_voice(self._voices.path_of(stored.id), config)
        except VoiceUnreadableError as error:
            _log.error("the stored voice %s cannot be read: %s", stored.id, error.__cause__)
            raise VoiceUnreadableError(
                f"the stored voice {stored.id} cannot be read now; try again in a moment; whoever runs this server "
                "finds more in its log"
            ) from error
        except VoiceError as error:
            with self._lock:
                self._get(voice_id)
            # The message has a path, which is no business of clients, and a name, which is none of the log.
            _log.error("the stored voice %s is damaged", stored.id)
            raise VoiceError(f"the stored voice {stored.id} is damaged; delete it and make it again") from error

    def check_new(self, name: str) -> str:
        """Check that a voice of that name may be added, and return the name as it would be kept.

        Raises:
            VoiceError: the name breaks a rule.
            VoiceNameTakenError: another voice has it.
            VoiceUnreadableError: another voice may have it, which cannot be read now.
            VoiceStoreFullError: there are too many voices.
        """
        name = check_name(name)
        with self._lock:
            self._check_room(name)
        return name

    def reserve(self, name: str) -> str:
        """Keep a name and a place for a voice that is still being made; return the id that it will have.

        Nothing is written: other processes that share the folder know nothing of it.

        Raises:
            VoiceError: as `check_new`.
        """
        name = check_name(name)
        voice_id = _new_id()
        with self._lock:
            self._check_room(name)
            with self._reserving:
                self._reserved[voice_id] = fold_name(name)
        return voice_id

    def release(self, voice_id: str) -> None:
        """Give back what was reserved, if it still is."""
        with self._reserving:
            self._reserved.pop(voice_id, None)

    def is_reserved(self, name_or_id: str) -> bool:
        """Tell whether a voice of that name or id is still being made."""
        name = fold_name(name_or_id[: 4 * MAX_NAME_CHARS])
        with self._reserving:
            return name_or_id in self._reserved or name in self._reserved.values()

    def add(self, voice: VoicePrompt, facts: VoiceFacts, voice_id: str | None = None) -> StoredVoice:
        """Store a voice; it is on disk on return.

        Args:
            voice: its rows and how it was made.
            facts: kept with it.
            voice_id: that `reserve` gave for it; None makes one.

        Raises:
            VoiceError: as `check_new`.
            VoiceStoreError: the folder cannot be written.
        """
        name = check_name(facts.name)
        voice_id = voice_id or _new_id()
        with self._alone(voice_id):
            self._check_room(name, except_id=voice_id)
            facts = replace(facts, name=name)
            stored = StoredVoice(**asdict(facts), id=voice_id, created_at=int(time.time()))
            self._write(stored, voice)
            self.release(voice_id)
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
        with self._alone(voice_id):
            table = self._voices.scan()
            stored = replace(self._get(voice_id), **changes)
            if name is not None:
                self._check_free(table, stored.name, except_id=voice_id)
            self._write(stored, voice)
            return stored

    def delete(self, voice_id: str) -> None:
        """Delete a voice.

        Raises:
            VoiceUnknownError: there is none with that id.
            VoiceStoreError: the folder cannot be written.
        """
        with self._lock:
            self._get(voice_id)  # before a folder is made for the lock
        with self._alone(voice_id):
            path = self._voices.path_of(self._get(voice_id).id)
            try:
                path.unlink(missing_ok=True)
                sync_folder(self.folder)
            except OSError as error:
                raise _cannot_write(voice_id, error) from error

    @contextmanager
    def _alone(self, voice_id: str) -> Generator[None]:
        """Hold the folder's lock, and then this object's, so that who only looks waits for no other process."""
        with ExitStack() as held:
            try:
                # Whose voices these are is nobody's business but the server's.
                self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                held.enter_context(self._voices.locked(_PATIENCE_S))
            except Timeout as error:
                _log.error("another process has held the folder of voices for %.0f s", _PATIENCE_S)
                raise VoiceStoreBusyError(
                    "another server is changing the stored voices; one at a time may; try again in a moment"
                ) from error
            except OSError as error:
                raise _cannot_write(voice_id, error) from error
            held.enter_context(self._lock)
            yield

    # With the lock held.

    def _get(self, voice_id: str) -> StoredVoice:
        voice = self._voices.find(voice_id)
        if voice is None or voice.id != voice_id:
            raise VoiceUnknownError("there is no stored voice with that id; list the voices to see which there are")
        return voice

    def _check_room(self, name: str, except_id: str = "") -> None:
        table = self._voices.scan()
        self._check_free(table, name, except_id)
        num_voices = len(table.files) + len(self._others(except_id))
        if num_voices >= self.max_voices:
            raise VoiceStoreFullError(
                f"there are {num_voices} stored voices, and {self.max_voices} are allowed; delete one first"
            )

    def _check_free(self, table: VoiceTable, name: str, except_id: str = "") -> None:
        wanted = fold_name(name)
        if any(voice.id != except_id and fold_name(voice.name) == wanted for voice in table.voices):
            raise VoiceNameTakenError("another voice has that name, but for the case; choose another name")
        if wanted in self._others(except_id):
            raise VoiceNameTakenError("a voice that is still being made has that name; choose another name")
        # What cannot be read may have that name.
        table.check_complete()

    def _others(self, except_id: str) -> list[str]:
        """List the names that are reserved, but for one voice."""
        with self._reserving:
            return [name for voice_id, name in self._reserved.items() if voice_id != except_id]

    def _write(self, stored: StoredVoice, voice: VoicePrompt) -> None:
        try:
            # How it was made stays with it.
            named = replace(voice, name=stored.name, metadata={**voice.metadata, **stored.to_metadata()})
            named.save(self._voices.path_of(stored.id))
        except (OSError, VoiceError) as error:
            raise _cannot_write(stored.id, error.__cause__ or error) from error


def _new_id() -> str:
    return f"voice_{secrets.token_hex(8)}"


def _cannot_write(voice_id: str, error: BaseException) -> VoiceStoreError:
    _log.error("the stored voice %s cannot be written: %s", voice_id, getattr(error, "strerror", None) or error)
    if getattr(error, "errno", None) in _PASSING:
        return VoiceStoreBusyError(
            "the voice cannot be stored for the moment, for the machine is short of something; try again in a moment; "
            "whoever runs this server finds more in its log"
        )
    return VoiceStoreError(
        "the folder of voices cannot be written; it must be writable and have room (VOXTRAL_DATA_DIR); "
        "whoever runs this server finds more in its log"
    )
