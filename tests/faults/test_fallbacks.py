"""Everything switched off one by one, and everything that can fail made to fail: speech comes out, or a typed error.

On a CPU, the way through the GPU's machinery as far as it goes without one: the static step, kernels interpreted,
captures by a stand-in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from checkpoints import BRIEF, TINY
from fake_cuda import FakeCuda
from golden import judge
from launches import as_on_gpu
from voxtral import VoxtralTTS
from voxtral.engine import frame_maker, graphs, rig, runner
from voxtral.engine.engine import Engine
from voxtral.engine.graphs import CudaRecorder
from voxtral.engine.options import EngineOptions
from voxtral.engine.paths import PATHS, Paths
from voxtral.engine.rig import ModelRig
from voxtral.engine.self_check import examine
from voxtral.errors import VoxtralError
from voxtral.loading.checkpoint import open_checkpoint
from voxtral.model.kernels import dispatch
from voxtral.model.kernels.dispatch import KERNELS, USES_DOT, has_triton
from voxtral.model.voxtral import VoxtralModel
from voxtral.types import SamplingOptions, SpeechRequest

GOLDEN = TINY.parent / "data"
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    state = graphs.CaptureState()
    monkeypatch.setattr(graphs, "CAPTURES", state)
    monkeypatch.setattr(frame_maker, "CAPTURES", state)
    KERNELS.forget()
    yield
    KERNELS.forget()


# What is left when something is off.


# With "folded" closed alone it is the static step of tests/golden/test_static_step.py; the last three are a GPU's.
CLOSED = [
    [*PATHS],
    *(pytest.param([path], marks=pytest.mark.slow) for path in PATHS),
]


@pytest.mark.parametrize("closed", CLOSED, ids=lambda closed: " ".join(closed))
def test_golden_vectors_pass_with_each_path_closed_and_with_all(
    closed: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = Paths("here", dict.fromkeys(closed, "off for a test"))
    options = EngineOptions(cuda_graphs=True, max_batch=2)
    monkeypatch.setattr(judge, "Engine", lambda model: Engine(model, options, paths=paths))
    report = judge.run_vectors(open_checkpoint(TINY), judge.load_vectors(GOLDEN), CPU)
    assert [result.name for result in report.results if result.ok is False] == []
    assert report.count(True) == 113


@pytest.mark.parametrize("closed", [["static"], ["folded"], [*PATHS]], ids=" ".join)
def test_batches_stay_invariant_with_paths_closed(closed: list[Any]) -> None:
    options = EngineOptions(cuda_graphs=True, batch_invariant=True, max_batch=3)
    texts = ["One.", "Two three."]
    sampling = SamplingOptions(max_frames=3)
    with VoxtralTTS.from_pretrained(BRIEF, device="cpu", options=options) as tts:
        for path in closed:
            tts.engine.paths.close(path, "off for a test")

        def speak(chosen: list[str]) -> list[np.ndarray]:
            handles = [tts.submit(SpeechRequest(text, seed=1, sampling=sampling)) for text in chosen]
            return [np.concatenate([chunk.samples for chunk in handle.chunks()]) for handle in handles]

        together = speak(texts)
        for text, samples in zip(texts, together, strict=True):
            assert np.array_equal(speak([text])[0], samples)


@pytest.mark.skipif(not has_triton() or torch.cuda.is_available(), reason="interpreted kernels need Triton and no GPU")
@pytest.mark.slow  # each kernel alone is tried in tests/unit/engine/test_self_check.py
@pytest.mark.parametrize("off", [None, *USES_DOT])
def test_a_frame_of_interpreted_kernels_is_the_plain_one_with_each_of_them_off(
    off: str | None, tiny_model: VoxtralModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched: set[str] = set()
    monkeypatch.setattr(dispatch.attempt, "__enter__", lambda launch: launched.add(launch._kernel))
    # The interpreter takes a second for what is left.
    monkeypatch.setattr(rig, "_POSITIONS", 20)
    own_rig = ModelRig(tiny_model)
    own_rig._schedule = tiny_model.acoustic_transformer.make_schedule(1)
    with torch.inference_mode(), as_on_gpu():
        if off is not None:
            KERNELS.turn_off(off, CPU, "off for a test")
        verdict = examine(own_rig, only=["static step", "folded flow"])
        assert set(KERNELS.turned_off(CPU)) == ({off} if off else set())
    assert [finding.is_ok for finding in verdict.findings] == [True, True]
    assert off not in launched
    assert len(launched) >= 7, launched


# What a user meets when something fails.

ERRORS = {
    "memory": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    "device": RuntimeError("CUDA error: an illegal memory access was encountered"),
    "accelerator": getattr(torch, "AcceleratorError", RuntimeError)("CUDA error: unspecified launch failure"),
    "library": RuntimeError("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling cublasLtMatmul"),
    "operator": NotImplementedError("Could not run 'aten::_fused' with arguments from the 'CUDA' backend"),
    "assertion": AssertionError("INTERNAL ASSERT FAILED"),
    "key": KeyError("no such kernel"),
}

Inject = Callable[[pytest.MonkeyPatch, Exception], None]


def raising(error: Exception) -> Callable[..., Any]:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


def in_method(owner: str, method: str) -> Inject:
    return lambda patch, error: patch.setattr(f"voxtral.{owner}.{method}", raising(error))


def in_all(*places: Inject) -> Inject:
    def inject(patch: pytest.MonkeyPatch, error: Exception) -> None:
        for place in places:
            place(patch, error)

    return inject


def in_capture(stage: str) -> Inject:
    def inject(patch: pytest.MonkeyPatch, error: Exception) -> None:
        FakeCuda({stage: error}).install(patch)
        patch.setattr(frame_maker.FrameMaker, "_usual_recorder", lambda self: CudaRecorder(torch.device("cuda:0")))
        patch.setattr(runner, "usual_recorder", lambda device, options: CudaRecorder(torch.device("cuda:0")))

    return inject


PLACES: dict[str, Inject] = {
    "capture begins": in_capture("begin"),
    "capture ends": in_capture("end"),
    "capture's stream": in_capture("stream"),
    "static step": in_method("engine.kv_cache.StepMemory", "attend_rotating"),
    "folded flow": in_method("model.folded.FoldedFlow", "flow_states"),
    "folded flow's table": in_method("model.folded.FoldedFlow", "build"),
    "static buffers": in_method("engine.graphs.FrameGraphs", "run"),
    "prompt": in_method("engine.kv_cache.SpanMemory", "attend"),
    "codec step": in_method("model.codec_step.CodecStep", "__call__"),
    "codec": in_all(
        in_method("model.codec_step.CodecStep", "__call__"), in_method("model.codec.CodecDecoder", "forward")
    ),
    "embedding of the prompt": in_method("model.voxtral.VoxtralModel", "embed_prompt"),
    "pages": in_method("engine.memory", "make_pages"),
}

# Another way is there, unless memory is short or the device is lost.
SURVIVED = {
    *("capture begins", "capture ends", "capture's stream"),
    *("static step", "folded flow", "static buffers", "codec step"),
}


@pytest.mark.parametrize("kind", ERRORS)
@pytest.mark.parametrize("place", PLACES)
def test_no_raw_error_reaches_a_user(
    place: str, kind: str, own_tts: VoxtralTTS, monkeypatch: pytest.MonkeyPatch
) -> None:
    PLACES[place](monkeypatch, ERRORS[kind])
    if place in SURVIVED and (kind != "memory" or "capture" in place):
        assert len(own_tts.synthesize("Yes.", seed=1, max_frames=2).numpy())
        return
    with pytest.raises(VoxtralError, match=r"\w"):
        own_tts.synthesize("Yes.", seed=1, max_frames=2)


@pytest.fixture(scope="module")
def shared_tts() -> Iterator[VoxtralTTS]:
    options = EngineOptions(cuda_graphs=True, max_batch=1)
    with VoxtralTTS.from_pretrained(BRIEF, device="cpu", options=options) as model:
        yield model


@pytest.fixture
def own_tts(shared_tts: VoxtralTTS) -> VoxtralTTS:
    """A model with an engine of its own."""
    running = shared_tts._running
    running.engine.close()
    running._set_engine(Engine(running.model, running.engine.options))
    return shared_tts
