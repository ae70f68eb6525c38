"""What is done of a long piece of work, in a folder of the user's, so that it can go on where it was stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from voxtral.disk import read_regular, why, write_whole
from voxtral.errors import OptionError

_IDENTITY = "identity.json"
_MAX_BYTES = 64 * 2**20


class Kept:
    """Results by name; without a folder none are kept, and all are made.

    Args:
        folder: is made if it is not there; None keeps nothing.
        identity: of the work; a folder of another work is refused.

    Raises:
        OptionError: the folder is of another work, or cannot be used.
    """

    def __init__(self, folder: Path | None, identity: Mapping[str, Any]) -> None:
        self._folder = folder
        if folder is None:
            return
        wanted = json.loads(json.dumps(identity))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            found = self._read(_IDENTITY)
            if found is None:
                write_whole(folder / _IDENTITY, json.dumps(wanted, indent=1).encode())
                return
            there = json.loads(found)
        except (OSError, ValueError) as error:
            raise _unusable(folder, why(error)) from error
        if there != wanted:
            differing = sorted(key for key in {*there, *wanted} if there.get(key) != wanted.get(key))
            raise OptionError(
                f"--work: {folder} holds parts of another evaluation (other in {', '.join(differing)}); one folder is "
                "for one evaluation; name another, or empty it"
            )

    def facts(self, name: str, make: Callable[[], Any]) -> Any:
        """Give what JSON can hold: as it was kept, or made now.

        Raises:
            OptionError: the folder cannot be read or written.
        """
        data = self._read(f"{_slug(name)}.json")
        if data is not None and self._folder is not None:
            try:
                return json.loads(data)
            except ValueError as error:
                raise _unusable(self._folder, f"{name} is damaged") from error
        made = make()
        self._write(f"{_slug(name)}.json", json.dumps(made).encode())
        return made

    def codes(self, name: str, make: Callable[[], tuple[dict[str, Tensor], float]]) -> tuple[dict[str, Tensor], float]:
        """Give codes by voice, and the seconds that they took: as they were kept, or made now.

        Raises:
            OptionError: the folder cannot be read or written.
        """
        data = self._read(f"{_slug(name)}.safetensors")
        if data is not None and self._folder is not None:
            try:
                tensors = load(data)
                seconds = tensors.pop("")
            except (SafetensorError, KeyError) as error:
                raise _unusable(self._folder, f"the codes of {name} are damaged") from error
            return tensors, float(seconds)
        made, took = make()
        tensors = {voice: codes.contiguous() for voice, codes in made.items()}
        self._write(f"{_slug(name)}.safetensors", save({**tensors, "": torch.tensor(took, dtype=torch.float64)}))
        return made, took

    def _read(self, name: str) -> bytes | None:
        if self._folder is None:
            return None
        try:
            return read_regular(self._folder / name, max_bytes=_MAX_BYTES)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise _unusable(self._folder, why(error)) from error

    def _write(self, name: str, data: bytes) -> None:
        if self._folder is None:
            return
        try:
            write_whole(self._folder / name, data)
        except OSError as error:
            raise _unusable(self._folder, why(error)) from error


def _slug(name: str) -> str:
    plain = "".join(character if character.isalnum() else "-" for character in name)
    return f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def _unusable(folder: Path, reason: str) -> OptionError:
    return OptionError(f"--work: {folder} cannot be used ({reason}); it must be a folder of ours; name another")
