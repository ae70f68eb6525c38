"""More clients than there is room for, and clients that leave at any moment. tests/soak has the long forms."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from benchmarks.http import lowest_lead_s
from benchmarks.loopback import Exchange
from checkpoints import BRIEF
from crowd import (
    MOMENTS,
    SENTENCE,
    SPEECH,
    Order,
    SlowSteps,
    ask_all,
    check_nothing_is_left,
    count_cancellations,
    draw_departures,
    leave_all,
    speak_to_the_limit,
)
from serving import Serving, serving, wait_for
from voxtral.engine.options import EngineOptions
from voxtral.tts import VoxtralTTS

MAX_STREAMS, MAX_QUEUE = 4, 4

# A machine that does something else may be late by this much; tests/soak allows nothing.
MARGIN_S = 1.0

# Forty requests cost a few megabytes of buffers; this is what the allocator may keep of them.
MEMORY_BYTES = 64 * 2**20

STEP_S = 0.15


@pytest.fixture(autouse=True)
def lasting_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make lengths known."""
    speak_to_the_limit(monkeypatch)


@pytest.fixture
def crowded(tts: VoxtralTTS) -> Iterator[Serving]:
    """A server with little room."""
    with serving(tts, max_streams=MAX_STREAMS, max_queue=MAX_QUEUE) as running:
        yield running


def make_orders(number: int, max_frames: int) -> list[Order]:
    """Make orders of one to three sentences, each with a seed of its own; three are spoken in two segments."""
    return [Order((SENTENCE * (1 + index % 3)).strip(), index, max_frames) for index in range(number)]


def resident_bytes() -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS"))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_ten_times_as_many_as_there_is_room_for(crowded: Serving, tts: VoxtralTTS) -> None:
    """Whoever is let in hears all of it, the others are told at once, and nobody hears another's text."""
    memory = resident_bytes()
    orders = make_orders(10 * MAX_STREAMS, max_frames=30)
    answers = asyncio.run(ask_all(crowded.port, orders))
    grown = resident_bytes() - memory
    accepted = [(order, answer) for order, answer in zip(orders, answers, strict=True) if answer.status == 200]
    refused = [answer for answer in answers if answer.status != 200]
    assert len(accepted) >= MAX_STREAMS + MAX_QUEUE
    assert len(refused) >= len(orders) // 2
    for answer in refused:
        assert answer.status == 503
        assert answer.answered_at - answer.sent_at < 1.0
        assert int(answer.headers["retry-after"]) >= 1
    for order, answer in accepted:
        assert answer.is_whole
        assert answer.body == order.spoken_by(tts)
        assert lowest_lead_s(answer.as_stream(), 24000) > -MARGIN_S
    assert grown < MEMORY_BYTES
    check_nothing_is_left(crowded)


def test_twenty_who_leave_leave_nothing_behind(tts: VoxtralTTS) -> None:
    bodies = {order: order.spoken_by(tts) for order in make_orders(3, max_frames=25)}
    with serving(tts, max_streams=MAX_STREAMS, max_queue=20) as running:
        seen = asyncio.run(leave_all(running.port, draw_departures(20, 1, bodies), num_at_once=10))
        assert set(seen) == set(MOMENTS)
        check_nothing_is_left(running)
        # Whoever left at the last audio may have been served to the end.
        assert count_cancellations(running) >= 8
        for order, body in bodies.items():
            (answer,) = asyncio.run(ask_all(running.port, [order]))
            assert answer.is_whole
            assert answer.body == body


def test_the_threads_end_with_the_server(tts: VoxtralTTS) -> None:
    before = set(threading.enumerate())
    with serving(tts, max_streams=2) as running:
        bodies = dict.fromkeys(make_orders(2, max_frames=50), b"")
        asyncio.run(leave_all(running.port, draw_departures(5, 2, bodies), num_at_once=5))
        made = [thread for thread in set(threading.enumerate()) - before if thread.name.startswith("voxtral-stream")]
        assert made
    assert not [thread for thread in made if thread.is_alive()]


@pytest.mark.parametrize("is_reset", [False, True])
@pytest.mark.parametrize("num_pieces", [0, 2])
def test_speech_stops_within_two_frames_of_a_departure(num_pieces: int, is_reset: bool) -> None:
    """Before the headers and in the middle; the text has two segments, which are made side by side."""
    options = EngineOptions(max_batch=2)

    async def listen(port: int, steps: SlowSteps) -> float:
        exchange = await Exchange.begin(port, SPEECH, Order(SENTENCE * 3, 1, 50).fields)
        if num_pieces:
            await exchange.head()
            pieces = exchange.pieces()
            for _ in range(num_pieces):
                await anext(pieces)
        else:
            while not steps.begun_at:
                await asyncio.sleep(0.001)
        exchange.leave(is_reset=is_reset)
        return time.perf_counter()

    with VoxtralTTS.from_pretrained(BRIEF, device="cpu", options=options) as tts, serving(tts) as running:
        steps = SlowSteps(tts, STEP_S)
        left_at = asyncio.run(listen(running.port, steps))
        running.wait_until_idle()
        num_after = sum(at > left_at for at in steps.begun_at)
        assert num_after <= 2
        assert len(steps.begun_at) < 20


def test_who_leaves_the_queue_is_never_spoken_to() -> None:
    options = EngineOptions(max_batch=2)

    async def run(running: Serving, steps: SlowSteps) -> tuple[bytes, bytes]:
        first = asyncio.create_task(ask_all(running.port, [Order("One.", 1, 10)]))
        while not steps.begun_at:
            await asyncio.sleep(0.001)
        gone = [await Exchange.begin(running.port, SPEECH, Order("Two.", 2, 500).fields) for _ in range(3)]
        last = asyncio.create_task(ask_all(running.port, [Order("One.", 1, 10)]))
        await asyncio.to_thread(wait_for, lambda: running.service.admission.num_waiting == 4)
        for number, exchange in enumerate(gone):
            exchange.leave(is_reset=number == 1)
        await asyncio.to_thread(wait_for, lambda: running.service.admission.num_waiting == 1)
        (before,), (after,) = await first, await last
        return before.body, after.body

    with (
        VoxtralTTS.from_pretrained(BRIEF, device="cpu", options=options) as tts,
        serving(tts, max_streams=1, max_queue=4) as running,
    ):
        steps = SlowSteps(tts, STEP_S / 3)
        before, after = asyncio.run(run(running, steps))
        assert before == after
        assert before
        assert len(steps.begun_at) == 20
        running.wait_until_idle()
