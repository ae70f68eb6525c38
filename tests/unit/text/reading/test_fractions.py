"""Fractions that stand alone; dates, seasons and models stay."""

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
            "1/2, 1/4, 3/4, 2/3, 31/32, 2 142/1",
            (
                "one half, one quarter, three quarters, two thirds, thirty-one thirty-seconds, two "
                "and one hundred and forty-two over one"
            ),
        ),
        (
            "en",
            "3 5/2, -1/3, 1/4TH, ½, 2¾",
            "three and five halves, minus one third, one quarter, one half, two and three quarters",
        ),
        ("en", "24/7 and 9/11", "twenty-four seven and nine eleven"),
        (
            "de",
            "1/2, 1/3, 2/9, 1/20, -1/22, 1 1/2, 2 1/2",
            (
                "ein halb, ein Drittel, zwei Neuntel, ein Zwanzigstel, minus ein Zweiundzwanzigstel, "
                "eineinhalb, zwei ein halb"
            ),
        ),
        ("fr", "1/2, 2/3, 1/7, 1 1/2, 5/8", "un demi, deux tiers, un septième, un et demi, cinq huitièmes"),
        (
            "es",
            "1/2, 2/3, 1/12, 1/21, 1/400, 1/123, -2 1/3",
            (
                "medio, dos tercios, un doceavo, un veintiunavo, un cuadringentésimo, uno sobre "
                "ciento veintitrés, menos dos y un tercio"
            ),
        ),
        ("it", "1/2, 2/3, 3/8, 5/16", "un mezzo, due terzi, tre ottavi, cinque sedicesimi"),
        ("pt", "1/2, 1/3, 3/11, 3/8, 1/100", "um meio, um terço, três onze avos, três oitavos, um centésimo"),
        ("nl", "1/2, 2/3, 3/4, 1 1/2", "een half, twee derde, drie kwart, anderhalf"),
        (
            "hi",
            "1/2, 3/4, २ २/७, 80/0, १०००/३१",
            "आधा, तीन चौथाई, दो और दो बटा सात, अस्सी बटा शून्य, एक हज़ार बटा इकतीस",
        ),
        ("ar", "1/2, 2/3, 3/6, 20 1/3, 5/13", "نصف, ثلثين, ثلاثة أسداس, عشرون وثلث, خمسة على ثلاثة عشر"),
        ("ja", "1/2と1と3/4", "2分の1と1と4分の3"),
    ],
)
def test_a_fraction_is_said_by_its_name(language: str, written: str, spoken: str) -> None:
    assert _said(written, language) == spoken


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "603/604"),
        ("en", "type 6/7"),
        ("en", "a/b"),
    ],
)
def test_what_is_none_stays(language: str, text: str) -> None:
    assert _said(text, language) == text
