"""The places where a text may be cut, as far as it was read."""

from __future__ import annotations

import pytest

from voxtral.text.cut_places import Rank, Scanner


def _scan(text: str) -> Scanner:
    scanner = Scanner(text, 100)
    scanner.scan_to(len(text))
    return scanner


@pytest.mark.parametrize(
    ("text", "rank"),
    [
        ("Ended. Then", Rank.SENTENCE),
        ("Ended\n\nthen", Rank.SENTENCE),
        ("終わり。次", Rank.SENTENCE),
        ("ok. then", Rank.SOFT_END),
        ("so; then", Rank.CLAUSE),
        ("One\nTwo", Rank.CLAUSE),
        ("so, then", Rank.COMMA),
        ("so then", Rank.SPACE),
        ("Mr. Smith", Rank.GLUE),
        ("10 000", Rank.GLUE),
    ],
)
def test_each_kind_of_place_has_its_rank(text: str, rank: Rank) -> None:
    inner = {each: [place for place in places if place < len(text)] for each, places in _scan(text).places.items()}
    assert [each for each, places in inner.items() if places] == [rank]


@pytest.mark.parametrize("text", ["so \u0301then", "。\uff9eつぎ", "oui !", "( so"])
def test_nothing_is_cut_off_from_what_it_belongs_to(text: str) -> None:
    assert [places for places in _scan(text).places.values() if places] == [[len(text)]]


def test_a_text_is_read_no_further_than_asked() -> None:
    text = "One two. " * 100
    scanner = Scanner(text, 100)
    scanner.scan_to(20)
    assert scanner.places[Rank.SENTENCE] == [8, 17]
    assert scanner.text_end == len(text) - 1


def test_places_in_a_quotation_are_known_unless_it_is_too_long() -> None:
    text = "He said: “No. Never.” Then."
    scanner = _scan(text)
    assert [scanner.is_quoted(place) for place in scanner.places[Rank.SENTENCE]] == [True, False, False]
    short = Scanner(text, 5)
    short.scan_to(len(text))
    assert not any(short.is_quoted(place) for place in range(len(text)))


def test_paragraphs_end_sentences() -> None:
    scanner = _scan("Title\n\nText. More.\n\nEnd")
    assert scanner.paragraph_ends == [5, 18, 23]
    assert scanner.paragraph_end_after(6) == 18
    assert scanner.paragraph_end_after(24) is None
