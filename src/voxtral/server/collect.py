"""An utterance as one value: for answers that hold several, and for what is stored."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.types import Receive

from voxtral.server.delivery import deliver
from voxtral.server.errors import HttpError, client_gone
from voxtral.server.guard import Visit
from voxtral.server.service import Closing, Encoded, Opening, SpeechOrder, SpeechService


async def collect(
    service: SpeechService, order: SpeechOrder, visit: Visit, receive: Receive
) -> tuple[Opening, bytes, Closing]:
    """Speak an order that is made whole.

    Args:
        service: that speaks.
        order: what.
        visit: of the client.
        receive: tells when the client has gone.

    Raises:
        VoxtralError: the order breaks a rule, or failed.
        HttpError: the order breaks a rule, failed, or there is no room; 499, the client has gone.
    """
    sink = _Whole(receive)
    await deliver(service, order.held(), sink, visit)
    if sink.error is not None:
        raise sink.error
    if sink.opening is None or sink.closing is None:
        raise client_gone()
    return sink.opening, bytes(sink.data), sink.closing


class _Whole:
    """A Sink that keeps what it is given."""

    def __init__(self, receive: Receive) -> None:
        self.data = bytearray()
        self.opening: Opening | None = None
        self.closing: Closing | None = None
        self.error: HttpError | None = None
        self._receive = receive

    async def begin(self, opening: Opening, held: Sequence[Encoded], closing: Closing | None) -> None:
        self.opening = opening

    async def audio(self, piece: Encoded) -> None:
        self.data += piece.data

    async def end(self, closing: Closing) -> None:
        self.closing = closing

    async def fail(self, error: HttpError) -> None:
        self.error = error

    async def wait_for_departure(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
