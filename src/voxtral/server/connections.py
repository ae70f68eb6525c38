"""Connections of `voxtral serve`: never more than there are descriptors for, and none that waits without end.

A connection either waits, for the head of its first request or of the next one, or it has a request under way. Where
there is no room for another, the one that has waited longest is closed: a new one is always let in, so that a probe
is answered however many sit there and send nothing. Requests under way never take all places, for the same reason.

Plain uvicorn has none of this. `voxtral.server.run` uses it as the class of uvicorn's connections and as its sockets.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from voxtral.server.socket_protocol import MAX_SOCKET_MESSAGE_BYTES, GuardedSocket

_log = logging.getLogger("voxtral.server")

# Nobody needs more of them, and each may keep a head of 32 kB in memory.
_MAX_CONNECTIONS = 4096

# Longer than the minute for which proxies keep an idle connection, so that they and not we close it.
KEEP_ALIVE_S = 65

# Of what one line of a request and its headers may have together. To parse one of so many tiny headers takes 8 ms.
MAX_HEAD_BYTES = 2**15

# Of messages to web sockets that have not come to their end, of all sockets together.
_MAX_UNFINISHED_BYTES = 16 * MAX_SOCKET_MESSAGE_BYTES

# Connections that are accepted before the loop goes on to close those that make room for them.
_ACCEPTED_AT_ONCE = 8

# Descriptors for the server's own files at most: voices, locks, a model that is loaded again.
_MAX_FILES = 64

# What the rest of a response must drain by at least, in bytes per second, besides the time for a client that stops.
_LOWEST_RATE = 2**13

# What the system keeps of a response for a client, of pcm five seconds. By itself it would grow to megabytes, which is
# minutes of speech, made for somebody who has stopped reading or never meant to.
_SEND_BUFFER_BYTES = 131072

# For the last bytes of what was broken off.
_LAST_WORDS_S = 3.0

_BACKLOG = 2048
_SAID_EVERY_S = 60.0
_COUNTED_EVERY_S = 2.0
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

_RESET = struct.pack("ii", 1, 0)
_TIMED_OUT = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class Connections:
    """All connections of a server; belongs to one event loop.

    Args:
        head_timeout_s: longest time from the first byte of a request, or from the connection's start, to the end of
            the request's head.
        write_timeout_s: a response of which the client takes nothing for so long is broken off. Streams have a limit
            of their own, which should be shorter.
        max_connections: at most; None takes as many as there are descriptors for.
        count_closed: is told why one was closed.

    Attributes:
        max_open: connections that are open at a time, after what is known now of descriptors.
    """

    def __init__(
        self,
        head_timeout_s: float,
        write_timeout_s: float,
        max_connections: int | None = None,
        count_closed: Callable[[str], None] = lambda why: None,
    ) -> None:
        self.head_timeout_s = head_timeout_s
        self.write_timeout_s = write_timeout_s
        self.max_open = max_connections or _MAX_CONNECTIONS
        self._max_connections = self.max_open
        self._count_closed = count_closed
        self._open: set[GuardedProtocol] = set()
        # In the order in which they began to wait.
        self._waiting: dict[GuardedProtocol, None] = {}
        self._num_ending = 0  # told to close, and still with a descriptor
        self._num_new = 0  # accepted, and not yet one of those that are open
        self._num_unfinished = 0  # bytes of messages to web sockets
        self._num_this_round = 0
        self._closed: Counter[str] = Counter()
        self._said_at = -_SAID_EVERY_S
        self._counted_at = -_COUNTED_EVERY_S
        self._spare = _open_spare()

    # What uvicorn is given.

    def listen(self, host: str, port: int) -> list[socket.socket]:
        """Open the sockets of an address.

        Raises:
            OSError: it cannot be listened on.
        """
        self._count_descriptors()
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        listeners: list[socket.socket] = []
        try:
            for family, address in dict.fromkeys((family, address) for family, _, _, _, address in found):
                plain = socket.create_server(address[:2], family=family, backlog=_BACKLOG)
                listener = _Listener(family, socket.SOCK_STREAM, fileno=plain.detach())
                listener.connections = self
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)  # those it accepts, too
                listeners.append(listener)
        except OSError:
            for listener in listeners:
                listener.close()
            raise
        return listeners

    @property
    def protocol(self) -> Any:
        """What `uvicorn.Config(http=...)` takes: makes the protocol of a connection."""
        return partial(GuardedProtocol, self)

    # What is asked while it runs.

    @property
    def num_open(self) -> int:
        """Connections that have a descriptor, but for those that were told to close."""
        return self._num_new + len(self._open) - self._num_ending

    @property
    def is_crowded(self) -> bool:
        """Whether so many requests are under way that only a probe may have another."""
        return len(self._open) - len(self._waiting) - self._num_ending > self.max_open - self._reserve

    @property
    def _reserve(self) -> int:
        """Places in which no request is under way."""
        return max(2, min(16, self.max_open // 8))

    def sweep(self) -> None:
        """Close what has waited or stalled for too long; to be called every second or so."""
        now = time.monotonic()
        if now - self._counted_at > _COUNTED_EVERY_S:
            self._count_descriptors()
        for connection in list(self._open):
            if why := connection.overdue(now):
                self._end(connection, why)
        self._say(now)

    # What listeners and connections tell.

    def hold(self, num_bytes: int) -> bool:
        """Take note of more, or fewer, bytes of messages that have no end yet; tell whether there is room for them."""
        self._num_unfinished += num_bytes
        return self._num_unfinished <= _MAX_UNFINISHED_BYTES

    def may_accept(self) -> bool:
        """Tell whether another one may be accepted in this round of the loop."""
        if not self._num_this_round:
            asyncio.get_running_loop().call_soon(self._end_round)
        self._num_this_round += 1
        return self._num_this_round <= _ACCEPTED_AT_ONCE

    def _end_round(self) -> None:
        self._num_this_round = 0

    def make_room(self) -> bool:
        """Take note of a new one and close the one that has waited longest, if need be; tell whether it may stay."""
        self._num_new += 1
        while self.num_open > self.max_open:
            if not self._waiting:
                self._num_new -= 1
                self._note("no place")
                return False
            self._end(next(iter(self._waiting)), "made room")
        return True

    def refuse_without_descriptor(self, listener: socket.socket) -> None:
        """Turn one away for which there is no descriptor: the spare one takes it off the queue, which would not end."""
        if self._spare is not None:
            os.close(self._spare)
            self._spare = None
        with suppress(OSError):
            socket.socket.accept(listener)[0].close()
        self._spare = _open_spare()
        self._note("no descriptor")
        if self._waiting:
            self._end(next(iter(self._waiting)), "made room")

    def came(self, connection: GuardedProtocol) -> None:
        """Take note of a connection that is open."""
        self._num_new = max(0, self._num_new - 1)
        self._open.add(connection)
        self._waiting[connection] = None

    def went(self, connection: GuardedProtocol) -> None:
        """Take note of a connection whose descriptor is free."""
        self._open.discard(connection)
        self._waiting.pop(connection, None)
        self._num_ending -= connection.is_ending

    def waits(self, connection: GuardedProtocol) -> None:
        """Take note of a connection that waits for its next request."""
        if not connection.is_ending:
            self._waiting[connection] = None

    def works(self, connection: GuardedProtocol) -> None:
        """Take note of a connection that has a request under way."""
        self._waiting.pop(connection, None)

    def _end(self, connection: GuardedProtocol, why: str) -> None:
        self._waiting.pop(connection, None)
        if not connection.is_ending:
            self._num_ending += 1
            self._note(why)
        connection.end(why)

    def _note(self, why: str) -> None:
        self._closed[why] += 1
        self._count_closed(why)

    def _say(self, now: float) -> None:
        """Write a line, once a minute at most."""
        # That an idle one is closed at its time is no news.
        told = Counter({why: number for why, number in self._closed.items() if why != "idle"})
        if told and now - self._said_at > _SAID_EVERY_S:
            self._said_at = now
            self._closed.clear()
            what = ", ".join(f"{why} {number}" for why, number in told.items())
            _log.warning(
                "connections closed since the last such line, by reason: %s; %d are open, of %d that there are "
                "descriptors for (ulimit -n) or --max-connections allows",
                what,
                self.num_open,
                self.max_open,
            )

    def _count_descriptors(self) -> None:
        """Find out how many connections there is room for, besides files of the server."""
        self._counted_at = time.monotonic()
        limit, num_used = _descriptor_limit(), _num_descriptors()
        if limit is None or num_used is None:
            return
        num_others = num_used - len(self._open) - self._num_new
        files = min(_MAX_FILES, limit // 4)
        room = limit - num_others - files - _ACCEPTED_AT_ONCE
        self.max_open = max(4, min(self._max_connections, room))


class GuardedProtocol(H11Protocol):
    """A connection of uvicorn's that is given up in the end.

    Attributes:
        is_ending: it was told to close.
    """

    def __init__(self, connections: Connections, **parts: Any) -> None:
        super().__init__(**parts)
        self.is_ending = False
        self._connections = connections
        self._since = 0.0  # when it began to wait
        self._is_first = True
        self._first_byte_at: float | None = None
        self._closing_at: float | None = None
        self._paused_at: float | None = None
        self._num_left = 0  # bytes of a response, when its client stopped
        self._is_upgraded = False  # to a web socket, which looks after its client by itself
        if parts["config"].ws_protocol_class is not None:
            self.ws_protocol_class = partial(GuardedSocket, self, connections)  # type: ignore[assignment]
        # For the door: how much is open, whatever application stands there.
        self.app_state = {**self.app_state, "connections": connections}

    @property
    def _is_working(self) -> bool:
        return self._is_upgraded or (self.cycle is not None and not self.cycle.response_complete)  # pyright: ignore[reportUnnecessaryComparison]

    def overdue(self, now: float) -> str | None:
        """Say why it is to be closed now, if it is."""
        if self.transport.is_closing():
            # What is still on its way goes out first, but nobody waits long for the rest of what was broken off.
            self._closing_at = self._closing_at or now
            patience_s = _LAST_WORDS_S if self._is_working or self.is_ending else self._connections.write_timeout_s
            return "slow reader" if now - self._closing_at > patience_s else None
        if self._paused_at is not None:
            patience_s = self._connections.write_timeout_s + self._num_left / _LOWEST_RATE
            if now - self._paused_at > patience_s:
                return "slow reader"
        if self._is_working:
            return None
        if self._first_byte_at is not None or self._is_first:
            began = self._since if self._first_byte_at is None else self._first_byte_at
            return "slow head" if now - began > self._connections.head_timeout_s else None
        return "idle" if now - self._since > KEEP_ALIVE_S else None

    def end(self, why: str) -> None:
        """Close it: after an answer for whom it may help, and at once for who does not read."""
        if why == "slow head" and not self.is_ending and not self.transport.get_write_buffer_size():
            if self._first_byte_at is not None and not self.transport.is_closing() and self.cycle is None:  # pyright: ignore[reportUnnecessaryComparison]
                self.transport.write(_TIMED_OUT)
            self.transport.close()
        else:
            if why == "slow reader":
                # With a reset, or the system would go on to offer what it has, and the client not know for minutes.
                self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            self.transport.abort()
        self.is_ending = True

    # What asyncio and uvicorn call.

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        self._since = time.monotonic()
        super().connection_made(transport)
        self._connections.came(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self._connections.went(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; the first of a request start its clock, and no later one sets it back."""
        if self._first_byte_at is None and not self._is_working:
            self._first_byte_at = time.monotonic()
        super().data_received(data)

    def handle_events(self) -> None:
        """Go on with a request, or to the next one."""
        super().handle_events()
        if self._is_working:
            self._is_first = False
            self._first_byte_at = None
            if not self.flow.write_paused:  # else its client has yet to read what it asked for before
                self._connections.works(self)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over to a web socket; its place among the connections stays."""
        self._is_upgraded = True
        self._is_first = False
        self._connections.works(self)
        super().handle_websocket_upgrade(event)

    def ended(self) -> None:
        """Give up the place; to be called when the web socket has lost the connection."""
        self._connections.went(self)

    def on_response_complete(self) -> None:
        """Begin to wait for the next request."""
        self._since = time.monotonic()
        self._connections.waits(self)
        super().on_response_complete()
        if not self._is_working and self.conn.trailing_data[0]:
            self._first_byte_at = self._since  # of the next request, which came together with this one

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; in the middle of an answer that is too late."""
        try:
            super().send_400_response(msg)
        except h11.LocalProtocolError:
            self.transport.close()

    def pause_writing(self) -> None:
        """Take note that the client does not read as fast as it is sent to."""
        super().pause_writing()
        self.note_pause(is_paused=True)

    def note_pause(self, *, is_paused: bool) -> None:
        """Take note of when the client stopped, and what was left for it then; or that it goes on."""
        self._paused_at = time.monotonic() if is_paused else None
        self._num_left = self.transport.get_write_buffer_size() if is_paused else 0

    def resume_writing(self) -> None:
        """Take note that it does."""
        super().resume_writing()
        self.note_pause(is_paused=False)
        if self._is_working:
            self._connections.works(self)


class _Listener(socket.socket):
    """A socket that listens, and accepts only what there is room for."""

    connections: Connections

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept a connection.

        Raises:
            BlockingIOError: there is none now, as far as asyncio is to know; the loop comes again.
        """
        if not self.connections.may_accept():
            raise BlockingIOError(errno.EAGAIN, "enough in this round")
        try:
            connection, address = super().accept()
        except OSError as error:
            if error.errno not in _EXHAUSTED:
                raise
            self.connections.refuse_without_descriptor(self)
            raise BlockingIOError(errno.EAGAIN, "no descriptor") from error
        if not self.connections.make_room():
            connection.close()
            raise BlockingIOError(errno.EAGAIN, "no room")
        return connection, address


def _descriptor_limit() -> int | None:
    """Read how many descriptors this process may have; None where nobody says."""
    try:
        import resource
    except ImportError:
        return None
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if limit == resource.RLIM_INFINITY else limit


def _num_descriptors() -> int | None:
    """Count the descriptors that are open now; None where nobody says, or there is none left to count with."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        try:
            return len(os.listdir(folder)) - 1  # that of the folder itself
        except OSError:
            continue
    return None


def _open_spare() -> int | None:
    try:
        return os.open(os.devnull, os.O_RDONLY)
    except OSError:
        return None
