"""Fixtures for all tests: a clean environment, and the tiny model once per session."""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from checkpoints import BRIEF, TINY, write_source_filter

# Imported where they are needed: the process that hands tests out to others runs none, and starts sooner without torch.
if TYPE_CHECKING:
    from voxtral.loading.checkpoint import Checkpoint
    from voxtral.model.voxtral import VoxtralModel
    from voxtral.tts import VoxtralTTS

# Programs under test find this source, and start and end in half the time.
_TESTS = Path(__file__).parent
_PATHS = (str(_TESTS / "at_start"), str(_TESTS.parent / "src"), os.environ.get("PYTHONPATH"))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, _PATHS))

# In the programs under test, threads with nothing to do must not keep a core busy on which another test runs.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

# A shell that starts this suite in the background has interrupts ignored, here and in every program under test.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config: pytest.Config) -> None:
    """Set up torch, hypothesis and Triton in every process that runs tests."""
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        return
    import torch
    from hypothesis import settings

    # No deadline for one example: a busy machine must not fail a property. No database: runs are hermetic.
    settings.register_profile("voxtral", deadline=None, max_examples=32, database=None)
    settings.load_profile("voxtral")

    # Triton decides when it is imported whether kernels run interpreted; with a GPU they run as they are meant to.
    if not torch.cuda.is_available():
        os.environ["TRITON_INTERPRET"] = "1"

    # The tiny model gains nothing from threads, and on a busy machine they wait for each other.
    torch.set_num_threads(1)

    # Another nano in place of the one in the package, to see which tests would not hold for it (CONTRIBUTING.md).
    # Programs under test still have the one in the package.
    if folder := os.environ.get("VOXTRAL_TEST_NANO"):
        from voxtral.loading import locate

        locate._BUILT_IN["nano"] = (os.path.abspath(folder),)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No variable of the person who runs the tests may change a result, and no cache may be touched."""
    for name in (
        "VOXTRAL_MODEL",
        "VOXTRAL_LOG",
        "VOXTRAL_ENCODER",
        "VOXTRAL_TRITON",
        "VOXTRAL_CPU_KERNELS",
        "VOXTRAL_CPU_FORM",
        "VOXTRAL_CUDA_GRAPHS",
        "VOXTRAL_SELF_CHECK",
        "VOXTRAL_CALIBRATION",
        "HF_TOKEN",
        "HF_ENDPOINT",
        "HF_HUB_CACHE",
    ):
        monkeypatch.delenv(name, raising=False)
    # Models of random weights have no aligner, and finding that out would take a minute.
    monkeypatch.setenv("VOXTRAL_CALIBRATION", "0")
    monkeypatch.setenv("HF_HOME", str(tmp_path_factory.getbasetemp() / "empty-hf-home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("VOXTRAL_CACHE", str(tmp_path_factory.getbasetemp() / "voices-on-disk"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path_factory.getbasetemp() / "empty-data"))


@pytest.fixture(scope="session", autouse=True)
def kept_kernels(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep what was compiled of the CPU's products between runs: nothing but compiling it is saved."""
    kept = request.config.cache.mkdir("voxtral") / "kernels"
    here = tmp_path_factory.getbasetemp() / "voices-on-disk" / "kernels"
    if kept.is_dir():
        shutil.copytree(kept, here)
    yield
    if here.is_dir() and sorted(os.listdir(here)) != (sorted(os.listdir(kept)) if kept.is_dir() else []):
        # Of the present source alone. Other processes may do the same; any of them is as good.
        with contextlib.suppress(OSError):
            partial = kept.with_name(f"kernels-{os.getpid()}")
            shutil.copytree(here, partial)
            shutil.rmtree(kept, ignore_errors=True)
            partial.rename(kept)


@pytest.fixture(autouse=True)
def own_arithmetic() -> Iterator[None]:
    """Give the process back as it was: commands take one thread and drop subnormal numbers for good."""
    import torch  # as fixtures below do: what needs none is collected without

    num_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(num_threads)
    torch.set_flush_denormal(False)


@pytest.fixture(scope="module", autouse=True)
def no_old_garbage() -> Iterator[None]:
    """Let no search for garbage look at what lives on: all modules and tests, a fifth of a second each time."""
    gc.freeze()
    yield
    gc.collect()


@pytest.fixture(scope="session")
def tiny_folder() -> Path:
    """Random weights at small sizes, with encoder."""
    return TINY


@pytest.fixture(scope="session")
def tiny_checkpoint(tiny_folder: Path) -> Checkpoint:
    from voxtral.loading.checkpoint import open_checkpoint

    return open_checkpoint(tiny_folder)


@pytest.fixture(scope="session")
def tiny_model(tiny_checkpoint: Checkpoint) -> VoxtralModel:
    """float32 on the CPU."""
    import torch

    from voxtral.loading.load import load_model

    return load_model(tiny_checkpoint, device=torch.device("cpu"), dtype=torch.float32, codec_dtype=torch.float32)


@pytest.fixture(scope="session")
def source_filter_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Tiny with a source-filter head and a mel input."""
    from voxtral.loading.checkpoint import open_checkpoint

    return open_checkpoint(write_source_filter(tmp_path_factory.mktemp("source") / "tiny"))


@pytest.fixture(scope="session")
def source_filter_model(source_filter_checkpoint: Checkpoint) -> VoxtralModel:
    """float32 on the CPU."""
    import torch

    from voxtral.loading.load import load_model

    dtype = torch.float32
    return load_model(source_filter_checkpoint, device=torch.device("cpu"), dtype=dtype, codec_dtype=dtype)


@pytest.fixture(scope="session")
def tts() -> Iterator[VoxtralTTS]:
    """Tiny in two steps behind the public API; shared, so tests must not move or close it."""
    from voxtral.engine.options import EngineOptions
    from voxtral.tts import VoxtralTTS

    # Tests compare samples, which only this option makes equal to the bit whatever else runs.
    options = EngineOptions(batch_invariant=True, max_batch=4)
    model = VoxtralTTS.from_pretrained(BRIEF, device="cpu", options=options)
    yield model
    model.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many tests need a GPU that is not here, and how many code blocks of the documents ran.

    Both are counted from the reports, which arrive here from every worker process.
    """
    skipped = terminalreporter.stats.get("skipped", [])
    num_cuda = sum(1 for report in skipped if "CUDA" in str(report.longrepr))
    terminalreporter.write_line(f"GPU tests skipped: {num_cuda}")
    passed = terminalreporter.stats.get("passed", [])
    num_run, num_skipped = (
        sum("::test_block_runs[" in report.nodeid for report in which) for which in (passed, skipped)
    )
    if num_run or num_skipped:
        terminalreporter.write_line(f"Code blocks of README and guide: {num_run} run, {num_skipped} skipped")
