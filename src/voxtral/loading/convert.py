"""Writing a checkpoint of few bits, which loads at once: the weights of another, fitted one matrix at a time."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from voxtral.config import Precision, QuantizationConfig
from voxtral.disk import may_use, temporary_beside
from voxtral.errors import CheckpointError, OptionError
from voxtral.loading.checkpoint import Checkpoint, TensorReader, check_finite
from voxtral.loading.files import ALIGNMENT_FILE, PARAMS_FILE, TOKENIZER_FILE, VOICE_FOLDER, WEIGHTS_FILE
from voxtral.loading.header import DTYPES
from voxtral.loading.inventory import StoredAs, quantized_tensors
from voxtral.loading.params import QUANTIZATION_FORMAT
from voxtral.quantization.recipes import stored_precision
from voxtral.quantization.schemes import SCHEMES

# Beside weights, sizes, tokenizer and voices: what is known of the attention, which fewer bits hardly change, and what
# says whose work it is and how it may be used.
_KEPT_FILES = (TOKENIZER_FILE, ALIGNMENT_FILE, "README.md", "LICENSE", "LICENSE.txt", "NOTICE")

_COPY_BYTES = 2**24

# Gets the bytes of the source that are done, and all of them.
Progress = Callable[[int, int], None]


def write_quantized(
    checkpoint: Checkpoint,
    quantization: QuantizationConfig,
    target: Path,
    *,
    device: torch.device,
    on_progress: Progress,
) -> int:
    """Write a folder that holds the checkpoint with its large matrices quantised; all of it, or nothing.

    What is loaded from it equals to the bit what quantising while loading gives, on the device that fitted it.

    Args:
        checkpoint: of plain weights.
        quantization: which matrices get how many bits.
        target: a folder that does not exist yet.
        device: where matrices are fitted.
        on_progress: called after each tensor.

    Returns:
        Bytes of tensor data that were written.

    Raises:
        OptionError: the checkpoint is quantised already, or the target cannot be written there.
        CheckpointError: the source is damaged, or the disk refuses.
    """
    check_conversion(checkpoint, target)
    partial = temporary_beside(target)
    try:
        partial.mkdir()
        size = _write_weights(checkpoint, quantization, partial / WEIGHTS_FILE, device, on_progress)
        _write_rest(checkpoint, quantization, partial)
        partial.rename(target)
    except OSError as error:
        raise CheckpointError(
            f"{target} cannot be written ({error}); its folder must be writable and the disk have room; choose another "
            "place"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return size


def check_conversion(checkpoint: Checkpoint, target: Path) -> None:
    """Refuse what cannot be done, before it takes time; errors as in `write_quantized`."""
    if checkpoint.config.quantization is not None:
        raise OptionError(
            f"{checkpoint.folder} is quantised to {checkpoint.config.quantization.name} already; a checkpoint of plain "
            "weights is needed; use the one that it was made from"
        )
    try:
        target.lstat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # as it must be
    except (OSError, ValueError) as error:
        raise OptionError(
            f"{target} cannot be written ({error}); it must be the name of a new folder; choose another"
        ) from error
    else:
        raise OptionError(f"{target} is there already; the folder must be a new one; choose another name")
    if not os.path.isdir(target.parent):
        raise OptionError(f"{target} cannot be written; its folder must exist; create {target.parent} first")
    if not may_use(target.parent, os.W_OK | os.X_OK):
        raise OptionError(
            f"{target} cannot be written; this user may not write to {target.parent}; choose another folder, or change "
            "its permissions"
        )


def _write_weights(
    checkpoint: Checkpoint, quantization: QuantizationConfig, path: Path, device: torch.device, on_progress: Progress
) -> int:
    layout = _lay_out(checkpoint, quantization)
    header: dict[str, dict[str, Any]] = {}
    position = 0
    for name, stored in layout.items():
        stop = position + stored.num_bytes
        header[name] = {"dtype": stored.dtype, "shape": stored.shape, "data_offsets": [position, stop]}
        position = stop
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    data_start = 8 + len(text)
    done = 0
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(data_start + position)  # a full disk may be noticed here, before hours of work
        for name, entry in checkpoint.tensors.items():
            precision = stored_precision(name, quantization)
            if precision is None:
                file.seek(data_start + header[name]["data_offsets"][0])
                _copy(checkpoint.folder / WEIGHTS_FILE, entry.start, entry.num_bytes, file)
            else:
                for part, value in _fit(checkpoint, name, precision, quantization.group_size, device):
                    file.seek(data_start + header[part]["data_offsets"][0])
                    file.write(value.contiguous().view(torch.uint8).cpu().numpy().data)
            done += entry.num_bytes
            on_progress(done, checkpoint.data_bytes)
        file.flush()
        os.fsync(file.fileno())
    return position


def _lay_out(checkpoint: Checkpoint, quantization: QuantizationConfig) -> dict[str, StoredAs]:
    """List all tensors of the new file, the widest numbers first, so that each lies at a multiple of its width."""
    layout: dict[str, StoredAs] = {}
    for name, entry in checkpoint.tensors.items():
        precision = stored_precision(name, quantization)
        if precision is None:
            layout[name] = StoredAs(entry.dtype, entry.shape)
        else:
            layout |= quantized_tensors(name, entry.shape, precision, quantization.group_size)
    return dict(sorted(layout.items(), key=lambda item: -DTYPES[item[1].dtype].itemsize))


def _fit(
    checkpoint: Checkpoint, name: str, precision: Precision, group_size: int, device: torch.device
) -> Iterator[tuple[str, Tensor]]:
    value = TensorReader(checkpoint).read(name)
    check_finite(name, value)
    weight = SCHEMES[precision].fit(value.to(device), group_size)
    names = quantized_tensors(name, checkpoint.tensors[name].shape, precision, group_size)
    yield from zip(names, weight.parts, strict=True)


def _copy(source: Path, start: int, size: int, file: BinaryIO) -> None:
    with source.open("rb") as reader:
        reader.seek(start)
        left = size
        while left and (block := reader.read(min(left, _COPY_BYTES))):
            file.write(block)
            left -= len(block)
    if left:
        raise CheckpointError(f"{source} ended while it was read; download the checkpoint again")


def _write_rest(checkpoint: Checkpoint, quantization: QuantizationConfig, folder: Path) -> None:
    block = {"format": QUANTIZATION_FORMAT, **asdict(quantization)}
    params = {**checkpoint.config.raw, "quantization": block}
    (folder / PARAMS_FILE).write_text(json.dumps(params, indent=2) + "\n", encoding="utf-8")
    for name in _KEPT_FILES:
        if (checkpoint.folder / name).is_file():
            shutil.copyfile(checkpoint.folder / name, folder / name)
    if (checkpoint.folder / VOICE_FOLDER).is_dir():
        shutil.copytree(checkpoint.folder / VOICE_FOLDER, folder / VOICE_FOLDER)
