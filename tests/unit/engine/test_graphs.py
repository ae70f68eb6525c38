"""Captures: their order and streams, and what happens where one fails. The calls of CUDA are recorded, not made."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from fake_cuda import STAGES, FakeCuda
from generations import RequestMaker, collect
from voxtral.engine import frame_maker, graphs
from voxtral.engine.engine import Engine
from voxtral.engine.frame import FrameOutputs
from voxtral.engine.graphs import CaptureError, CudaRecorder, FrameGraphs, Recording
from voxtral.engine.inputs import FrameInputs
from voxtral.engine.options import EngineOptions
from voxtral.engine.paths import Paths
from voxtral.loading.checkpoint import Checkpoint
from voxtral.model.voxtral import VoxtralModel

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")

OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
INVALIDATED = RuntimeError("CUDA error: operation failed due to a previous error during capture")
ACCELERATOR = getattr(torch, "AcceleratorError", RuntimeError)(
    "CUDA error: operation not permitted when stream is capturing"
)
ASSERTED = AssertionError("captures_underway.empty() INTERNAL ASSERT FAILED")


@pytest.fixture(autouse=True)
def captures(monkeypatch: pytest.MonkeyPatch) -> graphs.CaptureState:
    """What the process knows of captures, for one test."""
    state = graphs.CaptureState()
    monkeypatch.setattr(graphs, "CAPTURES", state)
    monkeypatch.setattr(frame_maker, "CAPTURES", state)
    return state


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    return FakeCuda().install(monkeypatch)


@pytest.fixture(scope="module")
def maker(tiny_checkpoint: Checkpoint) -> RequestMaker:
    return RequestMaker(tiny_checkpoint)


class ReplayingRecorder:
    """Captures by computing, and replays by computing again into the same buffers."""

    def __init__(self) -> None:
        self.num_records = 0

    def record(self, compute: Callable[[], FrameOutputs]) -> Recording:
        self.num_records += 1
        outputs = compute()

        def replay() -> None:
            made = compute().tensors
            for name, kept in outputs.tensors.items():
                kept.copy_(made[name])

        return Recording(replay, outputs)


class FailingRecorder:
    """Never captures."""

    def __init__(self) -> None:
        self.num_records = 0

    def record(self, compute: Callable[[], FrameOutputs]) -> Recording:
        self.num_records += 1
        raise CaptureError("capture failed: no")


def nothing() -> Any:
    return None


def test_a_capture_runs_and_records_on_one_stream_of_its_own(cuda: FakeCuda) -> None:
    recorders = [CudaRecorder(torch.device("cuda:0")), CudaRecorder(torch.device("cuda:1"))]
    seen: list[Any] = []
    recordings = [recorder.record(lambda: seen.append(cuda.current)) for _ in range(2) for recorder in recorders]
    # Three runs and the recorded one, all on the recorder's stream, in both captures; never that of another device.
    assert len(cuda.streams) == 2
    assert seen == [*[cuda.streams[0]] * 4, *[cuda.streams[1]] * 4] * 2
    assert [stream.device.index for stream in cuda.streams] == [0, 1]
    assert cuda.pools == [None, None, "pool", "pool"]
    assert cuda.current not in cuda.streams
    # A pool whose graphs are gone is none that torch takes: it would end in an assertion of its allocator.
    recordings.clear()
    recorders[0].record(nothing)
    assert cuda.pools[4:] == [None]


def test_only_one_capture_is_under_way_in_a_process(cuda: FakeCuda) -> None:
    num_inside, most = 0, 0

    def compute() -> Any:
        nonlocal num_inside, most
        num_inside += 1
        most = max(most, num_inside)
        threading.Event().wait(0.002)
        num_inside -= 1

    threads = [threading.Thread(target=CudaRecorder(GPU).record, args=(compute,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert most == 1


@pytest.mark.parametrize(
    "error", [OUT_OF_MEMORY, INVALIDATED, ACCELERATOR, ASSERTED], ids=lambda error: str(error)[:24]
)
@pytest.mark.parametrize("stage", [*STAGES, "warm-up", "compute"])
def test_a_capture_that_fails_anywhere_restores_the_stream_and_says_why(
    stage: str, error: Exception, cuda: FakeCuda, captures: graphs.CaptureState, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "_torch_version", lambda: (2, 13))
    home = cuda.current
    if stage in STAGES:
        cuda.failures[stage] = error

    def compute() -> Any:
        is_recording = "begin" in cuda.calls
        if (stage, is_recording) in (("warm-up", False), ("compute", True)):
            raise error

    recorder = CudaRecorder(GPU)
    with pytest.raises(CaptureError, match=f"capture failed: {type(error).__name__}") as caught:
        recorder.record(compute)
    assert caught.value.__cause__ is None  # an error that is kept would keep the pages
    assert cuda.current is home
    # Only a size may be too large; everything else would fail again.
    assert (captures.refusal is None) is isinstance(error, torch.OutOfMemoryError)
    if captures.refusal is not None:
        num_calls = len(cuda.calls)
        with pytest.raises(CaptureError, match="capture failed"):
            CudaRecorder(torch.device("cuda:1")).record(nothing)
        assert len(cuda.calls) == num_calls


@pytest.mark.parametrize(
    ("version", "stage", "is_refused"),
    [
        ("2.11.0+cu128", "end", True),
        ("2.11.1", "wait", False),
        ("2.12.0", "end", False),
        ("2.13.0a0+git", "end", False),
    ],
)
def test_before_torch_2_12_a_capture_that_was_broken_off_is_the_last(
    version: str,
    stage: str,
    is_refused: bool,
    cuda: FakeCuda,
    captures: graphs.CaptureState,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The next one would end the process with an internal assertion."""
    monkeypatch.setattr(torch, "__version__", version)
    cuda.failures[stage] = OUT_OF_MEMORY
    recorder = CudaRecorder(GPU)
    with pytest.raises(CaptureError):
        recorder.record(nothing)
    del cuda.failures[stage]
    if is_refused:
        with pytest.raises(CaptureError, match="out of memory"):
            recorder.record(nothing)
    else:
        recorder.record(nothing)
    assert (captures.refusal is not None) is is_refused


def blank(num_rows: int, num_blocks: int) -> FrameInputs:
    return FrameInputs.blank(num_rows, num_blocks, 3)


def count(inputs: FrameInputs) -> FrameOutputs:
    return FrameOutputs(inputs.slots[:, None] + 1, inputs.may_end, inputs.noise, inputs.noise * 2)


@pytest.mark.parametrize(
    "recorder", [None, ReplayingRecorder(), FailingRecorder()], ids=lambda made: type(made).__name__
)
def test_a_frame_is_the_same_recorded_failed_or_eager(recorder: Any) -> None:
    told: list[str] = []
    static = FrameGraphs(count, blank, CPU, recorder, told.append)
    for number in range(3):
        for num_rows in (2, 4):
            given = blank(num_rows, 5)
            given.slots.fill_(number)
            assert static.run(given).audio_tokens.tolist() == [[number + 1]] * num_rows
    is_recorded = isinstance(recorder, ReplayingRecorder)
    assert static.sizes == {(2, 5): is_recorded, (4, 5): is_recorded}
    # Each size is tried once, and each failure told once.
    assert recorder is None or recorder.num_records == 2
    assert len(told) == (2 if isinstance(recorder, FailingRecorder) else 0)


def test_a_size_whose_buffers_do_not_fit_is_made_when_they_do() -> None:
    """Before, the half-made entry stayed, and its steps ran without a graph for ever."""
    recorder = ReplayingRecorder()
    is_full = True

    def blank_or_not(num_rows: int, num_blocks: int) -> FrameInputs:
        if is_full:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return blank(num_rows, num_blocks)

    static = FrameGraphs(count, blank_or_not, CPU, recorder)
    with pytest.raises(torch.OutOfMemoryError):
        static.run(blank(1, 1))
    is_full = False
    static.run(blank(1, 1))
    assert static.sizes == {(1, 1): True}


# In an engine.


@pytest.fixture
def speak(
    tiny_model: VoxtralModel, maker: RequestMaker, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., list[np.ndarray]]:
    """Speaks two requests side by side in a new engine of static steps, with a recorder."""

    def run(recorder: Any, paths: Paths | None = None, **changes: Any) -> list[np.ndarray]:
        monkeypatch.setattr(frame_maker.FrameMaker, "_usual_recorder", lambda self: recorder)
        own = tiny_model.config.generation.num_euler_steps
        engine = Engine(tiny_model, EngineOptions(cuda_graphs=True, max_batch=2), paths=paths)
        try:
            handles = [
                engine.submit(
                    maker.request("Hello.", seed=seed, **({"max_frames": 3, "num_euler_steps": own} | changes))
                )
                for seed in (1, 2)
            ]
            return [collect(handle) for handle in handles]
        finally:
            engine.close()

    return run


def assert_equal(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    assert all(len(samples) for samples in one)
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("stage", "error"),
    [("stream", INVALIDATED), ("begin", OUT_OF_MEMORY), ("end", ASSERTED), ("end", OUT_OF_MEMORY)],
    ids=lambda given: str(given)[:16],
)
def test_streams_under_way_hear_nothing_of_a_capture_that_fails(
    stage: str,
    error: Exception,
    speak: Callable[..., list[np.ndarray]],
    cuda: FakeCuda,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Running out of memory ended both streams; an error of the capture ended the engine."""
    expected = speak(None)
    cuda.failures[stage] = error
    paths = Paths("NVIDIA L4")
    assert_equal(speak(CudaRecorder(GPU), paths), expected)
    warnings = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    if isinstance(error, torch.OutOfMemoryError):
        assert all(
            "one size of CUDA graph was not captured (capture failed: OutOfMemoryError" in line for line in warnings
        )
        assert 1 <= len(warnings) <= 2  # the sizes 1 and 2
    else:
        (line,) = warnings
        assert line.startswith("voxtral: CUDA graphs are off on NVIDIA L4 (capture failed: ")
        assert not paths.is_open("graphs")
        assert_equal(speak(CudaRecorder(GPU), paths), expected)  # and nobody is warned again
        assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


def test_a_replayed_frame_speaks_the_same(speak: Callable[..., list[np.ndarray]]) -> None:
    expected = speak(None)
    recorder = ReplayingRecorder()
    assert_equal(speak(recorder), expected)
    assert recorder.num_records >= 1


def test_only_the_checkpoints_own_number_of_steps_is_captured(speak: Callable[..., list[np.ndarray]]) -> None:
    """Any client could make a set of graphs, and a pool, for each number from 1 to 100."""
    recorder = ReplayingRecorder()
    for num_euler_steps in (1, 2, 3, 5):
        speak(recorder, num_euler_steps=num_euler_steps)
    assert recorder.num_records == 0


def test_pages_and_graphs_go_with_the_runner_and_not_when_python_looks_for_cycles(
    tiny_model: VoxtralModel, maker: RequestMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_maker.FrameMaker, "_usual_recorder", lambda self: ReplayingRecorder())
    own = tiny_model.config.generation.num_euler_steps
    engine = Engine(tiny_model, EngineOptions(cuda_graphs=True, max_batch=2))
    gc.collect()
    gc.disable()
    try:
        collect(engine.submit(maker.request("Hello.", max_frames=2, num_euler_steps=own)))
        made = engine._runner._made
        kept = [
            weakref.ref(part) for part in (made.memory.pages, made.memory.carried, made.frames, made.frames._graphs)
        ]
        del made
        engine.call(lambda model: engine.weights_changed())
        assert [reference() for reference in kept] == [None] * 4
        # And where a capture has failed, whose error would hold the stack.
        monkeypatch.setattr(frame_maker.FrameMaker, "_usual_recorder", lambda self: CudaRecorder(GPU))
        cuda = FakeCuda({"end": torch.OutOfMemoryError("CUDA out of memory")}).install(monkeypatch)
        collect(engine.submit(maker.request("Hello.", max_frames=2, num_euler_steps=own)))
        assert "end" in cuda.calls
        cuda.failures.clear()  # the error has been raised, and knows where
        kept = [weakref.ref(engine._runner._made.memory.pages), weakref.ref(engine._runner._made.frames)]
        engine.close()
        assert [reference() for reference in kept] == [None] * 2
    finally:
        gc.enable()
        engine.close()


def test_graphs_are_off_where_the_option_or_the_variable_says_so(
    tiny_model: VoxtralModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = object.__new__(frame_maker.FrameMaker)
    maker._model = type("OnGpu", (), {"device": GPU})()
    for option, variable, captures in ((None, "", True), (False, "", False), (None, "0", False), (True, "0", False)):
        maker._options = EngineOptions(cuda_graphs=option)
        monkeypatch.setenv("VOXTRAL_CUDA_GRAPHS", variable)
        assert (maker._usual_recorder() is not None) is captures
