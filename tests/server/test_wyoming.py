"""The Wyoming protocol over a real socket, event by event."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time
import types
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving import Serving, serving
from voxtral.server.application import create_app
from voxtral.server.dialects import wyoming
from voxtral.server.options import ServerOptions
from voxtral.tts import VoxtralTTS

TEXT = "Hello there, how are you?"
VOICE = "casual_male"


class Guest:
    """A client."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._file = self.socket.makefile("rwb")

    def close(self) -> None:
        self._file.close()
        self.socket.close()

    def send(
        self, kind: str, data: dict[str, Any] | None = None, *, inline: bool = False, payload: bytes = b""
    ) -> None:
        header: dict[str, Any] = {"type": kind}
        block = b"" if data is None or inline else json.dumps(data).encode()
        if inline:
            header["data"] = data
        if block:
            header["data_length"] = len(block)
        if payload:
            header["payload_length"] = len(payload)
        self._file.write(json.dumps(header).encode() + b"\n" + block + payload)
        self._file.flush()

    def read(self) -> tuple[str, dict[str, Any], bytes] | None:
        line = self._file.readline()
        if not line:
            return None
        header = json.loads(line)
        data = json.loads(self._file.read(header["data_length"])) if "data_length" in header else {}
        return header["type"], data, self._file.read(header.get("payload_length", 0))

    def read_until(self, kind: str) -> list[tuple[str, dict[str, Any], bytes]]:
        events = []
        while not events or events[-1][0] != kind:
            event = self.read()
            assert event is not None, f"it ended before {kind}: {[each[:2] for each in events]}"
            events.append(event)
        return events


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as found:
        return found.getsockname()[1]


@pytest.fixture(scope="module")
def server(tts: VoxtralTTS) -> Iterator[Serving]:
    with serving(tts, wyoming_port=free_port()) as running:
        yield running


@pytest.fixture
def guest(server: Serving) -> Iterator[Guest]:
    port = server.service.options.wyoming_port
    assert port
    with closing(Guest(port)) as opened:
        yield opened
    server.wait_until_idle()


def heard(events: list[tuple[str, dict[str, Any], bytes]]) -> np.ndarray:
    return np.frombuffer(b"".join(payload for kind, _, payload in events if kind == "audio-chunk"), "<i2")


def test_it_says_who_it_is(guest: Guest) -> None:
    guest.send("describe")
    event = guest.read()
    assert event is not None
    (program,) = event[1]["tts"]
    assert event[1]["asr"] == []
    assert program["supports_synthesize_streaming"] is True
    for voice in program["voices"]:
        assert {"name", "attribution", "installed", "languages"} <= set(voice)
    assert VOICE in [voice["name"] for voice in program["voices"]]
    guest.send("ping", {"text": "7"})
    assert guest.read() == ("pong", {"text": "7"}, b"")


@pytest.mark.parametrize("inline", [True, False])
def test_a_text_is_what_the_engine_makes(guest: Guest, tts: VoxtralTTS, inline: bool) -> None:
    for _ in range(2):
        guest.send("synthesize", {"text": TEXT, "voice": {"name": VOICE}}, inline=inline)
        events = guest.read_until("audio-stop")
        assert events[0][:2] == ("audio-start", {"rate": 24000, "width": 2, "channels": 1, "timestamp": 0})
        samples = heard(events)
        assert len(samples) % 1920 == 0
        assert len(samples) > 0
        stamps = [data["timestamp"] for _, data, _ in events]
        assert stamps == sorted(stamps)
        assert stamps[-1] == round(len(samples) / 24)


def test_a_text_in_pieces_is_spoken_as_it_comes(guest: Guest) -> None:
    guest.send("synthesize-start", {"voice": {"name": VOICE}})
    guest.send("synthesize-chunk", {"text": "Hello there. How are"})
    assert guest.read_until("audio-chunk")
    guest.send("synthesize-chunk", {"text": " you?"})
    # Sent along for servers that know no pieces.
    guest.send("synthesize", {"text": "Hello there. How are you?"})
    guest.send("synthesize-stop")
    events = guest.read_until("synthesize-stopped")
    assert [kind for kind, _, _ in events].count("audio-stop") == 1
    assert "audio-start" not in [kind for kind, _, _ in events]


def test_a_text_of_no_pieces_ends_too(guest: Guest) -> None:
    guest.send("synthesize-start", {})
    guest.send("synthesize-stop")
    assert guest.read() == ("synthesize-stopped", {}, b"")


def test_markup_waits_for_its_end(guest: Guest) -> None:
    guest.send("synthesize-start", {"text_format": "ssml"})
    guest.send("synthesize-chunk", {"text": "<speak>Hello. <break time='300ms'/>"})
    guest.send("synthesize-chunk", {"text": "There.</speak>"})
    guest.send("synthesize-stop")
    events = guest.read_until("synthesize-stopped")
    assert len(heard(events)) > 7200


@pytest.mark.parametrize(
    ("data", "code"),
    [
        ({"text": " "}, "invalid_text"),
        ({}, "invalid_message"),
        ({"text": 5}, "invalid_message"),
        ({"text": ""}, "invalid_text"),
        ({"text": TEXT, "voice": {"name": "nobody"}}, "invalid_voice"),
        ({"text": TEXT, "voice": {"language": "xx"}}, "unsupported_language"),
    ],
)
def test_a_failure_is_told_and_ends_the_audio(guest: Guest, data: dict[str, Any], code: str) -> None:
    guest.send("synthesize", data)
    (kind, error, _), *_ = guest.read_until("audio-stop")
    assert (kind, error["code"]) == ("error", code)
    guest.send("synthesize", {"text": TEXT})
    assert len(heard(guest.read_until("audio-stop"))) > 0


def test_what_it_does_not_know_is_passed_over(guest: Guest) -> None:
    guest.send("transcribe", {"name": "x"}, payload=b"\x00" * 5000)
    guest.send("synthesize-stop")
    guest.send("ping")
    event = guest.read()
    assert event is not None
    assert event[0] == "pong"


@pytest.mark.parametrize(
    "sent",
    [
        b"{\n", b"[]\n", b'{"data": {}}\n', b'{"type": "ping", "data_length": -1}\n',
        b'{"type": "ping", "data_length": 99999999}\n', b'{"type": "ping", "payload_length": "x"}\n',
        b'{"type": "ping", "data_length": 2}\n[]', b"x" * 70_000,
        b'{"type": "ping", "data": [' + b'"",' * 6000 + b'""]}\n',
    ],
)  # fmt: skip
def test_who_sends_no_events_is_let_go(guest: Guest, sent: bytes) -> None:
    guest.socket.sendall(sent)
    assert guest.read() is None


def test_who_leaves_stops_the_engine(server: Serving, guest: Guest) -> None:
    guest.send("synthesize", {"text": "One two three four five six. " * 30})
    guest.read_until("audio-chunk")
    guest.close()
    server.wait_until_idle()


def test_the_silent_are_let_go(server: Serving, guest: Guest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wyoming, "_IDLE_TIMEOUT_S", 0.05)
    guest.send("ping")
    assert guest.read_until("pong")
    assert guest.read() is None


def test_a_server_that_ends_finishes_what_is_spoken(tts: VoxtralTTS) -> None:
    port = free_port()
    with serving(tts, wyoming_port=port) as running, closing(Guest(port)) as guest:
        guest.send("synthesize", {"text": TEXT})
        guest.read_until("audio-start")
        running.service.host.drain()
        assert len(heard(guest.read_until("audio-stop"))) > 0
        assert guest.read() is None


def test_a_text_that_is_left_open_is_whole_after_a_while(
    server: Serving, guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its turn would keep others from speaking for as long as the connection is open."""
    monkeypatch.setattr(wyoming, "_IDLE_TEXT_S", 0.3)
    guest.send("synthesize-start", {"voice": {"name": VOICE}})
    guest.send("synthesize-chunk", {"text": "Hello there. How are"})
    assert len(heard(guest.read_until("audio-stop"))) > 0
    server.wait_until_idle()
    guest.send("synthesize-stop")
    assert guest.read_until("synthesize-stopped")


def test_who_has_waited_longest_makes_room(server: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wyoming, "_MAX_CONNECTIONS", 2)
    port = server.service.options.wyoming_port
    assert port
    with closing(Guest(port)) as first, closing(Guest(port)) as second, closing(Guest(port)) as third:
        for each in (second, third):
            each.send("ping")
            assert each.read_until("pong")
        assert first.read() is None


def test_a_server_that_ends_waits_as_long_as_it_is_told(tts: VoxtralTTS) -> None:
    port = free_port()
    with serving(tts, wyoming_port=port, drain_s=0.2) as running, closing(Guest(port)) as guest:
        guest.send("synthesize-start", {})
        guest.send("synthesize-chunk", {"text": "One two three four five. " * 20})
        guest.read_until("audio-start")
        running.service.host.drain()
        began = time.monotonic()
    assert time.monotonic() - began < 10


def test_an_unforeseen_failure_ends_one_connection_and_is_not_logged_in_words(
    guest: Guest, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail(*_: Any) -> None:
        raise ValueError(TEXT)

    monkeypatch.setattr(wyoming._Guest, "_info", fail)
    guest.send("describe")
    assert guest.read() is None
    assert "ValueError" in caplog.text
    assert TEXT not in caplog.text


def test_the_local_network_is_told_where_it_is(
    tts: VoxtralTTS, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told: list[tuple[str, Any]] = []

    class Announcer:
        async def async_register_service(self, info: Any) -> None:
            told.append(("here", info))

        async def async_unregister_service(self, info: Any) -> None:
            told.append(("gone", info))

        async def async_close(self) -> None:
            told.append(("closed", None))

    module = types.ModuleType("zeroconf.asyncio")
    module.AsyncZeroconf = Announcer  # type: ignore[attr-defined]
    module.AsyncServiceInfo = lambda kind, name, **facts: (kind, name, facts)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "zeroconf", types.ModuleType("zeroconf"))
    monkeypatch.setitem(sys.modules, "zeroconf.asyncio", module)
    monkeypatch.setattr(wyoming, "find_spec", lambda name: name)
    with serving(tts, wyoming_port=free_port()):
        assert told == []  # nobody else could reach it
    monkeypatch.setattr(wyoming.socket, "gethostbyname", lambda name: "192.0.2.7")
    port = free_port()
    options = ServerOptions(host="0.0.0.0", wyoming_port=port, insecure=True, data_dir=tmp_path)

    async def run() -> None:
        app = create_app(options, tts)
        async with app.router.lifespan_context(app):
            assert len(told) == 1

    asyncio.run(run())
    (what, (kind, name, facts)), *_ = told
    assert (what, kind, name) == ("here", "_wyoming._tcp.local.", f"voxtral-{port}._wyoming._tcp.local.")
    assert facts["addresses"] == [bytes((192, 0, 2, 7))]
    assert facts["port"] == port
    assert [what for what, _ in told] == ["here", "gone", "closed"]
