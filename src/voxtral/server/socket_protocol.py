"""The protocol of a web socket behind a guarded connection: frames are read in parts, and what has no end breaks off.

uvicorn hands a connection that is upgraded to another protocol object and forgets the first; this one tells the first
of pauses and of its end, so that it keeps its place among the connections. Read next: `voxtral.server.connections`.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from wsproto import events

# Of one message to a web socket: a clip in base64 and its options, as vLLM-Omni takes them.
MAX_SOCKET_MESSAGE_BYTES = 2**22

# What has come to a web socket is parsed in such parts, and for so long before others go on. A frame of six bytes takes
# 20 us, and the system hands over 40,000 of them at once. After a part that took longer the socket rests for a multiple
# of that time, so that it cannot have the event loop for itself; a clip of 4 MB still takes a tenth of a second.
_PARSED_AT_ONCE, _PARSED_FOR_S = 2**11, 0.005
_REST = 4


class _Upgraded(Protocol):
    def ended(self) -> None: ...

    def note_pause(self, *, is_paused: bool) -> None: ...


class _Holder(Protocol):
    def hold(self, num_bytes: int) -> bool: ...


class GuardedSocket(WSProtocol):
    """A web socket of uvicorn's that keeps its place among the connections, and is given up like any other.

    Args:
        guarded: the connection that it was upgraded from.
        connections: of the server.
    """

    def __init__(self, guarded: _Upgraded, connections: _Holder, **parts: Any) -> None:
        super().__init__(**parts)
        self._guarded = guarded
        self._among = connections
        self._unparsed = bytearray()
        self._parsing: asyncio.TimerHandle | None = None
        self._num_unfinished = 0  # bytes that were parsed and belong to no whole message
        self._is_lost = False

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._is_lost = True
        self._unparsed.clear()
        if self._parsing is not None:
            self._parsing.cancel()
        self._finish()
        self._guarded.ended()
        super().connection_lost(exc)
        self.writable.set()  # whoever waits to write is told so then

    def data_received(self, data: bytes) -> None:
        """Take bytes; they are parsed in parts, between which others go on."""
        self._unparsed += data
        if self._parsing is None:
            self._parse()

    async def receive(self) -> Any:
        """Give the next message, and go on with what has come behind it."""
        message = await super().receive()
        if self._unparsed and not self._is_lost:
            self.transport.pause_reading()
            self._parse_in(0.0)
        return message

    def _parse(self) -> None:
        """Parse for a while; while a message waits to be taken, and while more is left, nothing else is read."""
        self._parsing = None
        began = time.monotonic()
        took_s = 0.0
        while self._unparsed and not self._is_deaf and took_s < _PARSED_FOR_S:
            part = bytes(self._unparsed[:_PARSED_AT_ONCE])
            del self._unparsed[: len(part)]
            super().data_received(part)
            self._count(len(part))
            took_s = time.monotonic() - began
        if self.transport.is_closing():
            self._unparsed.clear()
        elif self._unparsed:
            self.transport.pause_reading()
            if not self.read_paused:
                self._parse_in(_REST * took_s)
        elif not self.read_paused:
            self.transport.resume_reading()

    @property
    def _is_deaf(self) -> bool:
        return self.read_paused or self.transport.is_closing()

    def _parse_in(self, seconds: float) -> None:
        if self._parsing is None:
            self._parsing = self.loop.call_later(seconds, self._parse)

    def _count(self, num_bytes: int) -> None:
        """Take note of bytes that were parsed; break off what never ends, and what there is no room for."""
        if self.read_paused:  # the last of them were the end of a message, or near it
            self._finish()
            return
        self._num_unfinished += num_bytes
        has_room = self._among.hold(num_bytes)
        # Twice, because of what frames take besides.
        if not has_room or self._num_unfinished > 2 * MAX_SOCKET_MESSAGE_BYTES:
            self.transport.abort()

    def _finish(self) -> None:
        self._among.hold(-self._num_unfinished)
        self._num_unfinished = 0

    def handle_ping(self, event: events.Ping) -> None:
        """Answer, but not one who does not read the answers: they would be kept in memory, as many as are asked for."""
        if self.writable.is_set():
            super().handle_ping(event)

    def pause_writing(self) -> None:
        """Take note that the client does not read as fast as it is sent to."""
        super().pause_writing()
        self._guarded.note_pause(is_paused=True)

    def resume_writing(self) -> None:
        """Take note that it does."""
        super().resume_writing()
        self._guarded.note_pause(is_paused=False)

    def shutdown(self) -> None:
        """Leave the end to the dialect, which finishes what it says; a handshake that is not over is broken off."""
        if not self.handshake_complete:
            super().shutdown()
