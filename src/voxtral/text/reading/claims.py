"""Claims: what rules propose to say for spans of a text, and which of them stand.

No rule sees what another one wrote. Each looks at the text as it is written and claims spans; where claims overlap, the
stronger strength wins, then the longer span, then the earlier one. What stands is applied at once, so no rule can
read the words of another as if somebody had written them, and the list of claims is what a preview shows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import IntEnum
from operator import itemgetter
from typing import NamedTuple

from voxtral.text.edits import Edit


class Strength(IntEnum):
    """How strong a claim is; the smallest number is the strongest."""

    ASKED = 0  # by the one who wrote the text: SSML
    DICTIONARY = 1
    WHOLE = 2  # what falls apart if a part of it is read by itself: addresses, paths, versions
    COMPOSED = 3  # of a number and what stands around it: dates, times, prices, measures, telephone numbers
    NUMBER = 4
    WORD = 5  # abbreviations, initials, signs


class Claim(NamedTuple):
    """What a rule says for a span.

    Attributes:
        start: of the span in the text that the rule looked at.
        end: the character after its last one.
        edits: replacements inside of the span, in order and without overlap; more than one where the text may be cut
            between them. None at all: the span stays as it is written, and no weaker rule may touch it.
        kind: such as "date", for a preview.
        strength: against other claims.
    """

    start: int
    end: int
    edits: tuple[Edit, ...]
    kind: str
    strength: Strength = Strength.COMPOSED

    def moved(self, by: int) -> Claim:
        """Give the same claim where its text stands further on in another."""
        if by == 0:
            return self
        edits = tuple(Edit(edit.start + by, edit.end + by, edit.replacement) for edit in self.edits)
        return Claim(self.start + by, self.end + by, edits, self.kind, self.strength)

    def spoken(self, text: str) -> str:
        """Write out the span of a text as the claim wants it."""
        if len(self.edits) == 1 and self.edits[0].start == self.start and self.edits[0].end == self.end:
            return self.edits[0].replacement
        parts: list[str] = []
        position = self.start
        for edit in self.edits:
            parts += (text[position : edit.start], edit.replacement)
            position = edit.end
        parts.append(text[position : self.end])
        return "".join(parts)


def claim(start: int, end: int, spoken: str, kind: str, strength: Strength = Strength.COMPOSED) -> Claim:
    """Claim a span as a whole."""
    return Claim(start, end, (Edit(start, end, spoken),), kind, strength)


def keep(start: int, end: int, kind: str, strength: Strength = Strength.COMPOSED) -> Claim:
    """Claim that a span stays as it is written."""
    return Claim(start, end, (), kind, strength)


def settle(claims: Iterable[Claim], length: int, taken: bytearray | None = None) -> list[Claim]:
    """Choose the claims that stand, in the order of the text.

    Args:
        claims: spans that are not empty.
        length: of the text.
        taken: 1 for each character that stronger claims have taken; what is chosen is added. None: nothing is taken.
    """
    if taken is None:
        taken = bytearray(length)
    standing: list[Claim] = []
    for group in _overlapping(claims):
        for each in sorted(group, key=_rank) if len(group) > 1 else group:
            start, end = each.start, each.end
            if taken.find(1, start, end) < 0:
                taken[start:end] = b"\1" * (end - start)
                standing.append(each)
    standing.sort(key=_start)
    return standing


def _overlapping(claims: Iterable[Claim]) -> Iterator[list[Claim]]:
    """Part claims into groups that overlap each other nowhere; most claims are alone."""
    group: list[Claim] = []
    reached = 0
    for each in sorted(claims, key=_start):
        if each.start >= reached and group:
            yield group
            group = []
        group.append(each)
        reached = max(reached, each.end)
    if group:
        yield group


def _rank(found: Claim) -> tuple[int, int, int]:
    return found.strength, found.start - found.end, found.start


_start = itemgetter(0)


def edits_of(claims: Iterable[Claim]) -> Iterator[Edit]:
    """List the edits of claims that stand."""
    for each in claims:
        yield from each.edits
