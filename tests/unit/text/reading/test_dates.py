"""Dates around the name of a month, and ranges of weekdays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.text.edits import Draft
from voxtral.text.reading.calendar_words import calendar_of
from voxtral.text.reading.dates import date_claims
from voxtral.text.reading.reader import read_aloud
from voxtral.text.reading.written import Written

SPELLED = ("en", "de", "fr", "es", "it", "pt", "nl", "ar", "hi")


@pytest.mark.parametrize(
    ("language", "written", "spoken"),
    [
        ("en", "On July 4, 1776,", "On July fourth, seventeen seventy-six,"),
        ("en", "SEPT. 15 and Jan-15", "September fifteenth and January fifteenth"),
        ("en", "on the 26th May", "on the twenty-sixth of May"),
        ("en", "25th of July, 2012", "the twenty-fifth of July, twenty twelve"),
        ("en", "Sat 25 July 2020", "Saturday the twenty-fifth of July twenty twenty"),
        ("en", "3–5 May, May 3-5, 2024", "the third to fifth of May, May third to fifth, twenty twenty-four"),
        ("en", "28 Feb – 3 March", "the twenty-eighth of February to the third of March"),
        ("en", "Jan-Feb 2020", "January to February twenty twenty"),
        ("en", "15-Jan-2020", "the fifteenth of January twenty twenty"),
        ("en", "on 25\nDecember\n2020", "on the twenty-fifth of December twenty twenty"),
        ("en", "Dec. 25, '99", "December twenty-fifth, ninety-nine"),
        ("en", "on 25 Sept. He left", "on the twenty-fifth of September. He left"),
        ("en", "Mon-Fri", "Monday to Friday"),
        ("de", "Am 3. Mai 2024", "Am dritten Mai zweitausendvierundzwanzig"),
        ("de", "3. Mai, der 3. Mai, jeden 3. Mai", "dritter Mai, der dritte Mai, jeden dritten Mai"),
        ("de", "vom 1. bis 3. Mai", "vom ersten bis dritten Mai"),
        ("de", "1.–3. Mai, am 1./2. Mai", "erster bis dritter Mai, am ersten zweiten Mai"),
        ("de", "am Montag, den 3. Mai", "am Montag, den dritten Mai"),
        ("de", "Mo., 3. Mai und 5. Okt. 2020", "Montag, dritter Mai und fünfter Oktober zweitausendzwanzig"),
        ("fr", "le 1er mai, le 1 mai", "le premier mai, le premier mai"),
        ("fr", "le 21 juillet 2022", "le vingt et un juillet deux mille vingt-deux"),
        ("fr", "les 17-18-19 juin, du 3 au 5 mai", "les dix-sept dix-huit dix-neuf juin, du trois au cinq mai"),
        ("fr", "lun.-ven., dim. 3 janv. 2021", "lundi à vendredi, dimanche trois janvier deux mille vingt et un"),
        ("es", "el 1 de mayo de 2024", "el primero de mayo de dos mil veinticuatro"),
        ("es", "1º de mayo, abril 30", "primero de mayo, abril treinta"),
        ("es", "30 julio 2020, vier. 10 de mayo", "treinta de julio de dos mil veinte, viernes diez de mayo"),
        ("it", "l'8 marzo, il 1º maggio", "l'otto marzo, il primo maggio"),
        ("it", "mar 5 ott 2021", "martedì cinque ottobre duemilaventuno"),
        (
            "pt",
            "1 de maio, 14 de jan. de 1973",
            "primeiro de maio, catorze de janeiro de mil novecentos e setenta e três",
        ),
        ("nl", "op 1 mei 2024, 1e mei", "op één mei tweeduizendvierentwintig, eerste mei"),
        ("nl", "ma-vr, zo 5 jan. 2020", "maandag tot vrijdag, zondag vijf januari tweeduizendtwintig"),
        ("hi", "15 अगस्त 1947, 20 नव॰ 1983", "पंद्रह अगस्त उन्नीस सौ सैंतालीस, बीस नवंबर उन्नीस सौ तिरासी"),
        ("ar", "٢٥ مايو ١٩٩٢", "خمسة وعشرون مايو ألف وتسعمائة واثنان وتسعون"),
        ("ar", "1 مايو، 5 كانون الثاني", "الأول من مايو، خمسة كانون الثاني"),
    ],
)
def test_dates_are_written_out(language: str, written: str, spoken: str) -> None:
    assert read_aloud(Draft.of(written), language).text == spoken


@pytest.mark.parametrize(
    ("language", "written"),
    [
        ("en", "only 2 may enter, I may 5 times"),
        ("en", "In May, 5 people and march 5 miles"),
        ("en", "code 3sep or x5mar"),
        ("es", "En mayo 5 personas"),
        ("it", "vinse 2 set a 1"),
        ("pt", "2 set"),
        ("fr", "mai 68"),
    ],
)
def test_words_that_may_be_months_need_more(language: str, written: str) -> None:
    assert not list(date_claims(Written(written, language)))


@given(st.sampled_from(SPELLED), st.integers(1, 12), st.integers(1, 31), st.integers(1000, 2199))
def test_no_digit_is_left_of_a_day_before_its_month(language: str, month: int, day: int, year: int) -> None:
    calendar = calendar_of(language)
    point = "." if language == "de" else ""
    spoken = read_aloud(Draft.of(f"{day}{point} {calendar.month_names[month - 1]} {year}"), language).text
    assert not any(char.isdigit() for char in spoken)
    assert calendar.month_names[month - 1] in spoken
