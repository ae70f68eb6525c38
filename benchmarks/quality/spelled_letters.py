"""Letters that stand alone in a text and are called by their names, as in `The U K did not` or `answer B, C or F`.

nano has no sounds for them (`benchmarks.quality.letters` measures that), so twins have gaps where they stand, by this
rule and not by hand: a word of one letter is spelled unless the language has such a word. Knows no texts.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

# Words of one letter. Where letters stand for syllables (kana) any of them may be one, and none is spelled.
_WORDS = {
    "en": "ai", "fr": "aày", "de": "", "es": "aeouy", "it": "aeèio", "pt": "aeoàéó", "nl": "u", "ar": "و", "hi": "नवआ",
}  # fmt: skip
_UNSPELLED = ("ja",)
_APOSTROPHES = "'’"


def find_spelled(text: str, language: str) -> list[tuple[int, int]]:
    """Find the runs of letters that are spelled: start and end, with what stands between them.

    A capital that may be a word is one, unless it goes on with letters or is followed by one that cannot be a word.

    >>> text = "I saw that the U K did it, as a rule. A vote for B, C or F B I"
    >>> [text[start:stop] for start, stop in find_spelled(text, "en")]
    ['U K', 'B, C', 'F B I']
    """
    if language in _UNSPELLED:
        return []
    words = list(_words(text))
    runs: list[tuple[int, int]] = []
    for number, (start, stop) in enumerate(words):
        if stop - start > 1:
            continue
        between = text[runs[-1][1] : start] if runs and words[number - 1][1] == runs[-1][1] else None
        if _may_be_word(text[start], language):
            is_begun = between is not None and between.isspace()
            following = text[slice(*words[number + 1])] if number + 1 < len(words) else ""
            goes_on = len(following) == 1 and not _may_be_word(following, language)
            if not text[start].isupper() or not (is_begun or goes_on):
                continue
        if between is None:
            runs.append((start, stop))
        else:
            runs[-1] = (runs[-1][0], stop)
    return runs


def _words(text: str) -> Iterator[tuple[int, int]]:
    """List the words; an apostrophe ties letters, as in `l'eau`, and marks belong to theirs."""
    start: int | None = None
    for place, char in enumerate(f"{text} "):
        is_inside = unicodedata.category(char)[0] in "LMN" or char in _APOSTROPHES
        if is_inside and start is None:
            start = place
        elif not is_inside and start is not None:
            yield start, place
            start = None


def _may_be_word(letter: str, language: str) -> bool:
    return letter.lower() in _WORDS[language] or not letter.isalpha()
