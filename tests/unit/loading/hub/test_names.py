"""Which names mean a model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from loopback_hub import OTHER
from voxtral.loading.hub.names import ALIASES, CANONICAL_ID, canonical_id

ALIAS = "mistralai/Voxtral-TTS"


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("4b", CANONICAL_ID),
        ("4B", CANONICAL_ID),
        (ALIAS, CANONICAL_ID),
        (CANONICAL_ID, CANONICAL_ID),
        (OTHER, OTHER),
        ("a/b", "a/b"),
        ("mistralai/voxtral-tts", "mistralai/voxtral-tts"),
        ("", None),
        ("4bit", None),
        ("Voxtral-TTS", None),
        ("a/b/c", None),
        ("a/", None),
        ("/b", None),
        ("./a", None),
        ("../a", None),
        ("a/..", None),
        ("a/b--c", None),
        ("a/b.git", None),
        ("a/b c", None),
        ("a/b\n", None),
        ("ä/b", None),
        ("a\\b", None),
    ],
)
def test_canonical_id(model: str, expected: str | None) -> None:
    assert canonical_id(model) == expected


@given(
    st.text(alphabet="ab4B-._/~ \n", max_size=12)
    | st.from_regex(r"[a4_.-]{1,3}/[a4_.-]{1,3}(\.git)?", fullmatch=True)
    | st.text(max_size=12)
    | st.builds(lambda owner, name: "a" * owner + "/" + "b" * name, st.integers(90, 99), st.integers(90, 99))
)
def test_ids_are_what_the_hub_allows(model: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(model)
        is_id = "/" in model
    except HFValidationError:
        is_id = False
    # Owner and name have 96 characters each; until 1.33 the library let an owner have more.
    is_id = is_id and max(map(len, model.split("/"))) <= 96
    expected = model if is_id else None
    assert canonical_id(model) == ALIASES.get(model, expected)


def test_aliases_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        ALIASES["4c"] = OTHER  # type: ignore[index]
