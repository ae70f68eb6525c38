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
    text = "Room 12 \U0001f600, a B2B ~ more."
    found = preview(server, text=text, normalize="auto", language="en-GB", dictionary={"B2B": "bee to bee"}, colour=1)
    assert found["normalized"] == "Room twelve, a bee to bee ~ more."
    assert [(edit["written"], edit["spoken"], edit["kind"]) for edit in found["edits"]] == [
        ("12", "twelve", "number"),
        (" \U0001f600", "", "markup"),
        ("B2B", "bee to bee", "dictionary"),
    ]
    assert all(text[edit["start"] : edit["end"]] == edit["written"] for edit in found["edits"])
    assert [segment["text"] for segment in found["segments"]] == [text]
    assert [warning["written"] for warning in found["warnings"]] == ["~"]
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


# Dictionaries that the server keeps.


def ask(server: Serving, method: str, path: str, status: int = 200, **body: Any) -> dict[str, Any]:
    with server.client() as client:
        answer = client.request(method, f"/v1/dictionaries{path}", json=body or None)
    assert answer.status_code == status, answer.text
    return answer.json()


def test_a_dictionary_is_kept_named_replaced_and_deleted(server: Serving) -> None:
    rules = [{"written": "B2B", "spoken": "bee to bee"}, {"written": "gif", "spoken": "jiff", "case": "ignore"}]
    made = ask(server, "POST", "", name="names", rules=rules)
    assert (made["num_rules"], made["rules"][1]) == (2, {**rules[1], "language": None, "match": "word"})
    assert ask(server, "POST", "", 409, name="names", rules={})["error"]["code"] == "dictionary_name_taken"
    assert [each["name"] for each in ask(server, "GET", "")["data"]] == ["names"]
    assert preview(server, text="A B2B GIF", dictionary="names")["normalized"] == "A bee to bee jiff"
    ask(server, "PUT", "/names", rules={"B2B": "other"})
    assert preview(server, text="A B2B GIF", dictionary="names")["normalized"] == "A other GIF"
    assert ask(server, "GET", "/names")["rules"][0]["spoken"] == "other"
    assert ask(server, "DELETE", "/names")["deleted"]
    assert ask(server, "GET", "/names", 404)["error"]["code"] == "dictionary_not_found"
    assert preview(server, 404, text="A", dictionary="names")["error"]["code"] == "dictionary_not_found"
    with server.client() as client:
        assert client.post("/v1/audio/speech", json={"input": "A", "dictionary": "names"}).status_code == 404


@pytest.mark.parametrize("name", ["", "..", "a/b", "-a", "a" * 65, "ä", "a.json", "a\n"])
def test_a_name_that_could_be_a_path_is_refused(server: Serving, name: str) -> None:
    ask(server, "POST", "", 400, name=name, rules={"a": "b"})
    assert ask(server, "GET", "")["data"] == []


def test_rules_that_break_a_rule_are_kept_nowhere(server: Serving) -> None:
    ask(server, "PUT", "/bad", 400, rules={"a": ""})
    ask(server, "PUT", "/bad", 400, rules=[{"written": "a"}])
    ask(server, "PUT", "/bad", 400, rules="a")
    assert ask(server, "GET", "")["data"] == []
