"""What happens between loading and the first request on a GPU: the real weights compared, and a warm-up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch

from voxtral.device import plan_compute
from voxtral.engine.engine import Engine
from voxtral.engine.options import EngineOptions
from voxtral.engine.verdict import Verdict
from voxtral.errors import DeviceError, EngineStoppedError
from voxtral.loading import running
from voxtral.loading.running import RunningModel
from voxtral.model.kernels.dispatch import KERNELS
from voxtral.model.voxtral import VoxtralModel

ON_GPU = replace(plan_compute("cpu"), device=torch.device("cuda:0"))


@pytest.fixture
def own_model(tiny_model: VoxtralModel) -> Iterator[RunningModel]:
    """The tiny model on the CPU, said to be on a GPU."""
    KERNELS.forget()
    model = RunningModel(tiny_model, ON_GPU, EngineOptions(cuda_graphs=True, max_batch=2))
    yield model
    model.close()
    KERNELS.forget()


def test_sizes_and_chunks_are_there_before_the_first_request(own_model: RunningModel) -> None:
    lines: list[str] = []
    own_model.prepare(lines.append)
    (line,) = lines
    assert line.startswith("warmed up: codec chunks and no graphs in ")
    made: Any = own_model.engine._runner._made
    assert set(made.frames.graph_sizes) == {(1, 32)}  # there is nothing to capture here


def test_what_the_weights_show_is_closed(own_model: RunningModel, monkeypatch: pytest.MonkeyPatch) -> None:
    verdict = Verdict(kernels_off={"silu_multiply": "5 % off"}, paths_off={"folded": "9 % off"})
    monkeypatch.setattr(running, "examine", lambda rig, only: verdict)
    own_model.prepare(lambda line: None)
    assert own_model.engine.paths.closed == {"folded": "9 % off"}
    assert KERNELS.turned_off(torch.device("cpu")) == {"silu_multiply": "5 % off"}


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("cuDNN has no plan"), KeyError("x")]
)
def test_a_warm_up_that_fails_is_no_reason_not_to_speak(
    own_model: RunningModel, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Engine, limit_s: float) -> str:
        raise error

    monkeypatch.setattr(Engine, "warm_up", fail)
    lines: list[str] = []
    own_model.prepare(lines.append)
    (line,) = lines
    assert line.startswith(f"not warmed up ({type(error).__name__}: ")
    assert own_model.engine.failure is None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DeviceError("it does not compute any more"), DeviceError),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), EngineStoppedError),
    ],
)
def test_a_device_that_is_lost_meanwhile_is_a_typed_error_and_leaves_no_thread(
    own_model: RunningModel, error: Exception, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(rig: Any, only: Any) -> Verdict:
        raise error

    monkeypatch.setattr(running, "examine", fail)
    with pytest.raises(expected):
        own_model.prepare(lambda line: None)
    assert own_model.engine._thread is not None
    assert not own_model.engine._thread.is_alive()


def test_what_is_switched_off_is_not_done(own_model: RunningModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VOXTRAL_SELF_CHECK", "0")
    own_model._engine.options = replace(own_model.engine.options, warm_up=False)
    lines: list[str] = []
    own_model.prepare(lines.append)
    assert lines == []
    assert own_model.engine._thread is None
