"""The segments of a text that is not whole yet: what has come of it, laid out, and waiting for the rest.

Read next: `voxtral.speech.utterance`, which speaks them as they come.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from voxtral.speech.feed import TextFeed
from voxtral.speech.plan import PlannedSegment
from voxtral.text.language import check_speakable
from voxtral.text.pieces import Stretch


class SegmentsOfFeed(Iterator[PlannedSegment]):
    """Segments in order; who wants to know before whether the next one has come asks `is_ready`.

    Args:
        feed: gives stretches of the text.
        plan_stretch: lays one out; what cannot be spoken has no segments.
        first: a stretch that was taken already.
    """

    def __init__(
        self, feed: TextFeed, plan_stretch: Callable[[Stretch], Iterator[PlannedSegment]], first: Stretch
    ) -> None:
        self._feed = feed
        self._plan_stretch = plan_stretch
        self._segments = plan_stretch(first)
        self._next: PlannedSegment | None = None
        self._has_ended = False
        self._error: BaseException | None = None
        self._is_silent = True  # nothing was laid out yet

    def __next__(self) -> PlannedSegment:
        self.wait(None)
        segment, self._next = self._next, None
        if segment is None:
            raise StopIteration
        return segment

    @property
    def is_ready(self) -> bool:
        """Whether the next segment, or the end, is there; not an error, before which what came is spoken."""
        try:
            while not self._has_ended and self._error is None:
                self._next = self._next or next(self._segments, None)
                if self._next is not None:
                    self._is_silent = False
                    return True
                if not self._feed.is_ready:
                    return False
                self._take()
        except BaseException as error:  # noqa: BLE001 - it is raised where its turn comes
            self._error = error
        return self._has_ended and self._error is None

    def wait(self, timeout_s: float | None) -> None:
        """Wait until `is_ready`.

        Args:
            timeout_s: how long; None for as long as it takes.

        Raises:
            TimeoutError: that long.
            TextError: what comes next cannot be spoken, or all of the text has nothing to say.
            CancelledError: nobody wants it any more.
            BaseException: what the text broke off with.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        while not self.is_ready:
            if self._error is not None:
                raise self._error
            if not self._feed.wait(None if until is None else until - time.monotonic()):
                raise TimeoutError("no text has come")

    def _take(self) -> None:
        """Lay out the next stretch, or note the end."""
        stretch = self._feed.take()
        if stretch is not None:
            self._segments = self._plan_stretch(stretch)
            return
        self._has_ended = True
        if self._is_silent:
            check_speakable("", int)
