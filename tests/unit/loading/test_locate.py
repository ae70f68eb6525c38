"""Which model is chosen, and what is said of the choice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from checkpoints import TINY
from voxtral.errors import DeviceError, ModelNotFoundError, OptionError
from voxtral.loading import hub
from voxtral.loading.locate import choose_model, is_built_in, locate_model


@pytest.fixture
def cached_4b(monkeypatch: pytest.MonkeyPatch) -> None:
    """A complete copy of the 4B in the local cache."""
    monkeypatch.setattr(hub, "find_cached", lambda model_id, **_: TINY if model_id == hub.CANONICAL_ID else None)


def have_gpu(monkeypatch: pytest.MonkeyPatch, is_there: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_there)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: int(is_there))


@pytest.mark.usefixtures("cached_4b")
@pytest.mark.parametrize("name", ["nano", "4b", "someone/model", "./folder", "tiny"])
@pytest.mark.parametrize("is_there", [True, False])
def test_what_is_named_is_chosen_whatever_is_there(monkeypatch: pytest.MonkeyPatch, name: str, is_there: bool) -> None:
    have_gpu(monkeypatch, is_there)
    monkeypatch.setenv("VOXTRAL_MODEL", "other/model")
    assert choose_model(name) == (name, "it was asked for")
    monkeypatch.setenv("VOXTRAL_MODEL", name)
    assert choose_model(None) == (name, "VOXTRAL_MODEL names it")


@pytest.mark.usefixtures("cached_4b")
def test_the_4b_of_the_cache_is_chosen_with_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    have_gpu(monkeypatch, True)
    name, reason = choose_model(None)
    assert name == hub.CANONICAL_ID
    assert "GPU" in reason
    assert "`--model nano`" in reason
    assert choose_model(None, "cuda:0")[0] == hub.CANONICAL_ID


@pytest.mark.usefixtures("cached_4b")
def test_the_4b_of_the_cache_is_mentioned_without_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    have_gpu(monkeypatch, False)
    name, reason = choose_model(None)
    assert name == "nano"
    assert "no CUDA device is present" in reason
    assert "`--model 4b`" in reason
    assert "download" not in reason


@pytest.mark.usefixtures("cached_4b")
def test_the_device_decides_whether_a_gpu_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    have_gpu(monkeypatch, True)
    assert choose_model(None, "cpu")[0] == "nano"
    have_gpu(monkeypatch, False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    # As for loading: "auto" takes no MPS device, only its name does.
    assert choose_model(None, "auto")[0] == "nano"
    assert choose_model(None, "mps")[0] == hub.CANONICAL_ID
    with pytest.raises(DeviceError):
        choose_model(None, "cuda")


def test_an_empty_environment_variable_names_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXTRAL_MODEL", "")
    assert choose_model(None)[0] == "nano"


def test_with_an_empty_cache_nano_is_chosen_and_torch_is_not_imported() -> None:
    code = "import sys, voxtral.loading.locate as m; print(*m.choose_model(None)); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    choice, has_torch = done.stdout.splitlines()
    assert choice.startswith("nano a small robotic demo voice")
    assert "`voxtral download 4b`" in choice
    assert has_torch == "False"


def test_the_built_in_model_is_found_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = locate_model("nano", allow_download=False)
    assert folder.parts[-3:] == ("voxtral", "data", "nano")
    with pytest.raises(OptionError, match="leave it out"):
        locate_model("nano", revision="main", allow_download=False)
    # A folder of that name comes first, as for every other name.
    (tmp_path / "nano").mkdir()
    monkeypatch.chdir(tmp_path)
    assert not is_built_in("nano")
    assert locate_model("nano", allow_download=False).resolve() == tmp_path / "nano"


def test_the_checkpoint_of_the_tests_is_no_model_of_the_package() -> None:
    with pytest.raises(ModelNotFoundError, match="names no model"):
        locate_model("tiny", allow_download=False)
