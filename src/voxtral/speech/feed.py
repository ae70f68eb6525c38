"""A text that is written and spoken at the same time: one side pushes pieces, the other takes stretches.

The side that pushes may be a thread (`feed_from`), an event loop, or a program that has the pieces from elsewhere.
Where the stretches are cut depends on the text alone; see `voxtral.text.pieces`. Knows no engine. Read next:
`voxtral.speech.planner`, which makes segments of the stretches.
"""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterable

from voxtral.errors import CancelledError, TextError
from voxtral.text.pieces import MAX_CHARS, Stretch, TextStream

_MAX_WAITING_CHARS = 100_000


class TextFeed:
    """Pieces of a text on their way to speech; safe to use from many threads.

    Args:
        min_chars: a stretch has so many characters at least; more of them make longer segments, and later ones.
        max_waiting: characters that may wait to be taken; `push` waits while there are more.

    Raises:
        OptionError: min_chars is below 1 or above the longest stretch.
    """

    def __init__(self, *, min_chars: int = 1, max_waiting: int = _MAX_WAITING_CHARS) -> None:
        self._stream = TextStream(min_chars=min_chars, max_chars=MAX_CHARS)
        self._max_waiting = max_waiting
        self._changed = threading.Condition()
        self._next: Stretch | None = None  # cut, and not taken
        self._taken: list[str] = []
        self._is_closed = False
        self._is_cancelled = False
        self._error: BaseException | None = None

    # For who writes.

    def push(self, piece: str) -> None:
        """Give a piece; waits while too much of the text waits to be spoken.

        Raises:
            TextError: it is no str, or the text was closed.
            CancelledError: nobody will speak it: the reader has left.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._is_cancelled or self._stream.num_waiting < self._max_waiting)
            self._check_open()
            self._stream.push(piece)
            self._changed.notify_all()

    def flush(self) -> None:
        """Have everything spoken that was pushed so far, also half a sentence; more may follow.

        Raises:
            TextError: the text was closed.
            CancelledError: the reader has left.
        """
        with self._changed:
            self._check_open()
            self._stream.push_stop()
            self._changed.notify_all()

    def close(self) -> None:
        """Say that the text is whole; closing twice is closing once."""
        with self._changed:
            if not self._is_closed:
                self._stream.push_stop()
                self._is_closed = True
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        """Say that the text breaks off; who reads gets the error, after what was finished before."""
        with self._changed:
            if not self._is_closed:
                self._is_closed, self._error = True, error
            self._changed.notify_all()

    # For who speaks.

    def cancel(self) -> None:
        """Leave: who pushes is told, and who waits for text."""
        with self._changed:
            self._is_cancelled = True
            self._changed.notify_all()

    def read_as(self, language: str) -> None:
        """Say in which language the text is, from the next stretch on; where it is cut may depend on that."""
        with self._changed:
            self._stream.language = language

    @property
    def is_ready(self) -> bool:
        """Whether `take` would not wait."""
        with self._changed:
            return self._has_come()

    @property
    def text(self) -> str:
        """What was taken so far."""
        with self._changed:
            return "".join(self._taken)

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until `is_ready`, for so long at most; tells whether it is."""
        with self._changed:
            return self._changed.wait_for(self._has_come, timeout_s)

    def take(self, timeout_s: float | None = None) -> Stretch | None:
        """Wait for the next stretch and take it; None at the end of the text.

        Args:
            timeout_s: how long to wait; None for as long as it takes.

        Raises:
            CancelledError: `cancel` was called.
            TimeoutError: none has come in time.
            BaseException: what the text broke off with.
        """
        with self._changed:
            if not self._changed.wait_for(self._has_come, timeout_s):
                raise TimeoutError("no text has come")
            if self._is_cancelled:
                raise CancelledError("the request was cancelled by its caller")
            stretch, self._next = self._next, None
            if stretch is None and self._error is not None:
                raise self._error
            if stretch is not None:
                self._taken.append(stretch.text)
                self._changed.notify_all()
            return stretch

    def _has_come(self) -> bool:
        if self._next is None:
            self._next = self._stream.next_stretch()
        return self._next is not None or self._is_closed or self._is_cancelled

    def _check_open(self) -> None:
        if self._is_cancelled:
            raise CancelledError("nobody speaks this text any more: its reader has left")
        if self._is_closed:
            raise TextError("the text was closed, and more of it came; begin another one")


Feed = TextFeed | None


def feed_from(pieces: Iterable[str], feed: TextFeed) -> threading.Thread:
    """Push pieces from a thread of their own, which ends with them, or when the reader leaves.

    It does not keep the process: an iterable that waits for its next piece cannot be made to stop.
    """

    def run() -> None:
        try:
            for piece in pieces:
                feed.push(piece)
        except CancelledError:
            pass
        except BaseException as error:  # noqa: BLE001 - whatever it is, the reader is told
            feed.fail(error)
        finally:
            feed.close()

    in_context = contextvars.copy_context().run
    thread = threading.Thread(target=in_context, args=(run,), name="voxtral-text", daemon=True)
    thread.start()
    return thread
