"""Abbreviations and initials, and the points that end a sentence as well."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.text.edits import Draft
from voxtral.text.language import LANGUAGES
from voxtral.text.reading.reader import read_aloud
from voxtral.text.reading.shorthand import shorthand_claims
from voxtral.text.reading.written import Written


@pytest.mark.parametrize(
    ("language", "written", "spoken"),
    [
        (
            "en",
            "Dr. Evil, Mr Smith and St. John met on Elm St. It rained.",
            "Doctor Evil, Mister Smith and Saint John met on Elm Street. It rained.",
        ),
        ("en", "E.g. cats, dogs, etc. The end.", "For example cats, dogs, et cetera. The end."),
        ("en", "No. 5, p.7, pp. 8-9 of Vol. II", "Number five, page seven, pages eight to nine of Volume two"),
        ("en", "The U.S. troops of the U.S.A. In May, C.I.A men.", "The U S troops of the U S A. In May, C I A men."),
        ("en", "Acme Inc. Bought it vs. Smith, Jr.", "Acme Incorporated. Bought it versus Smith, Junior."),
        ("de", "z.B. Hunde, d. h. Tiere usw. Nein", "zum Beispiel Hunde, das heißt Tiere und so weiter. Nein"),
        (
            "de",
            "Nr. 5 auf S. 6, Hauptstr. 7 bei Dr. Müller",
            "Nummer fünf auf Seite sechs, Hauptstraße sieben bei Doktor Müller",
        ),
        (
            "fr",
            "M. Dupont, Mᵐᵉ Curie, n° 5, l'art. 6, c.-à-d. tout, etc. Fin",
            "Monsieur Dupont, Madame Curie, numéro cinq, l'article six, c'est-à-dire tout, et cetera. Fin",
        ),
        (
            "es",
            "la Sra. López, EE. UU., pág. 5, p. ej. esto, 43 a. C.",
            "la Señora López, Estados Unidos, página cinco, por ejemplo esto, cuarenta y tres antes de Cristo.",
        ),
        (
            "it",
            "il sig. Rossi, l'Avv. Bianchi, dott.ssa Verdi, pag. 5, ecc. Fine",
            "il signor Rossi, l'Avvocato Bianchi, dottoressa Verdi, pagina cinque, eccetera. Fine",
        ),
        (
            "pt",
            "o Sr. Silva, a Dra. Ana, pág. 5, n.º 6, p. ex. isto",
            "o Senhor Silva, a Doutora Ana, página cinco, número seis, por exemplo isto",
        ),
        (
            "nl",
            "bijv. dhr. Jansen, mevr. De Vries, nr. 5",
            "bijvoorbeeld de heer Jansen, mevrouw De Vries, nummer vijf",
        ),
        ("nl", "d.w.z. dit, enz. Het", "dat wil zeggen dit, enzovoort. Het"),
        ("hi", "डॉ. शर्मा, नं. 5, एम.ए. पास", "डॉक्टर शर्मा, नंबर पाँच, एम ए पास"),
        ("ar", "د. أحمد ص. 5", "الدكتور أحمد صفحة خمسة"),
        ("ja", "No.5 (株)東京", "ナンバー 5 株式会社 東京"),
    ],
)
def test_what_is_said(language: str, written: str, spoken: str) -> None:
    assert read_aloud(Draft.of(written), language).text == spoken


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "This is Max. He said no. 5 people met Gen Z. M&Ms and J. Smith in col. The"),
        ("de", "Das ist Max. Er kam. Fr. 6. Mai"),
        ("fr", "Richard M. Stallman et mon ex. Il"),
        ("es", "Washington D. Vive"),
        ("ar", "عام 2020 م. ثم"),
        ("hi", "वह ले. और"),
    ],
)
def test_what_is_something_else_is_not_claimed(language: str, text: str) -> None:
    assert list(shorthand_claims(Written(text, language))) == []


@given(st.text("DrSt. az.BJ5,\n", max_size=40), st.sampled_from([*LANGUAGES]))
def test_claims_lie_in_the_text_and_saying_them_twice_changes_nothing(text: str, language: str) -> None:
    for claim in shorthand_claims(Written(text, language)):
        assert 0 <= claim.start < claim.end <= len(text)
        places = [claim.start, *(place for edit in claim.edits for place in (edit.start, edit.end)), claim.end]
        assert places == sorted(places)
        assert claim.edits
