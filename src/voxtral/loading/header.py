"""The header of a safetensors file: which tensors lie where.

Whether header and file fit each other is for the safetensors library to say; what the tensors must be is in
`voxtral.loading.inventory`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open

from voxtral.disk import ABSENT, UnfitFileError, open_regular
from voxtral.errors import CheckpointError

# What plain weights may be stored as, and what numbers of few bits are besides, as safetensors files name it.
FLOAT_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32}
DTYPES = FLOAT_DTYPES | {"I8": torch.int8, "U8": torch.uint8}

# The published file has 50 kB of it.
_MAX_HEADER_BYTES = 2**24


@dataclass(frozen=True)
class TensorEntry:
    """One tensor as the header of a safetensors file describes it; offsets in bytes from file start.

    Its name and its fields go into `voxtral.loading.checkpoint.fingerprint`, which users' folders are named after.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    start: int
    stop: int

    @property
    def num_bytes(self) -> int:
        """Size of the data."""
        return self.stop - self.start


def read_header(path: Path, *, remedy: str = "download the checkpoint again") -> dict[str, TensorEntry]:
    """Read the header of a safetensors file and check that all its data is there, end to end, and nothing else.

    Args:
        path: of the file.
        remedy: what to do where something is wrong with it, for messages.

    Raises:
        CheckpointError: the file is missing, is no safetensors file, is damaged or cut off, or cannot be read.
    """
    try:
        with open_regular(path) as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            if header_bytes > _MAX_HEADER_BYTES:
                raise CheckpointError(
                    f"{path} is no safetensors file, or is damaged or cut off ({path.stat().st_size} bytes; its header "
                    f"is to have {header_bytes}, and {_MAX_HEADER_BYTES} are allowed); {remedy}"
                )
            _check_layout(path, remedy)
            # The offsets, which the library keeps to itself.
            header: dict[str, Any] = json.loads(file.read(header_bytes))
    except UnfitFileError as error:
        raise CheckpointError(f"{path} {error}; {remedy}") from error
    except ABSENT as error:
        raise CheckpointError(f"{path} is missing; a file of tensors must be there; {remedy}") from error
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror or error}); check its permissions and the disk, or try again"
        ) from error
    header.pop("__metadata__", None)
    data_start = 8 + header_bytes
    return {name: _entry(name, value, data_start) for name, value in header.items()}


def read_metadata(path: Path) -> dict[str, str]:
    """Read what a file that `read_header` has found sound says of itself.

    Raises:
        CheckpointError: it has changed since, and is sound no more.
    """
    try:
        with cast(Any, safe_open(path, framework="numpy")) as file:  # its stubs have no types
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} changed while it was read ({error}); try again") from error


def _check_layout(path: Path, remedy: str) -> None:
    """Let the library compare the header with the file: sizes, holes, overlaps, and where it ends."""
    try:
        with safe_open(path, framework="numpy"):
            pass
    except SafetensorError as error:
        raise CheckpointError(
            f"{path} is no safetensors file, or is damaged or cut off ({path.stat().st_size} bytes; {error}); {remedy}"
        ) from error


def _entry(name: str, value: dict[str, Any], data_start: int) -> TensorEntry:
    start, stop = value["data_offsets"]
    return TensorEntry(name, value["dtype"], tuple(value["shape"]), data_start + start, data_start + stop)
