"""A response at its edges: a client that stops reading, and one that leaves between two things."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from voxtral.errors import EngineError
from voxtral.server.dialects.openai import SpeechEvents
from voxtral.server.guard import Visit
from voxtral.server.metrics import Metrics
from voxtral.server.options import ServerOptions
from voxtral.server.service import Encoded, Opening, SpeechOrder
from voxtral.server.stream import PlainAudio, SpeechResponse
from voxtral.types import SpeechRequest

STALL_S = 0.1


class FakeUtterance:
    """Gives one byte after the other, until it is told to fail."""

    def __init__(self, fails_after: int) -> None:
        self.num_left = fails_after

    async def open(self) -> tuple[Opening, Encoded]:
        return Opening("audio/pcm", "m", "v", 0, 24000, 24000, 0.0, ()), Encoded(b"0", 0, 1)

    async def read(self) -> Encoded:
        if not self.num_left:
            raise EngineError("the engine failed")
        self.num_left -= 1
        await asyncio.sleep(0)
        return Encoded(b"0", 0, 1)


class Stage:
    """A response, what surrounds it, and what became of both."""

    def __init__(self, shape: Any, fails_after: int = 10**9) -> None:
        self.disposed: list[Any] = []
        self.sent: list[dict[str, Any]] = []
        self.visit = Visit("id")
        self.metrics = Metrics()
        self.leaves = asyncio.Event()
        service: Any = SimpleNamespace(
            options=ServerOptions(stall_timeout_s=STALL_S),
            metrics=self.metrics,
            check=lambda order: None,
            begin=lambda order, client: FakeUtterance(fails_after),
            dispose=self.disposed.append,
        )
        request: Any = SimpleNamespace(scope={"state": {"visit": self.visit}, "http_version": "1.1"})
        self.response = SpeechResponse(service, SpeechOrder(SpeechRequest("Hi."), "pcm"), request, shape)

    async def run(self, send: Any) -> None:
        async def receive() -> dict[str, str]:
            await self.leaves.wait()
            return {"type": "http.disconnect"}

        await self.response({"type": "http"}, receive, send)
        assert len(self.disposed) == 1


@pytest.mark.parametrize("shape", [PlainAudio(), SpeechEvents()])
def test_a_client_that_takes_nothing_is_given_up_after_one_wait(shape: Any) -> None:
    async def run() -> None:
        stage = Stage(shape)

        async def send(message: dict[str, Any]) -> None:
            stage.sent.append(message)
            if len(stage.sent) > 3:
                await asyncio.Event().wait()

        await stage.run(send)
        assert len(stage.sent) == 4  # the last words of a failure are not for those who do not read
        assert stage.visit.facts["error"] == "client_stalled"

    asyncio.run(asyncio.wait_for(run(), 10))


def test_a_client_that_stops_reading_before_the_last_words_is_no_fault() -> None:
    async def run() -> None:
        stage = Stage(SpeechEvents(), fails_after=1)

        async def send(message: dict[str, Any]) -> None:
            stage.sent.append(message)
            if b'"error"' in message.get("body", b""):
                await asyncio.Event().wait()

        await stage.run(send)
        assert b"the engine failed" in stage.sent[-1]["body"]
        assert stage.visit.facts["error"] == EngineError.code

    asyncio.run(asyncio.wait_for(run(), 10))


@pytest.mark.parametrize("num_turns", range(12))
def test_a_client_that_leaves_between_two_sends_ends_the_work(num_turns: int) -> None:
    async def run() -> None:
        stage = Stage(PlainAudio())

        async def send(message: dict[str, Any]) -> None:
            stage.sent.append(message)
            await asyncio.sleep(0)
            if len(stage.sent) == 5:
                asyncio.get_running_loop().call_soon(leave, num_turns)

        def leave(num_left: int) -> None:
            if num_left:
                asyncio.get_running_loop().call_soon(leave, num_left - 1)
            else:
                stage.leaves.set()

        before = asyncio.all_tasks()
        await stage.run(send)
        for _ in range(5):
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == before, "somebody still speaks to nobody"
        assert stage.visit.facts["error"] == "cancelled"

    asyncio.run(asyncio.wait_for(run(), 10))
