"""`voxtral encode` and `voxtral decode`: audio to codes and back, through a file that other programs can read.

A codes file is safetensors: one int64 tensor `codes` [K, T] in the codec's alphabet, with the
metadata `format` and `sample_rate`. It is checked before a model is loaded for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from voxtral.cli.files import check_clip, check_safetensors_target, check_target, writing
from voxtral.cli.loading import DeviceOption, DtypeOption, EncoderOption, LoadOptions, ModelOption, open_model
from voxtral.cli.terminal import deferred_interrupts, say
from voxtral.disk import UnfitFileError, open_regular
from voxtral.errors import RequestError

if TYPE_CHECKING:
    from torch import Tensor

_FORMAT = "voxtral-codes-1"

# About 5 hours at the published sizes, whose samples would fill 1.7 GB.
_MAX_CODES_BYTES = 64 * 2**20


def encode(
    clip: Annotated[Path, typer.Argument(metavar="CLIP", help="Audio of up to 10 minutes, in any usual format.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="The codes, a .safetensors file.")],
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
    encoder: EncoderOption = None,
) -> None:
    """Turn audio into codes and save them.

    The model must hold a codec encoder; the published 4B weights come without one.

    Where it holds none, --encoder names a file that has one.

    Examples:
      voxtral encode clip.wav -o clip.safetensors --model ./my-model
    """
    check_safetensors_target(output)
    check_clip(clip)
    with open_model(model, LoadOptions(device, dtype, encoder=encoder), say) as loaded:
        codes = loaded.encode(clip)
    _write_codes(output, codes, loaded.sample_rate)
    seconds = codes.shape[1] / loaded.config.frame_rate
    say(f"{output}: {codes.shape[0]} codebooks, {codes.shape[1]} frames, {seconds:.1f} s")


def decode(
    codes_file: Annotated[Path, typer.Argument(metavar="CODES", help="A file that voxtral encode wrote.")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="The audio; the extension chooses the format."),
    ],
    model: ModelOption = None,
    device: DeviceOption = "auto",
    dtype: DtypeOption = "auto",
) -> None:
    """Turn codes into audio.

    Examples:
      voxtral decode clip.safetensors -o clip.wav --model ./my-model
    """
    from voxtral.audio.encode import format_for_path

    format_for_path(output)
    check_target(output)
    codes, sample_rate = read_codes(codes_file)
    with open_model(model, LoadOptions(device, dtype), say) as loaded:
        if sample_rate != loaded.sample_rate:
            raise RequestError(
                f"{codes_file} was made for {sample_rate} Hz, this model speaks at {loaded.sample_rate} Hz; codes "
                "belong to one codec; use the model that they were made with"
            )
        audio = loaded.decode(codes)
    with deferred_interrupts(lambda: None) as check_interrupt:
        audio.save(output)
        check_interrupt()
    say(f"{output}: {audio.duration:.1f} s")


def _write_codes(target: Path, codes: Tensor, sample_rate: int) -> None:
    from safetensors.torch import save

    with writing(target) as partial:
        partial.write_bytes(save({"codes": codes.contiguous()}, {"format": _FORMAT, "sample_rate": str(sample_rate)}))


def read_codes(path: Path) -> tuple[Tensor, int]:
    """Read and check a codes file: codes [K, T] int64 and the sample rate in Hz."""
    from safetensors import SafetensorError, safe_open

    try:
        open_regular(path, max_bytes=_MAX_CODES_BYTES).close()
        with safe_open(path, framework="pt") as file:
            header: dict[str, str] = file.metadata() or {}
            codes = file.get_tensor("codes") if "codes" in file.keys() else None  # noqa: SIM118 - it is no dict
    except (OSError, RuntimeError) as error:  # torch says so where the library cannot open the file again
        raise RequestError(
            f"{path} cannot be read ({getattr(error, 'strerror', None) or error}); codes come from a "
            "file; check the path"
        ) from error
    except (UnfitFileError, SafetensorError) as error:
        raise _no_codes(path, f"it {error}" if isinstance(error, UnfitFileError) else str(error)) from error
    if header.get("format") != _FORMAT:
        raise _no_codes(path, f"its format is {header.get('format')!r}, not {_FORMAT!r}")
    if codes is None:
        raise _no_codes(path, "it holds no tensor `codes`")
    if codes.ndim != 2 or str(codes.dtype) != "torch.int64" or not codes.numel():
        raise _no_codes(path, f"`codes` is {codes.dtype} of shape {list(codes.shape)}, not int64 [K, T]")
    rate = header.get("sample_rate", "")
    if not (rate.isascii() and rate.isdigit()):
        raise _no_codes(path, f"its sample_rate is {rate!r}, not a number")
    return codes, int(rate)


def _no_codes(path: Path, reason: str) -> RequestError:
    return RequestError(
        f"{path} is no file of codes ({reason}); it must be a whole file that voxtral encode wrote; make it again"
    )
