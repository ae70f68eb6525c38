"""What a voice may be called."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from voxtral.errors import VoiceError
from voxtral.voices.facts import check_name


@given(st.text())
def test_what_is_a_name_stays_as_it_is(text: str) -> None:
    try:
        name = check_name(text)
    except VoiceError as error:
        str(error).encode()  # the message can be sent
    else:
        assert check_name(name) == name
        assert Path(name).name == name
        assert 1 <= len(name) <= 64
