"""Web sockets: JSON messages in, JSON and audio out, each within its bounds; who is silent or slow is let go.

The door (`voxtral.server.guard`) has checked key, peer, Host and Origin before. A dialect accepts a `Socket`, reads
messages from it, and speaks by a `Turn` (`voxtral.server.turn`).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from voxtral.server.body import Decoding, read_json
from voxtral.server.errors import ClientGoneError, HttpError, busy
from voxtral.server.guard import Visit
from voxtral.server.service import SpeechService

# Close codes of RFC 6455, and what they are used for here.
CLOSED_WELL, POLICY, FAILED, RESTARTING = 1000, 1008, 1011, 1012

# A reason is part of a control frame, which has 125 bytes.
_MAX_REASON_BYTES = 120

# Whoever sends more messages than this waits. A language model writes a hundred words in a second; each message takes
# a tenth of a millisecond from whatever else is to be done.
_MESSAGES_AT_ONCE, _MESSAGES_PER_S = 2000, 1000

# Of texts and clips that wait at one socket: two of the largest messages.
_MAX_HELD_BYTES = 2**23

# What is raised where a socket cannot be read or written any more; TimeoutError is an OSError.
_SILENCE = (WebSocketDisconnect, RuntimeError, OSError)


class ServerEndsError(Exception):
    """The server takes no more; what is spoken may be finished."""


class Socket:
    """One web socket, used by one task that reads, and by any that write.

    Args:
        websocket: of the client, not accepted yet.
        service: whose patience it has.
        max_message_bytes: of one message.

    Attributes:
        visit: what is known of the client.
    """

    def __init__(self, websocket: WebSocket, service: SpeechService, max_message_bytes: int) -> None:
        self.visit: Visit = websocket.scope["state"]["visit"]
        self._websocket = websocket
        self._service = service
        self._max_message_bytes = max_message_bytes
        self._decoding = Decoding.of(websocket)
        self._writing = asyncio.Lock()
        loop = asyncio.get_running_loop()
        self._drained: asyncio.Future[None] = loop.create_future()
        self._given_up: asyncio.Future[None] = loop.create_future()
        self._is_told_of_the_end = False
        self._receiving: asyncio.Task[Any] | None = None
        self._num_allowed, self._allowed_at = float(_MESSAGES_AT_ONCE), time.monotonic()
        self._num_held = 0

    def drain(self) -> None:
        """Let the dialect know that the server ends; see `voxtral.server.service.Drained`."""
        if not self._drained.done():
            self._drained.set_result(None)

    def give_up(self) -> None:
        """Have the client for gone: it takes nothing, or too little. Whoever reads or writes is told."""
        if not self._given_up.done():
            self._given_up.set_result(None)

    async def serve(self, talk: Callable[[], Awaitable[None]]) -> None:
        """Accept it, let a dialect talk, and leave it closed; a client that has gone ends the talk.

        Args:
            talk: of the dialect; may raise ClientGoneError and ServerEndsError.
        """
        try:
            await self._websocket.accept()
        except _SILENCE:
            return
        self._service.welcome(self)
        try:
            await talk()
            await self.close()
        except ClientGoneError:
            pass
        except ServerEndsError:
            await self.close(RESTARTING, "shutting_down")
        except BaseException:
            await self.close(FAILED, "internal_error")
            raise
        finally:
            self._service.sockets.discard(self)
            self.hold(0)
            if self._receiving is not None:
                self._receiving.cancel()

    async def receive(self, timeout_s: float, ending: asyncio.Future[Any] | None = None) -> dict[str, Any] | None:
        """Wait for the next message.

        Args:
            timeout_s: for so long at most.
            ending: what is waited for besides, such as the end of a turn.

        Returns:
            The message; None where `ending` came first.

        Raises:
            TimeoutError: none has come in time.
            ClientGoneError: the client has left, or was given up.
            ServerEndsError: the server ends; said once.
            HttpError: 400, it is no JSON object, or not text; 413, it is too large. The next one may be better.
        """
        # It goes on when this call ends without it, or a message could be lost between the two.
        self._receiving = self._receiving or asyncio.create_task(self._websocket.receive())
        waits: set[asyncio.Future[Any]] = {self._receiving, self._given_up}
        waits |= set() if ending is None else {ending}
        waits |= set() if self._is_told_of_the_end else {self._drained}
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
        if self._given_up.done():
            raise ClientGoneError
        if ending is not None and ending.done():
            return None
        if not self._receiving.done():
            if self._is_told_of_the_end or not self._drained.done():
                raise TimeoutError
            self._is_told_of_the_end = True
            raise ServerEndsError
        received, self._receiving = self._receiving, None
        try:
            message = received.result()
        except _SILENCE as error:
            raise ClientGoneError from error
        if message["type"] == "websocket.disconnect":
            raise ClientGoneError
        await self._slow_down()
        return await self._read(message.get("text"))

    async def listen_until(self, ending: asyncio.Future[Any]) -> None:
        """Wait for the end of something, whatever else the client says; it would seem to be dead if nobody listened.

        Raises:
            ClientGoneError: the client has left, or was given up.
        """
        while not ending.done():
            try:
                await self.receive(_LONG_S, ending)
            except (TimeoutError, HttpError, ServerEndsError):
                continue

    async def _read(self, text: str | None) -> dict[str, Any]:
        if text is None:
            raise HttpError(400, "the message is binary; it must be a JSON object as text", code="invalid_message")
        data = text.encode("utf-8", "replace") if len(text) <= self._max_message_bytes else b""
        if (text and not data) or len(data) > self._max_message_bytes:
            raise HttpError(
                413,
                f"the message has more than {self._max_message_bytes} bytes; send the text in more pieces",
                code="message_too_large",
            )
        max_text_bytes = self._decoding.max_text_bytes
        return await self._decoding.run(lambda: read_json(data, max_text_bytes, "the message"), len(data))

    async def _slow_down(self) -> None:
        """Let one wait who sends messages faster than anybody speaks."""
        now = time.monotonic()
        self._num_allowed += (now - self._allowed_at) * _MESSAGES_PER_S
        self._num_allowed = min(float(_MESSAGES_AT_ONCE), self._num_allowed) - 1
        self._allowed_at = now
        if self._num_allowed < 0:
            await asyncio.sleep(-self._num_allowed / _MESSAGES_PER_S)

    def hold(self, num_bytes: int) -> None:
        """Say how much is kept for this socket: texts and clips that wait.

        Raises:
            HttpError: 429, it is too much for one socket; 503, for all together; what was kept before stays.
        """
        if num_bytes > max(_MAX_HELD_BYTES, self._num_held):
            raise busy(
                f"more than {_MAX_HELD_BYTES} bytes wait to be spoken on this socket, or as many utterances as may be",
                code="too_much_waiting",
                status=429,
            )
        self._service.held_for_sockets.change(num_bytes - self._num_held)
        self._num_held = num_bytes

    async def send(self, message: dict[str, Any]) -> None:
        """Send a message.

        Raises:
            ClientGoneError: the client has left, or takes nothing.
        """
        await self._send({"type": "websocket.send", "text": json.dumps(message, separators=(",", ":"))})

    async def send_bytes(self, data: bytes) -> None:
        """Send bytes as they are; raises as `send` does."""
        await self._send({"type": "websocket.send", "bytes": data})

    async def close(self, code: int = CLOSED_WELL, reason: str = "") -> None:
        """Close it, if it is open."""
        if self._websocket.application_state is not WebSocketState.CONNECTED or self._given_up.done():
            return
        told = reason.encode("utf-8", "replace")[:_MAX_REASON_BYTES].decode("utf-8", "ignore")
        try:
            async with asyncio.timeout(self._service.options.stall_timeout_s), self._writing:
                await self._websocket.close(code, told)
        except _SILENCE:
            pass  # it is closed, one way or the other

    async def _send(self, message: dict[str, Any]) -> None:
        if self._given_up.done():
            raise ClientGoneError
        try:
            async with asyncio.timeout(self._service.options.stall_timeout_s), self._writing:
                await self._websocket.send(message)
        except _SILENCE as error:
            self.give_up()
            raise ClientGoneError from error


# So often is looked whether there is still something to wait for.
_LONG_S = 3600.0
