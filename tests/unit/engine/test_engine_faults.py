"""The engine with a fake runner: who is let in, what fails alone, what waits without work, what is kept alive."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from fakes import (
    FAKE_MODEL,
    SAMPLES_PER_FRAME,
    FakeRow,
    FakeRunner,
    FakeStep,
    RunAheadRunner,
    fake_request,
    frame_samples,
)
from voxtral.engine.engine import Engine
from voxtral.engine.options import EngineOptions
from voxtral.engine.protocol import RowOutput
from voxtral.engine.sequence import GenerationHandle, GenerationRequest
from voxtral.errors import CancelledError, DeadlineError, EngineError, EngineStoppedError, OptionError


def expected(label: int, num_frames: int) -> np.ndarray:
    return np.concatenate([frame_samples(label, frame) for frame in range(num_frames)])


def collect(handle: GenerationHandle) -> np.ndarray:
    return np.concatenate([chunk.samples for chunk in handle.chunks()])


def wait_until(condition: Callable[[], bool], timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


class CountingEngine(Engine):
    """Counts its turns."""

    num_turns = 0

    def _take_turn(self) -> bool:
        self.num_turns += 1
        return super()._take_turn()


Open = Callable[..., CountingEngine]


@pytest.fixture
def open_engine() -> Iterator[Open]:
    engines: list[CountingEngine] = []

    def open_one(runner: FakeRunner, **options: Any) -> CountingEngine:
        engines.append(CountingEngine(FAKE_MODEL, EngineOptions(**options), runner=runner))
        return engines[-1]

    yield open_one
    for engine in engines:
        engine.close()


def assert_rests(engine: CountingEngine) -> None:
    """With nothing to do the thread sleeps: a turn or two may be under way, and then none is taken."""
    time.sleep(0.05)
    before = engine.num_turns
    time.sleep(0.15)
    assert engine.num_turns <= before + 1


# Nothing to do, nothing done.


@pytest.mark.parametrize("runner_class", [FakeRunner, RunAheadRunner])
def test_an_engine_with_nothing_to_do_rests(open_engine: Open, runner_class: type[FakeRunner]) -> None:
    engine = open_engine(runner_class(num_slots=2), max_buffered_frames=2)
    collect(engine.submit(fake_request(max_frames=4)))
    assert_rests(engine)
    # Three readers that do not read, two slots: one of them is preempted.
    unread = [engine.submit(fake_request(label, max_frames=50)) for label in (1, 2, 3)]
    wait_until(lambda: all(handle.num_buffered >= 2 * SAMPLES_PER_FRAME for handle in unread))
    assert_rests(engine)
    for handle in unread:
        handle.cancel()
    wait_until(lambda: engine.num_unfinished == 0)
    assert_rests(engine)


def test_a_deadline_far_away_is_waited_for_without_work(open_engine: Open) -> None:
    engine = open_engine(FakeRunner(), max_buffered_frames=2)
    handle = engine.submit(replace(fake_request(max_frames=9), deadline_s=1e30))
    wait_until(lambda: handle.num_buffered >= 2 * SAMPLES_PER_FRAME)
    assert_rests(engine)
    assert np.array_equal(collect(handle), expected(0, 9))


# Deadlines.


def test_a_running_request_that_is_too_late_fails_and_keeps_what_was_made(open_engine: Open) -> None:
    engine = open_engine(FakeRunner(), max_buffered_frames=2)
    handle = engine.submit(replace(fake_request(1, max_frames=50), deadline_s=0.2))
    wait_until(lambda: handle.is_done)
    got: list[np.ndarray] = []
    with pytest.raises(DeadlineError, match=r"0\.2 s"):
        got.extend(chunk.samples for chunk in handle.chunks())
    assert np.array_equal(np.concatenate(got), expected(1, 2))
    wait_until(lambda: engine.num_unfinished == 0)


def test_deadlines_hold_while_waiting_and_while_swapped_out(open_engine: Open) -> None:
    gate = threading.Event()
    runner = FakeRunner(before_step=lambda label, frame: label == 2 and gate.wait(20), num_slots=1)
    engine = open_engine(runner, max_buffered_frames=2)
    swapped = engine.submit(replace(fake_request(1, max_frames=50), deadline_s=0.3))
    wait_until(lambda: swapped.num_buffered >= 2 * SAMPLES_PER_FRAME)
    running = engine.submit(fake_request(2, max_frames=3))
    waiting = engine.submit(replace(fake_request(3), deadline_s=0.1))
    wait_until(lambda: runner.num_swapped_out == 1)
    time.sleep(0.3)
    gate.set()
    for late in (waiting, swapped):
        with pytest.raises(DeadlineError):
            collect(late)
    assert np.array_equal(collect(running), expected(2, 3))
    wait_until(lambda: runner.num_free == 1)


# Making room.


class AwaitingRunner(FakeRunner):
    """Requests above label 9 wait for a prefix that one of label 1 makes."""

    prefix_is_there = threading.Event()

    def is_prefix_awaited(self, request: GenerationRequest, rows: list[FakeRow]) -> bool:
        return request.prompt.token_ids[0] > 9 and not self.prefix_is_there.is_set()


def test_nobody_is_preempted_for_a_request_that_awaits_a_prefix(open_engine: Open) -> None:
    runner = AwaitingRunner(num_slots=5)
    runner.prefix_is_there = threading.Event()
    engine = open_engine(runner, max_buffered_frames=2)
    behind = engine.submit(fake_request(1, max_frames=50))
    wait_until(lambda: behind.num_buffered >= 2 * SAMPLES_PER_FRAME)
    awaiting = engine.submit(fake_request(10, max_frames=3))
    time.sleep(0.05)
    assert runner.num_swapped_out == 0
    runner.prefix_is_there.set()
    assert np.array_equal(collect(awaiting), expected(10, 3))
    assert runner.num_swapped_out == 0
    assert np.array_equal(collect(behind), expected(1, 50))


def test_a_request_that_cannot_be_swapped_out_ends_alone(open_engine: Open) -> None:
    class NoMemoryRunner(FakeRunner):
        def swap_out(self, row: FakeRow) -> None:
            raise MemoryError

    runner = NoMemoryRunner(num_slots=1)
    engine = open_engine(runner, max_buffered_frames=2)
    behind = engine.submit(fake_request(1, max_frames=50))
    wait_until(lambda: behind.num_buffered >= 2 * SAMPLES_PER_FRAME)
    assert np.array_equal(collect(engine.submit(fake_request(2, max_frames=3))), expected(2, 3))
    with pytest.raises(EngineError, match="out of memory"):
        collect(behind)
    wait_until(lambda: runner.num_free == 1)


def test_what_never_fits_fails_instead_of_waiting_for_ever(open_engine: Open) -> None:
    """The model may have moved to a dtype of larger values since `submit` checked the request."""

    class ShrunkRunner(FakeRunner):
        has_shrunk = False

        def check(self, request: GenerationRequest) -> None:
            if self.has_shrunk:
                raise OptionError("the KV cache has 0 positions")

        def admit(self, request: GenerationRequest, trace: object) -> FakeRow | None:
            self.has_shrunk = True
            return None

    engine = open_engine(ShrunkRunner())
    with pytest.raises(OptionError, match="0 positions"):
        collect(engine.submit(fake_request()))
    assert_rests(engine)


def test_a_swapped_request_can_be_cancelled_and_its_room_is_counted_once(open_engine: Open) -> None:
    runner = FakeRunner(num_slots=1)
    engine = open_engine(runner, max_buffered_frames=2)
    swapped = engine.submit(fake_request(1, max_frames=50))
    wait_until(lambda: swapped.num_buffered >= 2 * SAMPLES_PER_FRAME)
    other = engine.submit(fake_request(2, max_frames=50))
    wait_until(lambda: runner.num_swapped_out == 1)
    assert engine.num_active == 2
    swapped.cancel()
    wait_until(lambda: engine.num_active == 1)
    assert np.array_equal(collect(other), expected(2, 50))
    wait_until(lambda: engine.num_unfinished == 0)
    assert runner.check_idle() is None


# Failures outside of a frame.


def test_of_prompts_that_run_together_the_faulty_one_fails_alone(open_engine: Open) -> None:
    entered, gate = threading.Event(), threading.Event()

    class FaultyPromptRunner(FakeRunner):
        def prefill(self, rows: list[FakeRow]) -> None:
            labels = [row.request.prompt.token_ids[0] for row in rows]
            if labels == [0]:
                entered.set()
                assert gate.wait(20)
            if 2 in labels:
                raise RuntimeError("a prompt that cannot be run")
            super().prefill(rows)

    runner = FaultyPromptRunner()
    engine = open_engine(runner)
    first = engine.submit(fake_request(0))
    assert entered.wait(20)
    handles = {label: engine.submit(fake_request(label, max_frames=4)) for label in (1, 2, 3)}
    gate.set()
    with pytest.raises(EngineError, match="cannot be run"):
        collect(handles[2])
    for label in (1, 3):
        assert np.array_equal(collect(handles[label]), expected(label, 4))
    assert np.array_equal(collect(first), expected(0, 5))
    wait_until(lambda: runner.check_idle() is None)


@pytest.mark.parametrize("give_up", ["cancel", "close"])
def test_a_long_prompt_is_given_up_between_two_parts(open_engine: Open, give_up: str) -> None:
    entered, gate = threading.Event(), threading.Event()

    class EndlessPromptRunner(FakeRunner):
        num_parts = 0

        def prefill(self, rows: list[FakeRow]) -> None:
            self.num_parts += 1
            entered.set()
            assert gate.wait(20)
            if self.num_parts == 100:
                super().prefill(rows)

    runner = EndlessPromptRunner()
    engine = open_engine(runner)
    handle = engine.submit(fake_request())
    assert entered.wait(20)
    closing = threading.Thread(target=engine.close)
    if give_up == "cancel":
        handle.cancel()
    else:
        closing.start()
        wait_until(lambda: engine._is_closed)
    gate.set()
    with pytest.raises(CancelledError if give_up == "cancel" else EngineStoppedError):
        collect(handle)
    if give_up == "close":
        closing.join(20)
    assert runner.num_parts == 1
    wait_until(lambda: runner.check_idle() is None)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_call_does_not_hang_when_the_thread_dies_before_it_is_served(open_engine: Open) -> None:
    entered, gate = threading.Event(), threading.Event()

    class DyingRunner(RunAheadRunner):
        def wait(self, step: FakeStep) -> None:
            raise SystemExit(3)

        def launch(self, rows: list[FakeRow]) -> FakeStep:
            entered.set()
            assert gate.wait(20)
            return super().launch(rows)

    engine = open_engine(DyingRunner())
    handle = engine.submit(fake_request())
    assert entered.wait(20)
    errors: list[BaseException] = []

    def call() -> None:
        try:
            engine.call(lambda model: None)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    caller = threading.Thread(target=call)
    caller.start()
    wait_until(lambda: len(engine._calls) == 1)
    gate.set()
    caller.join(20)
    assert not caller.is_alive()
    with pytest.raises(EngineStoppedError) as caught:
        collect(handle)
    # Each gets an error of its own: raising one adds frames to it.
    assert isinstance(errors[0], EngineStoppedError)
    assert errors[0] is not caught.value


# Failures of the device.

ILLEGAL_ACCESS = "CUDA error: an illegal memory access was encountered"


def illegal_access() -> RuntimeError:
    """What torch raises, in the class that it has for it."""
    return getattr(torch, "AcceleratorError", RuntimeError)(ILLEGAL_ACCESS)


class FailingDeviceRunner(FakeRunner):
    """A device that fails in one part of the third frame, or of the second prompt, and would go on after it."""

    fails_in = ""
    runs_ahead = False

    def fail(self, part: str, *, is_due: bool) -> None:
        if part == self.fails_in and is_due:
            self.fails_in = ""
            raise illegal_access()

    def admit(self, request: GenerationRequest, trace: object) -> FakeRow | None:
        self.fail("admit", is_due=bool(self.prompts))
        return super().admit(request, trace)

    def prefill(self, rows: list[FakeRow]) -> None:
        self.fail("prefill", is_due=bool(self.prompts))
        super().prefill(rows)

    def launch(self, rows: list[FakeRow]) -> FakeStep:
        self.fail("launch", is_due=rows[0].num_launched == 2)
        return super().launch(rows)

    def wait(self, step: FakeStep) -> None:
        self.fail("wait", is_due=step.rows[0].frame == 2)
        super().wait(step)

    def advance(self, row: FakeRow) -> RowOutput:
        self.fail("advance", is_due=row.frame == 2)
        return super().advance(row)


@pytest.mark.parametrize("part", ["admit", "prefill", "launch", "wait", "advance", "call"])
@pytest.mark.parametrize("runs_ahead", [False, True])
def test_a_failure_of_the_device_ends_everything_visibly(
    open_engine: Open, caplog: pytest.LogCaptureFixture, part: str, *, runs_ahead: bool
) -> None:
    runner = FailingDeviceRunner(num_slots=4)
    runner.fails_in, runner.runs_ahead = part, runs_ahead
    engine = open_engine(runner, max_buffered_frames=8)
    assert engine.failure is None
    # Six for four slots: some run, some wait until others are preempted; nobody reads before the failure.
    with engine._lock:
        handles = [engine.submit(fake_request(label, max_frames=50)) for label in range(6)]

    def break_device(_: object) -> None:
        raise illegal_access()

    if part == "call":
        with pytest.raises(EngineStoppedError, match="illegal memory access"):
            engine.call(break_device)
    wait_until(lambda: engine.failure is not None)
    for label, handle in enumerate(handles):
        got: list[np.ndarray] = []
        with pytest.raises(EngineStoppedError, match="illegal memory access") as caught:
            got.extend(chunk.samples for chunk in handle.chunks())
        assert caught.value.__cause__ is engine.failure
        for frame, samples in enumerate(got):
            assert np.array_equal(samples, frame_samples(label, frame))
    assert isinstance(engine.failure, RuntimeError)
    with pytest.raises(EngineStoppedError, match="restart_engine"):
        engine.submit(fake_request())
    with pytest.raises(EngineStoppedError, match="restart_engine"):
        engine.call(lambda _: None)
    thread = engine._thread
    assert thread is not None
    thread.join(20)
    assert not thread.is_alive()
    assert runner.check_idle() is None
    assert "the engine stopped" in caplog.text


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("CUDA error: out of memory"), ValueError("x")]
)
def test_other_errors_of_a_step_leave_the_engine_alive(open_engine: Open, error: Exception) -> None:
    def fail(label: int, frame: int) -> None:
        if label == 1 and frame == 2:
            raise error

    engine = open_engine(FakeRunner(before_step=fail))
    other, failing = engine.submit(fake_request(0, max_frames=20)), engine.submit(fake_request(1, max_frames=20))
    with pytest.raises(EngineError):
        collect(failing)
    assert np.array_equal(collect(other), expected(0, 20))
    assert engine.failure is None


def test_a_thread_that_dies_of_a_fault_tells_it_and_keeps_no_frames(
    open_engine: Open, caplog: pytest.LogCaptureFixture
) -> None:
    class FaultyRunner(FakeRunner):
        def wait(self, step: FakeStep) -> None:
            raise KeyError("a fault of the engine")

    engine = open_engine(FaultyRunner())
    handle = engine.submit(fake_request())
    with pytest.raises(EngineStoppedError, match="KeyError"):
        collect(handle)
    assert isinstance(engine.failure, KeyError)
    # Frames would keep whatever ran alive, for as long as somebody keeps the error.
    assert engine.failure.__traceback__ is None
    assert any("in wait" in note for note in engine.failure.__notes__)
    assert "in wait" in caplog.text


def test_a_closed_engine_has_not_failed(open_engine: Open) -> None:
    engine = open_engine(FakeRunner())
    collect(engine.submit(fake_request()))
    engine.close()
    assert engine.failure is None


# Frames that are looked at one step late.


def test_what_is_asked_for_ahead_of_an_end_is_dropped(open_engine: Open) -> None:
    runner = RunAheadRunner(ends_after=3, num_slots=2)
    engine = open_engine(runner)
    handles = {label: engine.submit(fake_request(label, max_frames=9)) for label in range(6)}
    for label, handle in handles.items():
        assert np.array_equal(collect(handle), expected(label, 3))
        assert handle.stop == "end"
    wait_until(lambda: runner.check_idle() is None)
    assert_rests(engine)


def test_a_function_runs_when_no_step_is_under_way(open_engine: Open) -> None:
    runner = RunAheadRunner()
    engine = open_engine(runner)
    handle = engine.submit(fake_request(1, max_frames=200))
    seen = [engine.call(lambda _: engine._in_flight) for _ in range(20)]
    assert seen == [None] * 20
    assert np.array_equal(collect(handle), expected(1, 200))


def test_cancelling_with_a_step_under_way_harms_nobody(open_engine: Open) -> None:
    cancel_at: dict[int, Any] = {}

    def cancel(label: int, frame: int) -> None:
        if label == 1 and frame == 3:
            cancel_at[1].cancel()

    runner = RunAheadRunner(before_step=cancel, num_slots=2)
    engine = open_engine(runner)
    entered = engine.call(lambda _: True)
    assert entered
    handles = {}
    with engine._lock:  # nothing runs before the handle is known
        for label in (1, 2, 3):
            handles[label] = cancel_at[label] = engine.submit(fake_request(label, max_frames=30))
    with pytest.raises(CancelledError):
        collect(handles[1])
    for label in (2, 3):
        assert np.array_equal(collect(handles[label]), expected(label, 30))
    wait_until(lambda: runner.check_idle() is None)


# What an ended request keeps alive.


class Marker:
    """Something that can be referred to weakly."""


def test_a_kept_error_keeps_no_other_request_alive(open_engine: Open) -> None:
    class FailingLaunchRunner(FakeRunner):
        def launch(self, rows: list[FakeRow]) -> FakeStep:
            if any(row.request.prompt.token_ids[0] == 2 and row.frame == 2 for row in rows):
                raise RuntimeError("inside")
            return super().launch(rows)

    marker = Marker()

    def noise(frame: int, held: Marker = marker) -> np.ndarray:
        return np.zeros(1, dtype=np.float32)

    runner = FailingLaunchRunner()
    engine = open_engine(runner)
    with engine._lock:
        neighbour: GenerationHandle | None = engine.submit(replace(fake_request(1, max_frames=50), noise=noise))
        failing = engine.submit(fake_request(2, max_frames=50))
    with pytest.raises(EngineError, match="inside") as caught:
        collect(failing)
    assert caught.value.__cause__ is not None
    alive = weakref.ref(marker)
    wait_until(lambda: engine.num_unfinished == 0)
    engine.call(lambda _: None)  # the turn that failed is over
    del neighbour, noise, marker
    gc.collect()
    assert alive() is None


def test_an_engine_that_rests_keeps_no_request_alive(open_engine: Open) -> None:
    engine = open_engine(RunAheadRunner())
    marker = Marker()
    alive = weakref.ref(marker)

    def noise(frame: int, held: Marker = marker) -> np.ndarray:
        return np.zeros(1, dtype=np.float32)

    collect(engine.submit(replace(fake_request(1, max_frames=5), noise=noise)))
    del noise, marker
    wait_until(lambda: engine.num_unfinished == 0)
    engine.call(lambda _: None)
    gc.collect()
    assert alive() is None


def test_an_error_from_inside_says_where_it_was_raised(open_engine: Open) -> None:
    def break_down(label: int, frame: int) -> None:
        raise RuntimeError("inside")

    with pytest.raises(EngineError, match="inside") as caught:
        collect(open_engine(FakeRunner(before_step=break_down)).submit(fake_request()))
    cause = caught.value.__cause__
    assert cause is not None
    assert any("in break_down" in note for note in cause.__notes__)
