"""A turn: one utterance over a socket, whose text may come in pieces, and which may be interrupted at any moment.

One voice and one seed from the first word to the last; speech begins with the first words that can be spoken, and goes
on without a gap when the next ones are there. Read next: `voxtral.speech.feed`, `voxtral.server.delivery`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Protocol

from voxtral.errors import CancelledError, TextError, VoxtralError
from voxtral.server.delivery import STALLED, deliver
from voxtral.server.errors import ClientGoneError, HttpError, as_http_error, hushed
from voxtral.server.guard import Visit
from voxtral.server.service import Closing, Encoded, Opening, SpeechOrder, SpeechService
from voxtral.speech.feed import TextFeed
from voxtral.types import WordTime

_log = logging.getLogger("voxtral.server")

# For so long a text stays open whose client says that it will go on and does not: a turn keeps others from speaking.
_LONGEST_SILENCE_S = 180.0


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

    def give_up(self) -> None:
        """The client takes nothing, or too little; the connection is to break, as what was written is not whole."""
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
        in_pieces: whether the text comes in pieces.
        min_chars: of what is spoken together, at least; see `TextFeed`.
        patience_s: if no more text comes for so long, what is there is spoken, as far as its last word is whole; None
            for never.
        idle_s: if for so long there has been neither text nor anything to write, the text is taken to be whole; None
            for never.
    """

    def __init__(
        self,
        service: SpeechService,
        order: SpeechOrder,
        visit: Visit,
        listener: TurnListener,
        *,
        in_pieces: bool = False,
        min_chars: int = 1,
        patience_s: float | None = None,
        idle_s: float | None = None,
    ) -> None:
        self.feed = TextFeed(min_chars=min_chars, max_waiting=_NO_WAITING) if in_pieces else None
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
        self._idle_s = None if self.feed is None else idle_s
        self._active_at = self._touched_at = time.monotonic()
        self._watching: asyncio.TimerHandle | None = None
        self._watch()
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
        self._active_at = time.monotonic()
        if self._give(lambda feed: feed.push(piece)) and piece:
            self._ends_open = piece[-1].isalnum()
            self._wait_for_more()

    @property
    def num_chars(self) -> int:
        """Characters that came."""
        return self._num_chars

    def touch(self) -> None:
        """Take note that more text is to come; three minutes are as long as that is believed."""
        self._touched_at = time.monotonic()

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

    @property
    def ending(self) -> asyncio.Future[None]:
        """Its end, to be waited for beside something else."""
        return self._task

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
        await self._listener.begin(opening)
        self._first_at = self._active_at = time.monotonic()
        self._watch()

    async def audio(self, piece: Encoded) -> None:
        """See Sink."""
        self._sent_s += piece.num_samples / self._rate
        self._active_at = time.monotonic()
        self._words += piece.words
        await self._listener.audio(piece)

    async def end(self, closing: Closing) -> None:
        """See Sink."""
        with suppress(ClientGoneError):  # all that was spoken has been written
            await self._listener.end(closing)

    async def fail(self, error: HttpError) -> None:
        """See Sink."""
        with suppress(ClientGoneError):
            await self._listener.fail(error, has_begun=True)

    async def wait_for_departure(self) -> None:
        """See Sink."""
        await self._left.wait()

    async def _run(self) -> None:
        try:
            await deliver(self._service, self._order, self, self._visit)
            if self._visit.facts.get("error") == STALLED:
                self._listener.give_up()
        except ClientGoneError:
            pass  # the task that reads from the socket sees it too
        except Exception as error:  # noqa: BLE001 - whatever it is, the client is told, and the socket goes on
            refusal = as_http_error(error)
            if not isinstance(error, (HttpError, VoxtralError)):
                name = type(error).__name__
                _log.error("an utterance of %s failed: %s", self._visit.request_id, name, exc_info=hushed(error))
            with suppress(ClientGoneError):
                if not self._left.is_set():
                    await self._listener.fail(refusal, has_begun=False)
        finally:
            self._stop_waiting()
            self._stop_watching()
            if self.feed is not None:
                self.feed.cancel()
            self._note()

    def _note(self) -> None:
        """Add what the log says of a socket: utterances, their characters and seconds, the last failure."""
        facts, of_all = self._visit.facts, self._socket_visit.facts
        of_all["utterances"] = of_all.get("utterances", 0) + 1
        of_all["chars"] = of_all.get("chars", 0) + self._num_chars
        of_all["audio_s"] = round(of_all.get("audio_s", 0.0) + self._sent_s, 3)
        if "ttfa_s" in facts:
            of_all.setdefault("ttfa_s", facts["ttfa_s"])
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

    def _watch(self) -> None:
        """Close the text of a client that has stopped writing."""
        self._stop_watching()
        if self._idle_s is None:
            return
        told_s = max(self._idle_s, _LONGEST_SILENCE_S)
        ends_at = min(max(self._active_at, self._touched_at) + self._idle_s, self._active_at + told_s)
        if not self._has_begun:  # it may wait for others until then
            ends_at += self._service.options.max_wait_s
        left_s = ends_at - time.monotonic()
        if left_s > 0:
            self._watching = asyncio.get_running_loop().call_later(left_s, self._watch)
        else:
            self.close()

    def _stop_watching(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            self._watching = None

    def _flush_late(self) -> None:
        with suppress(TextError):  # it was closed in this moment
            self.flush()


def seconds_played(milliseconds: object) -> float | None:
    """Read what a client says of how much it has played; None where it does not say.

    >>> seconds_played(1500), seconds_played(-3), seconds_played(10**400), seconds_played("1500")
    (1.5, 0.0, 86400.0, None)
    """
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float):
        return None
    return min(max(milliseconds, 0), _LONGEST_MS) / 1000


class _Act(Protocol):
    def __call__(self, feed: TextFeed, /) -> None: ...


# What anybody can have played: a day. Numbers in JSON have no end.
_LONGEST_MS = 86_400_000

# The length of a text is checked before it is pushed; an event loop must not wait for room.
_NO_WAITING = 2**31

# So many times as long is waited for the rest of what may be half a word.
_FOR_A_WORD = 4
