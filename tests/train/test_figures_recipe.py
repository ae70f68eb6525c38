"""recipes/figures.sh: stages in order, with interpreters that only write down what they are told."""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

RECIPE = Path(__file__).parents[2] / "recipes" / "figures.sh"
STAGES = [
    "align", "quality", "times", "checks", "spoken", "numbers", "letters", "cuts", "segments", "blends", "cloning",
    "quantisation", "outside", "pictures",
]  # fmt: skip
INTERPRETER = """#!/bin/sh
echo "$(basename "$0") $*" >> "$CALLS"
case "$*" in *"${FAILING:-nothing}"*) exit 3 ;; esac
"""


class Recipe:
    """The script with folders of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._calls = folder / "calls"
        tools = folder / "tools" / "bin"
        model = folder / "run" / "export"
        for made in (tools, model, folder / "results"):
            made.mkdir(parents=True)
        (tools.parent / "made").touch()
        for path in (tools / "python", folder / "product"):
            path.write_text(INTERPRETER)
            path.chmod(0o755)
        (model / "consolidated.safetensors").write_text("weights")
        (model.parent / "recogniser.safetensors").write_text("ears")

    def run(self, *stages: str, **variables: str) -> subprocess.CompletedProcess[str]:
        self._calls.write_text("")
        environment = {
            "PATH": os.environ["PATH"], "CALLS": str(self._calls), "PYTHON": str(self.folder / "product"),
            "MODEL": str(self.folder / "run" / "export"), "WORK": str(self.folder / "work"), "PROCESSES": "1",
            "RESULTS": str(self.folder / "results"), "DATE": "2030-01-02", "TEACHERS_OUTPUT": str(self.folder),
        }  # fmt: skip
        return subprocess.run(
            [RECIPE, *stages], env=environment | variables, capture_output=True, text=True, timeout=60, check=False
        )

    def calls(self) -> list[str]:
        """What the interpreters were told, without folders and without what every judge is told."""
        lines = self._calls.read_text().replace(str(self.folder), "X").splitlines()
        ears = " --model X/run/export --recogniser X/run/recogniser.safetensors"
        return [line.replace(ears, " BOTH").removeprefix("product -m ") for line in lines]

    def done(self) -> list[str]:
        return [stage for stage in STAGES if (self.folder / "work" / f"{stage}.done").exists()]


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return Recipe(tmp_path)


def test_everything_is_made_anew_in_order_and_dated(recipe: Recipe) -> None:
    (recipe.folder / "results" / "outside-2029-01-01.json").touch()
    result = recipe.run(TAKES="/takes", SPEECH="/shards", OLD="/old", OLD_NAME="nano-3", NAME="nano-4")
    assert result.returncode == 0, result.stderr
    blends = "concat concat_turned interleave interleave_6 mean mean_rescaled mean_cut"
    report = "X/results/quality-2030-01-02.json"
    assert recipe.calls() == [
        "voxtral align calibrate --model X/run/export --output X/run/export/alignment.json",
        "benchmarks.quality BOTH --takes /takes --corpus /shards --codes X/run --pictures X/work/pictures"
        f" --json {report}",
        f"benchmarks.quality.page {report}",
        "benchmarks.quality.times BOTH --takes /takes --calibration --json X/results/times-2030-01-02.json",
        *(
            f"benchmarks.quality.checks speak X/work/checks {name} BOTH --shard 1/1"
            for name in ("judging", "judging-joined", "long")
        ),
        "benchmarks.quality.checks report X/work/checks BOTH --json X/results/checks-nano-2030-01-02.json",
        *(
            line
            for way, more in (("offline", ""), ("stream", " --stream"))
            for line in (
                f"benchmarks.quality.spoken speak X/work/spoken-{way} BOTH{more} --shard 1/1",
                f"benchmarks.quality.spoken report X/work/spoken-{way} --recogniser X/run/recogniser.safetensors"
                f" --json X/results/spoken-2030-01-02-{way}.json --markdown X/results/spoken-2030-01-02-{way}.md",
            )
        ),
        "benchmarks.quality.numbers speak X/work/numbers BOTH",
        "benchmarks.quality.numbers report X/work/numbers --recogniser X/run/recogniser.safetensors"
        " --json X/results/numbers-2030-01-02.json --markdown X/work/numbers.md",
        "benchmarks.quality.letters BOTH --takes /takes --json X/results/letters-2030-01-02.json",
        "benchmarks.quality.cuts hear X/work/cuts BOTH --takes /takes --shard 1/1",
        "benchmarks.quality.cuts report X/work/cuts --split test --json X/results/cuts-2030-01-02.json",
        *(
            f"benchmarks.quality.one_segment X/work/segments --set {name} --join {count} BOTH --shard 1/1"
            for name, count in (("long", 1), ("judging", 4), ("judging", 5))
        ),
        f"benchmarks.quality.blends speak X/work/blends.jsonl {blends} BOTH --seconds 36000",
        "benchmarks.quality.blends report X/work/blends.jsonl --model X/run/export"
        " --json X/results/blends-2030-01-02.json",
        "benchmarks.quality.cloning X/work/cloning BOTH --takes /takes --fast"
        " --json X/results/cloning-nano-fast-2030-01-02.json",
        "benchmarks.quality.cloning_page --results X/results",
        "benchmarks.quantisation BOTH --takes /takes --json X/results/quantisation-2030-01-02.json",
        "benchmarks.quantisation --page X/results/quantisation-2030-01-02.json",
        "benchmarks.quality.clips X/work/clips --model X/run/export --system nano-4 --controls",
        "python -m benchmarks.quality.clips X/work/clips --takes /takes --system teacher",
        "python -m benchmarks.quality.outside X/work/clips --whisper X/teachers/whisper"
        " --earlier X/results/outside-2029-01-01.json --json X/work/outside.json",
        "benchmarks.quality.outside --json X/work/outside.json --page",
        "benchmarks.quality.clips X/work/clips --model X/run/export --system nano-4 --limit 1",
        "benchmarks.quality.clips X/work/clips --model /old --system nano-3 --limit 1",
        "benchmarks.quality.clips X/work/clips --takes /takes --system teacher --limit 1",
        "benchmarks.quality.pictures X/work/clips docs/pictures --systems nano-3 nano-4",
    ]
    assert recipe.done() == STAGES
    assert 'CONTRIBUTING.md, "Replacing nano"' in result.stdout


class ParsedError(Exception):
    """The command line was understood."""


def test_what_is_started_understands_what_it_is_told(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> None:
    assert recipe.run(TAKES="/takes", SPEECH="/shards", OLD="/old").returncode == 0
    parse = argparse.ArgumentParser.parse_args

    def parse_only(self: argparse.ArgumentParser, words: Sequence[str] | None = None) -> None:
        parse(self, words)
        raise ParsedError

    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_only)
    lines = [line.replace(" BOTH", " --model m --recogniser r").removeprefix("python -m ") for line in recipe.calls()]
    started = [line.split() for line in lines if line.startswith("benchmarks.")]
    assert len(started) > 25
    for module, *words in started:
        name = f"{module}.__main__" if module == "benchmarks.quality" else module
        monkeypatch.setattr(sys, "argv", [module, *words])
        with pytest.raises(ParsedError):
            importlib.import_module(name).main()


def test_a_run_that_failed_goes_on_with_the_stage_that_failed(recipe: Recipe) -> None:
    assert recipe.run(FAILING="quality.numbers speak").returncode == 3
    assert recipe.done() == STAGES[:5]
    assert recipe.run(TAKES="/takes").returncode == 0
    assert recipe.calls()[0].startswith("benchmarks.quality.numbers speak")
    assert recipe.done() == STAGES
    assert recipe.run(TAKES="/takes").returncode == 0
    assert recipe.calls() == []
    # A stage that is named runs again.
    assert recipe.run("times", "align").returncode == 0
    assert [call.split()[0] for call in recipe.calls()] == ["voxtral", "benchmarks.quality.times"]


def test_one_of_the_pieces_that_fails_fails_the_stage(recipe: Recipe) -> None:
    assert recipe.run("checks", PROCESSES="3", FAILING="judging --model").returncode == 3
    calls = recipe.calls()
    assert sorted(call.rsplit(" ", 1)[1] for call in calls) == ["1/3", "2/3", "3/3"]
    assert recipe.done() == []


def test_what_needs_the_teachers_is_left_out_where_they_cannot_be_heard(recipe: Recipe) -> None:
    (recipe.folder / "tools" / "bin" / "python").unlink()
    result = recipe.run(SPEECH="/shards")
    assert result.returncode == 0, result.stderr
    missing = ["times", "letters", "cuts", "cloning", "outside"]
    assert recipe.done() == [stage for stage in STAGES if stage not in missing]
    assert result.stdout.count("is left out, for it needs the teachers' speech; give TAKES") == 4
    assert "outside is left out" in result.stdout


def test_figures_of_two_models_are_not_mixed(recipe: Recipe) -> None:
    assert recipe.run("align").returncode == 0
    for path in ("run/export/consolidated.safetensors", "run/recogniser.safetensors"):
        before = (recipe.folder / path).read_text()
        (recipe.folder / path).write_text("other")
        refused = recipe.run("align")
        assert refused.returncode == 2
        assert "is of another model or recogniser" in refused.stderr
        (recipe.folder / path).write_text(before)
    assert recipe.run("align", WORK=str(recipe.folder / "fresh")).returncode == 0
    (recipe.folder / "run" / "recogniser.safetensors").unlink()
    refused = recipe.run("align")
    assert (refused.returncode, recipe.calls()) == (2, [])
    assert "recogniser.safetensors is missing" in refused.stderr


def test_help_and_unknown_stages(recipe: Recipe) -> None:
    shown = recipe.run("--help")
    assert shown.returncode == 0
    for part in (*STAGES, "RESULTS=", "TAKES", "OLD", "DATE=2030-01-02"):
        assert part in shown.stdout
    refused = recipe.run("align", "sing")
    assert refused.returncode == 2
    assert "sing" in refused.stderr
    assert recipe.calls() == []
