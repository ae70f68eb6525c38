"""Long texts to segments that are spoken one by one, each a verbatim piece of the source.

Works on characters alone: no tokens, no language setting; the rules of all languages hold at once. The
text is read only a little ahead of the segment that is given out. `cut_places.py` finds the places among
which this chooses. `normalize.py` comes before this step where it is asked for, `prompt.py` after it.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from voxtral.errors import OptionError
from voxtral.text.cut_places import MayPart, Rank, Scanner
from voxtral.text.graphemes import grapheme_ends, starts_grapheme


@dataclass(frozen=True)
class TextSegment:
    """A piece of a text: `source[start:end] == text`."""

    text: str
    start: int
    end: int


def split_text(text: str, *, min_chars: int = 100, max_chars: int = 400) -> Iterator[TextSegment]:
    """Cut a text into segments at paragraph and sentence ends, lazily.

    A text of at most `max_chars` is one segment, verbatim. A longer one is cut so that sentences are
    together until they have `min_chars`. A sentence longer than `max_chars` is cut at weaker places:
    clauses, commas, whitespace, and last between two graphemes. Quotations that fit stay whole.

    Args:
        text: the source. Only whitespace is left out between segments.
        min_chars: length below which a segment is joined with the next, in characters. Shorter
            segments remain where joining would break `max_chars`.
        max_chars: length that no segment exceeds, in characters. Graphemes and numbers longer than
            this are cut all the same.

    Returns:
        Segments in order; an empty text, or a long one of only whitespace, has none. A segment may be
        unspeakable ("* * *") where it fits to no neighbour; callers skip it.

    Raises:
        OptionError: the limits are not `1 <= min_chars <= max_chars`.

    >>> [segment.text for segment in split_text("One. Two. Three.", min_chars=5, max_chars=10)]
    ['One. Two.', 'Three.']
    """
    return split_rewritten(text, Origin(), min_chars=min_chars, max_chars=max_chars)


@dataclass(frozen=True)
class Origin:
    """What is known of a text that was rewritten.

    Attributes:
        may_part: tells where it must not be cut; None: anywhere.
        num_written: counts the characters that a span was written with; None: as many as it has.
    """

    may_part: MayPart | None = None
    num_written: Callable[[int, int], int] | None = None


def split_rewritten(text: str, origin: Origin, *, min_chars: int, max_chars: int) -> Iterator[TextSegment]:
    """Cut a text as `split_text` does, but not inside of what its rewriting made of one thing.

    Two kinds of segments may be longer than `max_chars`: what must not be parted at all, and, up to a quarter longer,
    a sentence that fits as it was written, because a pause inside is worse than some more words.

    Args:
        text: the text as rewritten.
        origin: what is known of it.
        min_chars: see `split_text`.
        max_chars: see `split_text`.

    Raises:
        OptionError: the limits are not `1 <= min_chars <= max_chars`.
    """
    if not 1 <= min_chars <= max_chars:
        raise OptionError(
            f"min_chars={min_chars} and max_chars={max_chars}; segments need 1 <= min_chars <= max_chars; "
            "change one of them"
        )
    return _split(text, origin, min_chars, max_chars)


def _split(text: str, origin: Origin, min_chars: int, max_chars: int) -> Iterator[TextSegment]:
    if len(text) <= max_chars:
        if text:
            yield TextSegment(text, 0, len(text))
        return
    cutter = _Cutter(text, origin, min_chars, max_chars)
    start = cutter.skip_space(0)
    while start < cutter.text_end:
        end = cutter.next_cut(start)
        yield TextSegment(text[start:end], start, end)
        start = cutter.skip_space(end)


class _Cutter:
    """Chooses the end of one segment after the other.

    Every offset is read once by the scanner and looked up by bisection, so that the whole takes linear
    time for fixed limits.
    """

    def __init__(self, text: str, origin: Origin, min_chars: int, max_chars: int) -> None:
        self._text = text
        self._origin = origin
        self._min = min_chars
        self._max = max_chars
        self._scanner = Scanner(text, max_chars, origin.may_part)
        self.text_end = self._scanner.text_end

    def skip_space(self, position: int) -> int:
        """Find the next character that is not whitespace."""
        found = _NOT_SPACE.search(self._text, position)
        return found.start() if found else self.text_end

    def next_cut(self, start: int) -> int:
        """Choose where the segment that begins at `start` ends."""
        # The next sentence after the longest possible segment must be known too, to leave no crumbs.
        self._scanner.scan_to(start + 2 * self._max + self._min)
        speech = _SPEAKABLE.search(self._text, start, min(start + self._max, self.text_end))
        if speech is None:
            return self._last_resort(start)
        # Symbols such as "***" go with the words after them, and do not make a segment of their own.
        cut = self._choose(start, speech.start())
        return self._take_symbols(start, cut)

    def _choose(self, start: int, speech: int) -> int:
        low = max(start + self._min, speech + 1)
        half = max(start + (self._min + 1) // 2, speech + 1)
        for is_quoted in (False, True):
            if (cut := self._first_sentence(start, low, is_quoted)) is not None:
                return cut
            # Symbols that fit to no neighbour stay alone, rather than cost the sentence after them its unity.
            if (cut := self._last(Rank.SENTENCE, start + 1, speech, is_quoted)) is not None:
                return cut
            # Far below the limit a sentence alone is too short to be spoken well; a clause is better.
            if (cut := self._last(Rank.SENTENCE, half, low - 1, is_quoted)) is not None:
                return cut
            if (cut := self._fits_as_written(start, is_quoted)) is not None:
                return cut
            if (cut := self._best_weak(start, low, _CLAUSES, is_quoted)) is not None:
                return cut
            if (cut := self._last(Rank.SENTENCE, start + 1, half - 1, is_quoted)) is not None:
                return cut
            if (cut := self._best_weak(start, low, _SPACES, is_quoted)) is not None:
                return cut
            for rank in (*_CLAUSES, *_SPACES):
                if (cut := self._last(rank, start + 1, min(low - 1, start + self._max), is_quoted)) is not None:
                    return cut
        glued = self._last(Rank.GLUE, start + 1, start + self._max, None)
        return self._last_resort(start) if glued is None else glued

    def _first_sentence(self, start: int, low: int, is_quoted: bool) -> int | None:
        """Choose the first sentence end at or after `low`, or a later one if that leaves no crumbs."""
        high = start + self._max
        cut = next(self._open(Rank.SENTENCE, low, high, is_quoted), None)
        if cut is None:
            return None
        paragraph = self._scanner.paragraph_end_after(cut)
        if paragraph is not None and paragraph <= high and paragraph - cut < self._min:
            cut = paragraph
        cut = self._with_crumbs(cut, high, is_quoted)
        if self.text_end - cut >= self._min:
            return cut
        return self.text_end if self.text_end <= high else self._balanced(start, is_quoted) or cut

    def _fits_as_written(self, start: int, is_quoted: bool) -> int | None:
        """Find the end of a sentence that only its rewriting has made a little too long."""
        count = self._origin.num_written
        if count is None or self._last(Rank.SENTENCE, start + 1, start + self._max, None) is not None:
            return None
        high = start + self._max + self._max // _LEEWAY
        cut = next(self._open(Rank.SENTENCE, start + self._max + 1, high, is_quoted), None)
        return cut if cut is not None and count(start, cut) <= self._max else None

    def _with_crumbs(self, cut: int, high: int, is_quoted: bool) -> int:
        """Add the short sentences after a cut that fit here, but not together with what follows them."""
        ends = self._open(Rank.SENTENCE, cut + 1, high + self._max, is_quoted)
        following = next(ends, None)
        while following is not None and following <= high and following - cut < self._min:
            after = next(ends, None)
            if after is not None and after - cut <= self._max:
                break
            cut, following = following, after
        return cut

    def _balanced(self, start: int, is_quoted: bool) -> int | None:
        """Cut what is a little too long for one segment into two that both have `min_chars`."""
        low = max(start + self._min, self.text_end - self._max)
        high = min(start + self._max, self.text_end - self._min)
        middle = (start + self.text_end) // 2
        for rank in (Rank.SENTENCE, *_CLAUSES):
            places = self._open(rank, low, high, is_quoted)
            best = min(places, key=lambda place: abs(place - middle), default=None)
            if best is not None:
                return best
        return None

    def _best_weak(self, start: int, low: int, ranks: Sequence[Rank], is_quoted: bool) -> int | None:
        """Choose a place inside of a sentence: the middle of one that fits in two, else as late as can be."""
        sentence = next(self._open(Rank.SENTENCE, start + self._max + 1, start + 2 * self._max, is_quoted), None)
        target = start + self._max if sentence is None else (start + sentence) // 2
        for rank in ranks:
            places = self._open(rank, low, start + self._max, is_quoted)
            best = min(places, key=lambda place: abs(place - target), default=None)
            if best is not None:
                return best
        return None

    def _open(self, rank: Rank, low: int, high: int, is_quoted: bool | None) -> Iterator[int]:
        """List the places of a rank from `low` to `high`, both included."""
        places = self._scanner.places[rank]
        for index in range(bisect_left(places, low), len(places)):
            if places[index] > high:
                return
            if is_quoted is None or self._scanner.is_quoted(places[index]) == is_quoted:
                yield places[index]

    def _last(self, rank: Rank, low: int, high: int, is_quoted: bool | None) -> int | None:
        places = self._scanner.places[rank]
        for index in range(bisect_right(places, high) - 1, -1, -1):
            if places[index] < low:
                return None
            if is_quoted is None or self._scanner.is_quoted(places[index]) == is_quoted:
                return places[index]
        return None

    def _take_symbols(self, start: int, cut: int) -> int:
        """Extend a segment over sentences without a word, such as a line of asterisks."""
        speech = _SPEAKABLE.search(self._text, cut, start + self._max)
        words = speech.start() if speech else min(start + self._max, self.text_end)
        return self._last(Rank.SENTENCE, cut, words, None) or cut

    def _last_resort(self, start: int) -> int:
        """Cut where there is no place at all: between graphemes, not in a number if that can be helped."""
        high = min(start + self._max, self.text_end)
        last_end: int | None = None
        for place in reversed(grapheme_ends(self._text, start, high)):
            following = self.skip_space(place)
            # The space is left out between segments; a mark that stands on it has nothing else to stand on.
            if following > place and not starts_grapheme(self._text, following):
                continue
            end = place
            while self._text[end - 1].isspace():
                end -= 1
            if not self._is_open(end, following):
                continue
            if place == self.text_end or not _is_in_number(self._text, place):
                return end
            last_end = last_end or end
        return last_end or self._next_open(high)

    def _next_open(self, place: int) -> int:
        """Find the first place at or after one that parts nothing which belongs together."""
        while place < self.text_end and not self._is_open(place, self.skip_space(place)):
            place += 1
        return place

    def _is_open(self, place: int, following: int) -> bool:
        return self._origin.may_part is None or self._origin.may_part(place, following)


_CLAUSES = (Rank.SOFT_END, Rank.CLAUSE, Rank.COMMA)
_SPACES = (Rank.SPACE,)
# A sentence that fits as written may be spoken with this part of the limit more.
_LEEWAY = 4
_NOT_SPACE = re.compile(r"\S")
_SPEAKABLE = re.compile(r"[^\W_]")
_NUMBER = re.compile(r"\d+(?:[.,:/'’٫٬]?\d+)*")


def _is_in_number(text: str, place: int) -> bool:
    """Tell whether digits, or a separator between digits, stand on both sides of a place."""
    if text[place - 1].isdecimal() and text[place].isdecimal():
        return True
    numbers = _NUMBER.finditer(text, max(0, place - 3), place + 3)
    return any(number.start() < place < number.end() for number in numbers)
