"""A checkpoint of few bits: what it loads as, what is refused, and that nothing half-written stays."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints import TINY
from voxtral.cli.main import run
from voxtral.doctor import command
from voxtral.errors import CheckpointError, ConfigError, OptionError
from voxtral.loading import convert
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.loading.convert import write_quantized
from voxtral.loading.load import load_model
from voxtral.model.linear import QuantizedLinear
from voxtral.model.voxtral import VoxtralModel
from voxtral.quantization.recipes import choose_recipe
from voxtral.tts import VoxtralTTS

CPU = torch.device("cpu")
GOLDEN = Path(__file__).parents[2] / "golden" / "data"
WQ = "layers.1.attention.wq.weight"


def write(target: Path, recipe: str, source: Path = TINY) -> Path:
    checkpoint = open_checkpoint(source)
    quantization = choose_recipe(recipe, checkpoint.config)
    seen: list[tuple[int, int]] = []
    size = write_quantized(
        checkpoint, quantization, target, device=CPU, on_progress=lambda done, total: seen.append((done, total))
    )
    assert size == open_checkpoint(target).data_bytes
    assert seen == sorted(seen)
    assert seen[-1] == (checkpoint.data_bytes, checkpoint.data_bytes)
    return target


@pytest.fixture(scope="module")
def int4_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("quantised") / "tiny-int4", "int4")


def load(folder: Path, recipe: str | None = None) -> VoxtralModel:
    checkpoint = open_checkpoint(folder)
    quantization = None if recipe is None else choose_recipe(recipe, checkpoint.config)
    return load_model(checkpoint, device=CPU, dtype=torch.float32, codec_dtype=torch.float32, quantization=quantization)


@pytest.mark.parametrize("recipe", ["int8", "int4", "int4-all"])
def test_the_file_holds_what_quantising_while_loading_gives(tmp_path: Path, recipe: str) -> None:
    stored, fitted = load(write(tmp_path / "new", recipe)), load(TINY, recipe)
    layers = {name: part for name, part in fitted.named_modules() if isinstance(part, QuantizedLinear)}
    assert len(layers) == 7 * 5 + 1
    for name, layer in layers.items():
        same = stored.get_submodule(name)
        assert isinstance(same, QuantizedLinear)
        for value, other in zip(
            vars(layer.quantized_weight).values(), vars(same.quantized_weight).values(), strict=True
        ):
            assert value.dtype == other.dtype
            assert torch.equal(value, other), name
    for (name, value), (_, other) in zip(fitted.named_parameters(), stored.named_parameters(), strict=True):
        assert torch.equal(value, other), name
    assert torch.equal(stored.text_embeddings, fitted.text_embeddings)


def test_the_folder_is_a_model_like_any_other(int4_folder: Path) -> None:
    checkpoint = open_checkpoint(int4_folder)
    assert checkpoint.num_parameters == open_checkpoint(TINY).num_parameters
    assert checkpoint.config.quantization is not None
    with VoxtralTTS.from_pretrained(int4_folder, device="cpu") as model:
        assert model.compute.quantization == checkpoint.config.quantization
        assert model.compute.quantization_reason == "the checkpoint is stored so"
        assert [voice.name for voice in model.voices] == ["casual_male", "neutral_female"]
        assert model.synthesize("Hello.", max_frames=2).samples.any()
    with pytest.raises(OptionError, match="has int4 already"):
        VoxtralTTS.from_pretrained(int4_folder, device="cpu", quantize="int8")


def test_the_doctor_judges_it_by_bounds(int4_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--model", str(int4_folder), "--vectors", str(GOLDEN), "--device", "cpu", "--json"]
    assert command.main(arguments) == 0
    output = capsys.readouterr().out.splitlines()
    report = json.loads(output[-1])
    assert "within the bounds of int4" in output[-2]
    assert report["passed"] >= 95
    assert report["failed"] == 0
    assert report["entries"]["rope/y"]["ok"] is True
    assert report["entries"]["lm/prompt/hidden"]["ok"] is True
    assert report["entries"]["e2e/A/frames"]["ok"] is None


def test_a_damaged_matrix_is_outside_the_bounds(
    int4_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = changed(int4_folder, tmp_path, lambda tensors: tensors[f"{WQ}_int4"].bitwise_not_())
    assert command.main(["--model", str(folder), "--vectors", str(GOLDEN), "--device", "cpu"]) == 1
    assert "NOT within the bounds of int4" in capsys.readouterr().out


def changed(source: Path, folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    """Copy a checkpoint with something done to its tensors."""
    folder = folder / "changed"
    shutil.copytree(source, folder)
    tensors = load_file(folder / "consolidated.safetensors")
    change(tensors)
    (folder / "consolidated.safetensors").unlink()
    save_file(tensors, folder / "consolidated.safetensors")
    return folder


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop(f"{WQ}_zero"), "lacks .*wq.weight_zero"),
        (lambda tensors: tensors.update({WQ: torch.zeros(96, 64)}), "holds .*wq.weight, which"),
        (lambda tensors: tensors.update({f"{WQ}_int4": torch.zeros(96, 64, dtype=torch.uint8)}), "has shape"),
        (lambda tensors: tensors.update({f"{WQ}_int4": torch.zeros(96, 32, dtype=torch.int8)}), "must be one of U8"),
        (lambda tensors: tensors.update({f"{WQ}_scale": torch.zeros(96, 2)}), "must be one of BF16"),
    ],
)
def test_every_tensor_is_accounted_for(
    int4_folder: Path, tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object], said: str
) -> None:
    with pytest.raises(CheckpointError, match=said):
        open_checkpoint(changed(int4_folder, tmp_path, change))


def test_a_scale_that_is_not_finite_is_named(int4_folder: Path, tmp_path: Path) -> None:
    folder = changed(int4_folder, tmp_path, lambda tensors: tensors[f"{WQ}_scale"].fill_(torch.inf))
    with pytest.raises(CheckpointError, match=r"wq\.weight_scale holds values that are not finite"):
        load(folder)


def test_groups_that_do_not_fit_are_refused(int4_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(int4_folder, tmp_path / "changed")
    params = json.loads((tmp_path / "changed" / "params.json").read_text(encoding="utf-8"))
    params["quantization"]["group_size"] = 64
    (tmp_path / "changed" / "params.json").write_text(json.dumps(params), encoding="utf-8")
    with pytest.raises(ConfigError, match="multiples"):
        open_checkpoint(tmp_path / "changed")


# What is refused, and what stays behind.


def test_what_cannot_be_done_is_refused_first(int4_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OptionError, match="already; a checkpoint of plain"):
        write(tmp_path / "new", "int8", int4_folder)
    with pytest.raises(OptionError, match="is there already"):
        write(tmp_path, "int8")
    with pytest.raises(OptionError, match="its folder must exist"):
        write(tmp_path / "no" / "new", "int8")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(convert, "_copy", full)
    with pytest.raises(CheckpointError, match="No space left"):
        write(tmp_path / "new", "int8")
    assert list(tmp_path.iterdir()) == []


def test_a_weight_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    folder = changed(TINY, tmp_path, lambda tensors: tensors[WQ].view(-1)[3:4].fill_(torch.nan))
    with pytest.raises(CheckpointError, match=r"wq\.weight holds values that are not finite"):
        write(tmp_path / "new", "int8", folder)
    assert list(tmp_path.iterdir()) == [folder]


# The command.


def test_the_command_writes_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "tiny-int8"
    assert run(["quantize", str(TINY), "-o", str(target), "--bits", "int8", "--device", "cpu"]) == 0
    assert open_checkpoint(target).config.quantization is not None
    told = capsys.readouterr().err
    assert f"--model {target}" in told
    assert run(["quantize", str(TINY), "-o", str(target), "--bits", "int8", "--device", "cpu"]) == 1
    assert "is there already" in capsys.readouterr().err


@pytest.mark.parametrize(("options", "said"), [(["--bits", "int2"], "int2"), (["--group-size", "48"], "48 inputs")])
def test_the_command_refuses_what_does_not_exist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    assert run(["quantize", str(TINY), "-o", str(tmp_path / "new"), "--device", "cpu", *options]) == 1
    assert said in capsys.readouterr().err
