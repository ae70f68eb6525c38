"""The engine: a thread that owns the device, a queue in, bounded outboxes out.

    submit -> waiting -> active (oldest first, one frame at a time) -> finished

One row at a time: the oldest sequence whose reader keeps up makes the next frame. A slow reader so
pauses its own sequence only, and one failing sequence ends alone. docs/ENGINE.md follows a request.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import torch

from voxtral.engine.options import EngineOptions
from voxtral.engine.runner import Runner
from voxtral.engine.sequence import GenerationHandle, GenerationRequest, GenerationTrace, Sequence
from voxtral.errors import EngineError, EngineStoppedError, VoxtralError
from voxtral.model.voxtral import VoxtralModel

T = TypeVar("T")


class Engine:
    """Runs requests on one model; safe to call from many threads.

    The thread starts with the first request and ends with `close`.

    Args:
        model: not to be touched by others while the engine is open, except through `call`.
        options: see EngineOptions.
        runner: takes the place of the plain runner; the one seam that tests replace.
    """

    def __init__(self, model: VoxtralModel, options: EngineOptions | None = None, *, runner: Any = None) -> None:
        self.options = options or EngineOptions()
        self._runner = runner or Runner(model, self.options)
        self._max_buffered = self.options.max_buffered_frames * model.config.samples_per_frame
        self._model = model
        self._wakeup = threading.Condition()
        self._waiting: deque[Sequence] = deque()
        self._active: list[Sequence] = []
        self._calls: deque[tuple[Callable[[VoxtralModel], Any], Future[Any]]] = deque()
        self._thread: threading.Thread | None = None
        self._is_closed = False

    def submit(self, request: GenerationRequest, *, trace: GenerationTrace | None = None) -> GenerationHandle:
        """Queue a request; returns at once.

        Raises:
            EngineStoppedError: the engine has been closed.
        """
        handle = GenerationHandle(self._wakeup)
        with self._wakeup:
            self._check_open()
            self._waiting.append(Sequence(request, handle, trace))
            self._start_thread()
            self._wakeup.notify_all()
        return handle

    def call(self, function: Callable[[VoxtralModel], T]) -> T:
        """Run a function of the model on the engine's thread, between two frames, and wait for it.

        Raises:
            EngineStoppedError: the engine has been closed.
            Exception: whatever the function raises.
        """
        future: Future[T] = Future()
        with self._wakeup:
            self._check_open()
            self._calls.append((function, future))
            self._start_thread()
            self._wakeup.notify_all()
        return future.result()

    @property
    def num_active(self) -> int:
        """Requests that hold state on the device."""
        with self._wakeup:
            return sum(1 for sequence in self._active if sequence.state is not None)

    @property
    def num_unfinished(self) -> int:
        """Requests that wait or run."""
        with self._wakeup:
            return len(self._waiting) + len(self._active)

    def close(self) -> None:
        """Stop the thread; unfinished requests fail with EngineStoppedError. May be called twice."""
        with self._wakeup:
            self._is_closed = True
            thread = self._thread
            self._wakeup.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _check_open(self) -> None:
        if self._is_closed:
            raise EngineStoppedError("the engine has been closed; it takes no more requests; load the model again")

    def _start_thread(self) -> None:
        if self._thread is not None:
            return
        is_ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(is_ready,), name="voxtral-engine", daemon=True)
        if self.options.num_threads is None:
            self._thread.start()
            return
        # Torch keeps a number for each thread, and one for threads to come. The engine sets both; what others
        # had is put back before anything else happens.
        others = torch.get_num_threads()
        self._thread.start()
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
                while self._step():
                    pass
        except BaseException as error:
            cause = error
            raise
        finally:
            self._fail_all(cause)

    def _step(self) -> bool:
        """Do one thing: a call, or a frame of the oldest sequence that can go on. False ends the thread."""
        with self._wakeup:
            while True:
                if self._is_closed:
                    return False
                self._drop_cancelled()
                if self._calls:
                    function, future = self._calls.popleft()
                    sequence = None
                    break
                sequence = self._next_runnable()
                if sequence is not None:
                    function = future = None
                    break
                self._wakeup.wait()
        if sequence is not None:
            self._advance(sequence)
        elif function is not None and future is not None:
            self._serve_call(function, future)
        return True

    def _next_runnable(self) -> Sequence | None:
        """Choose who makes the next frame, and admit it if need be. The condition is held."""
        ready = [sequence for sequence in self._active if sequence.handle.num_buffered < self._max_buffered]
        # Whoever is far ahead of its reader comes after those who are not.
        for sequence in ready:
            if sequence.handle.num_buffered <= self._max_buffered // 2:
                return sequence
        # A sequence is admitted when those before it are done or wait for their readers. There is no limit
        # beyond that: one would let readers that never come hold up everybody else.
        if not self._waiting:
            return ready[0] if ready else None
        self._active.append(self._waiting.popleft())
        return self._active[-1]

    def _drop_cancelled(self) -> None:
        """Free what was cancelled. The condition is held."""
        for sequence in [*self._active, *self._waiting]:
            if sequence.handle.is_cancelled:
                self._retire(sequence)
                sequence.handle.finish()

    def _retire(self, sequence: Sequence) -> None:
        if sequence in self._active:
            self._active.remove(sequence)
        else:
            self._waiting.remove(sequence)
        sequence.state = None

    def _advance(self, sequence: Sequence) -> None:
        handle = sequence.handle
        started = time.perf_counter()
        try:
            if sequence.state is None:
                sequence.state = self._runner.start(sequence.request)
            progress = self._runner.advance(sequence.request, sequence.state, sequence.trace)
        # Whatever goes wrong in one sequence ends that sequence alone.
        except Exception as error:  # noqa: BLE001
            with self._wakeup:
                self._retire(sequence)
                handle.finish(error=_as_engine_error(error))
            return
        with self._wakeup:
            handle.stats.compute_s += time.perf_counter() - started
            handle.stats.num_frames = progress.num_frames
            if progress.samples is not None:
                handle.push(progress.samples)
            if progress.stop is not None:
                self._retire(sequence)
                handle.finish(stop=progress.stop)

    def _serve_call(self, function: Callable[[VoxtralModel], Any], future: Future[Any]) -> None:
        try:
            future.set_result(function(self._model))
        except BaseException as error:
            future.set_exception(error)
            # An ordinary error belongs to the caller alone; anything else ends the thread too.
            if not isinstance(error, Exception):
                raise

    def _fail_all(self, cause: BaseException | None) -> None:
        error = EngineStoppedError("the engine stopped before the request was done; load the model again")
        error.__cause__ = cause
        with self._wakeup:
            self._is_closed = True
            for sequence in [*self._active, *self._waiting]:
                sequence.handle.finish(error=error)
            self._active.clear()
            self._waiting.clear()
            while self._calls:
                self._calls.popleft()[1].set_exception(error)


def _as_engine_error(error: Exception) -> VoxtralError:
    # The frames of the failure hold tensors; the error may be kept for long.
    traceback.clear_frames(error.__traceback__)
    if isinstance(error, VoxtralError):
        return error
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        message = "out of memory; the model and the running requests must fit; close others or use a smaller dtype"
    else:
        message = f"the generation failed inside the engine ({type(error).__name__}: {error}); please report this"
    wrapped = EngineError(message)
    wrapped.__cause__ = error
    return wrapped
