"""A checkpoint on disk: opening it strictly, reading its tensors, and telling it from others.

Every tensor of the file is accounted for by name, shape and dtype before the first byte of data is read. Nothing is
downloaded here (`voxtral.loading.hub` does that) and voices are read elsewhere (`voxtral.voices.prompt`). Read next:
`voxtral.loading.load`, which makes a model of it.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from voxtral.config import ModelConfig
from voxtral.disk import is_folder
from voxtral.errors import CheckpointError
from voxtral.loading.files import PARAMS_FILE, WEIGHTS_FILE
from voxtral.loading.header import DTYPES, TensorEntry, read_header
from voxtral.loading.inventory import check_inventory, has_encoder, plain_tensors
from voxtral.loading.params import load_config
from voxtral.quantization.recipes import is_quantizable

if TYPE_CHECKING:
    from voxtral.loading.encoder_file import EncoderFile

# What `shared_fingerprint` reads of a tensor at most.
_SHARED_BYTES = 4096

# What `fingerprint` looks at: so many pieces of so many bytes, spread over the file.
_FINGERPRINT_SAMPLES, _FINGERPRINT_BYTES = 256, 4096


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint folder whose inventory has been checked; no data has been read yet.

    Attributes:
        folder: where it lies.
        config: sizes.
        tensors: of its file of weights.
        has_encoder: whether the codec encoder is among them.
        encoder: a file of its own that has the encoder, where one goes with the checkpoint.
    """

    folder: Path
    config: ModelConfig
    tensors: dict[str, TensorEntry]
    has_encoder: bool
    encoder: EncoderFile | None = None

    @property
    def weights_path(self) -> Path:
        """Where the data of `tensors` lies."""
        return self.folder / WEIGHTS_FILE

    @property
    def num_parameters(self) -> int:
        """Numbers of the model: where a matrix is quantised, those of the matrix."""
        return sum(math.prod(shape) for shape in plain_tensors(self.config, self.tensors).values())

    @property
    def data_bytes(self) -> int:
        """Bytes of tensor data in the file."""
        return sum(entry.num_bytes for entry in self.tensors.values())


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read params.json and the header of the weights, and check the inventory.

    Raises:
        CheckpointError: a file is missing, damaged or cut off, or a tensor is missing, extra, misshapen or of a wrong
            dtype; the message names it.
        ConfigError: params.json breaks a rule.
    """
    try:
        is_there = is_folder(folder)
    except OSError as error:
        raise CheckpointError(
            f"{folder} cannot be read ({error.strerror or error}); check its permissions and the disk, or try again"
        ) from error
    if not is_there:
        raise CheckpointError(f"{folder} is no folder; a checkpoint is a folder with {PARAMS_FILE} and {WEIGHTS_FILE}")
    config = load_config(folder / PARAMS_FILE)
    tensors = read_header(folder / WEIGHTS_FILE)
    check_inventory(config, tensors)
    return Checkpoint(folder=folder, config=config, tensors=tensors, has_encoder=has_encoder(tensors))


class TensorFile(Protocol):
    """A safetensors file whose header has been read: a checkpoint's weights, or an encoder's."""

    @property
    def weights_path(self) -> Path:
        """Where it lies."""
        ...

    @property
    def tensors(self) -> dict[str, TensorEntry]:
        """What it holds."""
        ...


class TensorReader:
    """Reads tensors of one file, one at a time."""

    def __init__(self, file: TensorFile) -> None:
        self._path = file.weights_path
        self._tensors = file.tensors

    def read(self, name: str) -> Tensor:
        """Read one tensor into memory, in its stored dtype.

        Raises:
            CheckpointError: the file ends early or cannot be read.
        """
        entry = self._tensors[name]
        # Read, not mapped: copying through a mapping faults page by page and is several times slower.
        data = np.empty(entry.num_bytes, dtype=np.uint8)
        try:
            with self._path.open("rb", buffering=0) as file:
                file.seek(entry.start)
                view, num_read = data.data, 0
                while num_read < len(data) and (count := file.readinto(view[num_read:])):
                    num_read += count
        except OSError as error:
            raise CheckpointError(
                f"{self._path} cannot be read at {name} ({error.strerror}); check the disk"
            ) from error
        if num_read < len(data):
            raise CheckpointError(f"{self._path} ended inside {name} while it was read; download it again")
        return torch.from_numpy(data).view(DTYPES[entry.dtype]).view(entry.shape)

    def map(self, name: str) -> Tensor:
        """Return a tensor that stays in the file and costs memory only where it is looked at.

        Raises:
            CheckpointError: as `read`.
        """
        entry = self._tensors[name]
        if entry.start % DTYPES[entry.dtype].itemsize:
            return self.read(name)  # a view needs aligned data; well-made files always have it
        # Copy-on-write: torch refuses read-only memory, and nobody writes.
        try:
            mapped = np.memmap(self._path, dtype=np.uint8, mode="c", offset=entry.start, shape=(entry.num_bytes,))
        except OSError as error:
            raise CheckpointError(
                f"{self._path} cannot be read at {name} ({error.strerror}); check the disk"
            ) from error
        except ValueError as error:  # the file has become shorter
            raise CheckpointError(f"{self._path} ended inside {name} while it was read; download it again") from error
        return torch.from_numpy(mapped).view(DTYPES[entry.dtype]).view(entry.shape)


def check_finite(name: str, value: Tensor) -> None:
    """Refuse a tensor with a value that is infinite or no number.

    Raises:
        CheckpointError: naming the tensor.
    """
    # The extremes show any inf or nan, and take no memory as a mask or a sum in float32 would.
    if value.numel() and not bool(torch.isfinite(torch.stack(torch.aminmax(value))).all()):
        raise CheckpointError(
            f"{name} holds values that are not finite in {str(value.dtype).removeprefix('torch.')}; the file is "
            "damaged, or its values do not fit that dtype; download it again or choose bfloat16 or float32"
        )


def fingerprint(checkpoint: Checkpoint, *, with_time: bool = True) -> str:
    """Tell weights apart without reading all of them.

    A digest of params.json, the inventory, samples of the data and the time when the file was written, which
    tells of changes between the samples.

    Args:
        checkpoint: whose weights.
        with_time: False leaves the time out, for what should still be found after the same checkpoint was installed
            again.

    Raises:
        CheckpointError: a file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        digest.update((checkpoint.folder / PARAMS_FILE).read_bytes())
        digest.update(repr(sorted(checkpoint.tensors.items())).encode())
        with (checkpoint.folder / WEIGHTS_FILE).open("rb") as file:
            size, written = os.fstat(file.fileno()).st_size, os.fstat(file.fileno()).st_mtime_ns
            digest.update(f"{size} {written if with_time else ''}".encode())
            for number in range(_FINGERPRINT_SAMPLES):
                file.seek(size * number // _FINGERPRINT_SAMPLES)
                digest.update(file.read(_FINGERPRINT_BYTES))
    except OSError as error:
        raise CheckpointError(f"{checkpoint.folder} cannot be read ({error.strerror}); check the disk") from error
    return digest.hexdigest()


def shared_fingerprint(checkpoint: Checkpoint) -> str:
    """Tell trainings apart, but not copies of one in fewer bits, nor where and when they were installed.

    A digest of the sizes, the inventory, and the beginning of each tensor that no recipe quantises, norms and
    embeddings among them. Weights that differ in their large matrices alone are taken for the same.

    Raises:
        CheckpointError: a file cannot be read.
    """
    sizes = {name: value for name, value in checkpoint.config.raw.items() if name != "quantization"}
    digest = hashlib.sha256(json.dumps(sizes, sort_keys=True).encode())
    try:
        with (checkpoint.folder / WEIGHTS_FILE).open("rb") as file:
            for name, shape in sorted(plain_tensors(checkpoint.config, checkpoint.tensors).items()):
                digest.update(f"{name} {shape}".encode())
                entry = checkpoint.tensors.get(name)
                if entry is not None and not is_quantizable(name):
                    file.seek(entry.start)
                    digest.update(entry.dtype.encode() + file.read(min(entry.num_bytes, _SHARED_BYTES)))
    except OSError as error:
        raise CheckpointError(f"{checkpoint.folder} cannot be read ({error.strerror}); check the disk") from error
    return digest.hexdigest()
