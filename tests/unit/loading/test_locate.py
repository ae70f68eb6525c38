"""Which model is chosen, and what is said of the choice."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from checkpoints import TINY
from loopback_hub import FILES, NEEDED, OTHER, LoopbackHub, contents, put_in_cache
from voxtral.errors import DeviceError, ModelNotFoundError, OptionError
from voxtral.loading import hub
from voxtral.loading.hub.names import CANONICAL_ID, PINNED_REVISION
from voxtral.loading.locate import choose_model, is_built_in, locate_model

ALIAS = "mistralai/Voxtral-TTS"


@pytest.fixture
def cached_4b(monkeypatch: pytest.MonkeyPatch) -> None:
    """A complete copy of the 4B in the local cache."""
    monkeypatch.setattr(hub, "find_cached", lambda model_id, **_: TINY if model_id == hub.CANONICAL_ID else None)


def have_gpu(monkeypatch: pytest.MonkeyPatch, is_there: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: is_there)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
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
    assert choice.startswith("nano a small demo voice")
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


def test_an_existing_folder_is_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for model in (tmp_path, str(tmp_path), "owner/name", "./owner/name/", "."):
        assert locate_model(model, allow_download=False) == Path(model)
    assert locate_model("~/owner", allow_download=False) == tmp_path / "owner"
    with pytest.raises(OptionError, match="'v1' was given with the folder owner/name"):
        locate_model("owner/name", revision="v1", allow_download=True)


@pytest.mark.parametrize(
    "model", ["./x", "/nowhere/x", "x/", "../x", "~/x", "~nobody-of-this-name/x", "a\\b", Path("a/b")]
)
def test_a_path_that_does_not_exist_is_named(cache: Path, model: str | Path) -> None:
    with pytest.raises(ModelNotFoundError, match="does not exist") as caught:
        locate_model(model, allow_download=True)
    assert f"the folder {model} " in str(caught.value)


def test_a_file_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "consolidated.safetensors").write_bytes(b"")
    with pytest.raises(ModelNotFoundError, match="is not a folder"):
        locate_model(tmp_path / "consolidated.safetensors", allow_download=True)


@pytest.mark.parametrize("model", ["", "8b", "voxtral", "a b/c", "a/b/c", "x" * 5000, "\0"])
def test_a_name_that_is_nothing_lists_what_is_possible(cache: Path, model: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        locate_model(model, allow_download=True)
    assert repr(model) in str(caught.value)
    for possible in ("folder", CANONICAL_ID, "`4b`"):
        assert possible in str(caught.value)


@pytest.mark.parametrize("model", ["4b", ALIAS, CANONICAL_ID])
def test_a_cached_model_is_resolved_without_network(cache: Path, model: str) -> None:
    snapshot = put_in_cache(cache, CANONICAL_ID, PINNED_REVISION)
    assert locate_model(model, allow_download=False) == snapshot
    assert locate_model(model, allow_download=True) == snapshot


def test_a_missing_model_says_where_it_was_looked_for_and_how_to_get_it(cache: Path) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        locate_model(ALIAS, revision="v1", allow_download=False)
    message = str(caught.value)
    assert message.startswith(f"{ALIAS} at revision v1 is not on this machine")
    assert str(cache / "models--mistralai--Voxtral-4B-TTS-2603") in message
    assert str(cache / "models--mistralai--Voxtral-TTS") in message
    assert f"`voxtral download {ALIAS} --revision v1`" in message


def test_no_other_model_stands_in_for_the_one_asked_for(cache: Path) -> None:
    put_in_cache(cache, CANONICAL_ID, PINNED_REVISION, ref="main")
    with pytest.raises(ModelNotFoundError, match=OTHER):
        locate_model(OTHER, allow_download=False)


def test_a_missing_model_is_downloaded_where_that_is_allowed(hub: LoopbackHub) -> None:
    hub.add(CANONICAL_ID, FILES, commit=PINNED_REVISION)
    told: list[str] = []
    with pytest.raises(ModelNotFoundError):
        locate_model("4b", allow_download=False)
    assert not hub.seen
    folder = locate_model("4b", allow_download=True, announce=told.append)
    assert contents(folder) == {name: FILES[name] for name in NEEDED}
    assert len(told) == 1
    hub.seen.clear()
    assert locate_model("4b", allow_download=False) == folder
    assert not hub.seen


def test_a_cached_revision_that_is_not_the_pinned_one_is_named(cache: Path) -> None:
    other = put_in_cache(cache, CANONICAL_ID, "a" * 40, ref="main")
    told: list[str] = []
    assert locate_model("4b", allow_download=False, announce=told.append) == other
    assert len(told) == 1
    assert "aaaaaaaa" in told[0]
    assert PINNED_REVISION[:8] in told[0]
    pinned = put_in_cache(cache, CANONICAL_ID, PINNED_REVISION)
    told.clear()
    assert locate_model("4b", allow_download=False, announce=told.append) == pinned
    assert told == []
