"""The benchmarks run, from one end to the other, on a tiny model; no time is asserted."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import cpu_forms, kernels, latency, memory, official, profile_frame, throughput
from benchmarks.loops import Round, make_loop
from benchmarks.options import make_parser, make_variants, read_engine_options
from benchmarks.report import ROOT, Report
from benchmarks.subjects import config_of, open_subject, random_model
from benchmarks.throughput import search_most
from voxtral.model.acoustic import FrameStep
from voxtral.model.voxtral import is_quantized

CPU = torch.device("cpu")


@pytest.fixture
def run_main(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Run a benchmark in its short form; gives the report on its last line."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(main: Callable[[list[str]], None], *options: str) -> dict[str, Any]:
        main(["--short", "--model", "tiny-random", "--device", "cpu", *options])
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


@pytest.mark.slow
def test_latency_compares_the_engine_with_plain_loops(tmp_path: Path, run_main: Callable[..., dict[str, Any]]) -> None:
    report = run_main(latency.main, "--loops", "engine,eager,stand-in", "--json", str(tmp_path / "latency.json"))
    assert json.loads((tmp_path / "latency.json").read_text()) == report
    assert report["is_complete"]
    assert report["subjects"]["engine float32"]["weights"] == "random weights of a tiny shape"
    frames = [cell for cell in report["cells"] if cell["what"] == "frames"]
    assert [cell["loop"] for cell in frames] == ["engine", "eager", "stand-in"]
    assert all(cell["floor_ms"] > 0 and cell["frame_ms"]["count"] > 1 for cell in frames)
    first = [cell for cell in report["cells"] if cell["what"] == "first audio" and cell["loop"] == "engine"]
    assert [(cell["frames_in_first_chunk"], cell["is_voice_known"]) for cell in first] == [
        *((1, True), (1, False)),
        *((5, True), (5, False)),
    ]


@pytest.mark.slow
def test_throughput_has_closed_and_open_loads_and_a_search(run_main: Callable[..., dict[str, Any]]) -> None:
    report = run_main(throughput.main, "--open-loop", "--real-time", "--threads", "0,1")
    kinds = [cell["what"] for cell in report["cells"]]
    assert kinds.count("closed") == 4  # 1 and 3 streams with two settings each
    ratio = next(cell for cell in report["cells"] if cell["what"] == "together against alone")
    assert ratio["ratio"] == pytest.approx(ratio["audio_s_per_s"] / ratio["audio_s_per_s_alone"], rel=1e-3)
    assert [cell["load"] for cell in report["cells"] if cell["what"] == "open"] == [0.5, 0.7, 0.9]
    assert kinds[-1] == "most real-time streams"


@pytest.mark.slow
def test_memory_goes_on_after_a_precision_that_fails(run_main: Callable[..., dict[str, Any]]) -> None:
    report = run_main(memory.main, "--precisions", "float32,float7")
    good, bad = report["cells"]
    assert good["spoken_gb"]["anonymous"] >= good["loaded_gb"]["anonymous"] > 0
    assert "ended with code 1" in bad["failed"]
    assert report["is_complete"]


@pytest.mark.slow
def test_the_profile_adds_up(tmp_path: Path, run_main: Callable[..., dict[str, Any]]) -> None:
    report = run_main(profile_frame.main, "--table", str(tmp_path / "table.txt"))
    percents = [cell["percent"] for cell in report["cells"]]
    assert percents == sorted(percents, reverse=True)
    assert 50 < sum(percents) <= 100.1
    assert "random weights of a tiny shape" in (tmp_path / "table.txt").read_text()


def test_a_variant_has_the_options_of_all_engines_and_its_own() -> None:
    words = ["--loops", "engine,engine:flow=folded;max_batch=2,eager", "--engine", "max_batch=8", "--device", "cpu"]
    variants = make_variants(make_parser(None).parse_args(words))
    assert [(one.loop, one.options) for one in variants] == [
        ("engine", {"max_batch": 8}),
        ("engine", {"max_batch": 2, "flow": "folded"}),
        ("eager", {}),
    ]
    assert variants[1].label == "engine float32 max_batch=2 flow=folded"


@pytest.mark.parametrize("limit", [1, 2, 7, 64, 512])
def test_the_search_is_close_and_stays_in_range(limit: int) -> None:
    for most in range(limit + 2):
        tried: list[int] = []

        def is_good(number: int, most: int = most, tried: list[int] = tried) -> bool:
            tried.append(number)
            return number <= most

        found = search_most(is_good, 8, limit)
        assert found <= min(most, limit)
        assert min(most, limit) - found <= max(0, found // 8)
        assert all(1 <= number <= limit for number in tried)
        assert len(set(tried)) == len(tried)


def test_options_of_the_engine_are_read() -> None:
    assert read_engine_options(["max_batch=4", "flow=folded", "batch_invariant=true"]) == {
        "max_batch": 4,
        "flow": "folded",
        "batch_invariant": True,
    }


class Recorder:
    """Keeps the frames that an acoustic transformer makes."""

    def __init__(self, forward: Callable[..., FrameStep]) -> None:
        self._forward = forward
        self.frames: list[Tensor] = []

    def __call__(self, *arguments: Any, **options: Any) -> FrameStep:
        step = self._forward(*arguments, **options)
        self.frames.append(step.audio_tokens.clone())
        return step


@pytest.mark.parametrize("other", ["eager", "stand-in"])
def test_the_plain_loops_make_what_the_engine_makes(other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the comparison would be with something that does not do the work."""
    subject = open_subject("tiny-random", CPU, "float32", is_prepared=False)
    made: dict[str, list[list[int]]] = {}
    for name in ("engine", other):
        loop = make_loop(name, subject, {})
        recorder = Recorder(subject.model.acoustic_transformer.forward)
        monkeypatch.setattr(subject.model.acoustic_transformer, "forward", recorder)
        timings = loop.run(Round(num_streams=2, num_frames=7))
        monkeypatch.undo()
        loop.close()
        assert [timing.num_samples for timing in timings] == [7 * subject.config.samples_per_frame] * 2
        made[name] = sorted(torch.cat(recorder.frames).tolist())
    assert made["engine"] == made[other]


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_random_weights_of_few_bits_speak(precision: str) -> None:
    subject = open_subject("tiny-random", CPU, precision)
    assert is_quantized(subject.model)
    loop = make_loop("engine", subject, {})
    (timing,) = loop.run(Round(1, 3))
    loop.close()
    assert timing.num_samples == 3 * subject.config.samples_per_frame


def test_random_weights_are_finite_and_fill_every_parameter() -> None:
    model = random_model(config_of("tiny-random"), CPU, torch.bfloat16)
    assert all(bool(torch.isfinite(one).all()) and one.device == CPU for one in model.parameters())
    assert model.dtype == torch.bfloat16


def test_single_operations_are_compared_and_a_failing_one_costs_nobody_else(
    run_main: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    cells = run_main(kernels.main)["cells"]
    assert {cell["rows"] for cell in cells} == {1, 6}
    assert all(cell["us"]["low"] > 0 and cell["difference"] < 0.03 for cell in cells)  # int8 rounds activations

    def fail() -> Tensor:
        raise RuntimeError("does not compile")

    report = Report("kernels", Namespace(json=tmp_path / "report.json"))
    case = kernels.Case("sum", 1, {"reference": lambda: torch.ones(2), "bad": fail, "other": lambda: torch.ones(2)}, {})
    kernels.add_case(report, case, CPU, 1)
    cells = json.loads((tmp_path / "report.json").read_text())["cells"]
    assert [(cell["way"], cell.get("failed")) for cell in cells] == [
        ("bad", "RuntimeError: does not compile"),
        ("reference", None),
        ("other", None),
    ]


def test_official_modules_that_are_not_there_are_told_how_to_get(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"benchmarks\.official --fetch"):
        official.import_official(tmp_path)


def test_an_absent_package_gives_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    finder = official._EmptyModules(["absent_package"])
    monkeypatch.setattr(sys, "meta_path", [finder, *sys.meta_path])
    module = importlib.import_module("absent_package.part.deeper")
    try:

        class Derived(torch.nn.Module, module.SomeBase, module.Generic[int]):
            """Made of names of an absent package."""

        assert module.registry.register(Derived, info=1)(Derived) is Derived
        assert not module.make_logger("name").is_enabled_for(30)
        assert isinstance(Derived(), torch.nn.Module)
    finally:
        for name in [name for name in sys.modules if name.startswith("absent_package")]:
            del sys.modules[name]


@pytest.mark.slow
def test_the_first_run_of_the_gpu_script_runs_without_a_gpu(tmp_path: Path) -> None:
    environment = os.environ | {"OUT": str(tmp_path), "PYTHON": sys.executable}
    words = [ROOT / "benchmarks" / "gpu.sh", "--tiny", "first"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=200, env=environment)
    assert done.returncode == 0, done.stderr
    (summary,) = tmp_path.glob("gpu-steps-*.json")
    steps = json.loads(summary.read_text())["steps"]
    names = ["paths", "kernel-tests", "quick-latency", "quick-throughput", "vectors"]
    assert [(step["step"], step["outcome"]) for step in steps] == [(name, "done") for name in names]
    (lines,) = tmp_path.glob("gpu-first-*.jsonl")
    assert json.loads(lines.read_text().splitlines()[-1])["ok"]


@pytest.mark.slow
def test_a_step_of_the_gpu_script_runs_without_a_gpu(tmp_path: Path) -> None:
    environment = os.environ | {"OUT": str(tmp_path), "PYTHON": sys.executable}
    words = [ROOT / "benchmarks" / "gpu.sh", "--tiny", "kernels"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=100, env=environment)
    assert done.returncode == 0, done.stderr
    (summary,) = tmp_path.glob("gpu-steps-*.json")
    steps = json.loads(summary.read_text())["steps"]
    assert [(step["step"], step["outcome"]) for step in steps] == [("kernels", "done")]
    assert len(list(tmp_path.glob("gpu-*.json"))) == 2


def test_an_unknown_step_is_refused_before_anything_runs(tmp_path: Path) -> None:
    for script in ("gpu.sh", "cpu.sh"):
        environment = os.environ | {"OUT": str(tmp_path), "PYTHON": "false"}
        words = [ROOT / "benchmarks" / script, "no-such-step"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=20, env=environment)
        assert done.returncode == 2
        assert "no-such-step is unknown" in done.stderr
    assert not list(tmp_path.iterdir())


def test_the_first_run_has_limits_that_fit_ten_minutes() -> None:
    """A slot of ten minutes that ends in the middle must have said what matters most."""
    text = (ROOT / "benchmarks" / "gpu.sh").read_text(encoding="utf-8")
    limits = dict(re.findall(r"\[([a-z-]+)\]=(\d+)", text))
    (first,) = re.findall(r"^FIRST=\((.*)\)$", text, re.MULTILINE)
    assert list(limits) == first.split()
    assert sum(map(int, limits.values())) <= 590
    assert all(f"step_{name}() {{" in text for name in limits)


def test_a_report_names_no_folder_of_its_maker(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    Report("test", Namespace(json=path, model="/somewhere/else/model", folder=ROOT / "build" / "official"))
    assert json.loads(path.read_text())["options"] == {
        "json": "report.json",
        "model": "model",
        "folder": "build/official",
    }


def test_a_report_is_whole_after_every_cell(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "report.json"
    report = Report("test", Namespace(json=path))
    for number in range(3):
        report.add(number=number)
        content = json.loads(path.read_text())
        assert [cell["number"] for cell in content["cells"]] == list(range(number + 1))
        assert not content["is_complete"]
    assert [one.name for one in path.parent.iterdir()] == ["report.json"]


@pytest.mark.slow
def test_products_on_a_cpu_are_timed_against_another_checkout(capsys: pytest.CaptureFixture[str]) -> None:
    cpu_forms.main(["--against", str(ROOT), "--model", "tiny-random", "--precision", "int4", "--rounds", "2"])
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    sides = {cell["side"] for cell in report["cells"]}
    assert sides == {"other", "exact", "int8"}
    figures = {cell["figure"] for cell in report["cells"]}
    assert {"frame of one stream", "first audio", "two streams in sum, against one"} <= figures
    assert all(cell["median_ms"] > 0 for cell in report["cells"])
