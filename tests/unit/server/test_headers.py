"""What clients and the library say, as headers of an answer: any text must leave one that can be sent."""

from __future__ import annotations

from urllib.parse import unquote

import h11
from hypothesis import given
from hypothesis import strategies as st

from voxtral.server.service import Opening, SpeechOrder
from voxtral.server.stream import _opening_headers
from voxtral.types import SpeechRequest

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=200)


@given(TEXTS, TEXTS, st.lists(TEXTS, max_size=3), st.lists(TEXTS, max_size=100))
def test_headers_of_any_text_can_be_sent_and_read(
    model: str, voice: str, warnings: list[str], ignored: list[str]
) -> None:
    opening = Opening("audio/wav", model, voice, 7, 24000, 24000, 0.1, tuple(warnings))
    headers = _opening_headers(opening, SpeechOrder(SpeechRequest("a"), "wav", ignored=tuple(ignored)))
    sent = [(name, value.encode("ascii")) for name, value in headers.items()]
    h11.Response(status_code=200, headers=sent)  # refuses what no header may have
    assert sum(len(value) for name, value in sent if name == "X-Voxtral-Ignored") < 10_000
    assert unquote(headers["X-Voxtral-Voice"]) == voice.strip()
    names = [unquote(name) for name in headers.get("X-Voxtral-Ignored", "").split(", ") if name]
    assert names == [name[:40] or '""' for name in ignored[:16]]
