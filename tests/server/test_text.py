"""Texts over HTTP: what would be said for one, with dictionaries and SSML, in a preview and in speech."""

from __future__ import annotations

from typing import Any

import pytest

from serving import Serving


def preview(server: Serving, status: int = 200, **body: Any) -> dict[str, Any]:
    with server.client() as client:
        answer = client.post("/v1/text/normalize", json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_a_preview_names_every_edit_with_its_place(server: Serving) -> None:
    text = "Room 12 \U0001f600, a B2B & more."
    found = preview(server, text=text, normalize="auto", language="en-GB", dictionary={"B2B": "bee to bee"}, colour=1)
    assert found["normalized"] == "Room twelve, a bee to bee & more."
    assert [(edit["written"], edit["spoken"], edit["kind"]) for edit in found["edits"]] == [
        ("12", "twelve", "number"),
        (" \U0001f600", "", "markup"),
        ("B2B", "bee to bee", "dictionary"),
    ]
    assert all(text[edit["start"] : edit["end"]] == edit["written"] for edit in found["edits"])
    assert [segment["text"] for segment in found["segments"]] == [text]
    assert [warning["written"] for warning in found["warnings"]] == ["&"]
    assert found["ignored"] == ["colour"]


def test_the_language_is_that_of_the_text_unless_it_is_said(server: Serving) -> None:
    text = "Das ist der Raum 12, und das ist auch gut so."
    assert preview(server, text=text, normalize="auto")["language"] == "de"
    assert preview(server, text=text, normalize="auto", language="fr")["language"] == "fr"
    assert preview(server, text=text)["normalized"] == text  # the server's own level is clean


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "invalid_request"),
        ({"text": "a", "language": "xx"}, "unsupported_language"),
        ({"text": "a", "dictionary": [{"written": "a"}]}, "invalid_request"),
        ({"text": "a", "dictionary": [{"written": "a", "spoken": "b", "colour": 1}]}, "invalid_request"),
        ({"text": "a", "dictionary": {"a": " "}}, "invalid_dictionary"),
        ({"text": "a", "dictionary": "/etc/passwd"}, "invalid_request"),
        ({"text": "<speak><prosody>a</prosody></speak>"}, "invalid_ssml"),
        ({"text": "a & b", "ssml": True}, "invalid_ssml"),
    ],
)
def test_what_breaks_a_rule_is_refused_in_previews_and_in_speech(
    server: Serving, body: dict[str, Any], code: str
) -> None:
    found = preview(server, 400, **body)["error"]["code"]
    assert found == code
    with server.client() as client:
        speech = {**body, "input": body.get("text"), "response_format": "pcm"}
        answer = client.post("/v1/audio/speech", json=speech)
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == found


def test_speech_uses_rules_and_breaks_of_the_request(server: Serving) -> None:
    def samples(**body: Any) -> bytes:
        with server.client() as client:
            answer = client.post(
                "/v1/audio/speech", json={"response_format": "pcm", "seed": 3, "max_frames": 4, **body}
            )
        assert answer.status_code == 200, answer.text
        return answer.content

    plain = samples(input="One bee.")
    assert samples(input="One B.", dictionary=[{"written": "B", "spoken": "bee"}]) == plain
    assert samples(input="<sub alias='bee.'>B</sub>", ssml=True) == samples(input="bee.")
    with_pause = samples(input="<speak>One bee.<break time='1s'/></speak>")
    assert with_pause[: len(plain) - 2000] == plain[: len(plain) - 2000]
    assert len(with_pause) == len(plain) + 2 * 24_000
