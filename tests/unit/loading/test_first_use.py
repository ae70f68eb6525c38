"""The first use on a machine: children that end in every way, what is kept, and what is then closed.

The children here are scripts without torch; the real one runs in this process, and as a process in the slow test.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from checkpoints import TINY
from voxtral.config import ModelConfig
from voxtral.device import ComputePlan
from voxtral.engine.options import EngineOptions
from voxtral.engine.verdict import Finding, Verdict
from voxtral.gpu import GpuFacts
from voxtral.loading import first_use, self_check_child
from voxtral.loading.checkpoint import Checkpoint
from voxtral.loading.first_use import ChildReport, load_verdict, open_paths, run_command, save_verdict, try_in_children
from voxtral.loading.params import load_config
from voxtral.loading.self_check_child import Specification
from voxtral.model.kernels.dispatch import KERNELS, USES_DOT

SPECIFICATION = Specification(str(TINY), "cpu", "float32", "float32", None, 2, {})
CLEAN = Verdict((Finding("static step", True, 0.004),), seconds=1.0)
GRAPHS_OFF = Verdict((Finding("graph replay", False, None, "capture failed"),), {}, {"graphs": "capture failed"}, 2.0)

BEGIN = 'import sys, json; w = lambda **f: print(json.dumps(f), flush=True)\nw(begin="kernel silu_multiply")\n'


def run_script(text: str, limit_s: float = 20.0) -> ChildReport:
    return run_command([sys.executable, "-S", "-E", "-c", text], limit_s=limit_s)


@pytest.mark.parametrize(
    ("script", "end"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "was ended by signal 9"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "was ended by signal 11"),
        ("sys.exit(3)", "ended with code 3"),
        ("import os; os._exit(0)", "ended with code 0"),
        ("print('{\"verdict\": {}}')", "ended with code 0"),
        ("print('{\"verdict\": ' + '[' * 9000)", "ended with code 0"),
        ("sys.stdout.buffer.write(bytes(range(256)) * 9)", "ended with code 0"),
        ("print('[1, 2]'); print('null'); print('{\"finding\": 7}')", "ended with code 0"),
    ],
)
def test_a_child_that_ends_badly_tells_where(script: str, end: str) -> None:
    report = run_script(BEGIN + script)
    assert report.verdict is None
    assert report.last_begun == "kernel silu_multiply"
    assert report.end == end


def test_a_child_that_hangs_is_ended_in_time() -> None:
    report = run_script(BEGIN + "import time; time.sleep(60)", limit_s=0.3)
    assert (report.verdict, report.last_begun) == (None, "kernel silu_multiply")
    assert report.end == "took longer than 0.3 s"


def test_a_child_that_cannot_be_started_tells_nothing() -> None:
    report = run_command(["/nowhere/python"], limit_s=1)
    assert report.last_begun is None
    assert report.end.startswith("could not be started")


def test_a_verdict_among_other_lines_is_read_unless_the_child_failed() -> None:
    said = f"print('warning: something'); w(finding={vars(CLEAN.findings[0])!r}); w(verdict={CLEAN.to_dict()!r})\n"
    assert run_script(BEGIN + said).verdict == CLEAN
    assert run_script(BEGIN + said + "sys.exit(1)").verdict is None


class Children:
    """Ends at paths that are told, until they are left out."""

    def __init__(self, *fatal: str) -> None:
        self.fatal = fatal
        self.started: list[dict[str, str]] = []

    def __call__(self, specification: Specification) -> ChildReport:
        self.started.append(specification.known)
        for path in self.fatal:
            if path not in specification.known:
                return ChildReport(None, path, (), "was ended by signal 11")
        return ChildReport(CLEAN, "late look", (), "ended with code 0")


def test_a_path_that_ends_the_process_is_left_out_of_the_next() -> None:
    children = Children("graph replay", "late look")
    verdict = try_in_children(SPECIFICATION, children)
    assert verdict is not None
    assert verdict.findings == CLEAN.findings
    assert children.started == [
        {},
        {"graph replay": "the check was ended by signal 11 in it"},
        dict.fromkeys(("graph replay", "late look"), "the check was ended by signal 11 in it"),
    ]


@pytest.mark.parametrize("end", ["was ended by signal 9", "could not be started (no)", "ended with code 1"])
def test_where_nothing_was_tried_nothing_is_known(end: str) -> None:
    assert try_in_children(SPECIFICATION, lambda given: ChildReport(None, None, (), end)) is None


@pytest.mark.parametrize("path", ["kernel silu_multiply", None])
def test_a_check_that_ends_again_and_again_leaves_the_slow_ways_only(path: str | None) -> None:
    paths = iter([f"kernel {number}" if path is None else path for number in range(9)])
    verdict = try_in_children(SPECIFICATION, lambda given: ChildReport(None, next(paths), (), "hung"))
    assert verdict is not None
    assert set(verdict.kernels_off) == set(USES_DOT)
    assert set(verdict.paths_off) == {"graphs", "codec_step", "codec_stream", "ahead"}


# What is kept.


def test_a_verdict_is_kept_for_its_machine_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "selfcheck.json"
    assert load_verdict(path, "one") is None
    save_verdict(path, "one", GRAPHS_OFF)
    save_verdict(path, "two", CLEAN)
    assert load_verdict(path, "one") == GRAPHS_OFF
    assert load_verdict(path, "two") == CLEAN
    assert load_verdict(path, "three") is None
    for number in range(40):
        save_verdict(path, str(number), CLEAN)
    assert len(json.loads(path.read_text())) == 16
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize(
    "garbage", [b"", b"\xff\xfe", b"[]", b'{"one": 7}', b'{"one": {"findings": []}}', b"[" * 99999]
)
def test_a_damaged_file_counts_as_none_and_is_written_anew(tmp_path: Path, garbage: bytes) -> None:
    path = tmp_path / "selfcheck.json"
    path.write_bytes(garbage)
    assert load_verdict(path, "one") is None
    save_verdict(path, "one", GRAPHS_OFF)
    assert load_verdict(path, "one") == GRAPHS_OFF


def test_a_folder_that_cannot_be_written_keeps_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    save_verdict(tmp_path / "file" / "selfcheck.json", "one", CLEAN)
    assert load_verdict(tmp_path / "file" / "selfcheck.json", "one") is None


# Deciding.

GPU = torch.device("cuda:0")
COMPUTE = ComputePlan(GPU, "", torch.bfloat16, "", torch.bfloat16, "")
FACTS = GpuFacts("NVIDIA L4", (8, 9), 58, 24 * 10**9, 20 * 10**9)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """A machine with a GPU; what its children say can be changed, and how many there were is counted."""
    state: dict[str, Any] = {"verdict": GRAPHS_OFF, "num_children": 0, "facts": FACTS, "driver": "580.1"}

    def run(specification: Specification) -> ChildReport:
        state["num_children"] += 1
        state["specification"] = specification
        return ChildReport(state["verdict"], "late look", (), "ended with code 0")

    monkeypatch.setenv("VOXTRAL_CACHE", str(tmp_path))
    monkeypatch.setattr(first_use, "run_child", run)
    monkeypatch.setattr(first_use, "read_gpu", lambda device: state["facts"])
    monkeypatch.setattr(first_use, "driver_version", lambda: state["driver"])
    KERNELS.forget()
    yield state
    KERNELS.forget()


def test_the_first_use_is_tried_once_and_its_verdict_counts_from_then_on(
    machine: dict[str, Any], tiny_checkpoint: Checkpoint
) -> None:
    lines: list[str] = []
    for _ in range(2):
        paths = open_paths(tiny_checkpoint, COMPUTE, EngineOptions(max_batch=12), lines.append)
        assert paths.closed == {"graphs": "capture failed"}
    assert machine["num_children"] == 1
    assert machine["specification"].max_rows == 12
    announced, *warnings = lines
    assert announced == "trying what NVIDIA L4 computes and compiling kernels for it (once), about 20 s"
    assert len(warnings) == 2
    assert warnings[0].startswith("voxtral: off on NVIDIA L4: CUDA graphs (capture failed); speech is right but slower")


@pytest.mark.parametrize(
    "change",
    [
        {"facts": replace(FACTS, name="NVIDIA H200")},
        {"facts": replace(FACTS, capability=(9, 0))},
        {"driver": "581.0"},
        {"compute": replace(COMPUTE, dtype=torch.float16)},
        {"versions": "2.14.0"},
    ],
    ids=str,
)
def test_another_machine_dtype_or_version_is_tried_anew(
    machine: dict[str, Any], tiny_checkpoint: Checkpoint, change: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    open_paths(tiny_checkpoint, COMPUTE, EngineOptions(), lambda line: None)
    compute = change.pop("compute", COMPUTE)
    if version := change.pop("versions", None):
        monkeypatch.setattr(torch, "__version__", version)
    machine |= change
    open_paths(tiny_checkpoint, compute, EngineOptions(), lambda line: None)
    assert machine["num_children"] == 2


def test_kernels_that_a_verdict_names_are_off(machine: dict[str, Any], tiny_checkpoint: Checkpoint) -> None:
    machine["verdict"] = Verdict(kernels_off={"silu_multiply": "5 % off"})
    open_paths(tiny_checkpoint, COMPUTE, EngineOptions(), lambda line: None)
    assert KERNELS.turned_off(GPU) == {"silu_multiply": "5 % off"}


def test_without_a_verdict_everything_stays_open_and_nothing_is_kept(
    machine: dict[str, Any], tiny_checkpoint: Checkpoint, tmp_path: Path
) -> None:
    machine["verdict"] = None
    first_use_report = ChildReport(None, None, (), "ended with code 1")
    for _ in range(2):
        assert try_in_children(SPECIFICATION, lambda given: first_use_report) is None
    assert list(tmp_path.iterdir()) == []


def test_the_check_can_be_switched_off_and_a_cpu_has_none(
    machine: dict[str, Any], tiny_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_paths(tiny_checkpoint, replace(COMPUTE, device=torch.device("cpu")), EngineOptions(), print)
    monkeypatch.setenv("VOXTRAL_SELF_CHECK", "0")
    assert open_paths(tiny_checkpoint, COMPUTE, EngineOptions(), print).closed == {}
    assert machine["num_children"] == 0


def test_an_option_forbids_all_kernels(machine: dict[str, Any], tiny_checkpoint: Checkpoint) -> None:
    open_paths(tiny_checkpoint, COMPUTE, EngineOptions(triton=False), lambda line: None)
    assert KERNELS.problem("silu_multiply", GPU, torch.bfloat16) == "EngineOptions.triton is False"


# The real child.


@pytest.fixture(scope="module")
def tiny_config() -> ModelConfig:
    return load_config(TINY / "params.json")


@pytest.mark.parametrize("recipe", [None, "int8"])
def test_the_child_tries_a_model_of_two_layers(recipe: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert self_check_child.main(json.dumps(asdict(replace(SPECIFICATION, recipe=recipe)))) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    begun = [line["begin"] for line in lines if "begin" in line]
    assert begun[-6:] == [
        "static step",
        "folded flow",
        "graph replay",
        "codec step",
        "codec stream",
        "late look",
    ]
    assert len(begun) == (6 if recipe is None else 10)  # and four numbers of rows of the products
    verdict = Verdict.from_dict(lines[-1]["verdict"])
    assert verdict.is_clean
    assert [finding.path for finding in verdict.findings] == begun


@pytest.mark.slow
def test_the_child_runs_as_a_process() -> None:
    verdict = try_in_children(SPECIFICATION)
    assert verdict is not None
    assert verdict.is_clean
    verdict = try_in_children(replace(SPECIFICATION, known={"folded flow": "it ended the process"}))
    assert verdict is not None
    assert verdict.paths_off == {"folded": "it ended the process"}
