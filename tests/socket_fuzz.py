"""Sends sockets whatever may be sent, and looks at what is left: no failure of the server, memory, threads, speech."""

from __future__ import annotations

import base64
import json
import logging
import random
import socket
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from serving import Serving, serving
from voxtral.tts import VoxtralTTS

VOICE = "casual_male"
PATHS = (
    "/v1/audio/speech/stream",
    f"/v1/text-to-speech/{VOICE}/stream-input?output_format=pcm_24000",
    f"/v1/text-to-speech/{VOICE}/multi-stream-input?output_format=ulaw_8000",
)
_LIMIT_BYTES = 200 * 2**20


@dataclass(frozen=True)
class FuzzReport:
    """What was done, and what it left.

    Attributes:
        num_sent: messages.
        num_closed: sockets that the server closed.
        grown_bytes: memory that the process has more than before.
    """

    num_sent: int
    num_closed: int
    grown_bytes: int


def fuzz(tts: VoxtralTTS, *, num_messages: int, num_silent: int, seed: int) -> FuzzReport:
    """Send messages to all sockets of a server, some of them silent all the time, and check that it is well after."""
    rng = random.Random(seed)
    told = _Told()
    logging.getLogger("voxtral.server").addHandler(told)
    with serving(tts, is_guarded=True, stall_timeout_s=5) as server, ExitStack() as stack:
        stack.callback(logging.getLogger("voxtral.server").removeHandler, told)
        speak_well(server)
        before = resident_bytes()
        for _ in range(num_silent):
            stack.enter_context(suppress(WebSocketException))
            silent = socket.create_connection(("127.0.0.1", server.port))
            stack.callback(silent.close)
            if rng.random() < 0.5:
                silent.sendall(handshake(rng.choice(PATHS)))
        num_sent = num_closed = 0
        while num_sent < num_messages:
            with suppress(WebSocketException, OSError, TimeoutError):
                if rng.random() < 0.1:
                    send_half_a_frame(server, rng)
                url = server.url.replace("http", "ws") + rng.choice(PATHS)
                with connect(url, open_timeout=20, close_timeout=1, max_size=None) as opened:
                    reader = threading.Thread(target=drain, args=(opened,), daemon=True)
                    if rng.random() < 0.8:
                        reader.start()
                    for _ in range(rng.choice((1, 5, 40))):
                        opened.send(message(rng))
                        num_sent += 1
                    num_closed += opened.close_code is not None
            num_sent += 1  # the connection
        with server.client() as client:
            assert 'voxtral_errors_total{code="internal_error"}' not in client.get("/metrics").text
        server.wait_until_idle()
        speak_well(server)
        assert not told.errors, told.errors[:3]
        grown = resident_bytes() - before
        assert grown < _LIMIT_BYTES, f"{grown} bytes more"
    return FuzzReport(num_sent, num_closed, grown)


class _Told(logging.Handler):
    """Keeps what the server calls errors."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.errors: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.errors.append(self.format(record))


def resident_bytes() -> int:
    """Read how much memory the process has; 0 where nobody says."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)


def message(rng: random.Random) -> str | bytes:
    """Make a message: mostly one that a dialect knows, with something wrong."""
    texts = ("Hello there. ", "", " ", "Half a ", "\ud83d\ude00" * 5, "x" * rng.choice((10, 3000)), "a, b; c. " * 20)
    values: tuple[Any, ...] = (None, True, 0, -1, 1e308, [], {}, "x" * 300, rng.choice(texts), 24000, "pcm", "mp3")
    kinds = ("session.config", "input.text", "input.done", "input.cancel", "session.close", "nothing", None)
    keys = (
        "text", "context_id", "contextId", "flush", "close_context", "cancel_context", "voice", "voice_settings",
        "speed", "generation_config", "response_format", "stream_audio", "split_granularity", "max_new_tokens", "seed",
        "played_ms", "ref_audio", "language", "model", "word_timestamps", "try_trigger_generation",
    )  # fmt: skip
    drawn = rng.random()
    if drawn < 0.05:
        return rng.randbytes(rng.choice((0, 5, 5000)))
    if drawn < 0.1:
        return rng.choice(("{", "[]", "5", '"x"', "null", "{}" * 3, '{"type": NaN}', "[" * 5000, '{"text": "\\ud800"}'))
    fields: dict[str, Any] = {}
    if rng.random() < 0.7:
        fields["type"] = rng.choice(kinds)
    if rng.random() < 0.8:
        fields["text"] = rng.choice(texts)
    for _ in range(rng.randrange(4)):
        fields[rng.choice(keys)] = rng.choice(values)
    if rng.random() < 0.5:
        fields["context_id"] = rng.choice(("a", "b", "c"))
    fields.setdefault("max_new_tokens", 4)
    return json.dumps(fields)


def drain(opened: ClientConnection) -> None:
    """Read until the end."""
    with suppress(WebSocketException, OSError, EOFError):
        for _ in opened:
            pass


def handshake(path: str) -> bytes:
    """Write a handshake."""
    key = base64.b64encode(bytes(16)).decode()
    return (
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()


def send_half_a_frame(server: Serving, rng: random.Random) -> None:
    """Open a socket by hand, and leave it in the middle of a frame, or with bytes that are none."""
    with socket.create_connection(("127.0.0.1", server.port)) as raw:
        raw.sendall(handshake(rng.choice(PATHS)))
        raw.recv(1000)
        raw.sendall(
            rng.choice((b"\x81", b"\x81\xfe\xff", b"\x81\xff" + b"\xff" * 8, b"\xff\xff\xff", b"\x01\x80\0\0\0\0"))
        )


def speak_well(server: Serving) -> None:
    """Fail unless an utterance over a socket is whole."""
    url = server.url.replace("http", "ws") + PATHS[0]
    deadline = time.monotonic() + 60
    with connect(url, open_timeout=20, close_timeout=1, max_size=None) as opened:
        opened.send(json.dumps({"type": "session.config", "response_format": "pcm", "max_new_tokens": 4, "seed": 1}))
        opened.send(json.dumps({"type": "input.text", "text": "Hello there."}))
        opened.send(json.dumps({"type": "input.done"}))
        seen: list[Any] = []
        while not seen or isinstance(seen[-1], bytes) or seen[-1]["type"] != "session.done":
            assert time.monotonic() < deadline
            got = opened.recv(timeout=30)
            seen.append(got if isinstance(got, bytes) else json.loads(got))
        assert any(isinstance(each, bytes) and len(each) % 3840 == 0 and each for each in seen), seen
