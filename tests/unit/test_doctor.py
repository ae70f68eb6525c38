"""The doctor's own judgement: comparing entries, finding the codes of voices, and its two command forms."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from checkpoints import TINY
from voxtral.config import CodebookConfig
from voxtral.doctor import command
from voxtral.doctor.checks import (
    Check,
    check_codec,
    check_model,
    check_speech,
    check_tensors,
    check_voices,
    decompose_rows,
    end_row,
)
from voxtral.doctor.vectors import EntryResult, VectorReport, _compare, _Failure, _judge, _Quirk, _Skip, load_vectors
from voxtral.loading.checkpoint import Checkpoint, open_checkpoint
from voxtral.loading.load import load_model
from voxtral.model.voxtral import VoxtralModel
from voxtral.text.tokenizer import load_tokenizer

BOOKS = CodebookConfig(semantic_size=50, acoustic_size=5, num_acoustic=6)


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return open_checkpoint(TINY)


@pytest.fixture(scope="module")
def model(checkpoint: Checkpoint) -> VoxtralModel:
    return load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32, codec_dtype=torch.float32)


def with_voices(checkpoint: Checkpoint, folder: Path, voices: dict[str, torch.Tensor | bytes]) -> Checkpoint:
    (folder / "voice_embedding").mkdir()
    for name, content in voices.items():
        path = folder / "voice_embedding" / f"{name}.pt"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
    return replace(checkpoint, folder=folder)


# Comparing.


@pytest.mark.parametrize(
    ("value", "tolerance", "is_within"),
    [
        ([1.0, 2.0], {"atol": 0.0, "rtol": 0.0}, True),
        ([1.0, 2.0000002], {"atol": 0.0, "rtol": 0.0}, False),
        ([1.0, 2.09], {"atol": 0.1, "rtol": 0.0}, True),
        ([1.0, 2.11], {"atol": 0.1, "rtol": 0.0}, False),
        ([1.0, 2.11], {"atol": 0.0, "rtol": 0.1}, True),
        ([1.0, float("nan")], {"atol": 1.0, "rtol": 0.0}, False),
        ([1.0, float("inf")], {"atol": 1.0, "rtol": 1.0}, False),
        ([1.0, 2.0], "exact", True),
        ([1.0, 2.5], "exact", False),
        ([1.0, 2.05], 0.1, True),
        ([1.0, 2.05], 0.01, False),
        ([1.0, 2.05], None, False),
    ],
)
def test_an_entry_is_within_its_tolerance_or_not(value: list[float], tolerance: Any, is_within: bool) -> None:
    result = _compare(EntryResult("x", "output", tolerance), torch.tensor(value), torch.tensor([1.0, 2.0]))
    assert result.ok is is_within


def test_equal_infinities_differ_by_nothing_and_others_by_everything() -> None:
    masked = torch.tensor([-torch.inf, 1.0])
    entry = EntryResult("x", "output", {"atol": 1e-4, "rtol": 1.0})
    same = _compare(entry, masked.clone(), masked)
    assert (same.ok, same.max_abs) == (True, 0)
    for other in (torch.tensor([torch.inf, 1.0]), torch.tensor([0.0, 1.0]), torch.tensor([-3e38, 1.0])):
        result = _compare(entry, other, masked)
        assert result.ok is False
        # JSON has no infinity.
        assert result.max_abs is None
        assert "infinite" in result.detail


def test_integers_are_compared_as_they_are() -> None:
    entry = EntryResult("x", "output", "exact")
    assert _compare(entry, torch.tensor([300]), torch.tensor([44], dtype=torch.uint8)).ok is False
    assert _compare(entry, torch.tensor([44]), torch.tensor([44], dtype=torch.uint8)).ok is True
    assert _compare(entry, torch.tensor([44.0]), torch.tensor([44])).ok is False


def test_a_value_of_another_shape_fails_with_both_shapes() -> None:
    vectors = load_vectors(Path(__file__).parents[1] / "golden" / "data")
    result = _judge(vectors, "rope/y", {"rope/y": torch.zeros(2, 3)})
    assert result.ok is False
    assert result.detail == "shape [2, 3], expected [6, 6, 16]"


def test_skips_and_quirks_are_no_judgement() -> None:
    vectors = load_vectors(Path(__file__).parents[1] / "golden" / "data")
    skipped = _judge(vectors, "rope/y", {"rope/y": _Skip("no time")})
    assert (skipped.kind, skipped.ok, skipped.detail) == ("output", None, "no time")
    quirk = _judge(vectors, "rope/y", {"rope/y": _Quirk("they err")})
    assert (quirk.kind, quirk.ok, quirk.detail) == ("informational", None, "they err")


def test_a_computation_that_breaks_fails_its_entries_with_its_error() -> None:
    vectors = load_vectors(Path(__file__).parents[1] / "golden" / "data")
    result = _judge(vectors, "rope/y", {"rope/y": _Failure("ValueError: broken")})
    assert (result.ok, result.detail) == (False, "ValueError: broken")


@pytest.mark.parametrize(
    ("oks", "is_ok"),
    [((True, True), True), ((True, False), False), ((True, None), True), ((None, None), False), ((), False)],
)
def test_a_report_is_well_if_something_passed_and_nothing_failed(oks: tuple[bool | None, ...], is_ok: bool) -> None:
    report = VectorReport(tuple(EntryResult(f"entry/{n}", "output", "exact", ok=ok) for n, ok in enumerate(oks)))
    assert report.ok is is_ok
    assert report.to_dict()["ok"] is is_ok


# Codes of voices.


def make_table(books: CodebookConfig, dim: int, num_rows: int | None = None) -> torch.Tensor:
    return torch.randn(num_rows or books.embedding_rows, dim, generator=torch.Generator().manual_seed(0))


def sums(table: torch.Tensor, tokens: torch.Tensor, books: CodebookConfig) -> torch.Tensor:
    return table[tokens + torch.tensor(books.offsets)].sum(dim=1)


TOKENS = st.tuples(st.integers(0, 51), st.lists(st.integers(0, 6), min_size=6, max_size=6))


@given(st.lists(TOKENS, min_size=1, max_size=8))
def test_any_sum_of_rows_is_taken_apart(frames: list[tuple[int, list[int]]]) -> None:
    table = make_table(BOOKS, dim=48)
    tokens = torch.tensor([[semantic, *acoustic] for semantic, acoustic in frames])
    found, residual = decompose_rows(sums(table, tokens, BOOKS), table, BOOKS)
    assert torch.equal(found, tokens)
    assert residual.max() < 1e-4


def test_voices_of_the_published_alphabet_are_taken_apart_and_a_foreign_row_stands_out() -> None:
    books = CodebookConfig(semantic_size=8192, acoustic_size=21, num_acoustic=36)
    table = make_table(books, dim=900)  # more than 23 * 36 acoustic rows
    generator = torch.Generator().manual_seed(1)
    acoustic = torch.randint(2, 23, (9, 36), generator=generator)
    tokens = torch.cat((torch.randint(2, 8194, (9, 1), generator=generator), acoustic), dim=1)
    rows = sums(table, tokens, books).bfloat16().float()  # as a preset stores them
    rows[4] += 0.1 * rows[4].norm() / 30 * torch.randn(900, generator=generator)
    found, residual = decompose_rows(rows, table, books)
    assert torch.equal(found, tokens)
    assert residual[4] > 0.05
    assert residual[torch.arange(9) != 4].max() < 0.005


def test_the_end_row_is_end_audio_and_then_empty_audio() -> None:
    table = make_table(BOOKS, dim=4)
    expected = table[1] + sum(table[52 + 7 * k] for k in range(6))
    torch.testing.assert_close(end_row(table, BOOKS), expected)


# Checks of a checkpoint.


def test_a_sound_checkpoint_passes_every_check(checkpoint: Checkpoint, model: VoxtralModel) -> None:
    with torch.inference_mode():
        checks = {check.name: check for check in check_model(checkpoint, model)}
    assert set(checks) == {"tensors", "tokenizer", "voice casual_male", "voice neutral_female", "codec", "speech"}
    # Random weights neither end nor pace their speech like a trained model; that is a warning.
    assert checks.pop("speech").status in ("ok", "warning")
    assert {check.status for check in checks.values()} == {"ok"}
    assert "closes with END_AUDIO" in checks["voice casual_male"].detail


def test_the_inventory_is_stated(checkpoint: Checkpoint) -> None:
    assert "284 as params.json implies" in check_tensors(checkpoint).detail
    assert "not the sizes of the published 4B, with codec encoder" in check_tensors(checkpoint).detail
    assert "presets only" in check_tensors(replace(checkpoint, has_encoder=False)).detail


def voices_of(checkpoint: Checkpoint, model: VoxtralModel) -> dict[str, Check]:
    tokenizer = load_tokenizer(TINY / "tekken.json")
    return {check.name: check for check in check_voices(checkpoint, model, tokenizer)}


def test_voices_that_are_listed_and_not_there_are_named(
    checkpoint: Checkpoint, model: VoxtralModel, tmp_path: Path
) -> None:
    checks = list(check_voices(replace(checkpoint, folder=tmp_path), model, None))
    assert [check.status for check in checks] == ["warning", "warning"]
    assert "casual_male, neutral_female" in checks[0].detail


def test_a_damaged_voice_fails_and_an_odd_one_is_noted(
    checkpoint: Checkpoint, model: VoxtralModel, tmp_path: Path
) -> None:
    good = torch.load(TINY / "voice_embedding" / "casual_male.pt", weights_only=True)
    voices: dict[str, torch.Tensor | bytes] = {
        "casual_male": good[1:],
        "neutral_female": b"no voice",
        "other": torch.cat((good[:-1], good[:1])),
    }
    checks = voices_of(with_voices(checkpoint, tmp_path, voices), model)
    assert checks["voice casual_male"].status == "warning"
    assert "6 rows, the tokenizer states 7" in checks["voice casual_male"].detail
    assert checks["voice neutral_female"].status == "failed"
    assert checks["voice other"].status == "warning"
    assert "the last row is not END_AUDIO" in checks["voice other"].detail


def test_a_codec_that_overflows_fails(checkpoint: Checkpoint) -> None:
    broken = load_model(checkpoint, device=torch.device("cpu"), dtype=torch.float32, codec_dtype=torch.float32)
    assert check_codec(broken).status == "ok"
    broken.codec.output_proj.conv.weight[0, 0, 0] = float("inf")
    assert check_codec(broken).status == "failed"


def test_speech_without_voices_is_skipped_with_the_reason(
    checkpoint: Checkpoint, model: VoxtralModel, tmp_path: Path
) -> None:
    check = check_speech(replace(checkpoint, folder=tmp_path), model, load_tokenizer(TINY / "tekken.json"))
    assert (check.status, check.name) == ("skipped", "speech")
    assert "no preset voices" in check.detail


# The command.


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    code = command.main(list(arguments))
    return code, capsys.readouterr().out.splitlines()


def test_the_report_says_what_would_be_used_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = run(capsys, "--model", str(TINY), "--device", "cpu", "--json")
    assert code == 0
    report = json.loads(lines[-1])
    assert set(report) == {"ok", "machine", "choices", "memory", "checks"}
    assert report["ok"] is True
    assert report["choices"]["device"] == {"value": "cpu", "reason": "it was asked for"}
    assert report["choices"]["dtype"]["value"] == "float32"
    assert report["choices"]["defaults"]["value"] == "guidance 1.2, noise 1, 7 Euler steps"
    assert report["machine"]["torch"] == torch.__version__
    assert {check["name"] for check in report["checks"]} >= {"tensors", "tokenizer", "codec", "speech"}
    assert any(line.startswith("memory") for line in lines)


def test_without_json_the_last_line_is_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = run(capsys, "--model", str(TINY), "--device", "cpu")
    assert (code, lines[-1]) == (0, "no check failed, 0 warnings")


def test_a_failed_check_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(TINY, tmp_path / "model")
    (tmp_path / "model" / "voice_embedding" / "casual_male.pt").write_bytes(b"no voice")
    code, lines = run(capsys, "--model", str(tmp_path / "model"), "--device", "cpu", "--json")
    assert code == 1
    report = json.loads(lines[-1])
    assert report["ok"] is False
    assert [check["name"] for check in report["checks"] if check["status"] == "failed"] == ["voice casual_male"]
    assert lines[-2] == "some checks FAILED"


def test_a_checkpoint_that_does_not_open_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = command.main(["--model", str(tmp_path), "--json"])
    captured = capsys.readouterr()
    assert code == 1
    assert captured.err.startswith("error: ")
    assert len(captured.err.splitlines()) == 1
    assert json.loads(captured.out.splitlines()[-1])["error"]["code"] in ("model_not_found", "invalid_config")


def test_golden_vectors_are_compared_with_a_model_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code = command.main(["--vectors", str(TINY.parent / "data"), "--device", "cpu", "--json"])
    captured = capsys.readouterr()
    assert code == 1
    assert captured.err.startswith("error: got --vectors without --model")
    assert json.loads(captured.out)["error"]["code"] == "invalid_option"


def test_wrong_usage_is_exit_code_2() -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(["--no-such-option"])
    assert caught.value.code == 2
