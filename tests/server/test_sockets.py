"""What all web sockets have in common, over real ones: bounds, idle texts, ends, failures, and what is not logged."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.websockets import WebSocket
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from wsproto.events import Ping

from serving import Serving, serving, wait_for
from voxtral.server import connections, socket_protocol, sockets, turn
from voxtral.server.dialects.elevenlabs import sockets as elevenlabs
from voxtral.server.dialects.vllm_omni import session
from voxtral.server.run import configure
from voxtral.server.socket_protocol import GuardedSocket
from voxtral.tts import VoxtralTTS

SPEECH = "/v1/audio/speech/stream"
ONE = "/v1/text-to-speech/casual_male/stream-input?output_format=pcm_24000&seed=6"
MANY = "/v1/text-to-speech/casual_male/multi-stream-input?output_format=pcm_24000&seed=6"
SPOKEN = "what somebody wants spoken"
CLOSED = b"\x88\x02\x03\xe8"  # a close of 1000
CONFIG = {"type": "session.config", "seed": 6, "max_new_tokens": 8, "response_format": "pcm"}


@pytest.fixture
def server(tts: VoxtralTTS) -> Iterator[Serving]:
    with serving(tts, is_guarded=True) as running:
        yield running
        running.wait_until_idle()
        wait_for(lambda: not running.service.sockets)
        # Nothing is kept for sockets that have gone.
        assert running.service.held_for_sockets.num_bytes == 0
        assert running.connections is not None
        assert running.connections.hold(0)
        assert running.connections._num_unfinished == 0


def open_socket(server: Serving, path: str) -> ClientConnection:
    return connect(server.url.replace("http", "ws") + path, open_timeout=20, max_size=2**24)


def send(opened: ClientConnection, **message: Any) -> None:
    opened.send(json.dumps(message))


def read(opened: ClientConnection) -> dict[str, Any]:
    """Read a message that is text."""
    while isinstance(message := opened.recv(timeout=30), bytes):
        pass
    return json.loads(message)


def read_to_the_end(opened: ClientConnection) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = []
    with suppress(ConnectionClosed):
        while True:
            messages.append(read(opened))
    return messages


def speak(opened: ClientConnection, text: str = "Hello there.") -> list[str]:
    """Have vLLM-Omni's socket speak, and return the types of what it says."""
    send(opened, type="input.text", text=text)
    send(opened, type="input.done")
    seen: list[str] = []
    while not seen or seen[-1] != "session.done":
        seen.append(read(opened)["type"])
    return seen


# Texts that stay open.


def test_a_text_that_is_left_open_is_whole_after_a_while(server: Serving) -> None:
    """Its turn would keep others from speaking for as long as the socket is open."""
    with open_socket(server, ONE + "&inactivity_timeout=1") as opened:
        send(opened, text="Hello there. ")
        messages = read_to_the_end(opened)
        assert messages[0]["audio"]
        assert messages[-1]["isFinal"] is True
        assert opened.close_code == 1000
    with open_socket(server, MANY + "&inactivity_timeout=1") as opened:
        send(opened, text="Hello there. ", context_id="a")
        messages = read_to_the_end(opened)
        assert (messages[-1]["isFinal"], messages[-1]["contextId"]) == (True, "a")


def test_a_space_keeps_a_text_open(server: Serving) -> None:
    with open_socket(server, ONE + "&inactivity_timeout=1") as opened:
        send(opened, text="Hello there. ")
        for _ in range(6):
            time.sleep(0.3)
            send(opened, text=" ")
        send(opened, text="How are you?")
        send(opened, text="")
        messages = read_to_the_end(opened)
    told = "".join("".join(each["alignment"]["chars"]) for each in messages if each["alignment"])
    assert told == "Hello there. How are you?"


def test_a_space_does_not_keep_it_open_for_ever(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "_LONGEST_SILENCE_S", 1.0)
    with open_socket(server, ONE + "&inactivity_timeout=1") as opened:
        send(opened, text="Hello there. ")
        with suppress(ConnectionClosed):
            for _ in range(40):
                time.sleep(0.2)
                send(opened, text=" ")
        assert read_to_the_end(opened)[-1]["isFinal"] is True


@pytest.mark.parametrize("wish", ["nan", "inf", "1_0", "-5", "1e9", "\u0665", "x"])
def test_a_time_out_that_is_none_is_the_usual_one(wish: str) -> None:
    query = f"inactivity_timeout={wish}".encode()
    websocket = WebSocket({"type": "websocket", "query_string": query, "headers": []}, None, None)  # type: ignore[arg-type]
    assert elevenlabs._Asked(websocket, "x").idle_s == 20.0


# Bounds.


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ('{"type": [' + ",".join(['""'] * 5000) + "]}", "too many values"),
        ('{"type": ' + "[" * 5000 + "}", "no JSON"),
        ('{"type": ' + "9" * 70_000 + "}", "too many values, or numbers of too many digits"),
        ('{"type": {"a": 1}}', "Unknown message type: dict"),
        (json.dumps({"type": "x" * 5000}), "Unknown message type: xxx"),
    ],
)
def test_small_messages_that_are_large_in_memory_are_refused(server: Serving, sent: str, said: str) -> None:
    with open_socket(server, SPEECH) as opened:
        send(opened, **CONFIG)
        opened.send(sent)
        message = read(opened)["message"]
        assert said in message
        assert len(message) < 300
        assert "session.done" in speak(opened)


def test_who_sends_faster_than_anybody_speaks_waits(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_MESSAGES_AT_ONCE", 2)
    monkeypatch.setattr(sockets, "_MESSAGES_PER_S", 20)
    with open_socket(server, SPEECH) as opened:
        send(opened, **CONFIG)
        began = time.monotonic()
        for _ in range(12):
            send(opened, type="nothing")
        for _ in range(12):
            read(opened)
        assert time.monotonic() - began > 0.4


def test_what_waits_at_a_socket_has_a_bound(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_MAX_HELD_BYTES", 2000)
    with open_socket(server, SPEECH) as opened:
        send(opened, **CONFIG)
        send(opened, type="input.text", text="x" * 400)
        assert "wait to be spoken" in read(opened)["message"]
        assert "session.done" in speak(opened)
        # Units of nothing take memory too, while they wait.
        send(opened, type="input.text", text="Hello there.")
        for _ in range(10):
            send(opened, type="input.done")
        assert "wait to be spoken" in next(said for _ in range(20) if "message" in (said := read(opened)))["message"]
    with open_socket(server, MANY) as opened:
        send(opened, text="Hello there. " * 40, context_id="a")
        assert read(opened)["code"] == "too_much_waiting"
        send(opened, text="Hello there. ", context_id="a", flush=True)
        assert read(opened)["audio"]


def test_all_sockets_together_have_a_bound(server: Serving) -> None:
    held = server.service.held_for_sockets
    held.change(2**28 - 1000)
    with open_socket(server, SPEECH) as opened:
        send(opened, **CONFIG)
        send(opened, type="input.text", text="x" * 400)
        assert "too much waits" in read(opened)["message"]
    held.change(-(2**28 - 1000))


def test_contexts_that_only_have_settings_count(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elevenlabs, "_MAX_CONTEXTS", 2)
    with open_socket(server, MANY) as opened:
        for name in "abc":
            send(opened, text=" ", voice_settings={"speed": 1.1}, context_id=name)
        message = read(opened)
        assert (message["contextId"], message["code"]) == ("c", "too_many_contexts")


@pytest.mark.parametrize("played_ms", [10**400, -5, "x", True, 1e308, None])
def test_what_was_played_may_be_any_number(server: Serving, played_ms: Any) -> None:
    with open_socket(server, MANY) as opened:
        send(opened, text="One two three four five. " * 10, context_id="a", flush=True)
        assert read(opened)["audio"]
        send(opened, cancel_context=True, context_id="a", played_ms=played_ms)
        while not (message := read(opened)).get("cancelled"):
            assert "error" not in message


# Bytes.


def frame(payload: bytes, *, opcode: int, is_last: bool) -> bytes:
    """Write a frame of a client, with a mask of zeros."""
    size = len(payload)
    length = struct.pack("!B", 128 | size) if size < 126 else struct.pack("!BQ", 255, size)
    return bytes([opcode | 128 * is_last]) + length + bytes(4) + payload


def shake_hands(server: Serving, path: str = SPEECH) -> socket.socket:
    raw = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    key = base64.b64encode(bytes(16)).decode()
    raw.sendall(
        f"GET {path} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert b"101" in raw.recv(4096)
    return raw


def is_broken_off(raw: socket.socket, data: bytes, times: int) -> bool:
    try:
        for _ in range(times):
            raw.sendall(data)
        while raw.recv(65536):
            pass
    except ConnectionError:
        pass
    except TimeoutError:
        return False
    return True


def test_a_message_without_an_end_is_broken_off(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket_protocol, "MAX_SOCKET_MESSAGE_BYTES", 2**14)
    with shake_hands(server) as raw:
        raw.sendall(frame(b"", opcode=1, is_last=False))
        # Each is nothing in the message, and something in memory.
        assert is_broken_off(raw, 1000 * frame(b"", opcode=0, is_last=False), 40)
    with open_socket(server, SPEECH) as opened:
        send(opened, **CONFIG)
        assert "session.done" in speak(opened)


def test_messages_without_an_end_have_a_bound_together(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_MAX_UNFINISHED_BYTES", 2**15)
    with shake_hands(server) as one, shake_hands(server) as other:
        for raw in (one, other):
            raw.sendall(frame(b"x" * 20_000, opcode=1, is_last=False))
        assert is_broken_off(other, b"", 1)


def test_a_flood_of_small_frames_leaves_time_for_others(server: Serving) -> None:
    with shake_hands(server) as raw, open_socket(server, SPEECH) as opened:
        send(opened, **CONFIG)
        raw.settimeout(0.1)
        with suppress(OSError):
            raw.sendall(100_000 * frame(b"", opcode=10, is_last=True))  # pongs that nobody asked for
        began = time.monotonic()
        assert "session.done" in speak(opened)
        assert time.monotonic() - began < 5


def test_several_messages_in_one_packet_all_come(server: Serving) -> None:
    texts = [CONFIG, {"type": "input.text", "text": "Hello. "}, {"type": "input.done"}, {"type": "session.close"}]
    with shake_hands(server) as raw:
        raw.sendall(b"".join(frame(json.dumps(each).encode(), opcode=1, is_last=True) for each in texts))
        heard = b""
        # No further: the close is never answered here, and waits for that.
        while not heard.endswith(CLOSED) and (piece := raw.recv(65536)):
            heard += piece
    assert heard.endswith(CLOSED)


def test_who_reads_late_is_not_given_up_for_it(server: Serving) -> None:
    """Who plays what it has before it reads on answers no ping until then."""
    assert server.connections is not None
    assert configure(server.app, server.service.options, server.connections).ws_ping_timeout is None


# Failures and ends.


def test_an_unforeseen_failure_is_told_and_its_words_are_not_logged(
    server: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: Any) -> None:
        raise ValueError(SPOKEN)

    with open_socket(server, SPEECH) as opened:
        send(opened, **CONFIG)
        with monkeypatch.context() as patched:
            patched.setattr(turn, "deliver", fail)
            assert speak(opened) == ["audio.start", "error", "audio.done", "session.done"]
        assert "error" not in speak(opened)
    assert "ValueError" in caplog.text
    assert SPOKEN not in caplog.text


def test_a_session_that_cannot_go_on_is_closed(
    server: Serving, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: Any) -> None:
        raise ValueError(SPOKEN)

    monkeypatch.setattr(session._Session, "_speak_unit", fail)
    with open_socket(server, SPEECH) as opened:
        send(opened, **CONFIG)
        send(opened, type="input.text", text="Hello.")
        send(opened, type="input.done")
        read_to_the_end(opened)
        assert opened.close_code == 1011
    assert SPOKEN not in caplog.text


def test_a_server_that_ends_speaks_what_has_come(server: Serving) -> None:
    with open_socket(server, ONE) as one, open_socket(server, MANY) as many:
        send(one, text="Hello there. How are")
        send(many, text="Hello there. How are", context_id="a")
        assert read(one)["audio"]
        assert read(many)["audio"]
        server.service.host.drain()
        for opened in (one, many):
            messages = read_to_the_end(opened)
            told = "".join("".join(each["alignment"]["chars"]) for each in messages if each["alignment"])
            assert told.endswith("How are")
            assert messages[-1]["isFinal"] is True
            assert opened.close_code == 1012


def test_paths_of_sockets_are_not_logged(server: Serving, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with open_socket(server, ONE.replace("casual_male", "somebody") + "&language_code=secret") as opened:
        send(opened, text="Hello. ")
        read_to_the_end(opened)
    assert any(record.name == "uvicorn.error" for record in caplog.records)
    assert "somebody" not in caplog.text
    assert "secret" not in caplog.text


def test_who_leaves_after_the_end_of_the_text_stops_the_engine(server: Serving) -> None:
    with open_socket(server, ONE) as opened:
        send(opened, text="One two three four five. " * 60)
        send(opened, text="")
        assert read(opened)["audio"]
    server.wait_until_idle()
    with server.client() as client:
        assert "voxtral_cancellations_total 1.0" in client.get("/metrics").text


# The protocol by itself.


def protocol() -> GuardedSocket:
    """Make one that belongs to no server, and whose client reads nothing."""
    made = object.__new__(GuardedSocket)
    made._guarded = SimpleNamespace(ended=lambda: None)  # type: ignore[assignment]
    made._among = SimpleNamespace(hold=lambda by: True)  # type: ignore[assignment]
    made._unparsed, made._parsing, made._num_unfinished = bytearray(b"x"), None, 0
    made.writable = asyncio.Event()
    return made


def test_pings_of_who_reads_nothing_are_not_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answers would be kept in memory, as many as are asked for."""
    answered: list[Any] = []
    monkeypatch.setattr(WSProtocol, "handle_ping", lambda self, event: answered.append(event))
    made = protocol()
    made.handle_ping(Ping())
    assert answered == []
    made.writable.set()
    made.handle_ping(Ping())
    assert answered == [Ping()]


def test_who_waits_to_write_is_told_that_the_client_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WSProtocol, "connection_lost", lambda self, error: None)
    made = protocol()
    made.connection_lost(None)
    assert made.writable.is_set()
    assert not made._unparsed
