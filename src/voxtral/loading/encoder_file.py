"""The codec encoder as a file of its own: where one is looked for, what it must be, and how it is written.

The published checkpoint lacks the encoder. A file of its tensors, under their names in a checkpoint and with weight
norm, takes their place; it names the decoder that it was made for. Nothing of it is read into memory before the first
clip.
Read next: docs/CLONING.md.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor

from voxtral import __version__
from voxtral.disk import is_file, is_folder, look, why, write_whole
from voxtral.errors import CheckpointError, EncoderFileError, EncoderMismatchError
from voxtral.loading.checkpoint import TensorReader, check_finite
from voxtral.loading.files import ENCODER_FILE, ENCODER_VARIABLE, WEIGHTS_FILE, data_folder
from voxtral.loading.header import FLOAT_DTYPES, TensorEntry, read_header, read_metadata
from voxtral.loading.inventory import CODEC_PREFIX, DIRECTION, ENCODER_PREFIXES, GAIN, encoder_tensors, name_some

if TYPE_CHECKING:
    from voxtral.loading.checkpoint import Checkpoint
    from voxtral.model.codec_encoder import CodecEncoder

_FORMAT = "voxtral-encoder-1"
_SUFFIX = ".safetensors"

_REMEDY = "use another file, or write it again"

Origin = Literal["distilled", "official", "other"]


@dataclass(frozen=True)
class EncoderFacts:
    """What the header of an encoder file says of it.

    Attributes:
        origin: distilled from the model's own speech, the maker's own, or other.
        steps: of its training.
        hours: of audio that it was trained on.
        licence: that it may be used under.
        report: JSON of how it was judged; empty where it was not.
        version: of this package that wrote it.
    """

    origin: Origin = "other"
    steps: int = 0
    hours: float = 0.0
    licence: str = ""
    report: str = ""
    version: str = __version__


@dataclass(frozen=True)
class EncoderFile:
    """An encoder file whose header and inventory have been checked; no data has been read yet.

    Attributes:
        path: where it lies.
        tensors: as its header describes them.
        decoder: `decoder_digest` of the checkpoint that it was made for.
        facts: what else it says of itself.
    """

    path: Path
    tensors: dict[str, TensorEntry]
    decoder: str
    facts: EncoderFacts

    @property
    def weights_path(self) -> Path:
        """Where the data lies, for a TensorReader."""
        return self.path


def decoder_digest(checkpoint: Checkpoint) -> str:
    """Tell decoders apart: a digest of the values of the codec's decoder and codebook, whatever their dtype.

    Quantising a checkpoint changes neither. Reads 300 MB of the published file.

    Raises:
        CheckpointError: a tensor cannot be read.
    """
    reader, digest = TensorReader(checkpoint), hashlib.sha256()
    for name in sorted(checkpoint.tensors):
        if name.startswith(CODEC_PREFIX) and not name.startswith(ENCODER_PREFIXES):
            value = reader.read(name)
            digest.update(f"{name} {list(value.shape)}\n".encode())
            digest.update(value.float().contiguous().numpy().astype("<f4", copy=False).tobytes())
    return digest.hexdigest()


def with_encoder(checkpoint: Checkpoint, asked_for: str | os.PathLike[str] | None) -> Checkpoint:
    """Give a checkpoint the encoder file that goes with it, if there is one; see `find_encoder`."""
    return replace(checkpoint, encoder=find_encoder(checkpoint, asked_for))


def find_encoder(checkpoint: Checkpoint, asked_for: str | os.PathLike[str] | None = None) -> EncoderFile | None:
    """Find the encoder file of a checkpoint.

    In this order: the one that is asked for, the one that VOXTRAL_ENCODER names, none where the checkpoint holds an
    encoder itself, `codec_encoder.safetensors` beside it, and the one of its decoder in the user's data folder.

    Args:
        checkpoint: that it is to fit.
        asked_for: a path.

    Raises:
        EncoderFileError: the first of these is no encoder file, is damaged, or is of other sizes.
        EncoderMismatchError: one that was named is of another decoder. Others are compared when they are first used
            (`check_decoder`), because that reads the decoder.
    """
    named = asked_for if asked_for is not None else os.environ.get(ENCODER_VARIABLE) or None
    if named is not None:
        try:
            path = Path(os.path.expanduser(os.fspath(named)))
        except (TypeError, ValueError) as error:
            raise EncoderFileError(
                f"encoder is {named!r}; it must be the path of a {_SUFFIX} file; name one"
            ) from error
        file = open_encoder(path, checkpoint)
        check_decoder(file, checkpoint)
        return file
    if checkpoint.has_encoder:
        return None
    try:
        beside = checkpoint.folder / ENCODER_FILE
        if look(beside) is not None:
            return open_encoder(beside, checkpoint)
        stored = encoder_folder()
        # Only then is it worth a digest, without which no name is known.
        if is_folder(stored) and any(name.endswith(_SUFFIX) for name in os.listdir(stored)):
            mine = stored_encoder(checkpoint)
            return open_encoder(mine, checkpoint) if is_file(mine) else None
    except OSError as error:
        raise EncoderFileError(
            f"whether {error.filename} holds an encoder cannot be told ({why(error)}); check its permissions and the "
            "disk"
        ) from error
    return None


def encoder_folder() -> Path:
    """Return the folder of encoders that lie beside no checkpoint."""
    return data_folder() / "encoders"


def stored_encoder(checkpoint: Checkpoint) -> Path:
    """Name the file of a checkpoint's encoder in the user's data folder, whether it is there or not."""
    return encoder_folder() / f"{decoder_digest(checkpoint)}{_SUFFIX}"


def open_encoder(path: Path, checkpoint: Checkpoint) -> EncoderFile:
    """Read the header of an encoder file, and compare its tensors with those that the checkpoint lacks.

    Raises:
        EncoderFileError: the file is missing, damaged or cut off, is no encoder file, or has tensors that the sizes of
            the checkpoint do not imply.
    """
    try:
        tensors = read_header(path, remedy=_REMEDY)
        facts = read_metadata(path)
    except CheckpointError as error:
        raise EncoderFileError(str(error)) from error
    if facts.get("format") != _FORMAT:
        raise EncoderFileError(
            f"{path} is no encoder file (its format is {facts.get('format')!r}, not {_FORMAT!r}); {_REMEDY}"
        )
    expected = encoder_tensors(checkpoint.config)
    if missing := sorted(set(expected) - set(tensors)):
        raise EncoderFileError(f"{path} lacks {name_some(missing)} of {len(expected)} tensors; {_REMEDY}")
    if extra := sorted(set(tensors) - set(expected)):
        raise EncoderFileError(f"{path} holds {name_some(extra)}, which an encoder of this model has not; {_REMEDY}")
    for name, shape in expected.items():
        if tensors[name].shape != shape or tensors[name].dtype not in FLOAT_DTYPES:
            raise EncoderFileError(
                f"{path} has {name} as {tensors[name].dtype} of shape {list(tensors[name].shape)}; this model needs "
                f"{' or '.join(FLOAT_DTYPES)} of shape {list(shape)}; an encoder belongs to one model; {_REMEDY}"
            )
    try:
        return EncoderFile(path, tensors, facts["decoder"], _parse_facts(facts))
    except (KeyError, ValueError) as error:
        raise EncoderFileError(f"{path} has a damaged header ({error!r}); {_REMEDY}") from error


def _parse_facts(facts: Mapping[str, str]) -> EncoderFacts:
    origin = facts.get("origin", "other")
    if origin not in ("distilled", "official", "other"):
        raise ValueError(f"origin {origin!r}")
    return EncoderFacts(
        origin=cast(Origin, origin),
        steps=int(facts.get("steps", "0")),
        hours=float(facts.get("hours", "0")),
        licence=facts.get("licence", ""),
        report=facts.get("report", ""),
        version=facts.get("version", ""),
    )


def check_decoder(file: EncoderFile, checkpoint: Checkpoint) -> None:
    """Refuse an encoder that was made for another decoder; reads the checkpoint's.

    Raises:
        EncoderMismatchError: the digests differ.
        CheckpointError: the decoder cannot be read.
    """
    mine = decoder_digest(checkpoint)
    if file.decoder != mine:
        raise EncoderMismatchError(
            f"{file.path} was made for the decoder {file.decoder[:12]}, and {checkpoint.folder} holds {mine[:12]}; "
            "codes of one mean nothing to the other; use an encoder of this model, or the model of this encoder"
        )


def read_encoder(file: EncoderFile, checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Read all tensors of an encoder file, as stored.

    Raises:
        EncoderFileError: the file ends early or cannot be read, or a value is not finite.
    """
    reader = TensorReader(file)
    try:
        tensors = {name: reader.read(name) for name in encoder_tensors(checkpoint.config)}
        for name, value in tensors.items():
            check_finite(f"{file.path}: {name}", value)
    except CheckpointError as error:
        raise EncoderFileError(str(error)) from error
    return tensors


def name_tensors(encoder: CodecEncoder, dtype: torch.dtype = torch.bfloat16) -> dict[str, Tensor]:
    """Give the weights of an encoder the names and the form that they have in a file: gains float32, the rest `dtype`.

    An encoder that reads them back has its weights rounded to `dtype`, and nothing else changed.
    """
    tensors: dict[str, Tensor] = {}
    for name, value in encoder.named_parameters():
        value = value.detach().to("cpu", dtype)
        stem = f"{CODEC_PREFIX}{name}".removesuffix(".weight")
        if name.endswith(".conv.weight"):
            # Of what was rounded, so that gain and direction make just that again.
            tensors[f"{stem}{GAIN}"] = value.float().flatten(1).norm(dim=1)[:, None, None]
            tensors[f"{stem}{DIRECTION}"] = value.contiguous()
        else:
            tensors[f"{CODEC_PREFIX}{name}"] = value.contiguous()
    return tensors


def write_encoder(target: Path, tensors: Mapping[str, Tensor], checkpoint: Checkpoint, facts: EncoderFacts) -> None:
    """Write an encoder file; it appears complete or not at all.

    Args:
        target: its name, which ends in .safetensors; the folder exists.
        tensors: as `name_tensors` names them, or as a checkpoint holds them.
        checkpoint: that the encoder was made for.
        facts: go into the header.

    Raises:
        EncoderFileError: the name is none for such a file, the tensors are not those of an encoder of this checkpoint,
            a value is not finite, or the disk refuses.
    """
    from safetensors.torch import save

    if target.suffix != _SUFFIX:
        raise EncoderFileError(f"{target.name} is no name for an encoder file; it must end in {_SUFFIX}; rename it")
    expected = encoder_tensors(checkpoint.config)
    given = {name: tuple(value.shape) for name, value in tensors.items()}
    if given != expected:
        wrong = sorted(name for name in set(given) | set(expected) if given.get(name) != expected.get(name))
        raise EncoderFileError(
            f"an encoder of this checkpoint has other tensors than these ({name_some(wrong)}); give those of "
            "`name_tensors`"
        )
    for name, value in tensors.items():
        try:
            check_finite(name, value)
        except CheckpointError as error:
            raise EncoderFileError(
                f"{name} holds values that are not finite; nothing was written; train again"
            ) from error
    header = {"format": _FORMAT, "decoder": decoder_digest(checkpoint)}
    header |= {key: str(value) for key, value in asdict(facts).items()}
    try:
        write_whole(target, save({name: value.contiguous() for name, value in tensors.items()}, header))
    except OSError as error:
        raise EncoderFileError(
            f"{target} cannot be written ({why(error)}); check the folder, its permissions and the disk"
        ) from error


def store_report(file: EncoderFile, checkpoint: Checkpoint, report: str) -> None:
    """Write into the header of an encoder file how it was judged; the rest of it stays as it is.

    Args:
        file: that is written anew; it is replaced as a whole, or stays.
        checkpoint: that it was made for.
        report: JSON.

    Raises:
        EncoderFileError: it cannot be read or written.
    """
    write_encoder(file.path, read_encoder(file, checkpoint), checkpoint, replace(file.facts, report=report))


def own_encoder(checkpoint: Checkpoint) -> dict[str, Tensor]:
    """Read the encoder that a checkpoint holds itself, in the form of a file.

    Raises:
        EncoderFileError: it holds none.
        CheckpointError: a tensor cannot be read.
    """
    if not checkpoint.has_encoder:
        raise EncoderFileError(f"{checkpoint.folder / WEIGHTS_FILE} holds no encoder; name a checkpoint that does")
    reader = TensorReader(checkpoint)
    return {name: reader.read(name) for name in encoder_tensors(checkpoint.config)}
