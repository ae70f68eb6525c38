"""Drafts remember where each character came from."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from voxtral.text.edits import Draft, Edit, join_drafts


def _sources(draft: Draft) -> list[tuple[str, int, int]]:
    return [(char, *draft.source_span(place, place + 1)) for place, char in enumerate(draft.text)]


def test_kept_characters_come_from_themselves() -> None:
    assert _sources(Draft.of("ab")) == [("a", 0, 1), ("b", 1, 2)]


def test_a_replacement_comes_from_all_that_it_replaces() -> None:
    draft = Draft.of("a12b").apply([Edit(1, 3, "xyz")])
    assert _sources(draft) == [("a", 0, 1), ("x", 1, 3), ("y", 1, 3), ("z", 1, 3), ("b", 3, 4)]


def test_a_deletion_leaves_the_sources_of_the_rest() -> None:
    assert _sources(Draft.of("abcd").apply([Edit(0, 1), Edit(2, 3)])) == [("b", 1, 2), ("d", 3, 4)]


def test_an_insertion_comes_from_an_empty_place() -> None:
    draft = Draft.of("ab").apply([Edit(0, 0, "x"), Edit(1, 1, "y"), Edit(2, 2, "z")])
    assert _sources(draft) == [("x", 0, 0), ("a", 0, 1), ("y", 1, 1), ("b", 1, 2), ("z", 2, 2)]


def test_an_insertion_into_a_replacement_comes_from_its_source() -> None:
    draft = Draft.of("12").apply([Edit(0, 2, "xy")]).apply([Edit(1, 1, "-")])
    assert _sources(draft) == [("x", 0, 2), ("-", 0, 2), ("y", 0, 2)]


def test_edits_of_edits_lead_back_to_the_first_source() -> None:
    draft = Draft.of("0123456").apply([Edit(0, 2)]).apply([Edit(1, 3, "ab")]).apply([Edit(0, 2, "c")])
    assert _sources(draft) == [("c", 2, 5), ("b", 3, 5), ("5", 5, 6), ("6", 6, 7)]


def test_no_edit_gives_back_the_same_draft() -> None:
    draft = Draft.of("abc")
    assert draft.apply([]) is draft


def test_parts_join_to_the_whole() -> None:
    draft = Draft.of("abcd").apply([Edit(1, 2, "xx")])
    assert join_drafts([draft[:2], draft[2:3], draft[3:]]) == draft
    assert join_drafts([]).text == ""


def test_a_character_for_a_character_costs_no_run() -> None:
    draft = Draft.of("a’b“c").apply([Edit(1, 2, "'"), Edit(3, 4, '"')])
    assert draft.text == "a'b\"c"
    assert len(draft.runs) == 1


def test_listed_sources_make_the_same_draft() -> None:
    draft = Draft.of("abcdef").apply([Edit(1, 3, "xyz"), Edit(4, 4, "-"), Edit(5, 6)])
    sources = [draft.source_span(place, place + 1) for place in range(len(draft.text))]
    assert Draft.from_sources(draft.text, [start for start, _ in sources], [end for _, end in sources]) == draft


_WORDS = st.sampled_from(["", "x", "yz", "one two"])


@st.composite
def _edits(draw: st.DrawFn, length: int) -> list[Edit]:
    places = sorted(draw(st.lists(st.integers(0, length), max_size=8)))
    pairs = [(start, end) for start, end in pairwise(places) if draw(st.booleans())][::2]
    return [Edit(start, end, draw(_WORDS)) for start, end in pairs]


def _plainly(sources: list[tuple[str, int, int]], edits: list[Edit]) -> list[tuple[str, int, int]]:
    """Make edits of a list of characters with their sources, as `Draft.apply` says."""
    made: list[tuple[str, int, int]] = []
    position = 0
    for start, end, replacement in edits:
        made += sources[position:start]
        if start < end:
            source = sources[start][1], sources[end - 1][2]
        elif start == 0:
            source = 0, 0
        else:
            place = sources[start - 1][2]
            source = min(place, sources[start][1] if start < len(sources) else place), place
        made += [(char, *source) for char in replacement]
        position = end
    return [*made, *sources[position:]]


@given(st.data())
def test_edits_of_edits_are_those_of_the_characters(data: st.DataObject) -> None:
    draft = Draft.of("0123456789")
    sources = _sources(draft)
    for _ in range(4):
        edits = data.draw(_edits(len(draft.text)))
        draft, sources = draft.apply(edits), _plainly(sources, edits)
        assert _sources(draft) == sources
        assert draft.text == "".join(char for char, *_ in sources)
    cut = data.draw(st.integers(0, len(draft.text)))
    assert _sources(draft[:cut]) + _sources(draft[cut:]) == sources
    assert _sources(join_drafts([draft[:cut], draft[cut:]])) == sources
