"""Export: the published format, and back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from exported import Exported
from stand_in_teacher import STAND_IN, StandInTeacher
from train import export
from train.codec_network import TrainableCodec
from train.data import list_voices
from train.export import checkpoint_tensors, split_checkpoint
from train.language_model import SpeechModel
from train.loop import load_weights
from train.presets import reference_clip
from train.shape import nano_config
from train.teacher import Speaker, Utterance
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.files import WEIGHTS_FILE
from voxtral.loading.inventory import expected_tensors
from voxtral.voices.presets import list_presets
from voxtral.voices.prompt import load_voice


def test_the_inventory_is_the_one_that_the_runtime_expects(exported: Exported) -> None:
    checkpoint = open_checkpoint(exported.folder)
    expected = expected_tensors(checkpoint.config, with_encoder=True)
    named = checkpoint_tensors(exported.codec, exported.model)
    assert {name: tuple(tensor.shape) for name, tensor in named.items()} == expected
    assert {name for name, tensor in named.items() if tensor.dtype == torch.float32} == {
        name for name in expected if name.endswith(("original0", "cluster_usage"))
    }


def test_a_checkpoint_turned_into_weights_and_back_is_the_same(exported: Exported) -> None:
    stored = load_file(exported.folder / WEIGHTS_FILE)
    again = checkpoint_tensors(exported.codec, exported.model)
    assert set(again) == set(stored)
    for name, tensor in stored.items():
        assert again[name].dtype == tensor.dtype
        assert torch.equal(again[name], tensor), name


def test_a_checkpoint_can_be_trained_on(exported: Exported, tmp_path: Path) -> None:
    export.main([str(tmp_path / "start"), "--from-checkpoint", str(exported.folder)])
    codec, model = TrainableCodec(exported.codec.config), SpeechModel(exported.model.config)
    codec.load_state_dict(load_weights(tmp_path / "start" / "codec.safetensors"))
    model.load_state_dict(load_weights(tmp_path / "start" / "language_model.safetensors"))
    stored = load_file(exported.folder / WEIGHTS_FILE)
    for name, tensor in checkpoint_tensors(codec, model).items():
        assert torch.equal(tensor, stored[name]), name


def test_a_checkpoint_of_other_sizes_is_refused(exported: Exported) -> None:
    stored = load_file(exported.folder / WEIGHTS_FILE)
    del stored["layers.5.attention.wq.weight"]
    with pytest.raises(SystemExit, match=r"layers\.5"):
        split_checkpoint(stored, exported.codec, exported.model)


def test_presets_are_rows_of_their_clips(exported: Exported) -> None:
    paths = list_presets(exported.folder)
    counts = json.loads((exported.folder / "tekken.json").read_text(encoding="utf-8"))
    presets = [voice for voice in list_voices(source=STAND_IN) if voice.split == "preset"]
    assert set(paths) == {voice.name for voice in presets}
    for voice in presets[:4]:
        loaded = load_voice(paths[voice.name], exported.runtime.config)
        codes = exported.runtime.encode_audio(torch.from_numpy(reference_clip(StandInTeacher(), voice)))
        assert torch.equal(loaded.rows, exported.runtime.embed_codes(codes).bfloat16())
        assert counts["audio"]["voice_num_audio_tokens"][voice.name] == len(loaded.rows)
        assert 3.6 * 12.5 <= len(loaded.rows) <= 4.4 * 12.5 + 2
        assert loaded.metadata["language"] == voice.language
        assert ("female" in loaded.metadata["description"]) == (voice.name[3] == "f")


def test_everyone_may_read_the_files(exported: Exported) -> None:
    paths = list(exported.folder.rglob("*.safetensors"))
    assert len(paths) == 21
    assert {path.stat().st_mode & 0o777 for path in paths} == {0o644}
    with safe_open(exported.folder / WEIGHTS_FILE, framework="pt") as file:
        assert file.metadata()["license"] == "Apache-2.0"


def test_a_teacher_that_never_says_four_seconds_is_an_error() -> None:
    class Hurried(StandInTeacher):
        def say(self, text: str, language: str, speaker: Speaker) -> Utterance:
            return super().say(text[:8], language, speaker)

    voice = next(voice for voice in list_voices(source=STAND_IN) if voice.name == "de_f1")
    with pytest.raises(SystemExit, match="de_f1"):
        reference_clip(Hurried(), voice)


def test_the_sizes_are_small_and_complete() -> None:
    config = nano_config(900)
    assert config.backbone.dim == config.acoustic.dim
    shapes = expected_tensors(config, with_encoder=True).values()
    assert 2 * sum(torch.Size(shape).numel() for shape in shapes) < 24e6
