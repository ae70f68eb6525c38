"""Cues: what stands on the screen together, and when.

A cue has two lines at most, of 42 characters or 20 wide ones, and lasts from 1 to 7 seconds; between two are 80 ms at
least. A text is cut after sentences where that goes, else after clauses, else between words, and inside of a word only
where that alone is longer than a line. The rules hold whatever the words and times are: a cue that would be too short
for its neighbour comes a little late, and one that is heard for longer than 7 seconds leaves early.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Container, Iterable
from dataclasses import dataclass, replace

from voxtral.captions.words import timed_words
from voxtral.text.cut_places import Rank, Scanner
from voxtral.text.graphemes import grapheme_ends
from voxtral.types import SegmentInfo

MIN_MS, MAX_MS, GAP_MS = 1000, 7000, 80

# A line holds 42 narrow characters or 20 wide ones: both are whole numbers of these units.
_LINE, _NARROW, _WIDE = 840, 20, 42

# What a cut costs at each place; a short cue costs as much as two cuts between words.
_CUT_COSTS = {
    Rank.SENTENCE: 0.0,
    Rank.SOFT_END: 0.5,
    Rank.CLAUSE: 1.0,
    Rank.COMMA: 1.5,
    Rank.SPACE: 4.0,
    Rank.GLUE: 6.0,
}
_UNSPACED_CUT, _CUT_IN_WORD, _ODD_CUT = 5.0, 10.0, 20.0
_SHORT = 8.0

# A sentence that ends inside of a cue, a second of silence inside of one, and a cue that is full.
_INNER_END, _INNER_SILENCE, _FULL = 0.5, 2.0, 0.5
_SILENCE_MS, _LONGEST_SILENCE_MS = 600, 2000

# No line begins with these where no space is before them.
_NEVER_FIRST = frozenset("!?;:,.…)]}%٪؛،؟」』】）、。！？”’»›ーぁぃぅぇぉっゃゅょァィゥェォッャュョ")


@dataclass(frozen=True)
class Part:
    """A word in a cue, or a piece of one that is longer than a line.

    Attributes:
        text: as given, without control characters.
        start_ms: when it is first heard.
        has_space: whether it is parted from what is before it.
    """

    text: str
    start_ms: int
    has_space: bool


@dataclass(frozen=True)
class Cue:
    """What stands on the screen together.

    Attributes:
        start_ms: when it appears, in milliseconds of the audio.
        end_ms: when it goes.
        lines: one or two.
    """

    start_ms: int
    end_ms: int
    lines: tuple[tuple[Part, ...], ...]

    @property
    def texts(self) -> tuple[str, ...]:
        """The lines as text."""
        return tuple(join(line) for line in self.lines)


@dataclass(frozen=True)
class _Unit:
    """What is never parted, with the cost of a cut behind it."""

    part: Part
    end_ms: int
    width: int
    cost: float


def join(parts: Iterable[Part]) -> str:
    """Write parts one after another."""
    return "".join(f"{' ' if part.has_space else ''}{part.text}" for part in parts).lstrip(" ")


def cut_cues(text: str, segments: Iterable[SegmentInfo]) -> list[Cue]:
    """Cut a spoken text into cues; every word is in one of them, in order.

    Args:
        text: as given.
        segments: of its speech, in order, with or without words.
    """
    units = _units(text, segments)
    return _timed([(units[start:stop], _in_lines(units[start:stop])) for start, stop in _cuts(units)])


def _units(text: str, segments: Iterable[SegmentInfo]) -> list[_Unit]:
    scanner = Scanner(text, max_quote=0)
    scanner.scan_to(len(text))
    costs = {place: _CUT_COSTS[rank] for rank, places in scanner.places.items() for place in places}
    units: list[_Unit] = []
    for word in timed_words(text, segments):
        start_ms, end_ms = round(1000 * word.start_s), round(1000 * word.end_s)
        pieces = _pieces(text, word.text_start, word.text_end, costs)
        scale, begun = (end_ms - start_ms) / sum(width for _, _, width in pieces), 0
        for start, stop, width in pieces:
            at_ms, begun = round(start_ms + begun * scale), begun + width
            if not (shown := _clean(text[start:stop])):
                continue
            has_space = bool(start) and text[start - 1].isspace()
            if units and not has_space and shown[0] in _NEVER_FIRST:
                units[-1] = replace(units[-1], cost=_ODD_CUT)
            part = Part(shown, at_ms, has_space)
            is_followed = text[stop : stop + 1].isspace()
            usual = _CUT_IN_WORD if stop < word.text_end else _CUT_COSTS[Rank.GLUE] if is_followed else _UNSPACED_CUT
            units.append(_Unit(part, round(start_ms + begun * scale), width, costs.get(stop, usual)))
    return units


def _pieces(text: str, start: int, stop: int, places: Container[int]) -> list[tuple[int, int, int]]:
    """Cut a word at good places, and into pieces that fit into a line: start, stop and width of each."""
    if text[start:stop].isascii() and (stop - start) * _NARROW <= _LINE:
        return [(start, stop, (stop - start) * _NARROW)]
    pieces: list[tuple[int, int, int]] = []
    width, at = 0, start
    # A word may begin inside of a grapheme: the last end is the word's all the same.
    ends = [end for end in grapheme_ends(text, start, stop) if end < stop]
    for end in [*ends, stop]:
        is_wide = any(unicodedata.east_asian_width(character) in "WF" for character in text[at:end])
        more = _WIDE if is_wide else _NARROW
        if width + more > _LINE or (width and at in places):
            pieces.append((start, at, width))
            start, width = at, 0
        width, at = width + more, end
    return [*pieces, (start, stop, width)]


def _clean(text: str) -> str:
    """Leave out what no file of text should hold."""
    if text.isprintable():
        return text
    kinds = ((character, unicodedata.category(character)) for character in text)
    return "".join("\ufffd" if kind == "Cs" else character for character, kind in kinds if kind != "Cc")


def _cuts(units: list[_Unit]) -> list[tuple[int, int]]:
    """Choose the cues of least cost: where each begins and stops among the units."""
    num_units = len(units)
    best = [0.0, *[math.inf] * num_units]
    begins = [0] * (num_units + 1)
    for start in range(num_units):
        for stop, cost in _costs(units, start):
            if best[start] + cost < best[stop]:
                best[stop], begins[stop] = best[start] + cost, start
    cuts: list[tuple[int, int]] = []
    stop = num_units
    while stop:
        cuts.append((begins[stop], stop))
        stop = begins[stop]
    return cuts[::-1]


def _costs(units: list[_Unit], start: int) -> Iterable[tuple[int, float]]:
    """Judge each cue that begins at a unit and keeps the rules."""
    first_ms = units[start].part.start_ms
    width = total = inner = 0.0
    is_second_line = False
    for index in range(start, len(units)):
        unit = units[index]
        if index > start:
            if unit.end_ms - first_ms > MAX_MS:
                return
            before = units[index - 1]
            silence_ms = unit.part.start_ms - before.end_ms
            if silence_ms > _SILENCE_MS:
                inner += _INNER_SILENCE * min(silence_ms, _LONGEST_SILENCE_MS) / 1000
            inner += _INNER_END * (before.cost == 0.0)
        more = unit.width + _NARROW * unit.part.has_space
        if index > start and width + more > _LINE:
            if is_second_line:
                return
            is_second_line, width = True, unit.width
        else:
            width += more if index > start else unit.width
        total += unit.width
        is_last = index + 1 == len(units)
        room_ms = math.inf if is_last else units[index + 1].part.start_ms - GAP_MS - first_ms
        short = _SHORT * max(0.0, 1.0 - room_ms / MIN_MS)
        cut = 0.0 if is_last else unit.cost
        yield index + 1, cut + short + inner + _FULL * (total / (2 * _LINE)) ** 2


def _in_lines(units: list[_Unit]) -> tuple[tuple[Part, ...], ...]:
    """Break a cue into two lines where it needs them: at a good place, and evenly."""
    parts = tuple(unit.part for unit in units)
    widths = [unit.width + _NARROW * unit.part.has_space for unit in units]
    total = sum(widths) - _NARROW * parts[0].has_space
    if total <= _LINE:
        return (parts,)
    choices: list[tuple[float, int]] = []
    first = -_NARROW * parts[0].has_space
    for index in range(1, len(units)):
        first += widths[index - 1]
        second = total - first - _NARROW * parts[index].has_space
        if max(first, second) <= _LINE:
            choices.append((units[index - 1].cost / 4 + abs(first - second) / _LINE, index))
    _, place = min(choices)
    return parts[:place], parts[place:]


def _timed(cues: list[tuple[list[_Unit], tuple[tuple[Part, ...], ...]]]) -> list[Cue]:
    """Say when each cue is seen."""
    made: list[Cue] = []
    free_ms = 0
    for index, (units, lines) in enumerate(cues):
        start_ms = max(units[0].part.start_ms, free_ms)
        end_ms = max(units[-1].end_ms, start_ms + MIN_MS)
        if index + 1 < len(cues):
            # Up to the next cue, which has to wait where this one would be too short.
            end_ms = max(min(end_ms, cues[index + 1][0][0].part.start_ms - GAP_MS), start_ms + MIN_MS)
        end_ms = min(end_ms, start_ms + MAX_MS)
        made.append(Cue(start_ms, end_ms, lines))
        free_ms = end_ms + GAP_MS
    return made
