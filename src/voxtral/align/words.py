"""The words of a text, and where each lies among the tokens that the model was given.

Words are those of the text as given. What is spoken may differ: numbers in words, kana, markup that is gone; each
character of it knows where it came from. Knows no model and no seconds. Read next: `voxtral.align.times`.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from voxtral.text.graphemes import grapheme_ends, has_unspaced_script

Span = tuple[int, int]
"""Start (inclusive) and end (exclusive)."""

_RUN = re.compile(r"\S+")

# Besides letters, numbers and currencies: what is read out as a word.
_READ_OUT = frozenset("%‰&@§+=°")
# Punctuation inside of words, which nobody pauses at.
_TYING = frozenset("-‐‑'’_/")
_OPENING = ("Ps", "Pi")
_KANA = ("HIRAGANA", "KATAKANA")


@dataclass(frozen=True)
class WordSpan:
    """A word of the text as given, and its place among the tokens of the text as spoken.

    Places are on a line on which token k reaches from k to k + 1; in a token that several words share, each has as
    much as it has of the token's bytes, white space excepted.

    Attributes:
        text_start: offset into the text as given, inclusive.
        text_end: exclusive.
        first: place where its first letter begins.
        last: place where its last letter ends.
        is_sounding: whether there is anything of it to be heard; not of lone punctuation and of what is not spoken.
        follows_pause: whether it is the first that is heard, or comes after punctuation or the end of a paragraph.
        is_opening: of what does not sound: whether it belongs to the word after it, as an opening bracket does.
    """

    text_start: int
    text_end: int
    first: float
    last: float
    is_sounding: bool
    follows_pause: bool = False
    is_opening: bool = False


@dataclass(frozen=True)
class WordSpans:
    """All words of a segment, each once and in order.

    Attributes:
        words: in the order of the text; `first` and `last` of those that sound never decrease.
        num_tokens: n, of the text as spoken.
        sizes: of each token, how much there is to say of it: 0 of marks and spaces, 2 of kana, which are syllables, 1
            of anything else.
    """

    words: tuple[WordSpan, ...]
    num_tokens: int
    sizes: tuple[int, ...]


def verbatim_sources(start: int, end: int) -> list[Span]:
    """Give the sources of a text that is spoken as it was given, from one offset to another."""
    return [(place, place + 1) for place in range(start, end)]


def spoken_words(
    spoken: str, source: str, sources: Sequence[Span], pieces: Sequence[bytes], *, within: Span | None = None
) -> WordSpans:
    """Find the words of a segment among its tokens.

    A word is a longest run without white space. Where a script writes no spaces, it is the shortest run of graphemes
    that shares no token with its neighbours, with the punctuation that belongs to it. Lone punctuation is a word of
    its own, as is what is not spoken.

    Args:
        spoken: the segment as the model was given it.
        source: the text as given.
        sources: for each character of `spoken` the part of `source` that it came from; neither end ever decreases.
        pieces: the bytes of each token of `spoken`.
        within: the part of `source` whose words are wanted; what it cuts is a word on both sides. By default all.

    Raises:
        ValueError: the tokens are not those of `spoken`, or the sources do not fit it.
    """
    if b"".join(pieces) != spoken.encode("utf-8", "surrogatepass") or len(sources) != len(spoken):
        raise ValueError(
            f"{len(pieces)} tokens and {len(sources)} sources for {len(spoken)} characters; the bytes of the tokens "
            "must be those of the text, and each character must have a source"
        )
    begins, ends = _places(spoken, pieces)
    words = list(_source_words(source, within or (0, len(source)), sources, begins))
    shares = _share_out(spoken, source, sources, words)
    found: list[WordSpan] = []
    heard_until = 0  # the character of `spoken` after the last that sounded
    for (start, end), chars in zip(words, shares, strict=True):
        sounding = [char for char in chars if _sounds(spoken[char])]
        if not sounding:
            category = unicodedata.category(source[end - 1])
            place = float(ends[heard_until - 1]) if heard_until else 0.0
            is_opening = category in _OPENING or source[start:end] in ("¿", "¡")
            found.append(WordSpan(start, end, place, place, is_sounding=False, is_opening=is_opening))
            continue
        # Combining marks at the end belong to the last letter.
        last = sounding[-1]
        while last + 1 in chars and unicodedata.category(spoken[last + 1])[0] == "M":
            last += 1
        between = spoken[heard_until : sounding[0]]
        found.append(
            WordSpan(
                start,
                end,
                float(begins[sounding[0]]),
                float(ends[last]),
                is_sounding=True,
                follows_pause=not heard_until or any(map(_is_pause, between)),
            )
        )
        heard_until = last + 1
    return WordSpans(tuple(found), len(pieces), tuple(map(_size, pieces)))


def _size(piece: bytes) -> int:
    """Say how much there is to say of a token; one that ends within a character says something."""
    text = piece.decode("utf-8", "replace")
    if any(unicodedata.name(char, "").startswith(_KANA) for char in text):
        return 2
    return int(any(_sounds(char) or char == "\ufffd" for char in text))


def _sounds(char: str) -> bool:
    category = unicodedata.category(char)
    return category[0] in "LN" or category == "Sc" or char in _READ_OUT


def _is_pause(char: str) -> bool:
    return char == "\n" or (unicodedata.category(char)[0] == "P" and char not in _TYING)


def _places(spoken: str, pieces: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
    """Give the places where each character begins and ends: [C] float64 each."""
    sizes = np.array([len(char.encode("utf-8", "surrogatepass")) for char in spoken], dtype=np.int64)
    is_space = np.repeat([char.isspace() for char in spoken], sizes)
    tokens = np.repeat(np.arange(len(pieces)), [len(piece) for piece in pieces])
    # White space takes no part of a token that says something.
    weights = np.where(is_space, 0.0, 1.0)
    totals = np.bincount(tokens, weights, minlength=len(pieces))
    weights = np.where(totals[tokens] == 0, 1.0, weights)
    totals = np.bincount(tokens, weights, minlength=len(pieces))
    shares = weights / totals[tokens]
    stops = np.cumsum(shares)
    # Cumulated over all tokens the shares would be off by rounding; each token starts anew.
    firsts = np.concatenate(([True], tokens[1:] != tokens[:-1])) if len(tokens) else np.zeros(0, dtype=bool)
    before = np.repeat((stops - shares)[firsts], np.diff(np.append(np.flatnonzero(firsts), len(tokens))))
    byte_ends = tokens + np.minimum(1.0, np.round(stops - before, 9))
    byte_begins = tokens + np.maximum(0.0, np.round(stops - shares - before, 9))
    last_bytes = np.cumsum(sizes) - 1
    return byte_begins[last_bytes - sizes + 1], byte_ends[last_bytes]


def _source_words(source: str, within: Span, sources: Sequence[Span], begins: np.ndarray) -> Iterator[Span]:
    source_ends = [end for _, end in sources]
    for run in _RUN.finditer(source, *within):
        start, end = run.span()
        if has_unspaced_script(run.group()):
            for cut in _unspaced_cuts(source, start, end):
                if _is_between_tokens(cut, sources, source_ends, begins):
                    yield start, cut
                    start = cut
        yield start, end


def _unspaced_cuts(source: str, start: int, end: int) -> Iterator[int]:
    """List the places in a run where a new word may begin, as far as characters tell."""
    stops = [*grapheme_ends(source, start, end), end]
    begin = start
    previous = ""
    for stop in stops:
        grapheme = source[begin:stop]
        if not grapheme:
            continue
        if previous and not _opens(previous):
            begins_anew = _sounds(grapheme[0]) or _opens(grapheme)
            if begins_anew and (has_unspaced_script(previous + grapheme) or not _sounds(previous[0])):
                yield begin
        begin, previous = stop, grapheme


def _opens(grapheme: str) -> bool:
    return unicodedata.category(grapheme[0]) in _OPENING


def _is_between_tokens(cut: int, sources: Sequence[Span], source_ends: list[int], begins: np.ndarray) -> bool:
    """Tell whether no character and no token of what is spoken belongs to both sides of a place in the source."""
    char = bisect_right(source_ends, cut)
    return char == len(sources) or (sources[char][0] >= cut and float(begins[char]).is_integer())


def _share_out(spoken: str, source: str, sources: Sequence[Span], words: Sequence[Span]) -> list[range]:
    """Give each word its characters of what is spoken."""
    word_ends = [end for _, end in words]
    bounds: list[tuple[int, int] | None] = [None] * len(words)

    def give(word: int, start: int, stop: int) -> None:
        if start < stop:
            first = bounds[word]
            bounds[word] = (start if first is None else first[0], stop)

    for (start, end), group in groupby(range(len(spoken)), lambda char: sources[char]):
        chars = list(group)
        first = bisect_right(word_ends, start)
        stop = first
        while stop < len(words) and words[stop][0] < end:
            stop += 1
        if stop == first + 1:
            give(first, chars[0], chars[-1] + 1)
        elif stop > first:
            cuts = _cut_evenly(spoken, chars[0], chars[-1] + 1, [source[slice(*words[w])] for w in range(first, stop)])
            for offset in range(stop - first):
                give(first + offset, cuts[offset], cuts[offset + 1])
    return [range(*(bound or (0, 0))) for bound in bounds]


def _cut_evenly(spoken: str, start: int, stop: int, written: Sequence[str]) -> list[int]:
    """Cut what stands for several words, as "five percent" for "5 %", in proportion and between its own words."""
    sizes = np.array([sum(map(_sounds, word)) for word in written], dtype=np.float64)
    if not sizes.any():
        sizes[:] = 1.0
    spaces = [place for place in range(start + 1, stop) if spoken[place].isspace()]
    cuts = [start]
    for share in np.cumsum(sizes)[:-1] / sizes.sum():
        wanted = start + share * (stop - start)
        free = [place for place in spaces if place > cuts[-1]]
        cut = min(free, key=lambda place: abs(place - wanted)) if free and 0 < share < 1 else round(wanted)
        cuts.append(max(cuts[-1], cut))
    return [*cuts, stop]
