"""Speech of the model itself as files of codes: shards, what they hold, and the plan of them all.

The codec makes the sound of codes at any time, so no audio is stored: 38 bytes a frame, 1.7 MB an hour. A shard is
written as a whole, again and again while it grows, so that what is there is always sound.
Read next: `voxtral.cloning.generate`, which makes them.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from voxtral.config import CodebookConfig
from voxtral.disk import UnfitFileError, read_regular, why, write_whole
from voxtral.errors import CheckpointError, TrainingError
from voxtral.loading.header import read_metadata

MANIFEST_FILE = "pairs.json"
_MANIFEST_FORMAT, _SHARD_FORMAT = "voxtral-pairs-1", "voxtral-pairs-shard-1"
MAX_SHARDS = 100_000
_MAX_MANIFEST_BYTES, _MAX_SHARD_BYTES = 2**16, 2**26
_REMEDY = "delete it, and it is made again"

# In robust standard deviations of the logarithm of frames per letter: what is further off was not said as written.
_MAX_DEVIATIONS = 3.0
# Letters that the silence around a text takes as long as.
_OVERHEAD_LETTERS = 6
# Fewer items of a voice tell nothing of its pace.
_MIN_ITEMS = 8


@dataclass(frozen=True)
class Manifest:
    """What a folder of pairs is of; equal for all machines that fill it.

    Attributes:
        checkpoint: `shared_fingerprint` of the checkpoint that speaks.
        seed: of voices, texts and noise.
        shard_frames: of a full shard.
    """

    checkpoint: str
    seed: int
    shard_frames: int


@dataclass(frozen=True, eq=False)
class Shard:
    """Items of speech, one behind the other; N frames, A acoustic codebooks, I items.

    Attributes:
        semantic: [N] int16.
        acoustic: [N, A] uint8.
        offsets: [I + 1] int32, where items begin, and N.
        speakers: [I] int16, which of the voices, or -1 for what is no whole preset.
        letters: [I] int32, characters of the text.
        voices: names.
        next_item: number of the item that comes after these; items that were of no use count.
    """

    semantic: Tensor
    acoustic: Tensor
    offsets: Tensor
    speakers: Tensor
    letters: Tensor
    voices: tuple[str, ...]
    next_item: int

    @classmethod
    def empty(cls, num_acoustic: int, voices: Sequence[str]) -> Shard:
        """Begin one."""
        return cls(
            torch.zeros(0, dtype=torch.int16),
            torch.zeros(0, num_acoustic, dtype=torch.uint8),
            torch.zeros(1, dtype=torch.int32),
            torch.zeros(0, dtype=torch.int16),
            torch.zeros(0, dtype=torch.int32),
            tuple(voices),
            0,
        )

    @property
    def num_frames(self) -> int:
        """N."""
        return len(self.semantic)

    def with_items(self, codes: Sequence[Tensor], speakers: Sequence[int], letters: Sequence[int], next_: int) -> Shard:
        """Add items.

        Args:
            codes: [K, T] int64 of each.
            speakers: as the field.
            letters: as the field.
            next_: as `next_item`.
        """
        if not codes:
            return Shard(**{**vars(self), "next_item": next_})
        joined = torch.cat(list(codes), dim=1)
        ends = self.num_frames + torch.tensor([each.shape[1] for each in codes]).cumsum(0)
        return Shard(
            torch.cat((self.semantic, joined[0].to(torch.int16))),
            torch.cat((self.acoustic, joined[1:].T.to(torch.uint8))),
            torch.cat((self.offsets, ends.to(torch.int32))),
            torch.cat((self.speakers, torch.tensor(speakers, dtype=torch.int16))),
            torch.cat((self.letters, torch.tensor(letters, dtype=torch.int32))),
            self.voices,
            next_,
        )


def settle_manifest(folder: Path, manifest: Manifest) -> None:
    """Write what a folder is of, or see that it is of the same.

    Raises:
        TrainingError: it is of another seed or model, or cannot be read or written.
    """
    path = folder / MANIFEST_FILE
    found = read_manifest(folder)
    if found is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            data = {"format": _MANIFEST_FORMAT, **asdict(manifest)}
            write_whole(path, json.dumps(data, indent=1).encode())
        except OSError as error:
            raise TrainingError(
                f"{path} cannot be written ({why(error)}); --work must be a folder that may be written to"
            ) from error
    elif found != manifest:
        other = [name for name, value in asdict(manifest).items() if getattr(found, name) != value]
        raise TrainingError(
            f"{folder} holds speech of another {' and '.join(other)}; all of it must be of one; name another folder "
            "with --work, or give the --seed and the --model that it was begun with"
        )


def read_manifest(folder: Path) -> Manifest | None:
    """Read what a folder of pairs is of; None where nothing has been made.

    Raises:
        TrainingError: the file is damaged or cannot be read.
    """
    path = folder / MANIFEST_FILE
    try:
        data: Any = json.loads(read_regular(path, max_bytes=_MAX_MANIFEST_BYTES))
        if data.pop("format") != _MANIFEST_FORMAT:
            raise ValueError("another format")
        manifest = Manifest(**data)
        if not all(type(getattr(manifest, name)) is kind for name, kind in _KINDS.items()) or manifest.shard_frames < 1:
            raise ValueError("a value of another kind")
    except FileNotFoundError:
        return None
    except (UnfitFileError, OSError) as error:
        raise TrainingError(f"{path} cannot be read ({why(error)}); check --work, its permissions and the disk") from (
            error
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise TrainingError(f"{path} is damaged ({error!r}); name another folder with --work") from error
    return manifest


_KINDS = {"checkpoint": str, "seed": int, "shard_frames": int}


def shard_path(folder: Path, number: int) -> Path:
    """Name a shard."""
    return folder / f"pairs-{number:05}.safetensors"


def write_shard(folder: Path, number: int, shard: Shard) -> None:
    """Write a shard; what was there stays until the new one is whole.

    Raises:
        TrainingError: the disk refuses.
    """
    tensors = {name: getattr(shard, name).contiguous() for name in _TENSORS}
    header = {
        "format": _SHARD_FORMAT,
        "number": str(number),
        "next_item": str(shard.next_item),
        "voices": json.dumps(shard.voices),
    }
    path = shard_path(folder, number)
    try:
        write_whole(path, save(tensors, header))
    except OSError as error:
        raise TrainingError(f"{path} cannot be written ({why(error)}); check the folder and the disk") from error


_TENSORS = {
    "semantic": torch.int16,
    "acoustic": torch.uint8,
    "offsets": torch.int32,
    "speakers": torch.int16,
    "letters": torch.int32,
}


def read_shard(folder: Path, number: int, books: CodebookConfig) -> Shard | None:
    """Read a shard; None where there is none yet.

    Raises:
        TrainingError: it is damaged, or holds what are no codes of this model.
    """
    path = shard_path(folder, number)
    try:
        tensors = load(read_regular(path, max_bytes=_MAX_SHARD_BYTES))
        facts = read_metadata(path)
        if facts.get("format") != _SHARD_FORMAT or set(tensors) != set(_TENSORS):
            raise ValueError(f"its format is {facts.get('format')!r}, not {_SHARD_FORMAT!r}")
        shard = Shard(**tensors, voices=tuple(json.loads(facts["voices"])), next_item=int(facts["next_item"]))
        _check_shard(shard, books)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise TrainingError(f"{path} cannot be read ({why(error)}); check its permissions and the disk") from error
    except (CheckpointError, SafetensorError, ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{path} is damaged ({error}); {_REMEDY}") from error
    return shard


def _check_shard(shard: Shard, books: CodebookConfig) -> None:
    for name, dtype in _TENSORS.items():
        if getattr(shard, name).dtype is not dtype:
            raise ValueError(f"{name} is {getattr(shard, name).dtype}, not {dtype}")
    num_frames, num_items = len(shard.semantic), len(shard.letters)
    if shard.acoustic.shape != (num_frames, books.num_acoustic) or shard.semantic.ndim != 1:
        raise ValueError(f"acoustic has the shape {list(shard.acoustic.shape)}")
    if shard.speakers.shape != (num_items,) or shard.offsets.shape != (num_items + 1,) or shard.letters.ndim != 1:
        raise ValueError("its items are not as many everywhere")
    ends = shard.offsets.long()
    follow = len(ends) and int(ends[0]) == 0 and int(ends[-1]) == num_frames and not bool((ends.diff() < 1).any())
    if not follow or shard.next_item < num_items:
        raise ValueError("its items do not follow each other")
    if num_items and not -1 <= int(shard.speakers.min()) <= int(shard.speakers.max()) < len(shard.voices):
        raise ValueError("it names a voice that it does not list")
    if num_frames and (
        int(shard.semantic.min()) < 0
        or int(shard.semantic.max()) >= books.semantic_size
        or int(shard.acoustic.max()) >= books.acoustic_size
    ):
        raise ValueError("a code is outside of its codebook")


def keep_usual(items: Sequence[Shard]) -> list[Tensor]:
    """Leave out the items that were said much faster or slower than their voice does: words are missing, or too many.

    Args:
        items: shards.

    Returns:
        Codes [K, T] int64 of the others, in order.
    """
    if not items:
        return []
    speakers = torch.cat([shard.speakers for shard in items])
    lengths = torch.cat([shard.offsets.diff() for shard in items])
    pace = (lengths.double() / (torch.cat([shard.letters for shard in items]) + _OVERHEAD_LETTERS)).log()
    is_usual = torch.ones(len(pace), dtype=torch.bool)
    for speaker in speakers.unique():
        mine = speakers == speaker
        if int(mine.sum()) < _MIN_ITEMS:
            continue
        away = pace[mine] - pace[mine].median()
        is_usual[mine] = away.abs() <= _MAX_DEVIATIONS * (1.4826 * away.abs().median()).clamp(min=0.05)
    codes = [
        torch.cat((shard.semantic[None, start:stop].long(), shard.acoustic[start:stop].T.long()))
        for shard in items
        for start, stop in zip(shard.offsets.tolist(), shard.offsets.tolist()[1:], strict=False)
    ]
    return [each for each, is_kept in zip(codes, is_usual.tolist(), strict=True) if is_kept]
