"""Normalisation: a written text to one that can be read aloud, with a map back to its source.

Removes markup, emoji and invisible characters and writes numbers in words; what it does not understand
stays unchanged. Knows nothing of tokens or of limits on length. `markup.py` and `numbers.py` are its
two large passes; `segment.py` cuts what comes out.
"""

from __future__ import annotations

import re
import unicodedata
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from voxtral.text.edits import Draft, Edit
from voxtral.text.language import resolve_language
from voxtral.text.markup import strip_markup
from voxtral.text.numbers import spell_numbers

# Controls and separators that part words become spaces; the other invisible characters vanish.
_INVISIBLE = re.compile(
    "(?P<line>\r\n?)"
    "|(?P<space>[\x0b\x0c\x1c-\x1f\x85\u2028\u2029])"
    "|(?P<joiner>[\u200c\u200d])"
    "|[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\u00ad\u034f\u061c\u180b-\u180f\u200b\u200e\u200f\u202a-\u202e"
    "\u2060-\u206f\ufe00-\ufe0f\ufeff\ufff9-\ufffc\U000e0000-\U000e0fff]+"
)

# Pictographs with an emoji look by default, and symbols that only a variation selector or keycap makes
# emoji. Musical accidentals (U+266D to U+266F) and circled digits (U+2776 to U+2793) are read by people
# as text and stay.
_PICTOGRAPH = (
    "\u231a\u231b\u2328\u23cf\u23e9-\u23f3\u23f8-\u23fa\u2600-\u266c\u2670-\u2775\u2794-\u27bf"
    "\u2b05-\u2b07\u2b1b\u2b1c\u2b50\u2b55\U0001f000-\U0001faff"
)
_EMOJI_PART = rf"(?:[{_PICTOGRAPH}]|[0-9#*]\ufe0f?\u20e3|[^\w\s]\ufe0f)[\ufe0e\ufe0f\u200d\u20e3\U000e0020-\U000e007f]*"
_EMOJI = re.compile(rf"{_EMOJI_PART}(?:[ \t]*{_EMOJI_PART})*")

_SPACE = re.compile(r"\s+")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n")


class Run(NamedTuple):
    """A stretch of normalised text, from `start` to the start of the next run, and where it came from.

    A verbatim run maps character by character; any part of another run comes from its whole source.
    """

    start: int
    source_start: int
    source_end: int
    is_verbatim: bool


@dataclass(frozen=True)
class NormalizedText:
    """A text for speech and its map back to the source.

    Attributes:
        text: the normalised text; paragraphs are separated by a blank line.
        runs: stretches of `text` in order; a few for each change, not one for each character.
    """

    text: str
    runs: tuple[Run, ...]

    def source_span(self, start: int, end: int) -> tuple[int, int]:
        """Map a span of the text to the span of the source that it came from.

        Args:
            start: first character of the span.
            end: the character after the last one, at least `start`.

        Returns:
            Start (inclusive) and end (exclusive) in the source. What was removed belongs to a span only
            if both of its neighbours do. Never decreasing in either argument.

        Raises:
            IndexError: the span does not lie within the text.

        >>> normalized = normalize("Pay **5** now", "en")
        >>> normalized.text
        'Pay five now'
        >>> normalized.source_span(4, 8)
        (6, 7)
        """
        if not 0 <= start <= end <= len(self.text):
            raise IndexError(
                f"span ({start}, {end}) of a text of {len(self.text)} characters; pass 0 <= start <= end <= length"
            )
        if start == end:
            place = self._source_of(start)[0] if start < len(self.text) else self._end
            return place, place
        return self._source_of(start)[0], self._source_of(end - 1)[1]

    def may_part(self, end: int, start: int) -> bool:
        """Tell whether the text may be cut: not where the sources of both sides overlap, as inside a number's words.

        Args:
            end: the character after the last one of what goes before.
            start: first character of what follows, at least `end`.
        """
        if not 0 < end <= start < len(self.text):
            return True
        return self._source_of(end - 1)[1] <= self._source_of(start)[0]

    def num_written(self, start: int, end: int) -> int:
        """Count the characters of the source that a span came from."""
        first, last = self.source_span(start, end)
        return last - first

    @cached_property
    def _run_starts(self) -> array[int]:
        return array("I", (run.start for run in self.runs))

    @property
    def _end(self) -> int:
        return self._source_of(len(self.text) - 1)[1] if self.text else 0

    def _source_of(self, position: int) -> tuple[int, int]:
        run = self.runs[bisect_right(self._run_starts, position) - 1]
        if not run.is_verbatim:
            return run.source_start, run.source_end
        source = run.source_start + position - run.start
        return source, source + 1


def normalize(text: str, language: str, *, in_kana: bool = False) -> NormalizedText:
    r"""Write a text out for speech.

    Removes Markdown, HTML tags, emoji and invisible characters, writes numbers, money, percentages and
    phone numbers in the words of the language (Japanese keeps its digits), and reduces whitespace to
    single spaces and blank lines. Takes time in proportion to the length, and never fails on a text
    unless kana is asked for.

    Args:
        text: any string. Lone surrogates stay, for `check_speakable` to refuse.
        language: any spelling that `resolve_language` takes.
        in_kana: write kanji and digits in kana as well, for a checkpoint that knows Japanese in kana.

    Raises:
        LanguageError: the language is unknown.
        TextError: kana is asked for, and some kanji cannot be read; see `to_kana`.

    >>> normalize("It costs $3.50 :-) \U0001f600", "en").text
    'It costs three dollars and fifty cents :-)'
    """
    code = resolve_language(language)
    draft = _remove_unspoken(Draft.of(text))
    # Entities such as "&#8203;" can hide what the first pass removes.
    draft = _remove_unspoken(strip_markup(draft, code))
    draft = _to_kana(draft) if in_kana else spell_numbers(draft, code)
    draft = draft.apply(_space_edits(draft.text))
    return NormalizedText(draft.text, tuple(_runs(draft.source_starts, draft.source_ends)))


def write_in_kana(text: str) -> NormalizedText:
    """Write Japanese in kana and change nothing else.

    Raises:
        TextError: some kanji cannot be read; see `to_kana`.

    >>> write_in_kana("りんごを 3つ ください。").text
    'りんごを みっつ ください。'
    """
    draft = _to_kana(Draft.of(text))
    return NormalizedText(draft.text, tuple(_runs(draft.source_starts, draft.source_ends)))


def _to_kana(draft: Draft) -> Draft:
    # Imported here, because its tables take 7 ms and no published weights speak Japanese.
    from voxtral.text.kana import to_kana

    return to_kana(draft)


def _remove_unspoken(draft: Draft) -> Draft:
    # Emoji first: their variation selectors and joiners tell them from text.
    draft = draft.apply(_emoji_edits(draft.text))
    return draft.apply(_invisible_edits(draft.text))


def _emoji_edits(text: str) -> Iterator[Edit]:
    """Remove emoji; leave no space before punctuation, and one where words would grow together."""
    taken = 0
    for emoji in _EMOJI.finditer(text):
        start, end = emoji.span()
        following = text[end : end + 1]
        if following in ".,!?;:…)]}»”" and following:
            while start > taken and text[start - 1] in " \t":
                start -= 1
            yield Edit(start, end)
        else:
            yield Edit(start, end, " ")
        taken = end


def _invisible_edits(text: str) -> Iterator[Edit]:
    for found in _INVISIBLE.finditer(text):
        start, end = found.span()
        if found.lastgroup == "joiner" and _is_of_word(text[start - 1 : start]) and _is_of_word(text[end : end + 1]):
            continue  # Between letters it shapes them: Hindi conjuncts, Persian stems.
        yield Edit(start, end, {"line": "\n", "space": " "}.get(found.lastgroup or "", ""))


def _is_of_word(char: str) -> bool:
    return char != "" and unicodedata.category(char)[0] in "LM"


def _space_edits(text: str) -> Iterator[Edit]:
    for space in _SPACE.finditer(text):
        start, end = space.span()
        wanted = " "
        if start == 0 or end == len(text):
            wanted = ""
        elif _BLANK_LINE.search(space.group()):
            wanted = "\n\n"
        if wanted != space.group():
            yield Edit(start, end, wanted)


def _runs(starts: array[int], ends: array[int]) -> Iterator[Run]:
    """Compress the sources of all characters."""
    begin = 0
    is_verbatim = False
    for position, (start, end) in enumerate(zip(starts, ends, strict=True)):
        is_single = end == start + 1
        if position > begin:
            if is_verbatim and is_single and start == starts[position - 1] + 1:
                continue
            if not is_verbatim and start == starts[begin] and end == ends[begin]:
                continue
            # A run of one character may still turn out to be the first of a replacement.
            if position == begin + 1 and start == starts[begin] and end == ends[begin]:
                is_verbatim = False
                continue
            yield Run(begin, starts[begin], ends[begin], is_verbatim)
        begin, is_verbatim = position, is_single
    if starts:
        yield Run(begin, starts[begin], ends[begin], is_verbatim)
