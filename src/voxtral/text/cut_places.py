"""Where a long text may be cut, and how good each place is: sentence ends, clauses, commas, spaces.

A text is read once, from front to back, and only as far as somebody asks. Knows nothing of lengths but that of the
quotations that stay whole; `segment.py` chooses among the places, `abbreviations.py` says what a point is.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from enum import IntEnum

from voxtral.text.abbreviations import is_abbreviation
from voxtral.text.graphemes import starts_grapheme

MayPart = Callable[[int, int], bool]
"""Tells whether what ends before one offset and what begins at another may be in two segments."""


class Rank(IntEnum):
    """How good a place is for a cut, best first."""

    SENTENCE = 0
    SOFT_END = 1  # A full stop before a lower-case letter, as in chats.
    CLAUSE = 2
    COMMA = 3
    SPACE = 4
    GLUE = 5  # A space that belongs to a number, a name or an abbreviation.


_ENDS = ".!?…؟۔।॥。！？｡"
_UNSPACED_ENDS = "।॥。！？｡"
_CLOSERS = "\"'”’“»«›‹)]}」』】）》〉*_~`"
_OPENERS = "([{“„«‹‘‚¿¡「『【（《〈"
_NEVER_FIRST = "!?;:,.…)]}%٪؛،؟」』】）》〉、。！？"
# Signs of items in lists, and an ellipsis that begins a sentence: "... and then".
_ITEM = re.compile(r"[•‣◦⁃▪●]\s|\d{1,3}\.\)\s")
_MAX_ITEM = 6  # characters of "999.) ", and one more than of "12. "
_BULLETS = "•‣◦⁃▪●"
_ELLIPSIS_FIRST = re.compile(r"(?:\.\.\.|…)[^\W\d_]")
_TOKEN = re.compile(
    rf"(?P<space>\s+)|(?P<wide>[{_UNSPACED_ENDS}、，；：—][{_ENDS}、，；：—”’」』】）》〉)]*)|[\"“”„«»‹›「」『』《》〈〉()\[\]（）]"
)
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n|\u2029")
_NO_BREAK_ONLY = re.compile("[\u00a0\u202f\u2007]+")
_FIRST_WORD = re.compile(rf"[{re.escape(_OPENERS)}\"'*_\s]*([^\W_]*)")
# Each closing quote or bracket, and what it may close.
_CLOSES = {
    "”": "“„”",
    "“": "„",
    "»": "«",
    "«": "»",
    "›": "‹",
    "‹": "›",
    "」": "「",
    "』": "『",
    ")": "(",
    "]": "[",
    "）": "（",
    "》": "《",
    "〉": "〈",
}

MAX_AHEAD = 24
"""Characters after a place that may matter for its rank, at most."""


class Scanner:
    """Reads a text once, from front to back, and notes where it may be cut.

    Args:
        text: the source.
        max_quote: longest quotation that stays whole, in characters.
        may_part: refuses places that look fit; None for none.

    Attributes:
        places: per rank, the offsets after the last character before a possible cut, in order.
        paragraph_ends: the places that end a paragraph; they are sentence ends too.
        text_end: the end of the last character that is not whitespace.
    """

    def __init__(self, text: str, max_quote: int, may_part: MayPart | None = None) -> None:
        self._text = text
        self._max_quote = max_quote
        self._may_part = may_part
        self._tokens = _TOKEN.finditer(text)
        self._read_to = 0
        self._is_done = False
        self._sentence_start = 0
        # Open quotes and brackets; the bound keeps a text of brackets linear.
        self._open: deque[tuple[str, int]] = deque(maxlen=16)
        self._quote_starts: list[int] = []
        self._quote_ends: list[int] = []
        self.places: dict[Rank, list[int]] = {rank: [] for rank in Rank}
        self.paragraph_ends: list[int] = []
        self.text_end = len(text)
        while self.text_end and text[self.text_end - 1].isspace():
            self.text_end -= 1

    @property
    def is_open(self) -> bool:
        """Whether a quotation or a bracket waits for its end where the text was read to."""
        return bool(self._open)

    def scan_on(self) -> bool:
        """Read one token more; False at the end of the text."""
        self.scan_to(self._read_to + 1)
        return not self._is_done

    def scan_to(self, position: int) -> None:
        """Read at least up to a position, or to the end of the text."""
        while self._read_to < position and not self._is_done:
            token = next(self._tokens, None)
            if token is None or token.start() >= self.text_end:
                self._is_done = True
                if self.text_end:
                    self.places[Rank.SENTENCE].append(self.text_end)
                self.paragraph_ends.append(self.text_end)
            elif token.lastgroup == "space":
                self._read_to = token.end()
                self._meet_space(token.start(), token.end())
            else:
                self._read_to = token.end()
                for offset, char in enumerate(token.group(), token.start()):
                    self._meet_quote(char, offset)
                if token.lastgroup == "wide":
                    self._meet_wide(token.group(), token.end())

    def is_quoted(self, place: int) -> bool:
        """Tell whether a place lies inside of a quotation or a bracket that fits into a segment."""
        index = bisect_left(self._quote_starts, place) - 1
        return index >= 0 and place <= self._quote_ends[index]

    def paragraph_end_after(self, place: int) -> int | None:
        """Find the first known end of a paragraph at or after a place."""
        index = bisect_left(self.paragraph_ends, place)
        return self.paragraph_ends[index] if index < len(self.paragraph_ends) else None

    def _add(self, rank: Rank, place: int, following: int) -> bool:
        """Note a place, unless what it parts belongs together."""
        if self._may_part is not None and not self._may_part(place, following):
            return False
        self.places[rank].append(place)
        return True

    def _meet_space(self, start: int, end: int) -> None:
        if start == 0:
            self._sentence_start = end
            return
        if not starts_grapheme(self._text, end):
            return
        if _PARAGRAPH.search(self._text, start, end):
            if self._add(Rank.SENTENCE, start, end):
                self.paragraph_ends.append(start)
            self._open.clear()
            self._sentence_start = end
            return
        rank = _rank_of_space(self._text, start, end, self._sentence_start)
        if rank is not None:
            self._add(rank, start, end)
        if rank == Rank.SENTENCE or "\n" in self._text[start:end] or self._text[start - 1] in _BULLETS:
            self._sentence_start = end

    def _meet_wide(self, marks: str, end: int) -> None:
        """Note a place after punctuation that needs no space after it."""
        following = self._text[end : end + 1]
        begin = end - len(marks)
        if not following or following.isspace() or following in _NEVER_FIRST + "»›":
            return
        if not starts_grapheme(self._text, end):
            return
        if begin and self._text[begin - 1].isdigit() and following.isdigit():
            return
        if any(mark in _UNSPACED_ENDS for mark in marks):
            # "「はい。」と言った": the quotation goes on into the sentence around it.
            self._add(Rank.SOFT_END if following == "と" else Rank.SENTENCE, end, end)
        else:
            self._add(Rank.CLAUSE if any(mark in "；：—" for mark in marks) else Rank.COMMA, end, end)

    def _meet_quote(self, char: str, offset: int) -> None:
        before = self._text[offset - 1 : offset] or " "
        after = self._text[offset + 1 : offset + 2] or " "
        if char == '"':
            is_free_before = before.isspace() or before in _OPENERS
            if is_free_before and not after.isspace():
                self._open.append((char, offset))
            elif not self._close('"', offset) and not before.isdigit():
                # A digit before makes it the sign for inches.
                self._open.append((char, offset))
        elif not self._close(_CLOSES.get(char, ""), offset) and char in "“„«»‹›「『([（《〈":
            self._open.append((char, offset))

    def _close(self, openers: str, offset: int) -> bool:
        """Close the innermost of some openers, and what is still open inside of it."""
        for depth in range(len(self._open) - 1, -1, -1):
            opener, start = self._open[depth]
            if opener in openers:
                while len(self._open) > depth:
                    self._open.pop()
                self._note_quote(start, offset)
                return True
        return False

    def _note_quote(self, start: int, end: int) -> None:
        if end + 1 - start > self._max_quote:
            return
        # Inner quotations close before the outer one and are covered by it.
        while self._quote_starts and self._quote_starts[-1] > start:
            self._quote_starts.pop()
            self._quote_ends.pop()
        self._quote_starts.append(start)
        self._quote_ends.append(end)


def is_known(text: str, end: int, start: int) -> bool:
    """Tell whether no more text can change the rank of a place.

    Args:
        text: as far as it is known.
        end: the character after the last one before the place.
        start: the first character after it that is no white space.
    """
    if len(text) >= start + MAX_AHEAD:
        return True
    if text[start].isdecimal() and len(text) < start + _MAX_ITEM:
        return False
    if end == start or _PARAGRAPH.search(text, end, start):
        return True
    first_word = _FIRST_WORD.match(text, start)
    return first_word is not None and bool(first_word.group(1)) and first_word.end() < len(text)


def _rank_of_space(text: str, start: int, end: int, sentence_start: int) -> Rank | None:
    """Judge a stretch of whitespace that is no paragraph break; None if nothing may be cut there."""
    following = text[end]
    if text[start - 1] in _BULLETS:
        return Rank.GLUE
    if _ITEM.match(text, end):
        return Rank.SENTENCE
    if following in _NEVER_FIRST:
        is_new = text[start - 1] in _ENDS and _ELLIPSIS_FIRST.match(text, end) is not None
        return Rank.SENTENCE if is_new else None
    if following in "»›" and not text[end + 1 : end + 2].isalnum():
        return None  # The end of a French quotation; before a letter it begins a German one.
    last = _before_closers(text, start)
    mark = text[last - 1] if last else " "
    if mark in _ENDS:
        return _rank_of_end(text, last, end, sentence_start)
    return _rank_of_pause(text, start, end, mark)


def _rank_of_pause(text: str, start: int, end: int, mark: str) -> Rank | None:
    """Judge whitespace that follows no sentence mark; `mark` is the character before it and its closers."""
    before, following = text[start - 1], text[end]
    if before in _OPENERS and (start < 2 or not text[start - 2].isalnum()):
        return None
    if mark in ";:؛；：—–" or (before == "-" and text[start - 2 : start - 1].isspace()):
        return Rank.CLAUSE
    if mark in ",،、，":
        return Rank.COMMA
    if _NO_BREAK_ONLY.fullmatch(text, start, end) or (before.isdigit() and following.isdigit()):
        return Rank.GLUE
    # Lists and verses have a line for each thing; wrapped prose goes on in lower case.
    return Rank.CLAUSE if "\n" in text[start:end] and not following.islower() else Rank.SPACE


def _before_closers(text: str, position: int) -> int:
    """Step back over closing quotes and brackets, also over the spaces inside of French ones."""
    while position and text[position - 1] in _CLOSERS:
        is_french = text[position - 1] in "»›"
        position -= 1
        while is_french and position and text[position - 1] in " \u00a0\u202f":
            position -= 1
    return position


def _rank_of_end(text: str, last: int, end: int, sentence_start: int) -> Rank | None:
    """Judge the whitespace after a sentence mark.

    Args:
        text: the source.
        last: the offset after the mark, before quotes that close after it.
        end: the offset after the whitespace.
        sentence_start: where the sentence begins.
    """
    first_word = _FIRST_WORD.match(text, end, end + MAX_AHEAD)
    following = first_word.group(1) if first_word else ""
    is_point = text[last - 1] == "." and text[last - 2 : last - 1] != "."
    if is_point and is_abbreviation(text, last - 1, following, sentence_start):
        return Rank.GLUE
    # What stands in brackets behind a sentence belongs to it.
    is_soft = following[:1].islower() or text[end : end + 1] in "(（"
    return Rank.SOFT_END if is_soft else Rank.SENTENCE
