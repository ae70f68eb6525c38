"""Roman numerals beside the words that tell."""

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
            "Louis XIV, Henry VIII, World War II, Chapter IV, PART XL",
            "Louis the fourteenth, Henry the eighth, World War two, Chapter four, PART forty",
        ),
        (
            "en",
            "Charles V. and Elizabeth II, the XXI century",
            "Charles the fifth. and Elizabeth the second, the twenty-first century",
        ),
        (
            "de",
            "Wilhelm II. war da. Mit Kaiser Wilhelm II. und Elisabeth II. kam er im XX. Jahrhundert.",
            (
                "Wilhelm der Zweite war da. Mit Kaiser Wilhelm dem Zweiten und Elisabeth die Zweite "
                "kam er im zwanzigsten Jahrhundert."
            ),
        ),
        ("de", "Kapitel IV", "Kapitel vier"),
        (
            "fr",
            "Louis XIV, François Ier, XVIIe siècle, Élisabeth II",
            "Louis quatorze, François premier, dix-septième siècle, Élisabeth deux",
        ),
        (
            "es",
            "Carlos V, Felipe II, Alfonso XIII, Isabel II, siglo XXI, el XI apóstol",
            ("Carlos quinto, Felipe segundo, Alfonso trece, Isabel segunda, siglo veintiuno, el undécimo apóstol"),
        ),
        (
            "it",
            "Luigi XIV, Enrico VIII, secolo XX, la II guerra mondiale",
            "Luigi quattordicesimo, Enrico ottavo, secolo ventesimo, la seconda guerra mondiale",
        ),
        ("pt", "D. João VI, Luís XIV, século XXI", "D. João sexto, Luís catorze, século vinte e um"),
        ("fr", "XIXe et XXe siècles", "dix-neuvième et vingtième siècles"),
        ("en", "World War I was long; Part I of two.", "World War one was long; Part one of two."),
        ("nl", "Willem II, XXe eeuw", "Willem de tweede, twintigste eeuw"),
    ],
)
def test_a_roman_numeral_is_said_where_a_word_tells(language: str, written: str, spoken: str) -> None:
    assert _said(written, language) == spoken


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "IV fluids, CD, MIX, I am, vi, George V. Reilly"),
        ("en", "Elizabeth I told"),
        ("it", "gruppo di lavoro"),
        ("it", "tipo DC"),
        ("fr", "le DVD et le CD"),
    ],
)
def test_what_is_none_stays(language: str, text: str) -> None:
    assert _said(text, language) == text
