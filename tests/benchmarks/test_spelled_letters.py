"""The rule that finds letters that are spelled: what it takes, and the words of one letter that it leaves."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.quality import letters
from benchmarks.quality.letter_texts import list_probes
from benchmarks.quality.odd_texts import OddText, read_odd_texts
from benchmarks.quality.spelled_letters import find_spelled
from train.texts import LANGUAGES


def spelled(text: str, language: str) -> list[str]:
    return [text[start:stop] for start, stop in find_spelled(text, language)]


@pytest.mark.parametrize(
    ("language", "text", "expected"),
    [
        ("en", "A, B, C.", ["A, B, C"]),
        ("en", "A boat and I, for a day", []),
        ("en", "the F B I and a K", ["F B I", "K"]),
        ("en", "It is K's, don't, o'clock x-ray", ["x"]),
        ("fr", "L'eau qu'il y a, à B ou C", ["B", "C"]),
        ("es", "O no, B, C o F y G", ["B, C", "F", "G"]),
        ("it", "E poi I binari, la C G I L", ["C G I L"]),
        ("pt", "A O N U e o B N D E S", ["O N U", "B N D E S"]),
        ("pt", "O barco", []),
        ("nl", "de V N en u", ["V N"]),
        ("de", "von E T Brandt", ["E T"]),
        ("hi", "उत्तर ख, ग या च चुनो, न आज", ["ख, ग", "च"]),
        ("hi", "आर के वर्मा", []),  # names of letters that are written out
        ("ja", "い、ろ、に", []),
        ("en", "", []),
        ("en", "4 of 5 {B} C", ["B} C"]),  # braces are no affair of the rule
    ],
    ids=range(16),
)
def test_what_is_spelled(language: str, text: str, expected: list[str]) -> None:
    assert spelled(text, language) == expected


@given(text=st.text(alphabet="aIBxéखि '.,-B ", max_size=20), language=st.sampled_from(LANGUAGES))
def test_runs_are_in_order_and_begin_and_end_with_a_letter_that_stands_alone(text: str, language: str) -> None:
    runs = find_spelled(text, language)
    assert runs == sorted(runs)
    assert all(before[1] <= after[0] for before, after in pairwise(runs))
    for start, stop in runs:
        assert text[start].isalpha()
        assert text[stop - 1].isalpha()
        assert not any(one.isalpha() for one in (text[:start][-1:], text[stop:][:1]))


def test_gaps_of_letters_are_told_from_those_in_braces() -> None:
    text = OddText("en-x", "en", "initials", "", "{One} A vote for B, C or {two} F")
    assert text.parts == ("", "One", "A vote for", "B, C", "or", "two", "", "F", "")
    assert text.letter_gaps == {3, 7}


def test_only_texts_with_letters_of_their_own_have_such_gaps() -> None:
    found = {text.id: [text.parts[gap] for gap in text.letter_gaps] for text in read_odd_texts() if text.letter_gaps}
    kinds = {one.rsplit("-", 2)[1] for one in found}
    assert kinds == {"initials", "letters"}
    assert all(any(map(str.isalpha, gap)) for gaps in found.values() for gap in gaps)


def test_error_rates_of_letters_and_words_are_averaged_apart() -> None:
    found: list[dict[str, object]] = [
        {"language": "en", "kind": kind, "nano_error": nano, "teacher_error": 0.0}
        for kind, nano in (("letter", 1.0), ("letter", 0.5), ("word", 0.25))
    ]
    rates = letters.summarise(found)["en"]
    assert (rates["nano, letters"], rates["nano, words"], rates["teacher, letters"]) == (0.75, 0.25, 0.0)


def test_every_language_has_letters_and_words_to_compare() -> None:
    for language in LANGUAGES:
        kinds = [kind for kind, _ in list_probes(language)]
        assert kinds.count("letter") == 8
        assert kinds.count("word") >= 6
