"""Points that belong to the word before them: abbreviations, initials, list markers, German ordinals.

Asks for no language: the lists of all languages hold at once, merged from the files in `data/`. Knows nothing of
lengths or segments; `cut_places.py` asks here what a point is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cache

from voxtral.text.language import LANGUAGES
from voxtral.text.language_data import SentenceWords, WordSet, load_language

_LAST_TOKEN = re.compile(r"[^\s\"“”„«»‹›()\[\]{}/…!?]{1,24}$")
_ELIDED = re.compile(r"^[^\W\d_]{1,5}['’](?=[^\W\d_])")
_WORD_BEFORE = re.compile(r"([^\W\d_]{1,12})\s{1,3}$")
_GOES_ON_AS_RANGE = re.compile(r"\s{0,2}[-–]\s?\d")
_ROMAN = re.compile(r"[IVXLC]{1,6}")


@dataclass(frozen=True)
class _Lists:
    """The lists of all languages: abbreviations, months and what stands before an ordinal with its point."""

    words: SentenceWords
    months: WordSet
    before_ordinals: WordSet


@cache
def _lists() -> _Lists:
    languages = [load_language(code) for code in LANGUAGES]
    ordinals = [found for language in languages if language.numbers and (found := language.numbers.ordinals_with_point)]
    words = {
        each.name: _union(getattr(language.sentences, each.name) for language in languages)
        for each in fields(SentenceWords)
    }
    return _Lists(
        SentenceWords(**words),
        months=_union(found.months | found.short_months for found in ordinals),
        before_ordinals=_union(found.n_after | found.articles | found.other_determiners for found in ordinals),
    )


def _union(sets: Iterable[WordSet]) -> WordSet:
    return frozenset[str]().union(*sets)


def is_abbreviation(text: str, point: int, following: str, sentence_start: int) -> bool:
    """Tell whether a point belongs to the word before it.

    Args:
        text: the source.
        point: the offset of the point.
        following: the word after it; "" where there is none.
        sentence_start: where the sentence begins.
    """
    found = _LAST_TOKEN.search(text, max(0, point - 24), point)
    if found is None:
        return False
    # "l'Avv." and "l’art." are an elided article and an abbreviation.
    token = _ELIDED.sub("", found.group().lstrip("'’‘*_~`-–—")).rstrip("°ºª")
    folded = token.casefold()
    words = _lists().words
    if folded in words.abbreviations_at_end:
        return not following[:1].isupper()
    if folded in words.abbreviations or folded.rsplit("-", 1)[-1] in words.abbreviations:
        return True
    if folded in words.abbreviations_before_numbers and following[:1].isdigit():
        return True
    if token.islower() and token in words.abbreviations_in_small_letters:
        return True
    is_number = token.isdecimal() and len(token) <= 3
    if is_number and _GOES_ON_AS_RANGE.match(text, point + 1):
        return True  # "aus dem 1. - 3. Jahrhundert"
    if (is_number or _ROMAN.fullmatch(token)) and found.end() - len(token) <= sentence_start:
        return True  # A list marker, or "1. Kapitel".
    if folded in words.acronyms or _is_initials(token):
        is_end = token.isupper() and following in words.first_words and found.end() - len(token) > sentence_start
        return not is_end
    return is_number and _is_german_ordinal(text, found.start(), following)


def _is_initials(token: str) -> bool:
    """Recognise "J", "U.S.A", "z.B" and "J.-P"."""
    parts = [part.lstrip("-") for part in token.split(".")]
    return all(len(part) == 1 and (part.isupper() or part.islower()) for part in parts)


def _is_german_ordinal(text: str, start: int, following: str) -> bool:
    """Recognise "am 3. Mai" and "das 1. Kapitel", by what is around the number."""
    lists = _lists()
    is_short_number = following[:1].isdigit() and len(following) <= 2
    if following.lower() in lists.months or is_short_number or following[:1].islower():
        return True
    before = _WORD_BEFORE.search(text, max(0, start - 16), start)
    return before is not None and before.group(1).lower() in lists.before_ordinals
