"""All rules together: what is said for a text, claim by claim."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from voxtral.text.reading.claims import Claim, settle
from voxtral.text.reading.numbers import number_claims
from voxtral.text.reading.written import Written

Rule = Callable[[Written], Iterator[Claim]]

RULES: tuple[Rule, ...] = (number_claims,)


def find_claims(written: Written, given: Iterable[Claim] = ()) -> list[Claim]:
    """List what is to be said otherwise than it is written, in the order of the text and without overlap.

    Args:
        written: the text.
        given: claims from elsewhere, such as those of a dictionary; they are settled with the others.
    """
    claims = [*given]
    for rule in RULES:
        claims += rule(written)
    return settle(claims, len(written.text))
