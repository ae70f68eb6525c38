"""Delivering an utterance to a client, over whatever transport: departure, stalls, metrics, the log, breaking off.

A transport is a Sink: an HTTP body (`voxtral.server.stream`), a web socket. Nothing is sent before there is audio, so
that whatever goes wrong until then is raised as a proper error. After that a failure breaks the transport: what ends
well is whole.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from typing import Protocol

from voxtral.errors import CancelledError
from voxtral.server.errors import ClientGoneError, HttpError, as_http_error
from voxtral.server.guard import Visit
from voxtral.server.service import Closing, Encoded, Opening, SpeechOrder, SpeechService, Utterance

# The code of a client that has stopped reading, or reads too slowly: whatever else is sent would wait as long again.
STALLED = "client_stalled"

# Who takes audio at less than this part of the speed at which it is heard keeps a stream from somebody else.
_LOWEST_PACE = 0.5

# What is sent whole is handed over in such pieces, so that a slow client is told from one that has stopped. Base64 of
# three bytes stands for itself: that of the pieces, one after another, is that of the whole.
_PIECE_BYTES = 3 * 10922


class Sink(Protocol):
    """Where an utterance goes. Each call ends when the transport has taken what it was given.

    Any may raise ClientGoneError.
    """

    async def begin(self, opening: Opening, held: Sequence[Encoded], closing: Closing | None) -> None:
        """Announce the audio.

        Args:
            opening: what is known.
            held: all of the pieces that will come where the order is held, else none.
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
        ClientGoneError: the sink has found that there is no client any more.
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
    except ClientGoneError:
        if not delivery.is_complete:
            service.metrics.cancellations.inc()
            visit.facts["error"] = CancelledError.code
        raise
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
        self._pace = _Pace(service.options.stall_timeout_s)
        self._max_lead_s = service.options.max_lead_s
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
            held, closing = (_cut(piece), utterance.closing) if order.is_held else ((), None)
            await self._pace.taken(self._sink.begin(opening, held, closing))
            heard = _Clock(opening.sample_rate)
            while piece is not None:
                for part in held or (piece,):
                    await self._pace.taken(self._sink.audio(part), heard.add(part))
                if self._max_lead_s is not None and not held:
                    await asyncio.sleep(heard.lead_s - self._max_lead_s)
                piece = await utterance.read()
            closing = utterance.closing
            self.is_complete = True
            await self._pace.taken(self._sink.end(closing))
        except ClientGoneError:
            raise
        except Exception as error:  # noqa: BLE001 - it has begun: whatever it is, the transport breaks
            await self._break_off(as_http_error(error))
            return
        facts.update(audio_s=round(closing.stats.duration_s, 3), finish_reason=closing.finish_reason)

    async def _break_off(self, error: HttpError) -> None:
        self._metrics.count_error(error.code)
        self._facts["error"] = error.code
        if error.code != STALLED:
            with suppress(HttpError):  # it may have stopped reading by now
                await self._pace.taken(self._sink.fail(error))


class _Pace:
    """Judges how fast a client takes audio, against the time in which it is heard.

    A client has `patience_s` seconds to spare. Waiting for it uses them up; each second of audio that it takes brings
    back two, up to as many as it had. So one that reads at the speed of hearing may pause for as long as that, again
    and again, and one that reads at less than half of it is cut off in the end. Time in which the engine is what is
    waited for does not count.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience_s = patience_s
        self._left_s = patience_s

    async def taken(self, sending: Awaitable[None], audio_s: float = 0.0) -> None:
        """Wait until the client has taken something that lasts so many seconds.

        Raises:
            HttpError: 408, it has stopped reading, or reads too slowly.
        """
        began = time.monotonic()
        try:
            # Not wait_for: before Python 3.12 it loses a cancellation that comes together with the end of its wait.
            async with asyncio.timeout(self._left_s):
                await sending
        except TimeoutError:
            raise HttpError(
                408,
                f"the client took nothing for {self._patience_s:g} s, or audio at less than half of the speed at which "
                "it is heard",
                code=STALLED,
            ) from None
        left_s = self._left_s - (time.monotonic() - began) + audio_s / _LOWEST_PACE
        self._left_s = min(self._patience_s, left_s)


class _Clock:
    """Tells how far what was sent is ahead of what can have been heard of it."""

    def __init__(self, sample_rate: int) -> None:
        self._sample_rate = sample_rate
        self._began = time.monotonic()
        self._sent_s = 0.0

    def add(self, piece: Encoded) -> float:
        """Take note of a piece; return how many seconds it lasts."""
        seconds = piece.num_samples / self._sample_rate
        self._sent_s += seconds
        return seconds

    @property
    def lead_s(self) -> float:
        """Seconds of audio that have been sent and cannot have been heard yet."""
        return self._sent_s - (time.monotonic() - self._began)


def _cut(whole: Encoded | None) -> tuple[Encoded, ...]:
    """Cut what is sent whole into pieces; the marks and words are those of the first."""
    if whole is None:
        return ()
    size = len(whole.data)
    edges = [(at, whole.num_samples * at // size) for at in (*range(0, size, _PIECE_BYTES), size)]
    first, *others = (
        Encoded(whole.data[at:end], whole.start + sample, end_sample - sample)
        for (at, sample), (end, end_sample) in pairwise(edges)
    )
    return (replace(first, marks=whole.marks, words=whole.words), *others)
