"""Long texts to segments that are spoken one by one, each a verbatim piece of the source.

Works on characters alone: no tokens, no language setting; the rules of all languages hold at once. The
text is read only a little ahead of the segment that is given out. `normalize.py` comes before this step
where it is asked for, `prompt.py` after it.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from voxtral.errors import OptionError


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
    if not 1 <= min_chars <= max_chars:
        raise OptionError(
            f"min_chars={min_chars} and max_chars={max_chars}; segments need 1 <= min_chars <= max_chars; "
            "change one of them"
        )
    return _split(text, min_chars, max_chars)


def _split(text: str, min_chars: int, max_chars: int) -> Iterator[TextSegment]:
    if len(text) <= max_chars:
        if text:
            yield TextSegment(text, 0, len(text))
        return
    cutter = _Cutter(text, min_chars, max_chars)
    start = cutter.skip_space(0)
    while start < cutter.text_end:
        end = cutter.next_cut(start)
        yield TextSegment(text[start:end], start, end)
        start = cutter.skip_space(end)


# Where to cut ----------------------------------------------------------------------------------------


class _Rank(IntEnum):
    """How good a place is for a cut, best first."""

    SENTENCE = 0
    SOFT_END = 1  # A full stop before a lower-case letter, as in chats.
    CLAUSE = 2
    COMMA = 3
    SPACE = 4
    GLUE = 5  # A space that belongs to a number, a name or an abbreviation.


class _Cutter:
    """Chooses the end of one segment after the other.

    Every offset is read once by the scanner and looked up by bisection, so that the whole takes linear
    time for fixed limits.
    """

    def __init__(self, text: str, min_chars: int, max_chars: int) -> None:
        self._text = text
        self._min = min_chars
        self._max = max_chars
        self._scanner = _Scanner(text, max_chars)
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
            if (cut := self._last(_Rank.SENTENCE, start + 1, speech, is_quoted)) is not None:
                return cut
            # Far below the limit a sentence alone is too short to be spoken well; a clause is better.
            if (cut := self._last(_Rank.SENTENCE, half, low - 1, is_quoted)) is not None:
                return cut
            if (cut := self._best_weak(start, low, _CLAUSES, is_quoted)) is not None:
                return cut
            if (cut := self._last(_Rank.SENTENCE, start + 1, half - 1, is_quoted)) is not None:
                return cut
            if (cut := self._best_weak(start, low, _SPACES, is_quoted)) is not None:
                return cut
            for rank in (*_CLAUSES, *_SPACES):
                if (cut := self._last(rank, start + 1, min(low - 1, start + self._max), is_quoted)) is not None:
                    return cut
        glued = self._last(_Rank.GLUE, start + 1, start + self._max, None)
        return self._last_resort(start) if glued is None else glued

    def _first_sentence(self, start: int, low: int, is_quoted: bool) -> int | None:
        """Choose the first sentence end at or after `low`, or a later one if that leaves no crumbs."""
        high = start + self._max
        cut = next(self._open(_Rank.SENTENCE, low, high, is_quoted), None)
        if cut is None:
            return None
        paragraph = self._scanner.paragraph_end_after(cut)
        if paragraph is not None and paragraph <= high and paragraph - cut < self._min:
            cut = paragraph
        cut = self._with_crumbs(cut, high, is_quoted)
        if self.text_end - cut >= self._min:
            return cut
        return self.text_end if self.text_end <= high else self._balanced(start, is_quoted) or cut

    def _with_crumbs(self, cut: int, high: int, is_quoted: bool) -> int:
        """Add the short sentences after a cut that fit here, but not together with what follows them."""
        ends = self._open(_Rank.SENTENCE, cut + 1, high + self._max, is_quoted)
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
        for rank in (_Rank.SENTENCE, *_CLAUSES):
            places = self._open(rank, low, high, is_quoted)
            best = min(places, key=lambda place: abs(place - middle), default=None)
            if best is not None:
                return best
        return None

    def _best_weak(self, start: int, low: int, ranks: Sequence[_Rank], is_quoted: bool) -> int | None:
        """Choose a place inside of a sentence: the middle of one that fits in two, else as late as can be."""
        sentence = next(self._open(_Rank.SENTENCE, start + self._max + 1, start + 2 * self._max, is_quoted), None)
        target = start + self._max if sentence is None else (start + sentence) // 2
        for rank in ranks:
            places = self._open(rank, low, start + self._max, is_quoted)
            best = min(places, key=lambda place: abs(place - target), default=None)
            if best is not None:
                return best
        return None

    def _open(self, rank: _Rank, low: int, high: int, is_quoted: bool | None) -> Iterator[int]:
        """List the places of a rank from `low` to `high`, both included."""
        places = self._scanner.places[rank]
        for index in range(bisect_left(places, low), len(places)):
            if places[index] > high:
                return
            if is_quoted is None or self._scanner.is_quoted(places[index]) == is_quoted:
                yield places[index]

    def _last(self, rank: _Rank, low: int, high: int, is_quoted: bool | None) -> int | None:
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
        return self._last(_Rank.SENTENCE, cut, words, None) or cut

    def _last_resort(self, start: int) -> int:
        """Cut where there is no place at all: between graphemes, not in a number if that can be helped."""
        high = min(start + self._max, self.text_end)
        first: int | None = None
        place = high
        while place > start:
            if not self._is_boundary(start, place):
                place -= 1
                continue
            end = place
            while self._text[end - 1].isspace():
                end -= 1
            if place == self.text_end or not _is_in_number(self._text, place):
                return end
            first = first or end
            place -= 1
            while place > start and self._text[place - 1].isdigit() and self._text[place].isdigit():
                place -= 1
        return first or high

    def _is_boundary(self, start: int, place: int) -> bool:
        """Tell whether a cut here leaves all graphemes whole, also that of a space with a mark on it."""
        following = self.skip_space(place)
        if following > place and not _is_grapheme_boundary(self._text, start, following):
            return False
        return _is_grapheme_boundary(self._text, start, place)


_CLAUSES = (_Rank.SOFT_END, _Rank.CLAUSE, _Rank.COMMA)
_SPACES = (_Rank.SPACE,)
_NOT_SPACE = re.compile(r"\S")
_SPEAKABLE = re.compile(r"[^\W_]")


# Reading ahead ---------------------------------------------------------------------------------------

_ENDS = ".!?…؟۔।॥。！？｡"
_UNSPACED_ENDS = "।॥。！？｡"
_CLOSERS = "\"'”’“»«›‹)]}」』】）*_~`"
_OPENERS = "([{“„«‹‘‚¿¡「『【（"
_NEVER_FIRST = "!?;:,.…)]}%٪؛،؟」』】）、。！？"
_TOKEN = re.compile(
    rf"(?P<space>\s+)|(?P<wide>[{_UNSPACED_ENDS}、，；：—][{_ENDS}、，；：—”’」』】）)]*)|[\"“”„«»‹›「」『』()\[\]（）]"
)
_PARAGRAPH = re.compile(r"\n[^\S\n]*\n|\u2029")
_NO_BREAK_ONLY = re.compile("[\u00a0\u202f\u2007]+")
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
}


class _Scanner:
    """Reads a text once, from front to back, and notes where it may be cut.

    Attributes:
        places: per rank, the offsets after the last character before a possible cut, in order.
        paragraph_ends: the places that end a paragraph; they are sentence ends too.
        text_end: the end of the last character that is not whitespace.
    """

    def __init__(self, text: str, max_quote: int) -> None:
        self._text = text
        self._max_quote = max_quote
        self._tokens = _TOKEN.finditer(text)
        self._read_to = 0
        self._is_done = False
        self._sentence_start = 0
        # Open quotes and brackets; the bound keeps a text of brackets linear.
        self._open: deque[tuple[str, int]] = deque(maxlen=16)
        self._quote_starts: list[int] = []
        self._quote_ends: list[int] = []
        self.places: dict[_Rank, list[int]] = {rank: [] for rank in _Rank}
        self.paragraph_ends: list[int] = []
        self.text_end = len(text)
        while self.text_end and text[self.text_end - 1].isspace():
            self.text_end -= 1

    def scan_to(self, position: int) -> None:
        """Read at least up to a position, or to the end of the text."""
        while self._read_to < position and not self._is_done:
            token = next(self._tokens, None)
            if token is None or token.start() >= self.text_end:
                self._is_done = True
                self._add(_Rank.SENTENCE, self.text_end)
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

    def _add(self, rank: _Rank, place: int) -> None:
        if place:
            self.places[rank].append(place)

    def _meet_space(self, start: int, end: int) -> None:
        if start == 0:
            self._sentence_start = end
            return
        if _extends(self._text[end]) and self._text[end - 1] not in "\r\n":
            return
        if _PARAGRAPH.search(self._text, start, end):
            self._add(_Rank.SENTENCE, start)
            self.paragraph_ends.append(start)
            self._open.clear()
            self._sentence_start = end
            return
        rank = _rank_of_space(self._text, start, end, self._sentence_start)
        if rank is not None:
            self._add(rank, start)
        if rank == _Rank.SENTENCE or "\n" in self._text[start:end]:
            self._sentence_start = end

    def _meet_wide(self, marks: str, end: int) -> None:
        """Note a place after punctuation that needs no space after it."""
        following = self._text[end : end + 1]
        begin = end - len(marks)
        if not following or following.isspace() or _extends(following) or following in _NEVER_FIRST + "»›":
            return
        if begin and self._text[begin - 1].isdigit() and following.isdigit():
            return
        if any(mark in _UNSPACED_ENDS for mark in marks):
            # "「はい。」と言った": the quotation goes on into the sentence around it.
            self._add(_Rank.SOFT_END if following == "と" else _Rank.SENTENCE, end)
        else:
            self._add(_Rank.CLAUSE if any(mark in "；：—" for mark in marks) else _Rank.COMMA, end)

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
        elif not self._close(_CLOSES.get(char, ""), offset) and char in "“„«»‹›「『([（":
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


def _rank_of_space(text: str, start: int, end: int, sentence_start: int) -> _Rank | None:
    """Judge a stretch of whitespace that is no paragraph break; None if nothing may be cut there."""
    following = text[end]
    if following in _NEVER_FIRST or _extends(following):
        return None
    if following in "»›" and not text[end + 1 : end + 2].isalnum():
        return None  # The end of a French quotation; before a letter it begins a German one.
    last = _before_closers(text, start)
    mark = text[last - 1] if last else " "
    if mark in _ENDS:
        return _rank_of_end(text, last, end, sentence_start)
    return _rank_of_pause(text, start, end, mark)


def _rank_of_pause(text: str, start: int, end: int, mark: str) -> _Rank | None:
    """Judge whitespace that follows no sentence mark; `mark` is the character before it and its closers."""
    before, following = text[start - 1], text[end]
    if before in _OPENERS and (start < 2 or not text[start - 2].isalnum()):
        return None
    if mark in ";:؛；：—–" or (before == "-" and text[start - 2 : start - 1].isspace()):
        return _Rank.CLAUSE
    if mark in ",،、，":
        return _Rank.COMMA
    if _NO_BREAK_ONLY.fullmatch(text, start, end) or (before.isdigit() and following.isdigit()):
        return _Rank.GLUE
    # Lists and verses have a line for each thing; wrapped prose goes on in lower case.
    return _Rank.CLAUSE if "\n" in text[start:end] and not following.islower() else _Rank.SPACE


def _before_closers(text: str, position: int) -> int:
    """Step back over closing quotes and brackets, also over the spaces inside of French ones."""
    while position and text[position - 1] in _CLOSERS:
        is_french = text[position - 1] in "»›"
        position -= 1
        while is_french and position and text[position - 1] in " \u00a0\u202f":
            position -= 1
    return position


# Sentence ends ---------------------------------------------------------------------------------------


def _words(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Without their last point and in lower case. Words that end sentences in another language ("me.", "on.",
# "es.", "ir.") must not be in the first list.
_NEVER_ENDS = _words(
    "mr mrs ms messrs dr prof profs rev gen col capt cpt lt maj sgt cmdr adm gov sen rep pres st mt ft vs cf approx "
    "viz ca "
    "hr fr frl fa nr bzw ggf evtl vgl inkl exkl zzgl bspw sog allg dipl-ing "
    "mme mmes mlle mlles mgr ste p.ex ex "
    "sra srta sres srtas sto sta dra d.ª ud uds vd vds ee p.ej ej dña exmo exma ilmo "
    "sr sig sigg sig.ra sig.na dott dott.ssa prof.ssa ing avv geom cfr "
    "srs profa "
    "dhr mevr mej mw drs ds bijv "
    "د أ.د م ص أ ج ق "
    "डॉ डा श्री प्रो पं कु सुश्री रु स्व मो"
)
_ACRONYMS = _words("uu ee.uu")
_ENDS_BEFORE_CAPITAL = _words(
    "etc inc ltd co corp bros jr al ave blvd rd dept univ est a.m p.m ph.d "
    "usw u.s.w geb gest jh jhd mio mrd tsd str chr v.chr n.chr max min "
    "env av apr éd aprox gral dpto lic tel tél ecc es ltda cia enz bv nl blz incl excl resp ed"
)
_NEVER_BEFORE_DIGIT = _words(
    "no nos nr núm num n p pp pág págs pag vol vols fig figs art arts sec ch chap cap kap abb abs bd hs tab op ziff rn "
    "jan feb mar apr jun jul aug sep sept oct nov dec mär okt dez janv févr avr juil déc ene abr ago dic "
    "gen mag giu lug set ott mrt mei नं"
)
_GERMAN_BEFORE_ORDINAL = _words("am im vom zum zur beim der die das dem den des jeder jede jedes seit bis ab")
_MONTHS = _words(
    "januar jänner februar märz april mai juni juli august september oktober november dezember "
    "jan feb mär apr jun jul aug sep sept okt nov dez"
)
# Words that begin sentences and are neither names nor parts of them ("J. De Vries"): initials before one
# of them end a sentence.
_STARTERS = _words(
    "The This That These Those He She It They We You There Then In On At But And So If When "
    "Der Die Das Er Sie Es Wir Dann Aber Und Il Elle Ils Elles Nous Mais Ella Ellos Pero Ele Ela Mas Hij Zij Maar"
)
_LAST_TOKEN = re.compile(r"[^\s\"“”„«»‹›()\[\]{}/…!?]{1,24}$")
_WORD_BEFORE = re.compile(r"([^\W\d_]{1,12})\s{1,3}$")
_FIRST_WORD = re.compile(rf"[{re.escape(_OPENERS)}\"'*_\s]*([^\W_]*)")
_ROMAN = re.compile(r"[IVXLC]{1,6}")


def _rank_of_end(text: str, last: int, end: int, sentence_start: int) -> _Rank | None:
    """Judge the whitespace after a sentence mark.

    Args:
        text: the source.
        last: the offset after the mark, before quotes that close after it.
        end: the offset after the whitespace.
        sentence_start: where the sentence begins.
    """
    first_word = _FIRST_WORD.match(text, end, end + 24)
    following = first_word.group(1) if first_word else ""
    is_point = text[last - 1] == "." and text[last - 2 : last - 1] != "."
    if is_point and _is_abbreviation(text, last - 1, following, sentence_start):
        return _Rank.GLUE
    return _Rank.SOFT_END if following[:1].islower() else _Rank.SENTENCE


def _is_abbreviation(text: str, point: int, following: str, sentence_start: int) -> bool:
    """Tell whether a point belongs to the word before it."""
    found = _LAST_TOKEN.search(text, max(0, point - 24), point)
    if found is None:
        return False
    token = found.group().lstrip("'’‘*_~`-–—")
    folded = token.casefold()
    is_capital = following[:1].isupper()
    if folded in _ENDS_BEFORE_CAPITAL:
        return not is_capital
    if folded in _NEVER_ENDS or folded.rsplit("-", 1)[-1] in _NEVER_ENDS:
        return True
    if folded in _NEVER_BEFORE_DIGIT and following[:1].isdigit():
        return True
    is_number = token.isdecimal() and len(token) <= 3
    if (is_number or _ROMAN.fullmatch(token)) and found.end() - len(token) <= sentence_start:
        return True  # A list marker, or "1. Kapitel".
    if folded in _ACRONYMS or _is_initials(token):
        is_end = token.isupper() and following in _STARTERS and found.end() - len(token) > sentence_start
        return not is_end
    return is_number and _is_german_ordinal(text, found.start(), following)


def _is_initials(token: str) -> bool:
    """Recognise "J", "U.S.A", "z.B" and "J.-P"."""
    parts = [part.lstrip("-") for part in token.split(".")]
    return all(len(part) == 1 and (part.isupper() or part.islower()) for part in parts)


def _is_german_ordinal(text: str, start: int, following: str) -> bool:
    """Recognise "am 3. Mai" and "das 1. Kapitel", by what is around the number."""
    if following.lower() in _MONTHS or (following[:1].isdigit() and len(following) <= 2) or following[:1].islower():
        return True
    before = _WORD_BEFORE.search(text, max(0, start - 16), start)
    return before is not None and before.group(1).lower() in _GERMAN_BEFORE_ORDINAL


# Graphemes and numbers -------------------------------------------------------------------------------

_NUMBER = re.compile(r"\d+(?:[.,:/'’٫٬]?\d+)*")
_JOINER = "\u200d"
_VIRAMA_CLASS = 9


def _extends(char: str) -> bool:
    """Tell whether a character belongs to the one before it."""
    if char < "\u0300":
        return False
    return (
        char in "\u200c\u200d"
        or "\U0001f3fb" <= char <= "\U0001f3ff"
        or "\U000e0020" <= char <= "\U000e007f"
        or unicodedata.category(char).startswith("M")
    )


def _is_regional(char: str) -> bool:
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _is_grapheme_boundary(text: str, start: int, place: int) -> bool:
    """Tell whether a text may be cut at a place, as seen from a boundary at `start` before it."""
    if place >= len(text):
        return True
    before, after = text[place - 1], text[place]
    if _extends(after):
        return before in "\r\n"
    if before == "\r" and after == "\n":
        return False
    # A joiner ties emoji together, and halves of conjuncts in Indic scripts, which a virama does alone.
    is_joined = before == _JOINER
    letter = text[place - 2 : place - 1] if is_joined else before
    if is_joined and not after.isalnum():
        return after.isspace() or letter.isalnum()
    if letter and unicodedata.combining(letter) == _VIRAMA_CLASS and after.isalpha():
        return False
    if _is_regional(before) and _is_regional(after):
        run = place
        while run > start and _is_regional(text[run - 1]):
            run -= 1
        return (place - run) % 2 == 0
    return True


def _is_in_number(text: str, place: int) -> bool:
    """Tell whether digits, or a separator between digits, stand on both sides of a place."""
    numbers = _NUMBER.finditer(text, max(0, place - 3), place + 3)
    return any(number.start() < place < number.end() for number in numbers)
