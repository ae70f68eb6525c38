"""Words with digits in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.text.edits import Draft
from voxtral.text.language import LANGUAGES
from voxtral.text.reading.codes import code_claims
from voxtral.text.reading.reader import read_aloud
from voxtral.text.reading.written import Written


@pytest.mark.parametrize(
    ("language", "written", "spoken"),
    [
        (
            "en",
            "B2B, MIG-25, C24, COVID-19, A4, H2O, MP3 and es3",
            "B two B, MIG twenty-five, C twenty-four, COVID nineteen, A four, H two O, M P three and E S three",
        ),
        (
            "en",
            "a 401(k), flight BA245, flight LH 454, SW1A 1AA",
            "a four zero one K, flight B A two four five, flight L H four five four, S W one A, one A A",
        ),
        ("en", "31/31/100 or test$", "thirty-one/thirty-one/one hundred or test dollar"),
        (
            "en",
            "the A320, t2000, pre-2000 and GPT-3.5",
            "the A three twenty, T two thousand, pre-two thousand and G P T three point five",
        ),
        (
            "de",
            "3D-Drucker, 18jährig, 3fach, D-10115 Berlin",
            "drei D-Drucker, achtzehnjährig, dreifach, D eins null eins eins fünf Berlin",
        ),
        ("fr", "A4 et G20", "A quatre et G vingt"),
        ("es", "B2B y M30", "B dos B y M treinta"),
        ("it", "A4 e G20", "A quattro e G venti"),
        ("pt", "A4 e G20", "A quatro e G vinte"),
        ("nl", "A4 en G20", "A vier en G twintig"),
        ("hi", "B2B और COVID-19", "बी दो बी और COVID उन्नीस"),
        ("ar", "B2B", "بي اثنان بي"),
    ],
)
def test_what_is_said(language: str, written: str, spoken: str) -> None:
    assert read_aloud(Draft.of(written), language).text == spoken


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "1st 1990s 90s 20-year-old 1/2/2023 don't"),
        ("fr", "1er 2e 3ème"),
        ("es", "1o 2a"),
        ("de", "1er 2te"),
        ("hi", "१६वीं"),
        ("ja", "B2BとA4とCOVID-19"),
        ("en", "US$5 C$5 $5"),
    ],
)
def test_what_is_something_else_is_not_claimed(language: str, text: str) -> None:
    assert list(code_claims(Written(text, language))) == []


@given(st.text("Ab1-/.(k) $0é", max_size=40), st.sampled_from([*LANGUAGES]))
def test_claims_lie_in_the_text_and_saying_them_twice_changes_nothing(text: str, language: str) -> None:
    for claim in code_claims(Written(text, language)):
        assert 0 <= claim.start < claim.end <= len(text)
        places = [claim.start, *(place for edit in claim.edits for place in (edit.start, edit.end)), claim.end]
        assert places == sorted(places)
        assert claim.edits
