"""`voxtral train-encoder` as a person types it: refusals in a line before any work; the rest is in tests/soak."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from checkpoints import TINY, strip_encoder
from voxtral.cli.main import has_command, run


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--phase", "every"], "--phase is 'every'"),
        (["--shards", "0-1"], "--shards is of --phase generate alone"),
        (["--phase", "generate", "--shards", "1-0"], "--shards is '1-0'"),
        (["--hours", "0"], "--hours is 0"),
        (["--seen-hours", "nan"], "--seen-hours is nan"),
        (["--seed", "-1"], "--seed is -1"),
        (["--speech", "nowhere"], "nowhere is no folder"),
        (["--max-memory", "much"], "max_memory is 'much'"),
        (["-o", "encoder.pt"], "must end in .safetensors"),
        (["-o", "no/folder/encoder.safetensors"], "its folder must exist"),
        (["--model", "no-such-model"], "no-such-model"),
    ],
)
def test_what_can_never_be_right_is_refused_in_a_line(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = [] if "--model" in options else ["--model", str(TINY)]
    assert run(["train-encoder", *model, *options]) == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    # Nothing was begun, nor is a folder left that nobody asked for.
    assert list(tmp_path.iterdir()) == []


def test_pairs_have_to_be_there_to_learn_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "encoder.safetensors"
    assert run(["train-encoder", "--model", str(TINY), "-o", str(output), "--phase", "train"]) == 1
    assert "voxtral train-encoder --phase generate" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.skipif(has_command("evaluate-encoder"), reason="this version has one")
def test_a_version_without_a_judge_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = str(tmp_path / "encoder.safetensors")
    assert run(["train-encoder", "--model", str(TINY), "-o", output, "--phase", "evaluate"]) == 1
    assert "evaluate-encoder is no part of this version" in capsys.readouterr().err


def test_a_plan_says_what_it_would_take(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voxtral.cli.train_phases._MEASURED_S", 0.2)
    model = strip_encoder(TINY, tmp_path / "tiny")
    # They are no sums of embeddings, which takes a second to find out.
    monkeypatch.setattr("voxtral.cloning.codes._STARTS", 1)
    plan: dict[str, float] = {}
    for phase in ("generate", "train"):
        output = str(tmp_path / "encoder.safetensors")
        arguments = ["--model", str(model), "-o", output, "--device", "cpu", "--phase", phase, "--dry-run"]
        assert run(["train-encoder", *arguments, "--hours", "1", "--seen-hours", "1"]) == 0
        plan |= json.loads(capsys.readouterr().out)
    assert plan["frames_per_s"] > 0
    assert plan["generate_s"] == pytest.approx(45000 / plan["frames_per_s"])
    assert plan["train_s"] == pytest.approx(plan["step_s"] * round(45000 / 8 / 24))
    assert 0 < plan["train_bytes"] < 2 * 10**9
    assert not (tmp_path / "encoder.safetensors").exists()
