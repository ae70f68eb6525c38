"""An utterance as the body of a response: held headers, disconnects, visible failure.

Nothing is sent before there is audio, so that whatever goes wrong until then is a proper error with its status. After
that a failure breaks the connection: a body that ends well is whole.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Protocol
from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from voxtral.errors import CancelledError
from voxtral.server.errors import HttpError, as_http_error
from voxtral.server.guard import Visit
from voxtral.server.service import Closing, Opening, SpeechOrder, SpeechService, Utterance

_TRAILERS = "http.response.trailers"

# The code of a client that has stopped reading: whatever else is sent would wait as long again.
_STALLED = "client_stalled"


class BodyShape(Protocol):
    """How audio is written into a body.

    Attributes:
        media_type: of the body; None is that of the audio.
    """

    @property
    def media_type(self) -> str | None:
        """Name the type of the body."""
        ...

    def audio(self, data: bytes) -> bytes:
        """Write a piece of encoded audio."""
        ...

    def end(self, closing: Closing) -> bytes:
        """Write what comes after all audio."""
        ...

    def failure(self, error: HttpError) -> bytes:
        """Write the last thing a client reads before the connection breaks."""
        ...


class PlainAudio:
    """The audio and nothing else."""

    media_type = None

    def audio(self, data: bytes) -> bytes:
        """Return it as it is."""
        return data

    def end(self, closing: Closing) -> bytes:
        """Return nothing."""
        return b""

    def failure(self, error: HttpError) -> bytes:
        """Return nothing: the broken connection is the message."""
        return b""


class SpeechResponse(Response):
    """Speaks an order to its client.

    Args:
        service: that speaks.
        order: what.
        request: of the client.
        shape: of the body.
        headers: that the dialect adds.
    """

    def __init__(
        self,
        service: SpeechService,
        order: SpeechOrder,
        request: Request,
        shape: BodyShape | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__()
        self._service = service
        self._order = order
        self._visit = visit_of(request)
        self._shape = shape or PlainAudio()
        self._more_headers = dict(headers or {})
        self._is_complete = False
        if request.scope.get("http_version") == "1.0":
            # Without chunks a body that breaks off looks like one that ended: such a client gets the length.
            self._order = order.held()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Speak until the end, a failure or the client's departure."""
        self._service.check(self._order)
        utterance = self._service.begin(self._order, self._visit.client)
        speaking = asyncio.create_task(self._speak(utterance, scope, receive, send))
        leaving = asyncio.create_task(_wait_for_departure(receive))
        try:
            await asyncio.wait({speaking, leaving}, return_when=asyncio.FIRST_COMPLETED)
            # A server reports the connection as ended as soon as it has the last bytes.
            if self._is_complete:
                await speaking
            elif not speaking.done():
                self._service.metrics.cancellations.inc()
                self._visit.facts["error"] = CancelledError.code
            else:
                speaking.result()
        finally:
            leaving.cancel()
            speaking.cancel()
            self._service.dispose(utterance)

    async def _speak(self, utterance: Utterance, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            opening, data = await utterance.open()
        except Exception as error:
            self._service.metrics.count_error(as_http_error(error).code)
            raise
        facts = self._visit.facts
        facts.update(chars=len(self._order.request.text), format=self._order.format, ttfa_s=round(opening.ttfa_s, 4))
        has_trailers = _TRAILERS in scope.get("extensions", {}) and not self._order.is_held
        try:
            await self._send(send, self._start(opening, utterance, data, has_trailers=has_trailers))
            while data:
                await self._send(send, _body(self._shape.audio(data), more_body=True))
                data = await utterance.read()
            closing = utterance.closing
            self._is_complete = not has_trailers
            await self._send(send, _body(self._shape.end(closing), more_body=False))
            if has_trailers:
                self._is_complete = True
                await self._send(send, {"type": _TRAILERS, "headers": _raw(_closing_headers(closing))})
        except Exception as error:  # noqa: BLE001 - the headers are out: whatever it is, the body breaks
            await self._break_off(as_http_error(error), send)
            return
        facts.update(audio_s=round(closing.stats.duration_s, 3), finish_reason=closing.finish_reason)

    async def _break_off(self, error: HttpError, send: Send) -> None:
        """Tell the client in the words of its dialect, and leave the body without an end.

        The server closes the connection of a response that was not completed.
        """
        self._service.metrics.count_error(error.code)
        self._visit.facts["error"] = error.code
        last_words = self._shape.failure(error)
        if last_words and error.code != _STALLED:
            with suppress(HttpError):  # it may have stopped reading by now
                await self._send(send, _body(last_words, more_body=True))

    async def _send(self, send: Send, message: Mapping[str, object]) -> None:
        """Send, unless the client has stopped reading."""
        limit = self._service.options.stall_timeout_s
        try:
            # Not wait_for: before Python 3.12 it loses a cancellation that comes together with the end of its wait.
            async with asyncio.timeout(limit):
                await send(dict(message))
        except TimeoutError:
            raise HttpError(408, f"the client took nothing for {limit:g} s", code=_STALLED) from None

    def _start(self, opening: Opening, utterance: Utterance, data: bytes, *, has_trailers: bool) -> dict[str, object]:
        headers = MutableHeaders({"Content-Type": self._shape.media_type or opening.content_type})
        # Proxies that gather a response before they pass it on would make a stream of it no more.
        headers["X-Accel-Buffering"] = "no"
        for name, value in {**_opening_headers(opening, self._order), **self._more_headers}.items():
            headers[name] = value
        if self._order.is_held:
            headers["Content-Length"] = str(len(self._shape.audio(data)) + len(self._shape.end(utterance.closing)))
            headers.update(_closing_headers(utterance.closing))
        if has_trailers:
            headers["Trailer"] = ", ".join(_closing_headers(utterance.closing))
        return {
            "type": "http.response.start",
            "status": 200,
            "headers": headers.raw,
            "trailers": has_trailers,
        }


def visit_of(request: Request) -> Visit:
    """Find what is known of a request."""
    return request.scope["state"]["visit"]


async def _wait_for_departure(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _body(data: bytes, *, more_body: bool) -> dict[str, object]:
    return {"type": "http.response.body", "body": data, "more_body": more_body}


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


def _opening_headers(opening: Opening, order: SpeechOrder) -> dict[str, str]:
    headers = {
        "X-Voxtral-Model": _safe(opening.model),
        "X-Voxtral-Voice": _safe(opening.voice),
        "X-Voxtral-Seed": str(opening.seed),
        "X-Voxtral-Sample-Rate": str(opening.sample_rate),
        "X-Voxtral-TTFA": f"{opening.ttfa_s:.4f}",
    }
    if opening.warnings:
        headers["X-Voxtral-Warning"] = _safe("; ".join(opening.warnings))
    if order.ignored:
        # Clients take headers of some kilobytes, and anybody can send a thousand long names.
        headers["X-Voxtral-Ignored"] = ", ".join(_safe_name(name[:40]) for name in order.ignored[:16])
    return headers


def _closing_headers(closing: Closing) -> dict[str, str]:
    stats = closing.stats
    return {
        "X-Voxtral-Finish-Reason": closing.finish_reason,
        "X-Voxtral-Duration": f"{stats.duration_s:.3f}",
        "X-Voxtral-RTF": f"{stats.rtf:.4f}",
        "X-Voxtral-Frames": str(stats.num_frames),
        "X-Voxtral-Retries": str(stats.num_retries),
    }


def _safe(text: str) -> str:
    """Write a text so that a header can hold it, in percent signs where it must be.

    >>> _safe(" It is 5 €; fine. ")
    'It is 5 %E2%82%AC; fine.'
    """
    # Spaces at the ends are no part of a header's value, and h11 refuses to send them.
    text = text.strip()
    return text if re.fullmatch(r"[A-Za-z0-9._ /,;:()-]*", text) else quote(text, safe="._ /,;:()-")


def _safe_name(name: str) -> str:
    """Write a name so that it can stand in a list, and is seen there even if it is empty.

    >>> _safe_name("a, b "), _safe_name("")
    ('a%2C%20b%20', '""')
    """
    return quote(name, safe="._-") or '""'
