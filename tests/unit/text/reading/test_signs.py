"""Signs that are said, and those that are not."""

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
            "Tom & Jerry, #5, § 12, № 7, © 2024, Acme™",
            "Tom and Jerry, number five, section twelve, number seven, copyright twenty twenty-four, Acme",
        ),
        ("en", "$ and 5% or %", "dollar and five percent or percent"),
        ("de", "Müller & Söhne, § 5, §§ 5-7", "Müller und Söhne, Paragraf fünf, Paragrafen fünf bis sieben"),
        ("fr", "n° 5 & 6", "numéro cinq et six"),
        ("es", "n.º 5, @ 5", "número cinco, @ cinco"),
        ("it", "n. 5, § 3", "numero cinque, paragrafo tre"),
        ("pt", "nº 5", "número cinco"),
        ("nl", "nr. 5", "nummer vijf"),
        ("hi", "#5", "नंबर पाँच"),
        ("ar", "#5", "رقم خمسة"),
        ("ja", "№5", "番号5"),
    ],
)
def test_a_sign_is_said(language: str, written: str, spoken: str) -> None:
    assert _said(written, language) == spoken


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "AT&T"),
        ("en", "%-10s"),
        ("en", "* + *"),
    ],
)
def test_what_is_none_stays(language: str, text: str) -> None:
    assert _said(text, language) == text
