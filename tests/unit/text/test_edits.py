"""Drafts remember where each character came from."""

from __future__ import annotations

from voxtral.text.edits import Draft, Edit, join_drafts


def _sources(draft: Draft) -> list[tuple[str, int, int]]:
    return list(zip(draft.text, draft.source_starts, draft.source_ends, strict=True))


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
