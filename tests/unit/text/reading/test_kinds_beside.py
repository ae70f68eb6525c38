"""Scores, halves, ratings, old years and ordinals that no article introduces."""

from __future__ import annotations

import pytest

from voxtral.text.normalize import normalize


@pytest.mark.parametrize(
    ("language", "written", "spoken"),
    [
        ("en", "Arsenal 2-0 Chelsea, flight 2-0", "Arsenal two to zero Chelsea, flight 2-0"),
        ("es", "El partido terminó 2-0.", "El partido terminó dos a cero."),
        ("pt", "Ganhou por 2 a 0.", "Ganhou por dois a zero."),
        ("ar", "انتهت المباراة 2-0", "انتهت المباراة اثنان مقابل صفر"),
        ("ja", "2-0で勝利", "2対0で勝利"),
        ("pt", "½ litro, um ½ litro", "meio litro, um meio litro"),
        ("it", "½ litro", "mezzo litro"),
        ("es", "½ hora", "media hora"),
        ("nl", "½ uur, een ½ liter", "een half uur, een halve liter"),
        ("en", "2 ha large, x^2", "two hectares large, x to the power of two"),
        ("nl", "2 ha grond", "twee hectare grond"),
        (
            "en",
            "in 1066, (1066), in 1066 cases",
            "in ten sixty-six, (ten sixty-six), in one thousand and sixty-six cases",
        ),
        ("hi", "100वीं, 21वीं", "सौवीं, इक्कीसवीं"),
        ("it", "3° piano, 3° sotto zero", "terzo piano, tre gradi sotto zero"),
        ("fr", "IIe Guerre mondiale", "deuxième Guerre mondiale"),
        ("nl", "1234 AB Amsterdam, in 2024 EU", "één twee drie vier, A B Amsterdam, in tweeduizendvierentwintig EU"),
        ("en", "4/5 stars, 4/5", "four out of five stars, four fifths"),
        ("de", "4/5 Sterne", "vier von fünf Sterne"),
    ],
)
def test_a_kind_is_said(language: str, written: str, spoken: str) -> None:
    assert normalize(written, language).text == spoken
