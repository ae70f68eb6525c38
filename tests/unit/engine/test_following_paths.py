"""Every way to make a frame sees the same of the texts; heads may be set while requests are under way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from generations import RequestMaker, collect
from launches import as_on_gpu
from voxtral.engine import frame_maker, graphs, kv_cache, runner
from voxtral.engine.engine import Engine
from voxtral.engine.frame import FrameOutputs
from voxtral.engine.frame_maker import FrameMaker
from voxtral.engine.graphs import Recording
from voxtral.engine.inputs import RowInput
from voxtral.engine.kv_cache import kv_slot
from voxtral.engine.memory import DeviceMemory
from voxtral.engine.options import MAX_FOLLOWED_TOKENS, EngineOptions
from voxtral.engine.paths import Paths
from voxtral.engine.sequence import GenerationHandle, GenerationRequest, GenerationTrace
from voxtral.errors import EngineStoppedError, OptionError
from voxtral.loading.checkpoint import Checkpoint
from voxtral.model.kernels import dispatch
from voxtral.model.kernels.dispatch import KERNELS, USES_DOT
from voxtral.model.voxtral import VoxtralModel
from voxtral.text.prompt import Prompt

CPU = torch.device("cpu")
BLOCK_SIZE = 4
HEADS, OTHERS = ((0, 1), (1, 0)), ((1, 3),)

interpreted = pytest.mark.skipif(
    not dispatch.has_triton() or torch.cuda.is_available(), reason="interpreted kernels need Triton and no GPU"
)


# The ways of a frame.


def row(slot: int, position: int, text: tuple[int, int] | None) -> RowInput:
    """A row whose blocks lie in no order."""
    blocks = [1 + 20 * slot + (7 * number) % 20 for number in range(position // BLOCK_SIZE + 1)]
    noise = np.random.default_rng(slot).standard_normal(36).astype(np.float32)
    return RowInput(slot, position, kv_slot(blocks, position, BLOCK_SIZE), blocks, noise, 1.2, True, text)


# A text over the edges of blocks, one of a single token, nobody who follows, and one that fills its blocks.
ROWS = [row(0, 30, (5, 18)), row(1, 9, (3, 4)), row(2, 13, None), row(3, 15, (4, 12))]


def weigh(model: VoxtralModel, rows: list[RowInput], pairs: Any = HEADS, **changes: Any) -> torch.Tensor:
    options = EngineOptions(**({"max_batch": 4, "block_size": BLOCK_SIZE, "text_heads": pairs} | changes))
    memory = DeviceMemory(model, options, 4, None)
    for part in (memory.pages.keys, memory.pages.values, memory.carried):
        part.normal_(generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        made = FrameMaker(model, memory, options, 4).make(rows, 1)
    assert made.text_weights is not None
    return made.text_weights


def with_kernels(names: set[str], model: VoxtralModel, rows: list[RowInput], **changes: Any) -> torch.Tensor:
    """Take the ways of a GPU, where some kernels are interpreted and others are off."""
    with as_on_gpu():
        for name in set(USES_DOT) - names:
            KERNELS.turn_off(name, CPU, "off for a test")
        return weigh(model, rows, **changes)


WAYS: dict[str, Callable[..., torch.Tensor]] = {
    "static, folded": lambda *given, **named: weigh(*given, cuda_graphs=True, **named),
    "static, plain flow": lambda *given, **named: weigh(*given, cuda_graphs=True, flow="plain", **named),
    "static, invariant": lambda *given, **named: weigh(*given, cuda_graphs=True, batch_invariant=True, **named),
    "static, kernel": lambda *given, **named: with_kernels({"weigh_text"}, *given, cuda_graphs=True, **named),
    "eager on a GPU": lambda *given, **named: with_kernels(set(), *given, **named),
    "eager on a GPU, invariant": lambda *given, **named: with_kernels(set(), *given, batch_invariant=True, **named),
    "eager on a GPU, kernel": lambda *given, **named: with_kernels({"weigh_text"}, *given, **named),
}


@interpreted
@pytest.mark.parametrize(
    ("rows", "pairs"),
    [(ROWS, HEADS), (ROWS[:1], ((1, 1), (0, 0), (1, 1))), (ROWS[2:0:-1], OTHERS)],
    ids=["all, two layers", "alone, one of them twice", "some, one layer"],
)
@pytest.mark.parametrize("way", WAYS)
def test_every_way_sees_the_same_of_the_texts(
    way: str, rows: list[RowInput], pairs: Any, tiny_model: VoxtralModel
) -> None:
    plain, seen = weigh(tiny_model, rows, pairs), WAYS[way](tiny_model, rows, pairs=pairs)
    assert seen.dtype is torch.float32
    for number, asked in enumerate(rows):
        num_tokens = 0 if asked.text is None else asked.text[1] - asked.text[0]
        torch.testing.assert_close(seen[number, :num_tokens], plain[number, :num_tokens], atol=2e-5, rtol=0)
        assert not seen[number, num_tokens:].any()
        assert not plain[number, num_tokens:].any()
        if num_tokens:
            assert float(seen[number].sum()) == pytest.approx(1, abs=1e-5)


def test_a_row_too_long_for_static_buffers_is_followed_too(
    tiny_model: VoxtralModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = row(0, 75, (50, 70))
    plain = weigh(tiny_model, [long])
    monkeypatch.setattr(frame_maker, "POSITIONS_PER_SEQUENCE", 4 * BLOCK_SIZE)
    torch.testing.assert_close(weigh(tiny_model, [long], cuda_graphs=True)[0, :20], plain[0, :20], atol=2e-5, rtol=0)


def test_keys_that_a_row_has_kept_say_what_those_of_the_pages_do(tiny_model: VoxtralModel) -> None:
    kept = [asked._replace(text_keys={}) for asked in ROWS]
    first = weigh(tiny_model, kept)
    assert [sorted(asked.text_keys or {}) for asked in kept] == [[0, 1], [0, 1], [], [0, 1]]
    assert torch.equal(first, weigh(tiny_model, ROWS))
    moved = [asked._replace(position=asked.position + 1, kv_slot=asked.kv_slot + 1) for asked in kept[:1]]
    assert torch.equal(weigh(tiny_model, moved), weigh(tiny_model, [asked._replace(text_keys=None) for asked in moved]))


# Heads that are set later.


class Watcher:
    """Follows, and never interferes."""

    def __init__(self) -> None:
        self.weights: list[np.ndarray] = []

    def see(self, weights: np.ndarray) -> None:
        self.weights.append(weights.copy())

    def decide(self, *, says_end: bool) -> Any:
        return "end" if says_end else "keep"


class Recorder:
    """Captures by computing, and replays by computing again into the same buffers."""

    def __init__(self) -> None:
        self.num_records = 0

    def record(self, compute: Callable[[], FrameOutputs]) -> Recording:
        self.num_records += 1
        outputs = compute()

        def replay() -> None:
            made = compute().tensors
            assert made.keys() == outputs.tensors.keys()
            for name, kept in outputs.tensors.items():
                kept.copy_(made[name])

        return Recording(replay, outputs)


class LateRunner(runner.Runner):
    """Looks at frames one step late, as on a GPU."""

    runs_ahead = True  # pyright: ignore[reportAssignmentType]


@pytest.fixture(scope="module")
def maker(tiny_checkpoint: Checkpoint) -> RequestMaker:
    return RequestMaker(tiny_checkpoint)


class Place:
    """An engine, its recorder, and requests for it."""

    def __init__(self, model: VoxtralModel, maker: RequestMaker, recorder: Recorder | None) -> None:
        self.recorder = recorder
        self.model, self.maker = model, maker
        # A static frame of another number of steps than the checkpoint's own is not captured.
        self.steps = model.config.generation.num_euler_steps if recorder is not None else 1
        self.paths = Paths()
        options = EngineOptions(batch_invariant=True, max_batch=2, cuda_graphs=None if recorder is None else True)
        self.engine = Engine(model, options, runner=LateRunner(model, options, self.paths), paths=self.paths)

    def request(self, seed: int, watcher: Watcher | None, text: str = "One two three", **changes: Any) -> Any:
        given = {"max_frames": 9, "num_euler_steps": self.steps, "follower": watcher} | changes
        return self.maker.request(text, seed=seed, **given)

    def begin(self, watcher: Watcher) -> tuple[GenerationHandle, Iterator[Any], list[Any]]:
        """Begin to speak, and stop to read after the first chunk: the engine waits then."""
        handle = self.engine.submit(self.request(0, watcher, max_buffered_frames=1))
        chunks = handle.chunks()
        return handle, chunks, [next(chunks)]

    def alone(self) -> np.ndarray:
        return collect(self.engine.submit(self.request(0, None)))

    def seen_by(self, heads: Any, request: GenerationRequest, trace: GenerationTrace) -> np.ndarray:
        from voxtral.align.attention import text_attention

        frames = torch.stack(trace.audio_tokens)[:-1]

        def measure(model: VoxtralModel) -> Any:
            return text_attention(model, request.prompt, request.voice_rows, frames, heads)

        seen = self.engine.call(measure)
        return sum(seen[head].numpy() for head in heads) / len(heads)


@pytest.fixture(params=[None, Recorder], ids=["plain", "static"])
def place(
    tiny_model: VoxtralModel, maker: RequestMaker, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    state = graphs.CaptureState()
    monkeypatch.setattr(graphs, "CAPTURES", state)
    monkeypatch.setattr(frame_maker, "CAPTURES", state)
    recorder = None if request.param is None else request.param()
    monkeypatch.setattr(frame_maker.FrameMaker, "_usual_recorder", lambda self: recorder)
    made = Place(tiny_model, maker, recorder)
    yield made
    made.engine.close()


def join(chunks: list[Any]) -> np.ndarray:
    return np.concatenate([chunk.samples for chunk in chunks])


def test_requests_under_way_go_on_and_later_ones_are_followed(place: Place) -> None:
    early, late, trace = Watcher(), Watcher(), GenerationTrace()
    handle, chunks, heard = place.begin(early)
    place.engine.follow_text(HEADS)
    assert place.engine.options.text_heads == HEADS
    heard += chunks
    assert handle.stop == "length"
    # It began when nobody looked: what came later would be taken for its first frames.
    assert early.weights == []
    later = place.request(1, late)
    collect(place.engine.submit(later, trace=trace))
    np.testing.assert_allclose(np.stack(late.weights), place.seen_by(HEADS, later, trace), atol=2e-5)
    assert np.array_equal(join(heard), place.alone())
    if place.recorder is not None:
        # Once without heads, and at the next use anew.
        assert place.recorder.num_records == 2


def test_other_heads_take_over_in_the_middle(place: Place) -> None:
    watcher, trace = Watcher(), GenerationTrace()
    place.engine.follow_text(HEADS)
    request = place.request(0, watcher, max_buffered_frames=1)
    handle = place.engine.submit(request, trace=trace)
    chunks = handle.chunks()
    heard = [next(chunks)]
    place.engine.call(lambda _: None)  # what is under way has been looked at
    place.engine.follow_text(OTHERS)
    num_before = len(watcher.weights)
    heard += chunks
    assert 0 < num_before < len(watcher.weights) == handle.stats.num_frames
    shown = np.stack(watcher.weights)
    first, second = (place.seen_by(heads, request, trace) for heads in (HEADS, OTHERS))
    np.testing.assert_allclose(shown[:num_before], first[:num_before], atol=2e-5)
    np.testing.assert_allclose(shown[num_before:], second[num_before:], atol=2e-5)
    assert not np.allclose(first, second, atol=1e-3)
    assert np.array_equal(join(heard), place.alone())


def test_without_heads_again_nobody_is_shown_anything(place: Place) -> None:
    watcher, other = Watcher(), Watcher()
    place.engine.follow_text(HEADS)
    handle, chunks, heard = place.begin(watcher)
    place.engine.follow_text(())
    num_before = len(watcher.weights)
    heard += chunks
    assert handle.stop == "length"
    assert len(watcher.weights) == num_before
    collect(place.engine.submit(place.request(1, other)))
    assert not other.weights
    assert np.array_equal(join(heard), place.alone())


@pytest.mark.parametrize("heads", [((2, 0),), ((0, 1), (0, 64)), ((-1, 0),)], ids=str)
def test_heads_that_the_model_has_not_are_refused_and_change_nothing(
    heads: Any, tiny_model: VoxtralModel, maker: RequestMaker
) -> None:
    engine = Engine(tiny_model, EngineOptions(text_heads=HEADS))
    try:
        with pytest.raises(OptionError, match="calibrate"):
            engine.follow_text(heads)
        assert engine.options.text_heads == HEADS
        watcher = Watcher()
        collect(engine.submit(maker.request("Oh", max_frames=2, num_euler_steps=1, follower=watcher)))
        assert len(watcher.weights) == 2
    finally:
        engine.close()
    with pytest.raises(OptionError, match="calibrate"):
        Engine(tiny_model, EngineOptions(text_heads=heads))
    with pytest.raises(EngineStoppedError):
        engine.follow_text(HEADS)


# What is asked for, and what is not.


@pytest.mark.parametrize(("num_tokens", "is_refused"), [(0, True), (1, False), (512, False), (513, True)])
def test_texts_that_cannot_be_followed_are_refused(
    num_tokens: int, is_refused: bool, tiny_model: VoxtralModel, maker: RequestMaker
) -> None:
    assert MAX_FOLLOWED_TOKENS == 512
    prompt = maker.request("Oh").prompt
    ids = (*prompt.token_ids[: prompt.voice_stop + 1], *(1000,) * num_tokens, *prompt.token_ids[-2:])
    changes = {"prompt": Prompt(ids, prompt.voice_start, prompt.voice_stop), "follower": Watcher()}
    request = replace(maker.request("Oh", max_frames=1, num_euler_steps=1), **changes)
    engine = Engine(tiny_model, EngineOptions(text_heads=HEADS, cuda_graphs=True, max_batch=1))
    try:
        if is_refused:
            with pytest.raises(OptionError, match=f"a text of {num_tokens} tokens .* 1 to 512"):
                engine.submit(request)
            collect(engine.submit(replace(request, follower=None)))
        else:
            collect(engine.submit(request))
            assert [len(weights) for weights in changes["follower"].weights] == [num_tokens]
    finally:
        engine.close()


def test_what_was_seen_is_fetched_only_up_to_the_last_row_that_is_followed() -> None:
    outputs: Any = FrameOutputs(*(torch.zeros(4, 1) for _ in range(4)), text_weights=torch.zeros(4, 512))
    for followed, expected in (((), None), ((0,), 1), ((1, 2), 3)):
        rows = [row(slot, 9, (3, 5) if slot in followed else None) for slot in range(4)]
        fetched = runner._fetch_weights(outputs, rows)
        assert (None if fetched is None else len(fetched)) == expected


def test_where_weighing_fails_speech_goes_on_unfollowed(
    tiny_model: VoxtralModel, maker: RequestMaker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    paths, options = Paths("NVIDIA L4"), EngineOptions(text_heads=HEADS, cuda_graphs=True, max_batch=1)

    def speak(follower: Watcher | None) -> np.ndarray:
        engine = Engine(tiny_model, options, paths=paths)
        try:
            given = {"max_frames": 4, "num_euler_steps": 1, "follower": follower}
            return collect(engine.submit(maker.request("Hello.", seed=3, **given)))
        finally:
            engine.close()

    expected = speak(None)

    def fail(*_: Any, **__: Any) -> Any:
        raise NotImplementedError("Could not run 'aten::complex'")

    # In every way, as on a GPU: there is no numpy there.
    monkeypatch.setattr(kv_cache, "weigh_text", fail)
    monkeypatch.setattr(kv_cache.SpanMemory, "_listen", fail)
    watcher = Watcher()
    assert np.array_equal(speak(watcher), expected)
    assert not watcher.weights
    assert set(paths.closed) == {"text"}
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "following the text is off on NVIDIA L4 (NotImplementedError" in line
    assert "slower" not in line
