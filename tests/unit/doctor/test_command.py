"""The doctor's two command forms, and where it takes the judge of golden vectors from."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import voxtral
from checkpoints import TINY
from voxtral.doctor import command, report
from voxtral.errors import OptionError

GOLDEN = TINY.parent / "data"
NO_CHECKOUT = "got --vectors, and this voxtral does not run from a checkout of the repository"


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, list[str]]:
    code = command.main(list(arguments))
    return code, capsys.readouterr().out.splitlines()


def test_the_report_says_what_would_be_used_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    code, lines = run(capsys, "--model", str(TINY), "--device", "cpu", "--json")
    assert code == 0
    report = json.loads(lines[-1])
    assert set(report) == {"ok", "machine", "choices", "memory", "checks", "report"}
    assert report["ok"] is True
    assert report["choices"]["device"] == {"value": "cpu", "reason": "it was asked for"}
    assert report["choices"]["dtype"]["value"] == "float32"
    assert report["choices"]["defaults"]["value"] == "guidance 1.2, noise 1, 7 Euler steps"
    assert report["machine"]["torch"] == torch.__version__
    assert {check["name"] for check in report["checks"]} >= {"tensors", "tokenizer", "codec", "speech"}
    assert any(line.startswith("memory") for line in lines)


def test_it_ends_with_a_block_to_paste_that_names_nobody(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VOXTRAL_CALIBRATION")
    code, lines = run(capsys, "--model", str(TINY), "--device", "cpu")
    assert code == 0
    assert lines[lines.index("no check failed, 0 warnings") + 1] == "----- report: paste from here to the end -----"
    assert lines[-1] == "----- end -----"
    block = lines[lines.index("no check failed, 0 warnings") + 2 : -1]
    assert {line.split()[0] for line in block} == {"voxtral", "gpu", "model", "weights", "speed", "memory"}
    assert not any(str(Path.home()) in line or str(TINY) in line for line in block)
    text = "\n".join(block)
    assert f"torch {torch.__version__}" in text
    assert "none in use (cpu); torch is built for " in text
    assert "a folder, float32, codec float32, weights none" in text
    assert "static step: ok" in text
    assert "folded flow: ok" in text
    assert re.search(r"frame of 1 \d+\.\d ms \(RTF \d+\.\d+\), frame of 8 .*codec of 8 frames \d+\.\d ms", text)


def test_a_part_of_the_block_that_fails_is_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(f"no\nspace in {Path.home()}/.triton")

    monkeypatch.setattr(report, "examine", fail)
    monkeypatch.delenv("VOXTRAL_CALIBRATION")
    code, lines = run(capsys, "--model", str(TINY), "--device", "cpu", "--no-triton", "--json")
    assert code == 0
    described = {entry["about"]: entry["text"] for entry in json.loads(lines[-1])["report"]}
    assert described["weights"] == "failed: RuntimeError: no space in ~/.triton"
    assert described["switch"] == "VOXTRAL_TRITON is off"
    assert "VOXTRAL_TRITON" not in os.environ


def test_a_failed_check_is_exit_code_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(TINY, tmp_path / "model")
    (tmp_path / "model" / "voice_embedding" / "casual_male.pt").write_bytes(b"no voice")
    code, lines = run(capsys, "--model", str(tmp_path / "model"), "--device", "cpu", "--json")
    assert code == 1
    report = json.loads(lines[-1])
    assert report["ok"] is False
    assert [check["name"] for check in report["checks"] if check["status"] == "failed"] == ["voice casual_male"]
    assert "some checks FAILED" in lines


def test_a_checkpoint_that_does_not_open_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = command.main(["--model", str(tmp_path), "--json"])
    captured = capsys.readouterr()
    assert code == 1
    assert captured.err.startswith("error: ")
    assert len(captured.err.splitlines()) == 1
    assert json.loads(captured.out.splitlines()[-1])["error"]["code"] in ("model_not_found", "invalid_config")


def test_golden_vectors_are_compared_with_a_model_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code = command.main(["--vectors", str(GOLDEN), "--device", "cpu", "--json"])
    captured = capsys.readouterr()
    assert code == 1
    assert captured.err.startswith("error: got --vectors without --model")
    assert json.loads(captured.out)["error"]["code"] == "invalid_option"


def test_wrong_usage_is_exit_code_2() -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(["--no-such-option"])
    assert caught.value.code == 2


# Where the judge comes from.


def lay_out(root: Path, package: str, *, with_judge: bool = True) -> Path:
    """Make the folders of an installation, and of tests two above its package; return its command.py."""
    file = root / package / "doctor" / "command.py"
    file.parent.mkdir(parents=True)
    file.touch()
    if with_judge:
        judge = file.parents[3] / "tests" / "golden" / "judge.py"
        judge.parent.mkdir(parents=True)
        judge.write_text("raise SystemExit('executed')")
    return file


def test_the_judge_is_that_of_the_checkout_that_the_package_lies_in(tmp_path: Path) -> None:
    file = lay_out(tmp_path, "src/voxtral")
    assert command._find_judge(file) == tmp_path / "tests" / "golden" / "judge.py"
    assert command._find_judge(Path(command.__file__)) == GOLDEN.parent / "judge.py"


@pytest.mark.parametrize(
    ("package", "with_judge"),
    [("lib/python3.11/site-packages/voxtral", False), ("lib/site-packages/voxtral", True), ("src/voxtral", False)],
    ids=["installed", "installed beside somebody's tests", "sources without tests"],
)
def test_no_other_judge_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, with_judge: bool
) -> None:
    file = lay_out(tmp_path / "here", package, with_judge=with_judge)
    lay_out(tmp_path / "foreign", "src/voxtral")
    monkeypatch.chdir(tmp_path / "foreign")
    with pytest.raises(OptionError, match=NO_CHECKOUT):
        command._find_judge(file)


def test_a_package_without_its_tests_says_what_it_needs(tmp_path: Path) -> None:
    """As a wheel installs it, run in a folder that has a judge of its own and names that folder's set."""
    packages = tmp_path / "site-packages"
    source = Path(voxtral.__file__).parent
    shutil.copytree(source, packages / "voxtral", ignore=shutil.ignore_patterns("data", "__pycache__"))
    lay_out(tmp_path / "foreign", "src/voxtral")
    done = subprocess.run(
        [sys.executable, "-m", "voxtral", "doctor", "--model", str(TINY), "--vectors", "tests/golden", "--json"],
        cwd=tmp_path / "foreign",
        env=os.environ | {"PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {NO_CHECKOUT}")
    assert len(done.stderr.splitlines()) == 1
    assert json.loads(done.stdout)["error"]["code"] == "invalid_option"
