"""Keys and values of voices on disk, so that a new process need not run the voice's part of a prompt again.

On a CPU that part is most of the time to the first audio of a large model. A file is used only if it was written by the
same package for the same weights, dtype and voice; one that cannot be read is made anew.
"""

from __future__ import annotations

import hashlib
import logging
import os
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from voxtral.disk import read_regular, temporary_beside

_log = logging.getLogger("voxtral.engine")

# The 20 voices of the published checkpoint take 470 MB in bfloat16.
_MAX_BYTES = 1_000_000_000


class PrefixStore:
    """A folder of prefixes.

    Args:
        folder: made when it is first written to.
        fingerprint: of the weights, and of whatever else changes their keys and values.
    """

    def __init__(self, folder: Path, fingerprint: str) -> None:
        self._folder = folder
        self._fingerprint = fingerprint

    def load(self, key: object, shape: tuple[int, ...], dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """Read the keys and values of a prefix; None if there are none to be trusted.

        Args:
            key: of the prefix.
            shape: [L, positions, Hkv, Dh], what each of them must have.
            dtype: what each of them must be.
        """
        path = self._path(key, dtype)
        try:
            tensors = load(read_regular(path, max_bytes=_MAX_BYTES))
        # Whatever keeps it from being read, the prefix is computed again; dtypes of another torch are missing keys.
        except (OSError, ValueError, LookupError, AttributeError, SafetensorError):
            return None
        pair = tensors.get("keys"), tensors.get("values")
        if any(part is None or part.shape != shape or part.dtype != dtype for part in pair):
            return None
        keys, values = tensors["keys"], tensors["values"]
        if not bool(torch.isfinite(keys).all() & torch.isfinite(values).all()):
            return None
        with suppress(OSError):
            os.utime(path)  # the oldest by use go first
        return keys, values

    def save(self, key: object, keys: Tensor, values: Tensor) -> None:
        """Write a prefix, [L, positions, Hkv, Dh] each; if the folder cannot be written, nothing is kept, and said."""
        path = self._path(key, keys.dtype)
        partial = temporary_beside(path)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(save({"keys": keys.contiguous(), "values": values.contiguous()}))
            partial.replace(path)
            self._make_room(path)
        except OSError as error:
            _log.warning("the keys and values of a voice are not kept on disk (%s)", error.strerror or error)
            with suppress(OSError):
                partial.unlink()

    def _make_room(self, newest: Path) -> None:
        files = sorted(self._folder.glob("*.safetensors"), key=lambda path: path.stat().st_mtime, reverse=True)
        total = 0
        for path in files:
            total += path.stat().st_size
            if total > _MAX_BYTES and path != newest:
                path.unlink(missing_ok=True)

    def _path(self, key: object, dtype: torch.dtype) -> Path:
        name = hashlib.sha256(f"{self._fingerprint}|{dtype}|{key}".encode()).hexdigest()
        return self._folder / f"{name}.safetensors"
