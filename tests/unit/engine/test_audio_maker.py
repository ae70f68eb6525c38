"""Audio in static shapes: how many kernels a call is, that it never waits, and what happens to sizes and slots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from benchmarks.subjects import config_of
from launches import count_launches
from live_memory import LiveMemory
from voxtral.engine import audio_maker, graphs
from voxtral.engine.audio_maker import AudioMaker, Part
from voxtral.engine.graphs import CaptureError, Recording
from voxtral.engine.needs import Needs
from voxtral.engine.options import EngineOptions
from voxtral.engine.paths import Paths
from voxtral.engine.row import FrameTokens
from voxtral.model.codec_step import CodecStep
from voxtral.model.kernels import dispatch
from voxtral.model.source_filter import SourceFilterProjection
from voxtral.model.voxtral import VoxtralModel

CPU, META = torch.device("cpu"), torch.device("meta")
CHUNKS = sorted(set(EngineOptions().chunk_frames))


class ReplayingRecorder:
    """Captures by computing, and replays by computing again into the same buffers."""

    def __init__(self) -> None:
        self.num_records = 0

    def record(self, compute: Callable[[], Any]) -> Recording[Any]:
        self.num_records += 1
        outputs = compute()

        def replay() -> None:
            for kept, made in zip(outputs, compute(), strict=True):
                kept.copy_(made)

        return Recording(replay, outputs)


class FailingRecorder:
    """Never captures."""

    def __init__(self) -> None:
        self.num_records = 0

    def record(self, compute: Callable[[], Any]) -> Recording[Any]:
        self.num_records += 1
        raise CaptureError("capture failed: no")


def make_maker(model: VoxtralModel, recorder: Any = None, paths: Paths | None = None, **options: Any) -> AudioMaker:
    step = model.make_codec_step()
    assert step is not None
    num_codebooks = model.config.codebooks.num_codebooks
    return AudioMaker(step, EngineOptions(**options), CPU, 4, num_codebooks, paths, recorder)


def draw_frames(model: VoxtralModel, num_rows: int, num_frames: int) -> list[torch.Tensor]:
    """Draw the tokens of some steps, [rows, K] each."""
    books, generator = model.config.codebooks, torch.Generator().manual_seed(0)
    return [
        torch.randint(2, books.acoustic_vocab, (num_rows, books.num_codebooks), generator=generator)
        for _ in range(num_frames)
    ]


def key_of(row: int) -> tuple[int, int]:
    return 7 + row, row


def whole(model: VoxtralModel, steps: list[torch.Tensor], row: int) -> torch.Tensor:
    return model.decode_rows(torch.stack(steps)[None, :, row], model.init_codec_state(key_of(row)), is_last=True)[0]


def assert_near(made: torch.Tensor, expected: torch.Tensor) -> None:
    # Magnitudes of filters are exponentials: random ones are loud, and errors as much larger.
    torch.testing.assert_close(made, expected, atol=1e-5 * max(1.0, float(expected.abs().max())), rtol=0)


@pytest.fixture(params=["patches", "source"])
def model(request: pytest.FixtureRequest, tiny_model: VoxtralModel, source_filter_model: VoxtralModel) -> VoxtralModel:
    return tiny_model if request.param == "patches" else source_filter_model


@pytest.mark.parametrize(
    "kind", [None, ReplayingRecorder, FailingRecorder], ids=lambda kind: getattr(kind, "__name__", "none")
)
@torch.inference_mode()
def test_rows_come_and_go_and_each_hears_itself(
    kind: type[Any] | None, model: VoxtralModel, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = None if kind is None else kind()
    maker = make_maker(model, recorder, chunk_frames=(1, 2, 4))
    steps = draw_frames(model, 3, 11)
    hop = model.config.samples_per_frame
    slots = {row: maker.take_slot() for row in range(3)}
    heard: dict[int, list[torch.Tensor]] = {row: [] for row in range(3)}
    num_had = dict.fromkeys(range(3), 0)

    def call(*rows: int, num_frames: int) -> None:
        parts = [
            Part(
                slots[row],
                num_had[row],
                [FrameTokens(steps[number], row) for number in range(num_had[row], num_had[row] + num_frames)],
                key_of(row),
            )
            for row in rows
        ]
        samples, is_finite = maker.make(parts)
        assert is_finite[: len(rows)].all()
        for index, row in enumerate(rows):
            heard[row].append(samples[index, : num_frames * hop].clone())
            num_had[row] += num_frames

    call(0, num_frames=1)
    call(0, 1, num_frames=1)  # one that goes on beside one that begins
    call(2, 0, 1, num_frames=2)  # and other places in the call
    call(1, num_frames=4)
    call(0, num_frames=3)  # a last chunk, filled up
    call(2, 1, num_frames=4)
    for row, parts in heard.items():
        expected = whole(model, steps[: num_had[row]], row)
        assert_near(torch.cat(parts), expected)
    is_recorded = isinstance(recorder, ReplayingRecorder)
    assert maker.sizes == dict.fromkeys([(1, 1), (1, 2), (2, 4), (4, 1), (4, 2)], is_recorded)
    # Each size is tried once, and each failure told once.
    assert recorder is None or recorder.num_records == 5
    told = [record for record in caplog.records if "was not captured (capture failed: no)" in record.getMessage()]
    assert len(told) == (5 if isinstance(recorder, FailingRecorder) else 0)


@torch.inference_mode()
def test_a_slot_that_is_given_on_begins_anew_and_a_state_survives_a_while_elsewhere(model: VoxtralModel) -> None:
    maker, steps = make_maker(model), draw_frames(model, 2, 4)
    slot = maker.take_slot()

    def call(row: int, number: int) -> torch.Tensor:
        return maker.make([Part(slot, number, [FrameTokens(steps[number], row)], key_of(row))])[0][0].clone()

    first = [call(0, number) for number in range(2)]
    saved = maker.save(slot)
    maker.give_back(slot)
    assert (maker.num_taken, maker.take_slot(), maker.num_taken) == (0, slot, 1)
    other = torch.cat([call(1, number) for number in range(2)])
    assert_near(other, whole(model, steps[:2], 1))
    maker.restore(slot, saved)
    rest = [call(0, number) for number in range(2, 4)]
    assert_near(torch.cat(first + rest), whole(model, steps, 0))


@torch.inference_mode()
def test_what_is_not_finite_is_told_of_its_row_alone(model: VoxtralModel) -> None:
    maker, (step,) = make_maker(model), draw_frames(model, 2, 1)
    slots = [maker.take_slot() for _ in range(2)]
    maker.make([Part(slot, 0, [FrameTokens(step, row)]) for row, slot in enumerate(slots)])
    for broken in (torch.nan, torch.inf):
        maker.restore(slots[1], torch.full_like(maker.save(slots[1]), broken))
        parts = [Part(slot, 1, [FrameTokens(step, row)]) for row, slot in enumerate(slots)]
        assert maker.make(parts)[1][:2].tolist() == [True, False]


@torch.inference_mode()
def test_sizes_are_captured_the_largest_first_and_none_where_graphs_are_off(
    tiny_model: VoxtralModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = ReplayingRecorder()
    made = list(make_maker(tiny_model, recorder, chunk_frames=(1, 1, 2)).prepare())
    assert made == [(size, rows, True) for rows in (4, 2, 1) for size in (2, 1)]
    invariant = make_maker(tiny_model, recorder, chunk_frames=(1, 1, 2), batch_invariant=True)
    assert [rows for _, rows, _ in invariant.prepare()] == [1, 1]
    # Nothing is tried where the path is closed, and where the process refuses captures nothing is prepared.
    recorder.num_records = 0
    closed = make_maker(tiny_model, recorder, Paths("here", {"graphs": "off"}))
    assert {is_captured for _, _, is_captured in closed.prepare()} == {False}
    monkeypatch.setattr(audio_maker, "capture_refusal", lambda: "it failed before")
    assert list(make_maker(tiny_model, recorder).prepare()) == []
    assert list(make_maker(tiny_model).prepare()) == []
    assert recorder.num_records == 0


def test_the_same_switch_as_for_frames_turns_graphs_off(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda:0")
    for option, variable, captures in ((None, "", True), (False, "", False), (None, "0", False), (True, "0", False)):
        monkeypatch.setenv("VOXTRAL_CUDA_GRAPHS", variable)
        assert (graphs.usual_recorder(gpu, EngineOptions(cuda_graphs=option)) is not None) is captures
    assert graphs.usual_recorder(CPU, EngineOptions()) is None


def test_a_call_never_waits_for_the_device(model: VoxtralModel) -> None:
    # Fake tensors hold no values: any branch, index, size or loop on a value raises.
    maker = make_maker(model)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        buffers = audio_maker._Buffers(
            mode.from_tensor(torch.zeros(3 * 7, dtype=torch.int64)),
            mode.from_tensor(torch.full((3, 4, model.config.codebooks.num_codebooks), 2)),
            mode.from_tensor(torch.zeros(3, 4 * maker._call.codec.noise_per_frame)),
            3,
        )
        states = mode.from_tensor(maker._call.states)
        samples, is_finite = audio_maker._Call(maker._call.codec, states)(buffers)
    assert samples.shape == (3, 4 * model.config.samples_per_frame)
    assert is_finite.shape == (3,)


# At the published shape, without numbers.

CONFIG = config_of("4b-random")
needs_triton = pytest.mark.skipif(not dispatch.has_triton(), reason="counting launches needs Triton")


@pytest.fixture(scope="module")
def published() -> AudioMaker:
    with META:
        model = VoxtralModel(CONFIG, has_encoder=False).bfloat16().requires_grad_(False)
    for module in model.modules():
        for name, table in module.named_buffers(recurse=False):
            setattr(module, name, table.to("meta"))
    model.codec.fuse()
    step, num_codebooks = CodecStep(model.codec), CONFIG.codebooks.num_codebooks
    return AudioMaker(step, EngineOptions(), META, 64, num_codebooks)


def meta_parts(num_rows: int, num_frames: int) -> list[Part]:
    """Rows at different places of their chunks, whose frames come from as many steps as a chunk has."""
    steps = [torch.empty(num_rows, CONFIG.codebooks.num_codebooks, dtype=torch.int64, device=META) for _ in range(9)]
    return [
        Part(row, row, [FrameTokens(steps[number + row % 2], row) for number in range(num_frames)])
        for row in range(num_rows)
    ]


def count_call(maker: AudioMaker, num_rows: int, num_frames: int) -> Counter[str]:
    parts = meta_parts(num_rows, num_frames)
    maker._buffers_for(num_frames, num_rows)  # as a capture finds them
    return count_launches(lambda: maker.make(parts))


@needs_triton
def test_a_call_is_few_kernels_at_any_number_of_rows_and_frames(published: AudioMaker) -> None:
    counts = {(rows, frames): count_call(published, rows, frames) for rows in (1, 8, 32) for frames in CHUNKS}
    layers = sum(getattr(block, "num_layers", 0) for block in CONFIG.codec.decoder_blocks)
    for size, count in counts.items():
        # One launch more where frames come from several steps, which are put one below the other.
        has_several = size != (1, 1)
        assert count.total() - has_several == counts[1, 1].total() <= 109, (size, count)
        assert count["_attend_after_past"] == layers
        assert count["_shift_columns"] == 5
        assert not count["convolution"]
        assert not count["clone"]


@needs_triton
def test_a_call_holds_what_is_planned_and_no_more_for_an_older_stream(published: AudioMaker) -> None:
    num_rows, num_frames = 8, max(CHUNKS)
    peaks: set[int] = set()

    def make(age: int) -> None:
        parts = [Part(part.slot, age, part.frames) for part in meta_parts(num_rows, num_frames)]
        with LiveMemory() as live:
            maker = AudioMaker(published._call.codec, EngineOptions(), META, num_rows, CONFIG.codebooks.num_codebooks)
            maker.make(parts)
        peaks.add(live.peak)

    for has_kernels in (True, False):
        for age in (0, 1, 500):
            if has_kernels:
                count_launches(partial(make, age))
            else:
                make(age)
        (peak,) = peaks
        peaks.clear()
        needs = Needs(CONFIG, torch.bfloat16, torch.bfloat16, "cuda", has_kernels)
        assert peak <= needs._audio(num_rows) <= 3 * peak


def test_a_source_holds_what_is_planned(source_filter_model: VoxtralModel) -> None:
    config = source_filter_model.config
    head = SourceFilterProjection(config.codec).requires_grad_(False).to("meta")
    for name, table in list(head.named_buffers()):
        setattr(head, name, table.to("meta"))
    needs = Needs(config, torch.float32, torch.float32, "cpu", has_kernels=False)
    steps, patch = config.codec.steps_per_frame, config.codec.patch_size
    for num_rows, num_frames in ((1, 1), (4, 8), (1, 25)):
        hidden = torch.zeros(num_rows, config.codec.dim, num_frames * steps, device=META)
        latent = torch.zeros(num_rows, config.codec.latent_dim, num_frames, device=META)
        noise = torch.zeros(num_rows, num_frames * steps * patch, device=META)
        with LiveMemory() as live, torch.inference_mode():
            head(hidden, latent, noise, head.fresh(num_rows))
        assert live.peak <= needs._source(num_rows * num_frames) <= 3 * live.peak
