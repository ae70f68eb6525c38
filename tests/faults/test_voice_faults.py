"""Voice files that are damaged, hostile or of another checkpoint: refused by name, and never run."""

from __future__ import annotations

import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from checkpoints import TINY
from voxtral.config import ModelConfig
from voxtral.errors import VoiceError
from voxtral.loading.params import load_config
from voxtral.voices.presets import default_voice
from voxtral.voices.prompt import VoicePrompt, check_voice, load_voice

PRESET = TINY / "voice_embedding" / "casual_male.pt"


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return load_config(TINY / "params.json")


def rows(num_rows: int = 5, dim: int = 64) -> torch.Tensor:
    return torch.randn(num_rows, dim, generator=torch.Generator().manual_seed(0))


def codes(num_frames: int = 4) -> torch.Tensor:
    return torch.zeros(37, num_frames, dtype=torch.int64)


def assert_refused(path: Path, config: ModelConfig, *fragments: str) -> None:
    with pytest.raises(VoiceError) as caught:
        load_voice(path, config)
    assert all(fragment in str(caught.value) for fragment in fragments), str(caught.value)


# Hostile files.


class Payload:
    """Runs Python when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self._code = f"open({str(marker)!r}, 'w').close()"

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return exec, (self._code,)


def save_with_torch(content: object, path: Path) -> None:
    torch.save(content, path)


def save_with_pickle(content: object, path: Path) -> None:
    path.write_bytes(pickle.dumps(content, protocol=2))


@pytest.mark.parametrize("save", [save_with_torch, save_with_pickle])
@pytest.mark.parametrize(
    "wrap", [lambda payload: payload, lambda payload: [rows(), payload]], ids=["bare", "in a list"]
)
def test_a_preset_that_would_run_code_is_refused_and_runs_none(
    config: ModelConfig, tmp_path: Path, save: Callable[[object, Path], None], wrap: Callable[[Payload], object]
) -> None:
    marker, path = tmp_path / "it-ran", tmp_path / "evil.pt"
    save(wrap(Payload(marker)), path)
    # The payload works where code in pickles is allowed; otherwise this test would prove nothing.
    if save is save_with_torch:
        torch.load(path, weights_only=False)
    else:
        pickle.loads(path.read_bytes())
    assert marker.exists()
    marker.unlink()
    assert_refused(path, config, "evil.pt", "no preset voice")
    assert not marker.exists()


def test_a_pickle_under_the_name_of_a_saved_voice_is_refused(config: ModelConfig, tmp_path: Path) -> None:
    marker, path = tmp_path / "it-ran", tmp_path / "evil.safetensors"
    save_with_torch(Payload(marker), path)
    assert_refused(path, config, "no voice file")
    assert not marker.exists()


def test_a_file_too_large_for_a_voice_is_not_even_read(config: ModelConfig, tmp_path: Path) -> None:
    for name in ("large.pt", "large.safetensors"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(64 * 2**20 + 1)  # sparse: it takes no room on the disk
        assert_refused(tmp_path / name, config, name, f"{64 * 2**20 + 1} bytes")


# Damaged files.


@pytest.mark.parametrize("name", ["nowhere.pt", "nowhere.safetensors"])
def test_a_file_that_is_not_there(config: ModelConfig, tmp_path: Path, name: str) -> None:
    assert_refused(tmp_path / name, config, name, "No such file")


@pytest.mark.parametrize("name", ["folder.pt", "folder.safetensors"])
def test_a_folder(config: ModelConfig, tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    assert_refused(tmp_path / name, config, name)


@pytest.mark.parametrize("name", ["v.pt", "v.safetensors"])
@pytest.mark.parametrize("content", [b"", b"x", b"<html>404</html>", bytes(100)], ids=["empty", "x", "page", "zeros"])
def test_content_that_is_no_voice(config: ModelConfig, tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    assert_refused(tmp_path / name, config, name)


def test_a_preset_cut_off_anywhere(config: ModelConfig, tmp_path: Path) -> None:
    content, path = PRESET.read_bytes(), tmp_path / "cut.pt"
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        assert_refused(path, config, "cut.pt")


def test_a_saved_voice_cut_off_anywhere(config: ModelConfig, tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    VoicePrompt("mine", rows(), codes=codes()).save(path)
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        assert_refused(path, config, "cut.safetensors")


@pytest.mark.parametrize("content", [[rows()], {"rows": rows()}, 3, None], ids=["list", "dict", "number", "none"])
def test_a_preset_that_is_no_tensor(config: ModelConfig, tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "v.pt")
    assert_refused(tmp_path / "v.pt", config, type(content).__name__, "one tensor")


def test_a_saved_voice_without_rows(config: ModelConfig, tmp_path: Path) -> None:
    save_file({"row": rows()}, tmp_path / "v.safetensors")
    assert_refused(tmp_path / "v.safetensors", config, "no tensor `rows`")


@pytest.mark.parametrize("metadata", ["", "{", "[]", "3"])
def test_a_saved_voice_with_damaged_metadata(config: ModelConfig, tmp_path: Path, metadata: str) -> None:
    save_file({"rows": rows()}, tmp_path / "v.safetensors", metadata={"metadata": metadata})
    assert_refused(tmp_path / "v.safetensors", config, "damaged metadata")


# Rows and codes that do not fit.

UNFIT = {
    "width": (rows(dim=32), "[5, 32]"),
    "one dimension": (rows()[0], "[64]"),
    "three dimensions": (rows()[None], "[1, 5, 64]"),
    "one row": (rows(1), "[1, 64]"),
    "no rows": (rows(0), "[0, 64]"),
    "too many rows": (torch.zeros(4097, 64), "[4097, 64]"),
    "float64": (rows().double(), "float64"),
    "integers": (rows().to(torch.int32), "int32"),
    "complex": (rows().to(torch.complex64), "complex64"),
    "nan": (rows().index_fill(0, torch.tensor([4]), float("nan")), "not finite"),
    "infinity": (rows().index_fill(0, torch.tensor([0]), float("-inf")), "not finite"),
}


@pytest.mark.parametrize("case", UNFIT)
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_rows_that_do_not_fit_the_checkpoint(config: ModelConfig, tmp_path: Path, case: str, suffix: str) -> None:
    tensor, named = UNFIT[case]
    path = tmp_path / f"mine{suffix}"
    if suffix == ".pt":
        torch.save(tensor, path)
    else:
        try:
            save_file({"rows": tensor.contiguous()}, path)
        except KeyError:
            pytest.skip(f"this version of safetensors writes no {tensor.dtype}")
    assert_refused(path, config, "voice mine", named)


UNFIT_CODES = {
    "too few columns": (codes(3), "[37, 3] beside 5 rows"),
    "as many columns as rows": (codes(5), "[37, 5] beside 5 rows"),
    "one dimension": (codes()[0], "[4] beside 5 rows"),
    "floats": (codes().float(), "[37, 4] beside 5 rows"),
    "too few codebooks": (codes()[:36], "[rows, 37, frames]"),
    "semantic too large": (codes().index_fill(0, torch.tensor([0]), 8192), "code 8192 in codebook 0"),
    "acoustic too large": (codes().index_fill(0, torch.tensor([36]), 21), "code 21 in codebook 36"),
    "negative": (codes().index_fill(0, torch.tensor([7]), -1), "code -1 in codebook 7"),
}


@pytest.mark.parametrize("case", UNFIT_CODES)
def test_codes_that_do_not_fit_are_refused(config: ModelConfig, tmp_path: Path, case: str) -> None:
    tensor, named = UNFIT_CODES[case]
    save_file({"rows": rows(), "codes": tensor.contiguous()}, tmp_path / "v.safetensors")
    assert_refused(tmp_path / "v.safetensors", config, "voice v", named)


def test_a_voice_made_in_memory_is_checked_the_same_way(config: ModelConfig) -> None:
    with pytest.raises(VoiceError, match="not finite"):
        check_voice(VoicePrompt("mine", torch.full((5, 64), float("nan"))), config)


# Saving.


@pytest.mark.parametrize("name", ["voice.pt", "voice", "voice.wav"])
def test_saving_under_another_ending_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(VoiceError, match=r"\.safetensors"):
        VoicePrompt("mine", rows()).save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_save_that_fails_leaves_the_old_voice_and_nothing_else(config: ModelConfig, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = tmp_path / "v.safetensors"
    VoicePrompt("old", rows()).save(path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # As on a full disk: the write stops in the middle.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(VoiceError, match="File too large"):
            VoicePrompt("new", rows()).save(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert load_voice(path, config).name == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_without_presets_has_no_default_voice() -> None:
    with pytest.raises(VoiceError, match="no preset voices"):
        default_voice({}, ("en",), "en")


# Presets are archives that torch reads; whatever is wrong in one is a VoiceError.


@pytest.mark.parametrize("is_new", [True, False])
def test_a_damaged_preset_is_a_voice_error_whatever_is_damaged(
    config: ModelConfig, tmp_path: Path, is_new: bool
) -> None:
    path, draw = tmp_path / "v.pt", random.Random(0)
    torch.save(rows(), path, _use_new_zipfile_serialization=is_new)
    content = path.read_bytes()
    for _ in range(300):
        damaged = bytearray(content)
        damaged[draw.randrange(len(content))] = draw.randrange(256)
        path.write_bytes(bytes(damaged))
        try:
            load_voice(path, config)
        except VoiceError:
            continue


def test_a_preset_that_unfolds_is_refused_unread(config: ModelConfig, tmp_path: Path) -> None:
    torch.save(torch.zeros(2000, 64, dtype=torch.bfloat16), tmp_path / "plain.pt")
    with (
        zipfile.ZipFile(tmp_path / "plain.pt") as plain,
        zipfile.ZipFile(tmp_path / "v.pt", "w", zipfile.ZIP_DEFLATED) as folded,
    ):
        for member in plain.infolist():
            folded.writestr(member.filename, plain.read(member))
    assert (tmp_path / "v.pt").stat().st_size < 10_000
    assert_refused(tmp_path / "v.pt", config, "no preset voice")


def test_rows_that_are_no_dense_tensor_are_refused(config: ModelConfig, tmp_path: Path) -> None:
    torch.save(rows().to_sparse(), tmp_path / "v.pt")
    assert_refused(tmp_path / "v.pt", config, "voice v")
