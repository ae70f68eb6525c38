"""recipes/speech.sh: stages in order, with interpreters that only write down what they are told."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[2] / "recipes" / "speech.sh"
INTERPRETER = """#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
case "$*" in *"${FAILING:-nothing}"*) exit 3 ;; esac
"""


@pytest.fixture
def output(tmp_path: Path) -> Path:
    tools = tmp_path / "out" / "tools" / "bin"
    tools.mkdir(parents=True)
    (tools.parent / "made").touch()
    for path in (tools / "python", tmp_path / "product"):
        path.write_text(INTERPRETER)
        path.chmod(0o755)
    return tmp_path / "out"


def run(output: Path, *arguments: str, **variables: str) -> tuple[int, list[str]]:
    calls = output.parent / "calls"
    calls.write_text("")
    environment = {"PATH": os.environ["PATH"], "OUTPUT": str(output), "CALLS": str(calls)}
    environment |= {"PYTHON": str(output.parent / "product")} | variables
    done = subprocess.run(
        [RECIPE, *arguments], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    return done.returncode, [line.replace(str(output), "OUT") for line in calls.read_text().splitlines()]


def test_teachers_come_before_they_speak_in_one_process_a_core(output: Path) -> None:
    code, calls = run(output, PROCESSES="3", DATA_HOURS="7", COVERAGE_HOURS="2")
    assert code == 0
    assert calls[0] == "python -m train.packages OUT/teachers"
    assert sorted(calls[1:]) == [
        f"python -m train.speak OUT/data --teachers OUT/teachers --word-lists / --hours 7 --coverage 2"
        f" --part {part} --parts 3"
        for part in range(3)
    ]


def test_takes_are_made_only_if_they_are_named(output: Path) -> None:
    code, calls = run(output, "takes", PROCESSES="2")
    assert code == 0
    assert sorted(calls) == [
        f"python -m benchmarks.quality.takes OUT/takes --teachers OUT/teachers --part {part} --parts 2"
        for part in range(2)
    ]
    assert not any("takes" in call for call in run(output)[1])


def test_a_process_that_fails_fails_the_stage(output: Path) -> None:
    assert run(output, "speak", FAILING="--part 1")[0] == 3
    assert run(output, "takes", FAILING="--part 0")[0] == 3


def test_the_judge_hears_the_model_the_teachers_and_the_controls(output: Path) -> None:
    code, calls = run(output, "judge", MODEL="some/nano")
    assert code == 0
    assert calls == [
        "product -m benchmarks.quality.clips OUT/clips --model some/nano --system nano --controls",
        "python -m benchmarks.quality.clips OUT/clips --teachers OUT/teachers --system teacher",
        "python -m benchmarks.quality.outside OUT/clips --whisper OUT/teachers/whisper --json OUT/outside.json",
    ]


def test_a_stage_that_is_not_there_is_refused_before_anything_runs(output: Path) -> None:
    assert run(output, "speak", "sing") == (2, [])
