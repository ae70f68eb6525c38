"""The Wyoming protocol, which Home Assistant speaks to its voices: events over TCP, a line of JSON each.

Source of the shapes: wyoming 1.10 and the events of its TTS clients. Behind a header may come a block of JSON and one
of bytes, each of a length that the header names. There are no keys in it: other machines are answered where the server
was started with --insecure, and nowhere else.
"""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
import json
import logging
import socket
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, cast

from fastapi import APIRouter

import voxtral
from voxtral.errors import OptionError, VoxtralError
from voxtral.server.body import read_json
from voxtral.server.errors import ClientGoneError, HttpError, as_http_error, hushed
from voxtral.server.guard import Visit
from voxtral.server.keys import LOCAL, Client, remote_client
from voxtral.server.service import Closing, Encoded, Opening, SpeechOrder, SpeechService
from voxtral.server.turn import Turn
from voxtral.server.voice_service import VoiceService
from voxtral.speech.request import make_request

_log = logging.getLogger("voxtral.server")

# A header, the block of JSON behind it, and bytes, which are read and thrown away: there is no use for any.
_MAX_LINE_BYTES, _MAX_DATA_BYTES, _MAX_PAYLOAD_BYTES = 2**16, 2**20, 2**22
_MAX_CONNECTIONS = 128
# Clients of Home Assistant keep nothing open; whoever says nothing for so long is let go.
_IDLE_TIMEOUT_S = 300.0
# A text that comes in pieces keeps others from speaking: when it does not go on for so long, what came of it is all.
_IDLE_TEXT_S = 30.0
_PATIENCE_S = 0.6

_ATTRIBUTION = {"name": "Mistral AI", "url": "https://mistral.ai/"}
_WIDTH, _CHANNELS = 2, 1


@dataclass(frozen=True)
class Event:
    """One event, in either direction."""

    type: str
    data: dict[str, Any] = field(default_factory=dict[str, Any])
    payload: bytes = b""


def routes(service: SpeechService) -> APIRouter:
    """Make no routes: this dialect is not HTTP."""
    return APIRouter()


@asynccontextmanager
async def listening(service: SpeechService, announce: Callable[[str], None]) -> AsyncGenerator[None]:
    """Listen while the server runs, if a port is chosen.

    Raises:
        OptionError: the address cannot be listened on.
    """
    options = service.options
    if options.wyoming_port is None:
        yield
        return
    house = _House(service)
    service.welcome(house)
    try:
        server = await asyncio.start_server(
            house.welcome, options.host or None, options.wyoming_port, limit=_MAX_LINE_BYTES
        )
    except OSError as error:
        raise OptionError(
            f"wyoming_port {options.wyoming_port} of {options.host} cannot be listened on "
            f"({error.strerror or error}); choose one that is free"
        ) from error
    host, port = server.sockets[0].getsockname()[:2]
    announce(f"ready for Home Assistant on tcp://{host}:{port} (Wyoming)")
    async with AsyncExitStack() as stack:
        if find_spec("zeroconf") is not None:
            await stack.enter_async_context(_announced(port, host))
        try:
            yield
        finally:
            server.close()
            await house.close()
            service.sockets.discard(house)


@asynccontextmanager
async def _announced(port: int, host: str) -> AsyncGenerator[None]:
    """Tell the local network of it, so that Home Assistant finds it by itself."""
    zeroconf: Any = importlib.import_module("zeroconf.asyncio")  # an extra
    address = ipaddress.ip_address(host)
    if address.is_loopback:
        yield
        return
    own = socket.gethostbyname(socket.gethostname()) if address.is_unspecified else host
    kind = "_wyoming._tcp.local."
    info = zeroconf.AsyncServiceInfo(
        kind, f"voxtral-{port}.{kind}", addresses=[ipaddress.ip_address(own).packed], port=port, properties={}
    )
    announcer = zeroconf.AsyncZeroconf()
    await announcer.async_register_service(info)
    try:
        yield
    finally:
        await announcer.async_unregister_service(info)
        await announcer.async_close()


class _House:
    """All connections."""

    def __init__(self, service: SpeechService) -> None:
        self._service = service
        self._guests: dict[asyncio.Task[None], _Guest] = {}
        self._ends_at: float | None = None  # when whoever still speaks is cut off

    async def welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer a client until it leaves."""
        task = asyncio.current_task()
        client = self._client_of(writer)
        if task is None or client is None or not self._make_room():
            writer.close()
            return
        guest = _Guest(self._service, reader, writer, Visit("wyoming", client))
        self._guests[task] = guest
        self._service.welcome(guest)
        try:
            await guest.serve()
        except (ClientGoneError, ConnectionError):
            pass
        except Exception as error:  # noqa: BLE001 - whatever it is, it ends one connection, and no text is logged
            _log.error("a connection over Wyoming failed: %s", type(error).__name__, exc_info=hushed(error))
        finally:
            self._service.sockets.discard(guest)
            del self._guests[task]
            writer.close()

    def drain(self) -> None:
        """See `voxtral.server.service.Drained`: those who speak have as long as everybody else."""
        self._ends_at = self._ends_at or time.monotonic() + self._service.options.drain_s

    async def close(self) -> None:
        """Let everybody finish, for as long as there is time, and go."""
        self.drain()
        for guest in self._guests.values():
            guest.drain()
        if self._guests and self._ends_at is not None:
            await asyncio.wait(self._guests, timeout=max(0.0, self._ends_at - time.monotonic()))
        for task in self._guests:
            task.cancel()
        if self._guests:
            await asyncio.wait(self._guests)

    def _make_room(self) -> bool:
        """Let the one go that has waited longest, if need be; tell whether there is a place."""
        if len(self._guests) < _MAX_CONNECTIONS:
            return True
        idle = {
            task: guest.idle_since
            for task, guest in self._guests.items()
            if guest.idle_since is not None and not task.cancelling()
        }
        if idle:
            min(idle, key=lambda task: idle[task]).cancel()
        return bool(idle)

    def _client_of(self, writer: asyncio.StreamWriter) -> Client | None:
        """Tell who a peer is; None where it may not ask."""
        peer = writer.get_extra_info("peername")
        if not peer:
            return None  # it has gone
        address = ipaddress.ip_address(str(peer[0]).split("%")[0])
        address = getattr(address, "ipv4_mapped", None) or address
        if address.is_loopback:
            return LOCAL
        if not self._service.options.insecure:
            _log.warning("a machine asked over Wyoming, which has no keys; it was refused: see --insecure")
            return None
        return remote_client(address, -(-self._service.admission.max_streams // 2))


class _Guest:
    """One connection. A TurnListener."""

    def __init__(
        self, service: SpeechService, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit
    ) -> None:
        self._service = service
        self._reader = reader
        self._writer = writer
        self._visit = visit
        self._drained = asyncio.Event()
        self._turn: Turn | None = None
        self._touched_at = time.monotonic()
        self._open: dict[str, Any] | None = None  # of a synthesis whose text comes in pieces
        self._markup = ""  # of one that is a document, which is spoken when it is whole
        self._rate, self._num_samples = 0, 0

    def drain(self) -> None:
        """See `voxtral.server.service.Drained`."""
        self._drained.set()

    @property
    def idle_since(self) -> float | None:
        """Since when it has said nothing; None while something is spoken to it."""
        return self._touched_at if self._turn is None else None

    async def serve(self) -> None:
        """Answer events until the client leaves, says nothing for too long, or the server ends."""
        reading: asyncio.Task[Event] | None = None
        draining = asyncio.create_task(self._drained.wait())
        try:
            while not (self._drained.is_set() and self._turn is None):
                reading = reading or asyncio.create_task(self._read())
                waits: set[asyncio.Future[Any]] = {reading, draining} if self._turn is None else {reading}
                ending = None
                if self._turn is not None:
                    ending = self._turn.ending
                    waits.add(ending)
                await asyncio.wait(waits, timeout=_IDLE_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
                self._touched_at = time.monotonic()
                if ending is not None and ending.done():
                    self._turn = None
                elif reading.done():
                    event, reading = reading.result(), None
                    await self._take(event)
                elif ending is None:
                    return
        finally:
            draining.cancel()
            if reading is not None:
                reading.cancel()
            if self._turn is not None:
                await self._turn.cancel()

    async def _take(self, event: Event) -> None:
        try:
            await self._act(event)
        except (HttpError, VoxtralError) as error:
            await self.fail(as_http_error(error), has_begun=False)

    async def _act(self, event: Event) -> None:
        """Do what an event asks for; others are passed over.

        Raises:
            HttpError: it breaks a rule.
        """
        data = event.data
        if event.type == "describe":
            await self._write(Event("info", await self._info()))
        elif event.type == "ping":
            await self._write(Event("pong", {"text": data.get("text")}))
        elif event.type == "synthesize" and self._open is None:
            await self._finish_turn()
            self._turn = self._begin(data, _text_of(data))
        elif event.type == "synthesize-start":
            await self._finish_turn()
            self._open, self._markup = data, ""
        elif event.type == "synthesize-chunk" and self._open is not None:
            if self._open.get("text_format") == "ssml":
                self._service.check_length(_text_of(data), before=len(self._markup))
                self._markup += _text_of(data)
            elif piece := _text_of(data):
                self._turn = self._turn or self._begin(self._open)
                self._turn.push(piece)
        elif event.type == "synthesize-stop" and self._open is not None:
            await self._stop(self._open)

    async def _stop(self, asked: dict[str, Any]) -> None:
        """End a text that came in pieces: speak what is left of it."""
        if self._markup:
            self._turn = self._begin(asked, self._markup)
        elif self._turn is not None:
            self._turn.close()
        await self._finish_turn()
        self._open = None
        await self._write(Event("synthesize-stopped"))

    async def _finish_turn(self) -> None:
        """Wait until what is spoken has been spoken, or the client has gone."""
        if self._turn is None:
            return
        if self._open is None and self._turn.feed is not None:
            self._turn.close()
        await self._turn.wait()
        self._turn = None

    def _begin(self, asked: dict[str, Any], text: str | None = None) -> Turn:
        """Begin to speak a text; None for one that comes in pieces."""
        voice = asked.get("voice")
        named = cast("dict[str, Any]", voice) if isinstance(voice, dict) else {}
        language = named.get("language")
        request = make_request(
            text or "",
            language if isinstance(language, str) and not named.get("name") else None,
            voice=named.get("name") if isinstance(named.get("name"), str) else None,
            normalize=self._service.options.normalize,
            ssml=asked.get("text_format") == "ssml",
        )
        return Turn(
            self._service,
            SpeechOrder(request, format="pcm"),
            self._visit,
            self,
            in_pieces=text is None,
            patience_s=_PATIENCE_S,
            idle_s=_IDLE_TEXT_S,
        )

    # What is written of a turn.

    async def begin(self, opening: Opening) -> None:
        """See TurnListener."""
        self._rate, self._num_samples = opening.sample_rate, 0
        await self._write(Event("audio-start", self._format()))

    async def audio(self, piece: Encoded) -> None:
        """See TurnListener."""
        if piece.data:
            await self._write(Event("audio-chunk", self._format(), piece.data))
        self._num_samples += piece.num_samples

    async def end(self, closing: Closing) -> None:
        """See TurnListener."""
        await self._write(Event("audio-stop", {"timestamp": self._timestamp}))

    async def fail(self, error: HttpError, *, has_begun: bool) -> None:
        """See TurnListener; whoever waits for the end of the audio gets one."""
        await self._write(Event("error", {"text": error.detail, "code": error.code}))
        await self._write(Event("audio-stop", {"timestamp": self._timestamp if has_begun else 0}))

    def give_up(self) -> None:
        """See TurnListener."""
        self._writer.transport.abort()

    def _format(self) -> dict[str, Any]:
        return {"rate": self._rate, "width": _WIDTH, "channels": _CHANNELS, "timestamp": self._timestamp}

    @property
    def _timestamp(self) -> int:
        return round(1000 * self._num_samples / self._rate) if self._rate else 0

    async def _info(self) -> dict[str, Any]:
        card, _ = await self._service.host.describe()
        presets, stored = await VoiceService(self._service).list()
        voices = [
            {
                "name": voice.name,
                "attribution": _ATTRIBUTION,
                "installed": True,
                "description": voice.description or voice.name,
                "version": None,
                "languages": [voice.language] if voice.language else list(card.languages),
                "speakers": None,
            }
            for voice in (*presets, *stored)
        ]
        program = {
            "name": "voxtral",
            "attribution": _ATTRIBUTION,
            "installed": True,
            "description": card.id,
            "version": voxtral.__version__,
            "voices": voices,
            "supports_synthesize_streaming": True,
        }
        others: dict[str, list[Any]] = {name: [] for name in ("asr", "handle", "intent", "wake", "mic", "snd")}
        return {**others, "tts": [program]}

    # The wire.

    async def _read(self) -> Event:
        """Read an event.

        Raises:
            ClientGoneError: the client has left, or sends what is none.
        """
        try:
            line = await self._reader.readuntil(b"\n")
            header = read_json(line)
            data = header.get("data")
            merged: dict[str, Any] = dict(cast("dict[str, Any]", data)) if isinstance(data, dict) else {}
            merged |= read_json(await self._block(header.get("data_length"), _MAX_DATA_BYTES) or b"{}")
            await self._block(header.get("payload_length"), _MAX_PAYLOAD_BYTES)
            return Event(str(header["type"]), merged)
        except (HttpError, ValueError, KeyError, asyncio.LimitOverrunError, EOFError, ConnectionError) as error:
            raise ClientGoneError from error

    async def _block(self, length: Any, limit: int) -> bytes:
        if length is None:
            return b""
        if not isinstance(length, int) or isinstance(length, bool) or not 0 <= length <= limit:
            raise ValueError("the length of a block is out of range")
        return await self._reader.readexactly(length)

    async def _write(self, event: Event) -> None:
        """Write an event; raises ClientGoneError where nobody takes it."""
        header: dict[str, Any] = {"type": event.type, "version": _VERSION}
        block = json.dumps(event.data).encode() if event.data else b""
        if block:
            header["data_length"] = len(block)
        if event.payload:
            header["payload_length"] = len(event.payload)
        self._writer.write(json.dumps(header).encode() + b"\n" + block + event.payload)
        try:
            async with asyncio.timeout(self._service.options.stall_timeout_s):
                await self._writer.drain()
        except (TimeoutError, ConnectionError) as error:
            with suppress(Exception):
                self._writer.transport.abort()
            raise ClientGoneError from error


# Of the protocol, as its reference writes it.
_VERSION = "1.10.2"


def _text_of(data: dict[str, Any]) -> str:
    """Take the text out of an event.

    Raises:
        HttpError: 400, it has none.
    """
    text = data.get("text")
    if not isinstance(text, str):
        raise HttpError(400, "text is missing; it must be what to speak", code="invalid_message", param="text")
    return text
