"""The engine with a fake runner: order, back-pressure, cancellation, failures, shutdown."""

from __future__ import annotations

import gc
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from fakes import SAMPLES_PER_FRAME, FakeRunner, fake_engine, fake_request, frame_samples
from voxtral.engine.engine import Engine
from voxtral.engine.sequence import GenerationHandle
from voxtral.errors import CancelledError, EngineError, EngineStoppedError, NumericsError


def collect(handle: GenerationHandle) -> np.ndarray:
    return np.concatenate([chunk.samples for chunk in handle.chunks()])


def expected(label: int, num_frames: int) -> np.ndarray:
    return np.concatenate([frame_samples(label, frame) for frame in range(num_frames)])


def wait_until(condition: Any, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.002)


@pytest.fixture
def engines() -> Iterator[list[Engine]]:
    opened: list[Engine] = []
    yield opened
    for engine in opened:
        engine.close()


def test_a_request_gives_all_its_audio_and_its_reason(engines: list[Engine]) -> None:
    engine = fake_engine(FakeRunner(ends_after=4))
    engines.append(engine)
    handle = engine.submit(fake_request(max_frames=9))
    assert np.array_equal(collect(handle), expected(0, 4))
    assert handle.stop == "end"
    assert handle.stats.num_frames == 4
    assert handle.stats.first_chunk_at is not None


def test_the_budget_ends_a_request(engines: list[Engine]) -> None:
    engine = fake_engine(FakeRunner())
    engines.append(engine)
    handle = engine.submit(fake_request(max_frames=3))
    assert len(collect(handle)) == 3 * SAMPLES_PER_FRAME
    assert handle.stop == "length"


def test_the_first_chunk_is_there_after_one_step(engines: list[Engine]) -> None:
    gate = threading.Event()

    def hold_after_first(label: int, frame: int) -> None:
        if frame == 1:
            assert gate.wait(10)

    runner = FakeRunner(before_step=hold_after_first)
    engine = fake_engine(runner)
    engines.append(engine)
    chunks = engine.submit(fake_request()).chunks()
    assert np.array_equal(next(chunks).samples, frame_samples(0, 0))
    assert runner.steps == [(0, 0)]
    gate.set()
    assert len(list(chunks)) == 4


def test_a_slow_reader_pauses_itself_only(engines: list[Engine]) -> None:
    runner = FakeRunner()
    engine = fake_engine(runner, max_buffered_frames=3)
    engines.append(engine)
    slow = engine.submit(fake_request(1, max_frames=50))
    quick = engine.submit(fake_request(2, max_frames=50))
    assert np.array_equal(collect(quick), expected(2, 50))
    assert sum(1 for label, _ in runner.steps if label == 1) == 3
    assert np.array_equal(collect(slow), expected(1, 50))


def test_requests_go_side_by_side_in_the_order_of_arrival(engines: list[Engine]) -> None:
    entered, gate = threading.Event(), threading.Event()

    def hold(label: int, frame: int) -> None:
        entered.set()
        assert gate.wait(10)

    runner = FakeRunner(before_step=hold)
    engine = fake_engine(runner)
    engines.append(engine)
    handles = [engine.submit(fake_request(0, max_frames=3))]
    assert entered.wait(10)
    handles += [engine.submit(fake_request(label, max_frames=3)) for label in (1, 2, 3)]
    gate.set()
    for label, handle in enumerate(handles):
        assert np.array_equal(collect(handle), expected(label, 3))
    # They join after the frame that was under way; then all make a frame a turn, whose first audio it is first.
    assert runner.prompts == [[0], [1, 2, 3]]
    assert runner.steps == [
        *((0, 0), (0, 1), (1, 0), (2, 0), (3, 0)),
        *((0, 2), (1, 1), (2, 1), (3, 1)),
        *((1, 2), (2, 2), (3, 2)),
    ]


def test_cancelling_stops_before_the_next_frame_and_frees_the_slot(engines: list[Engine]) -> None:
    entered, gate = threading.Event(), threading.Event()

    def hold(label: int, frame: int) -> None:
        if label == 1 and frame == 2:
            entered.set()
            assert gate.wait(10)

    runner = FakeRunner(before_step=hold)
    engine = fake_engine(runner)
    engines.append(engine)
    handle = engine.submit(fake_request(1, max_frames=100))
    assert entered.wait(10)
    handle.cancel()
    gate.set()
    with pytest.raises(CancelledError):
        collect(handle)
    assert sum(1 for label, _ in runner.steps if label == 1) == 3
    assert engine.num_unfinished == 0


def test_leaving_the_loop_cancels(engines: list[Engine]) -> None:
    engine = fake_engine(FakeRunner(), max_buffered_frames=2)
    engines.append(engine)
    for _ in engine.submit(fake_request(max_frames=1000)).chunks():
        break
    gc.collect()
    wait_until(lambda: engine.num_unfinished == 0)


def test_a_waiting_request_can_be_cancelled(engines: list[Engine]) -> None:
    gate = threading.Event()
    engine = fake_engine(FakeRunner(before_step=lambda label, frame: gate.wait(10) and None))
    engines.append(engine)
    first = engine.submit(fake_request(1, max_frames=4))
    second = engine.submit(fake_request(2))
    second.cancel()
    gate.set()
    wait_until(lambda: second.is_done)
    with pytest.raises(CancelledError):
        collect(second)
    assert np.array_equal(collect(first), expected(1, 4))


@pytest.mark.parametrize(
    ("raised", "seen"),
    [
        (NumericsError("not finite"), NumericsError),
        (RuntimeError("inside"), EngineError),
        (MemoryError(), EngineError),
    ],
)
def test_one_failing_request_leaves_the_others_untouched(
    engines: list[Engine], raised: Exception, seen: type[Exception]
) -> None:
    def fail(label: int, frame: int) -> None:
        if label == 2 and frame == 3:
            raise raised

    engine = fake_engine(FakeRunner(before_step=fail))
    engines.append(engine)
    handles = [engine.submit(fake_request(label, max_frames=6)) for label in (1, 2, 3)]
    got: list[np.ndarray] = []
    with pytest.raises(seen):
        got.extend(chunk.samples for chunk in handles[1].chunks())
    # What came before the failure is good audio, and the failure is not an ordinary end.
    assert np.array_equal(np.concatenate(got), expected(2, 3))
    assert handles[1].stop is None
    for label, handle in ((1, handles[0]), (3, handles[2])):
        assert np.array_equal(collect(handle), expected(label, 6))
    assert engine.num_unfinished == 0


def test_closing_fails_what_is_unfinished_and_refuses_more(engines: list[Engine]) -> None:
    before = set(threading.enumerate())
    engine = fake_engine(FakeRunner(), max_buffered_frames=2)
    handle = engine.submit(fake_request(max_frames=1000))
    engine.close()
    engine.close()
    with pytest.raises(EngineStoppedError):
        collect(handle)
    with pytest.raises(EngineStoppedError):
        engine.submit(fake_request())
    with pytest.raises(EngineStoppedError):
        engine.call(lambda model: None)
    assert set(threading.enumerate()) <= before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_thread_fails_everything_visibly(engines: list[Engine]) -> None:
    def die(label: int, frame: int) -> None:
        raise SystemExit(3)

    engine = fake_engine(FakeRunner(before_step=die))
    engines.append(engine)
    handle = engine.submit(fake_request())
    with pytest.raises(EngineStoppedError) as caught:
        collect(handle)
    assert isinstance(caught.value.__cause__, SystemExit)
    with pytest.raises(EngineStoppedError):
        engine.submit(fake_request())


def test_calls_run_on_the_engines_thread_and_pass_errors_on(engines: list[Engine]) -> None:
    engine = fake_engine(FakeRunner())
    engines.append(engine)
    assert engine.call(lambda model: threading.current_thread().name) == "voxtral-engine"
    with pytest.raises(ZeroDivisionError):
        engine.call(lambda model: 1 / 0)
    assert np.array_equal(collect(engine.submit(fake_request(max_frames=2))), expected(0, 2))


def test_many_threads_at_once_each_get_their_own_audio(engines: list[Engine]) -> None:
    engine = fake_engine(FakeRunner(), max_buffered_frames=2)
    engines.append(engine)
    results: dict[int, np.ndarray] = {}

    def speak(label: int) -> None:
        results[label] = collect(engine.submit(fake_request(label, max_frames=20)))

    threads = [threading.Thread(target=speak, args=(label,)) for label in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(results) == list(range(12))
    assert all(np.array_equal(results[label], expected(label, 20)) for label in results)
    assert engine.num_unfinished == 0


def test_readers_that_never_come_hold_up_nobody(engines: list[Engine]) -> None:
    engine = fake_engine(FakeRunner(), max_buffered_frames=2)
    engines.append(engine)
    unread = [engine.submit(fake_request(label, max_frames=50)) for label in range(40)]
    assert np.array_equal(collect(engine.submit(fake_request(99, max_frames=5))), expected(99, 5))
    for handle in unread:
        handle.cancel()
    wait_until(lambda: engine.num_unfinished == 0)


def test_what_is_cancelled_gives_out_no_more(engines: list[Engine]) -> None:
    engine = fake_engine(FakeRunner())
    engines.append(engine)
    handle = engine.submit(fake_request(max_frames=5))
    wait_until(lambda: handle.is_done)
    handle.cancel()
    with pytest.raises(CancelledError):
        collect(handle)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_call_that_ends_the_thread_does_not_hang_its_caller(engines: list[Engine]) -> None:
    engine = fake_engine(FakeRunner())
    engines.append(engine)

    def leave(model: Any) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        engine.call(leave)
    with pytest.raises(EngineStoppedError):
        engine.submit(fake_request())


def test_cancelling_during_the_last_frame_is_no_ordinary_end(engines: list[Engine]) -> None:
    entered, gate = threading.Event(), threading.Event()

    def hold(label: int, frame: int) -> None:
        if frame == 2:
            entered.set()
            assert gate.wait(10)

    engine = fake_engine(FakeRunner(before_step=hold))
    engines.append(engine)
    handle = engine.submit(fake_request(max_frames=3))
    assert entered.wait(10)
    handle.cancel()
    gate.set()
    with pytest.raises(CancelledError):
        list(handle.chunks())


def test_the_engine_computes_with_its_own_number_of_threads() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        engine = fake_engine(FakeRunner(), num_threads=1)
        assert engine.call(lambda _: torch.get_num_threads()) == 1
        # Neither this thread nor one that comes later is touched.
        assert torch.get_num_threads() == 2
        later: list[int] = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert later == [2]
        engine.close()
    finally:
        torch.set_num_threads(before)


def test_without_a_number_the_engine_takes_that_of_torch() -> None:
    engine = fake_engine(FakeRunner())
    assert engine.call(lambda _: torch.get_num_threads()) == torch.get_num_threads()
    engine.close()
