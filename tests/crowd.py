"""Crowds of clients for one server: those who want more than it has, and those who leave at any moment."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from benchmarks.loopback import Answer, Exchange, ask
from serving import Serving, wait_for
from voxtral.audio.pcm import to_int16
from voxtral.engine.sequence import GenerationRequest
from voxtral.tts import VoxtralTTS

SPEECH = "/v1/audio/speech"

SENTENCE = "It was a dark and stormy night, and the wind that blew from the sea carried the smell of salt. "

Moment = Literal["at once", "before the headers", "first audio", "in the middle", "last audio"]
MOMENTS: tuple[Moment, ...] = ("at once", "before the headers", "first audio", "in the middle", "last audio")


@dataclass(frozen=True)
class Order:
    """A text to be spoken as bare samples, so that answers can be compared."""

    text: str
    seed: int
    max_frames: int | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """What is posted."""
        fields: dict[str, Any] = {"input": self.text, "seed": self.seed, "response_format": "pcm"}
        return fields if self.max_frames is None else {**fields, "max_frames": self.max_frames}

    def spoken_by(self, tts: VoxtralTTS) -> bytes:
        """Return what the body must hold."""
        return to_int16(tts.synthesize(self.text, seed=self.seed, max_frames=self.max_frames).samples).tobytes()


def speak_to_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every segment last for all of its `max_frames`: random weights end where they like."""

    def without_end(**settings: Any) -> GenerationRequest:
        return GenerationRequest(**settings | {"min_frames": settings["max_frames"]})

    monkeypatch.setattr("voxtral.speech.plan.GenerationRequest", without_end)


async def ask_all(port: int, orders: Sequence[Order]) -> list[Answer]:
    """Send all orders at once and read all answers."""
    return await asyncio.gather(*(ask(port, SPEECH, order.fields) for order in orders))


@dataclass(frozen=True)
class Departure:
    """How a client leaves.

    Attributes:
        order: that it does not hear to the end.
        moment: when.
        delay_s: after the moment.
        is_sse: whether it asked for events.
        is_reset: whether its connection ends with an RST.
        num_bytes: of all samples of the order.
    """

    order: Order
    moment: Moment
    delay_s: float
    is_sse: bool
    is_reset: bool
    num_bytes: int


def draw_departures(number: int, seed: int, bodies: Mapping[Order, bytes]) -> list[Departure]:
    """Draw so many, every moment equally often.

    Args:
        number: how many.
        seed: of the draw.
        bodies: what can be asked for, and what is answered to each.
    """
    orders = list(bodies)
    draw = random.Random(seed)
    departures = []
    for index in range(number):
        order = draw.choice(orders)
        departures.append(
            Departure(
                order=order,
                moment=MOMENTS[index % len(MOMENTS)],
                delay_s=draw.choice([0.0, draw.uniform(0.0, 0.05)]),
                is_sse=draw.random() < 0.5,
                is_reset=draw.random() < 0.5,
                num_bytes=len(bodies[order]),
            )
        )
    return departures


async def leave_all(port: int, departures: Sequence[Departure], num_at_once: int) -> Counter[str]:
    """Let all clients come, so many at once, and leave; count how far they got."""
    room = asyncio.Semaphore(num_at_once)

    async def visit(departure: Departure) -> str:
        async with room:
            return await _leave(port, departure)

    return Counter(await asyncio.gather(*(visit(departure) for departure in departures)))


async def _leave(port: int, departure: Departure) -> str:
    fields = departure.order.fields | ({"stream_format": "sse"} if departure.is_sse else {})
    exchange = await Exchange.begin(port, SPEECH, fields)
    try:
        if departure.moment == "at once":
            return departure.moment
        if departure.moment == "before the headers":
            await asyncio.sleep(departure.delay_s)
            return departure.moment
        status, _ = await exchange.head()
        if status != 200:
            return f"refused with {status}"
        await _read_up_to(exchange, departure)
        await asyncio.sleep(departure.delay_s)
        return departure.moment
    finally:
        exchange.leave(is_reset=departure.is_reset)


async def _read_up_to(exchange: Exchange, departure: Departure) -> None:
    num_pieces = num_bytes = 0
    async for piece in exchange.pieces():
        num_pieces += 1
        num_bytes += len(piece)
        is_last = b"speech.audio.done" in piece if departure.is_sse else num_bytes == departure.num_bytes
        if is_last or num_pieces == {"first audio": 1, "in the middle": 3}.get(departure.moment):
            return


class SlowReader(threading.Thread):
    """A client that reads so many bytes every so often, through a small buffer, until it is cut off or leaves.

    Args:
        port: of the server.
        fields: what is asked for.
        num_bytes: that are read at a time.
        every_s: pause between two times, in seconds.
        buffer_bytes: of the system, for what has come.

    Attributes:
        num_bytes: that have come, with those of HTTP.
        is_whole: whether the body came to its end.
        ended_at: when the connection ended, on the clock of time.monotonic; None before.
    """

    def __init__(
        self, port: int, fields: Mapping[str, Any], *, num_bytes: int, every_s: float, buffer_bytes: int = 4096
    ) -> None:
        super().__init__(name="slow-reader", daemon=True)
        self.num_bytes = 0
        self.is_whole = False
        self.ended_at: float | None = None
        self._at_once = num_bytes
        self._every_s = every_s
        self._leaves = threading.Event()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
        self._socket.settimeout(120)
        self._socket.connect(("127.0.0.1", port))
        body = json.dumps(fields).encode()
        head = f"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self._socket.sendall(f"POST {SPEECH} HTTP/1.1\r\n{head}".encode() + body)
        self.start()

    def run(self) -> None:
        """Read."""
        end = b""
        try:
            while not self._leaves.wait(self._every_s) and (piece := self._socket.recv(self._at_once)):
                self.num_bytes += len(piece)
                end = (end + piece)[-5:]
                self.is_whole = end == b"0\r\n\r\n"
                if self.is_whole:
                    break
        except OSError:
            pass
        self.ended_at = time.monotonic()
        self._socket.close()

    def leave(self) -> None:
        """Go away, if it is still there."""
        self._leaves.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.join()


class SlowSteps:
    """Stands before the steps of an engine: notes when each begins, and makes it last a while.

    Args:
        tts: a model that the test may change.
        seconds: of each step, at least.
    """

    def __init__(self, tts: VoxtralTTS, seconds: float) -> None:
        runner: Any = tts.engine._runner
        self.begun_at: list[float] = []
        self.seconds = seconds
        self._launch = runner.launch
        runner.launch = self

    def __call__(self, rows: Any) -> Any:
        """Begin a step."""
        self.begun_at.append(time.perf_counter())
        time.sleep(self.seconds)
        return self._launch(rows)


def count_cancellations(server: Serving) -> int:
    """Read how many clients went away."""
    with server.client() as client:
        lines = client.get("/metrics").text.splitlines()
    return int(float(next(line for line in lines if line.startswith("voxtral_cancellations_total")).split()[1]))


# What an idle server's loop does: uvicorn's own, and the watch over the model.
IDLE_TASKS = ["LifespanOn.main", "ModelHost._watch", "Server.serve"]


def check_nothing_is_left(server: Serving) -> None:
    """Wait until a server is idle, and fail if anything is still in use.

    Args:
        server: of a model that the test gave.
    """
    with suppress(AssertionError):
        wait_for(lambda: not _find_remains(server))
    remains = _find_remains(server)
    assert not remains, remains


def _find_remains(server: Serving) -> dict[str, Any]:
    service, tts = server.service, server.tts
    assert tts is not None
    admission, counts, watching = service.admission, tts.engine.counts, service.host._watching
    assert counts is not None
    assert watching is not None
    tasks = sorted(getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks(watching.get_loop()))
    found = {
        "unfinished": tts.engine.num_unfinished,
        "slots": counts.slots - counts.free_slots,
        # What is kept of voices is meant to stay.
        "blocks": counts.blocks - counts.free_blocks - counts.prefix_blocks,
        "reserved blocks": counts.reserved_blocks,
        "streams": admission.num_active,
        "queue": admission.num_waiting,
        "clients": dict(admission._by_client),
        "users of the model": service.host._num_users,
        "utterances to be closed": len(service._closing),
        "tasks": tasks if tasks != IDLE_TASKS else [],
    }
    return {name: value for name, value in found.items() if value}
