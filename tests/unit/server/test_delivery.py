"""Delivery over a transport that is no HTTP: a web socket as a sink, with its client's departure and broken streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from voxtral.errors import DeadlineError, EngineError, TextError
from voxtral.server.delivery import deliver
from voxtral.server.errors import ClientGoneError, HttpError
from voxtral.server.guard import Visit
from voxtral.server.metrics import Metrics
from voxtral.server.options import ServerOptions
from voxtral.server.service import Closing, Encoded, Opening, SpeechOrder
from voxtral.types import Mark, SpeechRequest, SpeechStats

STALL_S = 0.1
STATS = SpeechStats(seed=7, ttfa_s=0.01, compute_s=0.1, duration_s=0.5, num_frames=6, num_retries=0)


class SocketSink:
    """A web socket: facts and marks as text, audio as bytes, failures as a close code."""

    def __init__(self, receive: Any, send: Any) -> None:
        self._receive = receive
        self._send = send

    async def begin(self, opening: Opening, held: Sequence[Encoded], closing: Closing | None) -> None:
        await self._tell(voice=opening.voice, seed=opening.seed)

    async def audio(self, piece: Encoded) -> None:
        for mark in piece.marks:
            await self._tell(text_start=mark.text_start, sample=mark.start)
        await self._send({"type": "websocket.send", "bytes": piece.data})

    async def end(self, closing: Closing) -> None:
        await self._tell(finish_reason=closing.finish_reason)
        await self._send({"type": "websocket.close", "code": 1000})

    async def fail(self, error: HttpError) -> None:
        await self._send({"type": "websocket.close", "code": 1011, "reason": error.code})

    async def wait_for_departure(self) -> None:
        while (await self._receive())["type"] != "websocket.disconnect":
            pass

    async def _tell(self, **facts: Any) -> None:
        await self._send({"type": "websocket.send", "text": json.dumps(facts)})


class FakeUtterance:
    """Gives pieces of one sample each, then ends or fails."""

    closing = Closing("end", STATS, 12)

    def __init__(self, num_pieces: int, error: Exception | None) -> None:
        self.num_pieces = num_pieces
        self.error = error
        self.num_read = 0

    async def open(self) -> tuple[Opening, Encoded | None]:
        if not self.num_pieces and self.error:
            raise self.error
        return Opening("audio/pcm", "m", "casual_male", 7, 24000, 24000, 0.01, ()), await self.read()

    async def read(self) -> Encoded | None:
        await asyncio.sleep(0)
        if self.num_read == self.num_pieces:
            if self.error:
                raise self.error
            return None
        self.num_read += 1
        return Encoded(b"%d" % self.num_read, self.num_read - 1, 1, (Mark("segment", 0, 3, self.num_read - 1),))


class Client:
    """One client of a web socket, and what became of its request."""

    def __init__(self, num_pieces: int = 3, error: Exception | None = None, refuses: Exception | None = None) -> None:
        self.sent: list[dict[str, Any]] = []
        self.disposed: list[Any] = []
        self.leaves = asyncio.Event()
        self.visit = Visit("id")
        self.metrics = Metrics()

        def begin(order: SpeechOrder, client: Any) -> FakeUtterance:
            if refuses:
                raise refuses
            return FakeUtterance(num_pieces, error)

        self.service: Any = SimpleNamespace(
            options=ServerOptions(stall_timeout_s=STALL_S),
            metrics=self.metrics,
            begin=begin,
            dispose=self.disposed.append,
        )

    async def receive(self) -> dict[str, str]:
        await self.leaves.wait()
        return {"type": "websocket.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    async def ask(self) -> None:
        order = SpeechOrder(SpeechRequest("Hi."), "pcm")
        await deliver(self.service, order, SocketSink(self.receive, self.send), self.visit)


def test_a_socket_gets_facts_marks_audio_and_an_end() -> None:
    async def run() -> None:
        client = Client(2)
        await client.ask()
        texts = [json.loads(message["text"]) for message in client.sent if "text" in message]
        assert texts == [
            {"voice": "casual_male", "seed": 7},
            {"text_start": 0, "sample": 0},
            {"text_start": 0, "sample": 1},
            {"finish_reason": "end"},
        ]
        assert [message["bytes"] for message in client.sent if "bytes" in message] == [b"1", b"2"]
        assert client.sent[-1] == {"type": "websocket.close", "code": 1000}
        assert client.visit.facts["finish_reason"] == "end"
        assert len(client.disposed) == 1

    asyncio.run(asyncio.wait_for(run(), 10))


def test_a_sink_that_finds_nobody_ends_the_delivery_as_a_departure() -> None:
    async def run() -> None:
        client = Client(3)

        async def send(message: dict[str, Any]) -> None:
            if "bytes" in message:
                raise ClientGoneError
            client.sent.append(message)

        client.send = send  # type: ignore[method-assign]
        with pytest.raises(ClientGoneError):
            await client.ask()
        assert client.visit.facts["error"] == "cancelled"
        assert b"voxtral_cancellations_total 1.0" in client.metrics.render()
        assert b"voxtral_errors_total{" not in client.metrics.render()
        assert len(client.disposed) == 1

    asyncio.run(asyncio.wait_for(run(), 10))


def test_a_failure_in_the_middle_breaks_the_socket() -> None:
    async def run() -> None:
        client = Client(2, EngineError("the engine failed"))
        await client.ask()
        assert client.sent[-1] == {"type": "websocket.close", "code": 1011, "reason": "engine_error"}
        assert client.visit.facts["error"] == "engine_error"
        assert b'voxtral_errors_total{code="engine_error"} 1.0' in client.metrics.render()
        assert len(client.disposed) == 1

    asyncio.run(asyncio.wait_for(run(), 10))


@pytest.mark.parametrize(
    ("client", "error"),
    [({"num_pieces": 0, "error": DeadlineError("late")}, DeadlineError), ({"refuses": TextError("empty")}, TextError)],
)
def test_what_fails_before_there_is_audio_is_raised_and_nothing_sent(
    client: dict[str, Any], error: type[Exception]
) -> None:
    async def run() -> None:
        asking = Client(**client)
        with pytest.raises(error):
            await asking.ask()
        assert asking.sent == []

    asyncio.run(asyncio.wait_for(run(), 10))


@pytest.mark.parametrize("num_turns", range(8))
def test_a_client_that_leaves_ends_the_work(num_turns: int) -> None:
    async def run() -> None:
        client = Client(10**9)
        asking = asyncio.create_task(client.ask())
        for _ in range(num_turns):
            await asyncio.sleep(0)
        client.leaves.set()
        await asking
        num_sent = len(client.sent)
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(client.sent) == num_sent
        assert client.visit.facts["error"] == "cancelled"
        assert len(client.disposed) == 1

    asyncio.run(asyncio.wait_for(run(), 10))


def test_a_client_that_takes_nothing_is_given_up() -> None:
    async def run() -> None:
        client = Client(10**9)

        async def send(message: dict[str, Any]) -> None:
            client.sent.append(message)
            if len(client.sent) > 3:
                await asyncio.Event().wait()

        client.send = send  # type: ignore[method-assign]
        await client.ask()
        assert len(client.sent) == 4
        assert client.visit.facts["error"] == "client_stalled"

    asyncio.run(asyncio.wait_for(run(), 10))


@pytest.mark.parametrize(("pace", "is_kept"), [(0.3, False), (0.8, True)])
def test_a_reader_is_judged_by_what_is_heard_meanwhile(pace: float, is_kept: bool) -> None:
    """Pieces of 20 ms, each taken in as long as that reader takes; never does it wait for as long as a stall."""

    async def run() -> None:
        client = Client(30)
        pieces = [Encoded(b"x", number, 480) for number in range(30)]

        async def send(message: dict[str, Any]) -> None:
            if "bytes" in message:
                await asyncio.sleep(0.02 / pace)

        async def read(self: FakeUtterance) -> Encoded | None:
            self.num_read += 1
            return pieces[self.num_read - 1] if self.num_read <= len(pieces) else None

        client.send = send  # type: ignore[method-assign]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(FakeUtterance, "read", read)
            await client.ask()
        assert (client.visit.facts.get("error") is None) == is_kept

    asyncio.run(asyncio.wait_for(run(), 10))
