"""Dates in digits alone: which order they have, and when two numbers are one."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.text.edits import Draft
from voxtral.text.reading.numeric_dates import numeric_date_claims
from voxtral.text.reading.reader import read_aloud
from voxtral.text.reading.written import Written

SPELLED = ("en", "de", "fr", "es", "it", "pt", "nl", "ar", "hi")


@pytest.mark.parametrize(
    ("language", "written", "spoken"),
    [
        ("en", "10/06/2005", "October sixth, two thousand and five"),
        ("en-GB", "10/06/2005", "the tenth of June, two thousand and five"),
        ("en", "15-01-2020", "the fifteenth of January, twenty twenty"),
        ("en", "1998/2/30", "February thirtieth, nineteen ninety-eight"),
        ("en", "01.10.2010", "January tenth, twenty ten"),
        ("en", "11/17/05, 7/7/58", "November seventeenth, oh five, July seventh, fifty-eight"),
        ("en", "on 7/4", "on July fourth"),
        ("en", "24/7 after 9/11", "twenty-four seven after nine eleven"),
        ("en", "05/2024", "May twenty twenty-four"),
        ("de", "am 02.03.2003, 2003-3-2", "am zweiten März zweitausenddrei, zweiter März zweitausenddrei"),
        (
            "de",
            "am 24.12. und 24. 12. 2023",
            "am vierundzwanzigsten Dezember und vierundzwanzigster Dezember zweitausenddreiundzwanzig",
        ),
        ("de", "vom 01.05.–03.05.2024", "vom ersten Mai bis dritten Mai zweitausendvierundzwanzig"),
        ("de", "2003-03", "März zweitausenddrei"),
        ("fr", "le 02.03.2003, le 3/5", "le deux mars deux mille trois, le trois mai"),
        ("es", "30/2/1990", "treinta de febrero de mil novecientos noventa"),
        ("es", "4/2/16", "cuatro de febrero de dos mil dieciséis"),
        ("it", "20/03/24", "venti marzo duemilaventiquattro"),
        ("pt", "2024.03.15, dia 25/12", "quinze de março de dois mil e vinte e quatro, dia vinte e cinco de dezembro"),
        ("nl", "25-12-2023", "vijfentwintig december tweeduizenddrieëntwintig"),
        ("hi", "११-१४-११००", "नवंबर चौदह ग्यारह सौ"),
        ("hi", "३१-०६", "इकतीस जून"),
        ("ar", "25\u200f/5\u200f/1992", "خمسة وعشرون مايو ألف وتسعمائة واثنان وتسعون"),
    ],
)
def test_dates_in_digits_are_written_out(language: str, written: str, spoken: str) -> None:
    code, _, region = language.partition("-")
    assert read_aloud(Draft.of(written), code, region).text == spoken


@pytest.mark.parametrize(
    ("language", "written"),
    [
        ("en", "Version 10.2.2019 and 1.2.10"),
        ("en", "192.168.1.10 or 1.2.3.2019"),
        ("en", "4/5 of people, on 3/4 of days, 13/13/2020, 0/1/2020"),
        ("en", "call 555-12-34 for 10-20 of 2001-02"),
        ("en", "a/1/2/2020 and $1/2/2020"),
        ("de", "Version 2.3, Kapitel 24.12. und § 4.5"),
        ("es", "Ley 11/2007"),
        ("fr", "les 3/5 des gens"),
        ("it", "voto 7/10"),
    ],
)
def test_other_numbers_are_no_dates(language: str, written: str) -> None:
    assert not list(numeric_date_claims(Written(written, language)))


@given(st.sampled_from(SPELLED), st.dates(date(1000, 1, 1), date(2199, 12, 31)), st.sampled_from(["-", "/", "."]))
def test_a_date_that_begins_with_its_year_is_the_same_in_every_language(language: str, day: date, mark: str) -> None:
    written = f"{day.year:04}{mark}{day.month:02}{mark}{day.day:02}"
    spoken = read_aloud(Draft.of(written), language).text
    assert not any(char.isdigit() for char in spoken)
    (claim,) = numeric_date_claims(Written(written, language))
    assert (claim.start, claim.end, claim.kind) == (0, len(written), "date")
