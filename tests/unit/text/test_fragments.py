"""Whatever people write: what is read once stays as it is, leads back to the text as given, and never fails."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from text_fragments import WORDS, texts
from voxtral.text.language import LANGUAGES
from voxtral.text.normalize import normalize

# Signs that nobody says go last, and what stands beside them may then be a mark of a list: "™ - x".
UNSAID = "™"


def _check(text: str, language: str) -> None:
    once = normalize(text, language)
    places = [(run.source_start, run.source_end) for run in once.runs]
    assert all(0 <= start <= end <= len(text) for start, end in places)
    assert [start for start, _ in places] == sorted(start for start, _ in places)
    assert [run.start for run in once.runs] == sorted({run.start for run in once.runs})
    assert normalize(once.text, language).text == once.text


def test_there_are_pieces_for_each_language() -> None:
    assert set(WORDS) == set(LANGUAGES)


@pytest.mark.parametrize("language", [code for code in sorted(LANGUAGES) if code != "ja"])
@settings(max_examples=5)
@given(st.data())
def test_what_is_read_stays(language: str, data: st.DataObject) -> None:
    _check(data.draw(texts(language)).replace(UNSAID, ""), language)


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("de", "Hauptstr. 5. Doktor"),
        ("es", "43 a.C.-17"),
        ("it", "43 a.C.-17"),
        ("en", "- \n- \nx"),
        ("en", "e.g.1.234 Mr.00:00 No.5:30"),
        ("de", "Mio.usw. Jh.m² 10–20Kapitel"),
        ("en", "2**x** \n# | AT&T\n1. | 5"),
        ("fr", "p.\nXIV"),
        ("nl", "bijv.\n\n§ 5"),
        ("hi", "नं.डॉ."),
        ("nl", "type x86"),
    ],
)
def test_what_was_read_otherwise_when_read_again_stays(language: str, text: str) -> None:
    _check(text, language)
