"""An utterance: joins, retries, chunk sizes and timing, with a scripted engine."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fakes import FAKE_MODEL, SAMPLES_PER_FRAME, BareRunner, FakeRow
from voxtral.engine.engine import Engine
from voxtral.engine.noise import derive_seed
from voxtral.engine.protocol import RowOutput
from voxtral.engine.sequence import GenerationRequest
from voxtral.errors import CancelledError, DeadlineError, EngineError, GenerationError, NumericsError
from voxtral.speech.plan import PlannedSegment, SegmentTemplate, SpeechPlan
from voxtral.speech.utterance import SpeechHandle
from voxtral.text.prompt import Prompt
from voxtral.text.segment import TextSegment
from voxtral.types import AudioChunk
from voxtral.voices.prompt import VoicePrompt

RATE = 1000
SEED = 7

# What a segment's attempt does: how many frames of which level, and how it stops.
Script = tuple[int, float, str]
GOOD: Script = (5, 0.5, "end")
EMPTY: Script = (0, 0.0, "end")
SILENT: Script = (5, 0.0, "end")
RUNAWAY: Script = (5, 0.5, "length")


class ScriptedRunner(BareRunner):
    """Plays the script of (segment, attempt); unscripted attempts are good."""

    def __init__(self, scripts: dict[tuple[int, int], Script], fails_at: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.scripts = scripts
        self.fails_at = fails_at
        self.started: list[tuple[int, int]] = []
        self.deadlines: list[float] = []

    def admit(self, request: GenerationRequest, trace: object) -> FakeRow | None:
        self.deadlines.append(request.deadline_s)
        self.started.append(key_of(request))
        return super().admit(request, trace)

    def advance(self, row: FakeRow) -> RowOutput:
        key = key_of(row.request)
        num_frames, level, stop = self.scripts.get(key, GOOD)
        if row.frame == 2 and self.fails_at == key:
            raise NumericsError("not finite")
        if row.frame == num_frames:
            return RowOutput(None, num_frames, "end")
        row.frame += 1
        is_last = row.frame == num_frames and stop == "length"
        samples = np.full(SAMPLES_PER_FRAME, level, dtype=np.float32)
        return row.output(samples, "length" if is_last else None)


def key_of(request: GenerationRequest) -> tuple[int, int]:
    """Segment and attempt: the first frame of a second attempt may not be the end."""
    return request.prompt.token_ids[0], request.min_frames


def plan_of(num_segments: int, max_frames: int = 100_000, **options: Any) -> SpeechPlan:
    """A plan for the parts "part 0", "part 1" and so on of a text, ten characters apart."""
    parts = [
        PlannedSegment(TextSegment(f"part {n}", 10 * n, 10 * n + 6), Prompt((n,), 0, 0), max_frames)
        for n in range(num_segments)
    ]
    voice = VoicePrompt("somebody", torch.zeros(0, 1))
    settings: dict[str, Any] = {
        "segments": iter(parts),
        "template": SegmentTemplate(voice, False, 1.0, 1.0, 1, num_noise_values=1),
        "seed": SEED,
        "has_explicit_budget": False,
        "speed": 1.0,
        "pause_s": 0.05,
        "sample_rate": RATE,
        "hold_segments": False,
    }
    return SpeechPlan(**(settings | options))


Speak = Callable[..., tuple[SpeechHandle, ScriptedRunner]]


@pytest.fixture
def speak() -> Iterator[Speak]:
    engines: list[Engine] = []

    def begin(num_segments: int = 1, scripts: Any = None, fails_at: Any = None, **options: Any) -> Any:
        runner = ScriptedRunner(scripts or {}, fails_at)
        engine = Engine(FAKE_MODEL, runner=runner)
        engines.append(engine)
        return SpeechHandle(plan_of(num_segments, **options), engine), runner

    yield begin
    for engine in engines:
        engine.close()


def collect(handle: SpeechHandle, chunk_size: int | None = None) -> np.ndarray:
    return np.concatenate([chunk.samples for chunk in handle.chunks(chunk_size)])


def test_one_segment_is_given_out_untouched(speak: Speak) -> None:
    handle, _ = speak()
    assert np.array_equal(collect(handle), np.full(50, 0.5, dtype=np.float32))
    assert handle.finish_reason == "end"
    assert [(s.text_start, s.text_end, s.start_s, s.end_s) for s in handle.segments] == [(0, 6, 0.0, 0.05)]


def test_segments_are_joined_with_a_pause_and_without_a_step(speak: Speak) -> None:
    handle, _ = speak(3)
    samples = collect(handle)
    assert len(samples) == 3 * 50 + 2 * 50
    # 5 ms fades of 5 samples: the largest step is well below the jump of 0.5 that a plain join has.
    assert np.abs(np.diff(samples)).max() < 0.25
    assert np.all(samples[60:100] == 0)
    times = [(round(s.start_s, 6), round(s.end_s, 6)) for s in handle.segments]
    assert times == [(0.0, 0.05), (0.1, 0.15), (0.2, 0.25)]
    assert [s.text_start for s in handle.segments] == [0, 10, 20]


def test_without_a_pause_segments_still_join_without_a_step(speak: Speak) -> None:
    handle, _ = speak(2, pause_s=0.0)
    assert np.abs(np.diff(collect(handle))).max() < 0.25


def test_two_segments_are_in_flight_and_no_more(speak: Speak) -> None:
    handle, runner = speak(6)
    chunks = handle.chunks()
    next(chunks)
    time.sleep(0.1)
    assert runner.started == [(0, 0), (1, 0)]
    list(chunks)
    assert runner.started == [(n, 0) for n in range(6)]


@pytest.mark.parametrize("script", [EMPTY, SILENT, RUNAWAY])
def test_a_held_segment_that_fails_is_made_again_and_labelled(speak: Speak, script: Script) -> None:
    handle, runner = speak(2, {(1, 0): script}, hold_segments=True)
    samples = collect(handle)
    assert np.array_equal(samples[:50], np.full(50, 0.5, dtype=np.float32))
    assert len(samples) == 150
    assert [s.finish_reason for s in handle.segments] == ["end", "retried"]
    assert handle.segments[1].seed == derive_seed(SEED, 1)
    assert handle.finish_reason == "retried"
    assert handle.stats.num_retries == 1
    assert runner.started == [(0, 0), (1, 0), (1, 1)]


@pytest.mark.parametrize("script", [EMPTY, SILENT])
def test_a_stream_retries_what_nobody_has_heard(speak: Speak, script: Script) -> None:
    handle, _ = speak(1, {(0, 0): script})
    samples = collect(handle)
    assert np.array_equal(samples[-50:], np.full(50, 0.5, dtype=np.float32))
    assert handle.finish_reason == "retried"


def test_a_stream_breaks_visibly_when_it_ran_away_aloud(speak: Speak) -> None:
    handle, runner = speak(1, {(0, 0): RUNAWAY})
    got: list[Any] = []
    with pytest.raises(GenerationError) as caught:
        got.extend(handle.chunks())
    assert sum(map(len, got)) == 50
    assert caught.value.finish_reason == "runaway"
    assert runner.started == [(0, 0)]


@pytest.mark.parametrize(("script", "reason"), [(EMPTY, "empty"), (SILENT, "silent"), (RUNAWAY, "runaway")])
def test_two_failures_are_a_typed_error_with_what_was_made(speak: Speak, script: Script, reason: str) -> None:
    handle, _ = speak(2, {(1, 0): script, (1, 1): script}, hold_segments=True)
    got: list[Any] = []
    with pytest.raises(GenerationError) as caught:
        got.extend(handle.chunks())
    assert sum(map(len, got)) >= 50  # the first segment was good and has been given out
    assert caught.value.finish_reason == reason
    assert caught.value.seeds == (SEED, derive_seed(SEED, 1))
    assert "characters 10 to 16" in str(caught.value)
    if reason == "runaway":
        assert caught.value.audio is not None
        assert len(caught.value.audio) == 50


def test_an_explicit_budget_is_obeyed_and_named(speak: Speak) -> None:
    handle, runner = speak(1, {(0, 0): RUNAWAY}, has_explicit_budget=True)
    assert len(collect(handle)) == 50
    assert handle.finish_reason == "length"
    assert runner.started == [(0, 0)]


def test_an_engine_failure_reaches_the_reader(speak: Speak) -> None:
    handle, _ = speak(2, fails_at=(1, 0))
    with pytest.raises(NumericsError):
        collect(handle)


def test_cancelling_ends_the_reader(speak: Speak) -> None:
    handle, _ = speak(50)
    chunks = handle.chunks()
    next(chunks)
    handle.cancel()
    with pytest.raises(CancelledError):
        list(chunks)


def test_a_dropped_handle_frees_the_engine(speak: Speak) -> None:
    handle, _ = speak(50)
    engine = handle._engine
    del handle
    gc.collect()
    deadline = time.monotonic() + 10
    while engine.num_unfinished and time.monotonic() < deadline:
        time.sleep(0.002)
    assert engine.num_unfinished == 0


# Deadlines.


def test_each_segment_gets_the_time_that_is_left(speak: Speak) -> None:
    handle, runner = speak(3, deadline_s=60.0)
    chunks = handle.chunks()
    next(chunks)
    time.sleep(0.1)
    list(chunks)
    first, second, third = runner.deadlines
    assert 60.0 >= first > second > third > 0
    # The third is submitted when the first has been read.
    assert second - third >= 0.1


def test_a_reader_that_takes_too_long_meets_the_deadline_of_the_whole(speak: Speak) -> None:
    handle, runner = speak(5, deadline_s=0.2)
    got: list[Any] = []
    # What was given to the whole, not the rest that a segment had.
    with pytest.raises(DeadlineError, match=r"its 0\.2 s;"):  # noqa: PT012 - the reader is slow
        for chunk in handle.chunks():
            got.append(chunk)
            time.sleep(0.03)
    assert got
    assert len(runner.started) < 5


def test_an_utterance_that_never_ends_is_ended_by_its_deadline(speak: Speak) -> None:
    handle, _ = speak(2, {(1, 0): (10**9, 0.5, "end")}, deadline_s=0.3)
    with pytest.raises(DeadlineError, match=r"its 0\.3 s;"):
        collect(handle)
    assert handle._engine.num_unfinished == 0


def test_a_deadline_that_has_passed_starts_nothing(speak: Speak) -> None:
    engine = speak()[0]._engine
    plan = plan_of(1, deadline_s=1.0)
    with pytest.raises(DeadlineError, match="its 1 s;"):
        SpeechHandle(plan, engine, accepted_at=time.perf_counter() - 1.0)


def chunks_of(plan: SpeechPlan, chunk_size: int | None = None) -> list[AudioChunk]:
    engine = Engine(FAKE_MODEL, runner=ScriptedRunner({}))
    try:
        return list(SpeechHandle(plan, engine).chunks(chunk_size))
    finally:
        engine.close()


@given(size=st.integers(1, 300), num_segments=st.integers(1, 4))
def test_chunks_of_a_size_hold_the_same_samples_and_marks(size: int, num_segments: int) -> None:
    made = chunks_of(plan_of(num_segments, pause_s=0.02))
    chunks = chunks_of(plan_of(num_segments, pause_s=0.02), size)
    whole = np.concatenate([chunk.samples for chunk in made])
    assert np.array_equal(whole, np.concatenate([chunk.samples for chunk in chunks]))
    assert all(len(chunk) == size for chunk in chunks[:-1])
    assert 0 < len(chunks[-1]) <= size
    assert [mark for chunk in chunks for mark in chunk.marks] == [mark for chunk in made for mark in chunk.marks]


@given(
    num_segments=st.integers(1, 4),
    speed=st.sampled_from([0.25, 0.7, 1.0, 1.3, 4.0]),
    chunk_size=st.none() | st.integers(1, 200),
    hold=st.booleans(),
)
def test_each_chunk_says_where_it_lies_and_each_segment_where_it_begins(
    num_segments: int, speed: float, chunk_size: int | None, hold: bool
) -> None:
    plan = plan_of(num_segments, speed=speed, pause_s=0.02, hold_segments=hold)
    engine = Engine(FAKE_MODEL, runner=ScriptedRunner({}))
    handle = SpeechHandle(plan, engine)
    chunks = list(handle.chunks(chunk_size))
    engine.close()
    position = 0
    for chunk in chunks:
        assert chunk.start == position
        position += len(chunk)
        assert all(chunk.start <= mark.start < position for mark in chunk.marks)
    marks = [mark for chunk in chunks for mark in chunk.marks]
    assert [(mark.kind, mark.text_start, mark.text_end) for mark in marks] == [
        ("segment", segment.text_start, segment.text_end) for segment in handle.segments
    ]
    # Half a sample is what rounding takes.
    assert [mark.start / RATE for mark in marks] == pytest.approx(
        [segment.start_s for segment in handle.segments], abs=0.5 / RATE + 1e-9
    )


def test_speed_changes_length_and_times_but_not_pauses(speak: Speak) -> None:
    handle, _ = speak(2, {(0, 0): (200, 0.5, "end"), (1, 0): (200, 0.5, "end")}, speed=2.0, pause_s=0.5)
    samples = collect(handle)
    # 2 s and 2 s at double speed, and a pause of half a second as asked for.
    assert len(samples) == pytest.approx(2500, abs=60)
    first, second = handle.segments
    assert first.end_s == pytest.approx(1.0)
    assert second.start_s == pytest.approx(1.5)
    assert second.end_s == pytest.approx(2.5)


def test_stats_count_retries(speak: Speak) -> None:
    handle, _ = speak(2, {(0, 0): SILENT}, hold_segments=True)
    samples = collect(handle)
    stats = handle.stats
    assert stats.num_frames == 15
    assert stats.duration_s == len(samples) / RATE
    assert stats.seed == SEED
    assert 0 < stats.ttfa_s < 10
    assert stats.to_dict()["rtf"] >= 0


def test_a_crowd_that_retries_all_at_once_is_served(speak: Speak) -> None:
    # Every first segment fails unheard, while the second ones are full and unread behind them.
    scripts = {(0, 0): EMPTY, (1, 0): (90, 0.5, "end")}
    runner = ScriptedRunner(scripts)
    engine = Engine(FAKE_MODEL, runner=runner)
    results: list[int] = []

    def run() -> None:
        results.append(sum(map(len, SpeechHandle(plan_of(2), engine).chunks())))

    threads = [threading.Thread(target=run, daemon=True) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    engine.close()
    assert len(results) == 20
    assert len(set(results)) == 1


def test_a_cancelled_utterance_starts_nothing_more(speak: Speak) -> None:
    handle, runner = speak(1, {(0, 0): RUNAWAY}, hold_segments=True)
    deadline = time.monotonic() + 10
    while handle._engine.num_unfinished and time.monotonic() < deadline:
        time.sleep(0.002)
    handle.cancel()
    with pytest.raises(CancelledError):
        list(handle.chunks())
    assert runner.started == [(0, 0)]


def test_audio_is_given_out_once(speak: Speak) -> None:
    handle, _ = speak()
    collect(handle)
    with pytest.raises(EngineError, match="twice"):
        handle.chunks()
