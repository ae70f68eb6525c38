"""What followers decide: frames made again without END_AUDIO, kept back, dropped; and that they are shown the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from generations import RequestMaker, collect
from voxtral.align.attention import text_attention
from voxtral.engine.engine import Engine
from voxtral.engine.following import Decision
from voxtral.engine.options import EngineOptions
from voxtral.engine.runner import Runner
from voxtral.engine.sequence import GenerationHandle, GenerationRequest, GenerationTrace
from voxtral.errors import EngineError
from voxtral.loading.checkpoint import Checkpoint
from voxtral.model.voxtral import VoxtralModel

HEADS = ((0, 1), (1, 0))


class Scripted:
    """Decides as it is told, by the number of the frame, and keeps what it was shown."""

    def __init__(self, rule: Callable[[int, bool], Decision]) -> None:
        self.rule = rule
        self.weights: list[np.ndarray] = []

    def see(self, weights: np.ndarray) -> None:
        self.weights.append(weights.copy())

    def decide(self, *, says_end: bool) -> Decision:
        return self.rule(len(self.weights) - 1, says_end)


def as_it_comes(_: int, says_end: bool) -> Decision:
    return "end" if says_end else "keep"


def not_before(first: int) -> Callable[[int, bool], Decision]:
    return lambda frame, says_end: "again" if says_end and frame < first else as_it_comes(frame, says_end)


class LateRunner(Runner):
    """Looks at frames one step late, as on a GPU."""

    runs_ahead = True  # pyright: ignore[reportAssignmentType]


class QuickMaker(RequestMaker):
    """One step of the flow will do."""

    def request(self, *arguments: Any, **changes: Any) -> GenerationRequest:
        return super().request(*arguments, **({"num_euler_steps": 1} | changes))


@pytest.fixture(scope="module")
def maker(tiny_checkpoint: Checkpoint) -> RequestMaker:
    return QuickMaker(tiny_checkpoint)


@pytest.fixture(
    scope="module",
    params=[(Runner, None), (LateRunner, None), (LateRunner, True)],
    ids=["at once", "late", "late and static"],
)
def engine(tiny_model: VoxtralModel, request: pytest.FixtureRequest) -> Iterator[Engine]:
    runner, is_static = request.param
    # The same bits whatever runs beside, so that what was made again can be compared.
    options = EngineOptions(text_heads=HEADS, batch_invariant=True, max_batch=3, cuda_graphs=is_static)
    engine = Engine(tiny_model, options, runner=runner(tiny_model, options))
    yield engine
    engine.close()


def speak(engine: Engine, request: GenerationRequest) -> tuple[np.ndarray, GenerationTrace, GenerationHandle]:
    trace = GenerationTrace()
    handle = engine.submit(request, trace=trace)
    return collect(handle), trace, handle


def assert_equal(one: tuple[np.ndarray, GenerationTrace, Any], other: tuple[np.ndarray, GenerationTrace, Any]) -> None:
    assert np.array_equal(one[0], other[0])
    for name in ("hidden", "flow_states", "audio_tokens"):
        values, others = getattr(one[1], name), getattr(other[1], name)
        assert len(values) == len(others)
        assert all(torch.equal(value, another) for value, another in zip(values, others, strict=True))


@settings(max_examples=4)
@given(first=st.integers(0, 9), seed=st.integers(0, 3), voice=st.integers(0, 2))
@pytest.mark.parametrize("text", ["Oh no", "One two three"])
def test_an_end_that_is_not_believed_is_as_if_it_could_not_be_chosen(
    engine: Engine, maker: RequestMaker, text: str, first: int, seed: int, voice: int
) -> None:
    plain = maker.request(text, voice, seed=seed, max_frames=12, min_frames=first)
    held = maker.request(text, voice, seed=seed, max_frames=12, min_frames=0, follower=Scripted(not_before(first)))
    assert_equal(speak(engine, held), speak(engine, plain))


@settings(max_examples=4)
@given(waits=st.lists(st.booleans(), min_size=12, max_size=12), seed=st.integers(0, 3))
def test_what_waits_and_stays_changes_no_sample_and_no_chunk(
    engine: Engine, maker: RequestMaker, waits: list[bool], seed: int
) -> None:
    def rule(frame: int, says_end: bool) -> Decision:
        return "wait" if waits[frame] else "keep"

    plain, waiting = ([], [])
    for chunks, follower in ((plain, None), (waiting, Scripted(rule))):
        handle = engine.submit(maker.request("Hello there", seed=seed, max_frames=12, follower=follower))
        chunks += list(handle.chunks())
        assert handle.stop == "length"
        assert handle.stats.num_frames == 12
    assert [chunk.start for chunk in plain] == [chunk.start for chunk in waiting]
    assert all(np.array_equal(one.samples, other.samples) for one, other in zip(plain, waiting, strict=True))


@pytest.mark.parametrize("stop", ["over", "lost"])
@pytest.mark.parametrize(("first", "last"), [(3, 6), (0, 4), (5, 5)], ids=["3 to 6", "0 to 4", "5 at once"])
def test_what_waits_and_is_dropped_leaves_what_was_before(
    engine: Engine, maker: RequestMaker, stop: Decision, first: int, last: int
) -> None:
    def rule(frame: int, says_end: bool) -> Decision:
        return "keep" if frame < first else "wait" if frame < last else stop

    samples, trace, handle = speak(engine, maker.request("Hello there", max_frames=12, follower=Scripted(rule)))
    assert handle.stop == stop
    assert handle.stats.num_frames == len(trace.audio_tokens) == first
    whole, whole_trace, _ = speak(engine, maker.request("Hello there", max_frames=12))
    assert all(map(torch.equal, trace.audio_tokens, whole_trace.audio_tokens))
    if first:
        cut, *_ = speak(engine, maker.request("Hello there", max_frames=first))
        assert np.array_equal(samples, cut)
        assert len(samples) < len(whole)
    else:
        assert len(samples) == 0


def test_an_end_after_what_waited_keeps_it(engine: Engine, maker: RequestMaker) -> None:
    plain = speak(engine, maker.request("One two three", seed=1, max_frames=40, min_frames=6))
    num_frames = plain[2].stats.num_frames
    assert num_frames >= 6
    patient = Scripted(lambda frame, says_end: as_it_comes(frame, says_end) if frame < 2 or says_end else "wait")
    waiting = maker.request("One two three", seed=1, max_frames=40, min_frames=6, follower=patient)
    assert_equal(speak(engine, waiting), plain)


def test_a_follower_that_fails_ends_its_own_request_alone(engine: Engine, maker: RequestMaker) -> None:
    def rule(frame: int, says_end: bool) -> Decision:
        if frame == 2:
            raise ValueError("no idea")
        return as_it_comes(frame, says_end)

    failing = engine.submit(maker.request("Hello there", max_frames=12, follower=Scripted(rule)))
    other = engine.submit(maker.request("Hello there", seed=1, max_frames=12))
    with pytest.raises(EngineError, match="no idea"):
        collect(failing)
    assert len(collect(other))
    assert engine.failure is None


def test_it_is_shown_what_one_pass_over_the_same_frames_sees(engine: Engine, maker: RequestMaker) -> None:
    texts = ["Hello there", "One two three four", "Oh"]
    # One END_AUDIO is not believed on the way, which must not be shown twice.
    followers = [Scripted(not_before(4)) for _ in texts]
    requests = [
        maker.request(text, voice, seed=voice, max_frames=9, min_frames=0, follower=follower)
        for voice, (text, follower) in enumerate(zip(texts, followers, strict=True))
    ]
    traces = [GenerationTrace() for _ in texts]
    handles = [engine.submit(request, trace=trace) for request, trace in zip(requests, traces, strict=True)]
    for handle in handles:
        collect(handle)
    for request, trace, follower in zip(requests, traces, followers, strict=True):
        num_frames = len(follower.weights)
        assert num_frames == len(trace.audio_tokens)
        frames = torch.stack(trace.audio_tokens)[: num_frames - 1]

        def measure(model: VoxtralModel, request: Any = request, frames: Any = frames) -> Any:
            return text_attention(model, request.prompt, request.voice_rows, frames, HEADS)

        seen = engine.call(measure)
        expected = sum(seen[head].numpy() for head in HEADS) / len(HEADS)
        shown = np.stack(follower.weights)
        assert shown.shape == expected.shape == (num_frames, np.diff(request.prompt.text_span)[0])
        np.testing.assert_allclose(shown, expected, atol=2e-5)
        np.testing.assert_allclose(shown.sum(axis=1), 1.0, atol=1e-5)


def test_without_text_heads_nobody_is_asked(tiny_model: VoxtralModel, maker: RequestMaker) -> None:
    engine = Engine(tiny_model, EngineOptions())
    follower = Scripted(lambda *_: "lost")
    _, _, handle = speak(engine, maker.request("Hello there", max_frames=5, follower=follower))
    engine.close()
    assert handle.stop == "length"
    assert not follower.weights


def test_a_parked_sequence_keeps_what_waits(tiny_model: VoxtralModel, maker: RequestMaker) -> None:
    options = EngineOptions(text_heads=HEADS, batch_invariant=True, max_batch=1, max_buffered_frames=2)
    engine = Engine(tiny_model, options)
    rule: Callable[[int, bool], Decision] = lambda frame, _: "wait" if 3 <= frame < 8 else "keep"  # noqa: E731
    parked = engine.submit(maker.request("Hello there", max_frames=12, follower=Scripted(rule)))
    chunks = parked.chunks()
    first = next(chunks)
    # With one row for all, the reader that does not read gives its room to the next.
    assert len(collect(engine.submit(maker.request("One two", seed=2, max_frames=6))))
    rest = [chunk.samples for chunk in chunks]
    alone, *_ = speak(engine, maker.request("Hello there", max_frames=12))
    engine.close()
    assert np.array_equal(np.concatenate([first.samples, *rest]), alone)
