"""Phonemes of the common alphabet: marks, tied letters, and which word a phoneme belongs to."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train.phonemes import (
    SYMBOLS,
    EspeakPhonemizer,
    assign_words,
    clean_marks,
    find_words,
    group_words,
    reduce_ipa,
    tidy,
)
from train.teacher import TeacherError

# An alphabet of its own: that of all of Unicode takes seconds to make.
WRITTEN = "aeiouxyzɑɐ̃ʁːˈ^-'.,!?;:…—\"“”«»()[] \n\u00a0।、。？ñßあアー़क人٣7Z_|~"
SOUNDS = st.text("abdeɡklmnopɹstʃˈː", min_size=1, max_size=8)


def test_the_alphabet_is_kokoros() -> None:
    assert len(SYMBOLS) == len(set(SYMBOLS.values())) == 114
    assert max(SYMBOLS.values()) == 177


@given(st.text(WRITTEN, max_size=40))
def test_what_the_alphabet_lacks_falls_away(ipa: str) -> None:
    assert set(reduce_ipa(ipa)) <= set(SYMBOLS)
    assert not any(mark in reduce_ipa(ipa) for mark in ".,!?;:")


@given(st.text(WRITTEN, max_size=20))
def test_there_is_one_pause_at_most_between_two_words(between: str) -> None:
    marks = clean_marks(between).replace(" ", "").replace("“", "").replace("”", "")
    assert len(marks) <= 1
    assert clean_marks(between).endswith((" ", "“"))


@pytest.mark.parametrize(
    ("between", "marks"),
    [
        (', "', ", “"),
        ('," ', ",” "),
        (" « ", " “"),
        (" » ", "” "),
        (".“ ", ".” "),
        (" „", " “"),
        ('" "', "” “"),
        (" (", " “"),
    ],
)
def test_quotes_open_and_close(between: str, marks: str) -> None:
    assert clean_marks(between) == marks


@given(st.lists(SOUNDS, min_size=1, max_size=6))
def test_words_that_stay_apart_keep_their_own_phonemes(words: list[str]) -> None:
    owners = assign_words(" ".join(words), words)
    assert owners == [number for index, word in enumerate(words) for number in [-1] * (index > 0) + [index] * len(word)]


@given(st.lists(SOUNDS, min_size=1, max_size=6), st.text("abdeɡ ", max_size=30))
def test_every_phoneme_has_a_word_and_words_never_go_back(words: list[str], whole: str) -> None:
    owners = assign_words(whole, words)
    assert len(owners) == len(whole)
    heard = [owner for owner, symbol in zip(owners, whole, strict=True) if symbol != " "]
    assert heard == sorted(heard)
    assert all(0 <= owner < len(words) for owner in heard)


def test_words_that_are_run_together_are_told_apart_by_their_sounds() -> None:
    assert assign_words("ʌvðə deɪ", ["ʌv", "ðə", "deɪ"]) == [0, 0, 1, 1, -1, 2, 2, 2]


@given(st.text(WRITTEN, max_size=60))
def test_words_are_spans_in_order_and_groups_hold_all_of_them(text: str) -> None:
    words = find_words(text)
    ends = [first + length for first, length in words]
    assert all(end <= first for end, (first, _) in zip(ends, words[1:], strict=False))
    assert [index for first, stop in group_words(text, words) for index in range(first, stop)] == list(
        range(len(words))
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("पढ़ने वाला चश्मा", ["पढ़ने", "वाला", "चश्मा"]),
        ("l'hôtel a-t-il", ["l'hôtel", "a-t-il"]),
        ("コーヒーを", ["コーヒーを"]),
        ("... -- !?", []),
    ],
)
def test_words_of_other_scripts_stay_whole(text: str, words: list[str]) -> None:
    assert [text[first : first + length] for first, length in find_words(text)] == words


def test_spaces_at_the_edges_and_doubled_ones_go() -> None:
    said = tidy(" a  b ", [-1, 0, -1, -1, 1, -1], [(0, 1), (2, 1)])
    assert (said.symbols, said.owners) == ("a b", (0, -1, 1))
    assert said.ids == [SYMBOLS[symbol] for symbol in "a b"]


def test_espeak_says_every_word_of_odd_texts() -> None:
    try:
        french = EspeakPhonemizer("fr")
    except TeacherError as error:
        pytest.skip(str(error))
    text = "Les hôtels … « étaient » VIDES, n'est-ce pas ?!"
    said = french.pronounce(text)
    assert [text[first : first + length] for first, length in said.words] == [
        "Les", "hôtels", "étaient", "VIDES", "n'est-ce", "pas",
    ]  # fmt: skip
    assert set(said.owners) == {-1, 0, 1, 2, 3, 4, 5}
    # The z of the liaison belongs to one of the two words that it joins.
    assert said.symbols.startswith(("lez", "le z", "le-z"))
    assert {owner for owner, symbol in zip(said.owners, said.symbols, strict=True) if symbol in " ,…“”!"} == {-1}
    assert said.symbols.count("!") == 1
