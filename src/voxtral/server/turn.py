"""A turn: one utterance over a socket, whose text may come in pieces, and which may be interrupted at any moment.

One voice and one seed from the first word to the last; speech begins with the first words that can be spoken, and goes
on without a gap when the next ones are there. Read next: `voxtral.speech.feed`, `voxtral.server.delivery`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from voxtral.errors import CancelledError, TextError, VoxtralError
from voxtral.server.delivery import deliver
from voxtral.server.errors import HttpError, as_http_error
from voxtral.server.guard import Visit
from voxtral.server.service import Closing, Encoded, Opening, SpeechOrder, SpeechService
from voxtral.server.sockets import ClientGoneError
from voxtral.speech.feed import TextFeed
from voxtral.types import WordTime


class TurnListener(Protocol):
    """What a dialect writes of a turn. Calls come one after another, and each ends when the socket has taken it."""

    async def begin(self, opening: Opening) -> None:
        """There is audio."""
        ...

    async def audio(self, piece: Encoded) -> None:
        """Write a piece of it, with the words that are final by now."""
        ...

    async def end(self, closing: Closing) -> None:
        """All of it has been written."""
        ...

    async def fail(self, error: HttpError, *, has_begun: bool) -> None:
        """It failed; what was written before is not whole."""
        ...


@dataclass(frozen=True)
class Interrupted:
    """Where a turn was when it was cut off.

    Attributes:
        played_s: seconds of its audio that were heard.
        last_word: the last that had begun by then, with places in the text of the turn; None where none had, or no
            times were asked for.
        text: of the turn, as far as it was taken to be spoken.
    """

    played_s: float
    last_word: WordTime | None
    text: str


class Turn:
    """One utterance on its way to a socket.

    Args:
        service: that speaks.
        order: what, without a text where that comes in pieces.
        visit: of the socket.
        listener: writes it.
        min_chars: of what is spoken together, at least; see `TextFeed`.
        patience_s: if no more text comes for so long, what is there is spoken, as far as its last word is whole; None
            for never.
    """

    def __init__(
        self,
        service: SpeechService,
        order: SpeechOrder,
        visit: Visit,
        listener: TurnListener,
        *,
        min_chars: int = 1,
        patience_s: float | None = None,
    ) -> None:
        self.feed = None if order.request.text else TextFeed(min_chars=min_chars, max_waiting=_NO_WAITING)
        self._service = service
        self._order = order if self.feed is None else replace(order, feed=self.feed)
        self._visit = Visit(visit.request_id, visit.client)
        self._socket_visit = visit
        self._listener = listener
        self._patience_s = patience_s
        self._num_chars = len(order.request.text)
        self._ends_open = False  # whether the last word may go on
        self._flushing: asyncio.TimerHandle | None = None
        self._left = asyncio.Event()
        self._has_begun = False
        self._rate = 0
        self._first_at = 0.0
        self._sent_s = 0.0
        self._words: list[WordTime] = []
        self._task = asyncio.create_task(self._run())

    # The text.

    def push(self, piece: str) -> None:
        """Give a piece of the text.

        Raises:
            TextError: the text was closed.
            HttpError: 413, the text is too long.
        """
        self._service.check_length(piece, before=self._num_chars)
        self._num_chars += len(piece)
        if self._give(lambda feed: feed.push(piece)) and piece:
            self._ends_open = piece[-1].isalnum()
            self._wait_for_more()

    def flush(self) -> None:
        """Have everything spoken that came."""
        self._give(lambda feed: feed.flush())

    def close(self) -> None:
        """Say that the text is whole."""
        self._stop_waiting()
        if self.feed is not None:
            self.feed.close()

    # The end.

    @property
    def has_ended(self) -> bool:
        """Whether there will be no more of it."""
        return self._task.done()

    async def wait(self) -> None:
        """Wait for its end."""
        await asyncio.wait([self._task])

    async def cancel(self, played_s: float | None = None) -> Interrupted:
        """Cut it off: no more is written, and the engine stops before its next frame.

        Args:
            played_s: seconds of its audio that the client has played; None takes what can have been by now.
        """
        if played_s is None:
            played_s = min(self._sent_s, time.monotonic() - self._first_at) if self._has_begun else 0.0
        self._left.set()
        self._stop_waiting()
        if self.feed is not None:
            self.feed.cancel()
        await self.wait()
        heard = [word for word in self._words if word.start_s <= played_s]
        return Interrupted(played_s, heard[-1] if heard else None, self.feed.text if self.feed else "")

    # A sink of `voxtral.server.delivery`.

    async def begin(self, opening: Opening, held: Sequence[Encoded], closing: Closing | None) -> None:
        """See Sink."""
        self._rate, self._has_begun = opening.sample_rate, True
        await self._write(self._listener.begin(opening))
        self._first_at = time.monotonic()

    async def audio(self, piece: Encoded) -> None:
        """See Sink."""
        self._sent_s += piece.num_samples / self._rate
        self._words += piece.words
        await self._write(self._listener.audio(piece))

    async def end(self, closing: Closing) -> None:
        """See Sink."""
        with suppress(ClientGoneError):  # it has all of it, or wants no more
            await self._listener.end(closing)

    async def fail(self, error: HttpError) -> None:
        """See Sink."""
        with suppress(ClientGoneError):
            await self._listener.fail(error, has_begun=True)

    async def _write(self, writing: Awaitable[None]) -> None:
        """Write something; a client that has gone has departed, and nothing failed."""
        try:
            await writing
        except ClientGoneError:
            self._left.set()
            await asyncio.Event().wait()  # whoever waits for the departure ends this

    async def wait_for_departure(self) -> None:
        """See Sink."""
        await self._left.wait()

    async def _run(self) -> None:
        try:
            await deliver(self._service, self._order, self, self._visit)
        except ClientGoneError:
            pass  # the task that reads from the socket sees it too
        except (HttpError, VoxtralError) as error:
            refusal = as_http_error(error)
            with suppress(ClientGoneError):
                if not self._left.is_set():
                    await self._listener.fail(refusal, has_begun=False)
        finally:
            self._stop_waiting()
            if self.feed is not None:
                self.feed.cancel()
            self._note()

    def _note(self) -> None:
        """Add what the log says of a socket: utterances, their characters and seconds, the last failure."""
        facts, of_all = self._visit.facts, self._socket_visit.facts
        of_all["utterances"] = of_all.get("utterances", 0) + 1
        of_all["chars"] = of_all.get("chars", 0) + self._num_chars
        of_all["audio_s"] = round(of_all.get("audio_s", 0.0) + self._sent_s, 3)
        of_all.setdefault("ttfa_s", facts.get("ttfa_s"))
        if "error" in facts:
            of_all["error"] = facts["error"]

    def _give(self, act: _Act) -> bool:
        """Do something with the feed; a turn that has ended, for whatever reason, takes no more, and nobody minds."""
        if self.feed is None:
            raise TextError("the text was given whole; begin another utterance")
        try:
            act(self.feed)
        except CancelledError:
            return False
        return True

    def _wait_for_more(self) -> None:
        self._stop_waiting()
        if self._patience_s is not None:
            patience_s = self._patience_s * (_FOR_A_WORD if self._ends_open else 1)
            self._flushing = asyncio.get_running_loop().call_later(patience_s, self._flush_late)

    def _stop_waiting(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            self._flushing = None

    def _flush_late(self) -> None:
        with suppress(TextError):  # it was closed in this moment
            self.flush()


class _Act(Protocol):
    def __call__(self, feed: TextFeed, /) -> None: ...


# The length of a text is checked before it is pushed; an event loop must not wait for room.
_NO_WAITING = 2**31

# So many times as long is waited for the rest of what may be half a word.
_FOR_A_WORD = 4
