"""Ways to make a frame: which rows go together, and that the next way makes it where one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from generations import RequestMaker, collect
from voxtral.engine import frame_maker
from voxtral.engine.engine import Engine
from voxtral.engine.frame import FrameOutputs
from voxtral.engine.frame_maker import FrameMaker
from voxtral.engine.inputs import RowInput
from voxtral.engine.kv_cache import kv_slot
from voxtral.engine.memory import DeviceMemory
from voxtral.engine.options import EngineOptions
from voxtral.engine.paths import Paths
from voxtral.errors import EngineError, EngineStoppedError
from voxtral.loading.checkpoint import Checkpoint
from voxtral.model.voxtral import VoxtralModel

BLOCK_SIZE = 4


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture
def make_maker(tiny_model: VoxtralModel, monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[FrameMaker, Any]]:
    """Makes a maker whose usual tables hold four blocks and whose wide ones hold sixteen."""
    monkeypatch.setattr(frame_maker, "POSITIONS_PER_SEQUENCE", 4 * BLOCK_SIZE)

    def make(**changes: Any) -> tuple[FrameMaker, DeviceMemory]:
        options = EngineOptions(**({"cuda_graphs": True, "max_batch": 4, "block_size": BLOCK_SIZE} | changes))
        memory = DeviceMemory(tiny_model, options, 4, None)
        for part in (memory.pages.keys, memory.pages.values, memory.carried):
            part.normal_(generator=torch.Generator().manual_seed(0))
        return FrameMaker(tiny_model, memory, options, 4), memory

    return make


def row(slot: int, num_blocks: int, num_acoustic: int = 36) -> RowInput:
    blocks = [1 + 20 * slot + number for number in range(num_blocks)]
    position = num_blocks * BLOCK_SIZE - 1
    noise = np.random.default_rng(slot).standard_normal(num_acoustic).astype(np.float32)
    return RowInput(slot, position, kv_slot(blocks, position, BLOCK_SIZE), blocks, noise, 1.2, True)


def widths(maker: FrameMaker, rows: list[RowInput], steps: int = 7) -> list[tuple[int, int]]:
    maker.make(rows, steps)
    return list(maker.graph_sizes)


def test_one_long_row_takes_the_others_along_into_wider_tables(make_maker: Any, tiny_model: VoxtralModel) -> None:
    """Before, all rows left the static buffers, and each layer looped over them."""
    own = tiny_model.config.generation.num_euler_steps
    maker, _ = make_maker()
    assert widths(maker, [row(0, 2), row(1, 4)], own) == [(2, 4)]
    assert maker.kinds_of([row(0, blocks) for blocks in (1, 4, 5, 16)]) == [0] * 4
    assert widths(maker, [row(0, 2), row(1, 5)], own) == [(2, 4), (2, 16)]
    # What no table holds goes by itself, and the others stay where they were.
    long, short = maker.kinds_of([row(0, 17), row(0, 2)])
    assert long != short
    assert widths(maker, [row(0, 17)], own) == [(2, 4), (2, 16)]


def test_a_row_in_wide_tables_is_the_row_up_to_rounding(make_maker: Any) -> None:
    def first(rows: list[RowInput]) -> FrameOutputs:
        maker, _ = make_maker()
        return maker.make(rows, 7)

    alone, beside_a_long_one = first([row(0, 2)]), first([row(0, 2), row(1, 9)])
    torch.testing.assert_close(alone.hidden[0], beside_a_long_one.hidden[0])
    as_it_comes, _ = make_maker(cuda_graphs=None)
    torch.testing.assert_close(as_it_comes.make([row(1, 9)], 7).hidden[0], beside_a_long_one.hidden[1])


def test_invariant_rows_have_the_width_that_they_have_alone(make_maker: Any) -> None:
    maker, _ = make_maker(batch_invariant=True)
    assert maker.kinds_of([row(0, blocks) for blocks in (1, 4, 5, 16, 17)]) == [0, 0, 1, 1, 2]
    as_it_comes, _ = make_maker(batch_invariant=True, cuda_graphs=None)
    assert as_it_comes.kinds_of([row(0, blocks) for blocks in (1, 5, 17)]) == [0] * 3


def test_long_and_short_streams_side_by_side_are_what_they_are_alone(
    tiny_model: VoxtralModel, tiny_checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    maker = RequestMaker(tiny_checkpoint)
    requests = [maker.request("Hello.", seed=seed, max_frames=3 + 3 * seed) for seed in (0, 1)]
    num_positions = len(requests[0].prompt.token_ids) + 4
    # The longer one outgrows the usual tables in mid-stream.
    monkeypatch.setattr(frame_maker, "POSITIONS_PER_SEQUENCE", num_positions)
    options = EngineOptions(cuda_graphs=True, batch_invariant=True, max_batch=2, block_size=2)

    def speak(chosen: list[int]) -> list[np.ndarray]:
        engine = Engine(tiny_model, options)
        try:
            handles = [engine.submit(replace(requests[number])) for number in chosen]
            return [collect(handle) for handle in handles]
        finally:
            engine.close()

    together = speak([0, 1])
    for number in (0, 1):
        assert np.array_equal(speak([number])[0], together[number])


# Ways that fail.


class Broken:
    """Lets parts of the computation fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: Exception, parts: set[str]) -> None:
        self.num_failures = 0

        def failing(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
            def run(*given: Any, **named: Any) -> Any:
                if name in parts:
                    self.num_failures += 1
                    raise error
                return work(*given, **named)

            return run

        from voxtral.engine.kv_cache import SpanMemory, StepMemory
        from voxtral.model.acoustic import AcousticTransformer
        from voxtral.model.folded import FoldedFlow

        for owner, method, name in (
            (StepMemory, "attend_rotating", "static"),
            (FoldedFlow, "flow_states", "folded"),
            (SpanMemory, "attend", "spans"),
            (AcousticTransformer, "flow_states", "plain"),
        ):
            monkeypatch.setattr(owner, method, failing(name, getattr(owner, method)))


ERRORS = [
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling cublasLtMatmul"),
    RuntimeError("CUDA error: no kernel image is available for execution on the device"),
    NotImplementedError("Could not run 'aten::x' with arguments from the 'CUDA' backend"),
    AssertionError("key pages must be contiguous"),
]


@pytest.mark.parametrize(
    ("error", "parts", "closed"),
    [
        (ERRORS[0], {"static"}, {"static"}),
        (ERRORS[1], {"folded"}, {"folded"}),
        (ERRORS[2], {"static", "folded"}, {"static", "folded"}),
        (ERRORS[3], {"static"}, {"static"}),
    ],
    ids=lambda given: "-".join(sorted(given)) if isinstance(given, set) else str(given)[:16],
)
def test_the_same_frame_is_made_by_the_next_way(
    parts: set[str],
    closed: set[str],
    error: Exception,
    tiny_model: VoxtralModel,
    tiny_checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    maker, paths = RequestMaker(tiny_checkpoint), Paths("NVIDIA L4")

    def speak() -> np.ndarray:
        options = EngineOptions(cuda_graphs=True, max_batch=1)
        engine = Engine(tiny_model, options, paths=paths)
        try:
            return collect(engine.submit(maker.request("Hello.", seed=3, max_frames=2)))
        finally:
            engine.close()

    expected = speak()
    broken = Broken(monkeypatch, error, parts)
    heard = speak()
    assert set(paths.closed) == closed
    np.testing.assert_allclose(heard, expected, atol=1e-4)
    num_failures = broken.num_failures
    np.testing.assert_allclose(speak(), expected, atol=1e-4)
    assert broken.num_failures == num_failures  # nobody tries it again
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert len(lines) == len(closed)
    assert all(type(error).__name__ in line for line in lines)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), EngineError),
        (torch.OutOfMemoryError("CUDA out of memory"), EngineError),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), EngineStoppedError),
    ],
)
def test_what_no_way_cures_closes_nothing_and_is_told_as_it_was(
    error: Exception,
    expected: type[EngineError],
    tiny_model: VoxtralModel,
    tiny_checkpoint: Checkpoint,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    paths = Paths()
    Broken(monkeypatch, error, {"static", "spans", "folded", "plain"})
    # The prompt has a way of its own.
    monkeypatch.setattr("voxtral.engine.runner.Runner.prefill", lambda self, rows: [set_prefilled(row) for row in rows])
    engine = Engine(tiny_model, EngineOptions(cuda_graphs=True, max_batch=2), paths=paths)
    try:
        with pytest.raises(expected, match=r"shapes|out of memory|illegal memory"):
            collect(engine.submit(RequestMaker(tiny_checkpoint).request("Hello.")))
        assert paths.closed == {}
    finally:
        engine.close()


def set_prefilled(row: Any) -> None:
    row.num_prefilled = row.num_prompt - 1
