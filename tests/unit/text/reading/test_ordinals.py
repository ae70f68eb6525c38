"""Ordinals by their suffix, and by the words around them."""

from __future__ import annotations

import pytest

from voxtral.text.edits import Draft
from voxtral.text.reading.reader import read_aloud


def _said(text: str, language: str) -> str:
    return read_aloud(Draft.of(text), language).text


@pytest.mark.parametrize(
    ("language", "written", "spoken"),
    [
        ("en", "1st, 2nd, 23rd, 0th, 9,000,000th", "first, second, twenty-third, zeroth, nine millionth"),
        (
            "de",
            "am 3. Tag, der 4. Mann, in der 2. Klasse, in die 2. Klasse",
            "am dritten Tag, der vierte Mann, in der zweiten Klasse, in die zweite Klasse",
        ),
        (
            "de",
            "eine 2. Chance, mit einem 3. Versuch, dem 1000.",
            "eine zweite Chance, mit einem dritten Versuch, dem tausendsten",
        ),
        (
            "fr",
            "1er, 1re, 2e, 3ème, 2nde, 80e, 200e",
            "premier, première, deuxième, troisième, seconde, quatre-vingtième, deux centième",
        ),
        (
            "es",
            "1.º, 2.ª, 3.er, 21.º, 100.ª, 1er, 5ta",
            "primero, segunda, tercer, vigesimoprimero, centésima, primer, quinta",
        ),
        ("it", "1º, 2ª, il 2° posto, 118º", "primo, seconda, il secondo posto, centodiciottesimo"),
        ("pt", "1º, 2ª, 3o, o 2° lugar, 20ª", "primeiro, segunda, terceiro, o segundo lugar, vigésima"),
        ("nl", "1e, 2de, 20ste, 2000000e", "eerste, tweede, twintigste, twee miljoenste"),
        ("hi", "1ला, २री, 4था, 7वां, ९वीं, 80वें, 3rd", "पहला, दूसरी, चौथा, सातवां, नौवीं, अस्सीवें, थर्ड"),
        ("ar", "القرن 21، المرتبة 3", "القرن الحادي والعشرون، المرتبة الثالثة"),
    ],
)
def test_an_ordinal_is_said_in_its_form(language: str, written: str, spoken: str) -> None:
    assert _said(written, language) == spoken


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("fr", "2er"),
        ("hi", "7रा"),
    ],
)
def test_what_is_none_stays(language: str, text: str) -> None:
    assert _said(text, language) == text
