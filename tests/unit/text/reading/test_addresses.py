"""House numbers, streets and states in English."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.text.edits import Draft
from voxtral.text.language import LANGUAGES
from voxtral.text.reading.addresses import address_claims
from voxtral.text.reading.reader import read_aloud
from voxtral.text.reading.written import Written


@pytest.mark.parametrize(
    ("language", "written", "spoken"),
    [
        (
            "en",
            "Nancy lived at 1428 Elm St. It was a strange place.",
            "Nancy lived at fourteen twenty-eight Elm Street. It was a strange place.",
        ),
        ("en", "123 Laguna Ct, Town", "one twenty-three Laguna Court, Town"),
        ("en", "123 Smth St, City, NY", "one twenty-three Smth Street, City, New York"),
        ("en", "12 S 1st st", "twelve South first street"),
        ("en", "Austin, TX 78701-1234", "Austin, Texas seven eight seven zero one, one two three four"),
        ("en", "1200 Main Street and 105 Oak Ave.", "twelve hundred Main Street and one oh five Oak Avenue."),
    ],
)
def test_what_is_said(language: str, written: str, spoken: str) -> None:
    assert read_aloud(Draft.of(written), language).text == spoken


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "In 1428 Elm was here. 5 people, 12 Monkeys, OR 5"),
        ("de", "123 Main St"),
    ],
)
def test_what_is_something_else_is_not_claimed(language: str, text: str) -> None:
    assert list(address_claims(Written(text, language))) == []


@given(st.text("12 St.,AvNYNe", max_size=40), st.sampled_from([*LANGUAGES]))
def test_claims_lie_in_the_text_and_saying_them_twice_changes_nothing(text: str, language: str) -> None:
    for claim in address_claims(Written(text, language)):
        assert 0 <= claim.start < claim.end <= len(text)
        places = [claim.start, *(place for edit in claim.edits for place in (edit.start, edit.end)), claim.end]
        assert places == sorted(places)
        assert claim.edits
