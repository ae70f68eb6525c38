"""The engine: one thread that owns the device, a queue in, bounded outboxes out.

    submit -> waiting -> running: prompt in parts, then a frame a turn, side by side -> finished
                            |  ^
                            v  |   (its reader is behind, and others need the room)
                          swapped

Sequences join and leave between frames. A slow reader pauses its own sequence only, and one failing sequence ends
alone. All of it is one idea, the turn that the thread takes, and so it is one file. docs/ENGINE.md follows a request.
"""

from __future__ import annotations

import logging
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, TypeVar

import torch

from voxtral.device import is_device_failure, is_out_of_memory
from voxtral.engine.memory import FEWER_BITS
from voxtral.engine.options import EngineOptions
from voxtral.engine.paths import Paths
from voxtral.engine.process import BoundToProcess
from voxtral.engine.protocol import Counts, RowOutput, RowProtocol, RunnerProtocol, StepProtocol
from voxtral.engine.runner import Runner
from voxtral.engine.scheduler import Scheduler
from voxtral.engine.sequence import GenerationHandle, GenerationRequest, GenerationTrace, Sequence, too_late
from voxtral.errors import EngineError, EngineStoppedError, VoxtralError
from voxtral.model.voxtral import VoxtralModel

T = TypeVar("T")

_log = logging.getLogger(__name__)

_Call = tuple[Callable[[VoxtralModel], Any], Future[Any]]


class Engine(BoundToProcess):
    """Runs requests on one model, many at once; safe to call from many threads, and not from a forked child.

    The thread starts with the first request and ends with `close`.

    Args:
        model: not to be touched by others while the engine is open, except through `call`.
        options: see EngineOptions.
        runner: takes the place of the plain runner; the one seam that tests replace.
        paths: ways of computing that are open; what fails is closed there, for later engines too.
    """

    def __init__(
        self,
        model: VoxtralModel,
        options: EngineOptions | None = None,
        *,
        runner: RunnerProtocol[Any, Any] | None = None,
        paths: Paths | None = None,
    ) -> None:
        super().__init__()
        self.options = options or EngineOptions()
        self.paths = paths or Paths()
        chosen: RunnerProtocol[Any, Any] = runner or Runner(model, self.options, self.paths)
        # It is only ever given its own rows and steps, whatever else those are.
        self._runner: RunnerProtocol[RowProtocol, StepProtocol] = chosen
        self._model = model
        self._samples_per_frame = model.config.samples_per_frame
        self._lock = threading.RLock()
        self._wakeup = threading.Condition(self._lock)
        self._scheduler = Scheduler(sample_rate=model.config.sample_rate)
        self._calls: deque[_Call] = deque()
        self._in_flight: StepProtocol | None = None  # the step that was asked for and not looked at yet
        self._thread: threading.Thread | None = None
        self._is_closed = False
        self._failure: BaseException | None = None

    def submit(self, request: GenerationRequest, *, trace: GenerationTrace | None = None) -> GenerationHandle:
        """Queue a request; returns at once.

        Raises:
            OptionError: the request is longer than the whole KV cache, or its text than a follower can follow.
            EngineStoppedError: the engine has been closed, has failed, or is the parent's of a fork.
        """
        self.check_process()
        self._runner.check(request)
        handle = GenerationHandle(self._wakeup, threading.Condition(self._lock))
        max_frames = request.max_buffered_frames or self.options.max_buffered_frames
        sequence = Sequence(request, handle, trace, max_buffered=max_frames * self._samples_per_frame)
        with self._wakeup:
            self._check_open()
            self._start_thread()
            self._scheduler.add(sequence)
            self._wakeup.notify_all()
        return handle

    def call(self, function: Callable[[VoxtralModel], T]) -> T:
        """Run a function of the model on the engine's thread, between two frames, and wait for it.

        Raises:
            EngineStoppedError: the engine has been closed, has failed, or is the parent's of a fork.
            EngineError: memory ran out.
            Exception: whatever else the function raises.
        """
        self.check_process()
        future: Future[T] = Future()
        with self._wakeup:
            self._check_open()
            self._start_thread()
            self._calls.append((function, future))
            self._wakeup.notify_all()
        return future.result()

    def weights_changed(self) -> None:
        """Forget what was computed from the weights: shared voices, tables. Within `call`, while nobody is active."""
        self._runner.weights_changed()

    def follow_text(self, heads: Iterable[tuple[int, int]]) -> None:
        """Let other heads follow the texts from the next frame on: a checkpoint may be calibrated while it is in use.

        Requests under way go on. One whose follower has seen all frames so far is shown what the new heads see, one
        that began when nothing was measured is not followed any more. Waits for the engine, and so is not for `call`.

        Args:
            heads: layer and query head each; none measures nothing.

        Raises:
            OptionError: the model has no such heads; nothing was changed.
            EngineStoppedError: the engine has been closed, has failed, or is the parent's of a fork.
        """
        chosen = tuple((layer, head) for layer, head in heads)

        def change(_: VoxtralModel) -> None:
            self._runner.follow_text(chosen)
            self.options = replace(self.options, text_heads=chosen)  # an engine that is restarted begins with them

        self.call(change)

    def warm_up(self, limit_s: float) -> str:
        """Compile and capture what the first requests would wait for; says what, and how long it took.

        Raises:
            EngineStoppedError: the engine has been closed, or has failed.
            Exception: whatever fails, and would fail in use too.
        """
        return self.call(lambda _: self._runner.warm_up(limit_s))

    @property
    def num_active(self) -> int:
        """Requests that hold state of the model."""
        self.check_process()
        with self._wakeup:
            return self._scheduler.num_admitted

    @property
    def num_unfinished(self) -> int:
        """Requests that wait or run."""
        self.check_process()
        with self._wakeup:
            return self._scheduler.num_unfinished

    @property
    def max_batch(self) -> int:
        """Sequences that make frames side by side."""
        return self._runner.max_batch

    @property
    def counts(self) -> Counts | None:
        """Slots and blocks that are free and in use; None before the first request."""
        return self._runner.counts

    @property
    def failure(self) -> BaseException | None:
        """What ended the thread, if it was not `close`; then this engine is dead, and a new one may work."""
        return self._failure

    def close(self) -> None:
        """Stop the thread; unfinished requests fail with EngineStoppedError. May be called twice."""
        if self.is_foreign:  # also when a forked child ends: the parent's goes on
            return
        with self._wakeup:
            self._is_closed = True
            thread = self._thread
            self._wakeup.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _check_open(self) -> None:
        if self._failure is not None:
            raise _stopped(self._failure)
        if self._is_closed:
            raise EngineStoppedError("the engine has been closed; it takes no more requests; load the model again")

    def _start_thread(self) -> None:
        if self._thread is not None:
            return
        is_ready = threading.Event()
        thread = threading.Thread(target=self._run, args=(is_ready,), name="voxtral-engine", daemon=True)
        # Torch keeps a number for each thread, and one for threads to come. The engine sets both; what others
        # had is put back before anything else happens.
        others = torch.get_num_threads()
        try:
            thread.start()
        except RuntimeError as error:
            raise _as_engine_error(error) from error  # there is no memory for one, or no more are allowed
        self._thread = thread
        if self.options.num_threads is not None:
            is_ready.wait()
            torch.set_num_threads(others)

    def _run(self, is_ready: threading.Event) -> None:
        cause: BaseException | None = None
        if self.options.num_threads is not None:
            torch.get_num_threads()  # a thread takes the common number when it first asks, over what was set before
            torch.set_num_threads(self.options.num_threads)
        is_ready.set()
        try:
            with torch.inference_mode():
                while self._take_turn():
                    pass
        except Exception as error:  # noqa: BLE001 - everybody who waits is told of it, and `failure` tells others
            cause = error
            _log.critical("the engine stopped: %s", type(error).__name__, exc_info=error)
            _turn_frames_to_text(error)
        except BaseException as error:
            cause = error
            raise
        finally:
            self._fail_all(cause)

    def _take_turn(self) -> bool:
        """Look around, admit, run prompts, make a frame. False ends the thread."""
        with self._wakeup:
            while not self._has_work():
                self._check_idle()
                seconds = self._scheduler.seconds_to_deadline(time.perf_counter())
                self._wakeup.wait(None if seconds is None else min(seconds, threading.TIMEOUT_MAX))
            if self._is_closed:
                return False
            lost = self._scheduler.take_lost(time.perf_counter())
            for sequence in lost:
                # Nobody waits for a frame of what was given up, so the reader hears of it at once.
                sequence.handle.finish(
                    error=None if sequence.handle.is_cancelled else too_late(sequence.request.deadline_s)
                )
        for sequence in lost:
            self._free(sequence)
        self._serve_call()
        self._admit()
        self._run_prompts()
        self._make_frames()
        return True

    def _has_work(self) -> bool:
        """Tell whether a turn would do something. The condition is held."""
        now = time.perf_counter()
        return bool(
            self._is_closed
            or self._calls
            or self._in_flight is not None
            or self._runner.has_audio
            or self._scheduler.has_work(now)
        )

    def _admit(self) -> None:
        """Let in whoever comes next, as long as there is room."""
        while True:
            with self._wakeup:
                sequence = self._scheduler.next_to_admit()
            if sequence is None or not self._let_in(sequence):
                return

    def _let_in(self, sequence: Sequence) -> bool:
        """Give a sequence a row; False if it has to wait: for room, even after preempting others, or a prefix."""
        if sequence.row is None and self._runner.is_prefix_awaited(sequence.request, self._scheduler.rows):
            return False
        try:
            while not self._try_row(sequence):
                if not self._make_room(sequence):
                    return False
        # Whatever goes wrong in one sequence ends that sequence alone.
        except Exception as error:  # noqa: BLE001
            self._fail(sequence, error)
            return True
        with self._wakeup:
            self._scheduler.admit(sequence)
        return True

    def _try_row(self, sequence: Sequence) -> bool:
        if sequence.row is not None:
            return self._runner.swap_in(sequence.row)
        sequence.row = self._runner.admit(sequence.request, sequence.trace)
        return sequence.row is not None

    def _make_room(self, sequence: Sequence) -> bool:
        """Preempt whoever is behind by the most; False if nobody is."""
        with self._wakeup:
            behind = self._scheduler.next_to_preempt()
        if behind is None:
            if not self._scheduler.running:
                # All room is free, so that waiting would not help. It fitted when it was submitted.
                self._runner.check(sequence.request)
                raise AssertionError("the KV cache has no room for a request although nobody holds any")
            return False
        self._look_at_step()  # it may hold a frame of the row that goes
        if behind.row is None or behind not in self._scheduler.running:
            return True
        try:
            self._runner.swap_out(behind.row)
        except Exception as error:  # noqa: BLE001
            self._fail(behind, error)
            return True
        with self._wakeup:
            self._scheduler.preempt(behind)
        return True

    def _run_prompts(self) -> None:
        """Run prompts: all of them, unless somebody who is being heard would run dry meanwhile."""
        while True:
            with self._wakeup:
                prompts = self._scheduler.prompts()
                if not prompts or self._is_closed or any(sequence.handle.is_cancelled for sequence in prompts):
                    return
                is_urgent = self._scheduler.is_urgent(time.perf_counter())
            part = self._next_part(prompts)
            self._run_part(part)
            if is_urgent or any(sequence.is_prefilled for sequence in part):
                return

    def _run_part(self, part: list[Sequence]) -> None:
        """Run a part of some prompts together; if that fails, one by one shows whose fault it is."""
        started = time.perf_counter()
        try:
            self._runner.prefill([sequence.admitted_row for sequence in part])
        except Exception as error:  # noqa: BLE001
            if len(part) == 1 or is_device_failure(error):
                self._fail(part[0], error)
                return
            for sequence in part:
                if not sequence.is_prefilled:
                    self._run_part([sequence])
            return
        elapsed = time.perf_counter() - started
        for sequence in part:
            sequence.handle.stats.compute_s += elapsed / len(part)

    def _next_part(self, prompts: list[Sequence]) -> list[Sequence]:
        """Choose whose prompts go on together: the first, and those after it that fit beside it."""
        part, room = [prompts[0]], self.options.prefill_positions
        room -= self._runner.num_positions_of_part(prompts[0].admitted_row)
        for sequence in prompts[1:]:
            room -= self._runner.num_positions_of_part(sequence.admitted_row)
            if room < 0:
                break
            part.append(sequence)
        return part

    def _make_frames(self) -> None:
        """Ask for the next frame of everybody who may go on, and look at the frames asked for before."""
        with self._wakeup:
            sequences = self._scheduler.choose_rows()
        started = time.perf_counter()
        step = None
        if sequences:
            try:
                step = self._runner.launch([sequence.admitted_row for sequence in sequences])
            except Exception as error:  # noqa: BLE001
                for sequence in sequences:
                    self._fail(sequence, error)
        if self._runner.runs_ahead:
            step, self._in_flight = self._in_flight, step
        # Audio that is there must not wait for a frame; with nothing else under way it is what is waited for.
        self._hand_over_audio(wait=step is None and self._in_flight is None)
        self._look_at(step, started)

    def _look_at_step(self) -> None:
        """Look at the step that is under way, if any, and hand over all audio."""
        step, self._in_flight = self._in_flight, None
        self._look_at(step, time.perf_counter())
        self._hand_over_audio(wait=True)

    def _look_at(self, step: StepProtocol | None, started: float) -> None:
        """Hand over what a step made; each row bears its share of the step and the time of its own audio."""
        if step is None:
            return
        self._runner.wait(step)
        mark = time.perf_counter()
        share = (mark - started) / step.num_rows
        for row, outcome in self._runner.collect(step):
            self._take(row, outcome, share + time.perf_counter() - mark)
            mark = time.perf_counter()

    def _hand_over_audio(self, *, wait: bool) -> None:
        """Hand over audio that was under way; each row bears the time that its own took here."""
        mark = time.perf_counter()
        for row, outcome in self._runner.hand_over(wait=wait):
            self._take(row, outcome, time.perf_counter() - mark)
            mark = time.perf_counter()

    def _take(self, row: RowProtocol, outcome: RowOutput | Exception, seconds: float) -> None:
        sequence = self._scheduler.sequence_of(row)
        # None: it ended or was given up while this was under way.
        if sequence is None:
            return
        sequence.handle.stats.compute_s += seconds
        if isinstance(outcome, Exception):
            self._fail(sequence, outcome)
        else:
            self._hand_over(sequence, outcome)

    def _hand_over(self, sequence: Sequence, output: RowOutput) -> None:
        sequence.handle.stats.num_frames = output.num_frames
        if output.chunk is None and output.stop is None:
            return  # most frames of a stream: nobody waits for them
        with self._wakeup:
            if output.chunk is not None:
                sequence.push(output.chunk)
            if output.stop is None:
                return
            self._scheduler.remove(sequence)
            sequence.handle.finish(stop=output.stop)
        self._free(sequence)

    def _fail(self, sequence: Sequence, error: Exception) -> None:
        """End one sequence; where the device has failed, so would all that come after it, and the thread ends."""
        if is_device_failure(error):
            raise error
        with self._wakeup:
            self._scheduler.remove(sequence)
            sequence.handle.finish(error=_as_engine_error(error))
        self._free(sequence)

    def _free(self, sequence: Sequence) -> None:
        row, sequence.row = sequence.row, None
        if row is not None:
            self._runner.release(row)

    def _serve_call(self) -> None:
        """Serve the oldest call, if any."""
        if not self._calls:
            return
        self._look_at_step()  # a function may change what a step still uses
        # Not before: whatever ends the thread up to here must find the call and fail it.
        with self._wakeup:
            function, future = self._calls.popleft()
        try:
            future.set_result(function(self._model))
        except BaseException as error:
            has_failed = is_device_failure(error)
            if has_failed:
                future.set_exception(_stopped(error))
            elif isinstance(error, Exception) and is_out_of_memory(error):
                future.set_exception(_as_engine_error(error))
            else:
                future.set_exception(error)
            # An ordinary error belongs to the caller alone; anything else ends the thread too.
            if has_failed or not isinstance(error, Exception):
                raise

    def _check_idle(self) -> None:
        """With nobody left, everything must be free. The condition is held."""
        if self._scheduler.num_unfinished:
            return
        problem = self._runner.check_idle()
        if problem is not None:
            _log.error("the engine counted wrongly: %s; it starts its cache anew; please report this", problem)
            self._runner.reset()

    def _fail_all(self, cause: BaseException | None) -> None:
        with self._wakeup:
            self._is_closed = True
            self._failure = cause
            for sequence in self._scheduler.clear():
                sequence.handle.finish(error=_stopped(cause))
                sequence.row = None
            while self._calls:
                self._calls.popleft()[1].set_exception(_stopped(cause))
        self._in_flight = None
        self._runner.reset()


def _stopped(cause: BaseException | None) -> EngineStoppedError:
    # One for each who gets it: raising adds frames to an error.
    error = EngineStoppedError(
        "the engine was closed before the request was done; it takes no more requests; load the model again"
        if cause is None
        else f"the engine failed ({type(cause).__name__}: {cause}); it takes no more requests; call restart_engine, or "
        "load the model again"
    )
    error.__cause__ = cause
    return error


def _turn_frames_to_text(error: BaseException) -> None:
    # The error may be kept for long, and frames hold tensors and, through the engine's own, other requests.
    link: BaseException | None = error
    while link is not None:
        if link.__traceback__ is not None:
            link.add_note("".join(("It was raised here:\n", *traceback.format_tb(link.__traceback__))).rstrip())
            link.__traceback__ = None
        link = link.__cause__ or link.__context__


def _as_engine_error(error: Exception) -> VoxtralError:
    _turn_frames_to_text(error)
    if isinstance(error, VoxtralError):
        return error
    if is_out_of_memory(error):
        what = str(error) or type(error).__name__
        message = f"out of memory ({what}); the model and the running requests must fit; {FEWER_BITS}"
    else:
        message = f"the generation failed inside the engine ({type(error).__name__}: {error}); please report this"
    wrapped = EngineError(message)
    wrapped.__cause__ = error
    return wrapped
