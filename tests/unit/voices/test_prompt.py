"""Voices as they should be: presets, saved voices, and which one speaks when none is named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from checkpoints import TINY
from voxtral.config import PUBLISHED_LANGUAGES, ModelConfig
from voxtral.loading.params import load_config
from voxtral.voices.presets import default_voice, describe_preset, list_presets, voice_language
from voxtral.voices.prompt import VoicePrompt, check_voice, load_voice

PUBLISHED = [
    *("ar_male", "casual_female", "casual_male", "cheerful_female", "de_female", "de_male", "es_female", "es_male"),
    *("fr_female", "fr_male", "hi_female", "hi_male", "it_female", "it_male", "neutral_female", "neutral_male"),
    *("nl_female", "nl_male", "pt_female", "pt_male"),
]


@pytest.fixture(scope="module")
def config() -> ModelConfig:
    return load_config(TINY / "params.json")


def make_voice(dtype: torch.dtype = torch.float32, metadata: dict[str, str] | None = None) -> VoicePrompt:
    generator = torch.Generator().manual_seed(0)
    return VoicePrompt(
        name="mine",
        rows=torch.randn(5, 64, generator=generator).to(dtype),
        codes=torch.randint(21, (37, 4), generator=generator),
        metadata=metadata or {"language": "fr", "consent": "donné le 3 mai"},
    )


def presets(*names: str) -> dict[str, Path]:
    return {name: Path(f"{name}.pt") for name in names}


# Presets.


def test_presets_are_listed_by_name(tmp_path: Path) -> None:
    assert list(list_presets(TINY)) == ["casual_male", "neutral_female"]
    folder = tmp_path / "voice_embedding"
    folder.mkdir()
    for name in ("b.pt", "a.safetensors", "README.md", "c.pt.part"):
        (folder / name).touch()
    (folder / "folder.pt").mkdir()
    assert list_presets(tmp_path) == {"a": folder / "a.safetensors", "b": folder / "b.pt"}


def test_a_checkpoint_without_presets_has_none(tmp_path: Path) -> None:
    assert list_presets(tmp_path) == {}


@pytest.mark.parametrize(("name", "num_rows"), [("casual_male", 7), ("neutral_female", 12)])
def test_a_preset_is_its_tensor(config: ModelConfig, name: str, num_rows: int) -> None:
    path = TINY / "voice_embedding" / f"{name}.pt"
    voice = load_voice(path, config)
    assert voice.name == name
    assert voice.rows.shape == (num_rows, 64)
    assert voice.rows.dtype is torch.bfloat16
    assert torch.equal(voice.rows, torch.load(path, weights_only=True))
    assert voice.codes is None


def test_a_preset_may_be_in_the_old_format_of_torch(config: ModelConfig, tmp_path: Path) -> None:
    rows = make_voice().rows
    torch.save(rows, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert torch.equal(load_voice(tmp_path / "old.pt", config).rows, rows)


# Saved voices.


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_saved_voice_comes_back_as_it_was(config: ModelConfig, tmp_path: Path, dtype: torch.dtype) -> None:
    voice = make_voice(dtype)
    voice.save(tmp_path / "file.safetensors")
    loaded = load_voice(tmp_path / "file.safetensors", config)
    assert (loaded.name, dict(loaded.metadata)) == ("mine", dict(voice.metadata))
    assert loaded.rows.dtype is dtype
    assert torch.equal(loaded.rows, voice.rows)
    assert loaded.codes is not None
    assert voice.codes is not None
    assert torch.equal(loaded.codes, voice.codes)


@settings(max_examples=30)
@given(st.dictionaries(st.text(max_size=10), st.text(max_size=30), max_size=4))
def test_any_metadata_comes_back(tmp_path_factory: pytest.TempPathFactory, metadata: dict[str, str]) -> None:
    path = tmp_path_factory.getbasetemp() / "metadata.safetensors"
    VoicePrompt("mine", make_voice().rows, metadata=metadata).save(path)
    assert load_voice(path, load_config(TINY / "params.json")).metadata == metadata


def test_a_voice_without_codes_is_saved_without(config: ModelConfig, tmp_path: Path) -> None:
    VoicePrompt("mine", make_voice().rows).save(str(tmp_path / "v.safetensors"))
    assert load_voice(str(tmp_path / "v.safetensors"), config).codes is None


def test_rows_that_are_a_view_are_saved_whole(config: ModelConfig, tmp_path: Path) -> None:
    rows = torch.randn(64, 5).T
    VoicePrompt("mine", rows).save(tmp_path / "v.safetensors")
    assert torch.equal(load_voice(tmp_path / "v.safetensors", config).rows, rows)


def test_a_file_without_metadata_is_named_after_itself(config: ModelConfig, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"rows": make_voice().rows}, tmp_path / "plain.safetensors")
    voice = load_voice(tmp_path / "plain.safetensors", config)
    assert (voice.name, dict(voice.metadata)) == ("plain", {})


def test_a_saved_voice_states_its_format(tmp_path: Path) -> None:
    make_voice().save(tmp_path / "v.safetensors")
    with safe_open(tmp_path / "v.safetensors", framework="pt") as file:
        assert file.metadata()["format"] == "voxtral-voice-1"
        assert set(file.keys()) == {"rows", "codes"}


def test_saving_replaces_the_old_file_and_leaves_nothing_else(config: ModelConfig, tmp_path: Path) -> None:
    path = tmp_path / "v.safetensors"
    path.write_bytes(b"old")
    make_voice().save(path)
    assert load_voice(path, config).name == "mine"
    assert list(tmp_path.iterdir()) == [path]


def test_rows_at_the_limits_are_a_voice(config: ModelConfig) -> None:
    for num_rows in (2, 4096):
        check_voice(VoicePrompt("edge", torch.zeros(num_rows, 64)), config)


# Which voice speaks.


@pytest.mark.parametrize(
    ("language", "name"),
    [
        ("en", "neutral_female"),
        ("fr", "fr_female"),
        ("es", "es_female"),
        ("de", "de_female"),
        ("it", "it_female"),
        ("pt", "pt_female"),
        ("nl", "nl_female"),
        ("ar", "ar_male"),
        ("hi", "hi_female"),
    ],
)
def test_each_published_language_has_its_voice(language: str, name: str) -> None:
    assert default_voice(presets(*PUBLISHED), PUBLISHED_LANGUAGES, language) == name


@pytest.mark.parametrize(
    ("names", "language", "name"),
    [
        (("casual_male", "neutral_female"), "fr", "neutral_female"),  # none in French: English
        (("casual_male", "cheerful_female"), "fr", "casual_male"),  # the first English one
        (("de_male", "es_female"), "fr", "de_male"),  # no English one either: the first
        (("de_male",), "de", "de_male"),  # no woman: the first of the language
        (("casual_male", "zz_female"), "en", "casual_male"),
    ],
)
def test_without_a_fitting_preset_another_speaks(names: tuple[str, ...], language: str, name: str) -> None:
    assert default_voice(presets(*names), PUBLISHED_LANGUAGES, language) == name


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("fr_male", "fr"),
        ("hi_female", "hi"),
        ("casual_male", "en"),
        ("neutral_female", "en"),
        ("zz_male", "en"),  # no language of this checkpoint
        ("fra_male", "en"),
        ("fr", "en"),
        ("FR_male", "en"),
    ],
)
def test_the_prefix_of_a_name_is_its_language(name: str, language: str) -> None:
    assert voice_language(name, PUBLISHED_LANGUAGES) == language


def test_a_preset_may_describe_itself(tmp_path: Path) -> None:
    rows = torch.zeros(3, 4, dtype=torch.bfloat16)
    path = tmp_path / "en_f1.safetensors"
    VoicePrompt("en_f1", rows, metadata={"description": "a bright voice"}).save(path)
    assert describe_preset(path) == "a bright voice"
    VoicePrompt("plain", rows).save(path)
    assert describe_preset(path) == ""
    assert describe_preset(tmp_path / "en_f1.pt") == ""
    path.write_bytes(b"not a voice")
    assert describe_preset(path) == ""
