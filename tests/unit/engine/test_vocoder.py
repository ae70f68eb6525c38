"""Frames to audio with a codec of a few lines: what is due, what is decoded together, and who fails alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from fake_cuda import FakeCuda
from fakes import SAMPLE_RATE, SAMPLES_PER_FRAME, fake_request
from voxtral.engine.audio_maker import AudioMaker
from voxtral.engine.blocks import Reservation
from voxtral.engine.options import EngineOptions
from voxtral.engine.paths import Paths
from voxtral.engine.protocol import RowOutput
from voxtral.engine.row import FrameTokens, Row
from voxtral.engine.vocoder import Due, Vocoder
from voxtral.errors import NumericsError

CPU = torch.device("cpu")


@dataclass
class CountingState:
    """Remembers how many frames a stream has had; streams of equal `kind` can be decoded side by side."""

    kind: str = ""
    num_frames: int = 0
    noise_key: tuple[int, int] = (0, 0)

    @property
    def shape(self) -> str:
        return self.kind

    @classmethod
    def stack(cls, states: Sequence[CountingState]) -> CountingState:
        return cls(states[0].kind, min(state.num_frames for state in states))

    def take_row(self, stacked: CountingState, row: int, num_frames: int) -> None:
        self.num_frames += num_frames


class EchoCodec:
    """Says each frame's first code, SAMPLES_PER_FRAME times; refuses 13, and a flush gives nothing."""

    def __init__(self) -> None:
        self.passes: list[list[list[int]]] = []  # first codes, by pass and stream

    def init_codec_state(self, noise_key: tuple[int, int] = (0, 0)) -> CountingState:
        return CountingState(noise_key=noise_key)

    def decode_rows(self, audio_tokens: torch.Tensor, state: CountingState, *, is_last: bool = False) -> torch.Tensor:
        self.passes.append(audio_tokens[..., 0].tolist())
        if (audio_tokens == 13).any():
            raise RuntimeError("thirteen")
        state.num_frames += audio_tokens.shape[1]
        said = audio_tokens[..., 0].float()
        return said.where(said != 99, math.nan).repeat_interleave(SAMPLES_PER_FRAME, dim=1)

    def flush_codec(self, state: CountingState) -> torch.Tensor:
        return torch.zeros(0)


def make_vocoder(codec: EchoCodec, **options: Any) -> Vocoder:
    return Vocoder(codec, EngineOptions(**options), CPU, torch.float32, SAMPLE_RATE)


def make_row(kind: str = "", max_frames: int = 100, noise_key: tuple[int, int] = (0, 0)) -> Row:
    state = CountingState(kind, noise_key=noise_key)
    return Row(fake_request(max_frames=max_frames), None, Reservation(), 0, state, torch.zeros(0, 1))


def add(vocoder: Vocoder, row: Row, *codes: int) -> list[Due]:
    """Give a row frames, and return what they made due."""
    outputs = [vocoder.add(row, FrameTokens(torch.tensor([[code, 0]]), 0)) for code in codes]
    return [output for output in outputs if isinstance(output, Due)]


def decode(vocoder: Vocoder, due: list[Due]) -> dict[Row, RowOutput | Exception]:
    return dict(vocoder.decode(due))


def test_chunks_follow_the_schedule_and_say_where_they_begin() -> None:
    vocoder, row = make_vocoder(EchoCodec(), chunk_frames=(1, 2, 3)), make_row()
    starts, lengths = [], []
    for due in add(vocoder, row, *range(9)):
        output = decode(vocoder, [due])[row]
        assert isinstance(output, RowOutput)
        assert output.chunk is not None
        assert output.chunk.sample_rate == SAMPLE_RATE
        starts.append(output.chunk.start)
        lengths.append(len(output.chunk))
    assert [length // SAMPLES_PER_FRAME for length in lengths] == [1, 2, 3, 3]
    assert starts == [0, *torch.tensor(lengths).cumsum(0).tolist()[:-1]]


def test_the_last_frame_of_the_budget_brings_all_that_waits() -> None:
    vocoder, row = make_vocoder(EchoCodec(), chunk_frames=(1, 8)), make_row(max_frames=3)
    due = add(vocoder, row, 1, 2, 3)
    assert [(len(part.frames), part.stop) for part in due] == [(1, None), (2, "length")]


def test_an_end_before_all_audio_needs_no_codec_and_one_after_it_flushes() -> None:
    vocoder, empty, spoken = make_vocoder(EchoCodec(), chunk_frames=(1,)), make_row(), make_row()
    output = vocoder.end(empty)
    assert isinstance(output, RowOutput)
    assert (output.chunk, output.stop) == (None, "end")
    decode(vocoder, add(vocoder, spoken, 1))
    end = vocoder.end(spoken)
    assert isinstance(end, Due)
    flushed = decode(vocoder, [end])[spoken]
    assert isinstance(flushed, RowOutput)
    assert (flushed.chunk, flushed.stop) == (None, "end")


@pytest.mark.parametrize("batch_invariant", [False, True])
def test_streams_of_one_shape_are_decoded_together_unless_each_is_to_be_alone(*, batch_invariant: bool) -> None:
    codec = EchoCodec()
    vocoder = make_vocoder(codec, chunk_frames=(1,), batch_invariant=batch_invariant)
    rows = [make_row("a"), make_row("b"), make_row("a")]
    due = [part for code, row in enumerate(rows) for part in add(vocoder, row, code)]
    outputs = decode(vocoder, due)
    assert codec.passes == ([[[0]], [[1]], [[2]]] if batch_invariant else [[[0], [2]], [[1]]])
    for code, row in enumerate(rows):
        output = outputs[row]
        assert isinstance(output, RowOutput)
        assert output.chunk is not None
        assert output.chunk.samples.tolist() == [code] * SAMPLES_PER_FRAME
        # Of its own: a chunk must not keep the audio of its neighbours alive.
        assert output.chunk.samples.base is None


def test_first_audio_comes_first() -> None:
    codec = EchoCodec()
    vocoder, old, new = make_vocoder(codec, chunk_frames=(1,)), make_row("a"), make_row("b")
    decode(vocoder, add(vocoder, old, 1))
    due = [*add(vocoder, old, 2), *add(vocoder, new, 3)]
    assert [row for row, _ in vocoder.decode(due)] == [new, old]


def test_of_several_that_fail_together_the_culprit_fails_alone() -> None:
    vocoder, rows = make_vocoder(EchoCodec(), chunk_frames=(1,)), [make_row(), make_row(), make_row()]
    outputs = decode(
        vocoder, [part for code, row in zip((1, 13, 99), rows, strict=True) for part in add(vocoder, row, code)]
    )
    assert isinstance(outputs[rows[0]], RowOutput)
    assert str(outputs[rows[1]]) == "thirteen"
    assert isinstance(outputs[rows[2]], NumericsError)
    assert "the audio is not finite at frame 1" in str(outputs[rows[2]])


@pytest.mark.parametrize("has_stream", [True, False])
def test_on_a_gpu_audio_goes_before_frames_or_between_them(has_stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = FakeCuda().install(monkeypatch)
    gpu = torch.device("cuda:0")
    Vocoder(EchoCodec(), EngineOptions(), gpu, torch.float32, SAMPLE_RATE, has_stream=has_stream)
    # Lower numbers go first.
    assert [(stream.device, stream.priority) for stream in cuda.streams] == ([(gpu, -1)] if has_stream else [])


def test_a_warm_up_meets_every_chunk_of_the_schedule() -> None:
    class Counting(EchoCodec):
        def decode_rows(self, audio_tokens: torch.Tensor, state: Any, *, is_last: bool = False) -> torch.Tensor:
            sizes.append(tuple(audio_tokens.shape))
            return super().decode_rows(audio_tokens, state, is_last=is_last)

    sizes: list[tuple[int, ...]] = []
    assert not list(make_vocoder(Counting(), chunk_frames=(1, 2, 5)).warm_up(3))
    assert sizes == [(1, 1, 3), (1, 2, 3), (1, 5, 3), (1, 5, 3)]


# In static shapes, and handed over late.


class EchoStep:
    """The same codec in static shapes; its state is the number of frames, and it refuses what it is told to."""

    width = 1
    dtype = torch.float32
    noise_per_frame = 1

    def __init__(self, refused: int = 13) -> None:
        self.refused = refused
        self.passes: list[list[list[int]]] = []
        self.noises: list[list[float]] = []  # first noise, by pass and stream

    def draw_noise(self, streams: Sequence[tuple[tuple[int, int], int]], num_frames: int) -> torch.Tensor:
        first = [100.0 * seed + 10 * segment + frame for (seed, segment), frame in streams]
        return torch.tensor(first)[:, None] + torch.arange(num_frames)

    def __call__(
        self, audio_tokens: torch.Tensor, packed: torch.Tensor, before: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        assert noise.shape == audio_tokens.shape[:2]
        self.passes.append(audio_tokens[..., 0].tolist())
        self.noises.append(noise[:, 0].tolist())
        assert torch.equal(packed[:, 0], before.float())
        if (audio_tokens == self.refused).any():
            raise RuntimeError("refused in static shapes")
        said = audio_tokens[..., 0].float().repeat_interleave(SAMPLES_PER_FRAME, dim=1)
        return said, packed + audio_tokens.shape[1]

    def unpack(self, packed: torch.Tensor, num_frames: int, noise_key: tuple[int, int]) -> CountingState:
        assert packed.tolist() == [num_frames]
        return CountingState("unpacked", num_frames, noise_key)


class Event:
    """A mark that passes when the test says so, or when it is waited for."""

    def __init__(self) -> None:
        self.has_passed = False
        self.was_awaited = False

    def query(self) -> bool:
        return self.has_passed

    def synchronize(self) -> None:
        self.was_awaited = not self.has_passed
        self.has_passed = True


class LateVocoder(Vocoder):
    """Hands audio over when it is found made, as on a GPU."""

    is_late = True

    def _decode_static(self, maker: AudioMaker, members: list[Due]) -> Any:
        decoding = super()._decode_static(maker, members)
        if isinstance(decoding, list):
            return decoding
        self.events = [*getattr(self, "events", []), Event()]
        return replace(decoding, made=self.events[-1])


def make_static(
    step: EchoStep, paths: Paths | None = None, kind: type[Vocoder] = Vocoder, codec: EchoCodec | None = None
) -> Any:
    options = EngineOptions(chunk_frames=(1, 2, 2, 4))
    maker = AudioMaker(step, options, CPU, 4, 2)
    return kind(codec or EchoCodec(), options, CPU, torch.float32, SAMPLE_RATE, maker=maker, paths=paths or Paths())


def said(output: RowOutput | Exception) -> list[float]:
    assert isinstance(output, RowOutput)
    assert output.chunk is not None
    return output.chunk.samples[::SAMPLES_PER_FRAME].tolist()


def test_streams_of_any_age_share_a_call_and_a_last_chunk_is_cut_to_what_is_said() -> None:
    step = EchoStep()
    vocoder, old, new = make_static(step), make_row(), make_row(max_frames=1)
    decode(vocoder, add(vocoder, old, 1))
    last = vocoder.end(make_row())
    assert isinstance(last, RowOutput)
    outputs = decode(vocoder, [*add(vocoder, old, 2, 3), *add(vocoder, new, 4)])
    assert [said(outputs[row]) for row in (old, new)] == [[2, 3], [4]]
    assert step.passes == [[[1]], [[4]], [[2, 3]]]
    decode(vocoder, add(vocoder, old, 5, 6))
    assert add(vocoder, old, 7, 8, 9) == []
    (output,) = decode(vocoder, [vocoder.end(old)]).values()
    assert said(output) == [7, 8, 9]
    assert output.stop == "end"
    assert step.passes[-1] == [[7, 8, 9, 9]]  # filled up
    assert vocoder.num_slots == 2
    for row in (old, new):
        vocoder.release(row)
    assert vocoder.num_slots == 0


def test_each_stream_has_the_noise_of_its_key_from_the_frame_on_where_it_is() -> None:
    step = EchoStep()
    vocoder, old, new = make_static(step), make_row(noise_key=(5, 2)), make_row(noise_key=(6, 0))
    decode(vocoder, add(vocoder, old, 1))
    decode(vocoder, add(vocoder, old, 2, 3))
    decode(vocoder, [*add(vocoder, new, 4), *add(vocoder, old, 5, 6)])
    assert step.noises == [[520], [521], [600], [523]]


def test_where_static_shapes_fail_each_stream_goes_on_by_itself() -> None:
    paths, codec, keys = Paths(), EchoCodec(), [(3, 0), (4, 1)]
    vocoder, rows = make_static(EchoStep(refused=7), paths, codec=codec), [make_row(noise_key=key) for key in keys]
    decode(vocoder, [part for row in rows for part in add(vocoder, row, 1)])
    outputs = decode(vocoder, [*add(vocoder, rows[0], 2, 7), *add(vocoder, rows[1], 2, 3)])
    assert [said(outputs[row]) for row in rows] == [[2, 7], [2, 3]]
    assert paths.closed == {"codec_step": "RuntimeError: refused in static shapes"}
    outputs = decode(vocoder, [part for row in rows for part in add(vocoder, row, 4, 5)])
    assert [said(outputs[row]) for row in rows] == [[4, 5], [4, 5]]
    assert [row.codec_state for row in rows] == [CountingState("unpacked", 5, key) for key in keys]
    assert vocoder.num_slots == 0
    # And nobody begins there any more.
    before = len(codec.passes)
    decode(vocoder, add(vocoder, make_row(), 1))
    assert len(codec.passes) == before + 1


def test_where_no_way_works_the_culprit_fails_alone_and_the_path_stays_open() -> None:
    paths = Paths()
    vocoder, rows = make_static(EchoStep(), paths), [make_row(), make_row(), make_row()]
    outputs = decode(
        vocoder, [part for code, row in zip((1, 13, 3), rows, strict=True) for part in add(vocoder, row, code)]
    )
    assert [said(outputs[row]) for row in (rows[0], rows[2])] == [[1], [3]]
    assert str(outputs[rows[1]]) == "refused in static shapes"
    assert not paths.closed


def test_short_memory_is_told_and_closes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = Paths()
    vocoder, row = make_static(EchoStep(), paths), make_row()
    short = torch.OutOfMemoryError("CUDA out of memory")

    def fail(*_: Any) -> None:
        raise short

    monkeypatch.setattr(EchoStep, "__call__", fail)
    assert decode(vocoder, add(vocoder, row, 1))[row] is short
    assert not paths.closed


def test_a_state_that_was_swapped_out_comes_back_with_the_next_chunk() -> None:
    vocoder, row, other = make_static(EchoStep()), make_row(), make_row()
    decode(vocoder, add(vocoder, row, 1))
    vocoder.swap_out(row)
    assert vocoder.num_slots == 0
    decode(vocoder, add(vocoder, other, 9))  # takes the slot
    assert said(decode(vocoder, add(vocoder, row, 2, 3))[row]) == [2, 3]
    assert vocoder.num_slots == 2


def test_audio_is_handed_over_when_it_is_made_in_order_and_only_first_audio_is_waited_for() -> None:
    vocoder, old, new = make_static(EchoStep(), kind=LateVocoder), make_row(), make_row()
    vocoder.start(add(vocoder, old, 1))
    assert [row for row, _ in vocoder.hand_over(wait=False)] == [old]
    assert vocoder.events[0].was_awaited  # its listener waits too
    vocoder.start(add(vocoder, old, 2, 3))
    assert list(vocoder.hand_over(wait=False)) == []
    assert vocoder.has_audio
    # What comes behind waits its turn, though it is there: the end of a stream must not come before its audio.
    assert vocoder.follow((old, RowOutput(None, 3, "end")))
    assert not vocoder.follow((new, RowOutput(None, 0, "end")))
    assert list(vocoder.hand_over(wait=False)) == []
    vocoder.events[1].has_passed = True
    outputs = [output for _, output in vocoder.hand_over(wait=False)]
    assert said(outputs[0]) == [2, 3]
    assert outputs[1].stop == "end"
    assert not vocoder.events[1].was_awaited
    assert not vocoder.has_audio


def test_first_audio_brings_what_was_begun_before_it() -> None:
    vocoder, old, new = make_static(EchoStep(), kind=LateVocoder), make_row(), make_row()
    vocoder.start(add(vocoder, old, 1))
    assert len(list(vocoder.hand_over(wait=True))) == 1
    vocoder.start(add(vocoder, old, 2, 3))
    vocoder.start(add(vocoder, new, 4))
    assert [row for row, _ in vocoder.hand_over(wait=False)] == [old, new]
