"""recipes/nano.sh: order, options and resuming, with an interpreter that only writes down what it is told."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[2] / "recipes" / "nano.sh"
STAGES = ["data", "recogniser", "codec", "encode", "language_model", "decoder", "export", "align", "quality"]

INTERPRETER = """#!/bin/sh
case "$*" in *--check*) exit "${CHECK_STATUS:-0}" ;; esac
echo "$*" >> "$CALLS"
case "$2" in "${FAILING:-none}") exit 3 ;; esac
"""


class Recipe:
    """The script with a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.output = folder / "nano"
        self._calls = folder / "calls"
        self._python = folder / "python"
        self._python.write_text(INTERPRETER)
        self._python.chmod(0o755)

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        self._calls.write_text("")
        environment = {"PATH": os.environ["PATH"], "OUTPUT": str(self.output), "PYTHON": str(self._python)}
        environment |= {"CALLS": str(self._calls)} | variables
        return subprocess.run(
            [RECIPE, *arguments], env=environment, capture_output=True, text=True, timeout=30, check=False
        )

    def calls(self) -> list[str]:
        """What the interpreter was told, without the output folder."""
        return [line.replace(str(self.output), "OUT") for line in self._calls.read_text().splitlines()]

    def done(self) -> list[str]:
        return [stage for stage in STAGES if (self.output / f"{stage}.done").exists()]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return Recipe(tmp_path)


def test_all_stages_run_in_order_with_their_lengths(recipe: Recipe) -> None:
    result = recipe.run(CODEC_MINUTES="7", PROCESSES="3", DECODER_OPTIONS="--adversarial 0.2")
    assert result.returncode == 0, result.stderr
    assert recipe.calls() == [
        "-m train.data OUT/data --hours 32 --parts 3",
        "-m train.recogniser OUT --minutes 22 --processes 3",
        "-m train.codec OUT --minutes 7 --processes 3",
        "-m train.encode OUT --processes 3",
        "-m train.language_model OUT --minutes 65 --processes 3",
        "-m train.codec OUT --decoder-only --minutes 60 --processes 3 --adversarial 0.2",
        "-m train.export OUT --output OUT/export",
        "-m voxtral align calibrate --model OUT/export --output OUT/export/alignment.json",
        "-m benchmarks.quality --model OUT/export --recogniser OUT/recogniser.safetensors --split test"
        " --json OUT/quality.json",
    ]
    assert recipe.done() == STAGES


def test_a_corpus_of_shards_takes_the_place_of_the_data(recipe: Recipe) -> None:
    result = recipe.run(SPEECH="/shards", CHECK_STATUS="1")
    assert result.returncode == 0, result.stderr
    assert recipe.calls() == [
        "-m train.recogniser OUT --data /shards --minutes 22 --processes 2",
        "-m benchmarks.quality.validity OUT/recogniser.safetensors --data /shards --json OUT/validity.json",
        "-m train.codec OUT --data /shards --minutes 48 --processes 2",
        "-m train.encode OUT --data /shards --processes 2",
        "-m train.language_model OUT --data /shards --minutes 65 --processes 2",
        "-m train.codec OUT --data /shards --decoder-only --minutes 60 --processes 2 --mean --rate 7e-4",
        "-m train.export OUT --data /shards --output OUT/export",
        "-m voxtral align calibrate --model OUT/export --output OUT/export/alignment.json",
        "-m benchmarks.quality --model OUT/export --recogniser OUT/recogniser.safetensors --corpus /shards"
        " --split test --json OUT/quality.json",
    ]
    assert recipe.done() == [stage for stage in STAGES if stage != "data"]
    assert "data is left out" in result.stdout
    # With what the teachers said, more can be judged.
    assert recipe.run("quality", SPEECH="/shards", TAKES="/takes").returncode == 0
    assert "--corpus /shards --takes /takes --split test" in recipe.calls()[0]


def test_a_run_that_failed_goes_on_with_the_stage_that_failed(recipe: Recipe) -> None:
    assert recipe.run(FAILING="train.encode").returncode == 3
    assert recipe.done() == STAGES[:3]
    assert recipe.run().returncode == 0
    assert [call.split()[1] for call in recipe.calls()][:2] == ["train.encode", "train.language_model"]
    assert recipe.done() == STAGES
    assert recipe.run().returncode == 0
    assert recipe.calls() == []


def test_named_stages_run_again_and_what_depends_on_them_is_no_longer_done(recipe: Recipe) -> None:
    recipe.run()
    assert recipe.run("language_model", "encode").returncode == 0
    assert [call.split()[1] for call in recipe.calls()] == ["train.encode", "train.language_model"]
    assert recipe.done() == ["data", "recogniser", "codec", "encode", "language_model", "decoder"]
    recipe.run()
    assert recipe.run("encode").returncode == 0
    assert recipe.done() == ["data", "recogniser", "codec", "encode", "decoder"]
    recipe.run()
    # A decoder leaves the codes as they are; a codec changes them.
    assert recipe.run("decoder").returncode == 0
    assert recipe.done() == STAGES[:6]
    assert recipe.run("codec").returncode == 0
    assert recipe.done() == ["data", "recogniser", "codec"]
    assert recipe.run("data").returncode == 0
    assert recipe.done() == ["data"]


def test_weights_that_would_go_on_from_what_is_gone_are_put_aside(recipe: Recipe) -> None:
    recipe.output.mkdir()
    for name in ("recogniser", "language_model", "language_model-state"):
        (recipe.output / f"{name}.safetensors").write_text(name)
    said = recipe.run("data", "codec").stdout
    assert "recogniser.old.safetensors" in said
    assert "language_model.old.safetensors" in said
    assert not (recipe.output / "recogniser.safetensors").exists()
    # Nor does it go on where the old one was stopped.
    assert not (recipe.output / "language_model-state.safetensors").exists()
    assert (recipe.output / "language_model.old.safetensors").read_text() == "language_model"


def test_weights_of_a_codec_that_goes_on_stay(recipe: Recipe) -> None:
    recipe.output.mkdir()
    for name in ("codec", "language_model"):
        (recipe.output / f"{name}.safetensors").write_text(name)
    recipe.run("codec")
    assert (recipe.output / "language_model.safetensors").exists()


def test_a_smoke_run_is_short_and_leaves_quality_out(recipe: Recipe) -> None:
    assert recipe.run("--smoke").returncode == 0
    assert recipe.done() == STAGES[:-1]
    minutes = [call.split("--minutes ")[1].split()[0] for call in recipe.calls() if "--minutes" in call]
    assert len(minutes) == 4
    assert sum(map(float, minutes)) < 2


def test_missing_packages_are_named_before_anything_runs(recipe: Recipe) -> None:
    result = recipe.run(CHECK_STATUS="1")
    assert result.returncode == 1
    assert recipe.calls() == []
    for package in ("espeak-ng", "wamerican", "wfrench", "wngerman", "wspanish", "witalian", "wportuguese", "wdutch"):
        assert package in result.stderr
    assert "hunspell-ar hunspell-hi" in result.stderr


def test_help_and_unknown_stages(recipe: Recipe) -> None:
    shown = recipe.run("--help")
    assert shown.returncode == 0
    for part in (*STAGES, "--smoke", "DATA_HOURS=32", "CODEC_MINUTES=48", "LANGUAGE_MODEL_MINUTES=65"):
        assert part in shown.stdout
    assert "OUTPUT=build/nano-smoke" in recipe.run("--help", "--smoke", OUTPUT="").stdout
    refused = recipe.run("codecs")
    assert refused.returncode == 2
    assert "codecs" in refused.stderr
    assert recipe.calls() == []
