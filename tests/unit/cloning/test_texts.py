"""Texts of the package: every language has its own, and what is drawn can be said."""

from __future__ import annotations

import random

import pytest

from voxtral.cloning.texts import LANGUAGES, TextSourceError, load_texts
from voxtral.text.clean import clean_unless_off


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_texts_that_can_be_said(language: str) -> None:
    source, draw = load_texts(language), random.Random(0)
    drawn = [source.draw(draw) for _ in range(60)]
    assert len(set(drawn)) > 50
    assert all(clean_unless_off(text, "clean").text for text in drawn)
    assert max(map(len, drawn)) < 400
    again = random.Random(0)
    assert [source.draw(again) for _ in range(60)] == drawn


def test_a_language_without_texts_is_refused() -> None:
    for language in ("xx", "../texts/en", ""):
        with pytest.raises(TextSourceError, match="its own texts"):
            load_texts(language)
