"""Patterns of many words match what an alternation of them would."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from voxtral.text.reading.patterns import any_of

WORDS = st.sets(st.text("ab/.$²", min_size=1, max_size=4), min_size=1, max_size=12)


@given(WORDS, st.text("ab/.$²", max_size=8))
def test_the_longest_word_matches(words: set[str], text: str) -> None:
    longest = max((word for word in words if text.startswith(word)), key=len, default=None)
    found = re.match(any_of(words), text)
    assert (found.group() if found else None) == longest


def test_no_words_match_nothing() -> None:
    assert re.search(any_of([]), "anything") is None
