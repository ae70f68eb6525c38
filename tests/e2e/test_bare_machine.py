"""A machine with torch, numpy and safetensors alone: the doctor runs, and says what it had to skip."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from checkpoints import TINY

pytestmark = pytest.mark.clients

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "data"

ABSENT = [
    *("mistral_common", "tiktoken", "transformers", "tokenizers", "pydantic", "yaml"),
    *("soundfile", "soxr", "av", "sounddevice", "num2words", "regex"),
    *("huggingface_hub", "httpx", "requests", "typer", "click", "rich"),
]

# Refuses the modules named above as if they were not installed, then runs `python -m voxtral`.
BARE = f"""
import importlib.abc, runpy, sys

class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {ABSENT!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""
# What the model and the engine are made of; nothing of it may need what is absent, nor import Triton without a GPU.
PARTS = """
import torch
import voxtral.loading.checkpoint, voxtral.voices.prompt, voxtral.device, voxtral.engine.engine
import voxtral.model.voxtral, voxtral.text.prompt, voxtral.doctor.command
from voxtral.model.kernels import elementwise, flow, matmul, paged, tokens, window

flow.guided_step(torch.ones(1, 2), torch.ones(2, 2), torch.ones(1), torch.tensor(0.5))
assert "triton" not in sys.modules
"""
MAIN = """
sys.argv = ["voxtral", *sys.argv[1:]]
runpy.run_module("voxtral", run_name="__main__", alter_sys=True)
"""


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=100)


def run_bare(*arguments: str) -> subprocess.CompletedProcess[str]:
    return run_python(BARE + MAIN, *arguments)


@pytest.fixture(scope="module")
def finished() -> subprocess.CompletedProcess[str]:
    """In one process, as importing torch takes longer than the rest: the imports by themselves, then the command."""
    words = ("doctor", "--model", str(TINY), "--vectors", str(GOLDEN), "--device", "cpu", "--json")
    return run_python(BARE + PARTS + MAIN, *words)


def test_the_model_imports_on_a_bare_machine_and_without_a_gpu_no_triton(
    finished: subprocess.CompletedProcess[str],
) -> None:
    assert (finished.returncode, finished.stderr) == (0, "")


@pytest.fixture(scope="module")
def report(finished: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    return json.loads(finished.stdout.splitlines()[-1])


def test_the_doctor_compares_all_that_needs_no_text_and_no_files(
    finished: subprocess.CompletedProcess[str], report: dict[str, Any]
) -> None:
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    assert (report["ok"], report["failed"]) == (True, 0)
    assert (report["passed"], report["skipped"]) == (93, 20)


def test_what_needs_text_is_skipped_for_want_of_mistral_common(report: dict[str, Any]) -> None:
    skipped = {name: entry["detail"] for name, entry in report["entries"].items() if is_skipped(entry)}
    assert report["skipped"] == len(skipped)
    ids = {name: detail for name, detail in skipped.items() if name.endswith("/ids")}
    prompts = {name for name in report["entries"] if name.startswith("prompt/") and name.endswith("/ids")}
    prompts.remove("prompt/ref_audio_13440_samples/ids")  # informational on any machine
    assert set(ids) >= prompts
    tokenizer = {detail for name, detail in ids.items() if "ref_audio" not in name}
    assert tokenizer == {"mistral-common is not installed; it turns text into tokens; pip install mistral-common"}


def test_what_needs_audio_files_is_skipped_for_want_of_their_reader(report: dict[str, Any]) -> None:
    for name in ("prompt/ref_audio_16k/audio_array", "prompt/ref_audio_24k/audio_array"):
        assert is_skipped(report["entries"][name])
        assert report["entries"][name]["detail"].endswith("is not installed; it reads audio files")


def test_nothing_else_is_skipped(report: dict[str, Any]) -> None:
    skipped = [name for name, entry in report["entries"].items() if is_skipped(entry)]
    assert all(name.endswith(("/ids", "/audio_array")) for name in skipped)
    assert all(
        report["entries"][name]["ok"] for name in ("e2e/A/frames", "codec/encode/codes", "embed_prompt/B/embeds")
    )


def is_skipped(entry: dict[str, Any]) -> bool:
    return entry["kind"] == "output" and entry["ok"] is None


def test_the_doctor_examines_a_checkpoint() -> None:
    finished = run_bare("doctor", "--model", str(TINY), "--device", "cpu", "--json")
    assert finished.returncode == 0, finished.stderr
    checks = {check["name"]: check for check in json.loads(finished.stdout.splitlines()[-1])["checks"]}
    assert {name for name, check in checks.items() if check["status"] == "skipped"} == {"tokenizer", "speech"}
    assert all("mistral-common is not installed" in checks[name]["detail"] for name in ("tokenizer", "speech"))


def test_other_commands_say_what_is_missing() -> None:
    finished = run_bare("speak", "Hello.")
    assert finished.returncode == 1
    assert "typer is not installed" in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize("module", ["voxtral", "voxtral.errors", "voxtral.types", "voxtral.options", "voxtral.config"])
def test_importing_what_everybody_imports_loads_nothing_heavy(module: str) -> None:
    heavy = "('torch', 'numpy', 'safetensors', 'mistral_common', 'soundfile', 'soxr', 'huggingface_hub', 'typer')"
    finished = run_python(f"import sys, {module}; print([name for name in {heavy} if name in sys.modules])")
    assert (finished.returncode, finished.stdout.strip()) == (0, "[]"), finished.stderr
