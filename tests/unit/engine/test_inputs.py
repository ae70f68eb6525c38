"""A frame's inputs: what is written is what is read, in one copy, and no buffer is written while a copy may read it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from launches import count_launches
from voxtral.engine import inputs as module
from voxtral.engine.frame import FrameOutputs
from voxtral.engine.graphs import FrameGraphs, Recording
from voxtral.engine.inputs import FrameInputs, HostInputs, InputStage, RowInput, gather_inputs

CPU = torch.device("cpu")

INT64 = st.integers(0, 2**62)
ROW = st.builds(
    RowInput,
    slot=INT64,
    position=st.integers(0, 2**31 - 2),
    kv_slot=INT64,
    blocks=st.lists(st.integers(0, 2**31 - 1), max_size=5),
    noise=st.lists(st.floats(width=32, allow_nan=False), min_size=3, max_size=3).map(
        lambda values: np.array(values, dtype=np.float32)
    ),
    guidance_scale=st.floats(0, 10, width=32),
    may_end=st.booleans(),
    text=st.none() | st.tuples(st.integers(0, 2**30), st.integers(0, 2**30)).map(sorted).map(tuple),
)


def gather_one_by_one(rows: list[RowInput], num_blocks: int, *, has_texts: bool) -> list[torch.Tensor]:
    """A tensor for each input, as they were before they shared a buffer."""
    tables = torch.zeros(len(rows), num_blocks, dtype=torch.int32)
    texts = [row.text or (0, 0) for row in rows] if has_texts else []
    for index, row in enumerate(rows):
        tables[index, : len(row.blocks)] = torch.tensor(row.blocks, dtype=torch.int32)
    return [
        torch.tensor([row.slot for row in rows]),
        torch.tensor([row.position for row in rows]),
        torch.tensor([row.kv_slot for row in rows]),
        torch.tensor([row.position + 1 for row in rows], dtype=torch.int32),
        tables,
        torch.stack([torch.as_tensor(row.noise) for row in rows]),
        torch.tensor([row.guidance_scale for row in rows], dtype=torch.float32),
        torch.tensor([row.may_end for row in rows]),
        torch.tensor([start for start, _ in texts], dtype=torch.int32),
        torch.tensor([stop - start for start, stop in texts], dtype=torch.int32),
    ]


def parts(inputs: FrameInputs) -> list[torch.Tensor]:
    return [getattr(inputs, part.name) for part in fields(inputs) if part.name != "packed"]


def row(number: int, num_blocks: int = 2) -> RowInput:
    return RowInput(number, number + 10, number + 20, [number] * num_blocks, np.full(3, number, np.float32), 1.2, True)


@given(st.lists(ROW, min_size=1, max_size=9), st.lists(ROW, min_size=9, max_size=9), st.integers(5, 8), st.booleans())
def test_what_is_packed_is_what_it_replaces(
    rows: list[RowInput], earlier: list[RowInput], num_blocks: int, has_texts: bool
) -> None:
    host = HostInputs(len(rows), num_blocks, 3, has_texts=has_texts)
    host.write(earlier[: len(rows)])  # nothing of it may be left
    there = FrameInputs.blank(len(rows), num_blocks, 3, has_texts=has_texts)
    there.copy_(host.write(rows))
    for made in (there, gather_inputs(rows, num_blocks=num_blocks, has_texts=has_texts), there.to(CPU)):
        assert (made.num_rows, made.num_blocks) == (len(rows), num_blocks)
        for packed, alone in zip(parts(made), gather_one_by_one(rows, num_blocks, has_texts=has_texts), strict=True):
            assert (packed.dtype, packed.shape) == (alone.dtype, alone.shape)
            assert torch.equal(packed, alone)


@given(st.integers(1, 70), st.integers(1, 130), st.integers(1, 40))
def test_inputs_lie_side_by_side_where_kernels_read_whole_words(num_rows: int, num_blocks: int, size: int) -> None:
    inputs = FrameInputs.blank(num_rows, num_blocks, size, has_texts=True)
    base, end = inputs.packed.data_ptr(), 0
    for part in parts(inputs):
        start = part.data_ptr() - base
        assert start % 64 == 0
        assert start >= end
        assert part.is_contiguous()
        end = start + part.nbytes
    assert end <= inputs.packed.nbytes


class _Copies(TorchDispatchMode):
    """Counts copies, and kernels that are no copies."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[int] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.__name__.startswith(("copy_", "_to_copy")):
            self.copies.append(args[0].nbytes)
        return func(*args, **(kwargs or {}))


def test_a_frame_is_one_copy_in_and_no_kernel_to_take_it_apart() -> None:
    static = FrameGraphs(lambda inputs: outputs_of(inputs), lambda *size: FrameInputs.blank(*size, 3), CPU)
    stage = InputStage(4, 6, 3, CPU)
    given_ = stage.write([row(number) for number in range(4)])
    static.prepare(4, 6)
    with _Copies() as seen:
        static.run(given_)
    assert seen.copies == [given_.packed.nbytes]
    meta = FrameInputs.blank(4, 6, 3, device="meta")
    assert set(count_launches(lambda: FrameInputs.blank(4, 6, 3, device="meta"))) <= {"zeros", "zero_", "fill_"}
    assert count_launches(lambda: meta.copy_(meta)).total() == 1


def outputs_of(inputs: FrameInputs) -> FrameOutputs:
    return FrameOutputs(inputs.slots[:, None], inputs.may_end, inputs.noise, inputs.noise)


class Mark:
    """An event that has not passed before somebody waits for it."""

    def __init__(self) -> None:
        self.num_waits = 0

    def synchronize(self) -> None:
        self.num_waits += 1


def test_a_buffer_is_written_again_only_after_the_copy_that_reads_it(monkeypatch: pytest.MonkeyPatch) -> None:
    marks: list[Mark] = []

    def mark(device: torch.device) -> Mark:
        marks.append(Mark())
        return marks[-1]

    monkeypatch.setattr(module, "mark", mark)
    stage = InputStage(1, 2, 3, CPU)
    written: list[FrameInputs] = []
    for number in range(5):
        before = [one.num_waits for one in marks]
        inputs = stage.write([row(number)])
        # The mark of the copy before the last has been waited for, and no other: the last may be under way.
        assert [one.num_waits - seen for one, seen in zip(marks, before, strict=True)] == [
            int(index == number - 2) for index in range(number)
        ]
        if written:
            assert written[-1].slots.tolist() == [number - 1]
        stage.sent()
        written.append(inputs)
    assert written[0] is written[2] is written[4]
    assert written[1] is written[3]
    assert written[0].packed.data_ptr() != written[1].packed.data_ptr()


def test_a_frame_that_fails_leaves_its_mark_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its copy may be under way when the step is given up."""
    from voxtral.engine.frame_maker import FrameMaker, Padding

    sent: list[bool] = []
    monkeypatch.setattr(InputStage, "sent", lambda self: sent.append(True))
    maker: Any = object.__new__(FrameMaker)
    maker._options = type("Options", (), {"batch_invariant": False})()
    maker._max_batch, maker._stages, maker._padding = 2, {}, Padding(2, 4, 3)
    maker._model = type("Model", (), {"device": CPU})()
    with pytest.raises(AttributeError):
        maker._in_static_buffers([row(0)], 7, None, None, 4)
    assert sent == [True]


def test_a_replayed_frame_reads_what_was_copied() -> None:
    class Recorder:
        def record(self, compute: Any) -> Recording:
            outputs = compute()
            return Recording(lambda: outputs.audio_tokens.copy_(compute().audio_tokens), outputs)

    static = FrameGraphs(outputs_of, lambda *size: FrameInputs.blank(*size, 3), CPU, Recorder())
    stage = InputStage(2, 2, 3, CPU)
    for number in range(4):
        made = static.run(stage.write([row(number), row(number + 1)]))
        stage.sent()
        assert made.audio_tokens.flatten().tolist() == [number, number + 1]
