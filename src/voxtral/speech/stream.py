"""Reading an utterance while it is made: a stream for loops of both kinds, and the one face for event loops.

Work begins when a handle is made; what is here waits for its audio. Read next: `voxtral.speech.utterance`.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from voxtral.errors import CancelledError, EngineError, TextError
from voxtral.speech.feed import TextFeed, feed_from
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


@dataclass(frozen=True)
class PiecewiseText:
    """A text that comes in pieces, and who speaks it.

    Attributes:
        pieces: of the text.
        submit: starts the utterance, once its first words have come.
        feed: between the two.
    """

    pieces: Iterable[str] | AsyncIterable[str]
    submit: Callable[[TextFeed], SpeechHandle]
    feed: TextFeed = field(default_factory=TextFeed)


class SpeechStream:
    """Audio as it is made, for `async for` and for `for`; leaving the loop cancels the rest.

    Args:
        speech: the utterance; or a text that comes in pieces, of which there is none before it is read.
        chunk_size: see `SpeechHandle.chunks`.
    """

    def __init__(self, speech: SpeechHandle | PiecewiseText, chunk_size: int | None) -> None:
        self._text = speech if isinstance(speech, PiecewiseText) else None
        self._handle = None if isinstance(speech, PiecewiseText) else speech
        self._chunk_size = chunk_size
        self._is_taken = False

    @property
    def handle(self) -> SpeechHandle:
        """Segments, finish_reason, stats and seed of the utterance.

        Raises:
            EngineError: its text comes in pieces, and it was not read yet.
        """
        if self._handle is None:
            raise EngineError("the stream has no utterance yet, because no words have come; read its first chunk first")
        return self._handle

    @property
    def text(self) -> str:
        """What of a text that comes in pieces has been taken to be spoken; segments have offsets into it."""
        return "" if self._text is None else self._text.feed.text

    def __iter__(self) -> Iterator[AudioChunk]:
        if self._text is not None and isinstance(self._text.pieces, AsyncIterable):
            raise TextError("the pieces of the text are asynchronous; read the stream with `async for`")
        self._take()
        return self._sync_chunks()

    def __aiter__(self) -> AsyncIterator[AudioChunk]:
        self._take()
        return self._async_chunks()

    def _take(self) -> None:
        if self._is_taken:
            raise EngineError("the stream was read before; audio is given out once; keep what you got, or ask again")
        self._is_taken = True

    def _begin(self) -> tuple[SpeechHandle, Iterator[AudioChunk]]:
        """Start what has not begun, and say how it is read."""
        if self._text is not None:
            self._handle = self._text.submit(self._text.feed)
        return self.handle, self.handle.chunks(self._chunk_size)

    def _sync_chunks(self) -> Iterator[AudioChunk]:
        try:
            if self._text is not None and not isinstance(self._text.pieces, AsyncIterable):
                feed_from(self._text.pieces, self._text.feed)
            yield from self._begin()[1]
        finally:
            self.cancel()

    async def _async_chunks(self) -> AsyncIterator[AudioChunk]:
        reader = SpeechReader(self._begin)
        writer: asyncio.Task[None] | None = None
        try:
            if self._text is not None:
                pieces, feed = self._text.pieces, self._text.feed
                if isinstance(pieces, AsyncIterable):
                    writer = asyncio.create_task(_write(pieces, feed))
                else:
                    feed_from(pieces, feed)
            chunk = await reader.open()
            while chunk is not None:
                yield chunk
                chunk = await reader.read()
        finally:
            self.cancel()
            if writer is not None:
                writer.cancel()

    def cancel(self) -> None:
        """Stop before the next frame."""
        if self._text is not None:
            self._text.feed.cancel()
        if self._handle is not None:
            self._handle.cancel()

    def close(self) -> None:
        """Stop before the next frame, for `contextlib.closing`."""
        self.cancel()


async def _write(pieces: AsyncIterable[str], feed: TextFeed) -> None:
    """Push pieces as they come; what they fail with is told to who reads."""
    try:
        async for piece in pieces:
            # It may wait until there is room, which a loop must not.
            await asyncio.to_thread(feed.push, piece)
    except (asyncio.CancelledError, CancelledError):
        feed.cancel()
    except BaseException as error:  # noqa: BLE001 - whatever it is, the reader is told
        feed.fail(error)
    finally:
        feed.close()
