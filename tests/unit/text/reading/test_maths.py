"""Formulas, comparisons and scores."""

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
            "2 + 2 = 4, 1-2=5, x > 3, 3 × 4 = 12",
            (
                "two plus two equals four, one minus two equals five, x is greater than three, three "
                "times four equals twelve"
            ),
        ),
        (
            "en",
            "x² + y² = z², √16, 2x + 1 = 5, 2x faster",
            (
                "x squared plus y squared equals z squared, the square root of sixteen, two x plus "
                "one equals five, two times faster"
            ),
        ),
        ("en", "≥ 18, ±5, ~10", "at least eighteen, plus or minus five, about ten"),
        ("en", "We won 3-2. The ratio is 16:9.", "We won three to two. The ratio is sixteen to nine."),
        (
            "de",
            "2 + 3 = 5, x < 3, 3:2 gewonnen",
            "zwei plus drei gleich fünf, x kleiner als drei, drei zu zwei gewonnen",
        ),
        ("fr", "2 + 3 = 5, victoire 3-2", "deux plus trois égale cinq, victoire trois à deux"),
        ("es", "2 + 2 - 1 = 3, ganó 3-2", "dos más dos menos uno es igual a tres, ganó tres a dos"),
        ("it", "2 × 3 = 6", "due per tre uguale a sei"),
        ("pt", "2 + 3 = 5", "dois mais três é igual a cinco"),
        ("nl", "2 + 3 = 5", "twee plus drie is vijf"),
        ("hi", "2 + 3 = 5", "दो प्लस तीन बराबर पाँच"),
        ("ar", "2 + 3 = 5", "اثنان زائد ثلاثة يساوي خمسة"),
        ("ja", "2+3=5", "2たす3イコール5"),
    ],
)
def test_a_formula_is_said(language: str, written: str, spoken: str) -> None:
    assert _said(written, language) == spoken


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "12:12+0200"),
        ("en", "C++ and A+B"),
        ("en", "a-b/c"),
        ("en", "Ezekiel 2:1"),
    ],
)
def test_what_is_none_stays(language: str, text: str) -> None:
    assert _said(text, language) == text
