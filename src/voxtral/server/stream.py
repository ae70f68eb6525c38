"""An utterance as the body of an HTTP response: held headers, the shape of the body, trailers.

`voxtral.server.delivery` says when what is sent, and what happens when it cannot be.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol
from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from voxtral.server.delivery import deliver
from voxtral.server.errors import HttpError
from voxtral.server.guard import Visit
from voxtral.server.service import Check, Closing, Encoded, Opening, SpeechOrder, SpeechService

_TRAILERS = "http.response.trailers"

ClosingHeaders = Callable[[Closing], Mapping[str, str]]


class BodyShape(Protocol):
    """How audio is written into a body.

    Attributes:
        media_type: of the body; None is that of the audio.
    """

    @property
    def media_type(self) -> str | None:
        """Name the type of the body."""
        ...

    def start(self) -> bytes:
        """Write what comes before all audio."""
        ...

    def audio(self, piece: Encoded) -> bytes:
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

    def start(self) -> bytes:
        """Return nothing."""
        return b""

    def audio(self, piece: Encoded) -> bytes:
        """Return it as it is."""
        return piece.data

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
        closing_headers: that it adds where all is made before it is sent.
    """

    def __init__(
        self,
        service: SpeechService,
        order: SpeechOrder,
        request: Request,
        shape: BodyShape | None = None,
        headers: Mapping[str, str] | None = None,
        closing_headers: ClosingHeaders = lambda closing: {},
    ) -> None:
        super().__init__()
        self._service = service
        self._order = order
        self._visit = visit_of(request)
        self._shape = shape or PlainAudio()
        self._more_headers = dict(headers or {})
        self._closing_headers = closing_headers
        if request.scope.get("http_version") == "1.0":
            # Without chunks a body that breaks off looks like one that ended: such a client gets the length.
            self._order = order.held()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Speak until the end, a failure or the client's departure."""
        has_trailers = _TRAILERS in scope.get("extensions", {}) and not self._order.is_held
        more = (self._more_headers, self._closing_headers)
        body = _Body(self._shape, self._order, more, receive, send, has_trailers=has_trailers)
        await deliver(self._service, self._order, body, self._visit)


class _Body:
    """The body of an HTTP response, as a sink.

    The server closes the connection of a response that was not completed.
    """

    def __init__(
        self,
        shape: BodyShape,
        order: SpeechOrder,
        more_headers: tuple[Mapping[str, str], ClosingHeaders],
        receive: Receive,
        send: Send,
        *,
        has_trailers: bool,
    ) -> None:
        self._shape = shape
        self._order = order
        self._more_headers, self._more_closing_headers = more_headers
        self._receive = receive
        self._send = send
        self._has_trailers = has_trailers

    async def begin(self, opening: Opening, held: Sequence[Encoded], closing: Closing | None) -> None:
        headers = MutableHeaders({"Content-Type": self._shape.media_type or opening.content_type})
        # Proxies that gather a response before they pass it on would make a stream of it no more.
        headers["X-Accel-Buffering"] = "no"
        for name, value in {**_opening_headers(opening, self._order), **self._more_headers}.items():
            headers[name] = value
        if closing is not None:
            num_bytes = len(self._shape.start()) + len(self._shape.end(closing))
            for piece in held:
                num_bytes += len(self._shape.audio(piece))
                await asyncio.sleep(0)  # events of a long utterance take as long to write as others may not wait
            headers["Content-Length"] = str(num_bytes)
            headers.update({**_closing_headers(closing), **self._more_closing_headers(closing)})
        if self._has_trailers:
            headers["Trailer"] = ", ".join(_names_of_closing(self._order))
        await self._send(
            {"type": "http.response.start", "status": 200, "headers": headers.raw, "trailers": self._has_trailers}
        )
        if start := self._shape.start():
            await self._send_body(start, more_body=True)

    async def audio(self, piece: Encoded) -> None:
        if data := self._shape.audio(piece):
            await self._send_body(data, more_body=True)

    async def end(self, closing: Closing) -> None:
        await self._send_body(self._shape.end(closing), more_body=False)
        if self._has_trailers:
            await self._send({"type": _TRAILERS, "headers": _raw(_closing_headers(closing))})

    async def fail(self, error: HttpError) -> None:
        if last_words := self._shape.failure(error):
            await self._send_body(last_words, more_body=True)

    async def wait_for_departure(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _send_body(self, data: bytes, *, more_body: bool) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": more_body})


def visit_of(request: Request) -> Visit:
    """Find what is known of a request."""
    return request.scope["state"]["visit"]


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


def _opening_headers(opening: Opening, order: SpeechOrder) -> dict[str, str]:
    headers = {
        "X-Voxtral-Model": _safe(opening.model),
        "X-Voxtral-Voice": _safe(opening.voice),
        "X-Voxtral-Language": _safe(opening.language.code),
        "X-Voxtral-Language-Source": opening.language.source,
        "X-Voxtral-Seed": str(opening.seed),
        "X-Voxtral-Sample-Rate": str(opening.sent_rate),
        "X-Voxtral-TTFA": f"{opening.ttfa_s:.4f}",
    }
    if opening.warnings:
        headers["X-Voxtral-Warning"] = _safe("; ".join(opening.warnings))
    if order.ignored:
        # Clients take headers of some kilobytes, and anybody can send a thousand long names.
        headers["X-Voxtral-Ignored"] = ", ".join(_safe_name(name[:40]) for name in order.ignored[:16])
    return headers


_CLOSING_HEADERS: Mapping[str, Callable[[Closing], str]] = {
    "X-Voxtral-Finish-Reason": lambda closing: closing.finish_reason,
    "X-Voxtral-Duration": lambda closing: f"{closing.stats.duration_s:.3f}",
    "X-Voxtral-RTF": lambda closing: f"{closing.stats.rtf:.4f}",
    "X-Voxtral-Frames": lambda closing: str(closing.stats.num_frames),
    "X-Voxtral-Retries": lambda closing: str(closing.stats.num_retries),
}


_CHECK_HEADERS: Mapping[str, Callable[[Check], str]] = {
    "X-Voxtral-Verdict": lambda check: check.verdict,
    "X-Voxtral-Findings": lambda check: str(len(check.findings)),
}


def _closing_headers(closing: Closing) -> dict[str, str]:
    headers = {name: write(closing) for name, write in _CLOSING_HEADERS.items()}
    if (check := closing.check) is not None:
        headers |= {name: write(check) for name, write in _CHECK_HEADERS.items()}
    return headers


def _names_of_closing(order: SpeechOrder) -> list[str]:
    return [*_CLOSING_HEADERS, *(_CHECK_HEADERS if order.request.verify != "off" else ())]


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
