"""The server with nano, as its own process and for minutes: ten times its capacity, and two hundred departures.

Run while nothing else runs: whoever is let in must be heard without a gap by the clock of the client, which shares the
two cores with the server.
"""

from __future__ import annotations

import asyncio
import random
import re
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest

from benchmarks.http import lowest_lead_s
from benchmarks.loopback import Answer, ServerProcess, ask, served
from crowd import (
    MOMENTS,
    SENTENCE,
    SPEECH,
    Order,
    ask_all,
    check_nothing_is_left,
    count_cancellations,
    draw_departures,
    leave_all,
)
from serving import serving, wait_for
from voxtral.engine.options import EngineOptions
from voxtral.tts import VoxtralTTS

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
]

# As many as two cores serve without a gap with `batch_invariant`, which computes every row of the batch each time,
# gives each prompt passes of its own and decodes one stream at a time. Every stream begins with 80 ms of sound, in
# which its second frame and a part of somebody else's prompt must fit; with four rows they were 5 ms late once in 200
# streams.
MAX_STREAMS, MAX_QUEUE, MAX_BATCH = 2, 2, 2

NUM_CLIENTS = 10 * MAX_STREAMS
LOAD_S = 90.0

# Of the server's memory, from the tenth second on.
GROWTH_BYTES = 64 * 2**20

KEYS = {"one": ("one-key-0123456789", 1), "many": ("many-key-0123456789", 64)}

TEXTS = ("Good morning.", "The ship sailed at noon, and nobody saw it again.", (SENTENCE * 2).strip())


@dataclass
class Found:
    """What the clients of a load found."""

    statuses: Counter[int] = field(default_factory=Counter)
    wrong: list[Order] = field(default_factory=list)
    broken: list[Order] = field(default_factory=list)
    leads_s: list[float] = field(default_factory=list)
    ttfa_s: list[float] = field(default_factory=list)
    refusals_s: list[float] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    audio_s: float = 0.0

    def note(self, order: Order, answer: Answer, expected: bytes) -> None:
        """Take note of an answer."""
        self.statuses[answer.status] += 1
        if answer.status != 200:
            self.refusals_s.append(answer.answered_at - answer.sent_at)
            if answer.status not in (429, 503) or int(answer.headers["retry-after"]) < 1:
                self.odd.append(repr(answer.body))
            return
        self.audio_s += len(answer.body) / 48000
        self.ttfa_s.append(answer.arrivals[0][0] - answer.sent_at)
        self.leads_s.append(lowest_lead_s(answer.as_stream(), 24000))
        if not answer.is_whole:
            self.broken.append(order)
        elif answer.body != expected:
            self.wrong.append(order)


async def load(port: int, bodies: dict[Order, bytes], seconds: float) -> Found:
    """Let many clients ask again and again; those that are refused come back sooner than told."""
    found, orders = Found(), list(bodies)
    until = time.monotonic() + seconds

    async def client(number: int) -> None:
        draw = random.Random(number)
        key, _ = KEYS["one" if number % 4 == 0 else "many"]
        while time.monotonic() < until:
            order = draw.choice(orders)
            answer = await ask(port, SPEECH, order.fields, {"Authorization": f"Bearer {key}"})
            found.note(order, answer, bodies[order])
            await asyncio.sleep(draw.uniform(0.2, 1.0))

    await asyncio.gather(*(client(number) for number in range(NUM_CLIENTS)))
    return found


async def watch_memory(server: ServerProcess, sizes: list[tuple[float, int]]) -> None:
    started = time.monotonic()
    while True:
        sizes.append((time.monotonic() - started, server.resident_bytes()))
        await asyncio.sleep(0.25)


async def load_and_watch(
    server: ServerProcess, port: int, bodies: dict[Order, bytes]
) -> tuple[Found, list[tuple[float, int]]]:
    sizes: list[tuple[float, int]] = []
    watcher = asyncio.create_task(watch_memory(server, sizes))
    try:
        return await load(port, bodies, LOAD_S), sizes
    finally:
        watcher.cancel()


def test_ten_times_as_many_as_there_is_room_for(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("".join(f"{name} {key} {limit}\n" for name, (key, limit) in KEYS.items()))
    orders = [Order(text, seed) for text in TEXTS for seed in range(4)]
    headers = {"Authorization": f"Bearer {KEYS['many'][0]}"}
    with served(
        "--model",
        "nano",
        data_dir=tmp_path,
        api_key_file=tmp_path / "keys",
        batch_invariant=1,
        max_batch=MAX_BATCH,
        max_streams=MAX_STREAMS,
        max_queue=MAX_QUEUE,
    ) as server:
        port = server.wait_until_ready()
        # What a quiet engine says, one after the other.
        bodies = {order: asyncio.run(ask(port, SPEECH, order.fields, headers)).body for order in orders}
        found, sizes = asyncio.run(load_and_watch(server, port, bodies))
        with httpx2.Client(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
            metrics = client.get("/metrics").text
    settled = [size for at, size in sizes if at > 10]
    grown = max(settled) - settled[0]
    print(
        f"\n{NUM_CLIENTS} clients on {MAX_STREAMS} streams and {MAX_QUEUE} waiting, {LOAD_S:.0f} s, nano, "
        f"batch_invariant: {dict(found.statuses)}; {found.audio_s / LOAD_S:.2f} times real time; "
        f"first audio of whoever was let in {statistics.median(found.ttfa_s) * 1e3:.0f} ms (median, waiting included); "
        f"lowest lead of a player {min(found.leads_s) * 1e3:.0f} ms; refused within "
        f"{max(found.refusals_s) * 1e3:.0f} ms; wrong {len(found.wrong)}, broken {len(found.broken)}; memory "
        f"{max(settled) / 1e6:.0f} MB, grown by {grown / 1e6:.1f} MB"
    )
    assert found.statuses[200] > 20
    assert found.statuses[503] > found.statuses[200]
    assert found.statuses[429] > 10
    assert not found.odd
    assert not found.wrong
    assert not found.broken
    assert min(found.leads_s) >= 0
    assert max(found.refusals_s) < 1.0
    assert grown < GROWTH_BYTES
    for name in ("voxtral_streams", "voxtral_queue_length", "voxtral_batch_size"):
        assert re.search(rf"^{name} 0\.0$", metrics, re.MULTILINE)


@pytest.fixture
def nano() -> Iterator[VoxtralTTS]:
    """What the package ships."""
    options = EngineOptions(batch_invariant=True, max_batch=4)
    with VoxtralTTS.from_pretrained("nano", device="cpu", options=options) as model:
        yield model


def test_two_hundred_who_leave_leave_nothing_behind(nano: VoxtralTTS) -> None:
    bodies = {order: order.spoken_by(nano) for order in (Order(text, seed) for text in TEXTS for seed in range(2))}
    with serving(nano, max_streams=4, max_queue=20) as running:
        started = time.monotonic()
        seen = asyncio.run(leave_all(running.port, draw_departures(200, 1, bodies), num_at_once=12))
        seconds = time.monotonic() - started
        assert set(seen) == set(MOMENTS)
        check_nothing_is_left(running)
        num_cancelled = count_cancellations(running)
        print(f"\n200 departures in {seconds:.0f} s: {dict(seen)}; {num_cancelled} before the end; nothing left")
        assert num_cancelled >= 120
        for order, body in bodies.items():
            (answer,) = asyncio.run(ask_all(running.port, [order]))
            assert answer.is_whole
            assert answer.body == body


def test_the_memory_of_an_idle_model_is_given_back_each_time(tmp_path: Path) -> None:
    order = Order(TEXTS[1], 1)
    busy, idle, bodies = [], [], set()
    with served("--model", "nano", data_dir=tmp_path, unload_after_s=1, max_streams=2) as server:
        port = server.wait_until_ready()
        for number in range(6):
            bodies.add(asyncio.run(ask(port, SPEECH, order.fields)).body)
            busy.append(server.resident_bytes() / 1e6)
            wait_for(lambda number=number: server.output.count("has been unloaded") > number)
            idle.append(server.resident_bytes() / 1e6)
    pairs = ", ".join(f"{with_it:.0f} {without:.0f}" for with_it, without in zip(busy, idle, strict=True))
    print(f"\nMB with the model and without: {pairs}")
    assert len(bodies) == 1
    assert max(idle) < min(busy) - 20
    assert max(busy) < busy[0] + 64
