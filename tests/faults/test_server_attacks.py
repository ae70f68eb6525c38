"""What clients do to a server that mean it no good: each is cut off, and nobody else notices.

The long forms, against processes with few descriptors and for as long as it takes, are in tests/soak.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import json
import logging
import math
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from typing import Any

import pytest

from benchmarks.loopback import Exchange, ask
from checkpoints import TINY
from crowd import SENTENCE, SPEECH, Order, SlowReader, SlowSteps, check_nothing_is_left, speak_to_the_limit
from serving import Serving, serving, wait_for
from spoken_clips import spoken_file
from voxtral.engine.options import EngineOptions
from voxtral.server import connections as module
from voxtral.tts import VoxtralTTS

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=x"

MAX_OPEN = 16


@pytest.fixture(scope="module")
def few(tts: VoxtralTTS) -> Iterator[Serving]:
    """A server with few places, and little patience."""
    options = {"max_connections": MAX_OPEN, "head_timeout_s": 0.3, "body_timeout_s": 5}
    with serving(tts, is_guarded=True, **options) as running:
        yield running


@pytest.fixture(scope="module")
def roomy(tts: VoxtralTTS) -> Iterator[Serving]:
    with serving(tts, is_guarded=True) as running:
        yield running


def connect(server: Serving) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def head_of(length: int, kind: str = JSON, path: str = SPEECH) -> bytes:
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    ).encode()


def read_all(connection: socket.socket) -> bytes:
    """Read until the server has closed it."""
    received = b""
    with suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            received += piece
    return received


def drip(connection: socket.socket, data: bytes) -> float:
    """Send something again and again until the server has had enough; tell how many seconds that took."""
    began = time.monotonic()
    with suppress(OSError):
        while time.monotonic() - began < 10:
            connection.sendall(data)
            time.sleep(0.02)
    return time.monotonic() - began


def status_of(server: Serving, path: str) -> int:
    with server.client() as client:
        return client.get(path).status_code


def closed(server: Serving, reason: str) -> float:
    return metric(server, f'voxtral_connections_closed_total{{reason="{reason}"}}')


def metric(server: Serving, name: str) -> float:
    text = server.service.metrics.render().decode()
    return next((float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name} ")), 0.0)


# Connections.


@contextmanager
def many(server: Serving, number: int, first: bytes = b"") -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        opened = []
        for _ in range(number):
            opened.append(stack.enter_context(connect(server)))
            opened[-1].sendall(first)
        yield opened


@pytest.mark.parametrize("first", [b"", b"GET /livez HT", b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_however_many_wait_a_new_one_is_answered(few: Serving, first: bytes) -> None:
    before = closed(few, "made room")
    with many(few, 3 * MAX_OPEN, first):
        assert status_of(few, "/livez") == 200
        assert status_of(few, "/v1/models") == 200
        assert few.connections is not None
        assert few.connections.num_open <= MAX_OPEN
        assert closed(few, "made room") - before >= MAX_OPEN
    wait_for(lambda: few.connections and few.connections.num_open == 0)


def test_a_head_that_drips_has_an_end(few: Serving) -> None:
    with connect(few) as slow:
        slow.sendall(b"GET /livez HTTP/1.1\r\n")
        assert drip(slow, b"a") < 5
    with connect(few) as slow:
        slow.sendall(b"GET /livez HT")
        assert read_all(slow).startswith(b"HTTP/1.1 408 ")
    with connect(few) as silent:
        assert read_all(silent) == b""
    assert closed(few, "slow head") >= 3


def test_between_requests_there_is_an_end_too(few: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with connect(few) as dripping:
        dripping.sendall(request + b"GET /livez HT")
        assert read_all(dripping).count(b"HTTP/1.1 200") == 1
    monkeypatch.setattr(module, "KEEP_ALIVE_S", 0.2)
    with connect(few) as idle:
        idle.sendall(request)
        assert read_all(idle).count(b"HTTP/1.1 200") == 1
    assert closed(few, "idle") >= 1


def test_a_body_that_nobody_asked_for_does_not_keep_a_connection(few: Serving) -> None:
    with connect(few) as endless:
        endless.sendall(b"POST /livez HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert drip(endless, b"1\r\nx\r\n") < 5


def test_requests_under_way_leave_room_for_probes(few: Serving) -> None:
    with many(few, MAX_OPEN - 2, head_of(1000)):
        wait_for(lambda: few.connections is not None and few.connections.num_open >= MAX_OPEN - 2)
        time.sleep(0.05)
        with few.client() as client:
            answer = client.get("/v1/models")
            assert (answer.status_code, answer.json()["error"]["code"]) == (503, "server_busy")
            assert int(answer.headers["retry-after"]) >= 1
            for path in ("/livez", "/readyz", "/health", "/metrics"):
                assert client.get(path).status_code == 200
    wait_for(lambda: few.connections and few.connections.num_open == 0)
    assert status_of(few, "/v1/models") == 200


def test_who_asks_again_and_again_and_reads_nothing_is_cut_off(few: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    assert few.connections is not None
    monkeypatch.setattr(few.connections, "write_timeout_s", 0.2)
    monkeypatch.setattr(module, "_LOWEST_RATE", 10**9)
    before = closed(few, "slow reader")
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.settimeout(0.2)
        deaf.connect(("127.0.0.1", few.port))
        with suppress(OSError):
            for _ in range(400):
                deaf.sendall(b"GET /page.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 10)
        wait_for(lambda: closed(few, "slow reader") > before, 10)
    wait_for(lambda: few.connections and few.connections.num_open == 0)


def test_a_descriptor_that_is_missing_is_no_storm(few: Serving, caplog: pytest.LogCaptureFixture) -> None:
    """Were there no accounting at all, the spare descriptor would still take clients off the queue, one by one."""

    async def refuse() -> None:
        assert few.connections is not None
        with socket.create_server(("127.0.0.1", 0)) as listener:
            for _ in range(3):
                with socket.create_connection(listener.getsockname(), timeout=5) as turned_away:
                    few.connections.refuse_without_descriptor(listener)
                    assert await asyncio.to_thread(turned_away.recv, 1) == b""

    asyncio.run(refuse())
    assert "Traceback" not in caplog.text


def test_of_ten_thousand_closed_connections_the_log_has_a_line(caplog: pytest.LogCaptureFixture) -> None:
    book = module.Connections(1.0, 1.0)
    with caplog.at_level(logging.WARNING, "voxtral.server"):
        for _ in range(100):
            for _ in range(100):
                book._note("made room")
            book.sweep()
    assert len(caplog.records) == 1


# Slow readers.


@pytest.fixture
def speaker(monkeypatch: pytest.MonkeyPatch) -> Iterator[VoxtralTTS]:
    """A model that speaks for as long as it is let, four at a time."""
    speak_to_the_limit(monkeypatch)
    with VoxtralTTS.from_pretrained(TINY, device="cpu", options=EngineOptions(max_batch=4)) as tts:
        yield tts


LONG_TEXT = Order(SENTENCE * 20, 1, 60)


def test_who_reads_more_slowly_than_half_of_hearing_gives_up_its_place(speaker: VoxtralTTS) -> None:
    """Each reads a bit every tenth of a second: nobody ever stalls, and nobody would ever end."""
    with serving(speaker, is_guarded=True, max_streams=2, stall_timeout_s=0.4) as running:
        began = time.monotonic()
        readers = [SlowReader(running.port, LONG_TEXT.fields, num_bytes=800, every_s=0.1) for _ in range(2)]
        wait_for(lambda: running.service.admission.num_active == 2)
        answer = asyncio.run(ask(running.port, SPEECH, Order("One two three.", 7, 8).fields))
        assert answer.is_whole
        assert time.monotonic() - began < 10
        for reader in readers:
            reader.leave()
        assert not any(reader.is_whole for reader in readers)
        assert metric(running, 'voxtral_errors_total{code="client_stalled"}') >= 1
        check_nothing_is_left(running)


def test_a_peer_without_key_has_half_of_all_places(speaker: VoxtralTTS) -> None:
    """127.0.0.1 stands for a proxy; whom that names is told apart by uvicorn."""
    others = {"X-Forwarded-For": "192.0.2.7"}
    with serving(speaker, max_streams=4, insecure=True) as running:
        steps = SlowSteps(speaker, 0.05)

        async def crowd(headers: dict[str, str], number: int) -> list[int]:
            exchanges = [
                await Exchange.begin(running.port, SPEECH, Order("One.", 1, 40).fields, headers) for _ in range(number)
            ]
            try:
                return sorted([(await exchange.head())[0] for exchange in exchanges])
            finally:
                for exchange in exchanges:
                    exchange.leave()

        assert asyncio.run(crowd(others, 4)) == [200, 200, 429, 429]
        running.wait_until_idle()
        assert asyncio.run(crowd({}, 4)) == [200] * 4
        steps.seconds = 0
        running.wait_until_idle()
    with serving(speaker, max_streams=4, insecure=True, proxies=("192.0.2.0/24",)) as running:
        assert asyncio.run(crowd(others, 4)) == [200] * 4
        running.wait_until_idle()


def test_a_proxy_that_takes_everything_gets_no_more_than_is_heard_soon(speaker: VoxtralTTS) -> None:
    lead_s, for_s = 0.5, 1.0
    with serving(speaker, max_lead_s=lead_s) as running:
        steps = SlowSteps(speaker, 0)
        proxy = SlowReader(running.port, LONG_TEXT.fields, num_bytes=2**20, every_s=0, buffer_bytes=2**20)
        wait_for(lambda: proxy.num_bytes > 0)
        began = time.monotonic()
        time.sleep(for_s)
        audio_s, seconds = proxy.num_bytes / 48000, time.monotonic() - began
        num_steps = len(steps.begun_at)
        assert seconds - 0.5 < audio_s < seconds + lead_s + 0.5
        time.sleep(0.4)
        # The engine waits, too: it makes five frames in that time, and would make hundreds.
        assert len(steps.begun_at) - num_steps < 100
        proxy.leave()
        check_nothing_is_left(running)


# Whoever hangs up.


@pytest.mark.parametrize("is_reset", [False, True])
@pytest.mark.parametrize(
    ("path", "kind", "start"),
    [
        (SPEECH, JSON, b'{"input": "Hel'),
        ("/synthesize", FORM, b"text=Hel"),
        ("/v1/audio/voices", MULTIPART, b'--x\r\nContent-Disposition: form-data; name="name"\r\n\r\nZo'),
        ("/v1/audio/voices", JSON, b""),
    ],
)
def test_who_hangs_up_while_it_sends_is_no_fault_of_ours(
    roomy: Serving, caplog: pytest.LogCaptureFixture, path: str, kind: str, start: bytes, *, is_reset: bool
) -> None:
    name = f'voxtral_responses_total{{route="{path}",status="499"}}'
    before = metric(roomy, name)
    with caplog.at_level(logging.INFO):
        with connect(roomy) as leaving:
            leaving.sendall(head_of(100_000, kind, path) + start)
            time.sleep(0.02)
            if is_reset:
                leaving.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        wait_for(lambda: metric(roomy, name) == before + 1)
        wait_for(lambda: caplog.records)
    assert [(record.levelname, "status=499" in record.getMessage()) for record in caplog.records] == [("INFO", True)]
    assert metric(roomy, f'voxtral_responses_total{{route="{path}",status="500"}}') == 0


# Large bodies, and what is repeated of them.


@contextmanager
def watched(server: Serving) -> Iterator[Callable[[], float]]:
    """Measure the longest gap of a server's loop, in seconds of this process: what others on the machine do is no gap.

    What is computed in threads counts as well, unless the loop gets its turns meanwhile.
    """
    watching = server.service.host._watching
    assert watching is not None
    times: list[float] = []

    async def tick() -> None:
        while True:
            times.append(time.process_time())
            await asyncio.sleep(0)

    gc.collect()
    gc.disable()  # to look at all that other tests have left in this process takes longer than any body
    ticking = asyncio.run_coroutine_threadsafe(tick(), watching.get_loop())
    wait_for(lambda: len(times) > 2)

    def longest_gap() -> float:
        return max(later - sooner for sooner, later in pairwise(list(times)))

    try:
        yield longest_gap
    finally:
        ticking.cancel()
        gc.enable()


def least_gap(server: Serving, request: bytes) -> tuple[bytes, float]:
    """Send a request; give the answer, and the longest gap: the least of three, for what stops the loop always does."""
    least = math.inf
    answer = b""
    for _ in range(3):
        with watched(server) as longest_gap, connect(server) as client:
            with suppress(ConnectionError):  # it may be refused before its end
                client.sendall(request)
            answer = read_all(client)
            least = min(least, longest_gap())
        if least < MAX_GAP_S:
            break
    return answer, least


def form_of(name: str, data: bytes) -> bytes:
    return f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + data + b"\r\n"


BODIES: dict[str, tuple[str, str, Callable[[], bytes]]] = {
    "a form of percent signs": ("/synthesize", FORM, lambda: b"text=" + b"%" * 1_200_000),
    "a form of escapes": ("/synthesize", FORM, lambda: b"text=" + b"%e4%b8%80" * 130_000),
    "a form of fields": ("/synthesize", FORM, lambda: b"a=1&" * 300_000),
    "a name of a model": (SPEECH, JSON, lambda: b'{"input": "Hi.", "model": "' + b"a" * 12_000_000 + b'"}'),
    "a name of a voice": (SPEECH, JSON, lambda: b'{"input": "Hi.", "voice": "' + b"a" * 1_200_000 + b'"}'),
    "a name of a field": (SPEECH, JSON, lambda: b'{"input": "Hi.", "' + b"a" * 12_000_000 + b'": 1}'),
    "a language": (SPEECH, JSON, lambda: json.dumps({"input": "Hi.", "language": "\u00e9" * 200_000}).encode()),
    "base64": (SPEECH, JSON, lambda: json.dumps({"input": "Hi.", "ref_audio": "A" * 13_000_000}).encode()),
    "base64 with slashes": (SPEECH, JSON, lambda: b'{"input": "Hi.", "ref_audio": "' + b"\\/" * 6_000_000 + b'"}'),
    "quotes": (SPEECH, JSON, lambda: b'{"input": "' + b'\\"' * 6_000_000 + b'"}'),
    "a text": (SPEECH, JSON, lambda: json.dumps({"input": "\u00e9" * 200_000}).encode()),
    "members": (SPEECH, JSON, lambda: b'{"input": "Hi."' + b', "a": 1' * 1_000_000 + b"}"),
    "numbers": (SPEECH, JSON, lambda: b'{"input": "Hi.", "seed": [' + b"1," * 30_000 + b"1]}"),
    "depth": (SPEECH, JSON, lambda: b'{"input": "Hi.", "voice": ' + b"[" * 900 + b"]" * 900 + b"}"),
    "parts": ("/v1/audio/voices", MULTIPART, lambda: form_of("a", b"") * 200_000),
    "ends of lines": ("/v1/audio/voices", MULTIPART, lambda: form_of("a", b"\r" * 4_000_000) + b"--x--\r\n"),
    "almost boundaries": ("/v1/audio/voices", MULTIPART, lambda: form_of("a", b"\r\n--" * 1_000_000) + b"--x--\r\n"),
}

# Those of which one mechanism each is seen; `slow` takes all.
QUICK = ("a form of percent signs", "a name of a model", "base64", "quotes", "ends of lines")

MAX_GAP_S = 0.05


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else [pytest.mark.slow]) for name in BODIES]
)
def test_no_body_stops_the_loop(roomy: Serving, name: str) -> None:
    path, kind, make = BODIES[name]
    body = make()
    head = head_of(len(body), kind, path).replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    answer, gap = least_gap(roomy, head + body)
    print(f"{name}: {len(body)} bytes, gap {gap * 1e3:.1f} ms, answer {answer[:12]!r} of {len(answer)} bytes")
    assert answer[:10] == b"HTTP/1.1 4" if answer else len(body) > 1_300_000
    assert len(answer) < 4096
    assert gap < MAX_GAP_S


HEADS = {
    "tiny headers": b"GET /livez HTTP/1.1\r\nHost: localhost\r\n" + b"a:\r\n" * 8_000,
    "a header": b"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: " + b"a" * 32_000 + b"\r\n",
    "a query of percent signs": b"POST /synthesize?text=" + b"%" * 32_000 + b" HTTP/1.1\r\nHost: localhost\r\n",
    "a query of fields": b"POST /synthesize?" + b"a&" * 16_000 + b" HTTP/1.1\r\nHost: localhost\r\n",
    "a path": b"GET /v1/models/" + b"%" * 32_000 + b" HTTP/1.1\r\nHost: localhost\r\n",
    "a type": b"POST /synthesize HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Type: "
    + b"a" * 32_000
    + b"\r\n",
}


@pytest.mark.parametrize("name", HEADS)
def test_no_head_stops_the_loop(roomy: Serving, name: str) -> None:
    answer, gap = least_gap(roomy, HEADS[name] + b"Connection: close\r\n\r\na")
    print(f"{name}: gap {gap * 1e3:.1f} ms, answer {answer[:12]!r} of {len(answer)} bytes")
    assert len(answer) < 4096
    assert gap < MAX_GAP_S


LONG = "Sesame " * 100_000


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        (SPEECH, {"input": "Hi.", "model": LONG}),
        (SPEECH, {"input": "Hi.", "model": LONG[:4000]}),
        (SPEECH, {"input": "Hi.", "voice": LONG}),
        (SPEECH, {"input": "Hi.", "voice": LONG[:4000]}),
        (SPEECH, {"input": "Hi.", "voice": {"id": LONG}}),
        (SPEECH, {"input": "Hi.", "language": LONG[:4000]}),
        (SPEECH, {"input": "Hi.", "response_format": LONG[:4000]}),
        (SPEECH, {"input": "Hi.", "stream_format": [LONG]}),
        (SPEECH, {"input": "Hi.", "speed": LONG}),
        (SPEECH, {"input": "Hi.", "seed": 10**4000}),
        (SPEECH, {"input": "Hi.", "normalize": LONG}),
        (SPEECH, {"input": "Hi.", "ref_audio": LONG}),
        (SPEECH, {"input": "*" * 50_000}),
        (SPEECH, {LONG: "Hi."}),
        ("/synthesize", {"text": "Hi.", "language": LONG[:200]}),
        ("/v1/audio/voices", {"name": LONG, "consent": "true", "audio_sample": "AAAA"}),
        ("/v1/audio/voices", {"name": "a", "consent": LONG, "audio_sample": "AAAA"}),
        ("/v1/audio/voices", {"name": "a", "consent": "true", "language": LONG, "audio_sample": LONG}),
        (f"/v1/audio/voices/{LONG[:6]}" + "a" * 20_000 + "/sample", {}),
    ],
    ids=lambda value: str(value)[:40].replace("/", "-"),
)
def test_an_error_is_short_however_long_its_cause(roomy: Serving, path: str, fields: dict[str, Any]) -> None:
    with roomy.client() as client:
        answer = client.post(path, json=fields)
    assert answer.status_code in (400, 404, 405, 413)
    assert len(answer.content) < 2500
    assert answer.text.count("Sesame") <= 10
    assert len(str(answer.headers)) < 2000


def test_names_without_effect_are_told_and_cut(roomy: Serving, clip_base64: str) -> None:
    fields = {"name": "Cut", "consent": "true", "audio_sample": clip_base64, LONG: 1}
    with roomy.client() as client:
        made = client.post("/v1/audio/voices", json=fields)
        assert made.status_code == 200, made.text
        assert made.json()["ignored"] == [LONG[:64] + "..."]


@pytest.fixture(scope="module")
def clip_base64() -> str:
    return base64.b64encode(spoken_file(1.0)).decode()
