"""Reading an utterance while it is made: a stream for loops of both kinds, and the one face for event loops.

Work begins when a handle is made; what is here waits for its audio. Read next: `voxtral.speech.utterance`.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Executor
from typing import Generic, TypeVar

from voxtral.errors import CancelledError, EngineError
from voxtral.speech.utterance import SpeechHandle
from voxtral.types import AudioChunk

T = TypeVar("T")


class SpeechReader(Generic[T]):
    """An utterance as an event loop reads it: `open`, then `read` until it gives None; `close` in any case.

    Whatever waits or computes runs in a thread, one call at a time. A caller that is cancelled leaves its call to end
    by itself.

    Args:
        begin: starts the utterance and tells how it is read; runs in a thread.
        executor: of the threads; None takes those of the event loop.
    """

    def __init__(self, begin: Callable[[], tuple[SpeechHandle, Iterator[T]]], executor: Executor | None = None) -> None:
        self._begin = begin
        self._executor = executor
        self._handle: SpeechHandle | None = None
        self._pieces: Iterator[T] | None = None
        self._work: asyncio.Future[T | None] | None = None
        self._is_cancelled = False

    @property
    def handle(self) -> SpeechHandle | None:
        """The utterance; None while it has not begun."""
        return self._handle

    async def open(self) -> T | None:
        """Begin, and wait for the first piece.

        Raises:
            VoxtralError: the request breaks a rule, or failed.
            CancelledError: `cancel` was called.
        """
        return await self._in_thread(self._open)

    async def read(self) -> T | None:
        """Wait for the next piece; None is the end.

        Raises:
            VoxtralError: the utterance failed; what was read before is good.
            CancelledError: `cancel` was called, or it has not been opened.
        """
        return await self._in_thread(self._read)

    def cancel(self) -> None:
        """Stop before the next frame."""
        self._is_cancelled = True
        if self._handle is not None:
            self._handle.cancel()

    async def close(self) -> None:
        """Stop what still runs, and wait until no thread works for it."""
        self.cancel()
        if self._work is not None:
            await asyncio.wait([self._work])
        self.cancel()

    async def _in_thread(self, function: Callable[[], T | None]) -> T | None:
        in_context = contextvars.copy_context().run
        self._work = asyncio.get_running_loop().run_in_executor(self._executor, in_context, function)
        # Whoever waits for it may leave first: asyncio need not tell that nobody saw how it failed.
        self._work.add_done_callback(lambda work: work.cancelled() or work.exception())
        return await asyncio.shield(self._work)

    def _open(self) -> T | None:
        if self._is_cancelled:
            raise CancelledError("the request was cancelled by its caller")
        self._handle, self._pieces = self._begin()
        if self._is_cancelled:  # in the meantime, by the event loop that could not see the handle
            self._handle.cancel()
        return self._read()

    def _read(self) -> T | None:
        if self._pieces is None:
            raise CancelledError("the utterance was not opened")
        return next(self._pieces, None)


class SpeechStream:
    """Audio as it is made, for `async for` and for `for`; leaving the loop cancels the rest.

    Attributes:
        handle: segments, finish_reason, stats and seed of the utterance.
    """

    def __init__(self, handle: SpeechHandle, chunk_size: int | None) -> None:
        self.handle = handle
        self._chunks = handle.chunks(chunk_size)
        self._is_taken = False

    def __iter__(self) -> Iterator[AudioChunk]:
        self._take()
        return self._sync_chunks()

    def __aiter__(self) -> AsyncIterator[AudioChunk]:
        self._take()
        return self._async_chunks()

    def _take(self) -> None:
        if self._is_taken:
            raise EngineError("the stream was read before; audio is given out once; keep what you got, or ask again")
        self._is_taken = True

    def _sync_chunks(self) -> Iterator[AudioChunk]:
        try:
            yield from self._chunks
        finally:
            self.cancel()

    async def _async_chunks(self) -> AsyncIterator[AudioChunk]:
        reader = SpeechReader(lambda: (self.handle, self._chunks))
        try:
            chunk = await reader.open()
            while chunk is not None:
                yield chunk
                chunk = await reader.read()
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Stop before the next frame."""
        self.handle.cancel()

    def close(self) -> None:
        """Stop before the next frame, for `contextlib.closing`."""
        self.cancel()
