"""What breaks while the server speaks: it costs whoever it belongs to, and nobody else."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.loopback import Answer, Exchange, ask
from checkpoints import BRIEF
from crowd import SENTENCE, SPEECH, Order, SlowSteps, ask_all, check_nothing_is_left, speak_to_the_limit
from serving import Serving, serving, wait_for
from voxtral.audio.encode import ContainerEncoder
from voxtral.engine.options import EngineOptions
from voxtral.errors import AudioError
from voxtral.tts import VoxtralTTS

SHORT = Order("One two three.", 7, 8)
DEVICE_ERROR = "CUDA error: an illegal memory access was encountered"

# The request that a test lets fail is known by its budget of frames.
DOOMED_FRAMES = 33


@pytest.fixture(autouse=True)
def lasting_speech(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make lengths known."""
    speak_to_the_limit(monkeypatch)


@pytest.fixture
def own_tts() -> Iterator[VoxtralTTS]:
    """A model that a test may break."""
    options = EngineOptions(batch_invariant=True, max_batch=4)
    with VoxtralTTS.from_pretrained(BRIEF, device="cpu", options=options) as tts:
        tts.synthesize("Ready.", max_frames=1)
        yield tts


def ask_one(server: Serving, order: Order, **fields: Any) -> Answer:
    return asyncio.run(ask(server.port, SPEECH, order.fields | fields))


def error_of(answer: Answer) -> tuple[int, str]:
    error = json.loads(answer.body)["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status, error["code"]


def status_of(server: Serving, path: str) -> int:
    with server.client() as client:
        return client.get(path).status_code


def metric(server: Serving, name: str) -> float:
    """Read a number of /metrics; 0 while there is none."""
    with server.client() as client:
        lines = client.get("/metrics").text.splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)


# One request fails.


def doom(tts: VoxtralTTS, at_frame: int) -> None:
    """Let the request with DOOMED_FRAMES fail at a frame, as a kernel would for one row."""
    runner: Any = tts.engine._runner
    collect = runner.collect

    def fail_one(step: Any) -> Iterator[tuple[Any, Any]]:
        for row, outcome in collect(step):
            is_doomed = row.request.max_frames == DOOMED_FRAMES and row.num_frames >= at_frame
            yield row, RuntimeError("a row that does not compute") if is_doomed else outcome

    runner.collect = fail_one


@pytest.mark.parametrize("at_frame", [1, 12])
def test_a_request_that_fails_costs_no_other_a_sample(own_tts: VoxtralTTS, at_frame: int) -> None:
    others = [Order(SENTENCE.strip(), seed, 25) for seed in (1, 2, 3)]
    expected = [order.spoken_by(own_tts) for order in others]
    with serving(own_tts) as running:
        doom(own_tts, at_frame)
        *answers, failed = asyncio.run(ask_all(running.port, [*others, Order(SENTENCE.strip(), 4, DOOMED_FRAMES)]))
        assert [answer.body for answer in answers] == expected
        assert all(answer.is_whole for answer in answers)
        if at_frame == 1:
            assert error_of(failed) == (500, "engine_error")
        else:
            assert failed.status == 200
            assert not failed.is_whole
        assert metric(running, 'voxtral_errors_total{code="engine_error"}') == 1
        check_nothing_is_left(running)


def test_an_encoder_that_fails_costs_no_other_a_byte(own_tts: VoxtralTTS, monkeypatch: pytest.MonkeyPatch) -> None:
    write = ContainerEncoder.write

    def fail_mp3(self: ContainerEncoder, samples: Any) -> bytes:
        if self.content_type == "audio/mpeg" and self.num_samples > 24000:
            raise AudioError("the encoder failed")
        return write(self, samples)

    async def run(port: int) -> list[Answer]:
        order = Order(SENTENCE.strip(), 1, 30)
        kinds = ("mp3", "pcm", "flac")
        return await asyncio.gather(*(ask(port, SPEECH, order.fields | {"response_format": kind}) for kind in kinds))

    with serving(own_tts) as running:
        quiet = asyncio.run(run(running.port))
        monkeypatch.setattr(ContainerEncoder, "write", fail_mp3)
        failed, *answers = asyncio.run(run(running.port))
        assert not failed.is_whole
        assert [answer.body for answer in answers] == [answer.body for answer in quiet[1:]]
        assert all(answer.is_whole for answer in answers)
        check_nothing_is_left(running)


# A client that is slow, or wants too much.


def test_a_client_that_stops_reading_gives_up_its_place(own_tts: VoxtralTTS) -> None:
    body = json.dumps(Order(SENTENCE * 20, 1, None).fields | {"speed": 0.25, "max_frames": 60}).encode()
    with serving(own_tts, max_streams=1, stall_timeout_s=0.3) as running, socket.socket() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect(("127.0.0.1", running.port))
        stalled.sendall(
            f"POST {SPEECH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        wait_for(lambda: running.service.admission.num_active == 1)
        # It waits for the place of the one that does not read.
        assert ask_one(running, SHORT).body == SHORT.spoken_by(own_tts)
        assert metric(running, 'voxtral_errors_total{code="client_stalled"}') == 1
        check_nothing_is_left(running)


def test_a_slow_reader_gets_all_of_it(own_tts: VoxtralTTS) -> None:
    order = Order(SENTENCE.strip(), 1, 40)

    async def read_slowly(port: int) -> bytes:
        exchange = await Exchange.begin(port, SPEECH, order.fields)
        await exchange.head()
        body = b""
        async for piece in exchange.pieces():
            body += piece
            await asyncio.sleep(0.02)
        exchange.leave()
        return body

    with serving(own_tts) as running:
        assert asyncio.run(read_slowly(running.port)) == order.spoken_by(own_tts)


def test_a_body_that_comes_too_slowly_is_not_waited_for(own_tts: VoxtralTTS) -> None:
    with (
        serving(own_tts, body_timeout_s=0.2) as running,
        socket.create_connection(("127.0.0.1", running.port), timeout=10) as slow,
    ):
        slow.sendall(
            f"POST {SPEECH} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            'Content-Length: 1000\r\n\r\n{"input": '.encode()
        )
        answer = b"".join(iter(lambda: slow.recv(65536), b"")).decode()
    assert answer.startswith("HTTP/1.1 408 ")
    assert '"body_too_slow"' in answer


def test_a_deadline_before_the_first_audio_has_a_status() -> None:
    """The second waits inside the engine, which computes one at a time here."""
    options = EngineOptions(max_batch=1)
    with (
        VoxtralTTS.from_pretrained(BRIEF, device="cpu", options=options) as tts,
        serving(tts, max_streams=2, deadline_s=0.8) as running,
    ):
        steps = SlowSteps(tts, 0.05)
        first, second = asyncio.run(ask_all(running.port, [Order("One.", seed, 100) for seed in (1, 2)]))
        unheard, broken = (first, second) if second.status == 200 else (second, first)
        assert error_of(unheard) == (504, "deadline_exceeded")
        assert not broken.is_whole
        steps.seconds = 0
        assert ask_one(running, SHORT).is_whole
        check_nothing_is_left(running)


@pytest.mark.parametrize("stream_format", ["audio", "sse"])
def test_a_deadline_in_the_middle_breaks_the_body(own_tts: VoxtralTTS, stream_format: str) -> None:
    with serving(own_tts, deadline_s=0.5) as running:
        steps = SlowSteps(own_tts, 0.05)
        answer = ask_one(running, Order(SENTENCE.strip(), 1, 500), stream_format=stream_format)
        assert answer.status == 200
        assert not answer.is_whole
        assert (b"deadline_exceeded" in answer.body) == (stream_format == "sse")
        assert len(steps.begun_at) < 20
        check_nothing_is_left(running)


@contextmanager
def occupied(running: Serving, headers: dict[str, str] | None = None) -> Iterator[None]:
    """Keep one place of a server busy with a stream that somebody listens to."""
    is_over = threading.Event()

    async def listen() -> None:
        exchange = await Exchange.begin(running.port, SPEECH, Order(SENTENCE.strip(), 1, 500).fields, headers)
        try:
            await exchange.head()
            async for _ in exchange.pieces():
                if is_over.is_set():
                    break
        finally:
            exchange.leave()

    thread = threading.Thread(target=asyncio.run, args=(listen(),))
    thread.start()
    try:
        wait_for(lambda: running.service.admission.num_active == 1)
        yield
    finally:
        is_over.set()
        thread.join()


def test_a_key_has_its_share_and_no_more(own_tts: VoxtralTTS, tmp_path: Path) -> None:
    first, second = "first-key-0123456789", "second-key-0123456789"
    (tmp_path / "keys").write_text(f"one {first} 1\ntwo {second} 2\n")
    steps = SlowSteps(own_tts, 0.02)
    with serving(own_tts, api_key_file=tmp_path / "keys") as running:

        def ask_with(key: str) -> Answer:
            return asyncio.run(ask(running.port, SPEECH, SHORT.fields, {"Authorization": f"Bearer {key}"}))

        with occupied(running, {"Authorization": f"Bearer {first}"}):
            refused = ask_with(first)
            assert error_of(refused) == (429, "too_many_requests")
            assert int(refused.headers["retry-after"]) >= 1
            assert ask_with(second).status == 200
        steps.seconds = 0
        running.wait_until_idle()
        assert ask_with(first).status == 200


@pytest.mark.parametrize("limits", [{"max_wait_s": 0.2}, {"max_wait_s": 30.0, "deadline_s": 0.5}])
def test_who_waits_too_long_is_told_when_to_come_back(own_tts: VoxtralTTS, limits: dict[str, Any]) -> None:
    with serving(own_tts, max_streams=1, **limits) as running:
        steps = SlowSteps(own_tts, 0.3)
        answers = asyncio.run(ask_all(running.port, [Order("One.", seed, 3) for seed in (1, 2)]))
        steps.seconds = 0
        refused = next(answer for answer in answers if answer.status != 200)
        assert error_of(refused) == (503, "waited_too_long")
        assert int(refused.headers["retry-after"]) >= 1
        running.wait_until_idle()


# The engine fails.


def break_engine(tts: VoxtralTTS, after_steps: int = 0) -> None:
    """Let a step fail as on a GPU, after which every other one would."""
    runner: Any = tts.engine._runner
    launch, num_steps = runner.launch, 0

    def fail(rows: Any) -> Any:
        nonlocal num_steps
        num_steps += 1
        if num_steps > after_steps:
            raise RuntimeError(DEVICE_ERROR)
        return launch(rows)

    runner.launch = fail


def test_after_a_passing_failure_the_engine_is_started_anew(own_tts: VoxtralTTS) -> None:
    """What runs breaks, what comes meanwhile waits, and supervisors see all of it."""
    expected, restart = SHORT.spoken_by(own_tts), own_tts.restart_engine
    may_restart = threading.Event()
    own_tts.restart_engine = lambda: (may_restart.wait(30), restart())  # type: ignore[method-assign]
    with serving(own_tts) as running:
        break_engine(own_tts, after_steps=6)
        broken = asyncio.run(ask_all(running.port, [Order(SENTENCE.strip(), seed, 100) for seed in (1, 2)]))
        assert [(answer.status, answer.is_whole) for answer in broken] == [(200, False)] * 2
        wait_for(lambda: running.service.host.state == "restarting")
        assert status_of(running, "/readyz") == 503
        assert status_of(running, "/livez") == 200
        assert metric(running, "voxtral_ready") == 0
        threading.Timer(0.2, may_restart.set).start()
        assert ask_one(running, SHORT).body == expected
        assert status_of(running, "/readyz") == 200
        assert metric(running, "voxtral_engine_restarts_total") == 1
        assert metric(running, 'voxtral_errors_total{code="engine_stopped"}') == 2
        check_nothing_is_left(running)


def test_an_engine_that_fails_again_and_again_is_given_up(own_tts: VoxtralTTS) -> None:
    last_words: list[str] = []
    with serving(own_tts) as running:
        running.service.host.on_fatal = last_words.append
        for number in range(4):
            break_engine(own_tts)
            assert error_of(ask_one(running, SHORT)) == (503, "engine_stopped")
            wait_for(lambda number=number: own_tts.engine.failure is None or number == 3)
            wait_for(lambda: running.service.host.state in ("ready", "failed"))
        wait_for(lambda: last_words)
        assert running.service.host.state == "failed"
        assert "4 times" in last_words[0]
        assert metric(running, "voxtral_engine_restarts_total") == 3


def test_a_device_that_does_not_answer_turns_readiness_off(own_tts: VoxtralTTS) -> None:
    last_words: list[str] = []
    with serving(own_tts) as running:
        running.service.host.on_fatal = last_words.append
        own_tts._running.compute = replace(own_tts.compute, device=torch.device("cuda:99"))
        break_engine(own_tts, after_steps=3)
        (broken,) = asyncio.run(ask_all(running.port, [Order(SENTENCE.strip(), 1, 100)]))
        assert not broken.is_whole
        wait_for(lambda: bool(last_words))
        assert "end the process" in last_words[0]
        assert status_of(running, "/readyz") == 503
        assert status_of(running, "/livez") == 200
        assert error_of(ask_one(running, SHORT)) == (503, "model_unavailable")


# The model is away.


def test_an_idle_model_is_freed_and_loaded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many ask at once, one is loaded, and not before the one before has gone."""
    events: list[str] = []
    load, close = VoxtralTTS.from_pretrained, VoxtralTTS.close

    def load_noted(*words: Any, **options: Any) -> VoxtralTTS:
        events.append("load")
        return load(*words, **options)

    def close_slowly(self: VoxtralTTS) -> None:
        events.append("close")
        time.sleep(0.2)
        close(self)
        events.append("closed")

    monkeypatch.setattr(VoxtralTTS, "from_pretrained", load_noted)
    monkeypatch.setattr(VoxtralTTS, "close", close_slowly)
    with serving(model=str(BRIEF), device="cpu", unload_after_s=0.3, batch_invariant=True) as running:
        host = running.service.host
        body = ask_one(running, SHORT).body
        wait_for(lambda: "close" in events)
        answers = asyncio.run(ask_all(running.port, [SHORT] * 3))
        assert [answer.body for answer in answers] == [body] * 3
        assert events[:4] == ["load", "close", "closed", "load"]
        assert events.count("load") == 2
        wait_for(lambda: host.state == "unloaded")
        assert host._loaded is None
        assert status_of(running, "/readyz") == 200
        assert status_of(running, "/v1/models") == 200
        assert events.count("load") == 2


def test_who_leaves_while_the_model_loads_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    may_load = threading.Event()
    may_load.set()
    load = VoxtralTTS.from_pretrained

    def load_on_a_sign(*words: Any, **options: Any) -> VoxtralTTS:
        may_load.wait(30)
        return load(*words, **options)

    monkeypatch.setattr(VoxtralTTS, "from_pretrained", load_on_a_sign)
    with serving(model=str(BRIEF), device="cpu", unload_after_s=0.2, max_streams=1) as running:
        service = running.service
        wait_for(lambda: service.host.state == "unloaded")
        may_load.clear()

        async def come_and_go() -> None:
            loading, queued = [await Exchange.begin(running.port, SPEECH, SHORT.fields) for _ in range(2)]
            await asyncio.to_thread(wait_for, lambda: service.admission.num_waiting == 1)
            assert service.host.state == "loading"
            loading.leave(is_reset=True)
            await asyncio.to_thread(wait_for, lambda: service.admission.num_waiting == 0)
            queued.leave()

        asyncio.run(come_and_go())
        wait_for(lambda: not (service.admission.num_active or service.host._num_users or service._closing))
        assert status_of(running, "/readyz") == 503
        may_load.set()
        assert ask_one(running, SHORT).is_whole


def test_a_model_that_speaks_is_not_idle() -> None:
    with serving(model=str(BRIEF), device="cpu", unload_after_s=0.2) as running:
        loaded = running.service.host._loaded
        assert loaded is not None
        SlowSteps(loaded.tts, 0.05)
        assert ask_one(running, SHORT).is_whole
        assert running.service.host._loaded is loaded
        wait_for(lambda: running.service.host.state == "unloaded")
