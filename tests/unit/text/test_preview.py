"""Previews: every difference is listed, with its place in the text as given."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voxtral.text.dictionary import dictionary_of
from voxtral.text.language import LANGUAGES
from voxtral.text.preview import Preview, normalize_text

PIECES = (
    "Hello",
    " ",
    "\n\n",
    "12",
    "$3.50",
    "**bold**",
    "<b>",
    "\U0001f600",
    "\u00a0",
    "ﬁne",
    "e\u0301",
    ". ",
    "- item\n",
    "&amp;",
    "²",
    "7.",
    "नमस्ते",
    "٣",
)


def made_of(text: str, preview: Preview) -> str:
    """Put a text for speech together from the text as given and the edits."""
    parts: list[str] = []
    reached = 0
    for edit in preview.edits:
        assert edit.start >= reached
        parts += (text[reached : edit.start], edit.spoken)
        reached = edit.end
    return "".join((*parts, text[reached:]))


@given(st.lists(st.sampled_from(PIECES), max_size=12).map("".join), st.sampled_from(sorted(LANGUAGES)), st.booleans())
def test_text_and_edits_make_up_what_is_said(text: str, language: str, is_auto: bool) -> None:
    preview = normalize_text(text, language, normalize="auto" if is_auto else "clean")
    assert "".join(made_of(text, preview).split()) == "".join(preview.normalized.split())


def test_a_preview_names_each_change_and_what_is_left() -> None:
    text = "**Hello** 12 people pay $3.50 for x_1 ~ \ufb01ne 7."
    preview = normalize_text(text, "en-US")
    assert preview.language == "en"
    found = [(text[e.start : e.end], e.spoken, e.kind) for e in preview.edits]
    assert [each for each in found if each[2] in {"number", "money"}] == [
        ("12", "twelve", "number"),
        ("$3.50", "three dollars and fifty cents", "money"),
        ("7", "seven", "number"),
    ]
    assert [each for each in found if each[2] in {"markup", "letters"}] == [
        ("**", "", "markup"),
        ("**", "", "markup"),
        ("\ufb01", "fi", "letters"),
    ]
    assert [text[start:end] for start, end in preview.segments] == [text[2:]]
    assert {each.written for each in preview.left} >= {"~"}


@pytest.mark.parametrize("level", ["off", "clean", "auto"])
def test_a_dictionary_holds_at_every_level(level: str) -> None:
    preview = normalize_text(
        "B2B costs 5.",
        "en",
        normalize=level,
        dictionary=dictionary_of({"B2B": "B two B 4"}),  # pyright: ignore[reportArgumentType]
    )
    assert preview.normalized.startswith("B two B 4 costs ")
    assert (preview.edits[0].start, preview.edits[0].end, preview.edits[0].spoken) == (0, 3, "B two B 4")
