"""Dictionaries that are kept on the server, one file each, for requests to name.

A file is written aside and renamed, so that who reads one sees it whole, also from another process. What is kept is the
rules as they were checked; of two writers of one name the later wins.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from voxtral.disk import write_whole
from voxtral.errors import DictionaryError
from voxtral.server.errors import HttpError
from voxtral.text.dictionary import Dictionary, load_dictionary

MAX_DICTIONARIES = 100

NAME_PATTERN = "[A-Za-z0-9][A-Za-z0-9_-]{0,63}"
_NAME = re.compile(NAME_PATTERN)


@dataclass(frozen=True)
class StoredDictionary:
    """A dictionary that is kept.

    Attributes:
        name: by which requests ask for it.
        dictionary: its rules.
        updated_at: when it was written last, in seconds since 1970.
    """

    name: str
    dictionary: Dictionary
    updated_at: int


class DictionaryStore:
    """A folder of dictionaries; safe to use from many threads.

    Args:
        folder: it is made when the first one comes.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    def list(self) -> list[StoredDictionary]:
        """Return all, by name; a file that is damaged is left out."""
        found: list[StoredDictionary] = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                found.append(self.get(path.stem))
            except (HttpError, DictionaryError):
                continue  # gone since, or damaged: who asks for it by name is told
        return found

    def get(self, name: str) -> StoredDictionary:
        """Read a dictionary.

        Raises:
            HttpError: 404, there is none of that name.
            DictionaryError: its file is damaged.
        """
        path = self._path(name)
        try:
            updated_at = int(path.stat().st_mtime)
        except OSError:
            raise HttpError(
                404,
                "no dictionary has that name; GET /v1/dictionaries lists those that there are",
                code="dictionary_not_found",
                param="dictionary",
            ) from None
        try:
            return StoredDictionary(name, load_dictionary(path), updated_at)  # parsed once for as long as it stays
        except DictionaryError as error:
            # The message has a path, which is no business of clients.
            raise DictionaryError(f"the dictionary {name} is damaged; put it anew") from error

    def put(self, name: str, dictionary: Dictionary, *, is_new: bool) -> StoredDictionary:
        """Keep a dictionary; one of that name is replaced.

        Args:
            name: letters, digits, _ and -.
            dictionary: its rules.
            is_new: refuse a name that is taken.

        Raises:
            HttpError: 400, the name breaks the rule; 409, it is taken, or there are too many; 503, the disk refuses.
        """
        path = self._path(name)
        data = json.dumps([asdict(alias) for alias in dictionary.aliases], ensure_ascii=False).encode()
        with self._lock:
            try:
                self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
                there = {each.stem for each in self._folder.glob("*.json")}
                if is_new and name in there:
                    raise HttpError(
                        409,
                        "a dictionary has that name; PUT replaces it, or choose another",
                        code="dictionary_name_taken",
                        param="name",
                    )
                if name not in there and len(there) >= MAX_DICTIONARIES:
                    raise HttpError(
                        409,
                        f"there are {MAX_DICTIONARIES} dictionaries, as many as are allowed; delete one",
                        code="too_many_dictionaries",
                    )
                write_whole(path, data)
            except OSError as error:
                raise HttpError(
                    503,
                    f"the dictionary could not be written ({error.strerror or error}); whoever runs this server must "
                    "look at its data folder",
                    code="dictionary_store_error",
                ) from error
        return self.get(name)

    def delete(self, name: str) -> None:
        """Delete a dictionary.

        Raises:
            HttpError: 404, there is none of that name.
        """
        with self._lock:
            self.get(name)
            self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        if _NAME.fullmatch(name) is None:
            raise HttpError(
                400,
                "the name of a dictionary has 1 to 64 letters a to z, digits, _ and -, and begins with a letter or "
                "digit; choose another",
                code="invalid_request",
                param="name",
            )
        return self._folder / f"{name}.json"
