"""The golden vectors: our numbers are the official ones, and a difference would be seen and named."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from checkpoints import TINY
from golden.judge import _GROUPS, VectorReport, load_vectors, run_vectors
from voxtral.doctor import command
from voxtral.errors import CheckpointError
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.model.acoustic import AcousticTransformer
from voxtral.model.folded import FoldedFlow

GOLDEN = Path(__file__).parent / "data"
ODD = Path(__file__).parent / "odd"
CPU = torch.device("cpu")
ENCODER = ("audio_tokenizer.input_proj.", "audio_tokenizer.encoder_blocks.")

# One output entry for each group of checks, none of which is the input of a later one.
ONE_OF_EACH_GROUP = [
    "prompt/03/ids",
    "embed_prompt/A/embeds",
    "lm/steps/hidden",
    "rope/y",
    "frame_embed/offsets",
    "semantic/logits_masked",
    "fm/alpha1.2/codes",
    "fm/alpha_mixed/x_final",
    "codec/alibi_slopes",
    "codec/decode/T7/block5",
    "codec/encode/latents",
    "e2e/A/frames",
    "e2e/B/waveform_streamed",
]


def run(folder: Path, vectors: Path = GOLDEN) -> VectorReport:
    return run_vectors(open_checkpoint(folder), load_vectors(vectors), CPU)


def counts(report: VectorReport) -> tuple[int, int, int]:
    return report.count(True), report.count(False), report.count(None)


@pytest.fixture(scope="module")
def report() -> VectorReport:
    return run(TINY)


@pytest.fixture(scope="module")
def public_report(tmp_path_factory: pytest.TempPathFactory) -> VectorReport:
    """The same on the checkpoint without encoder, which is what is published."""
    folder = tmp_path_factory.mktemp("public")
    shutil.copytree(TINY, folder, dirs_exist_ok=True)
    weights = folder / "consolidated.safetensors"
    tensors = load_file(weights)
    weights.unlink()
    save_file({name: tensor for name, tensor in tensors.items() if not name.startswith(ENCODER)}, weights)
    return run(folder)


def copy_of_the_set(folder: Path) -> Path:
    for name in ("vectors.json", "vectors.safetensors"):
        shutil.copyfile(GOLDEN / name, folder / name)
    return folder


# The numbers.


def test_every_entry_is_the_official_number(report: VectorReport) -> None:
    assert [result.name for result in report.results if result.ok is False] == []
    assert counts(report) == (113, 0, 0)
    assert report.ok


@pytest.mark.parametrize(
    ("folder", "vectors"),
    [(TINY, GOLDEN), (ODD / "sizes" / "checkpoint", ODD / "sizes"), (ODD / "options" / "checkpoint", ODD / "options")],
    ids=["tiny", "sizes", "options"],
)
def test_the_folded_flow_makes_the_same_numbers(folder: Path, vectors: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every flow, in the single entries and in whole utterances, under the tolerances of the plain path."""

    def flow_states(head: AcousticTransformer, *given: Any) -> Iterator[torch.Tensor]:
        return FoldedFlow.build(head).flow_states(*given)

    monkeypatch.setattr(AcousticTransformer, "flow_states", flow_states)
    report = run(folder, vectors)
    assert [result.name for result in report.results if result.ok is False] == []
    assert report.count(True) > 100


def test_without_encoder_only_the_encoders_entries_are_skipped(public_report: VectorReport) -> None:
    assert counts(public_report) == (90, 0, 23)
    assert public_report.ok
    skipped = [result for result in public_report.results if result.kind == "output" and result.ok is None]
    assert {result.detail for result in skipped} == {"the checkpoint holds no encoder"}
    assert all(result.name.startswith(("codec/encode", "embed_prompt/ref_audio/codes")) for result in skipped)


def test_inputs_are_listed_and_never_count_as_passed(report: VectorReport) -> None:
    inputs = [result for result in report.results if result.kind == "input"]
    assert len(inputs) == 26
    assert all(result.ok is None and result.max_abs is None for result in inputs)
    assert {"fm/x0", "rope/x", "e2e/A/noise", "codec/encode/wav", "lm/prompt/embeds"} <= {r.name for r in inputs}


def test_informational_entries_do_not_judge(report: VectorReport) -> None:
    informational = [result for result in report.results if result.kind == "informational"]
    assert len(informational) == 34
    assert all(result.name.startswith(("bf16/", "codec/bf16_", "prompt")) for result in informational)
    # Our own bfloat16 is as far from the official bfloat16 as two roundings are.
    compared = {result.name: result.ok for result in informational if result.ok is not None}
    assert compared
    assert all(compared.values()), compared


def test_every_entry_of_the_set_is_in_the_report(report: VectorReport) -> None:
    assert [result.name for result in report.results] == list(load_vectors(GOLDEN).entries)


def test_distances_leave_room(report: VectorReport) -> None:
    """No float entry uses up its tolerance: another machine's order of additions must fit in it too."""
    for result in report.results:
        if result.kind == "output" and isinstance(result.tolerance, dict) and result.tolerance["atol"] > 0:
            assert result.max_abs is not None
            assert result.max_abs <= 0.8 * result.tolerance["atol"], result.name


# The command.


def doctor(capsys: pytest.CaptureFixture[str], vectors: Path) -> tuple[int, dict[str, Any], str]:
    code = command.main(["--model", str(TINY), "--vectors", str(vectors), "--device", "cpu", "--json"])
    output = capsys.readouterr().out
    return code, json.loads(output.splitlines()[-1]), output


def test_the_command_prints_lines_and_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    code, report, output = doctor(capsys, GOLDEN)
    assert code == 0
    assert set(report) == {"ok", "passed", "failed", "skipped", "entries"}
    assert (report["ok"], report["passed"], report["failed"], report["skipped"]) == (True, 113, 0, 0)
    assert len(report["entries"]) == 173
    assert all(set(entry) >= {"ok", "max_abs", "tolerance", "kind"} for entry in report["entries"].values())
    assert report["entries"]["rope/y"]["ok"] is True
    assert report["entries"]["rope/x"] == {
        "ok": None,
        "max_abs": None,
        "tolerance": report["entries"]["rope/x"]["tolerance"],
        "kind": "input",
        "detail": "",
    }
    assert "113 passed, 0 failed, 0 skipped: the numbers are the official ones" in output


def perturb(tensor: torch.Tensor, tolerance: Any) -> torch.Tensor:
    """Move one element: an integer by one, a float by ten tolerances."""
    changed = tensor.clone()
    element = changed.view(-1)
    # Masked logits are infinite; ten tolerances more would change nothing there.
    place = int(element.isfinite().nonzero()[-1])
    if tensor.is_floating_point():
        size = tolerance["atol"] + tolerance["rtol"] * abs(float(element[place]))
        element[place] += 10 * size if size else 1e-3
    else:
        element[place] += 1
    return changed


# Three sets of six for each entry, no two entries in the same three: were one wrong number to make another entry fail,
# this would be seen in a set where that one is right.
WRONG_IN = dict(zip(ONE_OF_EACH_GROUP, itertools.combinations(range(6), 3), strict=False))


@pytest.mark.parametrize("number", range(6))
def test_a_wrong_number_fails_alone_and_exits_with_1(
    number: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wrong = {name for name, sets in WRONG_IN.items() if number in sets}
    described, tensors = without_bf16(GOLDEN)
    for name in wrong:
        tensors[name] = perturb(tensors[name], described["entries"][name]["tolerance"])
    (tmp_path / "vectors.json").write_text(json.dumps(described), encoding="utf-8")
    save_file(tensors, tmp_path / "vectors.safetensors")
    code, report, output = doctor(capsys, tmp_path)
    assert code == 1
    assert (report["ok"], report["passed"], report["failed"]) == (False, 113 - len(wrong), len(wrong))
    assert {entry for entry, result in report["entries"].items() if result["ok"] is False} == wrong
    assert all(f"FAILED {name} " in output for name in wrong)
    assert "NOT the official numbers" in output


def without_bf16(folder: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    """Read a set without its bfloat16 entries, which judge nothing and take half of the time."""
    described = json.loads((folder / "vectors.json").read_text(encoding="utf-8"))
    described["entries"] = {key: entry for key, entry in described["entries"].items() if not key.startswith("bf16/")}
    tensors = {key: tensor for key, tensor in load_file(folder / "vectors.safetensors").items() if key[:5] != "bf16/"}
    return described, tensors


def test_each_group_of_checks_has_an_entry_above() -> None:
    assert len(WRONG_IN) == len(ONE_OF_EACH_GROUP)
    groups = {prefix for prefix, _ in _GROUPS}
    assert all(any(name.startswith(group) for name in ONE_OF_EACH_GROUP) for group in groups)


# Sets that are not as they should be.


def change_set(folder: Path, *, add_entries: Sequence[str] = (), add_tensors: Sequence[str] = ()) -> Path:
    vectors = copy_of_the_set(folder)
    if add_tensors:
        tensors = load_file(vectors / "vectors.safetensors") | {name: torch.zeros(2) for name in add_tensors}
        save_file(tensors, vectors / "vectors.safetensors")
    if add_entries:
        described = json.loads((vectors / "vectors.json").read_text(encoding="utf-8"))
        entry = {"shape": [2], "dtype": "float32", "tolerance": {"atol": 1.0, "rtol": 0.0}}
        described["entries"] |= dict.fromkeys(add_entries, entry)
        (vectors / "vectors.json").write_text(json.dumps(described), encoding="utf-8")
    return vectors


def test_entries_that_no_check_knows_fail_and_no_others(tmp_path: Path) -> None:
    names = ["something/new", "codec/decode/T7/block8", "fm/alpha1.2/other", "lm/prompt/layer2_residual"]
    report = run(TINY, change_set(tmp_path, add_entries=names, add_tensors=names))
    failed = {result.name: result.detail for result in report.results if result.ok is False}
    assert failed == dict.fromkeys(names, "no check knows this entry")


@pytest.mark.parametrize(
    "changes", [{"add_entries": ["fm/more"]}, {"add_tensors": ["fm/more"]}], ids=["json", "tensors"]
)
def test_a_set_that_disagrees_with_itself_is_refused(tmp_path: Path, changes: dict[str, list[str]]) -> None:
    with pytest.raises(CheckpointError, match="disagree about fm/more"):
        load_vectors(change_set(tmp_path, **changes))


def test_the_command_reports_a_bad_set_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, report, _ = doctor(capsys, change_set(tmp_path, add_tensors=["fm/more"]))
    assert code == 1
    assert report["ok"] is False
    assert report["error"]["code"] == "invalid_checkpoint"


@pytest.mark.parametrize("missing", ["vectors.json", "vectors.safetensors"])
def test_half_a_set_is_refused(tmp_path: Path, missing: str) -> None:
    (copy_of_the_set(tmp_path) / missing).unlink()
    with pytest.raises(CheckpointError, match="holds no golden vectors"):
        load_vectors(tmp_path)
