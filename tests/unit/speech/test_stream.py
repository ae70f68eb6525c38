"""An utterance on an event loop: opened, read, cancelled and closed at any moment."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from voxtral.errors import CancelledError, EngineError
from voxtral.speech.stream import SpeechReader


class FakeHandle:
    """Counts how often it is cancelled."""

    def __init__(self) -> None:
        self.num_cancelled = 0

    def cancel(self) -> None:
        self.num_cancelled += 1


def reader_of(pieces: Iterator[int], handle: FakeHandle | None = None) -> SpeechReader[int]:
    fake: Any = handle or FakeHandle()
    return SpeechReader(lambda: (fake, pieces))


async def read_all(reader: SpeechReader[int]) -> list[int]:
    pieces = []
    piece = await reader.open()
    while piece is not None:
        pieces.append(piece)
        piece = await reader.read()
    return pieces


def test_pieces_come_in_order_and_end() -> None:
    assert asyncio.run(read_all(reader_of(iter([3, 1, 2])))) == [3, 1, 2]
    assert asyncio.run(read_all(reader_of(iter([])))) == []


def test_a_failure_comes_after_the_pieces_before_it() -> None:
    def pieces() -> Iterator[int]:
        yield 1
        raise EngineError("the engine failed")

    async def run() -> None:
        reader = reader_of(pieces())
        assert await reader.open() == 1
        with pytest.raises(EngineError):
            await reader.read()
        await reader.close()

    asyncio.run(run())


def test_what_is_read_before_it_was_opened_is_refused() -> None:
    async def run() -> None:
        with pytest.raises(CancelledError):
            await reader_of(iter([1])).read()

    asyncio.run(run())


def test_what_was_cancelled_before_it_began_never_begins() -> None:
    async def run() -> None:
        begun: list[bool] = []
        reader: SpeechReader[int] = SpeechReader(lambda: begun.append(True))  # type: ignore[arg-type,return-value]
        reader.cancel()
        with pytest.raises(CancelledError):
            await reader.open()
        assert not begun
        assert reader.handle is None

    asyncio.run(run())


def test_closing_waits_for_the_thread_and_cancels_what_began_meanwhile() -> None:
    may_begin, handle = threading.Event(), FakeHandle()

    def begin() -> Any:
        may_begin.wait(10)
        return handle, iter([1])

    async def run() -> None:
        reader: SpeechReader[int] = SpeechReader(begin)
        opening = asyncio.create_task(reader.open())
        await asyncio.sleep(0)
        opening.cancel()
        closing = asyncio.create_task(reader.close())
        await asyncio.sleep(0.01)
        assert not closing.done()
        may_begin.set()
        await closing
        assert handle.num_cancelled

    asyncio.run(asyncio.wait_for(run(), 10))


def test_a_reader_who_leaves_lets_the_thread_end_by_itself() -> None:
    may_end, left = threading.Event(), threading.Event()

    def pieces() -> Iterator[int]:
        yield 1
        may_end.wait(10)
        left.set()
        yield 2

    async def run() -> None:
        reader = reader_of(pieces())
        await reader.open()
        reading = asyncio.create_task(reader.read())
        await asyncio.sleep(0.01)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert not left.is_set()
        may_end.set()
        await reader.close()
        assert left.is_set()

    asyncio.run(asyncio.wait_for(run(), 10))


def test_a_loop_that_is_cancelled_leaves_no_complaint_about_what_nobody_saw() -> None:
    may_end = threading.Event()
    complaints: list[dict[str, Any]] = []

    def pieces() -> Iterator[int]:
        yield 1
        may_end.wait(10)
        raise CancelledError("the request was cancelled by its caller")

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        reader = reader_of(pieces())
        await reader.open()
        reading = asyncio.create_task(reader.read())
        await asyncio.sleep(0.01)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        work = reader._work
        may_end.set()
        assert work is not None
        await asyncio.wait([work])
        await asyncio.sleep(0)
        del work, reader
        gc.collect()

    asyncio.run(asyncio.wait_for(run(), 10))
    assert complaints == []


def test_what_is_read_sees_the_context_of_its_reader() -> None:
    name: contextvars.ContextVar[str] = contextvars.ContextVar("name", default="nobody")

    def pieces() -> Iterator[int]:
        yield len(name.get())

    async def run() -> None:
        name.set("somebody")
        assert await reader_of(pieces()).open() == len("somebody")

    asyncio.run(run())
