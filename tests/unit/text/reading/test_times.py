"""Times of the day: which numbers are one, and what is said for it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.text.edits import Draft
from voxtral.text.reading.reader import read_aloud
from voxtral.text.reading.times import time_claims
from voxtral.text.reading.written import Written

SPELLED = ("en", "de", "fr", "es", "it", "pt", "nl", "ar", "hi")


@pytest.mark.parametrize(
    ("language", "written", "spoken"),
    [
        ("en", "13:22, 13:00, 01:00, 9:05", "thirteen twenty-two, thirteen hundred, one o'clock, nine oh five"),
        ("en", "5pm, 5 p.m., 1:59 p.m.est", "five PM, five PM, one fifty-nine PM EST"),
        ("en", "at 5 p.m. He left at 6 a.m. today.", "at five PM. He left at six AM today."),
        ("en", "2pm-5pm, 9-5pm", "two PM to five PM, nine to five PM"),
        ("en", "1:01:01", "one hour one minute and one second"),
        ("en", "at 14:21:35", "at fourteen twenty-one and thirty-five seconds"),
        ("en", "at 9:00 GMT+2", "at nine o'clock GMT plus two"),
        ("en", "2024-01-30T13:13Z", "January thirtieth, twenty twenty-four thirteen thirteen UTC"),
        ("en", "- 9:00\n- 10:00", "- nine o'clock\n- ten o'clock"),
        ("en", "11:20AM,2:40PM", "eleven twenty AM,two forty PM"),
        ("en", "Sat 10am", "Saturday ten AM"),
        ("de", "um 14.30 Uhr, um 14.30, 13:02", "um vierzehn Uhr dreißig, um vierzehn Uhr dreißig, dreizehn Uhr zwei"),
        ("de", "um 1 Uhr, Mo–Fr 9–17 Uhr", "um ein Uhr, Montag bis Freitag neun bis siebzehn Uhr"),
        ("de", "01:01:01 Uhr", "ein Uhr eine Minute und eine Sekunde"),
        ("fr", "14h30, 21 h 05, 1h", "quatorze heures trente, vingt et une heures cinq, une heure"),
        ("fr", "00:02, 12:15, 9h-17h", "minuit deux, midi quinze, neuf heures à dix-sept heures"),
        ("es", "a las 13:02, 23:15", "a las trece cero dos, las veintitrés quince"),
        ("es", "a las 14.30, 1.00 p.m.", "a las catorce y media, una de la tarde."),
        ("es", "a las 21, 14 h", "a las veintiuna, catorce horas"),
        ("it", "ore 14.30, alle 13:02", "ore quattordici e trenta, alle tredici e zero due"),
        ("pt", "14h30, às 2, 16:00 da tarde", "catorze horas e trinta, às duas, quatro horas da tarde"),
        ("nl", "14u30, 14u, om 14.30 uur", "veertien uur dertig, veertien uur, om veertien uur dertig"),
        ("hi", "४:००, 7:57 am", "चार बजे, सुबह सात बजकर सत्तावन मिनट"),
        ("ar", "12:27 م، 10:15 ص", "الثانية عشرة وسبع وعشرون دقيقة ظهرًا، العاشرة والربع صباحًا"),
    ],
)
def test_times_are_written_out(language: str, written: str, spoken: str) -> None:
    assert read_aloud(Draft.of(written), language).text == spoken


@pytest.mark.parametrize(
    ("language", "written"),
    [
        ("en", "score 10:12, ratio 16:09, 3:2, 16:9"),
        ("en", "at 2.30 percent, 2.30, ISO 8601:2004, 1:30:15.5"),
        ("en", "25:00, 12:60, 2001:10, a:12:30, 12:30:"),
        ("de", "gewann 21:15, Maßstab 1:10, 1:30 Stunden, Johannes 3:16"),
        ("de", "14:30-Zug, um 1.50m, 14.30 Euro"),
        ("fr", "14 h 30 min, 100 h"),
        ("es", "a las 21 personas, 14.30 euros, 2 h 30 min"),
        ("it", "14.30"),
    ],
)
def test_other_numbers_are_no_times(language: str, written: str) -> None:
    kept = [claim for claim in time_claims(Written(written, language)) if written[claim.start : claim.end] != "12:30"]
    assert not kept


@given(st.sampled_from(SPELLED), st.integers(0, 23), st.integers(0, 59), st.sampled_from(["", ":00", ":07", ":59"]))
def test_no_digit_is_left_of_a_time(language: str, hour: int, minute: int, seconds: str) -> None:
    spoken = read_aloud(Draft.of(f"{hour}:{minute:02}{seconds}"), language).text
    assert not any(char.isdigit() or char == ":" for char in spoken)


PIECES = st.sampled_from(
    [
        *"0123456789:./-–h' ",
        "12:30",
        "1984",
        " pm",
        " Uhr",
        "BC",
        "May",
        "mai",
        "5.",
        "(月)",
        "日",
        "२",
        "²",
        "\n",
        "GMT+",
    ]
)


@given(st.sampled_from((*SPELLED, "ja")), st.lists(PIECES, max_size=12).map("".join))
def test_no_text_breaks_the_rules(language: str, text: str) -> None:
    read_aloud(Draft.of(text), language)
