"""Ranges of plain numbers; scores and telephone numbers are none."""

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
            "10-20 people, 1914–1918, 10 – 20",
            "ten to twenty people, nineteen fourteen to nineteen eighteen, ten to twenty",
        ),
        ("de", "10-20", "zehn bis zwanzig"),
        ("fr", "10-20", "dix à vingt"),
        ("es", "10-20", "diez a veinte"),
        ("it", "10-20", "dieci a venti"),
        ("pt", "10-20", "dez a vinte"),
        ("nl", "10-20", "tien tot twintig"),
        ("hi", "10-20", "दस से बीस"),
        ("ar", "10-20", "عشرة إلى عشرون"),
    ],
)
def test_a_range_is_said(language: str, written: str, spoken: str) -> None:
    assert _said(written, language) == spoken


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "3-2"),
        ("en", "747-400"),
        ("en", "1-8090"),
        ("en", "1-2-3"),
    ],
)
def test_what_is_none_stays(language: str, text: str) -> None:
    assert _said(text, language) == text
