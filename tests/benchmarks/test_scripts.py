"""The benchmarks run, from one end to the other, on a tiny model; no time is asserted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import latency, throughput
from benchmarks.loops import EagerLoop, EngineLoop, Round
from benchmarks.report import Report
from benchmarks.subjects import config_of, open_subject, random_model
from benchmarks.throughput import read_options, search_most
from benchmarks.worker import Variant, Worker, WorkerError

CPU = torch.device("cpu")


@pytest.fixture
def run_main(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Run a benchmark in its short form; gives the report on its last line."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(main: Callable[[list[str]], None], *options: str) -> dict[str, Any]:
        main(["--short", "--model", "tiny-random", "--device", "cpu", *options])
        return json.loads(capsys.readouterr().out.splitlines()[-1])

    return run


def test_latency_compares_the_engine_with_plain_loops(tmp_path: Path, run_main: Callable[..., dict[str, Any]]) -> None:
    report = run_main(latency.main, "--loops", "engine,eager", "--json", str(tmp_path / "latency.json"))
    assert json.loads((tmp_path / "latency.json").read_text()) == report
    assert report["is_complete"]
    assert report["subjects"]["engine float32"]["weights"] == "random weights of a tiny shape"
    frames = [cell for cell in report["cells"] if cell["what"] == "frames"]
    assert [cell["loop"] for cell in frames] == ["engine", "eager"]
    assert all(cell["floor_ms"] > 0 and cell["frame_ms"]["count"] > 1 for cell in frames)
    first = [cell for cell in report["cells"] if cell["what"] == "first audio" and cell["loop"] == "engine"]
    assert [(cell["frames_in_first_chunk"], cell["is_voice_known"]) for cell in first] == [
        *((1, True), (1, False)),
        *((5, True), (5, False)),
    ]


def test_throughput_has_closed_and_open_loads_and_a_search(run_main: Callable[..., dict[str, Any]]) -> None:
    report = run_main(throughput.main, "--open-loop", "--real-time", "--threads", "0,1")
    kinds = [cell["what"] for cell in report["cells"]]
    assert kinds.count("closed") == 4  # 1 and 3 streams with two settings each
    ratio = next(cell for cell in report["cells"] if cell["what"] == "together against alone")
    assert ratio["ratio"] == pytest.approx(ratio["audio_s_per_s"] / ratio["audio_s_per_s_alone"], rel=1e-3)
    assert [cell["load"] for cell in report["cells"] if cell["what"] == "open"] == [0.5, 0.7, 0.9]
    assert kinds[-1] == "most real-time streams"


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


def test_options_of_the_engine_are_numbers() -> None:
    assert read_options(["max_batch=4", "num_pages=128"]) == {"max_batch": 4, "num_pages": 128}


def test_the_plain_loop_makes_what_the_engine_makes() -> None:
    """Else the comparison would be with something that does not do the work."""
    subject = open_subject("tiny-random", CPU, "float32")
    round_ = Round(num_streams=2, num_frames=5)
    engine, eager = EngineLoop(subject, {}), EagerLoop(subject)
    made: dict[str, list[torch.Tensor]] = {"engine": [], "eager": []}
    decode = subject.model.codec.forward

    for name, loop in (("engine", engine), ("eager", eager)):

        def record(codes: torch.Tensor, *rest: Any, name: str = name, **options: Any) -> torch.Tensor:
            made[name].append(codes.clone())
            return decode(codes, *rest, **options)

        subject.model.codec.forward = record  # type: ignore[method-assign]
        timings = loop.run(round_)
        assert [timing.num_samples for timing in timings] == [5 * subject.config.samples_per_frame] * 2
        loop.close()
    frames = {name: torch.cat([codes.flatten() for codes in parts]).sort().values for name, parts in made.items()}
    assert torch.equal(frames["engine"], frames["eager"])


def test_random_weights_are_finite_and_fill_every_parameter() -> None:
    model = random_model(config_of("tiny-random"), CPU, torch.bfloat16)
    assert all(bool(torch.isfinite(one).all()) and one.device == CPU for one in model.parameters())
    assert model.dtype == torch.bfloat16


def test_a_worker_that_dies_is_noticed(capfd: pytest.CaptureFixture[str]) -> None:
    variant = Variant("engine", "tiny-random", "cpu", "float32", {"no_such_option": 1})
    with pytest.raises(WorkerError, match="ended with code 1"), Worker(variant) as worker:
        worker.run(Round(1, 2))
    assert "no_such_option" in capfd.readouterr().err


def test_a_report_is_whole_after_every_cell(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "report.json"
    arguments = type("Arguments", (), {})()
    arguments.json = path
    report = Report("test", arguments)
    for number in range(3):
        report.add(number=number)
        content = json.loads(path.read_text())
        assert [cell["number"] for cell in content["cells"]] == list(range(number + 1))
        assert not content["is_complete"]
    assert [one.name for one in path.parent.iterdir()] == ["report.json"]
