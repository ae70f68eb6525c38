"""Word times without a model: by the share of the characters, between the pauses that punctuation explains.

What is left where a checkpoint has no aligner; never called attention in any output. docs/ALIGN.md has the figures.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from voxtral.align.sound import Sound
from voxtral.align.words import Span, WordSpan, spoken_words
from voxtral.types import WordTime

if TYPE_CHECKING:
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]
    Floats = npt.NDArray[np.float64]

_SILENCE_S = 0.12
# What anything but a letter takes of the time of one.
_REST = 0.3
# What the end of a phrase takes besides, because people slow down there, in letters.
_FINAL = 2.0
# A pause and a punctuation mark that lie farther apart than this share of the text do not belong together.
_MAX_APART = 0.15

Stretch = tuple[float, float]
"""Start and end, in seconds."""


def proportional_times(
    spoken: str,
    source: str,
    sources: Sequence[Span],
    samples: Samples,
    sample_rate: int,
    *,
    within: Span | None = None,
) -> tuple[WordTime, ...]:
    """Share the sound of a finished segment out among its words.

    Args:
        spoken: the segment as the model was given it.
        source: the text as given.
        sources: as in `spoken_words`.
        samples: [S], of the segment as it was made.
        sample_rate: in Hz.
        within: as in `spoken_words`.

    Returns:
        Each word once, in order, with confidence 0; seconds from the start of the segment.
    """
    if not spoken:
        return ()
    chars = [char.encode("utf-8", "surrogatepass") for char in spoken]
    words = spoken_words(spoken, source, sources, chars, within=within)
    sound = Sound(sample_rate)
    sound.add(samples)
    breaks = _breaks(spoken)
    costs = np.array([1.0 if unicodedata.category(char)[0] in "LMN" else _REST for char in spoken])
    costs[[place - 1 for place in [*breaks, len(spoken)]]] += _FINAL
    passed = np.concatenate(([0.0], np.cumsum(costs)))
    clock = _Clock(passed / max(passed[-1], _REST), breaks, sound)
    times: list[WordTime] = []
    latest = 0.0
    for span in words.words:
        start_s, end_s = clock.times(span)
        start_s = max(latest, start_s)
        latest = max(start_s, end_s) if span.is_sounding else latest
        times.append(WordTime(span.text_start, span.text_end, start_s, max(start_s, end_s), 0.0))
    return tuple(times)


def _breaks(spoken: str) -> list[int]:
    """List the places behind punctuation at which a speaker may pause, inside of a text."""
    kinds = [unicodedata.category(char)[0] for char in spoken]
    return [
        place
        for place in range(1, len(spoken))
        if kinds[place - 1] == "P"
        and kinds[place] != "P"
        and any(kind in "LN" for kind in kinds[place:])
        and (spoken[place].isspace() or not spoken[place - 1].isascii())
    ]


class _Clock:
    """Maps places among the characters to seconds.

    Args:
        shares: [C + 1], of the text before each place.
        breaks: places at which a speaker may pause.
        sound: of the segment.
    """

    def __init__(self, shares: Floats, breaks: Sequence[int], sound: Sound) -> None:
        first, last = sound.span()
        gaps = sound.gaps(_SILENCE_S)
        sounding = list(pairwise([first, *(time for gap in gaps for time in gap), last]))[::2]
        lengths = np.array([stop - start for start, stop in sounding])
        passed = np.cumsum(lengths)[:-1] / max(float(lengths.sum()), 1e-9)
        anchors = match_in_order([float(shares[place]) for place in breaks], [float(share) for share in passed])
        self._shares = shares
        # Where one part of the text ends and the next begins, with the sounding stretches of each part.
        self._bounds = [0, *(breaks[index] for index, _ in anchors), len(shares) - 1]
        cuts = [0, *(gap + 1 for _, gap in anchors), len(sounding)]
        self._stretches = [sounding[start:stop] for start, stop in pairwise(cuts)]

    def times(self, span: WordSpan) -> tuple[float, float]:
        """Give start and end of a word."""
        start, end = round(span.first), round(span.last)
        part = max(0, int(np.searchsorted(self._bounds[1:-1], start, side="right")))
        ending = max(part, int(np.searchsorted(self._bounds[1:-1], end, side="left")))
        return self._time(part, start, after=True), self._time(ending, end, after=False)

    def _time(self, part: int, place: int, *, after: bool) -> float:
        begin, end = self._shares[self._bounds[part]], self._shares[self._bounds[part + 1]]
        share = (self._shares[place] - begin) / (end - begin) if end > begin else 0.0
        stretches = self._stretches[part]
        left = min(1.0, max(0.0, float(share))) * sum(stop - start for start, stop in stretches)
        for start, stop in stretches:
            # At the border of two stretches a word begins in the second, and ends in the first.
            if left < stop - start or (left == stop - start and not after):
                return start + left
            left -= stop - start
        return stretches[-1][1]


def match_in_order(first: Sequence[float], second: Sequence[float]) -> list[tuple[int, int]]:
    """Pair numbers of two rising lists in order, so that the squares of their differences are least.

    A number may stay alone, which costs as much as the largest difference that is allowed.

    >>> match_in_order([0.2, 0.5, 0.8], [0.22, 0.79])
    [(0, 0), (2, 1)]
    """
    alone = _MAX_APART**2 / 2
    table = np.zeros((len(first) + 1, len(second) + 1))
    table[:, 0], table[0] = alone * np.arange(len(first) + 1), alone * np.arange(len(second) + 1)
    for row, one in enumerate(first, 1):
        for column, other in enumerate(second, 1):
            paired = table[row - 1, column - 1] + (one - other) ** 2
            table[row, column] = min(paired, table[row - 1, column] + alone, table[row, column - 1] + alone)
    pairs: list[tuple[int, int]] = []
    row, column = len(first), len(second)
    while row and column:
        if table[row, column] == table[row - 1, column] + alone:
            row -= 1
        elif table[row, column] == table[row, column - 1] + alone:
            column -= 1
        else:
            row, column = row - 1, column - 1
            pairs.append((row, column))
    return pairs[::-1]
