"""Web sockets: JSON messages in, JSON and audio out, each within its bounds; who is silent or slow is let go.

The door (`voxtral.server.guard`) has checked key, peer, Host and Origin before. A dialect accepts a `Socket`, reads
messages from it, and speaks by a `Turn` (`voxtral.server.turn`).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from voxtral.server.errors import HttpError
from voxtral.server.guard import Visit
from voxtral.server.service import SpeechService

# Close codes of RFC 6455, and what they are used for here.
CLOSED_WELL, POLICY, FAILED, RESTARTING = 1000, 1008, 1011, 1012

# A reason is part of a control frame, which has 125 bytes.
_MAX_REASON_BYTES = 120


class ClientGoneError(Exception):
    """The client has closed the socket, or it was closed for it; there is nobody to answer."""


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
        self._writing = asyncio.Lock()
        self._drained = asyncio.Event()
        self._receiving: asyncio.Task[Any] | None = None

    def drain(self) -> None:
        """Let the dialect know that the server ends; see `voxtral.server.service.Drained`."""
        self._drained.set()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[None]:
        """Accept it, and leave it closed; a client that has gone ends the block."""
        await self._websocket.accept()
        self._service.sockets.add(self)
        try:
            yield
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
            if self._receiving is not None:
                self._receiving.cancel()

    async def receive(self, timeout_s: float) -> dict[str, Any]:
        """Wait for the next message.

        Raises:
            TimeoutError: none has come in time.
            ClientGoneError: the client has left, or was closed for a message that is too large.
            ServerEndsError: the server ends.
            HttpError: 400, it is no JSON object, or not text; 413, it is too large. The next one may be better.
        """
        # It goes on when this call ends without it, or a message could be lost between the two.
        self._receiving = self._receiving or asyncio.create_task(self._websocket.receive())
        draining = asyncio.create_task(self._drained.wait())
        try:
            done, _ = await asyncio.wait(
                (self._receiving, draining), timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED
            )
        finally:
            draining.cancel()
        if self._receiving not in done:
            raise ServerEndsError if done else TimeoutError
        received, self._receiving = self._receiving, None
        try:
            message = received.result()
        except (WebSocketDisconnect, RuntimeError) as error:
            raise ClientGoneError from error
        if message["type"] == "websocket.disconnect":
            raise ClientGoneError
        text = message.get("text")
        if text is None:
            raise HttpError(400, "the message is binary; it must be a JSON object as text", code="invalid_message")
        if len(text) > self._max_message_bytes or len(text.encode("utf-8", "replace")) > self._max_message_bytes:
            raise HttpError(
                413,
                f"the message has more than {self._max_message_bytes} bytes; send the text in more pieces",
                code="message_too_large",
            )
        try:
            value = json.loads(text, parse_constant=_refuse)
        except (ValueError, RecursionError) as error:
            raise HttpError(400, "the message is no JSON; it must be an object", code="invalid_json") from error
        if not isinstance(value, dict):
            raise HttpError(400, "the message is JSON, but no object; it must be one", code="invalid_json")
        return cast(dict[str, Any], value)

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
        if self._websocket.application_state is not WebSocketState.CONNECTED:
            return
        told = reason.encode()[:_MAX_REASON_BYTES].decode("utf-8", "ignore")
        try:
            async with asyncio.timeout(self._service.options.stall_timeout_s), self._writing:
                await self._websocket.close(code, told)
        except (TimeoutError, WebSocketDisconnect, RuntimeError, OSError):
            pass  # it is closed, one way or the other

    async def _send(self, message: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(self._service.options.stall_timeout_s), self._writing:
                await self._websocket.send(message)
        except (TimeoutError, WebSocketDisconnect, RuntimeError, OSError) as error:
            raise ClientGoneError from error


def _refuse(name: str) -> float:
    raise ValueError(f"{name} is no JSON")
