"""Ordinals made of cardinals: the values at which their rules change."""

from __future__ import annotations

import pytest

from voxtral.text.spelling import Speller


@pytest.mark.parametrize(
    ("language", "form", "ordinals"),
    [
        (
            "fr",
            "masculine",
            {1: "premier", 5: "cinquième", 9: "neuvième", 80: "quatre-vingtième", 200: "deux centième"},
        ),
        ("fr", "feminine", {1: "première", 2: "deuxième"}),
        ("es", "masculine", {11: "undécimo", 13: "decimotercero", 18: "decimoctavo", 28: "vigesimoctavo"}),
        (
            "es",
            "masculine",
            {134: "centésimo trigésimo cuarto", 2000: "dosmilésimo", 500001: "quinientosmilésimo primero"},
        ),
        ("es", "short", {1: "primer", 3: "tercer", 11: "decimoprimer", 21: "vigesimoprimer", 2: "segundo"}),
        ("es", "feminine plural", {1: "primeras"}),
        ("it", "feminine", {2: "seconda", 118: "centodiciottesima"}),
        ("it", "masculine plural", {1: "primi"}),
        ("pt", "feminine", {21: "vigésima primeira"}),
        ("hi", "masculine", {1: "पहला", 2: "दूसरा", 6: "छठा", 7: "सातवां"}),
        ("hi", "feminine", {1: "पहली", 7: "सातवीं"}),
        ("hi", "oblique", {1: "पहले", 80: "अस्सीवें"}),
        (
            "ar",
            "definite",
            {1: "الأول", 11: "الحادي عشر", 20: "العشرون", 21: "الحادي والعشرون", 105: "الخامس بعد المئة"},
        ),
        ("ar", "feminine definite", {1: "الأولى", 11: "الحادية عشرة", 13: "الثالثة عشرة", 21: "الحادية والعشرون"}),
        ("nl", "masculine", {1_000_000: "miljoenste", 101: "honderdeerste"}),
    ],
)
def test_ordinals_have_their_forms(language: str, form: str, ordinals: dict[int, str]) -> None:
    speller = Speller(language)
    assert {value: speller.ordinal(value, form) for value in ordinals} == ordinals


@pytest.mark.parametrize("language", ["fr", "es", "hi", "ar"])
def test_ordinals_of_different_values_differ(language: str) -> None:
    speller = Speller(language)
    values = [*range(1, 120), *range(995, 1010)]
    assert len({speller.ordinal(value) for value in values}) == len(values)
