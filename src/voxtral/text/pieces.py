"""A text that arrives in pieces: given on, a stretch at a time, as soon as it can be spoken.

A stretch is let go at the end of a sentence, once nothing that may follow can change how it is read or where it is cut:
"Dr.", "3.", a half-arrived word, an open quotation and open markup wait. Where each is cut depends on the text alone
and never on how it was cut into pieces. Knows nothing of threads; `speech/feed.py` is for those who push and those who
speak at the same time. `segment.py` cuts a text that is whole.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

from voxtral.errors import OptionError, TextError
from voxtral.text.cut_places import MAX_AHEAD, Rank, Scanner, is_known
from voxtral.text.markup import is_open
from voxtral.text.segment import split_text

MAX_CHARS = 400

_SPEAKABLE = re.compile(r"[^\W_]")
_NOT_SPACE = re.compile(r"\S")
# Without one of these there is no end of a sentence; a piece with none changes nothing.
_MAY_END = re.compile("[.!?…؟۔।॥。！？｡\n\r\u0085\u2028\u2029\u000b\u000c\u001c-\u001e]")
_HALF = re.compile("[\ud800-\udbff]")
_HALVES = re.compile("[\ud800-\udbff][\udc00-\udfff]")
# In German a number with a point is an item beside another item, and an ordinal alone.
_ITEM = re.compile(r"[ \t]*\d{1,3}\.[ \t]")


@dataclass(frozen=True)
class Stretch:
    """A part of a text that can be spoken.

    Attributes:
        text: as it came, white space at its end included.
        start: where it begins in the whole text.
        end: the character after its last one.
    """

    text: str
    start: int
    end: int


class TextStream:
    """Takes a text in pieces, and gives it in stretches that together are the text, no character twice or lost.

    Args:
        min_chars: a stretch has so many characters at least, but for the last one and those before a `flush`.
        max_chars: where no sentence ends within so many characters, the stretch is cut at a weaker place. It then
            waits for no more than 24 more.
        language: a code of `LANGUAGES`; may be set when it becomes known, and holds from the next stretch on.

    Raises:
        OptionError: the limits are not `1 <= min_chars <= max_chars`.

    >>> stream = TextStream()
    >>> [stretch.text for stretch in stream.feed("Dr. Lee is 3. She")]
    []
    >>> [stretch.text for stretch in stream.feed(" sings.")], [stretch.text for stretch in stream.flush()]
    (['Dr. Lee is 3. '], ['She sings.'])
    """

    def __init__(self, *, min_chars: int = 1, max_chars: int = MAX_CHARS, language: str | None = None) -> None:
        if not 1 <= min_chars <= max_chars:
            raise OptionError(
                f"min_chars={min_chars} and max_chars={max_chars}; stretches need 1 <= min_chars <= max_chars; "
                "change one of them"
            )
        self.language = language
        self._min = min_chars
        self._max = max_chars
        self._limit = max_chars + MAX_AHEAD
        self._text = ""  # what came, but for half a character at its end
        self._at = 0  # of it was given
        self._start = 0  # where what was not given begins in the whole text
        self._half = ""
        self._stops: deque[int] = deque()  # where all that came before is to be let go, in the whole text
        self._may_end = False  # whether a sentence may end in what was not given

    def feed(self, piece: str) -> list[Stretch]:
        """Take a piece, and give the stretches that it finishes.

        Raises:
            TextError: it is no str.
        """
        self.push(piece)
        return self._given()

    def flush(self) -> list[Stretch]:
        """Give all that came, also in the middle of a word; more may follow."""
        self.push_stop()
        return self._given()

    def push(self, piece: str) -> None:
        """Take a piece; `next_stretch` gives what it finishes.

        Raises:
            TextError: it is no str.
        """
        if not isinstance(piece, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
            raise TextError(
                f"a piece of the text is a {type(piece).__name__}; it must be a str; decode bytes as UTF-8 first, with "
                "an incremental decoder"
            )
        piece = _HALVES.sub(_joined, self._half + piece)
        self._half = piece[-1] if piece and _HALF.match(piece, len(piece) - 1) else ""
        piece = piece[: len(piece) - len(self._half)]
        self._may_end = self._may_end or _MAY_END.search(piece) is not None
        self._text += piece

    def push_stop(self) -> None:
        """Let go what came so far; `next_stretch` gives it."""
        self._text += self._half
        self._half = ""
        stop = self._start + len(self._text) - self._at
        if stop > (self._stops[-1] if self._stops else self._start):
            self._stops.append(stop)

    @property
    def num_waiting(self) -> int:
        """Characters that came and were not given."""
        return len(self._text) - self._at + len(self._half)

    def next_stretch(self) -> Stretch | None:
        """Give the next stretch; None while it has not come."""
        stop = self._stops[0] - self._start if self._stops else None
        if stop is None and not self._may_end and len(self._text) - self._at < self._limit:
            return None
        size = self._limit if stop is None else min(stop, self._limit)
        window = self._text[self._at : self._at + size]
        is_whole = stop == len(window)
        end = self._sentence_end(window, is_whole=is_whole)
        if end is None and is_whole and len(window) <= self._max:
            end = len(window)
        elif end is None and (is_whole or len(window) == self._limit):
            end = self._weak_end(window)
        return None if end is None else self._give(window[:end])

    def _given(self) -> list[Stretch]:
        given: list[Stretch] = []
        while (stretch := self.next_stretch()) is not None:
            given.append(stretch)
        return given

    def _give(self, text: str) -> Stretch:
        stretch = Stretch(text, self._start, self._start + len(text))
        self._start += len(text)
        self._at += len(text)
        # What was given is let go now and then: each time would copy a long text for each of its sentences.
        if self._at > len(self._text) // 2:
            self._text, self._at = self._text[self._at :], 0
        while self._stops and self._stops[0] <= self._start:
            self._stops.popleft()
        # Where more than a window waits, it is looked at in any case.
        self._may_end = _MAY_END.search(self._text, self._at, self._at + self._limit) is not None
        return stretch

    def _sentence_end(self, window: str, *, is_whole: bool) -> int | None:
        """Find the first place where a stretch may end; None where there is none, or it is not known yet."""
        scanner = Scanner(window, self._max)
        places = scanner.places[Rank.SENTENCE]
        num_seen = 0
        while scanner.scan_on():
            if len(places) == num_seen:
                continue
            num_seen = len(places)
            end = places[-1]
            start = _skip_space(window, end)
            if start > self._max or not (is_whole or is_known(window, end, start)):
                return None
            if start >= self._min and not scanner.is_open and self._may_cut(window, end, start):
                return start
        return None

    def _may_cut(self, window: str, end: int, start: int) -> bool:
        before = window[:end]
        if _SPEAKABLE.search(before) is None or is_open(before.replace("\r\n", "\n")):
            return False
        if self.language not in (None, "de") or not _ITEM.match(before, before.rfind("\n") + 1):
            return True
        return "\n" in window[end:start] and not _ITEM.match(window, start)

    def _weak_end(self, window: str) -> int:
        """Cut a window in which no sentence ends."""
        first = next(split_text(window, min_chars=max(1, self._max // 4), max_chars=self._max), None)
        if first is None or first.end > self._max:
            return self._max
        return min(self._max, _skip_space(window, first.end))


def _skip_space(text: str, place: int) -> int:
    found = _NOT_SPACE.search(text, place)
    return found.start() if found else len(text)


def _joined(halves: re.Match[str]) -> str:
    """Make one character of two halves."""
    return halves.group().encode("utf-16", "surrogatepass").decode("utf-16")
