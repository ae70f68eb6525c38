"""VoicePrompt: the rows that stand for a speaker in a prompt, and the files that hold them.

A voice is a matrix with one row for each reference frame and a closing END_AUDIO row. Presets come
from the checkpoint's voice_embedding folder; users' own voices are safetensors files, never pickles.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from voxtral.config import ModelConfig
from voxtral.errors import CodeRangeError, VoiceError
from voxtral.model.codebooks import check_codes

# The largest preset of the published checkpoint is 1.3 MB; 30 s of reference are 376 rows.
_MAX_VOICE_BYTES = 64 * 2**20
_MAX_VOICE_ROWS = 4096
_FORMAT = "voxtral-voice-1"


@dataclass(frozen=True, eq=False)
class VoicePrompt:
    """A voice, ready for a prompt.

    Attributes:
        name: how it is listed.
        rows: [N, D] in CPU memory; the last row is END_AUDIO.
        codes: [K, N - 1] int64, codec alphabet, where they are known: presets come without.
        metadata: free text, such as language, description or consent.
    """

    name: str
    rows: Tensor = field(repr=False)
    codes: Tensor | None = field(default=None, repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])

    @cached_property
    def key(self) -> str:
        """The same for voices with the same rows, whatever they are called: a digest of the rows."""
        rows = self.rows.contiguous()
        digest = hashlib.sha256(f"{rows.dtype} {tuple(rows.shape)}".encode())
        digest.update(rows.view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the voice as a .safetensors file, replacing an existing one in one step; it is on disk on return.

        Raises:
            VoiceError: the name does not end in .safetensors.
        """
        from safetensors.torch import save

        target = Path(path)
        if target.suffix != ".safetensors":
            raise VoiceError(f"{target.name} is no name for a voice file; voices are saved as .safetensors; rename it")
        tensors = {"rows": self.rows.contiguous()}
        if self.codes is not None:
            tensors["codes"] = self.codes.to(torch.int64).contiguous()
        metadata = {
            "format": _FORMAT,
            "name": self.name,
            "metadata": json.dumps({str(key): str(value) for key, value in self.metadata.items()}),
        }
        partial = target.with_name(f".{target.name}.{os.getpid()}.part")
        try:
            # Not save_file, which makes files that only their owner can read, whatever the umask.
            with partial.open("wb") as file:
                file.write(save(tensors, metadata=metadata))
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
            sync_folder(target.parent)
        except OSError as error:
            raise VoiceError(
                f"{target} cannot be written ({error.strerror}); its folder must exist, be writable and have room; "
                "choose another path"
            ) from error
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Wait until the names of new, renamed and deleted files in a folder are on disk."""
    if os.name != "posix":
        return  # elsewhere a folder cannot be opened
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        # Some network file systems cannot do it; the contents of the files are safe even so.
        with suppress(OSError):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load_voice(path: str | os.PathLike[str], config: ModelConfig) -> VoicePrompt:
    """Read a voice file: a preset (.pt, one tensor, no code is run) or a saved voice (.safetensors).

    Raises:
        VoiceError: the file is missing, too large, damaged, or its shape, dtype or values do not fit
            the checkpoint.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
    except (OSError, ValueError) as error:
        raise VoiceError(f"{str(path)!r} cannot be read ({error}); name an existing voice file") from error
    if size > _MAX_VOICE_BYTES:
        raise VoiceError(f"{path} has {size} bytes; a voice file has at most {_MAX_VOICE_BYTES}; it is no voice")
    loaded = _load_pt(path) if path.suffix == ".pt" else _load_safetensors(path)
    check_voice(loaded, config)
    return loaded


def _load_pt(path: Path) -> VoicePrompt:
    try:
        # torch stores members as they are; a compressed one may unfold to any size.
        if zipfile.is_zipfile(path) and _has_compressed_members(path):
            raise ValueError("its members are compressed")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = torch.load(path, map_location="cpu", weights_only=True)
    # A damaged archive raises almost anything; all of it means that this file is no voice.
    except Exception as error:
        raise VoiceError(
            f"{path} is no preset voice ({type(error).__name__}); it must be one tensor saved by torch; "
            "download the checkpoint again"
        ) from error
    if not isinstance(rows, Tensor):
        raise VoiceError(f"{path} holds a {type(rows).__name__}; a preset is one tensor; download the checkpoint again")
    return VoicePrompt(name=path.stem, rows=rows.detach())


def _has_compressed_members(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist())


def read_voice_header(path: Path) -> tuple[str, dict[str, str]]:
    """Read name and metadata of a saved voice; no tensor is read.

    Raises:
        VoiceError: the file is no saved voice, or its header is damaged or cut off.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with cast(Any, safe_open(path, framework="pt")) as file:  # its stubs have no types
            header: dict[str, str] = file.metadata() or {}
            has_rows = "rows" in file.keys()  # noqa: SIM118 - it is no mapping
    except (SafetensorError, OSError, ValueError) as error:
        raise VoiceError(f"{path} is no voice file ({error}); save it again with VoicePrompt.save") from error
    if not has_rows:
        raise VoiceError(f"{path} holds no tensor `rows`; it is no voice file; save it again with VoicePrompt.save")
    try:
        metadata: Any = json.loads(header.get("metadata", "{}"))
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise VoiceError(f"{path} has damaged metadata; save the voice again with VoicePrompt.save")
    facts = cast(dict[Any, Any], metadata)
    return header.get("name", path.stem), {str(key): str(value) for key, value in facts.items()}


def _load_safetensors(path: Path) -> VoicePrompt:
    from safetensors import SafetensorError, safe_open

    name, metadata = read_voice_header(path)
    try:
        with cast(Any, safe_open(path, framework="pt")) as file:  # its stubs have no types
            rows: Tensor = file.get_tensor("rows")
            codes: Tensor | None = file.get_tensor("codes") if "codes" in file.keys() else None  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise VoiceError(f"{path} is no voice file ({error}); save it again with VoicePrompt.save") from error
    if codes is not None and codes.dtype in (torch.int8, torch.uint8, torch.int16, torch.int32):
        codes = codes.to(torch.int64)
    return VoicePrompt(name=name, rows=rows, codes=codes, metadata=metadata)


def check_voice(voice: VoicePrompt, config: ModelConfig) -> None:
    """Check that a voice fits a checkpoint.

    Raises:
        VoiceError: shape, dtype or values do not fit; the message says which.
    """
    rows, dim = voice.rows, config.backbone.dim
    if rows.layout is not torch.strided or rows.is_nested or rows.device.type != "cpu":
        raise VoiceError(f"voice {voice.name} is no plain tensor in main memory; make it again")
    if rows.ndim != 2 or rows.shape[1] != dim or not 2 <= rows.shape[0] <= _MAX_VOICE_ROWS:
        raise VoiceError(
            f"voice {voice.name} has shape {list(rows.shape)}; this checkpoint needs [2 .. {_MAX_VOICE_ROWS}, {dim}]; "
            "a voice belongs to the checkpoint that it was made with"
        )
    if rows.dtype not in (torch.bfloat16, torch.float16, torch.float32):
        raise VoiceError(f"voice {voice.name} is stored as {rows.dtype}; it must be bfloat16, float16 or float32")
    if not torch.isfinite(rows).all():
        raise VoiceError(f"voice {voice.name} holds values that are not finite; the file is damaged; make it again")
    if voice.codes is None:
        return
    if voice.codes.dtype is not torch.int64 or voice.codes.ndim != 2 or voice.codes.shape[1] != rows.shape[0] - 1:
        raise VoiceError(
            f"voice {voice.name} has {voice.codes.dtype} codes of shape {list(voice.codes.shape)} beside "
            f"{rows.shape[0]} rows; they must be int64, one column fewer than rows; make the voice again"
        )
    try:
        check_codes(voice.codes[None], config.codebooks)
    except CodeRangeError as error:
        raise VoiceError(f"voice {voice.name}: {error}") from error
