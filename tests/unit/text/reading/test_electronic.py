"""Addresses, paths, handles, versions and hashes: signs by name, words as words, the rest spelled."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.text.edits import Draft
from voxtral.text.language import LANGUAGES
from voxtral.text.reading.electronic import electronic_claims
from voxtral.text.reading.reader import read_aloud
from voxtral.text.reading.written import Written


@pytest.mark.parametrize(
    ("language", "written", "spoken"),
    [
        ("en", "Write to john.doe@example.co.uk, please.", "Write to john dot doe at example dot C O dot U K, please."),
        (
            "en",
            "See https://x.org/a_b?q=1.",
            "See H T T P S colon slash slash X dot org slash a underscore B question mark Q equals one.",
        ),
        ("en", "www.nvidia.com/rtx-6000", "W W W dot nvidia dot com slash R T X dash six thousand"),
        ("en", "C:\\Users\\me\\report.docx", "C colon backslash Users backslash me backslash report dot docx"),
        ("en", "/etc/nginx/ and ~/.ssh", "slash E T C slash nginx slash and tilde slash dot S S H"),
        (
            "en",
            "v1.2.3, Version v2.0 and 2.0.0-rc1",
            "version one point two point three, Version two point zero and two point zero point zero R C one",
        ),
        (
            "en",
            "192.168.0.1:8080/24",
            "one nine two dot one six eight dot zero dot one colon eight zero eight zero slash two four",
        ),
        (
            "en",
            "fe80::1 and 00:1A:2B:3C:4D:5E",
            "F E eight zero colon colon one and zero zero, one A, two B, three C, four D, five E",
        ),
        (
            "en",
            "@user said #ThisIsIt in #Euro2024",
            "at user said hashtag This Is It in hashtag Euro twenty twenty-four",
        ),
        (
            "en",
            "123e4567-e89b-12d3-a456-426614174000",
            "one two three E four five six seven, E eight nine B, one two D three, A four five six, "
            "four two six six one four one seven four zero zero zero",
        ),
        ("en", "commit 5bcc680a", "commit five B C C six eight zero A"),
        ("de", "max@web.de und www.bund.de", "max at web Punkt D E und W W W Punkt bund Punkt D E"),
        ("fr", "contact@exemple.fr", "contact arobase exemple point F R"),
        ("es", "info@empresa.es", "info arroba empresa punto es"),
        ("it", "info@azienda.it", "info chiocciola azienda punto it"),
        ("pt", "info@empresa.com.br", "info arroba empresa ponto com ponto B R"),
        ("nl", "info@bedrijf.nl", "info apenstaartje bedrijf punt N L"),
        ("hi", "ltaa12@gmail.com", "एल टी ए ए एक दो एट जीमेल डॉट कॉम"),
        ("ar", "info@google.com", "إنفو آت جوجل دوت كوم"),
        ("ja", "info@example.comです", "インフォ アットマーク エグザンプル ドット コムです"),
    ],
)
def test_what_is_said(language: str, written: str, spoken: str) -> None:
    assert read_aloud(Draft.of(written), language).text == spoken


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "and/or he/she 24/7 1/2 10:30:45 std::vector a::b C# #7"),
        ("en", "The end.The cat. Hello.it was. E.g. this"),
        ("en", "1.5 and 12.3.2024 and 1,000.50"),
        ("de", "1.000.000.000 und 24.12.2024, d.h. z.B. usw."),
        ("de", "Das ist alles.es war"),
        ("it", "p.es. questo"),
        ("fr", "la fin.de la"),
        ("es", "hola.es decir"),
        ("en", "decade effaced 1000000 12345678"),
    ],
)
def test_what_is_something_else_is_not_claimed(language: str, text: str) -> None:
    assert list(electronic_claims(Written(text, language))) == []


@given(st.text("ab1.@/#:-\\~ \u0645w", max_size=40), st.sampled_from([*LANGUAGES]))
def test_claims_lie_in_the_text_and_saying_them_twice_changes_nothing(text: str, language: str) -> None:
    for claim in electronic_claims(Written(text, language)):
        assert 0 <= claim.start < claim.end <= len(text)
        places = [claim.start, *(place for edit in claim.edits for place in (edit.start, edit.end)), claim.end]
        assert places == sorted(places)
        assert claim.edits
