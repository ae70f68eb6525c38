"""Delivering an utterance to a client, over whatever transport: departure, stalls, metrics, the log, breaking off.

A transport is a Sink: an HTTP body (`voxtral.server.stream`), a web socket. Nothing is sent before there is audio, so
that whatever goes wrong until then is raised as a proper error. After that a failure breaks the transport: what ends
well is whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import Protocol

from voxtral.errors import CancelledError
from voxtral.server.errors import HttpError, as_http_error
from voxtral.server.guard import Visit
from voxtral.server.service import Closing, Encoded, Opening, SpeechOrder, SpeechService, Utterance

# The code of a client that has stopped reading: whatever else is sent would wait as long again.
_STALLED = "client_stalled"


class Sink(Protocol):
    """Where an utterance goes. Each call ends when the transport has taken what it was given."""

    async def begin(self, opening: Opening, whole: Encoded | None, closing: Closing | None) -> None:
        """Announce the audio.

        Args:
            opening: what is known.
            whole: all of the audio where the order is held, else None.
            closing: what it took where the order is held, else None.
        """
        ...

    async def audio(self, piece: Encoded) -> None:
        """Send a piece of audio."""
        ...

    async def end(self, closing: Closing) -> None:
        """Send what comes after all audio, and end well."""
        ...

    async def fail(self, error: HttpError) -> None:
        """Send the last thing a client reads before the transport breaks."""
        ...

    async def wait_for_departure(self) -> None:
        """Wait until the client has gone."""
        ...


async def deliver(service: SpeechService, order: SpeechOrder, sink: Sink, visit: Visit) -> None:
    """Speak an order into a sink, until its end, a failure or the client's departure.

    Args:
        service: that speaks.
        order: what.
        sink: of the client.
        visit: of the client; gets facts for the log.

    Raises:
        VoxtralError: the order breaks a rule, or failed before there was audio; nothing was sent.
        HttpError: the order breaks a rule, or there is no room; nothing was sent.
    """
    utterance = service.begin(order, visit.client)
    delivery = _Delivery(service, order, utterance, sink, visit)
    speaking = asyncio.create_task(delivery.speak())
    leaving = asyncio.create_task(sink.wait_for_departure())
    try:
        await asyncio.wait({speaking, leaving}, return_when=asyncio.FIRST_COMPLETED)
        # A server reports the connection as ended as soon as it has the last bytes.
        if delivery.is_complete:
            await speaking
        elif not speaking.done():
            service.metrics.cancellations.inc()
            visit.facts["error"] = CancelledError.code
        else:
            speaking.result()
    finally:
        leaving.cancel()
        speaking.cancel()
        service.dispose(utterance)


class _Delivery:
    """One utterance on its way.

    Attributes:
        is_complete: all audio has been given to the sink.
    """

    def __init__(
        self, service: SpeechService, order: SpeechOrder, utterance: Utterance, sink: Sink, visit: Visit
    ) -> None:
        self.is_complete = False
        self._metrics = service.metrics
        self._stall_timeout_s = service.options.stall_timeout_s
        self._order = order
        self._utterance = utterance
        self._sink = sink
        self._facts = visit.facts

    async def speak(self) -> None:
        """Speak until the end or a failure."""
        utterance, order, facts = self._utterance, self._order, self._facts
        try:
            opening, piece = await utterance.open()
        except Exception as error:
            self._metrics.count_error(as_http_error(error).code)
            raise
        facts.update(chars=len(order.request.text), format=order.format, ttfa_s=round(opening.ttfa_s, 4))
        try:
            whole, closing = (piece, utterance.closing) if order.is_held else (None, None)
            await self._taken(self._sink.begin(opening, whole, closing))
            while piece is not None:
                await self._taken(self._sink.audio(piece))
                piece = await utterance.read()
            closing = utterance.closing
            self.is_complete = True
            await self._taken(self._sink.end(closing))
        except Exception as error:  # noqa: BLE001 - it has begun: whatever it is, the transport breaks
            await self._break_off(as_http_error(error))
            return
        facts.update(audio_s=round(closing.stats.duration_s, 3), finish_reason=closing.finish_reason)

    async def _break_off(self, error: HttpError) -> None:
        self._metrics.count_error(error.code)
        self._facts["error"] = error.code
        if error.code != _STALLED:
            with suppress(HttpError):  # it may have stopped reading by now
                await self._taken(self._sink.fail(error))

    async def _taken(self, sending: Awaitable[None]) -> None:
        """Wait until the client has taken something, unless it has stopped reading."""
        try:
            # Not wait_for: before Python 3.12 it loses a cancellation that comes together with the end of its wait.
            async with asyncio.timeout(self._stall_timeout_s):
                await sending
        except TimeoutError:
            raise HttpError(408, f"the client took nothing for {self._stall_timeout_s:g} s", code=_STALLED) from None
