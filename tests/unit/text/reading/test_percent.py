"""Percentages, with their sign on either side."""

from __future__ import annotations

import pytest

from voxtral.text.edits import Draft
from voxtral.text.reading.reader import read_aloud


def _said(text: str, language: str) -> str:
    return read_aloud(Draft.of(text), language).text


@pytest.mark.parametrize(
    ("language", "written", "spoken"),
    [
        (
            "en",
            "5%, 5 %, 5.5%, 2%-10%, 5-10%",
            ("five percent, five percent, five point five percent, two percent to ten percent, five to ten percent"),
        ),
        (
            "de",
            "1 %, 50%ige Lösung, 0,5 ‰",
            "ein Prozent, fünfzigprozentige Lösung, null Komma fünf Promille",
        ),
        ("fr", "1 %, 5,5 %", "un pour cent, cinq virgule cinq pour cent"),
        ("es", "21 %", "veintiuno por ciento"),
        ("it", "1 %", "uno per cento"),
        ("pt", "1 %, 2,5 %", "um por cento, dois vírgula cinco por cento"),
        ("nl", "1 %", "één procent"),
        ("hi", "5%", "पाँच प्रतिशत"),
        ("ar", "%5، 5٪، ٪٥", "خمسة بالمئة، خمسة بالمئة، خمسة بالمئة"),
    ],
)
def test_a_percentage_is_said(language: str, written: str, spoken: str) -> None:
    assert _said(written, language) == spoken


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "%d of %s"),
    ],
)
def test_what_is_none_stays(language: str, text: str) -> None:
    assert _said(text, language) == text
