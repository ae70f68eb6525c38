"""VoicePrompt: the rows that stand for a speaker in a prompt, and the files that hold them.

A voice is a matrix with one row for each reference frame and a closing END_AUDIO row. Presets come
from the checkpoint's voice_embedding folder; users' own voices are safetensors files, never pickles.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import pickletools
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
from voxtral.disk import ABSENT, UnfitFileError, open_regular, read_regular, temporary_beside
from voxtral.errors import CodeRangeError, VoiceError, VoiceUnreadableError
from voxtral.model.codebooks import check_codes
from voxtral.voices.report import CloneReport

# The largest preset of the published checkpoint is 1.3 MB; 30 s of reference are 376 rows.
_MAX_VOICE_BYTES = 64 * 2**20
_MAX_VOICE_ROWS = 4096
# Of a .safetensors voice: names, places and what is said of the voice, a few kB.
_MAX_HEADER_BYTES = 2**20
# Of a .pt preset: torch writes seven members, and a tensor takes some thirty operations of pickle.
_MAX_MEMBERS, _MAX_OPERATIONS = 64, 1000
_FORMAT = "voxtral-voice-1"


@dataclass(frozen=True, eq=False)
class VoicePrompt:
    """A voice, ready for a prompt.

    Attributes:
        name: how it is listed.
        rows: [N, D] in CPU memory; the last row is END_AUDIO.
        codes: [K, N - 1] int64, codec alphabet, where they are known: presets come without.
        metadata: free text, such as language, description or consent.
        report: how it was made, where that has just been; it is not saved.
    """

    name: str
    rows: Tensor = field(repr=False)
    codes: Tensor | None = field(default=None, repr=False)
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    report: CloneReport | None = field(default=None, repr=False)

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
        partial = temporary_beside(target)
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
        VoiceError: the file is missing, no regular file, too large, damaged, or its shape, dtype or values do not
            fit the checkpoint.
        VoiceUnreadableError: the system does not let it be read now.
    """
    path = Path(path)
    try:
        data = read_regular(path, max_bytes=_MAX_VOICE_BYTES)
    except UnfitFileError as error:
        raise VoiceError(f"{path} {error}; it is no voice; name a voice file") from error
    except (*ABSENT, ValueError) as error:
        raise VoiceError(f"{str(path)!r} cannot be read ({error}); name an existing voice file") from error
    except OSError as error:
        raise VoiceUnreadableError(
            f"{path} cannot be read ({error.strerror or error}), so that nothing is known of what is in it; the file "
            "must be readable; check its permissions and the disk, or try again"
        ) from error
    loaded = _load_pt(path, data) if path.suffix == ".pt" else _load_safetensors(path, data)
    check_voice(loaded, config)
    return loaded


def _load_pt(path: Path, data: bytes) -> VoicePrompt:
    try:
        _check_pt(data)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            rows = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    # A damaged archive raises almost anything; all of it means that this file is no voice.
    except Exception as error:
        raise VoiceError(
            f"{path} is no preset voice ({type(error).__name__}); it must be one tensor saved by torch; "
            "download the checkpoint again"
        ) from error
    if not isinstance(rows, Tensor):
        raise VoiceError(f"{path} holds a {type(rows).__name__}; a preset is one tensor; download the checkpoint again")
    return VoicePrompt(name=path.stem, rows=rows.detach())


def _check_pt(data: bytes) -> None:
    """Refuse what torch would spend long or much on, before it reads any of it.

    Raises:
        ValueError: it is no tensor as torch writes one.
    """
    if not data.startswith(b"PK"):  # as torch wrote before 1.6: pickles one after the other, then the numbers
        stream = io.BytesIO(data)
        for _ in range(4):  # a mark, a version, facts of the machine, the tensor
            _check_pickle(stream)
        return
    # Each member takes that mark in the list of them, which zipfile would read whole.
    if data.count(b"PK\x01\x02") > _MAX_MEMBERS:
        raise ValueError("it has too many members")
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        # torch stores members as they are; a compressed one may unfold to any size.
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("its members are compressed")
        if sum(member.file_size for member in members) > len(data):
            raise ValueError("its members are larger than the file")
        for member in members:
            if member.filename.endswith(".pkl"):
                _check_pickle(io.BytesIO(archive.read(member)))


def _check_pickle(stream: io.BytesIO) -> None:
    """Walk one pickle without running it; `torch.load` runs what it allows, and that includes asking for memory."""
    for operation, argument, _ in itertools.islice(pickletools.genops(stream), _MAX_OPERATIONS):
        if operation.name == "STOP":
            return
        is_name = operation.name in ("GLOBAL", "INST", "STACK_GLOBAL")
        if is_name and not str(argument).startswith(("torch", "collections OrderedDict")):
            raise ValueError("it names what no tensor needs")
    raise ValueError("it has too many operations")


def read_voice_header(path: Path) -> tuple[str, dict[str, str]]:
    """Read name and metadata of a saved voice; no tensor is read.

    Raises:
        VoiceError: the file is no saved voice, or its header is damaged or cut off.
        OSError: the file is not there, or cannot be read.
    """
    try:
        with open_regular(path, max_bytes=_MAX_VOICE_BYTES) as file:
            return _parse_header(path, file.read(8 + _MAX_HEADER_BYTES), os.fstat(file.fileno()).st_size)
    except UnfitFileError as error:
        raise VoiceError(f"{path} {error}; it is no voice file; save it again with VoicePrompt.save") from error


def _parse_header(path: Path, head: bytes, file_bytes: int) -> tuple[str, dict[str, str]]:
    """Take name and metadata from the first bytes of a saved voice, if its header fits the length of the file."""
    try:
        stop = 8 + int.from_bytes(head[:8], "little")
        header: Any = json.loads(head[8:stop])
        facts: Any = header.pop("__metadata__", {})
        ends = [int(tensor["data_offsets"][1]) for tensor in header.values()]
        # Whether each tensor is sound is for safetensors to say, once it is wanted.
        if stop + max(ends, default=0) != file_bytes or not all(isinstance(fact, str) for fact in facts.values()):
            raise ValueError("header and length of the file disagree")
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise VoiceError(f"{path} is no voice file ({error}); save it again with VoicePrompt.save") from error
    if "rows" not in header:
        raise VoiceError(f"{path} holds no tensor `rows`; it is no voice file; save it again with VoicePrompt.save")
    try:
        metadata: Any = json.loads(facts.get("metadata", "{}"))
    except (ValueError, RecursionError):
        metadata = None
    if not isinstance(metadata, dict):
        raise VoiceError(f"{path} has damaged metadata; save the voice again with VoicePrompt.save")
    named = cast(dict[Any, Any], metadata)
    return facts.get("name", path.stem), {str(key): str(value) for key, value in named.items()}


def _load_safetensors(path: Path, data: bytes) -> VoicePrompt:
    from safetensors import SafetensorError
    from safetensors.torch import load

    name, metadata = _parse_header(path, data[: 8 + _MAX_HEADER_BYTES], len(data))
    try:
        tensors = load(data)
    # A dtype that this torch does not have is a missing key or attribute.
    except (SafetensorError, ValueError, LookupError, AttributeError, RuntimeError) as error:
        raise VoiceError(f"{path} is no voice file ({error}); save it again with VoicePrompt.save") from error
    rows, codes = tensors["rows"], tensors.get("codes")
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
